"""Architectures of the zoo, untrained."""

from __future__ import annotations

from typing import Any

from xfer2._mxnet import mx


def mnist_cnn() -> Any:
    """8 filters of 8x8, 2x2 max pooling, 8 of 4x4, 8 of 3x3, dense 128, dense 10.

    Source: Anderson et al. 2016, arXiv:1611.01714, section 3.1, without its module.
    """
    x = mx.sym.var("data")
    for number, kernel in enumerate((8, 4, 3)):
        x = mx.sym.Convolution(x, kernel=(kernel, kernel), num_filter=8, name=f"conv{number}")
        x = mx.sym.Activation(x, act_type="relu", name=f"relu{number}")
        if number == 0:
            x = mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max", name="pool0")
    x = mx.sym.FullyConnected(x, num_hidden=128, name="dense0")
    x = mx.sym.Activation(x, act_type="relu", name="relu3")
    return mx.sym.FullyConnected(x, num_hidden=10, name="dense1")
