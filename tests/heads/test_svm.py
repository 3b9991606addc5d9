"""One-vs-rest support vector machines, and the temperature of their margins."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from xfer2.exceptions import DataError, ParameterError
from xfer2.heads.svm import GRID, SvmHead
from xfer2.uncertainty.calibration import expected_calibration_error, negative_log_likelihood

X, Y = load_digits(return_X_y=True)
TRAIN, TEST = slice(0, 300), slice(300, 900)


@parametrize_with_checks([SvmHead()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("kernel", "gamma"), [("rbf", "scale"), ("rbf", 0.02), ("linear", "scale"), ("poly", "auto")])
def test_margins_are_those_of_scikit_learns_machines_on_standardised_features(kernel, gamma):
    head = SvmHead(2.0, kernel=kernel, gamma=gamma, random_state=0).fit(X[TRAIN], Y[TRAIN])
    plain = make_pipeline(StandardScaler(), OneVsRestClassifier(SVC(C=2.0, kernel=kernel, gamma=gamma)))
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


def test_wide_features_choose_as_all_their_columns_would():
    wide = np.concatenate([X, np.random.default_rng(0).normal(size=(len(X), 400))], axis=1)[:150]
    head = SvmHead(random_state=0).fit(wide, Y[:150])
    assert head.C_ in GRID
    slow = SvmHead(random_state=0)
    slow.classes_, slow.gamma_ = head.classes_, head.gamma_
    chosen = slow._choose((wide - head.mean_) / head.scale_, Y[:150], 0)
    np.testing.assert_allclose(chosen, (head.C_, head.temperature_), rtol=1e-3)


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
    assert head.temperature_ == 1
    np.testing.assert_allclose(head.predict_proba(features).sum(axis=1), 1)
    constant = SvmHead(random_state=0).fit(np.ones((6, 2)), [0, 1] * 3)
    assert np.isfinite(constant.predict_proba(np.ones((2, 2)))).all()


def test_without_calibration_there_are_labels_only():
    head = SvmHead(calibrate=False, random_state=0).fit(X[TRAIN], Y[TRAIN])
    calibrated = SvmHead(random_state=0).fit(X[TRAIN], Y[TRAIN])
    assert head.C_ == calibrated.C_
    np.testing.assert_array_equal(head.predict(X[TEST]), calibrated.predict(X[TEST]))
    assert not hasattr(head, "predict_proba")


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
