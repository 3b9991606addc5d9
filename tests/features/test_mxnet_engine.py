"""The reference engine is right whichever layers are asked for together, on any number of devices."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import chain_symbol, inputs_for, small_networks, two_input_symbol, with_values

from xfer2._mxnet import mx
from xfer2.exceptions import DataError, MissingParametersError
from xfer2.features.engines.mxnet import MxnetEngine
from xfer2.features.extractor import pruned
from xfer2.model_handler import sources

SETS = [["conv1", "fire1_concat", "gap"], ["conv1", "fire2_concat"], ["conv1", "conv1_relu"],
        ["fire1_squeeze", "fire1_concat"], ["fire1_concat", "fire2_concat", "gap"]]

# Also run as a program, in a process whose environment leaves MXNet's operator fusion on.
PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from features.test_mxnet_engine import SETS, differences, module_differences
network_differences = [differences(layers) for layers in SETS]
print("module", [module_differences(layers) for layers in SETS])
print("engine", max(max(found) for found in network_differences))
"""


def squeezenet_like():
    """The beginning of SqueezeNet, small: convolution, ReLU, pooling, two fire modules."""
    def convolution(x, name, filters, size):
        x = mx.sym.Convolution(x, num_filter=filters, kernel=(size, size), pad=(size // 2, size // 2), name=name)
        return mx.sym.Activation(x, act_type="relu", name=f"{name}_relu")

    def fire(x, name):
        x = convolution(x, f"{name}_squeeze", 8, 1)
        return mx.sym.Concat(convolution(x, f"{name}_expand1", 16, 1), convolution(x, f"{name}_expand3", 16, 3),
                             dim=1, name=f"{name}_concat")

    x = mx.sym.Pooling(convolution(mx.sym.var("data"), "conv1", 16, 3), kernel=(3, 3), stride=(2, 2), pool_type="max",
                       name="pool1")
    x = mx.sym.Pooling(fire(fire(x, "fire1"), "fire2"), kernel=(1, 1), global_pool=True, pool_type="avg", name="gap")
    network = with_values(x, data=(3, 16, 16))
    random = np.random.default_rng(1)
    values = {name: mx.nd.array(random.normal(0, 0.5, array.shape)) for name, array in network.params.items()}
    return sources.read((x, values))


def layer_by_layer(network, layers, batch):
    return [MxnetEngine(pruned(network, (layer,)))(batch)[0] for layer in layers]


def image_batch():
    return {"data": np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype("float32")}


def differences(layers):
    network, batch = squeezenet_like(), image_batch()
    together = MxnetEngine(pruned(network, tuple(layers)))(batch)
    alone = layer_by_layer(network, layers, batch)
    return [float(np.abs(a - b).max()) for a, b in zip(together, alone, strict=True)]


def module_differences(layers):
    """How far Module, which fuses operators, is from one layer at a time; not zero in MXNet 1.9.1."""
    network, batch = squeezenet_like(), image_batch()
    from xfer2.model_handler.targets import to_module

    module = to_module(pruned(network, tuple(layers)), [("data", (2, 3, 16, 16))], None, [mx.cpu()], for_training=False)
    module.forward(mx.io.DataBatch([mx.nd.array(batch["data"])]), is_train=False)
    alone = layer_by_layer(network, layers, batch)
    return [float(np.abs(a.asnumpy() - b).max()) for a, b in zip(module.get_outputs(), alone, strict=True)]


@pytest.mark.parametrize("layers", SETS, ids=" ".join)
def test_layers_asked_for_together_are_what_each_is_alone(layers):
    assert differences(layers) == [0.0] * len(layers)


@pytest.mark.parametrize("backend", [None, "MKLDNN", "NONE"])
def test_the_engine_is_right_whatever_subgraph_backend_the_process_uses(backend):
    """With the default backend, this program shows Module to be off by more than 1 where the engine is off by 0."""
    environment = {name: value for name, value in os.environ.items() if name != "MXNET_SUBGRAPH_BACKEND"}
    if backend:
        environment["MXNET_SUBGRAPH_BACKEND"] = backend
    tests = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(tests=tests)], env=environment, capture_output=True,
                          text=True, check=True)
    answers = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("module", "engine")))
    assert answers["engine"] == "0.0"


def reference(network, data):
    """What the chain computes, in plain NumPy."""
    p = {name: value.asnumpy().astype(float) for name, value in network.params.items()}

    def convolved(x, name):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.zeros((len(x), 4, *x.shape[2:]))
        for i in range(3):
            for j in range(3):
                window = padded[:, :, i:i + x.shape[2], j:j + x.shape[3]]
                out += np.einsum("nchw,fc->nfhw", window, p[f"{name}_weight"][:, :, i, j])
        return out + p[f"{name}_bias"][:, None, None]

    x = convolved(data.astype(float), "conv1")
    scale = p["bn1_gamma"] / np.sqrt(p["bn1_moving_var"] + 1e-3)
    x = (x - p["bn1_moving_mean"][:, None, None]) * scale[:, None, None] + p["bn1_beta"][:, None, None]
    x = np.maximum(x, 0).reshape(len(x), 4, 4, 2, 4, 2).max(axis=(3, 5))
    x = convolved(x, "conv10").reshape(len(x), -1) @ p["fc1_weight"].T + p["fc1_bias"]
    return x @ p["fc2_weight"].T + p["fc2_bias"]


def test_the_engine_computes_what_the_network_means():
    network = small_networks()["chain"]
    batch = inputs_for(network, count=3)
    np.testing.assert_allclose(MxnetEngine(network)(batch)[0], reference(network, batch["data"]), rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("name", ["chain", "residual", "two inputs"])
def test_two_devices_give_what_one_gives(name, count):
    network = small_networks()[name]
    batch = inputs_for(network, count=count)
    one, two = MxnetEngine(network), MxnetEngine(network, [mx.cpu(0), mx.cpu(1)])
    for a, b in zip(one(batch), two(batch), strict=True):
        assert b.shape == a.shape
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def test_batches_of_changing_size_do_not_disturb_each_other():
    network = small_networks()["chain"]
    engine, batch = MxnetEngine(network), inputs_for(network, count=7)
    first = engine(batch)[0]
    kept = first.copy()
    part = engine({"data": batch["data"][:3]})[0]
    np.testing.assert_allclose(part, kept[:3], rtol=1e-5)
    np.testing.assert_array_equal(engine(batch)[0], kept)
    np.testing.assert_array_equal(first, kept)


def test_outputs_stay_as_they_are_while_the_next_batch_is_computed():
    network = small_networks()["chain"]
    engine = MxnetEngine(network)
    first = engine(inputs_for(network, 4, seed=1))[0]
    before = first.copy()
    second = engine(inputs_for(network, 4, seed=2))[0]
    np.testing.assert_array_equal(first, before)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("devices", [1, 2])
def test_labels_of_an_output_layer_are_not_asked_for(devices):
    network = with_values(chain_symbol(softmax=True), data=(3, 8, 8))
    found = MxnetEngine(network, [mx.cpu(number) for number in range(devices)])(inputs_for(network, count=5))[0]
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_missing_values_and_wrong_shapes_are_refused():
    with pytest.raises(MissingParametersError, match="computing features needs values"):
        MxnetEngine(sources.read(chain_symbol()))
    network = with_values(two_input_symbol(), left=(5,), right=(3,))
    with pytest.raises(DataError, match=r"got left \(n, 5\), right \(n, 4\)"):
        MxnetEngine(network)({"left": np.ones((2, 5), np.float32), "right": np.ones((2, 4), np.float32)})


@pytest.mark.parametrize(("shape", "good", "bad"), [((4, 6), 4, 3), ((-1, 4, 3), 6, 3)])
def test_a_reshape_that_does_not_fit_the_batch_is_refused(shape, good, bad):
    network = with_values(mx.sym.Reshape(mx.sym.var("data"), shape=shape, name="fixed"), data=(6,))
    values = np.arange(good * 6, dtype=np.float32).reshape(good, 6)
    np.testing.assert_array_equal(MxnetEngine(network)({"data": values})[0], values.reshape(shape))
    with pytest.raises(DataError, match=rf"'fixed' \(Reshape\) is to give .* of \({bad}, 6\), for a batch of {bad};"):
        MxnetEngine(network)({"data": values[:bad]})
