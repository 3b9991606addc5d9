"""Penalties of activities, of weights and of forgetting, for the `penalty` of a `Trainer`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xfer2._mxnet import NDArray, mx

_SMALL = 1e-12  # under the root, where a group is all zero
_FAR = 4.0  # more than two points of length 1 can be apart


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

    def __call__(self, outputs: Sequence[NDArray], parameters: Mapping[str, NDArray], targets: NDArray) -> NDArray:
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
    names : collection of str, optional
        Of the weights meant; by default all.
    depthwise : collection of str
        Of those of depthwise convolutions (c, 1, ...), in which what reads an input is what gives an output.
    summed : mapping of str to str
        Weights that are added to what another's layer gives, and that one: of an output, both are one group.

    References
    ----------
    Yuan and Lin 2006, JRSS B 68; by filter and channel: Wen et al. 2016, arXiv:1608.03665, equation 2.
    """

    kind: str
    weight: float
    names: Collection[str] | None = None
    depthwise: Collection[str] = ()
    summed: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, outputs: Sequence[NDArray], parameters: Mapping[str, NDArray], targets: NDArray) -> NDArray:
        """The penalty (1,)."""
        chosen = {name: array for name, array in parameters.items() if array.ndim > 1
                  and (self.names is None or name in self.names)}
        if self.kind == "filter":
            for name, first in self.summed.items():
                chosen[first] = mx.nd.concat(chosen[first].reshape((0, -1)), chosen.pop(name).reshape((0, -1)), dim=1)
        return self.weight * sum(KINDS["filter" if self.kind == "channel" and name in self.depthwise else self.kind](array)
                                 for name, array in chosen.items()).reshape((1,))


@dataclass(frozen=True)
class DistillationPenalty:
    """The sum of a block's further outputs, losses (n,), and of a triplet loss of the first; each where it has a weight.

    Parameters
    ----------
    weight : float
        Of the losses.
    triplet_weight : float
        Of the triplet loss; with one, the first further output is features.
    triplet_margin : float
        How much further than its furthest companion an example's nearest stranger should be, of features of length 1.
    """

    weight: float
    triplet_weight: float = 0.0
    triplet_margin: float = 0.2

    def __call__(self, outputs: Sequence[NDArray], parameters: Mapping[str, NDArray], targets: NDArray) -> NDArray:
        """The penalty of each example (n,)."""
        features, losses = (outputs[:1], outputs[1:]) if self.triplet_weight else ([], outputs)
        terms = [self.weight * loss for loss in losses if self.weight]
        terms += [self.triplet_weight * triplet_loss(one, targets, self.triplet_margin) for one in features]
        return sum(terms[1:], terms[0])


def triplet_loss(features: NDArray, targets: NDArray, margin: float) -> NDArray:
    """Of each example (n,): how far its furthest companion in the batch is beyond its nearest stranger, plus a margin.

    Features are scaled to length 1. An example without companions or without strangers has no loss.

    Parameters
    ----------
    features : NDArray (n, ...)
    targets : NDArray (n,) or (n, k)
        Class codes, or probabilities, of which the largest counts.

    References
    ----------
    Hermans et al. 2017, In Defense of the Triplet Loss, arXiv:1703.07737, equation 5.
    """
    x = features.reshape((0, -1))
    x = mx.nd.broadcast_div(x, (x.square().sum(axis=1, keepdims=True) + _SMALL).sqrt())
    distances = (mx.nd.maximum(2 - 2 * mx.nd.dot(x, x.T), 0) + _SMALL).sqrt()
    codes = targets if targets.ndim == 1 else targets.argmax(axis=1)
    alike = mx.nd.broadcast_equal(codes.reshape((-1, 1)), codes.reshape((1, -1)))
    companions = alike - mx.nd.eye(len(codes), ctx=alike.context)
    furthest = (distances * companions).max(axis=1)
    nearest = (distances + _FAR * alike).min(axis=1)
    counts = companions.max(axis=1) * (1 - alike).max(axis=1)
    return counts * (furthest - nearest + margin).relu()


def _norms(weight: NDArray) -> Any:
    return (weight.reshape((0, -1)).square().sum(axis=1) + _SMALL).sqrt().sum()


KINDS: Mapping[str, Callable[[NDArray], Any]] = {
    "l1": lambda weight: weight.abs().sum(), "l2": lambda weight: weight.square().sum(), "filter": _norms,
    "channel": lambda weight: _norms(weight.swapaxes(0, 1))}
