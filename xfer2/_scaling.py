"""Columns and rows of features brought to one scale, and to the axes of their span."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq


@dataclass(frozen=True)
class Standard:
    """What brings features to one scale, and to the axes of the rows it was learned from where they are fewer than columns.

    Attributes
    ----------
    mean, scale : numpy.ndarray (d,)
    basis : numpy.ndarray (r, d) or None
        Orthonormal; see `rotate`.
    """

    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray | None

    @classmethod
    def of(cls, X: np.ndarray) -> tuple[Standard, np.ndarray]:
        """Learned from rows (n, d), and these rows by it."""
        mean, scale = standardisation(X)
        rows, basis = rotate((X - mean) / scale)
        return cls(mean, scale, basis), rows

    def inside(self, X: np.ndarray) -> np.ndarray:
        """Rows by it (m, r or d), without what they have outside the span of those it was learned from."""
        rows = (X - self.mean) / self.scale
        return rows if self.basis is None else rows @ self.basis.T

    def parts(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows as `inside` has them, and the squared length (m,) of what they have outside that span."""
        inside = self.inside(X)
        if self.basis is None:
            return inside, np.zeros(len(inside))
        lengths = (((X - self.mean) / self.scale) ** 2).sum(axis=1)
        return inside, np.maximum(lengths - (inside**2).sum(axis=1), 0.0)


def standardisation(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each column (d,); the usual one where it does not vary, but for rounding; 1 if none does.

    A few rows say little of a deviation, and nothing where one row alone varies, as where a ReLU lets little through: rows
    to come would be many such deviations away. So a column's deviation is drawn to what is usual among the columns, by as
    much as it is uncertain (`shrunken`, of its logarithm, its error by the jackknife), by two errors at most; down, where
    rows that were learned from would be far away then, by two of the errors that normal columns have.
    """
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    varies = (deviation > max(10, len(X)) * np.finfo(float).eps * np.abs(mean)) & (deviation > 0)  # rounding grows with rows
    if not varies.any():
        return mean, np.ones_like(mean)
    logs = np.log(deviation, where=varies, out=np.zeros_like(mean))[varies]
    found = np.full_like(mean, np.exp(logs.mean()))
    if len(X) > 2 and len(logs) > 1:
        errors = _log_errors(X, mean, np.where(varies, deviation, 1.0))[varies]
        up = 2 * np.sqrt(errors)
        logs = np.clip(shrunken(logs, errors), logs - np.minimum(up, np.sqrt(2 / (len(X) - 1))), logs + up)
    found[varies] = np.exp(logs)
    return mean, found


def _log_errors(X: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Variances (d,) of the logarithms of deviations by the jackknife: of what they are when a row is left out.

    Without the one row that makes a deviation nothing is left of it; the rounding that is taken for it makes it as uncertain
    as need be.
    """
    total, squares = np.zeros(len(mean)), np.zeros(len(mean))
    for start in range(0, len(X), 1024):  # in the processor's cache
        left = 1 - ((X[start:start + 1024] - mean) / deviation) ** 2 / (len(X) - 1)
        change = np.log(np.maximum(left, np.finfo(float).eps))  # of the variance, but for a constant
        total += change.sum(axis=0)
        squares += (change**2).sum(axis=0)
    return (len(X) - 1) / 4 * np.maximum(squares / len(X) - (total / len(X)) ** 2, 0)


def shrunken(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Values (d,) drawn to their common mean, each by the share that its error's variance has in what it differs by.

    References
    ----------
    Paule and Mandel 1982, Consensus values and weighting factors, doi:10.6028/jres.087.022: the variance between them.
    """
    errors = np.maximum(errors, np.finfo(float).eps)

    def surplus(between: float) -> float:
        weights = 1 / (between + errors)
        return float(weights @ (values - np.average(values, weights=weights)) ** 2) - (len(values) - 1)

    between = brentq(surplus, 0, 2 * values.var(ddof=1)) if surplus(0) > 0 else 0.0
    mean = np.average(values, weights=1 / (between + errors))
    return (between * values + errors * mean) / (between + errors)


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
    values, left = np.linalg.eigh(X @ X.T)  # a singular value decomposition of wide rows takes 20 times as long
    if values[-1] <= 0:
        return np.zeros((len(X), 1)), np.eye(1, X.shape[1])
    kept = values > values[-1] * max(X.shape) * np.finfo(float).eps
    singular = np.sqrt(values[kept])
    return left[:, kept] * singular, left[:, kept].T @ X / singular[:, np.newaxis]
