"""Activation maximisation climbs the activation it was asked for, and leaves the network alone."""

import numpy as np
import pytest
from helpers import chain_symbol, small_networks, two_input_symbol, with_values

from xfer2._mxnet import mx
from xfer2.exceptions import LayerNotFoundError, MissingParametersError, ModelError, ParameterError
from xfer2.features.engines.mxnet import MxnetEngine
from xfer2.features.extractor import pruned
from xfer2.features.filters import maximise_activation
from xfer2.model_handler import ModelHandler, sources
from xfer2.model_handler.network import Network

NETWORKS = small_networks()


def own_activation(network, layer, images, channels):
    """Each image's own channel's mean activation, by the engine."""
    (output,) = MxnetEngine(pruned(network, (layer,)))({"data": images.astype("float32")})
    output = output.reshape(*output.shape[:2], -1).mean(axis=2)
    return output[np.arange(len(images)), channels].copy()


def dropped(symbol):
    """A Dropout in the middle, which must not act."""
    return mx.sym.FullyConnected(mx.sym.Dropout(symbol, p=0.5, name="drop"), num_hidden=3, name="top")


@pytest.mark.parametrize(("name", "layer"), [("chain", "conv1"), ("chain", "pool1"), ("chain", "conv10"), ("chain", "fc2"),
                                             ("residual", "add2"), ("residual", "fc")])
def test_one_step_goes_along_the_gradient_of_finite_differences(name, layer):
    network, channels, small = NETWORKS[name], [2, 0], 1e-2
    (start, other), (end, _) = (maximise_activation(network, layer, channels, steps=steps, radius=0)
                                for steps in (0, 1))
    np.testing.assert_array_equal(start, other)
    step = (end - start).ravel()
    moved = start[None] + small * np.eye(start.size).reshape(-1, *start.shape)
    back = start[None] - small * np.eye(start.size).reshape(-1, *start.shape)
    forward, backward = (own_activation(network, layer, images, [2] * start.size) for images in (moved, back))
    gradient = forward - backward
    expected = 0.01 * gradient / np.sqrt(np.mean(gradient ** 2))
    assert np.linalg.norm(step - expected) < 0.03 * np.linalg.norm(expected)


@pytest.mark.parametrize("layer", ["relu1", "relu2", "dense0"])
def test_the_activation_rises_far_above_that_of_the_start(layer):
    network, channels = sources.read("zoo:mnist-cnn"), [0, 5, 7]
    before, after = (own_activation(network, layer, maximise_activation(network, layer, channels, steps=steps), channels)
                     for steps in (0, 60))
    assert (after > before + 0.2).all()


def test_it_is_the_same_again_and_another_with_another_seed():
    first, again, other = (maximise_activation("zoo:mnist-cnn", "conv1", [1, 2], steps=20, random_state=seed)
                           for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_a_channels_picture_does_not_depend_on_the_others():
    every = maximise_activation(NETWORKS["chain"], "conv10", steps=5)
    assert every.shape == (4, 3, 8, 8)
    assert every.dtype == np.float32
    np.testing.assert_allclose(maximise_activation(NETWORKS["chain"], "conv10", 3, steps=5), every[3:], atol=1e-4)


def test_more_channels_than_are_computed_at_once():
    every = maximise_activation("zoo:mnist-cnn", "dense0", steps=2)
    assert every.shape == (128, 1, 28, 28)
    two = maximise_activation("zoo:mnist-cnn", "dense0", [40, 100], steps=2)
    np.testing.assert_allclose(two, every[[40, 100]], atol=1e-4)


def test_smoothed_gradients_give_smoother_pictures():
    rough, smooth = (maximise_activation("zoo:mnist-cnn", "relu1", [3], steps=100, smoothing=smoothing)[0, 0]
                     for smoothing in (0, 1))

    def roughness(image):
        return np.square(np.diff(image)).mean() / image.var()

    assert roughness(smooth) < 0.6 * roughness(rough)


def test_a_channel_without_gradient_stays_at_its_noise():
    network = with_values(mx.sym.Activation(mx.sym.var("data") - 100, act_type="relu", name="dead"), data=(3, 8, 8))
    start, end = (maximise_activation(network, "dead", 1, steps=steps) for steps in (0, 5))
    np.testing.assert_array_equal(start, end)
    assert np.isfinite(end).all()
    assert end.std() > 0


@pytest.mark.parametrize("scale", [1e-30, 1e15])
def test_steps_have_one_size_however_small_or_large_the_gradient_is(scale):
    network = with_values(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc") * scale, data=(6,))
    layer = network.graph.layer_names[-1]
    start, end = (maximise_activation(network, layer, steps=steps, rate=0.1) for steps in (0, 1))
    np.testing.assert_allclose(np.sqrt(np.square(end - start).mean(axis=1)), 0.1, rtol=1e-3)


def test_dropout_does_not_act_and_parameters_stay():
    network = with_values(dropped(chain_symbol()), data=(3, 8, 8))
    before = {name: value.asnumpy() for name, value in network.params.items()}
    first, again = (maximise_activation(network, "top", steps=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    for name, value in network.params.items():
        np.testing.assert_array_equal(value.asnumpy(), before[name])


def test_an_input_shape_that_is_given_once_is_enough():
    handler = ModelHandler(Network(NETWORKS["chain"].graph, NETWORKS["chain"].arg_params, NETWORKS["chain"].aux_params))
    with pytest.raises(ModelError, match=r"needs the shape of the input 'data'.*infer_shapes\(data="):
        maximise_activation(handler, "conv1")
    handler.infer_shapes(data=(3, 8, 8))
    assert maximise_activation(handler, "conv1", 0, steps=1).shape == (1, 3, 8, 8)


def test_what_cannot_be_done_is_said():
    chain = NETWORKS["chain"]
    with pytest.raises(LayerNotFoundError, match="conv10"):
        maximise_activation(chain, "conv11")
    for channels in (4, -1, [0, 4], [], "0", 1.5):
        with pytest.raises(ParameterError, match="channels must be"):
            maximise_activation(chain, "conv1", channels)
    for name, value in {"steps": -1, "rate": 0, "radius": -1, "smoothing": float("nan"), "random_state": "a"}.items():
        with pytest.raises(ParameterError, match=f"{name} must be"):
            maximise_activation(chain, "conv1", **{name: value})
    with pytest.raises(ParameterError, match="layer must be the name of one layer"):
        maximise_activation(chain, ["conv1"])
    with pytest.raises(ModelError, match="'left', 'right'"):
        maximise_activation(NETWORKS["two inputs"], "add")
    assert maximise_activation(NETWORKS["two inputs"], "fc_left", steps=1).shape == (4, 5)
    with pytest.raises(MissingParametersError):
        maximise_activation(two_input_symbol(), "fc_left")
    with pytest.raises(ModelError, match=r"gives \(1,\) for two examples"):
        maximise_activation(with_values(mx.sym.sum(mx.sym.var("data"), name="total"), data=(3,)), "total")
