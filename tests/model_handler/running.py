"""What the tests of this folder share: to compute, to compare, to write, to run in a process of its own."""

import os
import subprocess
import sys

import numpy as np
from helpers import inputs_for

from xfer2._mxnet import mx
from xfer2.features.engines.mxnet import MxnetEngine
from xfer2.model_handler import ModelHandler


def computed(network, inputs=None):
    """All outputs of a network for `inputs`, by default random ones."""
    return MxnetEngine(network)(inputs_for(network) if inputs is None else inputs)


def block_outputs(block, network, inputs):
    """All outputs of a Gluon block made of `network`."""
    found = block(*[mx.nd.array(inputs[name]) for name in network.inputs])
    return [array.asnumpy() for array in (found if isinstance(found, (list, tuple)) else [found])]


def assert_same(actual, expected):
    """Bit for bit."""
    assert len(actual) == len(expected)
    for one, two in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, two)


def assert_same_parameters(actual, expected):
    """Two networks' parameters, bit for bit."""
    assert actual.arg_params.keys() == expected.arg_params.keys()
    assert actual.aux_params.keys() == expected.aux_params.keys()
    for name, array in expected.params.items():
        np.testing.assert_array_equal(actual.params[name].asnumpy(), array.asnumpy())


def small_cnn():
    """A block of a convolution and a dense layer, for images (n, 3, 8, 8)."""
    block = mx.gluon.nn.HybridSequential()
    block.add(mx.gluon.nn.Conv2D(4, 3, in_channels=3), mx.gluon.nn.BatchNorm(in_channels=4),
              mx.gluon.nn.Activation("relu"), mx.gluon.nn.Dense(3, in_units=144))
    block.initialize(mx.init.Normal(0.5))
    return block


def write_checkpoint(network, prefix, epoch=0):
    """Save by MXNet's own means; gives the prefix."""
    symbol = ModelHandler(network).symbol
    mx.model.save_checkpoint(str(prefix), epoch, symbol, dict(network.arg_params), dict(network.aux_params))
    return str(prefix)


def run_python(code, *arguments):
    """Run a program in a process of its own, which a crash may end; gives its exit code and what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True,
                          env=environment, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr
