"""Which blocks of columns, the features of one layer each, a classifier is better with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xfer2._random import child_seed
from xfer2.heads._features import least, stratified_rows
from xfer2.heads.logistic_regression import LogisticRegressionHead

_ROWS = 500


def helpful_blocks(X: np.ndarray, y: np.ndarray, widths: Sequence[int], class_weight: Any = None,
                   seed: int = 0) -> list[int]:
    """The first block, and as many from the last one back as a logistic regression predicts best with.

    Parameters
    ----------
    X : numpy.ndarray (n, d)
    y : numpy.ndarray (n,)
    widths : sequence of int
        Of the blocks, side by side in X: the features, then what is known below them, the lowest first.
    class_weight : dict, "balanced" or None
    seed : int

    Returns
    -------
    list of int
        Positions in `widths`, ascending. The choice is that of the least loss on the held-out rows of the regression's own
        folds, the same for every choice, of 500 rows at most; where no class has a second row, it is the first block.
    """
    if len(widths) == 1:
        return [0]
    losses = {}
    rows = stratified_rows(np.unique(y, return_inverse=True)[1], _ROWS, child_seed(seed, "rows"))
    for more in range(len(widths)):
        head = LogisticRegressionHead(calibrate=False, class_weight=class_weight, random_state=seed)
        columns = _columns(widths, _chosen(more, len(widths)))
        losses[more] = min(head.fit(X[np.ix_(rows, columns)], y[rows]).cv_log_loss_.values(), default=0.0)
    return _chosen(least(losses), len(widths))


def helpful_columns(X: np.ndarray, y: np.ndarray, widths: Sequence[int], class_weight: Any = None,
                    seed: int = 0) -> np.ndarray:
    """The columns of `helpful_blocks`; all where there is one block."""
    if len(widths) == 1:
        return np.arange(X.shape[1])
    return _columns(widths, helpful_blocks(X, y, widths, class_weight, seed))


def _chosen(more: int, count: int) -> list[int]:
    return [0, *range(count - more, count)]


def _columns(widths: Sequence[int], blocks: Sequence[int]) -> np.ndarray:
    ends = np.cumsum(widths)
    return np.concatenate([np.arange(ends[block] - widths[block], ends[block]) for block in blocks])
