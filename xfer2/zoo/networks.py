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


def mnist_rnn() -> Any:
    """A recurrent network of 128 tanh units that reads the 28 rows of an image from top to bottom, then dense 10.

    Unrolled: `stepT_tanh` is the state after row T, and all steps share `i2h_weight`, `i2h_bias`, `h2h_weight` and
    `h2h_bias`. The state before the first row is zero.

    Source: Zhang et al. 2018, Parameter Transfer Unit for Deep Neural Networks, table 2 (128 units, one row a step).
    """
    i2h_bias, h2h_bias = mx.sym.var("i2h_bias"), mx.sym.var("h2h_bias")
    # Small weights keep tanh off its flat ends, an orthogonal matrix the gradient's length through 28 steps.
    i2h_weight = mx.sym.var("i2h_weight", init=mx.init.Uniform(128**-0.5))
    h2h_weight = mx.sym.var("h2h_weight", init=mx.init.Orthogonal(scale=1.0))
    image = mx.sym.reshape(mx.sym.var("data"), shape=(0, 28, 28), name="image")
    rows = mx.sym.split(image, num_outputs=28, axis=1, squeeze_axis=True, name="rows")
    state = None
    for step in range(28):
        read = mx.sym.FullyConnected(rows[step], i2h_weight, i2h_bias, num_hidden=128, name=f"step{step}_i2h")
        state = mx.sym.zeros_like(read, name="state") if state is None else state
        kept = mx.sym.FullyConnected(state, h2h_weight, h2h_bias, num_hidden=128, name=f"step{step}_h2h")
        state = mx.sym.Activation(mx.sym.elemwise_add(kept, read, name=f"step{step}_sum"), act_type="tanh",
                                  name=f"step{step}_tanh")
    return mx.sym.FullyConnected(state, num_hidden=10, name="dense")


def cifar10_cnn() -> Any:
    """32 filters of 3x3, 32 of 3x3, 2x2 max pooling, 64 of 3x3, 64 of 3x3, 2x2 max pooling, dense 512, dense 10.

    Source: Anderson et al. 2016, arXiv:1611.01714, section 4.1, which has no second pooling: without it dense 512 alone
    would have 5.5 million weights, 11 MB as float16, and the zoo's networks stay below 3. The first convolution of each
    pair is padded, the second is not. Dropout of a half after dense 512 acts in training only.
    """
    x = mx.sym.var("data")
    for number, filters in enumerate((32, 32, 64, 64)):
        x = mx.sym.Convolution(x, kernel=(3, 3), pad=(1 - number % 2,) * 2, num_filter=filters, name=f"conv{number}")
        x = mx.sym.Activation(x, act_type="relu", name=f"relu{number}")
        if number % 2:
            x = mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max", name=f"pool{number // 2}")
    x = mx.sym.FullyConnected(x, num_hidden=512, name="dense0")
    x = mx.sym.Activation(x, act_type="relu", name="relu4")
    x = mx.sym.Dropout(x, p=0.5, name="dropout")
    return mx.sym.FullyConnected(x, num_hidden=10, name="dense1")


def cifar10_resnet28() -> Any:
    """Residual network of 28 convolutions: a stem, three stages of four pre-activation units, 16, 32 and 64 filters wide.

    A unit is BatchNorm, ReLU, 3x3, BatchNorm, ReLU, 3x3, added to its input; the first of a stage projects its input by
    1x1 after the first ReLU, and halves height and width in stages 2 and 3. Then BatchNorm, ReLU, global average
    pooling, dense 10.

    Source: He et al. 2016, arXiv:1603.05027, figure 4e and its appendix.
    """
    x = _convolution(mx.sym.var("data"), 16, 3, 1, "stem")
    for stage, filters in enumerate((16, 32, 64), 1):
        for unit in range(1, 5):
            x = _residual_unit(x, filters, stage, unit)
    x = _normalised(x, "final_bn", "final_relu")
    x = mx.sym.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg", name="pool")
    return mx.sym.FullyConnected(x, num_hidden=10, name="dense")


def _residual_unit(x: Any, filters: int, stage: int, unit: int) -> Any:
    name = f"stage{stage}_unit{unit}"
    stride = 2 if stage > 1 and unit == 1 else 1
    active = _normalised(x, f"{name}_bn1", f"{name}_relu1")
    shortcut = _convolution(active, filters, 1, stride, f"{name}_project") if unit == 1 else x
    x = _convolution(active, filters, 3, stride, f"{name}_conv1")
    x = _normalised(x, f"{name}_bn2", f"{name}_relu2")
    x = _convolution(x, filters, 3, 1, f"{name}_conv2")
    return mx.sym.elemwise_add(x, shortcut, name=f"{name}_add")


def _normalised(x: Any, norm: str, activation: str) -> Any:
    x = mx.sym.BatchNorm(x, fix_gamma=False, eps=1e-5, momentum=0.9, name=norm)
    return mx.sym.Activation(x, act_type="relu", name=activation)


def _convolution(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    return mx.sym.Convolution(x, kernel=(kernel, kernel), stride=(stride, stride), pad=(kernel // 2, kernel // 2),
                              num_filter=filters, no_bias=True, name=name)
