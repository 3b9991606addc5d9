"""Calibration measures against plain loops."""

import math

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from xfer2.exceptions import DataError, ParameterError
from xfer2.uncertainty.calibration import (
    adaptive_calibration_error,
    bootstrap_interval,
    brier_score,
    expected_calibration_error,
    fit_spread,
    fit_temperature,
    negative_log_likelihood,
    reliability_curve,
    row_losses,
    useful_temperature,
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


@pytest.mark.parametrize("measure", [brier_score, expected_calibration_error, adaptive_calibration_error,
                                     negative_log_likelihood])
def test_labels_in_objects_are_what_they_hold_and_columns_of_them_are_refused(measure):
    labels, chances = sample(0)
    assert measure(np.array(labels, object), chances, np.array(CLASSES, object)) == measure(labels, chances, CLASSES)
    with pytest.raises(DataError, match=r"got labels of shape \(\d+, 1\)"):
        measure(np.reshape(labels, (-1, 1)), chances, CLASSES)


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
    losses = [negative_log_likelihood([1], np.array([[1.0, 0.0]], kind), [0, 1]) for kind in ("float32", "float64", int)]
    assert losses == pytest.approx([87.3365] * 3)


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


def draw(random, logits):
    """One class a row, with the probabilities of its logits."""
    return np.array([random.choice(len(row), p=row) for row in softmax(logits, axis=1)])


@pytest.mark.parametrize("classes", [2, 5])
def test_row_losses_are_those_of_scikit_learn(classes):
    random = np.random.default_rng(0)
    logits, codes = random.normal(0, 3, (40, classes)), random.integers(0, classes, 40)
    losses = row_losses(logits, codes)
    assert losses.shape == (40,)
    assert losses.mean() == pytest.approx(log_loss(codes, softmax(logits, axis=1), labels=range(classes)))
    single = [log_loss([code], softmax(row)[None], labels=range(classes)) for row, code in zip(logits, codes, strict=True)]
    np.testing.assert_allclose(losses, single)


def test_row_losses_of_samples_are_those_of_their_mean_probability():
    random = np.random.default_rng(0)
    samples, codes = random.normal(0, 3, (7, 40, 4)), random.integers(0, 4, 40)
    averaged = softmax(samples, axis=2).mean(axis=0)
    np.testing.assert_allclose(row_losses(samples, codes), -np.log(averaged[np.arange(40), codes]))
    np.testing.assert_allclose(row_losses(samples[:1], codes), row_losses(samples[0], codes))


def test_row_losses_of_far_logits_are_finite():
    np.testing.assert_allclose(row_losses(np.array([[1e5, 0.0], [0.0, 1e5]]), np.array([1, 1])), [1e5, 0])
    samples = np.array([[[1e5, 0.0]], [[0.0, 0.0]]])
    np.testing.assert_allclose(row_losses(samples, np.array([1])), -math.log(0.25))


def test_temperature_of_samples_is_that_of_a_search_of_their_mean_probability():
    random = np.random.default_rng(4)
    mean = random.normal(0, 2, (500, 3))
    codes, samples = draw(random, mean), 4 * (mean + random.normal(0, 1.5, (20, 500, 3)))

    def loss(temperature):
        prior = np.log(temperature) ** 2 / (2 * len(codes))
        return log_loss(codes, softmax(samples / temperature, axis=2).mean(axis=0), labels=range(3)) + prior

    grid = np.geomspace(0.5, 20, 400)
    best = grid[np.argmin([loss(temperature) for temperature in grid])]
    assert fit_temperature(samples, codes) == pytest.approx(best, rel=0.02)
    assert fit_temperature(np.repeat(mean[None], 3, axis=0), codes) == pytest.approx(fit_temperature(mean, codes), rel=1e-6)


def test_a_handful_of_rows_does_not_drive_the_temperature_to_its_limits():
    found = [fit_temperature(np.array([[0.0, 1.0]] * rows), np.full(rows, 1)) for rows in (4, 100, 10_000)]
    assert 0.3 < found[0] < 1
    assert found[0] > found[1] > found[2] >= 0.01  # always right: the surer, the more rows say so
    assert 1 < fit_temperature(np.array([[0.0, 1.0]] * 4), np.zeros(4, int)) < 3
    assert 5 < fit_temperature(np.array([[0.0, 1.0]] * 10_000), np.zeros(10_000, int)) < 1000


@pytest.mark.parametrize("size", [1e-5, 1e-3, 1, 300, 1e5])
def test_margins_of_any_size_find_their_temperature(size):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (3000, 3))
    codes = np.array([random.choice(3, p=row) for row in softmax(logits, axis=1)])
    prior = 1 + 0.05 * np.log10(size) ** 2  # each factor of ten away from 1 weighs a little
    assert fit_temperature(size * logits, codes) == pytest.approx(size, rel=0.05 * prior)


@pytest.mark.parametrize("rows", [60, 1000])
def test_a_temperature_is_useful_only_where_it_gains_more_than_its_standard_error(rows):
    used = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        logits = random.normal(0, 2, (rows, 3))
        codes = draw(random, logits)
        temperature = fit_temperature(1.3 * logits, codes)
        before, after = row_losses(1.3 * logits, codes), row_losses(1.3 * logits / temperature, codes)
        gains = [one - two for one, two in zip(before, after, strict=True)]
        error = math.sqrt(sum((gain - sum(gains) / rows)**2 for gain in gains) / rows) / math.sqrt(rows)
        expected = temperature if sum(gains) / rows > error else 1.0
        assert useful_temperature(1.3 * logits, codes) == expected
        used.append(expected != 1)
    assert sum(used) < 18 if rows == 60 else sum(used) == 20


def test_a_temperature_is_useful_where_the_logits_are_far_too_sure_and_not_where_they_are_right():
    random = np.random.default_rng(5)
    logits = random.normal(0, 2, (2000, 3))
    codes = draw(random, logits)
    assert useful_temperature(4 * logits, codes) == pytest.approx(4, rel=0.1)
    assert useful_temperature(logits, codes) == 1
    assert useful_temperature(np.zeros((30, 3)), np.arange(30) % 3) == 1  # no temperature changes these


def posterior(seed, rows, true_spread, count=32):
    """Logits' means, samples about them whose width differs by row, and classes of logits `true_spread` as far away."""
    random = np.random.default_rng(seed)
    mean, width = random.normal(0, 2, (rows, 3)), np.where(np.arange(rows) % 2, 15.0, 0.0)[:, None]
    codes = draw(random, mean + true_spread * width * random.normal(size=(rows, 3)))
    return mean, mean + width * random.normal(size=(count, rows, 3)), codes


@pytest.mark.parametrize("true_spread", [0.1, 0.25, 1.0])
def test_spread_of_a_posterior_that_is_too_wide_is_found(true_spread):
    spread, temperature = fit_spread(*posterior(0, 2000, true_spread))
    assert true_spread <= spread <= 1.5 * true_spread
    assert temperature == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize(("seed", "rows"), [(0, 20), (1, 20), (2, 60), (3, 60), (4, 300), (5, 300)])
def test_spread_is_the_widest_within_one_standard_error_of_the_best(seed, rows):
    mean, samples, codes = posterior(seed, rows, 0.2, 16)
    found = []
    for spread in (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05):
        scaled = (1 - spread) * mean + spread * samples
        temperature = fit_temperature(scaled, codes)
        chances = softmax(scaled / temperature, axis=2).mean(axis=0)
        found.append((spread, temperature, -np.log(chances[np.arange(rows), codes])))
    best = min(found, key=lambda one: one[2].mean())[2]
    allowed = [(spread, temperature) for spread, temperature, losses in found
               if (losses - best).mean() <= np.std(losses - best) / math.sqrt(rows) + 1e-12]
    assert fit_spread(mean, samples, codes) == pytest.approx(max(allowed), rel=1e-6)


def test_spread_of_samples_that_lie_on_their_mean_is_one():
    random = np.random.default_rng(0)
    mean = random.normal(0, 2, (100, 3))
    codes = draw(random, mean)
    spread, temperature = fit_spread(mean, np.repeat(mean[None], 4, axis=0), codes)
    assert spread == 1
    assert temperature == pytest.approx(fit_temperature(mean, codes), rel=1e-6)


def test_a_probability_of_zero_in_single_precision_is_a_large_loss_and_no_infinite_one():
    chances = np.array([[1, 0], [0.5, 0.5]], np.float32)
    assert negative_log_likelihood([1, 1], chances, [0, 1]) == pytest.approx((87.34 + np.log(2)) / 2, rel=1e-3)


def test_rows_of_one_confidence_are_in_one_bin_in_any_order():
    labels = np.array([0] * 8 + [1] * 2)
    for order in (np.arange(10), np.arange(10)[::-1], np.random.default_rng(0).permutation(10)):
        assert adaptive_calibration_error(labels[order], np.tile([0.8, 0.2], (10, 1)), [0, 1], 5) == pytest.approx(0)


@pytest.mark.parametrize("measure", [brier_score, expected_calibration_error, adaptive_calibration_error])
def test_texts_for_numbers_and_probabilities_that_are_none_are_errors(measure):
    with pytest.raises(DataError, match="texts are no numbers"):
        measure(["3", "7"], [[0.8, 0.2], [0.2, 0.8]], [3, 7])
    with pytest.raises(DataError, match="NaN or infinite"):
        measure([3, 7], [[0.8, 0.2], [np.nan, 0.8]], [3, 7])
