"""Properties of random graphs: what is written is read back, what is put in is taken out, what is kept computes the same."""

import json

import numpy as np
import pytest
from helpers import with_values
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from model_handler.running import assert_same, block_outputs, computed

from xfer2._mxnet import mx
from xfer2.model_handler import ModelHandler, Network
from xfer2.model_handler.graph import codec, edit, query
from xfer2.model_handler.graph.model import Edge, Graph, Node

OPERATORS = ("relu", "Convolution", "Concat", "SliceChannel", "_contrib_anything", "Custom")
COPY = Graph((Node("x"), Node("the inserted", "_copy", {}, (Edge("x"),))), (Edge("the inserted"),))
BATCH = {"data": np.random.default_rng(1).normal(size=(3, 4)).astype("float32")}

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)
many = settings(max_examples=200, deadline=None, derandomize=True, database=None)


@st.composite
def graphs(draw, versions):
    """Any graph that the JSON can hold, whether or not MXNet knows its operators."""
    names = draw(st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=9, unique=True))
    texts = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
    nodes = [Node(names[0])]

    def edge():
        source = draw(st.sampled_from(nodes))
        return Edge(source.name, 0 if source.is_variable else draw(st.integers(0, 2)), draw(versions))

    for name in names[1:]:
        if draw(st.integers(0, 3)) == 0:
            nodes.append(Node(name, None, draw(texts)))
        else:
            inputs = [edge() for _ in range(draw(st.integers(0, 4)))]
            nodes.append(Node(name, draw(st.sampled_from(OPERATORS)), draw(texts), tuple(inputs)))
    outputs = tuple(edge() for _ in range(draw(st.integers(1, 3))))
    return Graph(tuple(nodes), outputs, {"mxnet_version": json.dumps(["int", draw(st.integers(0, 20000))])})


@st.composite
def networks(draw):
    """A network that MXNet computes: layers of width 4, joined at random, some read twice, one or two outputs."""
    values = [mx.sym.var("data")]

    def pick():
        return draw(st.sampled_from(values))

    for number in range(draw(st.integers(2, 7))):
        kind = draw(st.sampled_from(["dense", "activation", "add", "multiply", "norm", "swap"]))
        name = f"{kind}{number}"
        if kind == "dense":
            new = mx.sym.FullyConnected(pick(), num_hidden=4, name=name)
        elif kind == "activation":
            new = mx.sym.Activation(pick(), act_type=draw(st.sampled_from(["relu", "tanh", "sigmoid"])), name=name)
        elif kind == "norm":
            new = mx.sym.BatchNorm(pick(), fix_gamma=False, name=name)
        elif kind == "swap":
            halves = mx.sym.SliceChannel(pick(), num_outputs=2, axis=1, name=f"halves{number}")
            new = mx.sym.Concat(halves[1], halves[0], dim=1, name=name)
        else:
            join = mx.sym.elemwise_add if kind == "add" else mx.sym.elemwise_mul
            new = join(pick(), pick(), name=name)
        values.append(new)
    outputs = [values[-1]] + ([draw(st.sampled_from(values[1:-1]))] if draw(st.booleans()) else [])
    return with_values(mx.sym.Group(outputs) if len(outputs) > 1 else outputs[0], seed=draw(st.integers(0, 5)), data=(4,))


def every_layer(network):
    """What each output of each layer computes: the reference that no edit has touched."""
    graph = network.graph
    edges = tuple(Edge(name, index) for name in graph.layer_names for index in query.used_outputs(graph, name))
    found = computed(Network(Graph(graph.nodes, edges, graph.attrs), network.arg_params, network.aux_params,
                             network.input_shapes), BATCH)
    return dict(zip([edge[:2] for edge in edges], found, strict=True))


def plain_layers(network):
    """Layers with one output."""
    return [name for name in network.graph.layer_names if query.used_outputs(network.graph, name) == (0,)]


@many
@given(graphs(versions=st.integers(0, 3)))
def test_what_is_encoded_is_decoded_again(graph):
    assert codec.decode(codec.encode(graph)) == graph


@many
@given(graphs(versions=st.just(0)), st.data())
def test_remove_undoes_insert_after(graph, data):
    places = [node.name for node in graph.nodes if query.used_outputs(graph, node.name) == (0,)]
    assume(places and graph.layer_names and "the inserted" not in graph.by_name)
    longer = edit.insert_after(graph, data.draw(st.sampled_from(places)), COPY)
    assert len(longer.nodes) == len(graph.nodes) + 1
    assert edit.remove(longer, "the inserted") == graph


@few
@given(networks(), st.data())
def test_extract_and_truncate_keep_what_each_layer_computes(network, data):
    expected = every_layer(network)
    names = data.draw(st.lists(st.sampled_from(plain_layers(network)), min_size=1, max_size=3, unique=True))
    handler = ModelHandler(network).extract(names)
    assert_same(computed(handler.network, BATCH), [expected[name, 0] for name in names])
    assert_same(computed(ModelHandler(network).truncate(names[0]).network, BATCH), [expected[names[0], 0]])


@few
@given(networks(), st.data())
def test_the_part_above_a_layer_computes_on_its_values_what_it_computed(network, data):
    expected = every_layer(network)
    output = network.graph.outputs[0].node
    below = [name for name in plain_layers(network) if name in query.ancestors(network.graph, [output]) - {output}
             and "data" not in edit.extract(network.graph, [output], [name], [*network.params, "data"]).by_name]
    assume(below)
    cut = data.draw(st.sampled_from(below))
    upper = ModelHandler(network).extract(output, cut).network
    assert upper.inputs == (cut,)
    assert_same(computed(upper, {cut: expected[cut, 0]}), [expected[output, 0]])


@few
@given(networks(), st.data())
def test_an_inserted_identity_changes_nothing(network, data):
    place = data.draw(st.sampled_from([*plain_layers(network), "data"]))
    handler = ModelHandler(network)
    longer = handler.insert_after(place, mx.sym.identity(mx.sym.var("x"), name="inserted"))
    assert "inserted" in longer.layer_names
    assert_same(computed(longer.network, BATCH), computed(network, BATCH))
    assert longer.remove("inserted").network.graph == network.graph


@few
@given(networks(), st.data())
def test_a_removed_layer_is_as_an_identity_in_its_place(network, data):
    graph = network.graph
    names = [name for name in plain_layers(network)
             if len(query.data_edges(graph, graph.by_name[name], network.params)) == 1]
    assume(names and len(graph.layer_names) > 1)
    gone = data.draw(st.sampled_from(names))
    nodes = tuple(Node(gone, "_copy", {}, node.inputs[:1]) if node.name == gone else node for node in graph.nodes)
    reference = network.with_graph(Graph(nodes, graph.outputs, graph.attrs))
    shorter = ModelHandler(network).remove(gone)
    assert gone not in shorter.layer_names
    assert_same(computed(shorter.network, BATCH), computed(reference, BATCH))


@few
@given(networks(), st.data())
def test_renaming_changes_no_value(network, data):
    old = data.draw(st.sampled_from(network.graph.layer_names))
    handler = ModelHandler(network).rename(old, "renamed")
    assert "renamed" in handler.layer_names
    assert_same(computed(handler.network, BATCH), computed(network, BATCH))
    assert handler.rename("renamed", old).diff(network) == ""


@few
@given(networks())
def test_dropping_the_top_leaves_what_the_layer_below_computed(network):
    graph = network.graph
    below = query.data_edges(graph, graph.by_name[graph.outputs[0].node], network.params)
    assume(len(graph.outputs) == 1 and len(below) == 1 and below[0].node != "data")
    expected = every_layer(network)[below[0][:2]]
    assert_same(computed(ModelHandler(network).drop_layer_top().network, BATCH), [expected])


@few
@given(networks(), st.data())
def test_freezing_changes_no_value(network, data):
    until = data.draw(st.sampled_from(network.graph.layer_names))
    block = ModelHandler(network).freeze(until=until).get_block()
    assert_same(block_outputs(block, network, BATCH), computed(network, BATCH))


@pytest.mark.parametrize("seed", range(3))
def test_the_reference_itself_agrees_with_single_layers(seed):
    x = mx.sym.Activation(mx.sym.var("data"), act_type="tanh", name="a")
    network = with_values(mx.sym.FullyConnected(x, num_hidden=4, name="b"), seed=seed, data=(4,))
    found = every_layer(network)
    weight, bias = (network.params[name].asnumpy() for name in ("b_weight", "b_bias"))
    np.testing.assert_allclose(found["a", 0], np.tanh(BATCH["data"]), rtol=1e-6)
    np.testing.assert_allclose(found["b", 0], np.tanh(BATCH["data"]) @ weight.T + bias, rtol=1e-5)
