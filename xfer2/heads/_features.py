"""What heads do before they learn: number the labels, standardise, turn wide features into as many as there are rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from xfer2._scaling import unit_rows
from xfer2._validation import parameter_error
from xfer2.exceptions import DataError


@contextmanager
def few_rows_a_class() -> Iterator[None]:
    """Without scikit-learn's warning that labels of few rows each may be a regression's: few is what repurposing has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        yield


def classes_and_codes(owner: str, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """The classes (k,), sorted, and each label's position among them (n,); an error unless there are two classes."""
    with few_rows_a_class():
        check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"{owner} needs at least two classes; the labels hold one class: {classes[0]!r}.")
    return classes, codes


def least(losses: Mapping[Any, float]) -> Any:
    """The first key of the least loss. What differs by rounding alone is equal: which is less then, each machine says anew.

    Examples
    --------
    >>> least({1.0: 0.3, 3.0: 0.2, 10.0: 0.2 - 1e-15})
    3.0
    """
    bound = min(losses.values()) * (1 + 1e-9)
    return next(key for key, loss in losses.items() if loss <= bound)


def layer_columns(owner: str, columns: Mapping[str, Any] | None, width: int) -> dict[str, np.ndarray]:
    """The columns of each layer, checked: every one of `width` in one layer; None is one layer, ``"features"``."""
    if columns is None:
        return {"features": np.arange(width)}
    found = {str(layer): np.ravel(positions) for layer, positions in columns.items()} if isinstance(columns, Mapping) else {}
    together = np.concatenate([np.empty(0, int), *found.values()])
    if not np.array_equal(np.sort(together), np.arange(width)) or any(len(positions) == 0 for positions in found.values()):
        raise parameter_error(owner, "columns", f"a dict of layers, each of the {width} columns in one of them", columns)
    return {layer: positions.astype(int) for layer, positions in found.items()}


def layers_of(X: np.ndarray, positions: Iterable[np.ndarray], unit: bool = True) -> list[np.ndarray]:
    """Features by layer, one array (n, width) each; with `unit`, rows of more than one column scaled to length 1."""
    layers = [X[:, own] for own in positions]
    return [unit_rows(layer) if unit and layer.shape[1] > 1 else layer for layer in layers]


def shuffled_by_class(codes: np.ndarray, seed: int) -> np.ndarray:
    """All rows, those of the first class before those of the second and so on, shuffled within each."""
    order = np.random.default_rng(seed).permutation(len(codes))
    return order[np.argsort(codes[order], kind="stable")]


def stratified_rows(codes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """About `count` rows, sorted, of every class alike as far as it has them, at least one; all where they are few."""
    if len(codes) <= count:
        return np.arange(len(codes))
    order = shuffled_by_class(codes, seed)
    first = np.searchsorted(codes[order], codes[order])
    turn = np.arange(len(codes)) - first  # how many rows of its class come before a row
    return np.sort(order[np.argsort(turn, kind="stable")][:max(count, codes.max() + 1)])


def held_out_parts(codes: np.ndarray, seed: int, folds: int = 5, rows: int = 1000) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from and rows to hold out: as many of the stratified folds as hold out so many rows together.

    Every class is in every part to learn from; a class with a single row is never held out.
    """
    order = shuffled_by_class(codes, seed)
    counts = np.bincount(codes)
    fold = np.empty(len(codes), int)
    fold[order] = np.where(counts[codes[order]] > 1, np.arange(len(codes)) % folds, -1)
    parts = []
    for number in range(min(folds, max(1, round(rows * folds / len(codes))))):
        held_out = np.random.default_rng([seed, number]).permutation(np.flatnonzero(fold == number))[:rows]
        if len(held_out):
            parts.append((np.setdiff1d(np.arange(len(codes)), held_out), np.sort(held_out)))
    return parts


def principal_axes(X: np.ndarray) -> np.ndarray:
    """An orthonormal basis (r, d) of what the rows span, in the order of their second moments, the largest first."""
    tall = X.shape[0] >= X.shape[1]
    values, vectors = np.linalg.eigh(X.T @ X if tall else X @ X.T)
    kept = values > max(values[-1], 0) * max(X.shape) * np.finfo(float).eps if values[-1] > 0 else np.arange(len(values)) < 1
    axes = vectors[:, kept].T[::-1]
    return axes if tall else np.linalg.qr((axes @ X).T)[0].T  # nearly orthogonal already, but for the smallest


def two_columns(logits: np.ndarray) -> np.ndarray:
    """Logits with one column a class, on the last axis: one logit alone is the second class's beyond the first's, half each.

    Logits are (n,), (n, 1) or (n, k), or samples of them (s, n, 1) or (s, n, k).
    """
    columns = logits[:, np.newaxis] if logits.ndim == 1 else logits
    return columns if columns.shape[-1] > 1 else np.concatenate([-columns / 2, columns / 2], axis=-1)
