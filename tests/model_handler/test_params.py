"""Which parameters a layer owns, which are missing, and new values for some."""

import numpy as np
import pytest
from helpers import chain_symbol, small_networks, with_values

from xfer2._mxnet import mx
from xfer2.exceptions import LayerNotFoundError, MissingParametersError, ModelError
from xfer2.model_handler import ModelHandler, Network, params, sources
from xfer2.model_handler.graph.model import Edge, Graph, Node

NETWORKS = small_networks()


def bare(name="chain"):
    network = NETWORKS[name]
    return Network(network.graph, input_shapes=network.input_shapes)


def test_a_layer_owns_what_its_edges_say():
    assert params.owned_by(NETWORKS["chain"], ["conv1"]) == ("conv1_weight", "conv1_bias")
    assert params.owned_by(NETWORKS["chain"], ["fc2", "bn1"]) == (
        "bn1_gamma", "bn1_beta", "bn1_moving_mean", "bn1_moving_var", "fc2_weight", "fc2_bias")
    with pytest.raises(LayerNotFoundError, match=r"'conv' is not in the network"):
        params.owned_by(NETWORKS["chain"], ["conv"])


def test_missing_values_are_an_error_that_counts_and_names_them():
    params.require_values(NETWORKS["chain"], "save")
    with pytest.raises(MissingParametersError, match=r"save needs values for all parameters; 12 of 12 have none: "
                                                     r"conv1_weight, .*, \.\.\.\. .*reinitialize"):
        params.require_values(bare(), "save")


def test_values_are_filed_as_arguments_or_statistics():
    network = params.with_params(bare(), NETWORKS["chain"].params)
    assert set(network.aux_params) == {"bn1_moving_mean", "bn1_moving_var"}
    assert "bn1_gamma" in network.arg_params


def test_without_takes_values_of_both_kinds():
    network = params.without(NETWORKS["chain"], ["bn1_moving_mean", "fc2_bias"])
    assert network.missing == ("bn1_moving_mean", "fc2_bias")
    assert NETWORKS["chain"].missing == ()


def test_cast_changes_all_types():
    network = params.cast(NETWORKS["chain"], "float16")
    assert {array.dtype for array in network.params.values()} == {np.float16}


def test_initial_values_by_the_part_that_a_parameter_plays():
    network = params.initialize(bare(), seed=3)
    values = {name: array.asnumpy() for name, array in network.params.items()}
    assert network.missing == ()
    assert not values["fc1_bias"].any()
    assert not values["bn1_moving_mean"].any()
    assert (values["bn1_gamma"] == 1).all()
    assert (values["bn1_moving_var"] == 1).all()
    assert values["fc1_weight"].std() == pytest.approx(np.sqrt(2 / 64), rel=0.2)


def test_the_same_seed_draws_the_same_values():
    first, second, other = (params.initialize(bare(), seed=seed).params["fc1_weight"].asnumpy() for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_only_the_named_are_drawn_and_by_default_the_missing():
    network = params.without(NETWORKS["chain"], ["fc1_weight"])
    filled = params.initialize(network, seed=0)
    assert all(filled.params[name] is array for name, array in network.params.items())
    again = params.initialize(filled, ["fc2_weight"], seed=0)
    assert again.params["fc1_weight"] is filled.params["fc1_weight"]
    assert (again.params["fc2_weight"] != filled.params["fc2_weight"]).asnumpy().any()
    assert params.initialize(NETWORKS["chain"]) is NETWORKS["chain"]


def test_an_initializer_of_ones_own():
    network = params.initialize(bare(), initializer=mx.init.Constant(7))
    assert (network.params["fc1_weight"].asnumpy() == 7).all()


def test_a_variable_that_names_its_initializer_is_drawn_by_it():
    weight = mx.sym.var("w", init=mx.init.Constant(5))
    dense = mx.sym.FullyConnected(mx.sym.var("data"), weight=weight, no_bias=True, num_hidden=2, name="fc")
    network = Network(sources.read(dense).graph, input_shapes={"data": (3,)})
    assert (params.initialize(network).params["w"].asnumpy() == 5).all()


def test_a_shape_that_does_not_follow_is_an_error_with_the_remedy():
    with pytest.raises(ModelError, match=r"shape of 'conv1_weight' does not follow.*infer_shapes\(data=\(3, 224, 224\)\)"):
        params.initialize(sources.read(chain_symbol()))


def test_an_initializer_that_cannot_draw_a_shape():
    network = with_values(mx.sym.broadcast_add(mx.sym.var("data"), mx.sym.var("offset_weight", shape=(4,)), name="shift"),
                          data=(4,), offset_weight=(4,))
    network = Network(network.graph, {"offset_weight": mx.nd.zeros((4,))}, input_shapes={"data": (4,)})
    with pytest.raises(ModelError, match=r"No initial value can be drawn for 'offset_weight' of shape \(4,\)"):
        params.initialize(network, ["offset_weight"])


def test_a_weight_computed_of_parameters_belongs_to_its_layer():
    scaled = mx.sym.broadcast_mul(mx.sym.var("w"), mx.sym.var("g"), name="scaled")
    x = mx.sym.FullyConnected(mx.sym.var("data"), weight=scaled, num_hidden=3, name="fc")
    values = {"w": mx.nd.ones((3, 5)), "g": mx.nd.ones((3, 1)), "fc_bias": mx.nd.zeros(3)}
    network = sources.read((mx.sym.elemwise_add(x, mx.sym.identity(x, name="same"), name="sum"), values))
    assert params.owned_by(network, ["fc"]) == ("w", "g", "fc_bias")
    assert params.owned_by(network, ["sum"]) == ()
    assert ModelHandler(network).freeze("fc").network.frozen_parameters == {"w", "g", "fc_bias"}


def test_the_parameters_of_a_gluon_lstm_are_frozen_with_it():
    block = mx.gluon.nn.HybridSequential()
    block.add(mx.gluon.rnn.LSTM(4, layout="NTC"), mx.gluon.nn.Dense(3))
    block.initialize()
    block(mx.nd.zeros((2, 5, 2)))
    handler = ModelHandler(block)
    (layer,) = handler.get_layer_names_matching_type("RNN")
    requests = {name: p.grad_req for name, p in handler.freeze(layer).get_block().collect_params().items()}
    assert {name for name, request in requests.items() if request == "null"} == {name for name in requests if "lstm" in name}
    assert any("dense" in name for name in requests)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_new_values_are_of_the_others_type(dtype):
    network = params.cast(NETWORKS["chain"], dtype)
    drawn = ModelHandler(network).reinitialize("fc1", seed=0).replace_head(4, seed=0).network
    assert {np.dtype(array.dtype).name for array in drawn.params.values()} == {dtype}


def foreign_network():
    """Layers of most kinds with parameters, under names as PyTorch's exporter gives them."""
    def layer(name, op, attrs, below, *parameters):
        nodes.extend(Node(parameter) for parameter in parameters)
        nodes.append(Node(name, op, attrs, [Edge(below), *map(Edge, parameters)]))

    nodes = [Node("x")]
    layer("conv", "Convolution", {"num_filter": "4", "kernel": "(3, 3)"}, "x", "c.w0", "onnx::Conv_2")
    layer("bn", "BatchNorm", {"fix_gamma": "False"}, "conv", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    layer("prelu", "LeakyReLU", {"act_type": "prelu"}, "bn", "p.weight")
    layer("up", "Deconvolution", {"num_filter": "2", "kernel": "(1, 1)", "no_bias": "False"}, "prelu", "up.w", "up.b")
    layer("gn", "GroupNorm", {"num_groups": "1"}, "up", "gn.weight", "gn.bias")
    layer("flat", "Flatten", {}, "gn")
    layer("ln", "LayerNorm", {}, "flat", "ln.weight", "ln.bias")
    layer("fc", "FullyConnected", {"num_hidden": "5", "no_bias": "True"}, "ln", "onnx::MatMul_12")
    layer("sum", "broadcast_add", {}, "fc", "onnx::Add_3")
    return Network(Graph(tuple(nodes), (Edge("sum"),)), {"onnx::Add_3": mx.nd.ones(5)}, input_shapes={"x": (3, 4, 4)})


def test_new_values_go_by_the_layer_that_reads_them_whatever_their_names():
    names = [name for name in foreign_network().graph.variable_names if name != "x"]
    drawn = params.initialize(foreign_network(), names, seed=0)
    values = {name: array.asnumpy() for name, array in drawn.params.items()}
    constant = {name: value for name, (value, *rest) in ((n, np.unique(v)) for n, v in values.items()) if not rest}
    assert constant == {"onnx::Conv_2": 0, "bn.weight": 1, "bn.bias": 0, "bn.running_mean": 0, "bn.running_var": 1,
                        "p.weight": 0.25, "up.b": 0, "gn.weight": 1, "gn.bias": 0, "ln.weight": 1, "ln.bias": 0,
                        "onnx::Add_3": 0}
    assert set(values) - set(constant) == {"c.w0", "up.w", "onnx::MatMul_12"}
    ones = params.initialize(foreign_network(), ["c.w0", "bn.bias"], mx.init.Constant(7), seed=0).params
    assert (ones["c.w0"].asnumpy() == 7).all()
    assert not ones["bn.bias"].asnumpy().any()
    loaded = params.initialize(foreign_network(), ["c.w0"], mx.init.Load({"c.w0": mx.nd.full((4, 3, 3, 3), 2)}))
    assert (loaded.params["c.w0"].asnumpy() == 2).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_names_of_mxnet_are_drawn_as_mxnet_draws_them_to_the_bit(name):
    network = bare(name)
    drawn = params.initialize(network, seed=5).params
    mx.random.seed(5)
    fill = mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
    for parameter in network.missing:
        expected = mx.nd.zeros(drawn[parameter].shape)
        fill(mx.init.InitDesc(parameter, dict(network.graph.by_name[parameter].attrs)), expected)
        np.testing.assert_array_equal(drawn[parameter].asnumpy(), expected.asnumpy())


def test_a_parameter_of_two_parts_is_drawn_by_its_name():
    weight = mx.sym.var("tied_weight")
    x = mx.sym.FullyConnected(mx.sym.var("data"), weight=weight, no_bias=True, num_hidden=4, name="fc")
    network = sources.read(mx.sym.broadcast_add(x, mx.sym.mean(mx.sym.abs(weight)), name="shift"))
    drawn = params.initialize(Network(network.graph, {"tied_weight": mx.nd.ones((4, 4))}), ["tied_weight"], seed=0)
    assert np.unique(drawn.params["tied_weight"].asnumpy()).size == 16
