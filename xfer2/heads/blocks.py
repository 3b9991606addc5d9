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
    return _choose(X, y, widths, class_weight, seed)[0]


def helpful_regression(X: np.ndarray, y: np.ndarray, widths: Sequence[int], class_weight: Any = None,
                       seed: int = 0) -> tuple[np.ndarray, LogisticRegressionHead]:
    """The columns of `helpful_blocks`, all where there is one block, and a logistic regression on them of all rows."""
    blocks, head = _choose(X, y, widths, class_weight, seed)
    columns = _columns(widths, blocks) if len(widths) > 1 else np.arange(X.shape[1])
    if head is None:
        head = LogisticRegressionHead(class_weight=class_weight, random_state=seed)
        head.fit(np.take(X, columns, axis=1), y)
    return columns, head


def _choose(X: np.ndarray, y: np.ndarray, widths: Sequence[int], class_weight: Any,
            seed: int) -> tuple[list[int], LogisticRegressionHead | None]:
    """The blocks, and the regression they were chosen by where it has learned from all rows."""
    if len(widths) == 1:
        return [0], None
    rows = stratified_rows(np.unique(y, return_inverse=True)[1], _ROWS, child_seed(seed, "rows"))
    heads = {}
    for more in range(len(widths)):
        columns = _columns(widths, _chosen(more, len(widths)))
        head = LogisticRegressionHead(class_weight=class_weight, random_state=seed)
        heads[more] = head.fit(X[np.ix_(rows, columns)], y[rows])
    more = least({more: min(head.cv_log_loss_.values(), default=0.0) for more, head in heads.items()})
    return _chosen(more, len(widths)), heads[more] if len(rows) == len(X) else None


def _chosen(more: int, count: int) -> list[int]:
    return [0, *range(count - more, count)]


def _columns(widths: Sequence[int], blocks: Sequence[int]) -> np.ndarray:
    ends = np.cumsum(widths)
    return np.concatenate([np.arange(ends[block] - widths[block], ends[block]) for block in blocks])
