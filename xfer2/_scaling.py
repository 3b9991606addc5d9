"""Columns and rows of features brought to one scale, and to the axes of their span."""

from __future__ import annotations

import numpy as np


def standardisation(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column (d,); a column that does not vary, but for rounding, has deviation 1.

    A column that is at its least value in nine of ten rows, as where a ReLU lets little through, has a hundredth of the
    median deviation at least. By its own, which a few rows make, rows to come would be thousands of deviations away.
    """
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    varies = (deviation > max(10, len(X)) * np.finfo(float).eps * np.abs(mean)) & (deviation > 0)  # rounding grows with rows
    found = np.where(varies, deviation, 1.0)
    least = np.median(deviation[varies]) / 100 if varies.any() else 0.0
    small = np.flatnonzero(varies & (deviation < least))
    rare = (X[:, small] == X[:, small].min(axis=0)).mean(axis=0) >= 0.9
    found[small[rare]] = least
    return mean, found


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(lengths > 0, lengths, 1.0)


def rotate(X: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows in an orthonormal basis of their span, and that basis (r, d); unchanged, and None, where rows are many.

    Distances and products between the rows stay what they were.
    """
    if X.shape[1] <= X.shape[0]:
        return X, None
    left, singular, basis = np.linalg.svd(X, full_matrices=False)
    kept = singular > singular[0] * max(X.shape) * np.finfo(float).eps if singular[0] > 0 else np.arange(len(singular)) < 1
    return left[:, kept] * singular[kept], basis[kept]
