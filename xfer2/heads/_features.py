"""What heads do to features before they learn: standardise, and turn wide features into as many as there are rows."""

from __future__ import annotations

import numpy as np


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
