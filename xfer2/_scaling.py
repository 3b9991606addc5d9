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
        rows, inside = (X - self.mean) / self.scale, self.inside(X)
        return inside, np.maximum((rows**2).sum(axis=1) - (inside**2).sum(axis=1), 0.0)


def standardisation(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each column (d,); a column that does not vary, but for rounding, has deviation 1.

    A few rows say little of a deviation, and nothing where one row alone varies, as where a ReLU lets little through: rows
    to come would be many such deviations away. So a column's deviation is drawn to what is usual among the columns, by as
    much as it is uncertain (`shrunken`, of its logarithm, its error by the jackknife). Where rows are many, or columns
    differ by much more than chance, each with its unit, it is the column's own.
    """
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    varies = (deviation > max(10, len(X)) * np.finfo(float).eps * np.abs(mean)) & (deviation > 0)  # rounding grows with rows
    found = np.where(varies, deviation, 1.0)
    if len(X) > 2 and varies.sum() > 1:
        found[varies] = np.exp(shrunken(np.log(deviation[varies]), _log_errors(X, mean, found)[varies]))
    return mean, found


def _log_errors(X: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Variances (d,) of the logarithms of deviations, by the jackknife: from what leaving out each row changes."""
    change = X - mean  # in place from here: X may be large
    change /= deviation
    change *= change
    change /= 1 - len(X)
    change += 1
    np.log(np.maximum(change, np.finfo(float).eps, out=change), out=change)  # twice the change, but for a constant
    return (len(X) - 1) * change.var(axis=0) / 4


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
    left, singular, basis = np.linalg.svd(X, full_matrices=False)
    kept = singular > singular[0] * max(X.shape) * np.finfo(float).eps if singular[0] > 0 else np.arange(len(singular)) < 1
    return left[:, kept] * singular[kept], basis[kept]
