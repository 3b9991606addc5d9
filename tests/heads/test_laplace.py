"""The Laplace head: variances against dense algebra, the mode it stands on, and what calibration changes."""

import numpy as np
import pytest
from problems import clusters
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from xfer2.exceptions import DataError, ParameterError
from xfer2.heads.laplace import Curvature, LaplaceHead
from xfer2.heads.logistic_regression import LogisticRegressionHead
from xfer2.uncertainty.calibration import negative_log_likelihood

DIGITS, NUMERALS = load_digits(return_X_y=True)


@parametrize_with_checks([LaplaceHead(num_samples=32)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def dense_variances(head, X, new):
    """Variances of the logits (m, k), the whole covariance of all weights written out with np.kron."""
    mode = head.mode_

    def extended(rows):
        return np.concatenate([(rows - mode.mean_) / mode.scale_, np.ones((len(rows), 1))], axis=1)

    logits = extended(X) @ np.concatenate([mode.coef_, mode.intercept_[:, np.newaxis]], axis=1).T
    outputs = logits.shape[1]
    chances = softmax(logits, axis=1) if outputs > 1 else 1 / (1 + np.exp(-logits))
    hessian = np.diag(chances.mean(axis=0)) - chances.T @ chances / len(X)
    factor = extended(X).T @ extended(X) / len(X)
    covariance = np.linalg.inv(len(X) * np.kron(hessian, factor) + np.eye(outputs * factor.shape[0]) / mode.C_)
    rows = [np.kron(np.eye(outputs), row) for row in extended(new)]
    return np.stack([np.diag(row @ covariance @ row.T) for row in rows])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("rows", "columns"), [(40, 5), (12, 30)], ids=["tall", "wide: rows leave directions unseen"])
def test_variances_of_the_logits_are_those_of_the_whole_covariance(rows, columns, classes):
    X, codes = clusters(rows + 6, columns, classes, apart=0.5)
    head = LaplaceHead(0.5, calibrate=False, num_samples=20_000, random_state=0).fit(X[:rows], codes[:rows])
    _, samples = head._logit_samples(X[rows:])
    found = samples.var(axis=0) if classes > 2 else np.diff(samples, axis=2).var(axis=0)
    np.testing.assert_allclose(found, dense_variances(head, X[:rows], X[rows:]), rtol=0.06)


@pytest.mark.parametrize("outputs", [1, 4])
def test_the_logits_covariance_is_that_of_the_inverse_of_the_whole_hessian(outputs):
    random = np.random.default_rng(0)
    X, logits = random.normal(size=(15, 6)), random.normal(size=(15, outputs))
    chances = softmax(logits, axis=1) if outputs > 1 else 1 / (1 + np.exp(-logits))
    by_logits = np.mean([np.diag(row) - np.outer(row, row) for row in chances], axis=0)
    extended = np.concatenate([X, np.ones((15, 1))], axis=1)
    covariance = np.linalg.inv(15 * np.kron(by_logits, extended.T @ extended / 15) + 0.3 * np.eye(7 * outputs))
    new, outside = random.normal(size=(5, 6)), random.random(5)
    curvature = Curvature.at(X, logits, 0.3)
    steps = curvature.samples(np.zeros((5, outputs)), new, outside, np.eye(outputs))  # (step, row, output)
    found = np.einsum("smo,smp->mop", steps, steps)
    for row in range(5):
        basis = np.kron(np.eye(outputs), np.append(new[row], 1))
        expected = basis @ covariance @ basis.T + outside[row] / 0.3 * np.eye(outputs)  # the prior's, where no row has been
        np.testing.assert_allclose(found[row], expected, atol=1e-10)


def test_probabilities_of_two_classes_are_those_of_an_integral():
    X, codes = clusters(40, 4, 2, apart=0.5)
    head = LaplaceHead(0.5, calibrate=False, num_samples=4000, random_state=0).fit(X[:30], codes[:30])
    mode, variances = head.mode_.decision_function(X[30:]), dense_variances(head, X[:30], X[30:])[:, 0]
    grid = np.linspace(-8, 8, 2001)
    density = np.exp(-grid**2 / 2) / np.exp(-grid**2 / 2).sum()
    expected = [(density / (1 + np.exp(-(mean + grid * np.sqrt(variance))))).sum()
                for mean, variance in zip(mode, variances, strict=True)]
    np.testing.assert_allclose(head.predict_proba(X[30:])[:, 1], expected, atol=0.01)


def test_the_mode_is_that_of_logistic_regression():
    head = LaplaceHead(0.1, calibrate=False, random_state=0).fit(DIGITS[:300], NUMERALS[:300])
    mode = LogisticRegressionHead(0.1, calibrate=False).fit(DIGITS[:300], NUMERALS[:300])
    mean, samples = head._logit_samples(DIGITS[300:320])
    np.testing.assert_allclose(mean, mode.decision_function(DIGITS[300:320]), atol=1e-8)
    np.testing.assert_allclose(samples.mean(axis=0), mean, atol=1e-8)
    assert (head.spread_, head.temperature_) == (1.0, 1.0)


def test_calibration_lowers_the_log_loss_where_rows_are_few():
    losses = []
    for calibrate in (False, True):
        head = LaplaceHead(calibrate=calibrate, random_state=0).fit(DIGITS[:150], NUMERALS[:150])
        losses.append(negative_log_likelihood(NUMERALS[300:], head.predict_proba(DIGITS[300:]), head.classes_))
    assert losses[1] < 0.8 * losses[0]


def test_a_direction_that_no_row_showed_is_uncertain():
    X, codes = clusters(20, 60, 2, apart=1.0)
    head = LaplaceHead(1.0, calibrate=False, random_state=0).fit(X, codes)
    unseen = np.linalg.svd((X - head.mode_.mean_) / head.mode_.scale_)[2][-1] * head.mode_.scale_
    near, far = head.predict_uncertainty(X[:1]).epistemic, head.predict_uncertainty(X[:1] + 20 * unseen).epistemic
    assert far > near + 0.05


@pytest.mark.parametrize("parameters", [{"C": 0}, {"num_samples": 0}, {"folds": 1}, {"tol": -1}])
def test_wrong_parameters_are_named(parameters):
    with pytest.raises(ParameterError, match=f"{next(iter(parameters))} must be"):
        LaplaceHead(**parameters).fit(DIGITS[:50], NUMERALS[:50])


def test_one_class():
    with pytest.raises(DataError, match="at least two classes"):
        LaplaceHead().fit(DIGITS[:5], np.zeros(5))
