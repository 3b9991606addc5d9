"""What heads do before they learn: number the labels, standardise, turn wide features into as many as there are rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from xfer2.exceptions import DataError


def classes_and_codes(owner: str, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """The classes (k,), sorted, and each label's position among them (n,); an error unless there are two classes."""
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"{owner} needs at least two classes; the labels hold one class: {classes[0]!r}.")
    return classes, codes


def standardisation(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column (d,); a column that does not vary, but for rounding, has deviation 1."""
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    varies = deviation > 10 * np.finfo(float).eps * np.abs(mean)
    return mean, np.where(varies & (deviation > 0), deviation, 1.0)


def rotate(X: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows in an orthonormal basis of their span, and that basis (r, d); unchanged, and None, where rows are many.

    Distances and products between the rows stay what they were.
    """
    if X.shape[1] <= X.shape[0]:
        return X, None
    left, singular, basis = np.linalg.svd(X, full_matrices=False)
    kept = singular > singular[0] * max(X.shape) * np.finfo(float).eps if singular[0] > 0 else np.arange(len(singular)) < 1
    return left[:, kept] * singular[kept], basis[kept]
