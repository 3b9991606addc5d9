"""What every repurposer promises; each check takes a row of ``instances.py`` and a task.

``task.fitted(row)`` is one that all checks share: what changes it works on a copy.
"""

import copy
import inspect
import json
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import xfer2
from xfer2.exceptions import DataError, LayerNotFoundError, MissingParametersError, PersistenceError, XferError
from xfer2.model_handler import ModelHandler
from xfer2.persistence import MANIFEST
from xfer2.repurposers._registry import METHODS
from xfer2.uncertainty.ood import auroc


def check_learns_and_answers_in_the_labels_own_type(row, task):
    fitted = [(task.fitted(row), task.labels)]
    for names in (np.array([3, 7, 40]), np.array([1.0, 2.0, 5.0])):
        labels = names[task.codes]
        fitted.append((row.make(task.network).fit(task.images, labels), labels))
    for repurposer, labels in fitted:
        predicted = repurposer.predict(task.images)
        assert predicted.dtype == labels.dtype
        assert (predicted == labels).mean() > 0.8
        assert repurposer.classes_.tolist() == np.unique(labels).tolist()


def check_probabilities(row, task):
    repurposer = task.fitted(row)
    probabilities = repurposer.predict_proba(task.images)
    assert probabilities.shape == (len(task.images), 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(repurposer.classes_[probabilities.argmax(axis=1)], repurposer.predict(task.images))


def check_uncertainty(row, task):
    repurposer = task.fitted(row)
    prediction = repurposer.predict_uncertainty(task.images)
    assert len(prediction) == len(task.images)
    assert (prediction.entropy >= 0).all()
    assert (prediction.entropy <= np.log(3) + 1e-9).all()
    assert set(prediction.distances) == {"mahalanobis", "nearest_neighbour"}
    assert auroc(prediction.distances["mahalanobis"], repurposer.predict_uncertainty(5 - 9 * task.images).distances[
        "mahalanobis"]) > 0.9
    assert (prediction.epistemic is not None) == ("posterior" in METHODS[repurposer.method].tags)
    if prediction.epistemic is not None:
        np.testing.assert_allclose(prediction.aleatoric + prediction.epistemic, prediction.entropy, atol=1e-6)
        assert prediction.deviation.shape == prediction.probabilities.shape
    frame = prediction.to_frame()
    assert frame["label"].tolist() == prediction.labels.tolist()
    assert list(frame.columns)[-3:] == ["probability_ant", "probability_bee", "probability_wasp"]


def check_xfer_names_are_the_same_things(row, task):
    repurposer = row.make(task.network).repurpose(task.images, task.labels)
    np.testing.assert_array_equal(repurposer.predict_label(task.images), repurposer.predict(task.images))
    np.testing.assert_array_equal(repurposer.predict_probability(task.images), repurposer.predict_proba(task.images))
    assert repurposer.score(task.images, task.labels) == (repurposer.predict(task.images) == task.labels).mean()
    assert repurposer.score(task.images, task.labels.reshape(-1, 1)) == repurposer.score(task.images, task.labels)
    with pytest.raises(DataError, match="there are 30 labels for 90 examples"):
        repurposer.score(task.images, task.labels[:30])


def check_arguments_are_stored_unchanged(row, task):
    repurposer = row.make(task.network)
    before = repurposer.get_params(deep=False)
    repurposer.fit(task.images, task.labels)
    after = repurposer.get_params(deep=False)
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)


def check_signature_and_representation_tell_parameters(row, task):
    repurposer = row.make(task.network)
    known = inspect.signature(type(repurposer)).parameters
    assert set(known) == set(repurposer.get_params(deep=False))
    for name, value in row.changed.items():
        if name in known:
            assert f"{name}={value!r}" in repr(clone(repurposer).set_params(**{name: value}))
    told = {line.strip().split("=")[0].split("(")[-1] for line in repr(repurposer).splitlines() if "=" in line}
    assert told <= {"source_model", *row.layers, *row.arguments}


def check_a_parameter_of_a_wrong_kind_is_named(row, task):
    for name in row.make(task.network).get_params(deep=False):
        repurposer = row.make(task.network).set_params(**{name: object()})
        with pytest.raises(XferError, match=rf"\b{name}\b.*object"):
            repurposer.fit(task.images, task.labels)


def check_fit_twice_is_fit_once(row, task):
    once = task.fitted(row)
    twice = row.make(task.network).fit(task.images[:30], task.labels[:30]).fit(task.images, task.labels)
    np.testing.assert_array_equal(once.predict_proba(task.images), twice.predict_proba(task.images))


def check_source_is_left_as_it_was(row, task):
    handler = ModelHandler(task.network)
    before = {name: array.asnumpy().copy() for name, array in handler.network.params.items()}
    row.make(handler).fit(task.images, task.labels)
    assert handler.network is task.network
    assert all((array.asnumpy() == before[name]).all() for name, array in handler.network.params.items())


def check_a_fitted_repurposer_reads_no_parameter_of_the_fit(row, task):
    repurposer = copy.copy(task.fitted(row))
    before = repurposer.predict_proba(task.images)
    of_prediction = {"batch_size", "context_function", "num_devices", "errors"}
    repurposer.set_params(**{name: object() for name in repurposer.get_params(deep=False) if name not in of_prediction})
    np.testing.assert_array_equal(repurposer.predict_proba(task.images), before)
    np.testing.assert_array_equal(repurposer.predict(task.images), repurposer.classes_[before.argmax(axis=1)])
    assert repurposer.score(task.images, task.labels) == repurposer.evaluate(task.images, task.labels).figures()[
        "accuracy"].value


def check_clone_shares_the_source(row, task):
    fitted = task.fitted(row)
    twin = clone(fitted)
    assert twin.source_model is fitted.source_model
    assert not hasattr(twin, "classes_")
    with pytest.raises(NotFittedError):
        twin.predict(task.images)


def check_model_selection(row, task):
    repurposer = row.make(task.network)
    assert cross_val_score(repurposer, task.images, task.labels, cv=2).mean() > 0.7
    name, value = next(iter(row.changed.items()))
    once = StratifiedShuffleSplit(1, test_size=0.3, random_state=0)
    search = GridSearchCV(repurposer, {name: [value, value * 10]}, cv=once, refit=False).fit(task.images, task.labels)
    assert search.best_params_[name] in (value, value * 10)
    pipeline = Pipeline([("same", FunctionTransformer()), ("repurposer", repurposer)]).fit(task.images, task.labels)
    np.testing.assert_array_equal(pipeline.predict(task.images), task.fitted(row).predict(task.images))


def check_save_and_load_in_another_process(row, task, tmp_path):
    repurposer = task.fitted(row)
    repurposer.save(tmp_path / "saved")
    probabilities, labels = task.elsewhere(_loaded_predictions, tmp_path / "saved", task.images)
    assert labels.tolist() == repurposer.predict(task.images).tolist()
    np.testing.assert_array_equal(probabilities, repurposer.predict_proba(task.images))


def _loaded_predictions(path, images):
    repurposer = xfer2.load(path)
    return repurposer.predict_proba(images), repurposer.predict(images)


def check_loaded_repurposer_fits_again(row, task, tmp_path):
    repurposer = task.fitted(row)
    repurposer.save(tmp_path / "saved")
    loaded = xfer2.load(tmp_path / "saved")
    assert {name for name in vars(repurposer) if name.endswith("_")} <= {name for name in vars(loaded) if name.endswith("_")}
    np.testing.assert_array_equal(clone(loaded).fit(task.images, task.labels).predict_proba(task.images),
                                  repurposer.predict_proba(task.images))
    given = xfer2.load(tmp_path / "saved", source_model=task.unbound)
    assert given.source_model is task.unbound
    np.testing.assert_array_equal(given.predict_proba(task.images), repurposer.predict_proba(task.images))


def check_evaluation_is_saved_and_reported(row, task, tmp_path):
    repurposer = copy.copy(task.fitted(row))
    assert repurposer.held_out_ is None
    repurposer.held_out_ = repurposer.evaluate(task.images, task.labels)
    accuracy = repurposer.held_out_.figures()["accuracy"].value
    assert accuracy == repurposer.score(task.images, task.labels)
    assert repurposer.trained_on_["examples"] == len(task.labels)
    assert repurposer.trained_on_["class_counts"] == np.unique(task.labels, return_counts=True)[1].tolist()
    repurposer.save(tmp_path / "saved")
    loaded = xfer2.load(tmp_path / "saved")
    assert loaded.held_out_.to_bytes() == repurposer.held_out_.to_bytes()
    loaded.report(tmp_path / "report.html", task.images, task.labels)
    page = (tmp_path / "report.html").read_text()
    assert f"accuracy {accuracy:.3f} (" in page
    assert type(repurposer).__name__ in page


def check_changed_files_are_refused(row, task, tmp_path):
    task.fitted(row).save(tmp_path / "saved")
    for name in json.loads((tmp_path / "saved" / MANIFEST).read_text())["files"]:
        path = tmp_path / "saved" / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(PersistenceError, match=name):
            xfer2.load(tmp_path / "saved")
        path.unlink()
        with pytest.raises(PersistenceError, match=name):
            xfer2.load(tmp_path / "saved")
        path.write_bytes(content)
    xfer2.load(tmp_path / "saved")


def check_bad_input_leaves_nothing_half_changed(row, task):
    repurposer = row.make(task.network)
    with pytest.raises(NotFittedError, match=r"fit or repurpose"):
        repurposer.predict(task.images)
    with pytest.raises(DataError, match=r"at least two classes"):
        repurposer.fit(task.images, np.zeros(len(task.images)))
    with pytest.raises(DataError, match=r"needs labels"):
        repurposer.fit(task.images)
    with pytest.raises(DataError, match=r"labels for"):
        repurposer.fit(task.images, task.labels[:-1])
    with pytest.raises(DataError, match=r"all numbers or all texts.* NoneType, str"):
        repurposer.fit(task.images, [None, *task.labels[1:].tolist()])
    with pytest.raises(DataError, match="texts or whole numbers"):
        repurposer.fit(task.images, np.linspace(0, 1, len(task.images)))
    with pytest.raises(LayerNotFoundError, match=r"is a (parameter of the network|variable, not a layer)"):
        row.make_with_layer(task.network, "fc1_weight").fit(task.images, task.labels)
    spoiled = task.images.copy()
    spoiled[7, 0, 0, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match=r"NaN or infinite .* the first 7"):
            repurposer.fit(spoiled, task.labels)
    with pytest.raises(DataError, match=r"expects data \(n, 3, 8, 8\)"):
        repurposer.fit(task.images[:, :2], task.labels)
    with pytest.raises(LayerNotFoundError, match="fc1"):
        row.make_with_layer(task.network, "fc11").fit(task.images, task.labels)
    with pytest.raises(MissingParametersError, match="conv1_weight"):
        row.make(task.unbound).fit(task.images, task.labels)
    assert not [name for name in vars(repurposer) if name.endswith("_")]


def check_a_failed_fit_keeps_what_was_learned(row, task):
    repurposer = copy.copy(task.fitted(row))
    before = repurposer.predict_proba(task.images)
    with pytest.raises(DataError):
        repurposer.fit(task.images, np.zeros(len(task.images)))
    np.testing.assert_array_equal(repurposer.predict_proba(task.images), before)


CHECKS = {name: value for name, value in list(globals().items()) if name.startswith("check_")}
