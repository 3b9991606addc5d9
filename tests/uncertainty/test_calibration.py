"""Calibration measures against plain loops."""

import math

import numpy as np
import pytest

from xfer2.exceptions import DataError, ParameterError
from xfer2.uncertainty.calibration import (
    adaptive_calibration_error,
    bootstrap_interval,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_curve,
)

CLASSES = ["bee", "hornet", "wasp"]


def sample(seed, count=200):
    random = np.random.default_rng(seed)
    return random.choice(CLASSES, count).tolist(), random.dirichlet([0.5] * 3, count)


def error_by_loops(labels, probabilities, classes, bins):
    """Guo et al. 2017, eq. 3: bin m holds confidences in ((m - 1) / M, m / M]."""
    total = 0.0
    for number in range(1, bins + 1):
        inside = [row for row, chances in enumerate(probabilities)
                  if (number - 1) / bins < max(chances) <= number / bins]
        if inside:
            accuracy = sum(classes[int(np.argmax(probabilities[row]))] == labels[row] for row in inside) / len(inside)
            confidence = sum(max(probabilities[row]) for row in inside) / len(inside)
            total += len(inside) / len(labels) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("bins", [1, 2, 10, 15, 100])
def test_expected_calibration_error_is_that_of_loops(seed, bins):
    labels, chances = sample(seed)
    assert expected_calibration_error(labels, chances, CLASSES, bins) == pytest.approx(
        error_by_loops(labels, chances, CLASSES, bins), abs=1e-12)


def test_confidences_on_the_edges_of_bins():
    chances = np.array([[1.0, 0.0], [0.5, 0.5], [0.75, 0.25], [0.25, 0.75]])
    labels = [1, 0, 0, 0]
    expected = error_by_loops(labels, chances, [0, 1], 4)
    assert expected_calibration_error(labels, chances, [0, 1], 4) == pytest.approx(expected)


def test_certain_and_right_is_zero_certain_and_wrong_is_one():
    chances = np.eye(3)[[0, 1, 2]]
    assert expected_calibration_error(CLASSES, chances, CLASSES) == 0
    assert expected_calibration_error(CLASSES, chances[[1, 2, 0]], CLASSES) == 1


def test_a_label_outside_the_classes_counts_as_wrong():
    assert expected_calibration_error(["ant"], [[0.2, 0.8]], ["bee", "wasp"]) == pytest.approx(0.8)


def test_overconfidence_is_found():
    random = np.random.default_rng(0)
    labels = (random.uniform(size=20_000) < 0.7).astype(int)
    honest = np.tile([0.3, 0.7], (20_000, 1))
    assert expected_calibration_error(labels, honest, [0, 1]) < 0.01
    assert expected_calibration_error(labels, np.tile([0.05, 0.95], (20_000, 1)), [0, 1]) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_negative_log_likelihood_is_that_of_loops(seed):
    labels, chances = sample(seed)
    expected = -sum(math.log(chances[row][CLASSES.index(label)]) for row, label in enumerate(labels)) / len(labels)
    assert negative_log_likelihood(labels, chances, CLASSES) == pytest.approx(expected, rel=1e-12)


def test_probability_zero_of_the_truth_is_finite_and_large():
    assert 700 < negative_log_likelihood([1], [[1.0, 0.0]], [0, 1]) < 710


def test_columns_follow_the_classes_given_not_their_order():
    assert negative_log_likelihood(["wasp"], [[0.9, 0.1]], ["wasp", "bee"]) == pytest.approx(-math.log(0.9))


def test_an_unknown_label_is_named():
    with pytest.raises(DataError, match="'ant' is not among the classes"):
        negative_log_likelihood(["bee", "ant"], np.full((2, 3), 1 / 3), CLASSES)


@pytest.mark.parametrize("measure", [expected_calibration_error, negative_log_likelihood])
@pytest.mark.parametrize(("labels", "shape"), [(CLASSES, (2, 3)), (CLASSES, (3, 2)), ([], (0, 3)), (CLASSES, (3,))])
def test_shapes_that_do_not_agree_are_refused(measure, labels, shape):
    with pytest.raises(DataError, match=r"need probabilities of shape"):
        measure(labels, np.full(shape, 0.5), CLASSES)


@pytest.mark.parametrize("bins", [0, 1.5, "10"])
def test_bins_must_be_a_number_of_bins(bins):
    with pytest.raises(ParameterError, match="bins must be an integer of at least 1"):
        expected_calibration_error([0], [[1.0, 0.0]], [0, 1], bins)


def test_adaptive_error_has_bins_of_equal_rows():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([1, 1, 1], 90)
    labels = random.integers(0, 3, 90)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    order = np.argsort(confidence)
    slow = sum(10 / 90 * abs(correct[order[i:i + 10]].mean() - confidence[order[i:i + 10]].mean()) for i in range(0, 90, 10))
    assert adaptive_calibration_error(labels, probabilities, [0, 1, 2], bins=9) == pytest.approx(slow)


def test_brier_score_by_hand():
    assert brier_score([0, 1], [[0.8, 0.2], [0.6, 0.4]], [0, 1]) == pytest.approx((0.08 + 0.72) / 2)
    assert brier_score(["b"], [[1.0, 0.0]], ["a", "b"]) == pytest.approx(2)


def test_reliability_curve_agrees_with_the_error():
    random = np.random.default_rng(1)
    probabilities = random.dirichlet([1, 1, 1], 200)
    labels = random.integers(0, 3, 200)
    confidence, accuracy, count = reliability_curve(labels, probabilities, [0, 1, 2])
    assert count.sum() == 200
    assert (np.diff(confidence) > 0).all()
    error = (count / 200 * abs(confidence - accuracy)).sum()
    assert expected_calibration_error(labels, probabilities, [0, 1, 2]) == pytest.approx(error)


def test_bootstrap_interval_holds_the_score_and_narrows_with_rows():
    random = np.random.default_rng(2)

    def width(rows):
        probabilities = random.dirichlet([1, 1], rows)
        labels = (random.random(rows) < probabilities[:, 1]).astype(int)
        low, high = bootstrap_interval(brier_score, labels, probabilities, [0, 1], resamples=200, random_state=0)
        assert low < brier_score(labels, probabilities, [0, 1]) < high
        return high - low

    assert width(1600) < 0.5 * width(100)


def test_temperature_undoes_a_known_sharpening():
    random = np.random.default_rng(3)
    logits = random.normal(0, 2, (4000, 4))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = np.array([random.choice(4, p=row) for row in chances])
    assert fit_temperature(3.0 * logits, codes) == pytest.approx(3.0, rel=0.05)
    assert fit_temperature(0.5 * logits, codes) == pytest.approx(0.5, rel=0.05)
