"""Fine-tuning: where it starts, what it says, which layers it takes."""

import numpy as np
import pytest
from tasks import bright_channels, digits, drawn, residual_network, two_input_network

import xfer2
from xfer2._mxnet import mx
from xfer2.exceptions import LayerNotFoundError, ModelError
from xfer2.model_handler import ModelHandler


def fine_tuned(source, layer, **settings):
    return xfer2.NeuralNetworkFineTuneRepurposer(source, layer, **{"random_state": 0, **settings})


def test_where_no_epoch_is_better_the_features_suffice_and_logistic_regression_predicts():
    images, labels = digits(200)
    repurposer = fine_tuned("zoo:mnist-cnn", "relu3", learning_rate=0.3, num_epochs=2).fit(images, labels)
    assert repurposer.best_epoch_ == 0
    assert repurposer.outcome_ == (
        "The features of 'relu3' suffice: none of 2 epochs of training had a lower validation loss than logistic regression "
        "on them, which is what predicts.")
    regression = xfer2.LrRepurposer("zoo:mnist-cnn", "relu3", random_state=0).fit(images, labels)
    np.testing.assert_array_equal(repurposer.predict(images), regression.predict(images))
    assert np.abs(repurposer.predict_proba(images) - regression.predict_proba(images)).max() < 0.1


def test_training_starts_at_logistic_regression_of_the_training_part():
    images, labels = digits(200)
    start = fine_tuned("zoo:mnist-cnn", "relu3", learning_rate=1e-12, num_epochs=1, validation=0).fit(images, labels)
    regression = xfer2.LrRepurposer("zoo:mnist-cnn", "relu3", random_state=0).fit(images, labels)
    assert np.abs(start.predict_proba(images) - regression.predict_proba(images)).max() < 0.05


@pytest.mark.parametrize("names", [["no", "yes"], ["ant", "bee", "wasp"]])
def test_the_linear_form_of_the_start_gives_the_heads_own_probabilities(names):
    from xfer2.heads.logistic_regression import LogisticRegressionHead

    random = np.random.default_rng(0)
    X, y = random.normal(3, 2, (80, 7)), random.choice(names, 80)
    X[np.arange(80), np.unique(y, return_inverse=True)[1]] += 2
    head = LogisticRegressionHead(random_state=0).fit(X, y)
    weight, bias = head.linear_form()
    assert weight.shape == (len(names), 7)
    chances = np.exp(X @ weight.T + bias)
    np.testing.assert_allclose(chances / chances.sum(axis=1, keepdims=True), head.predict_proba(X), atol=1e-9)


def test_training_betters_features_that_do_not_suffice():
    images, labels = bright_channels(240, noise=2.5)
    test = bright_channels(300, noise=2.5, seed=1)
    source = residual_network()
    regression = xfer2.LrRepurposer(source, "gap", random_state=0).fit(images, labels).score(*test)
    tuned = fine_tuned(source, "gap", learning_rate=0.01, transferred_rate=1, batch_size=32).fit(images, labels)
    assert tuned.best_epoch_ > 0
    assert f"Epoch {tuned.best_epoch_} of {len(tuned.history_)} is taken: validation loss 0.0" in tuned.outcome_
    assert tuned.score(*test) > regression + 0.03


def test_without_a_name_it_keeps_all_below_the_last_dense_layer():
    images, labels = bright_channels(30)
    named, unnamed = (fine_tuned(residual_network(), layer, num_epochs=1).fit(images, labels) for layer in ("gap", None))
    np.testing.assert_array_equal(unnamed.predict_proba(images), named.predict_proba(images))


@pytest.mark.parametrize("layer", ["softmax"])
def test_a_layer_above_the_sources_answer_is_refused_with_the_one_below(layer):
    images, labels = bright_channels(30)
    with pytest.raises(ModelError, match=r"below the source's own answer; 'softmax' is at or above .*layer below is 'top'"):
        fine_tuned(two_input_network(), layer).fit((images, np.zeros((30, 5))), labels)
    handler = ModelHandler(residual_network()).add_layer_top(
        mx.sym.reshape(mx.sym.softmax(mx.sym.var("data"), name="answer"), shape=(0, -1), name="shaped"))
    with pytest.raises(ModelError, match=r"'shaped' is at or above its softmax layer 'answer'"):
        fine_tuned(handler, "shaped").fit(images, labels)
    with pytest.raises(LayerNotFoundError, match="gap"):
        fine_tuned(handler, "gab").fit(images, labels)


def test_a_softmax_in_the_middle_is_no_answer():
    images, labels = bright_channels(30)
    weights = mx.sym.softmax(mx.sym.Flatten(mx.sym.var("data")), name="attention")
    x = mx.sym.FullyConnected(weights * mx.sym.Flatten(mx.sym.var("data")), num_hidden=4, name="inner")
    source = drawn(mx.sym.softmax(mx.sym.FullyConnected(x, num_hidden=5, name="top")), data=(3, 8, 8))
    assert fine_tuned(source, "attention").fit(images, labels).predict(images).shape == (30,)


def test_the_target_of_one_task_is_the_source_of_the_next(tmp_path):
    images, labels = bright_channels(60)
    first = fine_tuned(residual_network(), "gap", num_epochs=2).fit(images, labels)
    first.export(str(tmp_path / "first"))
    second = fine_tuned(str(tmp_path / "first"), "target_logits", num_epochs=2).fit(images, labels == "bee")
    assert second.classes_.tolist() == [False, True]
    assert "target_logits_" in second.network_.graph.layer_names


def test_an_input_whose_shape_nobody_said_is_as_the_data_are(tmp_path):
    images, labels = bright_channels(30)
    known = residual_network()
    ModelHandler(known).save(str(tmp_path / "source"))
    repurposer = fine_tuned(str(tmp_path / "source"), "gap", num_epochs=2).fit(images, labels)
    assert repurposer.network_.input_shapes == {"data": (3, 8, 8)}
    expected = fine_tuned(known, "gap", num_epochs=2).fit(images, labels)
    np.testing.assert_array_equal(repurposer.predict_proba(images), expected.predict_proba(images))
