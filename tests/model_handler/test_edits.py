"""Edits of whole networks: values, shapes, records and what is frozen follow the graph."""

import numpy as np
import pytest
from helpers import inputs_for, small_networks, with_values
from model_handler.running import assert_same, computed

from xfer2._mxnet import mx
from xfer2.exceptions import ModelError
from xfer2.model_handler import Network, Preprocessing, edits, sources

NETWORKS = small_networks()


def dense(units, name):
    return sources.read(mx.sym.FullyConnected(mx.sym.var("x"), num_hidden=units, name=name))


def with_record(name="chain", input_name="data"):
    old = NETWORKS[name]
    return Network(old.graph, old.arg_params, old.aux_params,
                   preprocessing=Preprocessing((3, 8, 8), input_name=input_name), frozen=frozenset({"conv1"}))


def test_drop_bottom_gives_the_input_the_shape_of_what_was_dropped():
    network = NETWORKS["chain"]
    upper = edits.drop_bottom(with_record(), 4, "data")
    assert upper.input_shapes == {"data": (4, 4, 4)}
    assert upper.preprocessing is None
    below = computed(edits.extract(network, ["pool1"]))[0]
    assert_same(computed(upper, {"data": below}), computed(network))


def test_extract_between_layers_knows_the_shape_of_its_input():
    network = NETWORKS["residual"]
    middle = edits.extract(network, ["fc"], ["add1"])
    assert middle.input_shapes == {"add1": (4, 8, 8)}
    assert_same(computed(middle, {"add1": computed(edits.extract(network, ["add1"]))[0]}), computed(network))


def test_extract_of_one_of_two_inputs_drops_the_other():
    network = edits.extract(NETWORKS["two inputs"], ["fc_left"])
    assert network.inputs == ("left",)
    assert network.input_shapes == {"left": (5,)}
    assert set(network.params) == {"fc_left_weight", "fc_left_bias"}


def test_add_top_carries_the_values_of_what_is_added():
    top = with_values(mx.sym.FullyConnected(mx.sym.var("x"), num_hidden=2, name="extra"), x=(3,))
    network = edits.add_top(NETWORKS["chain"], [top])
    below = computed(NETWORKS["chain"])[0]
    np.testing.assert_allclose(computed(network)[0], computed(top, {"x": below})[0], rtol=1e-6)


def test_add_top_of_what_does_not_fit_is_refused():
    wide = with_values(mx.sym.FullyConnected(mx.sym.var("x"), num_hidden=2, name="extra"), x=(4,))
    with pytest.raises(ModelError, match=r"shapes of the network contradict each other: Error in operator extra"):
        edits.add_top(NETWORKS["chain"], [wide])


def test_add_bottom_takes_the_input_shape_of_the_lowest():
    lowest = with_values(mx.sym.FullyConnected(mx.sym.var("x"), num_hidden=5, name="lowest"), x=(7,))
    network = edits.add_bottom(NETWORKS["two inputs"], [lowest], "left")
    assert network.input_shapes == {"left": (7,), "right": (3,)}
    assert computed(network)[0].shape == (3, 2)


def test_a_replaced_layer_takes_its_own_values():
    new = with_values(mx.sym.FullyConnected(mx.sym.var("x"), num_hidden=3, name="fc2"), seed=9, x=(6,))
    network = edits.replace_layer(NETWORKS["chain"], "fc2", new)
    assert_same([network.params["fc2_weight"].asnumpy()], [new.params["fc2_weight"].asnumpy()])
    below = computed(edits.extract(NETWORKS["chain"], ["fc1"]))[0]
    assert_same(computed(network), computed(new, {"x": below}))


def test_a_layer_replaced_by_one_without_values_of_the_same_name_has_none():
    network = edits.replace_layer(NETWORKS["chain"], "fc2", dense(7, "fc2"))
    assert network.missing == ("fc2_weight", "fc2_bias")
    alike = edits.replace_layer(NETWORKS["chain"], "fc2", dense(3, "fc2"))
    assert alike.missing == ("fc2_weight", "fc2_bias")


def test_a_new_layer_in_the_place_of_a_frozen_one_trains():
    assert edits.replace_layer(with_record(), "conv1", sources.read(
        mx.sym.Convolution(mx.sym.var("x"), num_filter=4, kernel=(3, 3), pad=(1, 1), name="conv1"))).frozen == set()


def test_rename_moves_parameters_frozen_and_record():
    network = edits.rename(with_record(), "conv1", "stem")
    assert "stem_weight" in network.params
    assert "conv1_weight" not in network.params
    assert "conv10_weight" in network.params
    assert network.frozen == {"stem"}
    assert edits.rename(network, "data", "image").preprocessing.input_name == "image"
    assert_same(computed(network), computed(NETWORKS["chain"]))


def test_rename_leaves_a_shared_parameter_its_name():
    weight = mx.sym.var("a_weight")
    first = mx.sym.FullyConnected(mx.sym.var("data"), weight=weight, no_bias=True, num_hidden=3, name="a")
    network = with_values(mx.sym.FullyConnected(first, weight=weight, no_bias=True, num_hidden=3, name="b"), data=(3,))
    assert set(edits.rename(network, "a", "c").params) == {"a_weight"}


def test_rename_of_an_input_keeps_its_shape():
    network = edits.rename(NETWORKS["two inputs"], "left", "first")
    assert network.input_shapes == {"first": (5,), "right": (3,)}


@pytest.mark.parametrize("name", ["chain", "residual", "inception", "two inputs"])
def test_a_new_head_draws_only_its_own_parameters(name):
    old = NETWORKS[name]
    head = old.graph.outputs[0].node
    network = edits.replace_head(old, 9, seed=1)
    assert computed(network, inputs_for(old))[0].shape == (3, 9)
    changed = {key for key, value in old.params.items() if network.params[key] is not value}
    assert changed == {f"{head}_weight", f"{head}_bias"}
    assert network.params[f"{head}_bias"].asnumpy().tolist() == [0] * 9
    assert_same([edits.replace_head(old, 9, seed=1).params[f"{head}_weight"].asnumpy()],
                [network.params[f"{head}_weight"].asnumpy()])


@pytest.mark.parametrize("shape", [(-1, 3, 4), (0, 12), (1, 3, 4), (-1, 6), (-1, 4)])
def test_a_new_head_must_fit_a_reshape_above_it(shape):
    dense = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=12, name="dense")
    old = with_values(mx.sym.Reshape(dense, shape=shape, name="fixed"), data=(8,))
    refused = r"contradict each other: The layer 'fixed' \(Reshape\)"
    with pytest.raises(ModelError, match=refused):
        edits.replace_head(old, 10)
    assert edits.replace_head(old, 12, seed=0).params["dense_weight"].shape == (12, 8)
    ten = with_values(mx.sym.slice_axis(mx.sym.var("x"), axis=1, begin=0, end=10, name="ten"), x=(12,))
    with pytest.raises(ModelError, match=refused):
        edits.insert_after(old, "dense", ten)


def test_statistics_must_fit_the_layer_below_them():
    below = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="dense")
    old = with_values(mx.sym.BatchNorm(below, fix_gamma=False, name="bn"), data=(8,))
    refused = r"contradict each other: 'bn_gamma' has the shape \(4,\); the layer 'bn' needs \(6,\)"
    with pytest.raises(ModelError, match=refused):  # MXNet would read, and in training write, beyond the four
        edits.replace_layer(old, "dense", dense(6, "wide"))
    assert edits.replace_layer(old, "dense", dense(4, "other")).missing == ("other_weight", "other_bias")


def test_a_network_made_for_a_batch_of_its_own_size_is_edited_as_any_other():
    dense = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=12, name="dense")
    rows = mx.sym.Reshape(dense, shape=(16, 3, 4), name="rows")
    old = with_values(mx.sym.FullyConnected(rows, num_hidden=5, name="head"), data=(8,))
    edited = edits.replace_head(old, 7, seed=0)
    assert computed(edited, {"data": np.ones((16, 8), "float32")})[0].shape == (16, 7)


def test_compose_joins_outputs_to_inputs_in_order():
    composed = edits.compose_networks(
        NETWORKS["two outputs"],
        with_values(mx.sym.Concat(mx.sym.var("a"), mx.sym.var("b"), dim=1, name="joined"), a=(3,), b=(2,)))
    assert_same(computed(composed), [np.concatenate(computed(NETWORKS["two outputs"]), axis=1)])


def test_compose_with_a_prefix_keeps_both_frozen_sets():
    first = edits.extract(with_record(), ["fc1"])
    second = Network(dense(2, "conv1").graph, frozen=frozenset({"conv1"}))
    with pytest.raises(ModelError, match=r"'conv1_weight' is already in the network"):
        edits.compose_networks(first, second)
    composed = edits.compose_networks(first, second, prefix="head_")
    assert composed.frozen == {"conv1", "head_conv1"}
    assert composed.missing == ("head_conv1_weight", "head_conv1_bias")
    assert composed.preprocessing == first.preprocessing


def test_compose_of_other_numbers_is_refused():
    with pytest.raises(ModelError, match=r"has 2 outputs and the other 1 inputs; the numbers must agree"):
        edits.compose_networks(NETWORKS["two outputs"], NETWORKS["chain"], prefix="second_")


def test_what_is_put_behind_an_input_may_take_another_shape():
    tint = with_values(mx.sym.Convolution(mx.sym.var("gray"), num_filter=3, kernel=(1, 1), name="tint"), gray=(1, 8, 8))
    network = edits.insert_after(with_record(), "data", tint)
    assert network.input_shapes == {"data": (1, 8, 8)}
    assert network.preprocessing is None
    assert computed(network, {"data": np.ones((2, 1, 8, 8), "float32")})[0].shape[0] == 2
    same = edits.insert_after(with_record(), "data", sources.read(mx.sym.relu(mx.sym.var("x"), name="positive")))
    assert same.preprocessing == with_record().preprocessing


@pytest.mark.parametrize("kind", [mx.sym.SoftmaxOutput, mx.sym.LinearRegressionOutput])
@pytest.mark.parametrize("put", [lambda below, new: edits.add_top(below, [new]), edits.compose_networks,
                                 lambda below, new: edits.insert_after(below, "answer", new),
                                 lambda below, new: edits.insert_after(below, "answer_output", new)])
def test_nothing_is_put_above_a_layer_that_trains_by_its_own_label(kind, put):
    below = with_values(kind(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="fc"), name="answer"), data=(6,))
    with pytest.raises(ModelError, match=r"Cannot add a layer above the output layer 'answer'; drop it first"):
        put(below, dense(3, "top"))
    assert edits.insert_after(below, "fc", dense(4, "between")).labels == ("answer_label",)
