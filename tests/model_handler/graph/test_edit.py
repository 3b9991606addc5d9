"""Pure edits of graphs of every shape: what they keep, and what they refuse."""

import numpy as np
import pytest
from helpers import chain_symbol, inception_symbol, residual_symbol, two_input_symbol, two_output_symbol, with_values

from xfer2._mxnet import mx
from xfer2.exceptions import LayerNotFoundError, ModelError
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import edit
from xfer2.model_handler.graph.model import Edge, Graph, Node

CHAIN = symbols.from_symbol(chain_symbol())
RESIDUAL = symbols.from_symbol(residual_symbol())
INCEPTION = symbols.from_symbol(inception_symbol())
TWO_INPUTS = symbols.from_symbol(two_input_symbol())
TWO_OUTPUTS = symbols.from_symbol(two_output_symbol())
COPY = Graph((Node("x"), Node("copied", "_copy", {}, (Edge("x"),))), (Edge("copied"),))


def test_truncate_keeps_what_feeds_the_layer_and_nothing_else():
    graph = edit.truncate(RESIDUAL, "projection")
    assert graph.outputs == (Edge("projection"),)
    assert "projection_bias" in graph.by_name
    assert not {"b_conv", "b_conv_weight", "add2", "fc"} & set(graph.by_name)
    assert all(graph.by_name[node.name] == RESIDUAL.by_name[node.name] for node in graph.nodes)


def test_extract_between_layers_makes_inputs_of_their_names():
    graph = edit.extract(RESIDUAL, ["add2"], ["add1"])
    assert graph.variable_names[0] == "add1"
    assert graph.layer_names == ("projection", "b_conv", "b_bn", "b_relu", "add2")


def test_extract_of_several_outputs_keeps_their_order():
    assert edit.extract(CHAIN, ["fc1", "conv1"]).outputs == (Edge("fc1"), Edge("conv1"))
    assert edit.extract(TWO_OUTPUTS, ["halves_output1"]).outputs == (Edge("halves", 1),)


def test_extract_that_leaves_another_input_open_names_it():
    with pytest.raises(ModelError, match=r"outputs need 'data' beside the inputs given"):
        edit.extract(RESIDUAL, ["add1"], ["a_relu"])


def test_extract_from_an_input_on_which_nothing_depends():
    with pytest.raises(ModelError, match=r"The outputs 'fc_left' do not depend on the input 'right'"):
        edit.extract(TWO_INPUTS, ["fc_left"], ["left", "right"])


def test_extract_of_an_input_as_an_output():
    with pytest.raises(ModelError, match=r"'fc1' cannot be an input and an output"):
        edit.extract(CHAIN, ["fc1"], ["fc1"])


def test_remove_in_a_chain_takes_its_parameters_along():
    graph = edit.remove(CHAIN, "conv10")
    assert graph.by_name["flat"].inputs == (Edge("pool1"),)
    assert set(CHAIN.by_name) - set(graph.by_name) == {"conv10", "conv10_weight", "conv10_bias"}


def test_remove_at_a_join_names_the_choices():
    with pytest.raises(ModelError, match=r"'add1' has 2 inputs.*ambiguous: 'stem_relu', 'a_relu'.*keep="):
        edit.remove(RESIDUAL, "add1")
    with pytest.raises(ModelError, match=r"ambiguous: 'branch1', 'branch3', 'branch5'"):
        edit.remove(INCEPTION, "concat")


def test_remove_at_a_join_with_keep():
    graph = edit.remove(RESIDUAL, "add1", keep="stem_relu")
    assert graph.by_name["projection"].inputs[0] == graph.by_name["b_conv"].inputs[0] == Edge("stem_relu")
    with pytest.raises(ModelError, match=r"'fc' is not an input of 'add1'; its inputs are: 'stem_relu', 'a_relu'"):
        edit.remove(RESIDUAL, "add1", keep="fc")


def test_outputs_of_one_layer_are_offered_by_names_that_can_be_given_back():
    halves = mx.sym.split(mx.sym.var("data"), num_outputs=2, name="halves")
    graph = symbols.from_symbol(mx.sym.elemwise_add(halves[0], halves[1], name="sum"))
    with pytest.raises(ModelError, match=r"ambiguous: 'halves_output0', 'halves_output1'. Choose one"):
        edit.remove(graph, "sum")
    for kept in (0, 1):
        assert edit.remove(graph, "sum", keep=f"halves_output{kept}").outputs == (Edge("halves", kept),)


def test_remove_of_a_layer_with_several_outputs():
    with pytest.raises(ModelError, match=r"'halves' has outputs 0, 1 in use and cannot be removed"):
        edit.remove(TWO_OUTPUTS, "halves")


def test_remove_of_the_only_layer():
    with pytest.raises(ModelError, match=r"'copied' is the only layer left"):
        edit.remove(COPY, "copied")


def test_a_shared_parameter_stays_for_the_other_layer():
    weight, data = mx.sym.var("w"), mx.sym.var("data")
    first = mx.sym.FullyConnected(data, weight=weight, no_bias=True, num_hidden=3, name="a")
    graph = symbols.from_symbol(mx.sym.FullyConnected(first, weight=weight, no_bias=True, num_hidden=3, name="b"))
    assert edit.remove(graph, "a").variable_names == ("data", "w")


def test_insert_after_a_layer_reroutes_all_its_readers():
    graph = edit.insert_after(RESIDUAL, "stem_relu", COPY)
    assert graph.by_name["a_conv"].inputs[0] == graph.by_name["add1"].inputs[0] == Edge("copied")
    assert graph.by_name["copied"].inputs == (Edge("stem_relu"),)


def test_insert_after_an_input_and_after_one_of_several_outputs():
    assert edit.insert_after(TWO_INPUTS, "right", COPY).by_name["fc_right"].inputs[0] == Edge("copied")
    graph = edit.insert_after(TWO_OUTPUTS, "halves_output1", COPY)
    assert graph.by_name["head_a"].inputs[0] == Edge("halves", 0)
    assert graph.by_name["head_b"].inputs[0] == Edge("copied")


def test_insert_after_an_output_moves_the_output():
    assert edit.insert_after(TWO_OUTPUTS, "head_a", COPY).outputs == (Edge("copied"), Edge("head_b"))


def test_what_is_inserted_has_one_input_and_one_output():
    with pytest.raises(ModelError, match=r"insert_after needs a graph with one input; this one has 2: 'left', 'right'"):
        edit.insert_after(CHAIN, "conv1", TWO_INPUTS)
    with pytest.raises(ModelError, match=r"must have one output; it has 2: 'head_a', 'head_b'"):
        edit.insert_after(CHAIN, "conv1", TWO_OUTPUTS)


def test_replace_reads_and_is_read_as_the_layer_was():
    graph = edit.replace_layer(CHAIN, "relu1", COPY)
    assert graph.by_name["copied"].inputs == (Edge("bn1"),)
    assert graph.by_name["pool1"].inputs == (Edge("copied"),)
    assert "relu1" not in graph.by_name


def test_replace_may_reuse_the_names_of_what_goes():
    new = symbols.from_symbol(mx.sym.Convolution(mx.sym.var("x"), num_filter=4, kernel=(1, 1), name="conv10"))
    graph = edit.replace_layer(CHAIN, "conv10", new)
    assert graph.by_name["conv10"].attrs["kernel"] == "(1, 1)"
    assert graph.by_name["conv10"].inputs == (Edge("pool1"), Edge("conv10_weight"), Edge("conv10_bias"))


def test_replace_needs_as_many_inputs():
    with pytest.raises(ModelError, match=r"'concat' has 3 data inputs and what is to replace it 1"):
        edit.replace_layer(INCEPTION, "concat", COPY)


def test_rename_moves_edges_and_outputs():
    graph = edit.rename(CHAIN, {"fc2": "scores", "data": "image"})
    assert graph.outputs == (Edge("scores"),)
    assert graph.by_name["conv1"].inputs[0] == Edge("image")
    assert edit.rename(graph, {"scores": "fc2", "image": "data"}) == CHAIN


@pytest.mark.parametrize(("new", "reason"), [("fc1", "already in the network"), ("", "empty"),
                                             ("conv1_weight", "already in the network")])
def test_rename_to_what_cannot_be(new, reason):
    with pytest.raises(ModelError, match=f"Cannot rename to '{new}': the name is {reason}"):
        edit.rename(CHAIN, {"fc2": new})


def test_drop_top_goes_down_a_chain():
    assert edit.drop_top(CHAIN, 2).outputs == (Edge("flat"),)
    assert edit.drop_top(symbols.from_symbol(chain_symbol(softmax=True)), 1).outputs == (Edge("fc2"),)


def test_drop_top_stops_at_a_join_and_names_the_choices():
    with pytest.raises(ModelError, match=r"layer 4 to drop, 'add2', has 2 inputs.*: 'projection', 'b_relu'"):
        edit.drop_top(RESIDUAL, 4)
    with pytest.raises(ModelError, match=r"drop_layer_top needs a network with one output; this one has 2"):
        edit.drop_top(TWO_OUTPUTS, 1)


def test_drop_bottom_where_the_input_branches_names_the_choices():
    with pytest.raises(ModelError, match=r"input 'data' feeds 3 layers.*: 'branch1', 'branch3', 'branch5'"):
        edit.drop_bottom(INCEPTION, 1, "data")


def test_drop_bottom_up_to_the_branch():
    graph = edit.drop_bottom(CHAIN, 4, "data")
    assert graph.layer_names == ("conv10", "flat", "fc1", "fc2")
    assert graph.by_name["conv10"].inputs[0] == Edge("data")


@pytest.mark.parametrize("drop", [lambda n: edit.drop_top(CHAIN, n), lambda n: edit.drop_bottom(CHAIN, n, "data")])
def test_one_layer_must_stay(drop):
    with pytest.raises(ModelError, match=r"Cannot drop 8 layers: the network has 8, and one must stay"):
        drop(8)


def test_add_bottom_the_first_is_lowest():
    second = edit.rename(COPY, {"copied": "second"})
    graph = edit.add_bottom(CHAIN, [COPY, second], "data")
    assert graph.by_name["copied"].inputs == (Edge("data"),)
    assert graph.by_name["second"].inputs == (Edge("copied"),)
    assert graph.by_name["conv1"].inputs[0] == Edge("second")


def test_add_top_above_an_output_layer_is_refused():
    with pytest.raises(ModelError, match=r"Cannot add a layer above the output layer 'softmax'"):
        edit.add_top(symbols.from_symbol(chain_symbol(softmax=True)), [COPY])


def test_the_head_is_the_dense_layer_nearest_to_the_output():
    assert edit.head_layer(symbols.from_symbol(chain_symbol(softmax=True))) == "fc2"
    assert edit.head_layer(edit.drop_top(CHAIN, 2)) == "conv10"
    with pytest.raises(ModelError, match=r"'add2' \(elemwise_add\) has 2 inputs before any dense layer"):
        edit.head_layer(edit.truncate(RESIDUAL, "flat"))


def test_resize_head_refuses_a_shared_weight():
    weight, data = mx.sym.var("w"), mx.sym.var("data")
    first = mx.sym.FullyConnected(data, weight=weight, no_bias=True, num_hidden=3, name="a")
    graph = symbols.from_symbol(mx.sym.FullyConnected(first, weight=weight, no_bias=True, num_hidden=3, name="b"))
    with pytest.raises(ModelError, match=r"head 'b' shares its parameter 'w' with another layer"):
        edit.resize_head(graph, "b", ["w"], 5)


@pytest.mark.parametrize(("operator", "inference"), [
    ("SoftmaxOutput", "softmax"), ("LogisticRegressionOutput", "sigmoid"), ("LinearRegressionOutput", "_copy"),
    ("MAERegressionOutput", "_copy")])
def test_output_layers_become_what_they_compute_without_a_label(operator, inference):
    symbol = getattr(mx.sym, operator)(mx.sym.Flatten(mx.sym.var("data"), name="flat"), name="out")
    graph = edit.as_inference(symbols.from_symbol(symbol))
    assert graph.by_name["out"].op == inference
    assert graph.variable_names == ("data",)
    values = mx.nd.array([[0.5, -1.0, 2.0]])
    with_label = symbol.eval(data=values, out_label=mx.nd.zeros(1 if operator == "SoftmaxOutput" else (1, 3)))[0]
    assert symbols.to_symbol(graph).eval(data=values)[0].asnumpy().tolist() == pytest.approx(with_label.asnumpy(), rel=1e-6)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (3, 2, 2)])
@pytest.mark.parametrize("attrs", [{}, {"preserve_shape": True}, {"multi_output": True}], ids=["all", "last", "channels"])
def test_a_softmax_output_normalises_over_the_same_axes_without_its_label(attrs, shape):
    """As in training: with oneDNN, MXNet 1.9.1 takes the last axis alone at inference with four axes, and only then."""
    data = mx.sym.var("data")
    names = mx.sym.Activation(data, act_type="tanh", name="out_flat")  # the name that a new layer would like to have
    symbol = mx.sym.SoftmaxOutput(names, name="out", **attrs)
    graph = edit.as_inference(symbols.from_symbol(symbol))
    values = mx.nd.array(np.random.default_rng(0).normal(size=(2, *shape)))
    label = shape[1:] if "multi_output" in attrs else shape[:-1]
    bound = symbol.bind(mx.cpu(), {"data": values, "out_label": mx.nd.zeros((2, *label))})
    with_label = bound.forward(is_train=True)[0].asnumpy()
    found = symbols.to_symbol(graph).eval(data=values)[0].asnumpy()
    assert found.shape == with_label.shape
    np.testing.assert_allclose(found, with_label, rtol=1e-5)


@pytest.mark.parametrize("below", [
    lambda x: mx.sym.FullyConnected(x, num_hidden=4, name="fc"),
    lambda x: mx.sym.Dropout(mx.sym.FullyConnected(x, num_hidden=4, name="fc"), name="dropout"),
    lambda x: mx.sym.Activation(mx.sym.Flatten(x, name="flat"), act_type="relu", name="relu"),
    lambda x: mx.sym.reshape(x, shape=(0, -1), name="reshape")], ids=["dense", "dropout", "flat", "reshape"])
def test_the_softmax_of_a_matrix_stays_one_layer(below):
    graph = symbols.from_symbol(mx.sym.SoftmaxOutput(below(mx.sym.var("data")), name="out"))
    changed = edit.as_inference(graph)
    assert changed.layer_names == graph.layer_names
    assert changed.by_name["out"].op == "softmax"


@pytest.mark.parametrize("below", [
    lambda x: mx.sym.FullyConnected(x, num_hidden=4, flatten=False, name="fc"),
    lambda x: mx.sym.reshape(x, shape=(0, -2), name="reshape"),
    lambda x: mx.sym.reshape(x, shape=(0, -1, 2), name="reshape")], ids=["dense", "rest", "three"])
def test_the_softmax_of_what_may_be_no_matrix_is_over_all_but_the_batch(below):
    symbol = mx.sym.SoftmaxOutput(below(mx.sym.var("data")), name="out")
    network = with_values(symbol, data=(3, 4))
    values = {**network.params, "data": mx.nd.array(np.random.default_rng(0).normal(size=(2, 3, 4)))}
    found = symbols.to_symbol(edit.as_inference(network.graph)).eval(**values)[0].asnumpy()
    np.testing.assert_allclose(found.reshape(2, -1).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, symbol.eval(**values, out_label=mx.nd.zeros(found.shape[:-1]))[0].asnumpy(), rtol=1e-5)


def test_unknown_layers_are_refused_by_every_edit():
    for change in (lambda: edit.truncate(CHAIN, "conv11"), lambda: edit.remove(CHAIN, "conv11"),
                   lambda: edit.replace_layer(CHAIN, "conv11", COPY), lambda: edit.insert_after(CHAIN, "conv11", COPY),
                   lambda: edit.extract(CHAIN, ["conv11"]), lambda: edit.set_attrs(CHAIN, {"conv11": {}})):
        with pytest.raises(LayerNotFoundError, match=r"'conv11' is not in the network. Nearest of its 8 layers: conv1"):
            change()


def test_additions_of_a_convolution_are_written_so_that_nothing_fuses_them():
    graph = edit.without_fusible_sums(RESIDUAL)
    changed = {node.name for node in graph.nodes if node != RESIDUAL.by_name[node.name]}
    assert changed == {"add2"}  # add1 reads activations only
    assert graph.by_name["add2"].op == "broadcast_add"
    assert graph.by_name["add2"].inputs == RESIDUAL.by_name["add2"].inputs
    assert edit.without_fusible_sums(graph) == graph


def test_global_average_pooling_becomes_a_mean_and_no_other_pooling_does():
    data = mx.sym.var("data")
    pools = [mx.sym.Pooling(data, global_pool=True, pool_type="avg", kernel=(1, 1), name="average"),
             mx.sym.Pooling(data, global_pool=True, pool_type="max", kernel=(1, 1), name="largest"),
             mx.sym.Pooling(data, global_pool=True, pool_type="avg", kernel=(1, 1), layout="NHWC", name="last"),
             mx.sym.Pooling(data, pool_type="avg", kernel=(2, 2), name="local")]
    graph = symbols.from_symbol(mx.sym.Group(pools))
    changed = edit.with_mean_pooling(graph)
    assert [name for name in graph.layer_names if graph.by_name[name] != changed.by_name[name]] == ["average"]
    images = mx.nd.random.normal(shape=(2, 3, 4, 5))
    for first, second in zip(pools[:1], symbols.to_symbol(changed), strict=False):
        given, mean = (one.eval(data=images)[0].asnumpy() for one in (first, second))
        assert given.shape == mean.shape == (2, 3, 1, 1)
        assert abs(given - mean).max() < 1e-6
