"""What only MXNet knows of a graph: shapes, numbers of inputs and outputs; and what must not reach it."""

import json

import pytest
from helpers import chain_symbol, small_networks, two_output_symbol

from xfer2._mxnet import mx
from xfer2.exceptions import DataError, ModelError
from xfer2.model_handler import Network, sources, symbols
from xfer2.model_handler.graph.model import Edge, Graph, Node

NETWORKS = small_networks()


def single(op, inputs, outputs=(0,), **attrs):
    variables = tuple(Node(f"v{number}") for number in range(inputs))
    node = Node("layer", op, attrs, tuple(Edge(v.name) for v in variables))
    return Graph((*variables, node), tuple(Edge("layer", number) for number in outputs))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_goes_to_mxnet_and_back(name):
    graph = NETWORKS[name].graph
    assert symbols.from_symbol(symbols.to_symbol(graph)) == graph


def test_shapes_of_layers_without_the_batch_axis():
    shapes = symbols.layer_shapes(NETWORKS["chain"])
    assert shapes == {"conv1": (4, 8, 8), "bn1": (4, 8, 8), "relu1": (4, 8, 8), "pool1": (4, 4, 4), "conv10": (4, 4, 4),
                      "flat": (64,), "fc1": (6,), "fc2": (3,)}


def test_shapes_of_variables_and_outputs_with_the_batch_axis():
    variables, outputs = symbols.infer_shapes(NETWORKS["two outputs"], batch_size=7)
    assert variables["data"] == (7, 5)
    assert variables["head_b_weight"] == (2, 3)
    assert outputs == [(7, 3), (7, 2)]


def test_shapes_that_do_not_follow_are_none():
    network = sources.read(chain_symbol())
    assert set(symbols.layer_shapes(network).values()) == {None}
    assert symbols.layer_shapes(network, {"data": (3, 8, 8)})["fc1"] == (6,)


def test_operators_that_do_not_bear_unknown_shapes_are_no_contradiction():
    padded = mx.sym.Pad(mx.sym.var("data"), mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 1, 1), name="pad")
    network = sources.read(padded)
    assert symbols.layer_shapes(network) == {"pad": None}
    assert symbols.layer_shapes(network, {"data": (3, 8, 8)}) == {"pad": (3, 10, 10)}


def test_a_contradiction_names_the_layer():
    with pytest.raises(ModelError, match=r"contradict each other: Error in operator fc1"):
        symbols.infer_shapes(NETWORKS["chain"], {"data": (3, 16, 16)})


def test_data_that_do_not_fit_are_the_datas_error():
    with pytest.raises(DataError, match=r"got data \(n, 3, 16, 16\). The network expects data \(n, 3, 8, 8\)"):
        symbols.shapes_for_data(NETWORKS["chain"], {"data": (3, 16, 16)})


@pytest.mark.parametrize(("graph", "count"), [
    (single("SliceChannel", 1, (0, 1), num_outputs="2"), 2), (single("BatchNorm", 5), 1),
    (single("BatchNorm", 5, (0, 2), output_mean_var="True"), 3), (single("topk", 1, (1,), ret_typ="both"), 2)])
def test_outputs_are_counted_by_their_operator(graph, count):
    assert symbols.to_symbol(graph).list_outputs()
    beyond = Graph(graph.nodes, (Edge("layer", count),))
    with pytest.raises(ModelError, match=f"takes output {count} of 'layer', which has {count} output"):
        symbols.to_symbol(beyond)


@pytest.mark.parametrize(("op", "takes", "attrs"), [
    ("BatchNorm", 5, {}), ("Convolution", 3, {"kernel": "(1, 1)", "num_filter": "2"}),
    ("Convolution", 2, {"kernel": "(1, 1)", "num_filter": "2", "no_bias": "True"}), ("Concat", 3, {"num_args": "3"}),
    ("relu", 1, {}), ("Embedding", 2, {"input_dim": "3", "output_dim": "2"}), ("LeakyReLU", 2, {"act_type": "prelu"}),
    ("LeakyReLU", 1, {"act_type": "leaky"}), ("take", 2, {})])
def test_inputs_are_counted_by_their_operator(op, takes, attrs):
    symbols.check_input_numbers(single(op, takes, **attrs))
    for wrong in {0, takes - 1, takes + 1}:
        with pytest.raises(ModelError, match=rf"'layer' \({op}\) takes {takes} inputs?; it has {wrong}"):
            symbols.check_input_numbers(single(op, wrong, **attrs))


def test_operators_without_inputs_and_control_flow_are_left_alone():
    symbols.check_input_numbers(single("_zeros", 0, shape="(2, 2)"))
    outputs, _ = mx.sym.contrib.foreach(lambda x, s: (x + s[0], [x + s[0]]), mx.sym.var("data"), [mx.sym.var("state")])
    assert sources.read(outputs).inputs == ("data", "state")


def broken_body(change):
    outputs, _ = mx.sym.contrib.foreach(lambda x, s: (x + s[0], [x + s[0]]), mx.sym.var("data"), [mx.sym.var("state")])
    document = json.loads(outputs.tojson())
    loop = next(node for node in document["nodes"] if "subgraphs" in node)
    change(loop["subgraphs"][0])
    return json.dumps(document)


@pytest.mark.parametrize(("change", "message"), [
    (lambda body: body["heads"][0].__setitem__(1, 7), "takes output 7"),
    (lambda body: body["nodes"][-1]["inputs"].__setitem__(0, [0, 7, 0]), "takes output 7"),
    (lambda body: body["nodes"][-1]["inputs"].__setitem__(0, [99, 0, 0]), "points to node 99"),
    (lambda body: body["nodes"][-1].update(op="_Native", attrs={"info": "1"}), "memory address"),
    (lambda body: body["nodes"][-1].update(inputs=[[0, 0, 0]]), "takes 2 inputs; it has 1"),
    (lambda body: body.update(heads=[]), "no 'heads'")])
def test_the_bodies_of_control_flow_are_checked_too(change, message):
    with pytest.raises(ModelError, match=message):
        symbols.read_symbol_text(broken_body(change))


def test_mxnets_complaint_comes_without_its_stack_trace():
    with pytest.raises(ModelError, match=r"MXNet refuses the graph: .*Operator nonsense is not registered") as caught:
        symbols.to_symbol(single("nonsense", 1))
    assert "Stack trace" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_old_symbol_is_brought_to_the_present_version():
    document = json.loads(two_output_symbol().tojson())
    del document["attrs"]
    graph = symbols.read_symbol_text(json.dumps(document))
    assert graph == NETWORKS["two outputs"].graph


def test_a_network_keeps_only_what_its_graph_has():
    network = Network(NETWORKS["chain"].graph, {"stray": mx.nd.zeros(1)}, input_shapes={"stray": (1,)},
                      frozen=frozenset({"stray", "fc1"}))
    assert (network.params, network.input_shapes, network.frozen) == ({}, {}, {"fc1"})
