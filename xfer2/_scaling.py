"""Columns and rows of features brought to one scale."""

from __future__ import annotations

import numpy as np


def standardisation(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column (d,); a column that does not vary, but for rounding, has deviation 1."""
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    varies = deviation > max(10, len(X)) * np.finfo(float).eps * np.abs(mean)  # a sum's rounding grows with its rows
    return mean, np.where(varies & (deviation > 0), deviation, 1.0)


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(lengths > 0, lengths, 1.0)
