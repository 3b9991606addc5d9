"""Symbol JSON <-> Graph: every form that MXNet wrote, and what is none of them."""

import json

import pytest
from helpers import chain_symbol

from xfer2._mxnet import mx
from xfer2.exceptions import ModelError
from xfer2.model_handler.graph import codec
from xfer2.model_handler.graph.model import Edge


def document(*nodes, heads=None, **others):
    raw = [{"op": op, "name": name, "inputs": inputs} for op, name, inputs in nodes]
    return {"nodes": raw, "heads": [[len(raw) - 1, 0, 0]] if heads is None else heads, **others}


def decoded(*nodes, **others):
    return codec.decode(json.dumps(document(*nodes, **others)))


DATA, RELU = ("null", "data", []), ("relu", "act", [[0, 0, 0]])


def test_decodes_what_mxnet_writes():
    graph = codec.decode(chain_symbol().tojson())
    assert graph.layer_names == ("conv1", "bn1", "relu1", "pool1", "conv10", "flat", "fc1", "fc2")
    assert graph.by_name["conv1"].inputs == (Edge("data"), Edge("conv1_weight"), Edge("conv1_bias"))
    assert graph.by_name["relu1"].attrs == {"act_type": "relu"}
    assert codec.written_by(graph) == 10901


def test_mxnet_reads_what_is_encoded():
    symbol = chain_symbol()
    again = mx.sym.load_json(codec.encode(codec.decode(symbol.tojson())))
    assert again.tojson() == symbol.tojson()


def test_operators_that_share_a_name_are_numbered():
    graph = decoded(DATA, RELU, ("relu", "act", [[1, 0, 0]]), ("relu", "act_1", [[2, 0, 0]]), ("relu", "act", [[3, 0, 0]]))
    assert graph.layer_names == ("act", "act_2", "act_1", "act_3")
    assert [graph.by_name[name].inputs[0].node for name in graph.layer_names] == ["data", "act", "act_2", "act_1"]


def test_variables_that_share_a_name_are_one():
    graph = decoded(DATA, ("null", "data", []), ("elemwise_add", "sum", [[0, 0, 0], [1, 0, 0]]))
    assert graph.variable_names == ("data",)
    assert graph.by_name["sum"].inputs == (Edge("data"), Edge("data"))


@pytest.mark.parametrize("key", ["param", "attr", "attrs"])
def test_attributes_under_the_key_of_any_version(key):
    raw = document(DATA, ("Activation", "act", [[0, 0]]), heads=[[1, 0]])
    raw["nodes"][1][key] = {"act_type": "tanh"}
    node = codec.decode(json.dumps(raw)).by_name["act"]
    assert node.attrs == {"act_type": "tanh"}
    assert node.inputs == (Edge("data"),)


def test_names_beyond_ascii_reach_mxnet():
    symbol = mx.sym.FullyConnected(mx.sym.var("données"), num_hidden=2, name="größe")
    graph = codec.decode(symbol.tojson())
    assert graph.layer_names == ("größe",)
    assert mx.sym.load_json(codec.encode(graph)).list_arguments() == ["données", "größe_weight", "größe_bias"]


def test_control_flow_bodies_survive():
    data, state = mx.sym.var("data"), mx.sym.var("state")
    outputs, _ = mx.sym.contrib.foreach(lambda x, s: (x + s[0], [x + s[0]]), data, [state])
    graph = codec.decode(outputs.tojson())
    assert codec.decode(codec.encode(graph)) == graph
    loop = mx.sym.load_json(codec.encode(graph))
    result = loop.eval(data=mx.nd.array([[1.0], [2.0]]), state=mx.nd.array([10.0]))[0]
    assert result.asnumpy().ravel().tolist() == [11.0, 13.0]


@pytest.mark.parametrize("version", [None, "1.9", ["str", "x"], ["int", "10901"], 5])
def test_a_version_that_is_not_told_is_zero(version):
    others = {} if version is None else {"attrs": {"mxnet_version": version}}
    assert codec.written_by(decoded(DATA, RELU, **others)) == 0


@pytest.mark.parametrize("text", ["", "{", "nodes", "\x00", "[" * 100_000])
def test_no_json_is_an_error(text):
    with pytest.raises(ModelError, match=r"not valid JSON"):
        codec.decode(text)


@pytest.mark.parametrize("text", ["1", "[]", "{}", '{"nodes": {}}', '{"nodes": []}', '{"nodes": [], "heads": []}',
                                  '{"nodes": [], "heads": 3}'])
def test_json_that_is_no_symbol_is_an_error(text):
    with pytest.raises(ModelError, match=r"no MXNet symbol"):
        codec.decode(text)


@pytest.mark.parametrize("edge", [[5, 0, 0], [2, 0, 0], [1, 0, 0]], ids=["beyond", "forward", "itself"])
def test_an_edge_to_a_later_node_is_an_error(edge):
    with pytest.raises(ModelError, match=rf"node 1 \('act'\) points to node {edge[0]}, which does not come before it"):
        decoded(DATA, ("relu", "act", [edge]), ("relu", "last", [[1, 0, 0]]))


@pytest.mark.parametrize("edge", [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0], [], [0, 0, 0, 0], 0, "0", None, [0.0, 0, 0],
                                  [True, 0, 0], ["data", 0, 0], {"node": 0}])
def test_an_edge_of_another_form_is_an_error_that_shows_it(edge):
    with pytest.raises(ModelError, match=r"An edge of node 1 \('act'\) must be \[node, output\]") as caught:
        decoded(DATA, ("relu", "act", [edge]))
    assert repr(edge) in str(caught.value)


def test_a_bad_edge_among_the_outputs_says_so():
    with pytest.raises(ModelError, match=r"the outputs \('heads'\) points to node 9"):
        decoded(DATA, RELU, heads=[[9, 0, 0]])


@pytest.mark.parametrize("heads", [[[0, 7, 0]], [[1, 0, 0], [0, 1, 0]]])
def test_a_variable_has_one_output(heads):
    with pytest.raises(ModelError, match=r"takes output [17] of 'data', which does not exist"):
        decoded(DATA, RELU, heads=heads)


@pytest.mark.parametrize(("node", "message"), [
    (3, "Node 1 of the symbol has no 'name' and 'op'"),
    ({"op": "relu", "inputs": []}, "Node 1 of the symbol has no 'name' and 'op'"),
    ({"op": 1, "name": "a"}, "Node 1 of the symbol has no 'name' and 'op'"),
    ({"op": "relu", "name": "", "inputs": []}, "empty name"),
    ({"op": "relu", "name": "a", "inputs": 3}, r"inputs of node 1 \('a'\) must be a list"),
    ({"op": "null", "name": "a", "inputs": [[0, 0, 0]]}, "a variable has none"),
    ({"op": "relu", "name": "a", "attrs": {"x": 1}}, r"attributes of node 1 \('a'\) must be an object of texts"),
    ({"op": "relu", "name": "a", "param": []}, r"attributes of node 1 \('a'\) must be an object of texts"),
    ({"op": "relu", "name": "a", "subgraphs": "x"}, r"subgraphs of node 1 \('a'\) must be a list"),
    ({"op": "relu", "name": "a", "subgraphs": [{}]}, "no MXNet symbol"),
])
def test_a_malformed_node_is_an_error_that_names_it(node, message):
    raw = document(DATA, heads=[[0, 0, 0]])
    raw["nodes"].append(node)
    with pytest.raises(ModelError, match=message):
        codec.decode(json.dumps(raw))


def test_graph_attributes_must_be_an_object():
    with pytest.raises(ModelError, match=r"'attrs' must be an object"):
        decoded(DATA, RELU, attrs=[1])
