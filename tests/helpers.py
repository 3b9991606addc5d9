"""Small networks of every shape that edits and sources must cope with, with random parameters."""

import numpy as np

from xfer2._mxnet import mx
from xfer2.model_handler import params, sources, symbols
from xfer2.model_handler.network import Network


def with_values(symbol, seed=0, **input_shapes):
    """The Network of a symbol with random parameters; shapes without the batch axis."""
    network = sources.read(symbol)
    network = Network(network.graph, input_shapes=input_shapes)
    shapes, _ = symbols.infer_shapes(network)
    random = np.random.default_rng(seed)
    values = {name: mx.nd.array(random.uniform(0.1, 0.5, shapes[name])) for name in network.parameter_names}
    return params.with_params(network, values)


def chain_symbol(softmax=False):
    """conv1, bn1, relu1, pool1, conv10, flat, fc1, fc2 (and softmax): names that contain each other."""
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=4, kernel=(3, 3), pad=(1, 1), name="conv1")
    x = mx.sym.Activation(mx.sym.BatchNorm(x, fix_gamma=False, name="bn1"), act_type="relu", name="relu1")
    x = mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max", name="pool1")
    x = mx.sym.Convolution(x, num_filter=4, kernel=(3, 3), pad=(1, 1), name="conv10")
    x = mx.sym.Flatten(x, name="flat")
    x = mx.sym.FullyConnected(mx.sym.FullyConnected(x, num_hidden=6, name="fc1"), num_hidden=3, name="fc2")
    return mx.sym.SoftmaxOutput(x, name="softmax") if softmax else x


def residual_symbol():
    """A stem, one identity block and one projection block, each joined by an addition."""
    def unit(x, name, filters):
        x = mx.sym.Convolution(x, num_filter=filters, kernel=(3, 3), pad=(1, 1), no_bias=True, name=f"{name}_conv")
        x = mx.sym.BatchNorm(x, fix_gamma=False, name=f"{name}_bn")
        return mx.sym.Activation(x, act_type="relu", name=f"{name}_relu")

    x = unit(mx.sym.var("data"), "stem", 4)
    x = mx.sym.elemwise_add(x, unit(x, "a", 4), name="add1")
    shortcut = mx.sym.Convolution(x, num_filter=8, kernel=(1, 1), name="projection")
    x = mx.sym.elemwise_add(shortcut, unit(x, "b", 8), name="add2")
    x = mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg", name="gap")
    return mx.sym.FullyConnected(mx.sym.Flatten(x, name="flat"), num_hidden=5, name="fc")


def inception_symbol():
    """Three parallel branches joined by a Concat, then a dense layer."""
    data = mx.sym.var("data")
    branches = [mx.sym.Convolution(data, num_filter=2, kernel=(k, k), pad=(k // 2, k // 2), name=f"branch{k}")
                for k in (1, 3, 5)]
    x = mx.sym.Concat(*branches, dim=1, name="concat")
    return mx.sym.FullyConnected(mx.sym.Flatten(x, name="flat"), num_hidden=4, name="fc")


def two_input_symbol():
    """Two inputs, left and right, each through a dense layer, added."""
    left = mx.sym.FullyConnected(mx.sym.var("left"), num_hidden=4, name="fc_left")
    right = mx.sym.FullyConnected(mx.sym.var("right"), num_hidden=4, name="fc_right")
    return mx.sym.FullyConnected(mx.sym.elemwise_add(left, right, name="add"), num_hidden=2, name="top")


def two_output_symbol():
    """One trunk, two dense heads, and a split whose second output is used."""
    trunk = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=6, name="trunk")
    halves = mx.sym.SliceChannel(trunk, num_outputs=2, axis=1, name="halves")
    first = mx.sym.FullyConnected(halves[0], num_hidden=3, name="head_a")
    second = mx.sym.FullyConnected(halves[1], num_hidden=2, name="head_b")
    return mx.sym.Group([first, second])


def small_networks():
    """All of the above, by name."""
    image = {"data": (3, 8, 8)}
    return {
        "chain": with_values(chain_symbol(), **image),
        "residual": with_values(residual_symbol(), **image),
        "inception": with_values(inception_symbol(), **image),
        "two inputs": with_values(two_input_symbol(), left=(5,), right=(3,)),
        "two outputs": with_values(two_output_symbol(), data=(5,)),
    }


def inputs_for(network, count=3, seed=0):
    """Random data (count, ...) for every input of a network."""
    random = np.random.default_rng(seed)
    return {name: random.normal(size=(count, *network.input_shapes[name])).astype("float32") for name in network.inputs}
