"""Where the frozen part of a network ends."""

import numpy as np
import pytest
from helpers import chain_symbol, with_values

from xfer2._mxnet import mx
from xfer2.data.batches import open_batches
from xfer2.features.extractor import extract
from xfer2.model_handler import ModelHandler
from xfer2.model_handler.frozen import frontier


def residual():
    x = mx.sym.var("data")
    x = mx.sym.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=4, name="conv0")
    branch = mx.sym.BatchNorm(x, name="bn1")
    branch = mx.sym.Activation(branch, act_type="relu", name="relu1")
    branch = mx.sym.Convolution(branch, kernel=(3, 3), pad=(1, 1), num_filter=4, name="conv1")
    x = mx.sym.elemwise_add(x, branch, name="add1")
    x = mx.sym.Pooling(x, global_pool=True, pool_type="avg", name="pool")
    return mx.sym.FullyConnected(x, num_hidden=3, name="dense")


def run(network, arrays):
    (output,) = (edge.node for edge in network.graph.outputs)
    return extract(network, open_batches(tuple(arrays) if len(arrays) > 1 else arrays[0], network), (output,))[output]


@pytest.mark.parametrize("until", ["conv0", "relu1", "conv1", "add1"])
def test_the_two_parts_compute_what_the_whole_does(until):
    network = with_values(residual(), data=(3, 6, 6))
    frozen = ModelHandler(network).freeze(until=until).network
    cut = frontier(frozen)
    images = np.random.default_rng(0).normal(size=(5, 3, 6, 6)).astype("float32")
    features = extract(frozen, open_batches(images, frozen), cut.layers)
    np.testing.assert_allclose(run(cut.upper, [features[layer] for layer in cut.layers]), run(network, [images]), atol=1e-5)
    assert not set(cut.upper.parameter_names) & set(frozen.frozen_parameters)
    assert cut.inputs == ()


def test_layers_without_parameters_above_the_frozen_ones_are_computed_once_too():
    frozen = ModelHandler(with_values(residual(), data=(3, 6, 6))).freeze(until="conv1").network
    assert frontier(frozen).layers == ("pool",)


def test_a_residual_cut_has_two_outputs():
    frozen = ModelHandler(with_values(residual(), data=(3, 6, 6))).freeze(["conv0", "bn1"]).network
    assert set(frontier(frozen).layers) == {"conv0", "relu1"}


def test_dropout_in_the_frozen_part_is_drawn_anew():
    x = mx.sym.var("data")
    x = mx.sym.FullyConnected(x, num_hidden=4, name="dense0")
    x = mx.sym.Dropout(x, p=0.5, name="drop")
    x = mx.sym.FullyConnected(x, num_hidden=4, name="dense1")
    x = mx.sym.FullyConnected(x, num_hidden=2, name="dense2")
    frozen = ModelHandler(with_values(x, data=(3,))).freeze(until="dense1").network
    assert frontier(frozen).layers == ("dense0",)


def test_a_second_input_that_only_the_upper_part_reads_stays_an_input():
    first, second = mx.sym.var("data"), mx.sym.var("extra")
    x = mx.sym.FullyConnected(first, num_hidden=4, name="dense0")
    x = mx.sym.concat(x, mx.sym.FullyConnected(second, num_hidden=4, name="side"), dim=1, name="both")
    network = with_values(mx.sym.FullyConnected(x, num_hidden=2, name="dense1"), data=(3,), extra=(2,))
    cut = frontier(ModelHandler(network).freeze("dense0").network)
    assert (cut.layers, cut.inputs) == (("dense0",), ("extra",))
    assert cut.upper.inputs == ("dense0", "extra")


def test_there_is_nothing_to_cut_where_nothing_or_all_is_frozen():
    network = with_values(chain_symbol(), data=(3, 8, 8))
    assert frontier(network) is None
    assert frontier(ModelHandler(network).freeze().network) is None
