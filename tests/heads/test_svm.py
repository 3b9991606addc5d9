"""One-vs-rest support vector machines, and the temperature of their margins."""

import numpy as np
import pytest
from problems import Standardiser
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from xfer2._random import child_seed
from xfer2.exceptions import DataError, ParameterError
from xfer2.heads import svm
from xfer2.heads._features import held_out_parts, two_columns
from xfer2.heads.svm import GRID, SvmHead, _held_out_margins
from xfer2.uncertainty.calibration import expected_calibration_error, fit_temperature, negative_log_likelihood, row_losses

X, Y = load_digits(return_X_y=True)
TRAIN, TEST = slice(0, 300), slice(300, 900)


@parametrize_with_checks([SvmHead()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("kernel", "gamma"), [("rbf", "scale"), ("rbf", 0.02), ("linear", "scale"), ("poly", "auto")])
def test_margins_are_those_of_scikit_learns_machines_on_standardised_features(kernel, gamma):
    head = SvmHead(2.0, kernel=kernel, gamma=gamma, random_state=0).fit(X[TRAIN], Y[TRAIN])
    plain = make_pipeline(Standardiser(), OneVsRestClassifier(SVC(C=2.0, kernel=kernel, gamma=gamma)))
    expected = plain.fit(X[TRAIN], Y[TRAIN]).decision_function(X[TEST])
    np.testing.assert_allclose(head.decision_function(X[TEST]), expected, atol=1e-6)


def test_calibrated_probabilities_beat_a_temperature_of_one():
    head = SvmHead(random_state=0).fit(X[TRAIN], Y[TRAIN])
    margins = head.decision_function(X[TEST])
    plain = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    probabilities = head.predict_proba(X[TEST])
    assert negative_log_likelihood(Y[TEST], probabilities, head.classes_) < 0.6 * negative_log_likelihood(
        Y[TEST], plain, head.classes_)
    assert expected_calibration_error(Y[TEST], probabilities, head.classes_) < 0.1
    np.testing.assert_array_equal(head.classes_[probabilities.argmax(axis=1)], head.predict(X[TEST]))


def slow_choice(head, features, labels, seed, values=GRID):
    """C and temperature of least log loss, by machines that compute their kernel themselves, one part after the other."""
    standard = (features - head.mean_) / head.scale_
    codes = np.searchsorted(head.classes_, labels)
    parts = held_out_parts(codes, child_seed(seed, "folds"), head.folds)
    true, found = codes[np.concatenate([held_out for _, held_out in parts])], {}
    for C in values:
        machines = [OneVsRestClassifier(SVC(C=C, kernel=head.kernel, gamma=head.gamma_)).fit(standard[kept], codes[kept])
                    for kept, _ in parts]
        logits = np.concatenate([two_columns(machine.decision_function(standard[held_out]))
                                 for machine, (_, held_out) in zip(machines, parts, strict=True)])
        temperature = fit_temperature(logits, true)
        found[C, temperature] = round(row_losses(logits / temperature, true).mean(), 9)
    return min(found, key=found.__getitem__)


@pytest.mark.parametrize(("kernel", "gamma"), [("rbf", "scale"), ("rbf", 0.02), ("linear", "scale"), ("poly", "scale"),
                                               ("poly", 0.1), ("sigmoid", "auto")])
@pytest.mark.parametrize("classes", [2, 10])
def test_choice_is_that_of_machines_that_compute_their_own_kernel(kernel, gamma, classes):
    head = SvmHead(kernel=kernel, gamma=gamma, random_state=4).fit(X[TRAIN], Y[TRAIN] % classes)
    C, temperature = slow_choice(head, X[TRAIN], Y[TRAIN] % classes, 4)
    assert head.C_ == C
    assert head.temperature_ == pytest.approx(temperature, rel=1e-3)


@pytest.mark.parametrize("kernel", ["rbf", "linear", "poly", "sigmoid"])
def test_margins_by_a_kernel_computed_once_are_those_of_the_kernel_itself(kernel):
    head = SvmHead(3.0, kernel=kernel, random_state=0).fit(X[TRAIN], Y[TRAIN])
    standard = (X[TRAIN] - head.mean_) / head.scale_
    kept, held_out = held_out_parts(Y[TRAIN], 0)[0]
    products = pairwise_kernels(standard, metric=kernel, filter_params=True, gamma=head.gamma_, coef0=0)
    once = _held_out_margins(OneVsRestClassifier(SVC(C=3.0, kernel="precomputed")), products, Y[TRAIN], kept, held_out)
    itself = OneVsRestClassifier(SVC(C=3.0, kernel=kernel, gamma=head.gamma_)).fit(standard[kept], Y[TRAIN][kept])
    np.testing.assert_allclose(once, itself.decision_function(standard[held_out]), atol=1e-3)  # of libsvm's own tolerance


def test_wide_features_choose_as_slow_machines_do():
    wide = np.concatenate([X, np.random.default_rng(0).normal(size=(len(X), 400))], axis=1)[:150]
    head = SvmHead(random_state=0).fit(wide, Y[:150])
    np.testing.assert_allclose((head.C_, head.temperature_), slow_choice(head, wide, Y[:150], 0), rtol=1e-3)


def test_a_given_C_has_its_own_temperature():
    head = SvmHead(5.0, random_state=0).fit(X[TRAIN], Y[TRAIN])
    np.testing.assert_allclose((head.C_, head.temperature_), slow_choice(head, X[TRAIN], Y[TRAIN], 0, [5.0]), rtol=1e-3)
    plain = SvmHead(5.0, calibrate=False).fit(X[TRAIN], Y[TRAIN])
    assert (plain.C_, plain.temperature_) == (5.0, 1.0)


def test_a_prediction_holds_margins_divided_by_the_temperature():
    head = SvmHead(random_state=0).fit(X[TRAIN], Y[TRAIN])
    prediction = head.predict_uncertainty(X[TEST])
    np.testing.assert_array_equal(prediction.logits, head.decision_function(X[TEST]) / head.temperature_)
    np.testing.assert_allclose(prediction.probabilities, softmax(prediction.logits, axis=1))
    np.testing.assert_array_equal(prediction.probabilities, head.predict_proba(X[TEST]))


def test_two_classes_have_one_margin_and_two_probabilities():
    head = SvmHead(random_state=0).fit(X[TRAIN], np.where(Y[TRAIN] < 5, "low", "high"))
    assert head.decision_function(X[TEST]).ndim == 1
    probabilities = head.predict_proba(X[TEST])
    assert probabilities.shape == (600, 2)
    np.testing.assert_array_equal(head.predict(X[TEST]), head.classes_[probabilities.argmax(axis=1)])


def test_a_class_with_one_row_and_constant_features_are_borne():
    features = np.zeros((7, 3))
    features[:3, 1] = 1e6
    head = SvmHead(random_state=0).fit(features, ["a", "a", "a", "b", "b", "b", "c"])
    np.testing.assert_allclose((head.C_, head.temperature_),
                               slow_choice(head, features, ["a", "a", "a", "b", "b", "b", "c"], 0), rtol=1e-3)
    np.testing.assert_allclose(head.predict_proba(features).sum(axis=1), 1)
    constant = SvmHead(random_state=0).fit(np.ones((6, 2)), [0, 1] * 3)
    assert np.isfinite(constant.predict_proba(np.ones((2, 2)))).all()


def test_classes_of_single_rows_alone_leave_C_and_temperature_at_one():
    head = SvmHead(random_state=0).fit(X[:5], Y[:5])
    assert (head.C_, head.temperature_) == (1.0, 1.0)
    assert SvmHead(7.0, random_state=0).fit(X[:5], Y[:5]).C_ == 7
    np.testing.assert_array_equal(head.predict(X[:5]), Y[:5])


def test_without_calibration_there_are_labels_only():
    head = SvmHead(calibrate=False, random_state=0).fit(X[TRAIN], Y[TRAIN])
    calibrated = SvmHead(random_state=0).fit(X[TRAIN], Y[TRAIN])
    assert head.C_ == calibrated.C_
    np.testing.assert_array_equal(head.predict(X[TEST]), calibrated.predict(X[TEST]))
    assert not hasattr(head, "predict_proba")
    assert not hasattr(head, "predict_uncertainty")


def test_same_random_state_same_bits():
    first, second = (SvmHead(random_state=3).fit(X[TRAIN], Y[TRAIN]) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X[TEST]), second.predict_proba(X[TEST]))


@pytest.mark.parametrize("parameters", [{"C": 0}, {"kernel": "rbff"}, {"gamma": -1}, {"folds": 1}])
def test_wrong_parameters_are_named(parameters):
    name = next(iter(parameters))
    with pytest.raises(ParameterError, match=f"SvmHead: {name} must be"):
        SvmHead(**parameters).fit(X[TRAIN], Y[TRAIN])


def test_one_class_and_no_fit():
    with pytest.raises(DataError, match="at least two classes"):
        SvmHead().fit(X[:5], np.zeros(5))
    with pytest.raises(NotFittedError):
        SvmHead().predict(X[:5])


def test_of_many_rows_some_serve_to_choose(monkeypatch):
    monkeypatch.setattr(svm, "_CHOICE_ROWS", 120)
    few = SvmHead(random_state=0).fit(X[TRAIN], Y[TRAIN])
    monkeypatch.undo()
    all_of_them = SvmHead(random_state=0).fit(X[TRAIN], Y[TRAIN])
    assert few.temperature_ != all_of_them.temperature_
    assert few.score(X[TEST], Y[TEST]) > all_of_them.score(X[TEST], Y[TEST]) - 0.02
