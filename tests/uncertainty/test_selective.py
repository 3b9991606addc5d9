"""Selective prediction against plain loops, and its guarantee on data of known risk."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from xfer2.exceptions import DataError, ParameterError
from xfer2.uncertainty.selective import (
    area_under_risk_coverage,
    risk_coverage_curve,
    threshold_at_coverage,
    threshold_at_risk,
)

ROWS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, 3.0]) | st.floats(-5, 5), st.booleans()), min_size=1,
                max_size=40)


def columns(rows):
    return [value for value, _ in rows], [mistake for _, mistake in rows]


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_curve_and_area_are_those_of_loops(rows):
    uncertainty, wrong = columns(rows)
    coverage, risk = risk_coverage_curve(uncertainty, wrong)
    for row, threshold in enumerate(sorted(uncertainty)):
        inside = [mistake for value, mistake in rows if value <= threshold]
        assert coverage[row] == len(inside) / len(rows)
        assert risk[row] == sum(inside) / len(inside)
    assert area_under_risk_coverage(uncertainty, wrong) == pytest.approx(sum(risk) / len(rows))


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_order_of_rows_does_not_matter_even_among_ties(rows, random):
    before = risk_coverage_curve(*columns(rows))
    random.shuffle(rows)
    np.testing.assert_array_equal(before, risk_coverage_curve(*columns(rows)))


def test_area_is_least_where_the_wrong_rows_are_the_uncertain_ones():
    wrong = np.arange(100) >= 80
    best = area_under_risk_coverage(np.arange(100), wrong)
    assert best == pytest.approx(sum((n - 80) / n for n in range(81, 101)) / 100)
    assert best < area_under_risk_coverage(np.zeros(100), wrong) == pytest.approx(0.2)
    assert area_under_risk_coverage(-np.arange(100), wrong) > 0.5
    assert area_under_risk_coverage(np.arange(100), np.zeros(100, bool)) == 0


@given(ROWS, st.floats(0.001, 1))
@settings(max_examples=60, deadline=None)
def test_threshold_at_coverage_is_the_smallest_that_reaches_it(rows, coverage):
    values = np.array(columns(rows)[0])
    threshold = threshold_at_coverage(values, coverage)
    assert (values <= threshold).mean() >= coverage
    assert (values < threshold).mean() < coverage


def test_threshold_at_coverage_is_not_a_row_off_for_round_fractions():
    values = np.arange(1, 101)
    for percent in range(1, 101):
        assert threshold_at_coverage(values, percent / 100) == percent


def threshold_by_loops(uncertainty, wrong, risk, confidence):
    """The search with the bound of Geifman and El-Yaniv, lemma 3.1, solved for the risk rather than for the tail."""
    rows = sorted(zip(uncertainty, wrong, strict=True))
    misled = (1 - confidence) / (1 + math.ceil(math.log2(len(rows))))

    def bound(threshold):
        inside = [mistake for value, mistake in rows if value <= threshold]
        errors = sum(inside)
        return 1.0 if errors == len(inside) else beta.ppf(1 - misled, errors + 1, len(inside) - errors)

    thresholds = sorted(set(uncertainty))
    tried = [t for t in thresholds if (1 - risk) ** sum(value <= t for value in uncertainty) <= misled]
    if not tried:
        return -math.inf
    if bound(tried[-1]) <= risk:
        return tried[-1]
    best, low, high = -math.inf, -1, len(tried) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if bound(tried[middle]) <= risk:
            best, low = tried[middle], middle
        else:
            high = middle
    return best


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("risk", [0.02, 0.1, 0.3])
def test_threshold_at_risk_is_that_of_loops(seed, ties, risk):
    random = np.random.default_rng(seed)
    uncertainty = random.random(300).round(1 if ties else 16)
    wrong = random.random(300) < uncertainty / 2
    expected = threshold_by_loops(uncertainty.tolist(), wrong.tolist(), risk, 0.9)
    assert threshold_at_risk(uncertainty, wrong, risk, 0.9) == expected


@given(ROWS, st.sampled_from([0.1, 0.3, 0.6]))
@settings(max_examples=60, deadline=None)
def test_threshold_at_risk_is_minus_infinity_or_passes(rows, risk):
    uncertainty, wrong = columns(rows)
    threshold = threshold_at_risk(uncertainty, wrong, risk, 0.5)
    assert threshold == threshold_by_loops(uncertainty, wrong, risk, 0.5)
    inside = [mistake for value, mistake in rows if value <= threshold]
    if inside:
        tail = sum(math.comb(len(inside), k) * risk**k * (1 - risk)**(len(inside) - k) for k in range(sum(inside) + 1))
        assert tail <= 0.5 / (1 + math.ceil(math.log2(len(rows)))) * (1 + 1e-9)
    else:
        assert threshold == -math.inf


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_risk_on_new_data_is_kept_as_often_as_promised(confidence):
    """Accepting up to t has risk t / 4 where a row is wrong with probability uncertainty / 2: t must stay below 0.4."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(300):
        uncertainty = random.random(2000)
        found.append(threshold_at_risk(uncertainty, random.random(2000) < uncertainty / 2, 0.1, confidence))
    assert np.mean(np.array(found) > 0.4) <= 1 - confidence
    assert np.median(found) > 0.2


def test_all_rows_are_accepted_where_they_may_be_though_uncertainty_says_nothing():
    random = np.random.default_rng(0)
    uncertainty, wrong = random.random(2000), random.random(2000) < 0.03
    assert threshold_at_risk(uncertainty, wrong, 0.05) == uncertainty.max()


def test_a_handful_of_rows_or_nothing_but_errors_accepts_none():
    assert threshold_at_risk([0.1], [False], 0.05) == -math.inf
    assert threshold_at_risk(np.arange(50), np.zeros(50, bool), 0.05) == -math.inf
    assert threshold_at_risk(np.arange(1000), np.ones(1000, bool), 0.5) == -math.inf


def test_more_confidence_and_less_risk_accept_fewer_rows():
    random = np.random.default_rng(1)
    uncertainty = random.random(3000)
    wrong = random.random(3000) < uncertainty / 2
    assert threshold_at_risk(uncertainty, wrong, 0.1, 0.999) <= threshold_at_risk(uncertainty, wrong, 0.1, 0.5)
    assert threshold_at_risk(uncertainty, wrong, 0.05) < threshold_at_risk(uncertainty, wrong, 0.2)


WITH_WRONG = [risk_coverage_curve, area_under_risk_coverage, lambda u, w: threshold_at_risk(u, w, 0.1)]


@pytest.mark.parametrize("call", WITH_WRONG)
def test_wrong_must_fit_the_uncertainties(call):
    with pytest.raises(DataError, match=r"3 uncertainties need wrong of shape \(3,\); got \(2,\)"):
        call([1, 2, 3], [True, False])
    for bad in ([0.5, 0, 1], ["1", "0", "1"], [2, 0, 1], [float("nan"), 0, 1]):
        with pytest.raises(ParameterError, match="wrong must be an array of bool"):
            call([1, 2, 3], bad)


@pytest.mark.parametrize("call", [*WITH_WRONG, lambda u, _: threshold_at_coverage(u, 0.5)])
def test_uncertainty_must_be_a_column_of_finite_numbers(call):
    for bad, message in (([], "at least one row"), ([[1.0], [2.0]], r"got \(2, 1\)"), ([1.0, float("nan")], "row 1 is nan"),
                         ([float("inf"), 1.0], "row 0 is inf")):
        with pytest.raises(DataError, match=message):
            call(bad, np.zeros(len(bad), bool))
    with pytest.raises(ParameterError, match="uncertainty must be an array of numbers"):
        call(["a", "b"], [True, False])


@pytest.mark.parametrize("bad", [0, -0.1, 1.1, "half", None, float("nan")])
def test_fractions_must_be_fractions(bad):
    with pytest.raises(ParameterError, match="coverage must be"):
        threshold_at_coverage([1, 2], bad)
    with pytest.raises(ParameterError, match="risk must be"):
        threshold_at_risk([1, 2], [True, False], bad)
    with pytest.raises(ParameterError, match="confidence must be"):
        threshold_at_risk([1, 2], [True, False], 0.1, bad)
