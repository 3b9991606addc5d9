"""What heads and features take from below a source's last layer."""

from dataclasses import replace

import numpy as np
import pytest
from tasks import bright_channels, convolutional_head, drawn, residual_network

import xfer2
from xfer2._mxnet import mx
from xfer2.exceptions import LayerNotFoundError, ModelError, ParameterError
from xfer2.model_handler import ModelHandler
from xfer2.repurposers._registry import METHODS

FIELDS = slice(0, 4), slice(2, 6), slice(4, 8)  # in which 8 rows are averaged


def squashing_network():
    """Images 3x8x8 through a convolution and one number, of which the features, and four classes, are made."""
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=6, kernel=(3, 3), pad=(1, 1), name="conv")
    x = mx.sym.FullyConnected(mx.sym.Activation(x, act_type="relu", name="relu"), num_hidden=1, name="below")
    return drawn(mx.sym.FullyConnected(mx.sym.tanh(x, name="squashed"), num_hidden=4, name="top"), data=(3, 8, 8))


@pytest.mark.parametrize("cls", [xfer2.LrRepurposer, xfer2.SvmRepurposer, xfer2.LaplaceRepurposer])
def test_heads_on_all_stages_know_what_the_features_lost(cls, tmp_path):
    images, labels = bright_channels(120)
    fitted = [cls(squashing_network(), layers).fit(images[:60], labels[:60]) for layers in ("squashed", "stages")]
    scores = [one.score(images[60:], labels[60:]) for one in fitted]
    assert scores[1] > scores[0] + 0.2
    fitted[1].save(tmp_path / "saved")
    loaded = xfer2.load(tmp_path / "saved")
    assert {name: len(columns) for name, columns in loaded.feature_indices_per_layer_.items()} == {"squashed": 1,
                                                                                                   "relu_means": 54}
    np.testing.assert_array_equal(loaded.predict_proba(images), fitted[1].predict_proba(images))


def test_means_that_do_not_help_are_not_kept():
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=3, kernel=(1, 1), name="mixed")
    x = mx.sym.Convolution(x, num_filter=3, kernel=(1, 1), name="mixed_again")
    x = mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg", name="gap")
    source = drawn(mx.sym.FullyConnected(x, num_hidden=4, name="top"), data=(3, 8, 8))
    images, labels = bright_channels(90, noise=6)  # bright as a whole: the mean of each channel is all there is to know
    head = xfer2.LrRepurposer(source).fit(images, labels)
    assert list(head.feature_indices_per_layer_) == ["gap"]
    still = {"num_epochs": 1, "learning_rate": 1e-12, "validation": 0, "random_state": 0}
    towers = xfer2.StitchRepurposer(source, **still).fit(images, labels)
    weight = towers.network_.params["target_logits_weight"].asnumpy()
    assert weight.shape == (3, 3 + 27 + 1)
    assert np.abs(weight[:, :3]).max() > 1e-3
    assert np.abs(weight[:, 3:]).max() < 1e-6


def test_what_was_loaded_learns_again_from_what_was_chosen(tmp_path):
    images, labels = bright_channels(60)
    head = xfer2.LrRepurposer(squashing_network(), random_state=0).fit(images, labels)
    assert head.get_params()["feature_layer_names"] == "stages"
    head.save(tmp_path / "saved")
    loaded = xfer2.load(tmp_path / "saved")
    assert loaded.feature_layer_names == ["squashed", "relu_means"]
    loaded.report(tmp_path / "report.html", images, labels)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 of squashed, 54 of relu_means" in page
    assert "feature_layer_names" not in page  # which the source as it was does not have
    np.testing.assert_array_equal(loaded.fit(images, labels).predict_proba(images), head.predict_proba(images))
    np.testing.assert_array_equal(head.get_features_from_source_model(images).matrix(),
                                  loaded.get_features_from_source_model(images).matrix())
    head.set_params(feature_layer_names="relu")
    assert head.get_features_from_source_model(images).layers == ("relu",)


def test_features_are_those_of_the_head_and_named():
    images, labels = bright_channels(12)
    features = xfer2.extract_features(residual_network(), images, "stages", labels=labels)
    assert {name: features[name].shape for name in features.layers} == {"gap": (12, 6, 1, 1), "last_relu_means": (12, 54)}
    head = xfer2.LrRepurposer(residual_network(), ["stages"])
    again = head.get_features_from_source_model(images)
    np.testing.assert_array_equal(again["last_relu_means"], features["last_relu_means"])


def test_of_a_convolutional_head_they_are_the_mean_that_it_would_read():
    images, _ = bright_channels(12)
    features = xfer2.extract_features(convolutional_head(), images, "stages")
    assert list(features.layers) == ["target_mean", "relu_means"]


def test_recurrent_layers_give_early_middle_and_late_states():
    images = np.random.default_rng(0).integers(0, 255, (5, 28, 28), dtype=np.uint8)
    features = xfer2.extract_features("zoo:mnist-rnn", images, "stages")
    steps = [f"step{step}_tanh" for step in range(28)]
    own = xfer2.extract_features("zoo:mnist-rnn", images, steps)
    assert features.layers[0] == steps[-1]
    for name, part in zip(features.layers[1:], (slice(0, 9), slice(9, 19), slice(19, 28)), strict=True):
        expected = np.mean([own[step] for step in steps[part]], axis=0)
        np.testing.assert_allclose(features[name], expected, atol=1e-6)


@pytest.mark.parametrize(("method", "below", "features", "read"), [
    ("ptu", "stages", "target_gap", ["target_last_relu"]),
    ("ptu", ["stem", "add1"], "target_gap", ["unit_stem", "target_add1"]),
    ("fine-tune", "stages", "gap", ["last_relu"]),
    ("fine-tune", ["stem", "add1"], "gap", ["stem", "add1"]),
    ("lwf", "stages", "gap", ["last_relu"]),
])
def test_a_target_reads_its_own(method, below, features, read, tmp_path):
    images, labels = bright_channels()
    settings = {"num_epochs": 2, "batch_size": 16, "random_state": 0, "intermediate_layers": below}
    repurposer = METHODS[method].load_class()(residual_network(), "gap", **settings).fit(images, labels)
    found = xfer2.extract_features(repurposer.network_, images, ["target_read", features, *read])
    means = [np.stack([found[name][:, :, rows, columns].mean(axis=(2, 3)) for rows in FIELDS for columns in FIELDS], axis=2)
             for name in read]
    expected = np.hstack([found.flat(features), *(mean.reshape(len(images), -1) for mean in means)])
    np.testing.assert_allclose(found["target_read"], expected, atol=1e-5)
    repurposer.save(tmp_path / "saved")
    np.testing.assert_array_equal(xfer2.load(tmp_path / "saved").predict_proba(images), repurposer.predict_proba(images))


def test_fine_tuning_starts_as_logistic_regression_on_them():
    images, labels = bright_channels(90, noise=2.0)
    settings = {"learning_rate": 1e-12, "num_epochs": 1, "validation": 0, "random_state": 0, "fixed_layers": "*"}
    start = xfer2.NeuralNetworkFineTuneRepurposer(residual_network(), "gap", **settings).fit(images, labels)
    regression = xfer2.LrRepurposer(residual_network(), random_state=0).fit(images, labels)
    assert np.abs(start.predict_proba(images) - regression.predict_proba(images)).max() < 0.05


def test_every_task_reads_them_below_the_sources_features():
    images, labels = bright_channels()
    repurposer = xfer2.LwfRepurposer(residual_network(), num_epochs=1, random_state=0).fit(images, labels)
    repurposer.add_task("more", images, labels)
    found = xfer2.extract_features(repurposer.network_, images, ["target_read", "more_read"])
    np.testing.assert_array_equal(found["more_read"], found["target_read"])


def test_ptu_reads_states_of_a_recurrent_target():
    images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    ptu = xfer2.PtuRepurposer("zoo:mnist-rnn", num_epochs=1, random_state=0).fit(images, ["a", "b"] * 10)
    middle = [f"unit_step{step}_tanh" for step in range(9, 19)]
    found = xfer2.extract_features(ptu.network_, images, ["target_read", *middle])
    expected = np.mean([found[name] for name in middle], axis=0)
    np.testing.assert_allclose(found["target_read"][:, 256:384], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["ptu", "fine-tune", "lwf"])
@pytest.mark.parametrize(("layers", "message"), [(["gap"], "'stages' or layers below the features"), ([3], "a layer name")])
def test_a_layer_that_a_target_cannot_read_is_told(method, layers, message):
    with pytest.raises(ParameterError, match=f"Repurposer: intermediate_layers must be .*{message}"):
        METHODS[method].load_class()(residual_network(), "gap", intermediate_layers=layers).fit(*bright_channels(30))


def test_sizes_that_the_network_does_not_know_are_those_of_the_data():
    images, labels = bright_channels(30)
    network = replace(residual_network(), input_shapes={})
    assert xfer2.extract_features(network, images, "stages").layers == ("gap", "last_relu_means")
    head = xfer2.LrRepurposer(network, "stages").fit(images, labels)
    assert head.predict_proba(images).shape == (30, 3)


def test_a_layer_of_that_name_is_itself():
    handler = ModelHandler(residual_network()).rename("gap", "stages")
    assert xfer2.extract_features(handler, bright_channels(4)[0], "stages").layers == ("stages",)


def test_a_network_without_an_answer_is_told():
    x = mx.sym.Activation(mx.sym.var("data"), act_type="relu", name="relu")
    with pytest.raises(ModelError, match=r"extract_features: .*Name the layers"):
        xfer2.extract_features(x, np.ones((4, 3), "float32"), "stages")


def test_beside_names_of_layers_it_is_one_of_them():
    with pytest.raises(LayerNotFoundError, match="'stages'"):
        xfer2.extract_features(residual_network(), bright_channels(4)[0], ["gap", "stages"])

