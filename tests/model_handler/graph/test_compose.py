"""Graphs put together: names, feeds, shared variables."""

import pytest
from helpers import chain_symbol, two_input_symbol

from xfer2._mxnet import mx
from xfer2.exceptions import ModelError
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import compose
from xfer2.model_handler.graph.model import Edge, Graph, Node


def relu_graph(name="act", data="data"):
    return Graph((Node(data), Node(name, "relu", {}, (Edge(data),))), (Edge(name),))


def test_redirect_changes_only_the_edges_named():
    node = Node("sum", "elemwise_add", {}, (Edge("a"), Edge("split", 1)))
    moved = compose.redirect(node, {("split", 1): Edge("b", 2)})
    assert moved.inputs == (Edge("a"), Edge("b", 2))
    assert compose.redirect(node, {("split", 0): Edge("b")}) is node


def test_chain_computes_the_second_on_the_first():
    graph = compose.chain(relu_graph("low"), relu_graph("high", "x"), {"x": Edge("low")})
    assert graph.layer_names == ("low", "high")
    assert graph.outputs == (Edge("high"),)
    value = symbols.to_symbol(graph).eval(data=mx.nd.array([-1.0, 2.0]))[0]
    assert value.asnumpy().tolist() == [0.0, 2.0]


def test_a_name_that_is_taken_is_an_error_that_counts_the_clashes():
    chain = symbols.from_symbol(chain_symbol())
    with pytest.raises(ModelError, match=r"'conv1_weight' is already in the network.*\(20 of 20 names clash\)"):
        compose.chain(chain, chain, {"data": Edge("fc2")})


def test_an_addition_that_only_passes_its_input_on():
    through = Graph((Node("x"),), (Edge("x"),))
    assert compose.chain(relu_graph(), through, {"x": Edge("act")}) == relu_graph()


def test_side_by_side_shares_the_input():
    graph = compose.side_by_side(relu_graph("a"), relu_graph("b"), ["data"])
    assert graph.variable_names == ("data",)
    assert graph.outputs == (Edge("a"), Edge("b"))


def test_side_by_side_without_sharing_keeps_both_inputs():
    graph = compose.side_by_side(relu_graph("a"), symbols.from_symbol(two_input_symbol()), [])
    assert graph.variable_names[:3] == ("data", "left", "fc_left_weight")
    assert graph.outputs == (Edge("a"), Edge("top"))


def test_renaming_two_nodes_to_one_name_is_an_error():
    with pytest.raises(ModelError, match=r"Two nodes of the graph are named 'x'"):
        compose.map_names(relu_graph(), lambda name: "x")
