"""Learning without Forgetting: its limit in fine-tuning, what old heads keep, tasks one after another."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from tasks import bright_channels, drawn, residual_network, two_input_network, values
from test_network import PLAIN

import xfer2
from xfer2._mxnet import mx
from xfer2.exceptions import DataError, LayerNotFoundError, ModelError, ParameterError, PersistenceError
from xfer2.model_handler import ModelHandler, edits, params, sources, targets
from xfer2.model_handler.graph import distillation
from xfer2.training.callbacks import Callback

SETTINGS = {"num_epochs": 4, "batch_size": 16, "random_state": 0, "learning_rate": 0.01, "refit": False}


def lwf(source=None, **settings):
    return xfer2.LwfRepurposer(residual_network() if source is None else source, **{**SETTINGS, **settings})


def served_source(network):
    return lwf(network)._answering(network)[0]


def source_probabilities(images):
    return softmax(ModelHandler(residual_network()).features(images, "fc")["fc"], axis=1)


@pytest.mark.parametrize("settings", [{}, {"fixed_layers": ["stem"], "mixup": 0.2}])
def test_without_distillation_it_is_fine_tuning_step_by_step(settings):
    images, labels = bright_channels(90, noise=2.0)
    tuned = xfer2.NeuralNetworkFineTuneRepurposer(residual_network(), "gap", **{**SETTINGS, **settings}).fit(images, labels)
    ours = lwf(distillation_weight=0, **settings).fit(images, labels)
    assert len(ours.history_) == len(tuned.history_)
    for mine, theirs in zip(ours.history_, tuned.history_, strict=True):
        assert {**mine, "seconds": 0} == {**theirs, "seconds": 0}
    mine, theirs = values(ours.network_), values(tuned.network_)
    for name in theirs:
        np.testing.assert_array_equal(mine[name], theirs[name])


@pytest.mark.parametrize("settings", [{}, {"triplet_weight": 0.1}])
def test_without_distillation_old_heads_stay_to_the_bit_whatever_the_weight_decay(settings):
    ours = lwf(distillation_weight=0, weight_decay=0.1, validation=0, **settings).fit(*bright_channels(60))
    before, after = values(residual_network()), values(ours.network_)
    assert not np.array_equal(after["b_conv_weight"], before["b_conv_weight"])
    for name in ("fc_weight", "fc_bias"):
        np.testing.assert_array_equal(after[name], before[name])


def test_distillation_is_the_cross_entropy_with_what_was_said_before():
    before, now = residual_network(), params.initialize(params.without(residual_network(), ["fc_weight"]), seed=5)
    both = edits.beside(now, before, "before_")
    network = edits.with_graph(both, distillation.distilled(both.graph, 1, 3.0))
    images = bright_channels(4)[0]
    says, said = (ModelHandler(one).features(images, "fc")["fc"] / 3 for one in (now, before))
    found = ModelHandler(network).features(images, "fc_distillation")["fc_distillation"]
    np.testing.assert_allclose(found, -(softmax(said, axis=1) * log_softmax(says, axis=1)).sum(axis=1), rtol=1e-5)


def test_old_heads_are_held_to_what_they_predict_without_dropout():
    x = mx.sym.FullyConnected(mx.sym.Dropout(mx.sym.var("data"), p=0.5, name="early"), num_hidden=6, name="below")
    x = mx.sym.Dropout(mx.sym.Activation(x, act_type="relu", name="relu"), p=0.5, name="late")
    source = drawn(mx.sym.FullyConnected(x, num_hidden=3, name="fc"), data=(4,))
    target = lwf(source)._make_target(ModelHandler(served_source(source)), 2).network
    taught = params.initialize(lwf(source)._with_objectives(target), seed=0)
    block = targets.to_training_block(taught)
    data = mx.nd.array(np.random.default_rng(0).normal(size=(50, 4)))
    logits = ModelHandler(source).features(data.asnumpy(), "fc")["fc"] / 2
    with mx.autograd.record():
        new, distillation_loss = block(data)
    own = -(softmax(logits, axis=1) * log_softmax(logits, axis=1)).sum(axis=1)
    np.testing.assert_allclose(distillation_loss.asnumpy(), own, rtol=1e-5)  # the least it can be: nothing has moved
    assert not np.allclose(new.asnumpy(), block(data)[0].asnumpy())  # the new head's Dropout acts


def test_what_was_said_before_is_computed_once_unless_images_change():
    images, labels = bright_channels(40)
    assert lwf().fit(images, labels).cached_layers_ == ("before_source_scaled_said",)
    assert lwf(augment={"shift": 1}).fit(images, labels).cached_layers_ == ()
    assert lwf(distillation_weight=0).fit(images, labels).cached_layers_ == ()


def test_the_heavier_the_distillation_the_nearer_the_old_head_stays():
    images, labels = bright_channels(120, noise=2.0)
    before = source_probabilities(images)
    moved = []
    for weight in (0, 1, 30):
        found = lwf(distillation_weight=weight, transferred_rate=1, num_epochs=15, validation=0).fit(images, labels)
        moved.append(np.abs(found.predict_proba(images, task="source") - before).mean())
    assert moved[0] > 2 * moved[1]
    assert moved[1] > moved[2]


def test_tasks_one_after_another_keep_their_heads():
    images, labels = bright_channels(120)
    numbers = np.arange(120) % 3 + 7
    repurposer = lwf(fixed_layers=["stem", "a_*", "b_*"], transferred_rate=1e-9).fit(images, labels)
    first = repurposer.predict_proba(images)
    repurposer.add_task("number", images, numbers).add_task("ant", images, labels == "ant")
    assert list(repurposer.tasks_) == ["source", "target", "number", "ant"]
    np.testing.assert_allclose(repurposer.predict_proba(images, task="target"), first, atol=1e-3)
    np.testing.assert_allclose(repurposer.predict_proba(images, task="source"), source_probabilities(images), atol=1e-3)
    assert repurposer.score(images, labels, task="target") > 0.95
    assert repurposer.score(images, numbers, task="number") > 0.95
    assert repurposer.score(images, labels == "ant") > 0.95
    np.testing.assert_array_equal(repurposer.classes_, [False, True])
    assert set(repurposer.predict_label(images, task="number")) == {7, 8, 9}
    for task in ("source", "target", "number"):  # measured in layers that have changed since
        assert repurposer.predict_uncertainty(images[:3], task=task).distances == {}
    assert set(repurposer.predict_uncertainty(images[:3]).distances) == {"mahalanobis", "nearest_neighbour"}


def test_fitting_again_begins_anew():
    images, labels = bright_channels(60)
    once = lwf().fit(images, labels)
    twice = lwf().fit(images, labels).add_task("more", images, labels).fit(images, labels)
    assert list(twice.tasks_) == ["source", "target"]
    np.testing.assert_array_equal(once.predict_proba(images), twice.predict_proba(images))
    np.testing.assert_array_equal(once.predict_proba(images, task="source"), twice.predict_proba(images, task="source"))


def test_the_old_tasks_accuracy_is_measured_before_and_after():
    images, labels = bright_channels(90, noise=2.0)
    old = np.array(["p", "q", "r", "s", "t"])[source_probabilities(images).argmax(axis=1)]
    repurposer = lwf(old_data=(images, old), source_classes=list("pqrst"), transferred_rate=1, distillation_weight=0,
                     validation=0, num_epochs=10).fit(images, labels)
    measured, = repurposer.forgetting_
    assert measured["before"] == 1.0
    assert measured["after"] == repurposer.score(images, old, task="source") < 1.0
    repurposer.add_task("more", images, labels)
    assert [line["task"] for line in repurposer.forgetting_] == ["target", "more"]
    assert repurposer.forgetting_[1]["before"] == measured["after"]


def test_save_and_load_keep_every_task(tmp_path):
    images, labels = bright_channels(60)
    repurposer = lwf(old_data=(images, np.arange(60) % 5)).fit(images, labels).add_task("more", images, labels == "bee")
    repurposer.save(tmp_path / "saved")
    loaded = xfer2.load(tmp_path / "saved")
    for task in ("source", "target", "more"):
        np.testing.assert_array_equal(loaded.predict_proba(images, task=task), repurposer.predict_proba(images, task=task))
    assert loaded.forgetting_ == repurposer.forgetting_
    loaded.add_task("third", images, labels)
    assert list(loaded.tasks_) == ["source", "target", "more", "third"]


def test_exported_files_predict_the_same_in_plain_mxnet(tmp_path):
    images, labels = bright_channels(30)
    repurposer = lwf().fit(images, labels).add_task("more", images, labels == "bee")
    repurposer.export(str(tmp_path / "exported"))
    np.savez(tmp_path / "inputs.npz", data=images)
    done = subprocess.run([sys.executable, "-c", PLAIN, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = np.load(tmp_path / "said.npz")
    np.testing.assert_allclose(said["block"], repurposer.predict_proba(images), atol=1e-6)
    np.testing.assert_allclose(said["module"], repurposer.predict_proba(images), atol=1e-6)


def test_a_triplet_loss_draws_the_features_of_a_class_together():
    images, labels = bright_channels(120, noise=1.5)
    apart = []
    for weight in (0, 5.0):
        found = lwf(triplet_weight=weight, distillation_weight=1, transferred_rate=1, num_epochs=10,
                    validation=0).fit(images, labels)
        features = ModelHandler(found.network_).features(images, "gap")["gap"].reshape(120, -1)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        within = np.mean([np.linalg.norm(features[labels == label] - features[labels == label].mean(axis=0), axis=1).mean()
                          for label in np.unique(labels)])
        apart.append(within / np.linalg.norm(features - features.mean(axis=0), axis=1).mean())
    assert apart[1] < 0.8 * apart[0]


def test_the_head_of_a_pooled_convolution_is_found():
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=4, kernel=(1, 1), name="conv")
    x = mx.sym.Pooling(mx.sym.Activation(x, act_type="relu", name="relu"), global_pool=True, kernel=(1, 1), pool_type="avg",
                       name="pool")
    source = drawn(mx.sym.SoftmaxOutput(mx.sym.Flatten(x, name="flat"), name="softmax"), data=(3, 8, 8))
    assert distillation.find_logits(source.graph, source.graph.outputs[0], "test", "") == ("flat", 4, 1.0)
    images, labels = bright_channels(60)
    repurposer = lwf(source, transfer_layer_name="relu").fit(images, labels)
    np.testing.assert_array_equal(repurposer.tasks_["source"], np.arange(4))
    assert repurposer.predict_proba(images[:2], task="source").shape == (2, 4)


@pytest.mark.parametrize(("source", "settings", "error", "message"), [
    (sources.read(ModelHandler(residual_network()).truncate("gap").network), {}, ModelError, "the source has no head"),
    (sources.read(ModelHandler(residual_network()).truncate("last_relu").network), {}, ModelError, "the source has no head"),
    (sources.read(ModelHandler(residual_network()).truncate("a_relu").network), {}, ModelError, "the source has no head"),
    (drawn(mx.sym.LogisticRegressionOutput(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="fc"), name="out"),
           data=(3, 8, 8)), {}, ModelError, "the source has no head"),
    (None, {"task_name": "source"}, ParameterError, "task_name must be the name of no task yet; there are source"),
    (None, {"task_name": "a/b"}, ParameterError, "task_name must be letters"),
    (None, {"source_classes": ["a", "b"]}, ParameterError, "source_classes must be 5 different labels"),
    (None, {"distillation_weight": -1}, ParameterError, "distillation_weight must be a number of at least 0"),
    (None, {"distillation_temperature": 0}, ParameterError, "distillation_temperature must be a positive number"),
    (None, {"old_data": bright_channels(6)[0]}, DataError, "LwfRepurposer, old_data: the data carry no labels"),
    (None, {"old_data": bright_channels(6)}, DataError, "old_data: the label 'ant' is not among the classes"),
    (two_input_network(), {"transfer_layer_name": "no_layer"}, LayerNotFoundError, "'no_layer' is not in the network"),
])
def test_bad_input_is_told_before_training(source, settings, error, message):
    repurposer = lwf(source, **settings)
    with pytest.raises(error, match=message):
        repurposer.fit(*bright_channels(30))
    assert not [name for name in vars(repurposer) if name.endswith("_")]


def test_a_task_name_used_twice_leaves_what_was_learned():
    images, labels = bright_channels(30)
    repurposer = lwf().fit(images, labels)
    for name in ("source", "target"):
        with pytest.raises(ParameterError, match="task must be the name of no task yet; there are source, target"):
            repurposer.add_task(name, images, labels)
    assert list(repurposer.tasks_) == ["source", "target"]
    with pytest.raises(ParameterError, match="task must be one of 'source', 'target'"):
        repurposer.predict(images, task="sources")


def pooled_convolution(x):
    x = mx.sym.Convolution(x, num_filter=4, kernel=(1, 1), name="conv")
    return mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg", name="pool")


@pytest.mark.parametrize(("top", "features"), [
    (mx.sym.softmax(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="fc") * -3.0, name="soft"), "fc"),
    (mx.sym.softmax(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="fc"), temperature=5.0, name="soft"), "fc"),
    (mx.sym.Flatten(mx.sym.softmax(pooled_convolution(mx.sym.var("data")), axis=1, name="soft"), name="flat"), "conv"),
    (mx.sym.softmax(mx.sym.Flatten(mx.sym.Convolution(mx.sym.Pooling(
        mx.sym.var("data"), global_pool=True, kernel=(1, 1), pool_type="avg", name="pool"), num_filter=4, kernel=(1, 1),
        name="conv"), name="flat"), name="soft"), "pool"),
])
def test_the_source_task_has_the_sources_own_probabilities(top, features):
    source = drawn(top, data=(3, 8, 8))
    images, labels = bright_channels(40)
    layer = source.graph.outputs[0].node
    before = ModelHandler(source).features(images, layer)[layer].reshape(40, 4)
    repurposer = lwf(source, transfer_layer_name=features, fixed_layers="*").fit(images, labels)
    np.testing.assert_allclose(repurposer.predict_proba(images, task="source"), before, atol=1e-5)


def test_every_old_head_is_held():
    images, labels = bright_channels(120, noise=2.0)
    moved = {}
    for weight in (0, 30):
        found = lwf(distillation_weight=weight, transferred_rate=1, num_epochs=15, validation=0)
        found.fit(images, labels == "ant")
        before = found.predict_proba(images, task="target"), found.predict_proba(images, task="source")
        found.add_task("more", images, labels)
        after = found.predict_proba(images, task="target"), found.predict_proba(images, task="source")
        moved[weight] = [np.abs(one - two).mean() for one, two in zip(before, after, strict=True)]
    assert moved[0][0] > 2 * moved[30][0]
    assert moved[0][1] > 2 * moved[30][1]


def test_what_is_of_the_first_task_alone_is_not_asked_of_the_next():
    images, labels = bright_channels(60)
    weights = {"ant": 2.0, "bee": 1.0, "wasp": 1.0}
    repurposer = lwf(target_class_count=3, class_weight=weights, validation=(images[:9], labels[:9])).fit(images, labels)
    repurposer.add_task("two", images, labels == "ant").add_task("three", images, labels, validation=0)
    assert repurposer.score(images, labels == "ant", task="two") > 0.9


def test_another_setting_is_another_run_for_a_checkpoint(tmp_path):
    images, labels = bright_channels(40)
    lwf(augment={"shift": 1}, checkpoint_dir=tmp_path).fit(images, labels)
    with pytest.raises(PersistenceError, match="is of another run"):
        lwf(augment={"shift": 1}, checkpoint_dir=tmp_path, distillation_temperature=8).fit(images, labels)


def test_both_inputs_are_read_where_the_new_head_needs_one_only():
    random = np.random.default_rng(0)
    data = {"image": random.normal(size=(30, 3, 8, 8)).astype("float32"),
            "vector": random.normal(size=(30, 5)).astype("float32")}
    for weight, triplet_weight in ((0, 0), (1, 0), (0, 1), (1, 1)):
        repurposer = lwf(two_input_network(), transfer_layer_name="flat", distillation_weight=weight,
                         triplet_weight=triplet_weight).fit(data, [0, 1] * 15)
        assert repurposer.predict_proba(data, task="source").shape == (30, 3)


def test_layers_are_as_deep_as_in_fine_tuning_and_old_heads_do_not_count():
    found = []

    class Spy(Callback):
        def on_fit_start(self, trainer):
            found.append({name: p.lr_mult for name, p in trainer.block.collect_params().items() if p.grad_req != "null"})

    images, labels = bright_channels(30)
    settings = {**SETTINGS, "num_epochs": 1, "depth_decay": 0.1, "callbacks": [Spy()]}
    xfer2.NeuralNetworkFineTuneRepurposer(residual_network(), "gap", **settings).fit(images, labels)
    xfer2.LwfRepurposer(residual_network(), **settings).fit(images, labels).add_task("more", images, labels)
    tuned, first, second = found
    for name in ("stem_weight", "a_conv_weight", "b_bn_gamma"):
        assert tuned[name] == first[name] == second[name] < 0.3


def test_a_source_without_head_is_refused_also_where_its_shapes_come_with_the_data():
    nn = mx.gluon.nn
    block = nn.HybridSequential()
    block.add(nn.Conv2D(4, 3), nn.Activation("relu"), nn.Conv2D(4, 3), nn.Flatten())
    block.initialize()
    block(mx.nd.zeros((1, 3, 8, 8)))
    with pytest.raises(ModelError, match="the source has no head that tells classes apart"):
        lwf(block).fit(*bright_channels(30))


def test_every_task_is_evaluated_by_its_name():
    images, labels = bright_channels(60)
    ours = lwf(num_epochs=1).fit(images, labels).add_task("parity", images, np.arange(60) % 2)
    found = ours.evaluate(images, labels, task="target").figures()["accuracy"].value
    assert found == ours.score(images, labels, task="target")
    assert ours.evaluate(images, np.arange(60) % 2).prediction.classes.tolist() == [0, 1]
