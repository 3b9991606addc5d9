"""Batches with equally many examples of each class, each trained on several times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xfer2._validation import check_integer
from xfer2.training.loop import Inputs, Trainer


class BalancedTrainer(Trainer):
    """A `Trainer` whose batches have the classes alike, as far as their size is divisible; none is larger than the data.

    An epoch has as many different batches as it takes to see every example once where the classes are equally large; of a
    smaller class it then sees examples again.

    Parameters
    ----------
    block : mx.gluon.HybridBlock
    repeats : int
        Times that each batch is trained on before the next.
    **settings
        See `Trainer`.

    References
    ----------
    Anderson et al. 2016, arXiv:1611.01714, section 4.2.
    """

    def __init__(self, block: Any, *, repeats: int = 1, **settings: Any) -> None:
        super().__init__(block, **settings)
        self.repeats = check_integer(type(self).__name__, "repeats", repeats)

    def steps_per_epoch(self, codes: np.ndarray) -> int:
        """Batches, counted as often as they are trained on."""
        return self.repeats * _batch_count(codes, self.batch_size)

    def iterate(self, inputs: Inputs, codes: np.ndarray, random: np.random.Generator) -> Iterator[tuple[Inputs, np.ndarray]]:
        """Balanced batches, each `repeats` times."""
        for rows in balanced_batches(codes, self.batch_size, random):
            batch = self.take(inputs, codes, rows, random)
            yield from [batch] * self.repeats


def balanced_batches(codes: np.ndarray, batch_size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows (n,) of batches whose classes are alike within one; enough of them that the largest class is seen whole.

    Of a class that is smaller, rows come again after all of them were seen.

    Examples
    --------
    >>> codes = np.array([0, 0, 0, 1])
    >>> [codes[rows].tolist() for rows in balanced_batches(codes, 2, np.random.default_rng(0))]
    [[0, 1], [0, 1], [0, 1]]
    """
    by_class = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    streams = [_endless(rows, random) for rows in by_class]
    turn, size = 0, min(batch_size, len(codes))
    for _ in range(_batch_count(codes, batch_size)):
        chosen = [next(streams[(turn + number) % len(streams)]) for number in range(size)]
        turn = (turn + size) % len(streams)
        yield np.sort(np.array(chosen))


def _batch_count(codes: np.ndarray, batch_size: int) -> int:
    sizes = np.unique(codes, return_counts=True)[1]
    return int(-(-sizes.max() * len(sizes) // min(batch_size, len(codes))))


def _endless(rows: np.ndarray, random: np.random.Generator) -> Iterator[int]:
    while True:
        yield from random.permutation(rows).tolist()
