"""Every source gives the network that it holds; every wrong one says what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import chain_symbol, inputs_for, small_networks, with_values
from model_handler.running import assert_same, assert_same_parameters, block_outputs, computed, small_cnn, write_checkpoint

from xfer2._mxnet import mx
from xfer2.exceptions import ModelError, ParameterError
from xfer2.model_handler import ModelHandler, Network, sources

NETWORKS = small_networks()
IMAGES = np.random.default_rng(2).normal(size=(2, 3, 8, 8)).astype("float32")
POINTS = np.random.default_rng(3).normal(size=(4, 3)).astype("float32")


def chain():
    return with_values(chain_symbol(softmax=True), data=(3, 8, 8))


class TwoInputs(mx.gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        self.left, self.right = mx.gluon.nn.Dense(4, in_units=3), mx.gluon.nn.Dense(4, in_units=3)

    def hybrid_forward(self, F, a, b):
        return F.tanh(self.left(a)) - self.right(b)


class SharedActivation(mx.gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first, self.second = mx.gluon.nn.Dense(4, in_units=3), mx.gluon.nn.Dense(2, in_units=4)
            self.activation = mx.gluon.nn.Activation("relu")

    def hybrid_forward(self, F, x):
        return self.activation(self.second(self.activation(self.first(x))))


class WithMean(mx.gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.mean = self.params.get_constant("mean", mx.nd.array([[[0.5]], [[0.4]], [[0.3]]]))
            self.body = mx.gluon.nn.HybridSequential()
            self.body.add(mx.gluon.nn.Conv2D(4, 3), mx.gluon.nn.BatchNorm(), mx.gluon.nn.BatchNorm(scale=False),
                          mx.gluon.nn.BatchNorm(scale=False, center=False), mx.gluon.nn.Dense(2))

    def hybrid_forward(self, F, x, mean):
        return self.body(F.broadcast_sub(x, mean, name="centre"))


class Eager(mx.gluon.Block):
    def forward(self, x):
        return mx.nd.array(x.asnumpy() + 1)


# --- Module -------------------------------------------------------------------------------------------------------


def bound_module(network):
    module = mx.mod.Module(ModelHandler(network).symbol, label_names=["softmax_label"])
    module.bind(data_shapes=[("data", (2, 3, 8, 8))], label_shapes=[("softmax_label", (2,))])
    module.set_params(dict(network.arg_params), dict(network.aux_params))
    return module


def test_a_bound_module_gives_parameters_and_shapes():
    network = sources.read(bound_module(chain()))
    assert_same_parameters(network, chain())
    assert network.input_shapes == {"data": (3, 8, 8)}
    assert network.labels == ("softmax_label",)


def test_an_unbound_module_has_no_values():
    network = sources.read(mx.mod.Module(chain_symbol(softmax=True), label_names=["softmax_label"]))
    assert network.params == {}
    assert network.input_shapes == {}
    assert "conv1_weight" in network.missing


def test_a_loaded_module_gives_its_parameters_before_and_after_it_is_bound(tmp_path):
    module = mx.mod.Module.load(write_checkpoint(chain(), tmp_path / "net"), 0, label_names=["softmax_label"])
    assert_same_parameters(sources.read(module), chain())
    module.bind(data_shapes=[("data", (5, 3, 8, 8))], label_shapes=[("softmax_label", (5,))], for_training=False)
    assert_same_parameters(sources.read(module), chain())
    assert sources.read(module).input_shapes == {"data": (3, 8, 8)}


def test_a_module_computes_what_its_network_computes():
    module = bound_module(chain())
    module.forward(mx.io.DataBatch([mx.nd.array(IMAGES)], [mx.nd.zeros(2)]), is_train=False)
    np.testing.assert_allclose(computed(sources.read(module), {"data": IMAGES})[0], module.get_outputs()[0].asnumpy(),
                               rtol=1e-5)


# --- Gluon --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize("called", [False, True])
def test_a_sequential_block(hybridized, called):
    block = small_cnn()
    if hybridized:
        block.hybridize()
    if called:
        block(mx.nd.array(IMAGES))
    network = sources.read(block)
    assert network.missing == ()
    assert network.inputs == ("data",)
    np.testing.assert_allclose(computed(network, {"data": IMAGES})[0], block(mx.nd.array(IMAGES)).asnumpy(), rtol=1e-5,
                               atol=1e-6)


def test_a_block_of_which_not_all_shapes_are_known_yet():
    block = mx.gluon.nn.HybridSequential()
    block.add(mx.gluon.nn.Dense(4, in_units=3), mx.gluon.nn.Dense(2))
    block.initialize()
    network = sources.read(block)
    assert len(network.params) == 3
    assert [name.split("_")[-1] for name in network.missing] == ["weight"]


@pytest.mark.parametrize("hybridized", [False, True])
def test_a_block_of_two_arguments(hybridized):
    block = TwoInputs()
    block.initialize()
    arrays = [mx.nd.array(POINTS), mx.nd.array(POINTS * 2)]
    if hybridized:
        block.hybridize()
        block(*arrays)
    network = sources.read(block)
    assert network.inputs == ("data0", "data1")
    found = computed(network, {"data0": POINTS, "data1": POINTS * 2})[0]
    np.testing.assert_allclose(found, block(*arrays).asnumpy(), rtol=1e-5, atol=1e-7)


class Crossed(mx.gluon.HybridBlock):
    """Uses its second argument first."""

    def hybrid_forward(self, F, x, y):
        return F.broadcast_sub(F.sqrt(y), x)


@pytest.mark.parametrize("hybridized", [False, True])
def test_inputs_are_in_the_order_of_a_blocks_arguments(hybridized, tmp_path):
    block, arrays = Crossed(), [POINTS, np.square(POINTS) + 1]
    if hybridized:
        block.hybridize()
        block(*map(mx.nd.array, arrays))
    expected = np.sqrt(arrays[1]) - arrays[0]
    ModelHandler(block).save(str(tmp_path / "saved"))
    for handler in (ModelHandler(block), ModelHandler(str(tmp_path / "saved"))):
        (last,) = (edge.node for edge in handler.network.graph.outputs)
        np.testing.assert_allclose(handler.features(tuple(arrays), last)[last], expected, rtol=1e-5)
        np.testing.assert_allclose(handler.get_block()(*map(mx.nd.array, arrays)).asnumpy(), expected, rtol=1e-5)


def test_an_activation_called_twice_becomes_two_layers():
    block = SharedActivation()
    block.initialize(mx.init.Normal(1))
    network = sources.read(block)
    first = network.graph.layer_names[1]
    assert first.endswith("relu0_fwd")
    assert network.graph.layer_names[3] == f"{first}_1"
    expected = block(mx.nd.array(POINTS)).asnumpy()
    np.testing.assert_allclose(computed(network, {"data": POINTS})[0], expected, rtol=1e-5)
    lower = ModelHandler(network).truncate(first).network
    assert computed(lower, {"data": POINTS})[0].shape == (4, 4)


@pytest.mark.filterwarnings("ignore:Cannot decide type")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_symbol_block(name, tmp_path):
    network = NETWORKS[name]
    prefix = write_checkpoint(network, tmp_path / "net")
    block = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", list(network.inputs), f"{prefix}-0000.params")
    assert_same_parameters(sources.read(block), network)
    assert_same(computed(sources.read(block), inputs_for(network)), computed(network))


def requests_of(block):
    return {name: p.grad_req for name, p in block.collect_params().items()}


@pytest.mark.filterwarnings("ignore:Constant parameter")
@pytest.mark.parametrize("held", [(), (0,), (1,), (2,), (0, 1, 2, 4)])
def test_what_a_block_does_not_train_is_frozen(held):
    block = WithMean()
    block.initialize()
    block(mx.nd.array(IMAGES))
    for number in held:
        block.body[number].collect_params().setattr("grad_req", "null")
    network = sources.read(block)
    centre, *layers = network.graph.layer_names
    assert network.frozen == {centre, *(layers[number] for number in held)}
    again = ModelHandler(network).get_block()
    before, after = requests_of(block), requests_of(again)
    told = [name for name, p in block.collect_params().items() if p._differentiable]
    assert [after[name] for name in told] == [before[name] for name in told]
    assert sources.read(again).frozen == network.frozen


def test_a_block_of_which_all_is_trained_or_only_a_bias_is_not_has_nothing_frozen():
    block = small_cnn()
    assert sources.read(block).frozen == frozenset()
    next(p for name, p in block.collect_params().items() if name.endswith("bias")).grad_req = "null"
    assert sources.read(block).frozen == frozenset()


def test_an_lstm_that_a_block_does_not_train_is_frozen_whole():
    block = mx.gluon.nn.HybridSequential()
    block.add(mx.gluon.rnn.LSTM(4, layout="NTC"), mx.gluon.nn.Dense(3))
    block.initialize()
    block(mx.nd.zeros((2, 5, 2)))
    block[0].collect_params().setattr("grad_req", "null")
    network = sources.read(block)
    (layer,) = ModelHandler(network).get_layer_names_matching_type("RNN")
    assert layer in network.frozen
    assert network.frozen_parameters == set(block[0].collect_params())


def test_a_block_that_is_not_hybridizable_says_so():
    with pytest.raises(ModelError, match=r"The block Eager cannot be traced.*Only hybridizable blocks can"):
        sources.read(Eager())


# --- symbols, names, other ----------------------------------------------------------------------------------------


def test_a_symbol_with_its_parameters():
    network = chain()
    symbol = ModelHandler(network).symbol
    assert_same_parameters(sources.read((symbol, network.arg_params, network.aux_params)), network)
    assert_same_parameters(sources.read((symbol, dict(network.params))), network)
    assert sources.read(symbol).params == {}


def test_a_parameter_of_another_shape_is_found_when_read(tmp_path):
    network = chain()
    wrong = Network(network.graph, {**network.arg_params, "fc1_weight": mx.nd.zeros((6, 63))}, network.aux_params)
    prefix = write_checkpoint(wrong, tmp_path / "net")
    Path(f"{prefix}-preprocessing.json").write_text('{"input_shape": [3, 8, 8]}')
    with pytest.raises(ModelError, match=r"shapes of the network contradict each other: Error in operator fc1"):
        sources.read(prefix)


def test_a_parameter_that_is_no_ndarray():
    with pytest.raises(ParameterError, match=r"the parameter 'fc1_bias' must be an mx.nd.NDArray"):
        sources.read((chain_symbol(), {"fc1_bias": np.zeros(6)}, {}))


def test_a_network_and_a_handler_are_read_as_they_are():
    network = chain()
    assert sources.read(network) is network
    assert sources.read(ModelHandler(network)) is network


def test_the_zoo():
    assert "mnist-cnn" in sources.zoo_names()
    network = sources.read("zoo:mnist-cnn")
    assert network.missing == ()
    assert network.preprocessing.input_shape == (1, 28, 28)
    assert {array.dtype for array in network.params.values()} == {np.float32}


def test_unknown_zoo_names_list_the_known():
    with pytest.raises(ParameterError, match=r"The zoo has no network 'mnist'. It has: .*mnist-cnn"):
        sources.read("zoo:mnist")


def test_unknown_gluoncv_names_list_the_nearest():
    with pytest.raises(ParameterError, match=r"gluoncv has no model 'resnet50_v9'. Nearest: resnet50_v"):
        sources.read("gluoncv:resnet50_v9")


@pytest.mark.parametrize("model", [None, 3, [], (1, 2), {"symbol": 1}, ("a", "b", "c")])
def test_what_is_no_model_is_an_error_that_lists_what_is(model):
    with pytest.raises(ParameterError, match=r"ModelHandler: model must be a Module, a Gluon block, a checkpoint prefix"):
        sources.read(model)


def older_form(symbol, key, version):
    document = json.loads(symbol.tojson())
    for node in document["nodes"]:
        node[key] = node.pop("attrs", {})
        node["inputs"] = [edge[:2] for edge in node["inputs"]]
        if node["op"] == "BatchNorm" and version is None:
            node["inputs"] = node["inputs"][:3]  # statistics were no inputs before 0.9
    document["heads"] = [edge[:2] for edge in document["heads"]]
    document["attrs"] = {} if version is None else {"mxnet_version": ["int", version]}
    return json.dumps(document if version else {k: v for k, v in document.items() if k != "attrs"})


@pytest.mark.parametrize(("key", "version"), [("param", None), ("attr", 905), ("attr", 1100), ("attrs", 10200)])
def test_symbols_of_older_versions(key, version, tmp_path):
    network = with_values(chain_symbol(), data=(3, 8, 8))
    prefix = write_checkpoint(network, tmp_path / "net")
    Path(f"{prefix}-symbol.json").write_text(older_form(chain_symbol(), key, version))
    found = sources.read(prefix)
    assert_same_parameters(found, network)
    assert_same(computed(found, {"data": IMAGES}), computed(network, {"data": IMAGES}))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("form", ["network", "triple", "checkpoint", "block"])
def test_from_any_source_to_a_block_bit_for_bit(name, form, tmp_path):
    network = NETWORKS[name]
    source = {"network": lambda: network,
              "triple": lambda: (ModelHandler(network).symbol, network.arg_params, network.aux_params),
              "checkpoint": lambda: write_checkpoint(network, tmp_path / "net"),
              "block": lambda: ModelHandler(network).get_block()}[form]()
    inputs = inputs_for(network)
    assert_same(block_outputs(ModelHandler(source).get_block(), network, inputs), computed(network, inputs))
