"""What a `Trainer` learns from: checked, and cut into batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xfer2.exceptions import DataError


def checked(owner: str, inputs: Any, codes: Any, views: int = 1) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """Inputs as a list, and class codes as whole numbers (n,); inputs have `views` rows for each."""
    arrays = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    given = np.asarray(codes)
    lengths = {len(array) / views for array in arrays} | {len(given)}
    if len(lengths) > 1 or 0 in lengths:
        raise DataError(f"Training needs as many labels as examples, at least one; got {len(given)} and "
                        f"{', '.join(str(len(array)) for array in arrays)}.")
    if given.ndim != 1 or given.dtype.kind not in "biuf" or not (np.floor(given) == given).all():
        raise DataError(f"{owner}: class codes must be whole numbers (n,); got an array of {given.dtype}, of shape "
                        f"{given.shape}.")
    return arrays, given.astype(np.int64)


def check_classes(owner: str, classes: int, codes: np.ndarray) -> None:
    """Raise where a code is of no class that the block has an output for."""
    if codes.min() < 0 or codes.max() >= classes:
        raise DataError(f"{owner}: class codes must be from 0 to {classes - 1}, the block's outputs; got {codes.min()} to "
                        f"{codes.max()}.")


def batch_bounds(count: int, size: int) -> list[int]:
    """Where batches of `size` begin, and the end: none has one example alone, of which BatchNorm cannot tell the variance.

    Examples
    --------
    >>> batch_bounds(7, 3), batch_bounds(8, 3)
    ([0, 3, 7], [0, 3, 6, 8])
    """
    starts = list(range(0, count, size))
    return [*(starts[:-1] if count - starts[-1] == 1 < min(count, size) else starts), count]


def by_device(count: int, contexts: Sequence[Any]) -> list[tuple[slice, Any]]:
    """Which rows of a batch each device computes; where there are fewer rows than devices, the last have none."""
    ends = np.linspace(0, count, min(len(contexts), count) + 1).astype(int)
    return [(slice(start, stop), context) for start, stop, context in zip(ends[:-1], ends[1:], contexts, strict=False)]
