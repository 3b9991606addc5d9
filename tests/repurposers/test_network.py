"""What all repurposers that train a network have in common, beyond the common checks."""

import errno
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from tasks import bright_channels, digits, drawn, residual_network, two_input_network, values

import xfer2
from xfer2._mxnet import mx
from xfer2.data.augmentation import Augmentation
from xfer2.exceptions import DataError, LayerNotFoundError, ModelError, ParameterError, PersistenceError, TrainingError
from xfer2.model_handler import ModelHandler, params
from xfer2.model_handler.graph import edit
from xfer2.repurposers import _examples
from xfer2.repurposers._examples import held_out_rows
from xfer2.training.callbacks import Callback, CsvLog
from xfer2.training.loop import Trainer

PLAIN = """
import sys
import numpy
for name, kind in (("bool", bool), ("object", object), ("int", int), ("float", float), ("str", str), ("complex", complex)):
    if name not in numpy.__dict__:
        setattr(numpy, name, kind)
import mxnet as mx
assert "xfer2" not in sys.modules
folder = sys.argv[1]
inputs = dict(numpy.load(folder + "/inputs.npz"))
names = list(inputs)
block = mx.gluon.SymbolBlock.imports(folder + "/exported-symbol.json", names, folder + "/exported-0000.params")
first = lambda outputs: (outputs[0] if isinstance(outputs, list) else outputs).asnumpy()
block_says = first(block(*[mx.nd.array(inputs[name]) for name in names]))
symbol, arguments, states = mx.model.load_checkpoint(folder + "/exported", 0)
iterator = mx.io.NDArrayIter(inputs, batch_size=4)
module = mx.mod.Module(symbol, data_names=names, label_names=None)
module.bind(iterator.provide_data, for_training=False)
module.set_params(arguments, states)
numpy.savez(folder + "/said.npz", block=block_says, module=first(module.predict(iterator)))
"""


def fine_tuned(source=None, layer="gap", **settings):
    given = {"num_epochs": 3, "batch_size": 16, "random_state": 0, "refit": False, **settings}  # test_refit.py trains again
    return xfer2.NeuralNetworkFineTuneRepurposer(source or residual_network(), layer, **given)


def trained_on(repurposer, data=None):
    return repurposer.fit(*(data or bright_channels()))


@pytest.mark.parametrize("case", ["residual", "frozen part", "two inputs", "zoo, images"])
def test_exported_files_predict_the_same_in_plain_mxnet(case, tmp_path):
    images, labels = bright_channels(30)
    if case == "two inputs":
        vectors = np.random.default_rng(1).normal(size=(30, 5)).astype("float32")
        repurposer = trained_on(fine_tuned(two_input_network(), "joined"), ((images, vectors), labels))
        inputs, data = {"image": images, "vector": vectors}, (images, vectors)
    elif case == "zoo, images":
        pixels, labels = digits(40)
        repurposer = trained_on(fine_tuned("zoo:mnist-cnn", "dense0"), (pixels, labels))
        record = ModelHandler("zoo:mnist-cnn").preprocessing
        inputs = {"data": np.stack([xfer2.data.images.prepare(xfer2.data.images.from_array(one), record) for one in pixels])}
        data = pixels
    else:
        repurposer = trained_on(fine_tuned(fixed_layers="stem" if case == "frozen part" else ()), (images, labels))
        inputs, data = {"data": images}, images
    paths = repurposer.export(str(tmp_path / "exported"))
    assert all((tmp_path / path).exists() for path in paths)
    np.savez(tmp_path / "inputs.npz", **inputs)
    done = subprocess.run([sys.executable, "-c", PLAIN, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, ours = np.load(tmp_path / "said.npz"), repurposer.predict_proba(data)
    np.testing.assert_allclose(said["block"], ours, atol=1e-6)
    np.testing.assert_allclose(said["module"], ours, atol=1e-6)


def test_target_model_and_module_predict_what_the_repurposer_does():
    images, labels = bright_channels(30)
    repurposer = fine_tuned()
    assert repurposer.target_model is None
    repurposer.fit(images, labels)
    ours = repurposer.predict_proba(images)
    np.testing.assert_allclose(repurposer.target_model(mx.nd.array(images)).asnumpy(), ours, atol=1e-6)
    iterator = mx.io.NDArrayIter(images, batch_size=10)
    np.testing.assert_allclose(repurposer.get_module(iterator).predict(iterator).asnumpy(), ours, atol=1e-6)


@pytest.mark.parametrize("kind", ["block", "module", "checkpoint", "handler"])
def test_a_source_of_any_kind_gives_the_same(kind, tmp_path):
    handler, data = ModelHandler(residual_network()), bright_channels(30)
    source = {"block": handler.get_block,
              "module": lambda: handler.get_module(mx.io.NDArrayIter(data[0], np.zeros(30), 10), for_training=False),
              "checkpoint": lambda: handler.save(str(tmp_path / "source")) and str(tmp_path / "source"),
              "handler": lambda: handler}[kind]()
    expected = trained_on(fine_tuned(), data).predict_proba(data[0])
    np.testing.assert_allclose(trained_on(fine_tuned(source), data).predict_proba(data[0]), expected, atol=1e-6)


def test_iterators_and_loaders_give_what_arrays_do():
    images, labels = bright_channels(30)
    codes = np.unique(labels, return_inverse=True)[1]
    expected = trained_on(fine_tuned(), (images, codes)).predict_proba(images)
    for data in (mx.io.NDArrayIter(images, codes, 7),
                 mx.gluon.data.DataLoader(mx.gluon.data.ArrayDataset(images, codes.astype("float32")), 7)):
        repurposer = fine_tuned().fit(data)
        assert repurposer.classes_.tolist() == [0, 1, 2]
        np.testing.assert_allclose(repurposer.predict_proba(images), expected, atol=1e-5)


@pytest.mark.parametrize("cache", ["auto", False])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_is_frozen_stays_to_the_bit_through_momentum_decay_and_mixup(cache, optimizer):
    source = residual_network()
    momentum = {"optimizer_params": {"momentum": 0.9}} if optimizer == "sgd" else {}
    repurposer = trained_on(fine_tuned(
        source, fixed_layers=["stem", "a_*"], num_epochs=10, optimizer=optimizer, weight_decay=0.1, mixup=0.4, validation=0,
        transferred_rate=1, learning_rate=0.05, cache=cache, **momentum))
    assert len(repurposer.history_) == 10
    before, after = values(source), values(repurposer.network_)
    assert {"stem_weight", "a_bn_gamma", "a_bn_beta", "a_bn_moving_mean", "a_bn_moving_var", "a_conv_weight"} <= set(after)
    for name in before.keys() & after.keys():
        if name.startswith(("stem", "a_")):
            np.testing.assert_array_equal(after[name], before[name])
        else:
            assert (after[name] != before[name]).any(), name


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1, "class_weight": "balanced"},
                                      {"gradual_unfreezing": 2, "num_epochs": 6}])
def test_the_cache_changes_nothing_but_the_time(settings):
    data = bright_channels(60)
    found = {}
    for cache in ("auto", False):
        repurposer = trained_on(fine_tuned(fixed_layers="stem", cache=cache, **{"num_epochs": 4, **settings}), data)
        found[cache] = values(repurposer.network_), repurposer.history_, repurposer.cached_layers_
    assert found["auto"][2] == ("stem",)
    assert found[False][2] == ()
    for name, array in found["auto"][0].items():
        np.testing.assert_allclose(array, found[False][0][name], atol=2e-4, err_msg=name)
    for ours, theirs in zip(found["auto"][1], found[False][1], strict=True):
        assert ours["validation_loss"] == pytest.approx(theirs["validation_loss"], abs=1e-3)


def test_what_has_no_room_in_memory_is_kept_in_files_and_gives_the_same(monkeypatch):
    data = bright_channels(60)
    settings = {"fixed_layers": "stem", "gradual_unfreezing": 1, "num_epochs": 4, "refit": True}
    expected = trained_on(fine_tuned(**settings), data).predict_proba(data[0])
    monkeypatch.setattr(_examples, "_LARGEST_IN_MEMORY", 0)
    mapped = []

    fit = Trainer.fit

    def spied(trainer, inputs, *rest):
        mapped.extend(type(getattr(array, "_array", array)) for array in inputs)
        return fit(trainer, inputs, *rest)

    monkeypatch.setattr(Trainer, "fit", spied)
    np.testing.assert_array_equal(trained_on(fine_tuned(**settings), data).predict_proba(data[0]), expected)
    assert mapped == [np.memmap] * 3  # two phases, and one of them on all examples


def test_augmented_images_are_not_cached_unless_their_views_are_asked_for():
    data, augment = bright_channels(60), Augmentation(shift=1, flip=True, color=0.1)
    settings = {"fixed_layers": "stem", "validation": 0}
    fresh = trained_on(fine_tuned(**settings, augment=augment), data)
    views = trained_on(fine_tuned(**settings, augment=augment, cache=3), data)
    plain = trained_on(fine_tuned(**settings), data)
    assert (fresh.cached_layers_, views.cached_layers_) == ((), ("stem",))
    again = trained_on(fine_tuned(**settings, augment={"shift": 1, "flip": True, "color": 0.1}, cache=3), data)
    np.testing.assert_array_equal(again.predict_proba(data[0]), views.predict_proba(data[0]))
    said = [one.predict_proba(data[0]) for one in (fresh, views, plain)]
    assert all((said[i] != said[j]).any() for i, j in ((0, 1), (0, 2), (1, 2)))


def test_of_the_views_the_first_is_the_image_itself_and_training_sees_them_all(tmp_path):
    network = residual_network()
    images, labels = bright_channels(12)
    augment = Augmentation(flip=True, shift=2)
    features, shapes = _examples.read_examples(
        "test", network, images, labels, ("stem",), ("data",), "mxnet", 5, "raise", str(tmp_path), 3, augment, 0)
    assert shapes == {"data": (3, 8, 8)}
    assert features.labels.tolist() == np.repeat(labels, 3).tolist()
    np.testing.assert_array_equal(features["data"][::3], images)
    assert (features["data"][1::3] != images).any()
    whole = _examples.Examples({"data": features["data"]}, np.arange(12), 3)
    some = whole.rows(np.array([2, 7]))
    np.testing.assert_array_equal(some.arrays["data"][:], features["data"][[6, 7, 8, 21, 22, 23]])
    np.testing.assert_array_equal(some.plain().arrays["data"][:], images[[2, 7]])

    class Spy(Callback):
        def on_fit_start(self, trainer):
            Spy.views, Spy.seen = trainer.views, set()
            random = np.random.default_rng(0)
            for _ in range(20):
                for (batch,), codes in trainer.iterate([np.arange(36)], np.arange(12), random):
                    assert (batch // 3 == codes).all()
                    Spy.seen.update(batch.tolist())

    trained_on(fine_tuned(fixed_layers="stem", augment=Augmentation(flip=True), cache=3, num_epochs=1,
                          callbacks=[Spy()]))
    assert Spy.views == 3
    assert Spy.seen == set(range(36))


def test_layers_join_the_training_from_the_output_down():
    moving = []

    class Spy(Callback):
        def on_fit_start(self, trainer):
            moving.append({name for name, p in trainer.block.collect_params().items() if p.grad_req != "null"})

    repurposer = trained_on(fine_tuned(gradual_unfreezing=2, num_epochs=6, callbacks=[Spy()], validation=0))
    assert [line["phase"] for line in repurposer.history_] == [1, 1, 2, 2, 3, 3]
    assert [line["epoch"] for line in repurposer.history_] == [1, 2, 3, 4, 5, 6]
    first, second, third = moving
    assert first == {"target_logits_weight", "target_logits_bias"}
    assert {"b_conv_weight", "b_bn_gamma"} <= second - first
    assert "stem_weight" not in second
    assert third == {*second, "stem_weight", "a_bn_gamma", "a_bn_beta", "a_conv_weight"}


def test_rates_are_smaller_for_what_was_transferred_and_smaller_still_with_depth():
    class Spy(Callback):
        def on_fit_start(self, trainer):
            Spy.rates = {name: p.lr_mult for name, p in trainer.block.collect_params().items() if p.grad_req != "null"}

    trained_on(fine_tuned(transferred_rate=0.5, depth_decay=0.1, num_epochs=1, callbacks=[Spy()]))
    assert Spy.rates["target_logits_weight"] == 1
    assert [Spy.rates[name] for name in ("b_conv_weight", "b_bn_gamma", "a_conv_weight", "stem_weight")] == pytest.approx(
        [0.5, 0.05, 0.005, 0.00005])


def test_validation_data_may_be_given_and_their_labels_must_be_known():
    images, labels = bright_channels(60)
    held = bright_channels(30, seed=1)
    repurposer = fine_tuned(validation=held).fit(images, labels)
    assert all("validation_loss" in line for line in repurposer.history_)
    assert len(fine_tuned(validation=(held[0][:1], held[1][:1])).fit(images, labels).history_) > 0
    with pytest.raises(DataError, match="validation: the data carry no labels"):
        fine_tuned(validation=(held[0], None)).fit(images, labels)
    with pytest.raises(DataError, match=r"expects data \(n, 3, 8, 8\)"):
        fine_tuned(validation=(held[0][:, :2], held[1])).fit(images, labels)
    repurposer = fine_tuned(validation=mx.io.NDArrayIter(images, np.arange(60) % 3, 10)).fit(images, np.arange(60) % 3)
    assert len(repurposer.history_) == 3
    strange = np.where(held[1] == "ant", "hornet", held[1])
    with pytest.raises(DataError, match=r"validation: the label 'hornet' is not among the classes \['ant', 'bee', 'wasp'\]"):
        fine_tuned(validation=(held[0], strange)).fit(images, labels)


def test_without_validation_the_last_epoch_is_kept():
    repurposer = trained_on(fine_tuned(validation=0))
    assert repurposer.best_epoch_ == 3
    assert repurposer.temperature_ == 1
    assert repurposer.outcome_ == "Epoch 3 of 3 is taken, the last: there were no validation data."
    assert isinstance(repurposer.history_frame, pd.DataFrame)
    assert repurposer.history_frame["epoch"].tolist() == [1, 2, 3]


def test_probabilities_are_tempered_on_the_validation_data():
    images, labels = bright_channels(60, noise=3)
    settings = {"num_epochs": 20, "learning_rate": 0.02, "transferred_rate": 1, "patience": None}
    tempered = fine_tuned(**settings, validation=bright_channels(90, noise=3, seed=1)).fit(images, labels)
    plain = fine_tuned(**settings, validation=bright_channels(90, noise=3, seed=1), calibrate=False).fit(images, labels)
    assert tempered.temperature_ > 1.05
    ours, raw = tempered.predict_uncertainty(images), plain.predict_uncertainty(images)
    np.testing.assert_allclose(ours.logits, raw.logits, atol=1e-6)
    scaled = np.exp(raw.logits / tempered.temperature_)
    np.testing.assert_allclose(ours.probabilities, scaled / scaled.sum(axis=1, keepdims=True), atol=1e-5)
    assert plain.temperature_ == 1


def test_a_batch_larger_than_the_data_is_the_data():
    repurposer = trained_on(fine_tuned(batch_size=1000, num_epochs=30, learning_rate=0.01), bright_channels(60, noise=0.3))
    assert repurposer.score(*bright_channels(30, noise=0.3, seed=1)) > 0.9


@pytest.mark.parametrize(("settings", "error", "message"), [
    ({"fixed_layers": "stage9_*"}, LayerNotFoundError, r"pattern 'stage9_\*' matches none of the network's"),
    ({"fixed_layers": ["stem", "b_konv"]}, LayerNotFoundError, "'b_konv' is not in the network.* b_conv"),
    ({"target_class_count": 5}, ParameterError, r"must be the number of classes in the labels \(3\); got 5"),
    ({"target_class_count": 1}, ParameterError, "target_class_count must be an integer of at least 2"),
    ({"num_epochs": 0}, ParameterError, "num_epochs must be an integer of at least 1"),
    ({"validation": 0.9}, ParameterError, r"validation must be a fraction from 0 to 0\.5, or data"),
    ({"cache": True}, ParameterError, "cache must be 'auto', False, or a number of views of at least 2"),
    ({"cache": 1, "augment": {"flip": True}}, ParameterError, "a number of views of at least 2; got 1"),
    ({"augment": {"flipp": True}}, ParameterError, "augment must be an Augmentation, a dict of its parameters"),
    ({"schedule": "cosin"}, ParameterError, "schedule must be one of"),
    ({"cache": 3}, ParameterError, "cache must be 'auto' or False where augment is None"),
    ({"mixup": -1}, ParameterError, "mixup must be a number of at least 0"),
    ({"optimizer": "adamant"}, ParameterError, "optimizer must be an optimizer of MXNet"),
    ({"class_weight": {"hornet": 2}}, ParameterError, "class_weight must be a dict of the classes"),
    ({"class_weight": {"bee": -1}}, ParameterError, "class_weight of 'bee' must be .*; got -1"),
    ({"class_weight": {"ant": 0, "bee": 0, "wasp": 0}}, ParameterError, "class_weight must be above zero for one class"),
    ({"class_weight": np.ones(3)}, ParameterError, "class_weight must be a dict of labels, 'balanced' or None"),
    ({"depth_decay": 0}, ParameterError, "depth_decay must be a positive number"),
    ({"context_function": None}, ParameterError, r"context_function must be mx\.cpu or mx\.gpu itself"),
])
def test_wrong_parameters_are_named(settings, error, message):
    repurposer = fine_tuned(**settings)
    with pytest.raises(error, match=message):
        trained_on(repurposer)
    assert not [name for name in vars(repurposer) if name.endswith("_")]


def test_a_loss_that_diverges_says_where_and_leaves_what_was_learned():
    repurposer = trained_on(fine_tuned())
    before = repurposer.predict_proba(bright_channels()[0])
    repurposer.set_params(learning_rate=1e25, optimizer="sgd", transferred_rate=1)
    with pytest.raises(TrainingError, match=r"diverged: the loss is .* at step \d+ of epoch 1"):
        trained_on(repurposer)
    np.testing.assert_array_equal(repurposer.predict_proba(bright_channels()[0]), before)


def test_a_loss_that_diverges_in_a_later_phase_keeps_what_the_phases_before_learned():
    class Spoil(Callback):
        def on_epoch_start(self, trainer, epoch):
            if trainer.earlier:
                weight = trainer.block.collect_params()["target_logits_weight"]
                weight.set_data(weight.data() * np.nan)

    settings = {"gradual_unfreezing": 1, "num_epochs": 4, "validation": 0}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        repurposer = trained_on(fine_tuned(**settings, callbacks=[Spoil()]))
    assert any("diverged" in str(one.message) and "epoch 2 are kept" in str(one.message) for one in caught)
    assert repurposer.best_epoch_ == 2
    assert len(repurposer.history_) == 2
    assert repurposer.score(*bright_channels()) > 0.5


def test_a_callback_that_stops_the_training_stops_all_phases():
    class Stop(Callback):
        def on_epoch_end(self, trainer, record):
            trainer.stop = True

    repurposer = trained_on(fine_tuned(gradual_unfreezing=2, num_epochs=6, callbacks=[Stop()]))
    assert len(repurposer.history_) == 1


def test_the_epochs_are_shared_by_the_phases_and_logged_through(tmp_path):
    log = CsvLog(tmp_path / "log.csv")
    repurposer = trained_on(fine_tuned(gradual_unfreezing=2, num_epochs=5, callbacks=[log], patience=None))
    assert [line["phase"] for line in repurposer.history_] == [1, 1, 2, 2, 3]
    assert pd.read_csv(tmp_path / "log.csv")["epoch"].tolist() == [1, 2, 3, 4, 5]
    few = trained_on(fine_tuned(gradual_unfreezing=3, num_epochs=2, validation=0))
    assert [line["phase"] for line in few.history_] == [1, 2]


def test_the_mean_of_the_last_epochs_is_said_to_be_kept():
    repurposer = trained_on(fine_tuned(average_last=2, validation=0))
    assert repurposer.outcome_ == "The mean of epochs 2 to 3 of 3 is taken."
    assert repurposer.best_epoch_ == 3
    phases = trained_on(fine_tuned(average_last=8, gradual_unfreezing=1, num_epochs=4, validation=0))
    assert phases.outcome_ == "The mean of epochs 3 to 4 of 4 is taken."


@pytest.mark.parametrize("settings", [{"fixed_layers": "step0_i2h"}, {"gradual_unfreezing": 2}])
def test_parameters_that_frozen_layers_share_are_frozen_in_all(settings):
    images, labels = digits(30)
    moved = {}

    class Spy(Callback):
        def on_fit_start(self, trainer):
            moved.setdefault("first", {name for name, p in trainer.block.collect_params().items() if p.grad_req != "null"})

    source = ModelHandler("zoo:mnist-rnn")
    repurposer = fine_tuned(source, "step27_tanh", callbacks=[Spy()], validation=0, num_epochs=4, **settings)
    trained_on(repurposer, (images, labels))
    if "fixed_layers" in settings:
        assert moved["first"] == {"h2h_weight", "h2h_bias", "target_logits_weight", "target_logits_bias"}
        np.testing.assert_array_equal(values(repurposer.network_)["i2h_weight"], values(source.network)["i2h_weight"])
        assert (values(repurposer.network_)["h2h_weight"] != values(source.network)["h2h_weight"]).any()
    else:
        assert moved["first"] == {"target_logits_weight", "target_logits_bias"}
        assert (values(repurposer.network_)["i2h_weight"] != values(source.network)["i2h_weight"]).any()


def test_sequences_with_time_on_the_first_axis_are_not_cut_there():
    x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, flatten=False, name="embedding")
    x = mx.sym.SwapAxis(x, dim1=0, dim2=1, name="time_first")
    x = mx.sym.FullyConnected(x, num_hidden=4, flatten=False, name="step")
    x = mx.sym.SwapAxis(x, dim1=0, dim2=1, name="batch_first")
    source = drawn(mx.sym.FullyConnected(x, num_hidden=3, name="fc"), data=(7, 5))
    random = np.random.default_rng(0)
    X, y = random.normal(size=(28, 7, 5)).astype("float32"), random.integers(0, 2, 28)
    repurposer = fine_tuned(source, "batch_first", fixed_layers=["embedding"], batch_size=7).fit(X, y)
    assert repurposer.cached_layers_ == ("embedding",)
    assert repurposer.predict_proba(X).shape == (28, 2)


def test_augmentation_never_sees_anything_but_images():
    shapes = set()

    def spy(images, random):
        shapes.add(images.shape[1:])
        return images

    for cache in ("auto", 2, False):
        trained_on(fine_tuned(augment=spy, cache=cache, gradual_unfreezing=1, num_epochs=2))
        trained_on(fine_tuned(augment=spy, cache=cache, fixed_layers="stem", gradual_unfreezing=1, num_epochs=2))
    assert shapes == {(3, 8, 8)}


def test_half_precision_sources_are_trained_in_single():
    source = params.cast(residual_network(), "float16")
    images, labels = bright_channels(30)
    for repurposer in (fine_tuned(source), xfer2.NeuralNetworkRandomFreezeRepurposer(source, num_epochs=1, random_state=0)):
        repurposer.fit(images, labels)
        assert {array.dtype for array in values(repurposer.network_).values()} == {np.dtype("float32")}


def test_a_target_that_gives_no_logits_is_refused():
    class Odd(xfer2.NeuralNetworkRepurposer):
        def _make_target(self, source, class_count):
            return source.truncate("gap")

    with pytest.raises(ModelError, match=r"Odd: the target's first output must be the logits, of shape \(n, 3\)"):
        Odd(residual_network()).fit(*bright_channels(30))


@pytest.mark.parametrize(("top", "kind"), [(lambda x: mx.sym.SoftmaxOutput(x, name="answer"), "SoftmaxOutput"),
                                           (lambda x: mx.sym.softmax(x, name="answer"), "softmax")])
def test_a_target_that_ends_in_probabilities_is_refused(top, kind):
    class Answering(xfer2.NeuralNetworkRepurposer):
        def _make_target(self, source, class_count):
            x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=class_count, name="new")
            return source.truncate("gap").add_layer_top(top(x))

    with pytest.raises(ModelError, match=f"first output is to be logits, and 'answer' is a {kind} layer; leave it out"):
        Answering(residual_network()).fit(*bright_channels(30))


def test_a_way_that_makes_no_target_is_told():
    class Unsaid(xfer2.NeuralNetworkRepurposer):
        pass

    class Silent(xfer2.NeuralNetworkRepurposer):
        def _make_target(self, source, class_count):
            source.truncate("gap")

    with pytest.raises(TypeError, match=r"Unsaid does not say what its target is: implement _make_target\(source"):
        Unsaid(residual_network()).fit(*bright_channels(30))
    with pytest.raises(TypeError, match=r"Silent\._make_target must return the target's ModelHandler; it returned None"):
        Silent(residual_network()).fit(*bright_channels(30))


@pytest.mark.parametrize("changed", [
    {"transferred_rate": 0.5}, {"class_weight": "balanced"}, {"optimizer_params": {"beta1": 0.8}}, {"fixed_layers": "b_*"},
    {"augment": Augmentation(flip=True)}, {"patience": 3}, {"validation": bright_channels(30, seed=1)}])
def test_a_checkpoint_of_other_settings_is_refused(changed, tmp_path):
    settings = {"checkpoint_dir": tmp_path, "cache": False}
    data = bright_channels(61)
    trained_on(fine_tuned(**settings), data)
    with pytest.raises(PersistenceError, match="is of another run"):
        trained_on(fine_tuned(**{**settings, **changed}), data)


def test_parameters_are_searched_in_several_processes():
    images, labels = bright_channels(60)
    search = GridSearchCV(fine_tuned(num_epochs=1), {"weight_decay": [0.0, 0.1]}, cv=2, n_jobs=2).fit(images, labels)
    assert len(search.cv_results_["mean_test_score"]) == 2
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_folders_of_images_and_their_unreadable_ones(tmp_path):
    images, labels = digits(60)
    for number, (image, label) in enumerate(zip(images, labels % 3, strict=True)):
        folder = tmp_path / f"class{label}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    (tmp_path / "class0" / "broken.png").write_bytes(b"no image")
    repurposer = fine_tuned("zoo:mnist-cnn", "dense0", errors="skip", fixed_layers="conv0", num_epochs=2).fit(tmp_path)
    prediction = repurposer.predict_uncertainty(tmp_path)
    assert repurposer.classes_.tolist() == ["class0", "class1", "class2"]
    assert len(prediction) == 60
    assert "broken.png" in prediction.skipped[0]
    assert repurposer.score(tmp_path) > 0.7


def test_clones_share_the_validation_data():
    held = bright_channels(30)
    assert clone(fine_tuned(validation=held)).validation is held


def test_an_augmentation_is_saved_as_what_it_is_and_what_belongs_to_the_run_is_not(tmp_path):
    held = bright_channels(30, seed=1)
    repurposer = trained_on(fine_tuned(augment=Augmentation(flip=True), callbacks=[Callback()], validation=held,
                                       checkpoint_dir=tmp_path / "run"))
    repurposer.save(tmp_path / "saved")
    loaded = xfer2.load(tmp_path / "saved")
    assert loaded.augment == {"shift": 0, "flip": True, "color": 0.0, "rotation": 0.0, "zoom": 0.0, "shear": 0.0}
    assert (list(loaded.callbacks), loaded.checkpoint_dir, loaded.validation) == ([], None, 0.15)
    assert loaded.history_ == repurposer.history_
    assert loaded.outcome_ == repurposer.outcome_
    np.testing.assert_array_equal(loaded.predict_proba(held[0]), repurposer.predict_proba(held[0]))


def test_objects_that_were_given_for_names_are_saved_as_the_defaults(tmp_path):
    given = {"schedule": mx.lr_scheduler.FactorScheduler(10), "context_function": lambda number: mx.cpu(number)}
    repurposer = trained_on(fine_tuned(**given))
    repurposer.save(tmp_path / "saved")
    loaded = xfer2.load(tmp_path / "saved")
    assert (loaded.schedule, loaded.context_function) == ("cosine", mx.cpu)
    images, _ = bright_channels(30, seed=1)
    np.testing.assert_array_equal(loaded.predict_proba(images), repurposer.predict_proba(images))
    repurposer.set_params(optimizer_params={"wd_lh": object()})
    with pytest.raises(PersistenceError, match="'optimizer_params' holds a object"):
        repurposer.save(tmp_path / "other")


def test_labels_in_mxnet_arrays_are_scored_as_they_are_learned():
    images, codes = bright_channels(30)[0], np.arange(30) % 3
    repurposer = fine_tuned().fit(images, mx.nd.array(codes))
    assert repurposer.score(images, mx.nd.array(codes)) == repurposer.score(images, codes)
    assert repurposer.evaluate(images, mx.nd.array(codes)).figures() == repurposer.evaluate(images, codes).figures()


def test_a_run_without_a_seed_is_taken_up_with_its_own(tmp_path):
    class Killed(Callback):
        def on_epoch_start(self, trainer, epoch):
            if epoch == 3:
                raise SystemExit

    data = bright_channels(60)
    with pytest.raises(SystemExit):
        trained_on(fine_tuned(random_state=None, num_epochs=5, checkpoint_dir=tmp_path, callbacks=[Killed()]), data)
    begun = []

    class Begun(Callback):
        def on_epoch_start(self, trainer, epoch):
            begun.append(epoch)

    resumed = trained_on(fine_tuned(random_state=None, num_epochs=5, checkpoint_dir=tmp_path, callbacks=[Begun()]), data)
    assert begun == [3, 4, 5]
    seed = int((tmp_path / "seed.json").read_text())
    whole = trained_on(fine_tuned(random_state=seed, num_epochs=5), data)
    for name, array in values(whole.network_).items():
        np.testing.assert_array_equal(values(resumed.network_)[name], array)
    (tmp_path / "seed.json").write_text("{")
    with pytest.raises(PersistenceError, match="holds no seed"):
        trained_on(fine_tuned(random_state=None, num_epochs=5, checkpoint_dir=tmp_path), data)


def test_a_repurposer_of_ones_own_needs_one_method():
    class Doubled(xfer2.NeuralNetworkRepurposer):
        def __init__(self, source_model, width=4, **settings):
            super().__init__(source_model, **settings)
            self.width = width

        def _make_target(self, source, class_count):
            x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=self.width, name="wide")
            x = mx.sym.Activation(x, act_type="relu", name="wide_relu")
            x = mx.sym.FullyConnected(x, num_hidden=class_count, name="new")
            return source.truncate("gap").freeze(until="add1").add_layer_top(x)

    images, labels = bright_channels(90, noise=0.3)
    repurposer = Doubled(residual_network(), width=16, num_epochs=40, learning_rate=0.01, random_state=0).fit(images, labels)
    assert repurposer.score(images, labels) > 0.9
    assert repurposer.get_params()["width"] == 16
    assert repurposer.cached_layers_ == ("add1",)


def test_fitting_prints_nothing(capsys):
    trained_on(fine_tuned())
    said = capsys.readouterr()
    assert said.out == said.err == ""


def test_one_row_of_each_class_is_never_held_out():
    codes = np.repeat(np.arange(20), 2)
    for fraction in (0.3, 0.6, 0.99):
        held_out = held_out_rows(codes, fraction, 0)
        assert len(held_out) > 0
        assert set(np.delete(codes, held_out)) == set(range(20))


def test_the_same_call_goes_on_with_an_unhybridized_block(tmp_path):
    nn = mx.gluon.nn
    block = nn.HybridSequential()
    block.add(nn.Dense(6), nn.BatchNorm(), nn.Dense(3))
    block.initialize()
    block(mx.nd.zeros((1, 4)))
    rows = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")
    fits = [xfer2.NeuralNetworkRandomFreezeRepurposer(
        block, num_epochs=2, random_state=0, checkpoint_dir=tmp_path, validation=0).fit(rows, [0, 1] * 15) for _ in range(2)]
    np.testing.assert_array_equal(*[one.predict_proba(rows) for one in fits])


def test_words_are_not_mixed():
    x = mx.sym.Embedding(mx.sym.var("data"), input_dim=9, output_dim=3, name="words")
    source = drawn(mx.sym.FullyConnected(x, num_hidden=4, name="fc"), data=(5,))
    words = np.random.default_rng(0).integers(0, 9, (20, 5)).astype("float32")
    with pytest.raises(ParameterError, match="mixup must be 0 where the network looks its input up in a table"):
        xfer2.NeuralNetworkRandomFreezeRepurposer(source, mixup=0.2).fit(words, [0, 1] * 10)
    frozen = xfer2.NeuralNetworkFineTuneRepurposer(source, fixed_layers="words", mixup=0.2, num_epochs=1)
    assert frozen.fit(words, [0, 1] * 10).cached_layers_ == ("words",)  # what is computed of them is


def test_the_last_step_of_a_sequence_is_trained():
    rows = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=6, flatten=False, name="step")
    last = mx.sym.SequenceLast(mx.sym.swapaxes(rows, dim1=0, dim2=1, name="steps"), name="last")
    source = drawn(mx.sym.FullyConnected(last, num_hidden=3, name="fc"), data=(4, 5))
    graph = edit.with_sliced_sequences(source.graph)  # MXNet's own gradient ends the process
    X = np.random.default_rng(0).normal(size=(40, 4, 5)).astype("float32")
    told = [ModelHandler(one).features(X, "fc")["fc"] for one in (source, source.with_graph(graph))]
    np.testing.assert_array_equal(*told)
    labels = X[:, -1, 0] > 0
    settings = {"num_epochs": 60, "learning_rate": 0.1, "validation": 0, "random_state": 0}
    target = xfer2.NeuralNetworkRandomFreezeRepurposer(source, **settings)
    assert target.fit(X, labels).score(X, labels) > 0.9


def test_validation_data_that_were_given_calibrate_also_where_training_gains_nothing():
    images, labels = bright_channels(15, noise=3.0)
    held_out = bright_channels(300, noise=3.0, seed=1)
    target = xfer2.NeuralNetworkFineTuneRepurposer(residual_network(), "gap", validation=held_out, num_epochs=1,
                                                   learning_rate=1.0, random_state=0).fit(images, labels)
    assert target.best_epoch_ == 0
    assert target.temperature_ > 1.05


def test_a_training_that_is_interrupted_at_once_says_so_and_begins_no_other_phase():
    class Interrupts(Callback):
        def on_step_end(self, trainer, step, loss):
            raise KeyboardInterrupt

    images, labels = bright_channels(30)
    target = xfer2.NeuralNetworkFineTuneRepurposer(residual_network(), "gap", gradual_unfreezing=3, num_epochs=6,
                                                   validation=0, callbacks=[Interrupts()], random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        target.fit(images, labels)
    assert [str(one.message) for one in caught if "interrupted" in str(one.message)] == [
        "Trainer was interrupted and keeps what it has learned so far."]
    assert target.outcome_.startswith("Training was stopped before its first epoch ended")
    np.testing.assert_array_equal(values(target.network_)["stem_weight"], values(residual_network())["stem_weight"])


def test_a_full_disk_is_told_with_what_to_do():
    class Full(Callback):
        def on_fit_start(self, trainer):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(TrainingError, match=r"there is no room .*No space left.* or say cache=False"):
        xfer2.NeuralNetworkFineTuneRepurposer(residual_network(), "gap", callbacks=[Full()]).fit(*bright_channels(30))
