"""Penalties of activities and of weights, for the `penalty` of a `Trainer`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xfer2._mxnet import NDArray

_SMALL = 1e-12  # under the root, where a group is all zero


@dataclass(frozen=True)
class ActivityPenalty:
    """Sum of squares of each example's activities, of the block's outputs beyond the first.

    Parameters
    ----------
    weight : float

    References
    ----------
    Anderson et al. 2016, arXiv:1611.01714, section 4.2.
    """

    weight: float

    def __call__(self, outputs: Sequence[NDArray], parameters: Mapping[str, NDArray]) -> NDArray:
        """The penalty of each example (n,)."""
        return self.weight * sum(output.reshape((0, -1)).square().sum(axis=1) for output in outputs)


@dataclass(frozen=True)
class WeightPenalty:
    """A norm of some weights.

    Parameters
    ----------
    kind : {"l1", "l2", "filter", "channel"}
        Absolute values, squares, or a group lasso: the norm of what one output of a layer has (whole outputs vanish), or of
        what reads one input (whole inputs are ignored).
    weight : float
    part : str
        Of the names of the weights meant.

    References
    ----------
    Yuan and Lin 2006, JRSS B 68; by filter and channel: Wen et al. 2016, arXiv:1608.03665, equation 2.
    """

    kind: str
    weight: float
    part: str = ""

    def __call__(self, outputs: Sequence[NDArray], parameters: Mapping[str, NDArray]) -> NDArray:
        """The penalty (1,)."""
        chosen = [array for name, array in parameters.items() if self.part in name and array.ndim > 1]
        measure = KINDS[self.kind]
        return self.weight * sum(measure(array) for array in chosen).reshape((1,))


def _norms(weight: NDArray) -> Any:
    return (weight.reshape((0, -1)).square().sum(axis=1) + _SMALL).sqrt().sum()


KINDS: Mapping[str, Callable[[NDArray], Any]] = {
    "l1": lambda weight: weight.abs().sum(), "l2": lambda weight: weight.square().sum(), "filter": _norms,
    "channel": lambda weight: _norms(weight.swapaxes(0, 1))}
