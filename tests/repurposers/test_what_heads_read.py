"""What a new dense layer reads of the source, where the source's own answer is a convolution's."""

from dataclasses import replace

import numpy as np
import pytest
from tasks import bright_channels, convolutional_head, drawn, residual_network

import xfer2
from xfer2._mxnet import mx
from xfer2.exceptions import ModelError
from xfer2.model_handler import ModelHandler
from xfer2.model_handler.answers import readable
from xfer2.model_handler.graph.model import Edge
from xfer2.repurposers._layers import cut

SETTINGS = {"num_epochs": 2, "batch_size": 16, "random_state": 0, "refit": False}
METHODS = {
    "fine-tune": lambda source, **more: xfer2.NeuralNetworkFineTuneRepurposer(
        source, "relu", intermediate_layers=(), **SETTINGS, **more),
    "random-freeze": lambda source, **more: xfer2.NeuralNetworkRandomFreezeRepurposer(source, **SETTINGS, **more),
    "random-freeze, by count": lambda source, **more: xfer2.NeuralNetworkRandomFreezeRepurposer(
        source, num_layers_to_drop=4, **SETTINGS, **more),
    "two-tower": lambda source, **more: xfer2.TwoTowerRepurposer(source, intermediate_layers=(), **SETTINGS, **more),
    "stitch": lambda source, **more: xfer2.StitchRepurposer(source, width=0.5, intermediate_layers=(), **SETTINGS, **more),
    "ptu": lambda source, **more: xfer2.PtuRepurposer(source, intermediate_layers=(), **SETTINGS, **more),
    "lwf": lambda source, **more: xfer2.LwfRepurposer(source, intermediate_layers=(), **SETTINGS, **more),
}
COLUMNS = {"two-tower": 12, "stitch": 9}  # of the module too


@pytest.mark.parametrize("method", METHODS)
def test_every_method_reads_the_mean_of_the_maps_that_a_convolution_answers_from(method, tmp_path):
    images, labels = bright_channels()
    repurposer = METHODS[method](convolutional_head()).fit(images, labels)
    graph = repurposer.network_.graph
    new = next(node for node in graph.nodes if node.op == "FullyConnected")
    assert repurposer.network_.params[new.inputs[1].node].shape == (3, COLUMNS.get(method, 6))
    repurposer.save(str(tmp_path / "saved"))
    loaded = xfer2.load(str(tmp_path / "saved"))
    np.testing.assert_array_equal(loaded.predict_proba(images), repurposer.predict_proba(images))


def test_lwf_reads_it_for_every_task():
    images, labels = bright_channels()
    repurposer = METHODS["lwf"](convolutional_head()).fit(images, labels).add_task("more", images, labels[::-1])
    sizes = [repurposer.network_.params[node.inputs[1].node].shape for node in repurposer.network_.graph.nodes
             if node.op == "FullyConnected"]
    assert sizes == [(3, 6), (3, 6)]


@pytest.mark.parametrize(("source", "layer"), [
    (convolutional_head((8, 8)), "relu"),  # one place: a dense layer by another name
    (convolutional_head(averaged=False), "relu"),  # an answer at every place
    (residual_network(), "last_relu"),  # a dense layer's answer
    (residual_network(), "gap"),
    (convolutional_head(), "gap"),  # averaged already
])
def test_other_layers_are_read_as_they_are(source, layer):
    handler = ModelHandler(source)
    assert readable(handler.network, layer, handler.network.graph.outputs[0]) == (handler.network, layer)
    assert cut(handler, layer).layer_names == handler.copy().truncate(layer).layer_names
    assert handler.network is source


def test_where_no_layer_answers_the_layer_is_read_as_it_is():
    network = ModelHandler(mx.sym.Activation(mx.sym.var("data"), act_type="relu", name="relu")).network
    assert readable(network, "relu", Edge("relu")) == (network, "relu")


def test_the_mean_is_what_a_convolution_of_one_place_and_a_mean_would_give():
    source = convolutional_head()
    images, _ = bright_channels()
    mean = xfer2.extract_features(cut(ModelHandler(source), "relu").network, images, "target_mean").flat("target_mean")
    weight, bias = (source.params[f"head_{name}"].asnumpy() for name in ("weight", "bias"))
    own = xfer2.extract_features(source, images, "flat").flat("flat")
    np.testing.assert_allclose(mean @ weight[:, :, 0, 0].T + bias, own, atol=1e-5)


def test_layers_that_are_not_there_are_told():
    with pytest.raises(ModelError, match="relu9"):
        cut(ModelHandler(convolutional_head()), "relu9")


@pytest.mark.parametrize("size", [8, 6, 12])
def test_images_of_another_size_than_the_sources_head_takes_are_learned(size):
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=6, kernel=(3, 3), pad=(1, 1), name="conv")
    x = mx.sym.Convolution(mx.sym.Activation(x, act_type="relu", name="relu"), num_filter=5, kernel=(1, 1), name="head")
    x = mx.sym.Flatten(mx.sym.Pooling(x, kernel=(8, 8), pool_type="avg", name="gap"), name="flat")
    source = ModelHandler(drawn(x, data=(3, 8, 8))).network
    images = np.random.default_rng(0).normal(size=(12, 3, size, size)).astype("float32")
    without = replace(source, input_shapes={"data": (3, size, size)})
    assert cut(ModelHandler(without), "relu").layer_names[-1] == ("relu" if size == 12 else "target_mean")
    repurposer = METHODS["fine-tune"](without).fit(images, [0, 1] * 6)
    assert repurposer.predict(images).shape == (12,)


@pytest.mark.parametrize("kind", ["max", "one place"])
def test_an_answer_that_is_no_mean_leaves_the_places(kind):
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=6, kernel=(3, 3), pad=(1, 1), name="conv")
    x = mx.sym.Convolution(mx.sym.Activation(x, act_type="relu", name="relu"), num_filter=5, kernel=(1, 1), name="head")
    x = (mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="max", name="top") if kind == "max" else
         mx.sym.slice(x, begin=(None, None, 4, 4), end=(None, None, 5, 5), name="top"))
    assert cut(ModelHandler(drawn(mx.sym.Flatten(x), data=(3, 8, 8))), "relu").layer_names[-1] == "relu"


def test_an_input_is_no_layer():
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=6, kernel=(3, 3), pad=(1, 1), name="conv")
    backbone = drawn(mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg", name="gap"), data=(3, 8, 8))
    with pytest.raises(ModelError, match="nothing would be left"):
        METHODS["random-freeze"](backbone).fit(*bright_channels())


def by_hand(maps, fields):
    """Means over fields by fields of maps (n, c, h, w), of sizes as even as they can be, the last ones larger."""
    height, width = maps.shape[2:]
    found = [maps[:, :, row * (height // fields):, column * (width // fields):]
             [:, :, :height - (fields - 1) * (height // fields), :width - (fields - 1) * (width // fields)].mean(axis=(2, 3))
             for row in range(fields) for column in range(fields)]
    return np.stack(found, axis=-1).reshape(len(maps), -1)


@pytest.mark.parametrize("method", [xfer2.TwoTowerRepurposer, xfer2.StitchRepurposer])
@pytest.mark.parametrize(("size", "filters", "fields"), [((8, 8), 6, 3), ((7, 10), 6, 3), ((8, 8), 120, 2), ((2, 9), 6, 2),
                                                         ((8, 8), 600, 1)])
def test_towers_read_means_of_the_sources_maps_too(method, size, filters, fields):
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=filters, kernel=(3, 3), pad=(1, 1), name="conv")
    x = mx.sym.Activation(x, act_type="relu", name="relu")
    x = mx.sym.FullyConnected(x, num_hidden=5, name="below")
    source = drawn(mx.sym.FullyConnected(mx.sym.tanh(x, name="squashed"), num_hidden=4, name="top"), data=(3, *size))
    images = np.random.default_rng(0).normal(size=(12, 3, *size)).astype("float32")
    repurposer = method(source, **SETTINGS).fit(images, [0, 1] * 6)
    read = xfer2.extract_features(repurposer.network_, images, "target_source").flat("target_source")
    own = xfer2.extract_features(source, images, ["squashed", "relu"])
    expected = np.hstack([own["squashed"], by_hand(own["relu"], fields)])
    np.testing.assert_allclose(read, expected, atol=1e-5)
    assert "target_source" in repurposer.cached_layers_


def test_one_layer_may_be_named_by_its_name_and_none_by_none():
    images, labels = bright_channels()
    sizes = []
    for below in ("stem", ["stem"], np.array(["stem"]), None, (), ""):
        made = xfer2.StitchRepurposer(residual_network(), intermediate_layers=below, **SETTINGS).fit(images, labels)
        sizes.append(ModelHandler(made.network_).infer_shapes()["target_source"])
    assert sizes == [(6 + 9 * 6,)] * 3 + [(6,)] * 3


def test_towers_read_the_layers_that_are_named(tmp_path):
    images, labels = bright_channels()
    repurposer = xfer2.StitchRepurposer(residual_network(), intermediate_layers=["stem", "add2"], **SETTINGS)
    repurposer.fit(images, labels)
    read = xfer2.extract_features(repurposer.network_, images, "target_source").flat("target_source")
    own = xfer2.extract_features(residual_network(), images, ["gap", "stem", "add2"])
    expected = np.hstack([own.flat("gap"), by_hand(own["stem"], 3), by_hand(own["add2"], 3)])
    np.testing.assert_allclose(read, expected, atol=1e-5)
    repurposer.save(tmp_path / "saved")
    loaded = xfer2.load(tmp_path / "saved")
    assert loaded.intermediate_layers == ["stem", "add2"]
    np.testing.assert_array_equal(loaded.predict_proba(images), repurposer.predict_proba(images))


def test_earlier_maps_help_where_the_features_lost_what_is_asked():
    images, labels = bright_channels(120)
    narrow = mx.sym.Convolution(mx.sym.var("data"), num_filter=6, kernel=(3, 3), pad=(1, 1), name="conv")
    narrow = mx.sym.FullyConnected(mx.sym.Activation(narrow, act_type="relu", name="relu"), num_hidden=1, name="below")
    source = drawn(mx.sym.FullyConnected(mx.sym.tanh(narrow, name="squashed"), num_hidden=4, name="top"), data=(3, 8, 8))
    scores = [xfer2.StitchRepurposer(source, intermediate_layers=below, learning_rate=1e-9, **SETTINGS).fit(
        images[:60], labels[:60]).score(images[60:], labels[60:]) for below in ((), "stages")]
    assert scores[1] > scores[0] + 0.2
