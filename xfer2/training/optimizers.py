"""Gluon's trainer over the parameters of a block that may move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xfer2._mxnet import Block, mx
from xfer2._validation import parameter_error


def gluon_trainer(owner: str, block: Block, optimizer: str, settings: Mapping[str, Any], rates: Mapping[str, float],
                  devices: int) -> Any:
    """Make it; multipliers of the learning rate by parameter, and no weight decay of biases and what BatchNorm learns.

    Raises
    ------
    ParameterError
        Nothing may move, a rate is of no parameter that may, or MXNet has no such optimizer with such parameters.
    """
    moving = {name: p for name, p in block.collect_params().items() if p.grad_req != "null"}
    if not moving:
        raise parameter_error(owner, "block", "one with parameters that may move", "a block in which all are frozen")
    unknown = [name for name in rates if name not in moving]
    if unknown:
        raise parameter_error(owner, "rates", "a dict of parameters that may move", unknown[0])
    for name, parameter in moving.items():
        parameter.lr_mult = rates.get(name, 1.0)
        parameter.wd_mult = 1.0 if len(parameter.shape) > 1 else 0.0
    try:
        return mx.gluon.Trainer(moving, optimizer, dict(settings), kvstore="device" if devices > 1 else None,
                                update_on_kvstore=False)
    except (TypeError, ValueError) as error:
        raise parameter_error(owner, "optimizer", f"an optimizer of MXNet with its parameters ({error})",
                              optimizer) from error


def clip(trainer: Any, contexts: Sequence[Any], norm: float) -> None:
    """Scale the gradients down where all of them together are longer than `norm`."""
    for context in contexts:
        mx.gluon.utils.clip_global_norm([p.grad(context) for p in trainer._params], norm, check_isfinite=False)


def without_examples(trainer: Any, contexts: Sequence[Any]) -> None:
    """Give devices that had no example of a small batch gradients of zero: else they would add those of the batch before."""
    for context in contexts:
        for parameter in trainer._params:
            parameter.grad(context)[:] = 0
            parameter.data(context)._fresh_grad = True  # what `backward` would have set; MXNet's trainer asks for it
