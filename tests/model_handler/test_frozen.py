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


def unrolled(begin):
    """Three steps of a cell over (n, 3, 4), turned to have time first, and a dense layer on the last state."""
    cell = mx.rnn.RNNCell(5, prefix="cell_")
    turned = mx.sym.swapaxes(mx.sym.var("data"), dim1=0, dim2=1, name="turned")
    steps = mx.sym.SliceChannel(turned, num_outputs=3, axis=0, squeeze_axis=True, name="steps")
    start = {"zeros": lambda: mx.sym.zeros((0, 5), name="begin"), "like": lambda: mx.sym.zeros_like(
        mx.sym.FullyConnected(steps[0], num_hidden=5, no_bias=True, name="shape"), name="begin")}[begin]()
    outputs, _ = cell.unroll(3, [steps[step] for step in range(3)], begin_state=[start])
    return mx.sym.FullyConnected(outputs[-1], num_hidden=2, name="dense")


@pytest.mark.parametrize("begin", ["zeros", "like"])
def test_states_of_a_frozen_recurrent_layer_are_computed_once(begin):
    network = with_values(unrolled(begin), data=(3, 4))
    frozen = ModelHandler(network).freeze(until="cell_t2_out").network
    cut = frontier(frozen)
    assert cut.layers == ("cell_t2_out",)
    rows = np.random.default_rng(0).normal(size=(5, 3, 4)).astype("float32")
    features = extract(frozen, open_batches(rows, frozen), cut.layers)
    np.testing.assert_allclose(run(cut.upper, [features[layer] for layer in cut.layers]), run(network, [rows]), atol=1e-5)


def test_what_has_no_row_of_each_example_is_computed_where_it_is_read():
    x = mx.sym.swapaxes(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, flatten=False, name="below"), dim1=0, dim2=1,
                        name="turned")
    x = mx.sym.FullyConnected(x, num_hidden=3, flatten=False, name="above")
    network = with_values(mx.sym.swapaxes(x, dim1=0, dim2=1, name="back"), data=(6, 5))
    frozen = ModelHandler(network).freeze("below").network
    cut = frontier(frozen)
    assert cut.layers == ("below",)
    rows = np.random.default_rng(0).normal(size=(4, 6, 5)).astype("float32")
    features = extract(frozen, open_batches(rows, frozen), cut.layers)
    np.testing.assert_allclose(run(cut.upper, [features["below"]]), run(network, [rows]), atol=1e-5)


@pytest.mark.parametrize(("dropout", "layers"), [(0.0, True), (0.5, False)])
def test_a_recurrent_operator_is_random_where_it_drops_out(dropout, layers):
    block = mx.gluon.nn.HybridSequential()
    block.add(mx.gluon.rnn.LSTM(5, num_layers=2, dropout=dropout, layout="NTC", input_size=3), mx.gluon.nn.Dense(2))
    block.initialize(mx.init.Xavier())
    rows = mx.nd.random.normal(shape=(4, 6, 3))
    block.hybridize()
    block(rows)
    block[0].collect_params().setattr("grad_req", "null")
    frozen = ModelHandler(block).network
    cut = frontier(frozen)
    assert (cut is not None) == layers
    if cut:
        features = extract(frozen, open_batches(rows.asnumpy(), frozen), cut.layers)
        found = run(cut.upper, [features[layer] for layer in cut.layers])
        np.testing.assert_allclose(found, block(rows).asnumpy(), atol=1e-5)


def of_rows(make):
    """A frozen dense layer, what is made of it, and a dense layer on that."""
    x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="below")
    network = with_values(mx.sym.FullyConnected(make(x), num_hidden=2, name="dense"), data=(3,))
    return frontier(ModelHandler(network).freeze("below").network).layers


@pytest.mark.parametrize(("make", "layers"), [
    (lambda x: mx.sym.broadcast_sub(x, mx.sym.mean(x, axis=0, keepdims=True), name="made"), ("below",)),
    (lambda x: mx.sym.broadcast_div(x, mx.sym.norm(x), name="made"), ("below",)),
    (lambda x: mx.sym.softmax(x, axis=0, name="made"), ("below",)),
    (lambda x: mx.sym.reverse(x, axis=0, name="made"), ("below",)),
    (lambda x: mx.sym.LeakyReLU(x, act_type="rrelu", name="made")[0], ("below",)),
    (lambda x: mx.sym.broadcast_add(x, mx.sym.random.normal(shape=(1, 4)), name="made"), ("below",)),
    (lambda x: mx.sym.broadcast_add(x, mx.sym.ones((1, 4)), name="made"), ("made",)),
    (lambda x: mx.sym.softmax(x, axis=1, name="made"), ("made",)),
    (lambda x: mx.sym.LeakyReLU(x, act_type="leaky", name="made"), ("made",))])
def test_what_mixes_examples_or_is_random_is_computed_in_every_epoch(make, layers):
    assert of_rows(make) == layers


def test_noise_of_the_numpy_interface_is_random():
    class Noisy(mx.gluon.HybridBlock):
        def __init__(self, **given):
            super().__init__(**given)
            with self.name_scope():
                self.below, self.above = mx.gluon.nn.Dense(4, in_units=3), mx.gluon.nn.Dense(2, in_units=4)

        def hybrid_forward(self, F, x):
            noise = F.np.random.normal(0, 1, size=(1, 4)).as_nd_ndarray()
            return self.above(F.broadcast_add(self.below(x), noise, name="noisy"))

    block = Noisy()
    block.initialize()
    block.below.collect_params().setattr("grad_req", "null")
    (layer,) = frontier(ModelHandler(block).network).layers
    assert layer.endswith("dense0_fwd")
