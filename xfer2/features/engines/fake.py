"""An engine for tests: it computes with a function that the test gives, and counts its calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


class FakeEngine:
    """Answers with ``function(batch)``; ``batches`` keeps the sizes of the batches it was called with.

    Examples
    --------
    >>> engine = FakeEngine(lambda batch: [batch["data"].sum(axis=1, keepdims=True)])
    >>> engine({"data": np.ones((2, 3))})[0].tolist()
    [[3.0], [3.0]]
    """

    name = "fake"

    def __init__(self, function: Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]) -> None:
        self._function = function
        self.batches: list[int] = []

    def __call__(self, batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Compute all outputs for a batch; see `Engine`."""
        self.batches.append(len(next(iter(batch.values()))))
        return self._function(batch)
