"""Roles of variables, owners of parameters, what a name means as an output."""

import pytest
from helpers import chain_symbol, residual_symbol, two_input_symbol, two_output_symbol

from xfer2._mxnet import mx
from xfer2.exceptions import LayerNotFoundError, ModelError
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import query
from xfer2.model_handler.graph.model import Edge


def graph_of(symbol):
    return symbols.from_symbol(symbol)


def test_roles_follow_from_the_place_of_a_variable():
    roles = query.variable_roles(graph_of(chain_symbol(softmax=True)))
    assert [name for name, role in roles.items() if role == "input"] == ["data"]
    assert [name for name, role in roles.items() if role == "label"] == ["softmax_label"]
    assert {"conv1_weight", "bn1_gamma", "bn1_moving_mean", "fc2_bias"} <= {n for n, r in roles.items() if r == "parameter"}


def test_a_variable_with_a_value_is_a_parameter_wherever_it_is_used():
    graph = graph_of(mx.sym.elemwise_add(mx.sym.var("data"), mx.sym.var("offset"), name="shift"))
    assert query.variables_with_role(graph, "input") == ("data", "offset")
    assert query.variables_with_role(graph, "input", {"offset"}) == ("data",)
    assert query.parameters_by_layer(graph, {"offset"})["shift"] == ("offset",)


def test_a_weight_that_is_also_added_is_an_input_without_a_value():
    weight = mx.sym.var("w")
    dense = mx.sym.FullyConnected(mx.sym.var("data"), weight=weight, no_bias=True, num_hidden=2, name="fc")
    graph = graph_of(mx.sym.Group([dense, mx.sym.relu(weight, name="act")]))
    assert query.variable_roles(graph) == {"data": "input", "w": "input"}


def test_parameters_belong_to_a_layer_through_edges():
    graph = graph_of(chain_symbol())
    owned = query.parameters_by_layer(graph)
    assert tuple(owned) == graph.layer_names
    assert owned["conv1"] == ("conv1_weight", "conv1_bias")
    assert owned["conv10"] == ("conv10_weight", "conv10_bias")
    assert owned["bn1"] == ("bn1_gamma", "bn1_beta", "bn1_moving_mean", "bn1_moving_var")
    assert owned["relu1"] == owned["flat"] == ()


def test_data_edges_leave_out_parameters_and_repetitions():
    x = mx.sym.var("data")
    graph = graph_of(mx.sym.elemwise_add(x, x, name="twice"))
    assert query.data_edges(graph, graph.by_name["twice"]) == (Edge("data"),)
    chain = graph_of(chain_symbol(softmax=True))
    assert query.data_edges(chain, chain.by_name["conv1"]) == (Edge("data"),)
    assert query.data_edges(chain, chain.by_name["softmax"]) == (Edge("fc2"),)


def test_ancestors_in_a_residual_graph():
    graph = graph_of(residual_symbol())
    layers = set(graph.layer_names)
    assert query.ancestors(graph, ["add1"]) & layers == {"stem_conv", "stem_bn", "stem_relu", "a_conv", "a_bn", "a_relu",
                                                         "add1"}


def test_an_output_by_its_layer_or_by_its_mxnet_name():
    graph = graph_of(chain_symbol())
    assert query.resolve_output(graph, "conv1") == query.resolve_output(graph, "conv1_output") == Edge("conv1")
    assert query.resolve_output(graph, "data") == Edge("data")


def test_of_several_outputs_the_name_must_say_which():
    graph = graph_of(two_output_symbol())
    assert query.resolve_output(graph, "halves_output1") == Edge("halves", 1)
    with pytest.raises(ModelError, match=r"several outputs; say which: 'halves_output0', 'halves_output1'"):
        query.resolve_output(graph, "halves")


def test_a_layer_whose_own_name_ends_in_output():
    graph = graph_of(mx.sym.relu(mx.sym.relu(mx.sym.var("data"), name="a"), name="a_output"))
    assert query.resolve_output(graph, "a_output") == Edge("a_output")


@pytest.mark.parametrize(("wrong", "right"), [("conv_1", "conv1"), ("FC1", "fc1"), ("relu", "relu1"), ("bn1_out", "bn1")])
def test_an_unknown_layer_lists_the_nearest_names(wrong, right):
    with pytest.raises(LayerNotFoundError, match=f"'{wrong}' is not in the network. Nearest of its 8 layers: .*{right}"):
        query.resolve_output(graph_of(chain_symbol()), wrong)


def test_layers_by_name_and_by_pattern_in_the_graphs_order():
    graph = graph_of(residual_symbol())
    assert query.matching_layers(graph, ["b_*", "stem_conv"]) == ("stem_conv", "b_conv", "b_bn", "b_relu")
    assert query.matching_layers(graph, ["?_conv", "a_conv"]) == ("a_conv", "b_conv")
    assert query.matching_layers(graph, ["*"]) == graph.layer_names
    with pytest.raises(LayerNotFoundError, match=r"pattern 'stem\*conv9' matches none of the network's \d+ layers"):
        query.matching_layers(graph, ["a_*", "stem*conv9"])
    with pytest.raises(LayerNotFoundError, match=r"pattern '\*_weight' matches none"):
        query.matching_layers(graph, ["*_weight"])
    with pytest.raises(LayerNotFoundError, match=r"'b\.conv' is not in the network"):
        query.matching_layers(graph, ["b.conv"])


def test_a_variable_is_no_layer():
    with pytest.raises(LayerNotFoundError, match=r"'conv1_weight' is a variable, not a layer"):
        query.matching_layers(graph_of(chain_symbol()), ["conv1_weight"])


def test_one_output_or_one_input_is_asked_for_with_a_list_of_what_there_is():
    with pytest.raises(ModelError, match=r"drop needs a network with one output; this one has 2: 'head_a', 'head_b'"):
        query.single_output(graph_of(two_output_symbol()), "drop")
    with pytest.raises(ModelError, match=r"add needs a graph with one input; this one has 2: 'left', 'right'"):
        query.single_input(graph_of(two_input_symbol()), "add")


def test_outputs_in_use():
    graph = graph_of(two_output_symbol())
    assert query.used_outputs(graph, "halves") == (0, 1)
    assert query.used_outputs(graph, "head_a") == (0,)
