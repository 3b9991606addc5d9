"""Small tasks for repurposers that train networks."""

from dataclasses import replace

import numpy as np
from sklearn.datasets import load_digits

from xfer2._mxnet import mx
from xfer2.model_handler import params, sources


def drawn(symbol, **input_shapes):
    """A network with parameters drawn as for training."""
    return params.initialize(replace(sources.read(symbol), input_shapes=input_shapes), seed=0)


def residual_network():
    """A stem, a residual unit with BatchNorm, pooling, and a dense layer of five classes; images 3x8x8."""
    def unit(x, name, filters):
        x = mx.sym.BatchNorm(x, fix_gamma=False, name=f"{name}_bn")
        x = mx.sym.Activation(x, act_type="relu", name=f"{name}_relu")
        return mx.sym.Convolution(x, num_filter=filters, kernel=(3, 3), pad=(1, 1), no_bias=True, name=f"{name}_conv")

    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=6, kernel=(3, 3), pad=(1, 1), no_bias=True, name="stem")
    x = mx.sym.elemwise_add(unit(x, "a", 6), x, name="add1")
    x = mx.sym.elemwise_add(unit(x, "b", 6), x, name="add2")
    x = mx.sym.Activation(x, act_type="relu", name="last_relu")
    x = mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg", name="gap")
    return drawn(mx.sym.FullyConnected(x, num_hidden=5, name="fc"), data=(3, 8, 8))


def two_input_network():
    """An image and a vector, joined before a dense layer of three classes and a softmax."""
    image = mx.sym.Convolution(mx.sym.var("image"), num_filter=4, kernel=(3, 3), name="conv")
    image = mx.sym.Activation(image, act_type="relu", name="relu")
    vector = mx.sym.FullyConnected(mx.sym.var("vector"), num_hidden=4, name="fc_vector")
    x = mx.sym.Concat(mx.sym.Flatten(image, name="flat"), vector, dim=1, name="joined")
    x = mx.sym.FullyConnected(x, num_hidden=3, name="top")
    return drawn(mx.sym.SoftmaxOutput(x, name="softmax"), image=(3, 8, 8), vector=(5,))


def bright_channels(count=90, noise=1.0, seed=0):
    """Images of three classes that differ in the channel that is bright, and their labels."""
    random = np.random.default_rng(seed)
    codes = np.arange(count) % 3
    images = random.normal(0, noise, (count, 3, 8, 8)).astype("float32")
    images[np.arange(count), codes] += 1
    return images, np.array(["ant", "bee", "wasp"])[codes]


def digits(count):
    """Scikit-learn's digits as uint8 images (n, 8, 8), and their labels."""
    data = load_digits()
    return (data.images[:count] * 15.9).astype(np.uint8), data.target[:count]


def values(network):
    return {name: array.asnumpy() for name, array in network.params.items()}


def convolutional_head(kernel=(1, 1), averaged=True):
    """Two convolutions, and one of five classes that gives the answer, a mean over its places; images 3x8x8."""
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=4, kernel=(3, 3), pad=(1, 1), name="stem")
    x = mx.sym.Convolution(x, num_filter=6, kernel=(3, 3), pad=(1, 1), name="conv")
    x = mx.sym.Activation(x, act_type="relu", name="relu")
    x = mx.sym.Convolution(x, num_filter=5, kernel=kernel, name="head")
    if averaged:
        x = mx.sym.Flatten(mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg", name="gap"), name="flat")
    return drawn(mx.sym.softmax(x, axis=1, name="softmax"), data=(3, 8, 8))
