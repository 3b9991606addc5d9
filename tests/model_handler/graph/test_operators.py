"""The table of what operators read, beside the names that MXNet itself gives to their inputs."""

import json

import pytest

from xfer2._mxnet import mx
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import operators

WINDOW, LENGTHS = {"kernel": "(1, 1)", "num_filter": "1", "no_bias": "False"}, {"use_sequence_length": "True"}
NEEDED = {  # attributes without which MXNet makes no such operator, or gives it fewer inputs
    "Convolution": WINDOW, "Convolution_v1": WINDOW, "Deconvolution": WINDOW, "_contrib_DeformableConvolution": WINDOW,
    "_contrib_ModulatedDeformableConvolution": WINDOW, "SequenceLast": LENGTHS, "SequenceMask": LENGTHS,
    "SequenceReverse": LENGTHS, "FullyConnected": {"num_hidden": "1"}, "Embedding": {"input_dim": "2", "output_dim": "2"},
    "one_hot": {"depth": "2"}, "LeakyReLU": {"act_type": "prelu"}, "softmax": {"use_length": "True"},
    "_contrib_SyncBatchNorm": {"key": "bn"}, "RNN": {"mode": "gru", "state_size": "2", "num_layers": "1"}}
IN_MXNET = {"slope": {"gamma"}, "row": {"indices", "data"}, "length": {"length", "sequence_length"}}


@pytest.mark.parametrize("op", sorted(operators._READS))
def test_the_table_says_what_mxnet_calls_the_inputs_of_an_operator(op):
    text = json.dumps({"nodes": [{"op": op, "name": "layer", "attrs": NEEDED.get(op, {}), "inputs": []}],
                       "arg_nodes": [], "heads": [[0, 0, 0]], "attrs": {"mxnet_version": ["int", 10901]}})
    names = [name.removeprefix("layer_") for name in mx.sym.load_json(text)(name="layer").list_inputs()]
    for position, name in enumerate(names):
        role = operators.role(op, position)
        if role is None:
            assert name not in operators.PARAMETERS | {"label", "indices", "length", "sequence_length"}
        else:
            assert name in IN_MXNET.get(role, {role})
    assert max(operators._READS[op]) < len(names)


def test_the_input_of_a_role():
    data, long = mx.sym.var("data"), mx.sym.var("long")
    masked = mx.sym.SequenceMask(data, long, use_sequence_length=True, name="masked")
    graph = symbols.from_symbol(mx.sym.SequenceMask(masked, name="unmasked"))
    assert operators.input_of(graph.by_name["masked"], operators.ROW, operators.LENGTH).node == "long"
    assert operators.input_of(graph.by_name["masked"], operators.ROW) is None
    assert operators.input_of(graph.by_name["unmasked"], operators.LENGTH) is None
    assert operators.role(None, 0) is None
