"""Layer pairs of chains, residual networks and unrolled recurrent layers."""

import pytest
from helpers import chain_symbol, residual_symbol

from xfer2._mxnet import mx
from xfer2.exceptions import ModelError
from xfer2.model_handler import sources
from xfer2.model_handler.graph import edit
from xfer2.model_handler.graph.pairs import find_pairs


def pairs_of(symbol, top, **more):
    network = sources.read(symbol)
    graph = edit.truncate(network.graph, top)
    return {pair.name: pair.ends for pair in find_pairs(graph, network.parameter_names, **more)}


def test_normalisation_activation_and_pooling_are_carried_along():
    assert pairs_of(chain_symbol(), "fc1") == {"conv1": ("pool1",), "conv10": ("flat",), "fc1": ("fc1",)}


def test_what_more_than_one_layer_reads_is_not_carried():
    found = pairs_of(residual_symbol(), "flat")
    assert found["stem_conv"] == ("stem_relu",)
    assert found["a_conv"] == ("a_relu",)
    assert found["projection"] == ("projection",)
    assert list(found) == ["stem_conv", "a_conv", "projection", "b_conv"]


def test_steps_that_share_a_weight_are_one_recurrent_pair_of_states():
    network = sources.read("zoo:mnist-rnn")
    graph = edit.truncate(network.graph, "step27_tanh")
    (pair,) = find_pairs(graph, network.parameter_names)
    assert pair.is_recurrent
    assert pair.name == "h2h_weight"
    assert pair.ends == tuple(f"step{step}_tanh" for step in range(28))


def test_pairs_may_be_named():
    assert list(pairs_of(chain_symbol(), "fc1", named=["conv10"])) == ["conv10"]
    with pytest.raises(ModelError, match=r"stitch: 'conv2' is no layer pair of the source. They are: conv1, conv10, fc1"):
        pairs_of(chain_symbol(), "fc1", named=["conv2"], owner="stitch")


def test_a_source_without_layers_of_weights_has_none():
    with pytest.raises(ModelError, match="the source has no layer pairs"):
        pairs_of(mx.sym.Pooling(mx.sym.var("data"), kernel=(2, 2), pool_type="max", name="pool"), "pool")
