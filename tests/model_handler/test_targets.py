"""What a network becomes: a block and a Module that train and freeze, a checkpoint, an ONNX file."""


import numpy as np
import pytest
from helpers import chain_symbol, inputs_for, small_networks, with_values
from model_handler.running import assert_same, block_outputs, computed

from xfer2._mxnet import mx
from xfer2.exceptions import ModelError
from xfer2.model_handler import ModelHandler, params, targets

NETWORKS = small_networks()
RESIDUAL = NETWORKS["residual"]
IMAGES = np.random.default_rng(5).normal(size=(6, 3, 8, 8)).astype("float32")


def softmax_chain():
    return with_values(chain_symbol(softmax=True), data=(3, 8, 8))


def values_of(network):
    return {name: array.asnumpy() for name, array in network.params.items()}


def trained_by_gluon(network):
    block = targets.to_block(network)
    trainer = mx.gluon.Trainer(block.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9, "wd": 0.01})
    for _ in range(2):
        with mx.autograd.record():
            loss = (block(mx.nd.array(IMAGES)) ** 2).sum()
        loss.backward()
        trainer.step(len(IMAGES))
    return values_of(targets.from_block(network, block))


def trained_by_module(network, fixed=()):
    module = targets.to_module(network, [("data", IMAGES.shape)], [("softmax_label", (6,))], [mx.cpu()], fixed=fixed)
    module.init_optimizer(optimizer="sgd", optimizer_params={"learning_rate": 0.1, "momentum": 0.9, "wd": 0.01})
    batch = mx.io.DataBatch([mx.nd.array(IMAGES)], [mx.nd.array([0, 1, 2, 3, 4, 0])])
    for _ in range(2):
        module.forward_backward(batch)
        module.update()
    mx.nd.waitall()  # MXNet itself reads statistics too early otherwise
    arguments, states = module.get_params()
    return {name: array.asnumpy() for name, array in {**arguments, **states}.items()}


def moved(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if not np.array_equal(before[name], after[name])}


# --- freezing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("until", ["stem_relu", "add1", "gap"])
def test_what_is_frozen_stays_to_the_bit_through_gluon_and_all_else_moves(until):
    network = ModelHandler(RESIDUAL).freeze(until=until).network
    assert moved(values_of(network), trained_by_gluon(network)) == set(network.params) - network.frozen_parameters
    assert {"stem_conv_weight", "stem_bn_moving_mean", "stem_bn_moving_var"} <= network.frozen_parameters


@pytest.mark.parametrize("until", ["stem_relu", "add1", "gap"])
def test_what_is_frozen_stays_to_the_bit_through_a_module_and_all_else_moves(until):
    top = mx.sym.SoftmaxOutput(mx.sym.var("scores"), name="softmax")
    network = ModelHandler(RESIDUAL).add_layer_top(top).freeze(until=until).network
    assert moved(values_of(network), trained_by_module(network)) == set(network.params) - network.frozen_parameters


def test_without_freezing_everything_moves():
    assert moved(values_of(RESIDUAL), trained_by_gluon(RESIDUAL)) == set(RESIDUAL.params)


def test_a_frozen_network_still_gives_gradients_to_what_is_below():
    block = ModelHandler(RESIDUAL).freeze().get_block()
    images = mx.nd.array(IMAGES)
    images.attach_grad()
    with mx.autograd.record():
        loss = block(images).sum()
    loss.backward()
    assert abs(images.grad).sum().asscalar() > 0


def test_training_does_not_change_the_network_it_came_from():
    before = values_of(RESIDUAL)
    assert trained_by_gluon(RESIDUAL)["fc_weight"] is not before["fc_weight"]
    assert moved(before, values_of(RESIDUAL)) == set()


# --- block and Module ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_hybridized_block_computes_the_same(name):
    network = NETWORKS[name]
    block = targets.to_block(network)
    block.hybridize()
    assert_same(block_outputs(block, network, inputs_for(network)), computed(network))


def test_a_block_of_a_network_with_a_label_takes_data_only():
    network = softmax_chain()
    found = targets.to_block(network)(mx.nd.array(IMAGES)).asnumpy()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found, computed(network, {"data": IMAGES})[0], rtol=1e-5)


def test_missing_parameters_are_left_to_initialize_which_keeps_the_others():
    network = params.without(NETWORKS["chain"], ["fc2_weight", "fc2_bias"])
    block = targets.to_block(network)
    with pytest.raises(RuntimeError, match=r"has not been initialized"):
        block(mx.nd.array(IMAGES))
    with pytest.warns(UserWarning, match=r"already initialized"):
        block.initialize()
    assert block(mx.nd.array(IMAGES)).shape == (6, 3)
    kept = block.collect_params()["fc1_weight"].data().asnumpy()
    assert_same([kept], [network.params["fc1_weight"].asnumpy()])


def test_half_precision_stays_half_precision():
    block = targets.to_block(params.cast(NETWORKS["two inputs"], "float16"))
    assert {np.dtype(p.dtype) for p in block.collect_params().values()} == {np.dtype("float16")}


def test_a_fixed_statistic_of_a_module_does_not_move():
    network = softmax_chain()
    own = params.owned_by(network, ["bn1"])
    assert moved(values_of(network), trained_by_module(network, own)) == set(network.params) - set(own)


def test_a_module_computes_the_same():
    network = softmax_chain()
    module = targets.to_module(network, [("data", IMAGES.shape)], [("softmax_label", (6,))], [mx.cpu()], for_training=False)
    module.forward(mx.io.DataBatch([mx.nd.array(IMAGES)]), is_train=False)
    np.testing.assert_allclose(module.get_outputs()[0].asnumpy(), computed(network, {"data": IMAGES})[0], rtol=1e-5,
                               atol=1e-7)


def test_fixed_parameters_of_a_module_do_not_move():
    network = softmax_chain()
    assert moved(values_of(network), trained_by_module(network, ["fc1_weight", "fc1_bias"])) == (
        set(network.params) - {"fc1_weight", "fc1_bias"})


def test_data_that_do_not_fit_a_module_are_a_model_error():
    with pytest.raises(ModelError, match=r"cannot be bound to data of shapes"):
        targets.to_module(softmax_chain(), [("data", (2, 3, 16, 16))], [("softmax_label", (2,))], [mx.cpu()])
    with pytest.raises(ModelError, match=r"data of the names image; the network's inputs are data\..*\{'data': array\}"):
        targets.to_module(softmax_chain(), [("image", (2, 3, 8, 8))], [("softmax_label", (2,))], [mx.cpu()])


def test_a_training_block_computes_the_same_and_is_read_back():
    network = NETWORKS["residual"]
    block = targets.to_training_block(network)
    (found,), (expected,) = block_outputs(block, network, inputs_for(network)), computed(network)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert targets.from_block(network, block).graph == network.graph
