"""Selective prediction: answer where uncertainty is low, abstain elsewhere, and know the error of what is answered."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import binom

from xfer2._validation import check_inside, check_positive, parameter_error
from xfer2.exceptions import DataError


def risk_coverage_curve(uncertainty: Any, wrong: Any) -> tuple[np.ndarray, np.ndarray]:
    """The error of the rows that are answered, as more and more are.

    Rows with the same uncertainty are accepted together or not at all, since no threshold parts them: each of them gets
    the coverage and the risk of accepting all.

    Parameters
    ----------
    uncertainty : array-like (n,)
        Larger is less certain: entropy, epistemic part, a distance.
    wrong : array-like of bool (n,)
        Whether the prediction is wrong.

    Returns
    -------
    coverage : numpy.ndarray (n,)
        For each row, least uncertain first, the fraction of rows that are at most as uncertain. Never falls.
    risk : numpy.ndarray (n,)
        The fraction of those that are wrong.

    Raises
    ------
    DataError
        Lengths differ, there are no rows, or an uncertainty is not finite.

    References
    ----------
    El-Yaniv and Wiener 2010, JMLR 11.

    Examples
    --------
    >>> coverage, risk = risk_coverage_curve([0.1, 0.9, 0.2, 0.9], [False, True, False, False])
    >>> coverage.tolist(), risk.tolist()
    ([0.25, 0.5, 1.0, 1.0], [0.0, 0.0, 0.25, 0.25])
    """
    values, mistakes = _rows("risk_coverage_curve", uncertainty, wrong)
    accepted, errors = _accepted(values, mistakes)
    return accepted / len(values), errors / accepted


def area_under_risk_coverage(uncertainty: Any, wrong: Any) -> float:
    """Mean risk of the risk-coverage curve: 0 where nothing is wrong, the error rate where all rows are equally uncertain.

    Parameters and errors are those of `risk_coverage_curve`.

    References
    ----------
    Geifman, Uziel and El-Yaniv 2019, arXiv:1805.08206.

    Examples
    --------
    >>> area_under_risk_coverage([0.1, 0.9, 0.2, 0.9], [False, True, False, False])
    0.125
    """
    values, mistakes = _rows("area_under_risk_coverage", uncertainty, wrong)
    accepted, errors = _accepted(values, mistakes)
    return float((errors / accepted).mean())


def threshold_at_coverage(uncertainty: Any, coverage: float) -> float:
    """The smallest threshold that at least a fraction of the rows do not exceed.

    Parameters
    ----------
    uncertainty : array-like (n,)
    coverage : float
        Above 0, at most 1.

    Returns
    -------
    float
        Accept the rows whose uncertainty is at most this.

    Examples
    --------
    >>> threshold_at_coverage([0.4, 0.1, 0.3, 0.2], 0.5)
    0.2
    """
    owner = "threshold_at_coverage"
    if check_positive(owner, "coverage", coverage) > 1:
        raise parameter_error(owner, "coverage", "above 0 and at most 1", coverage)
    values = np.sort(_finite(owner, uncertainty))
    reached = np.arange(1, len(values) + 1) / len(values) >= coverage
    return float(values[reached.argmax()])


def threshold_at_risk(uncertainty: Any, wrong: Any, risk: float, confidence: float = 0.95) -> float:
    """The largest threshold found whose error on new data is at most `risk`, with a given confidence.

    The rows must not have been used for training, and new rows must be drawn like them. A threshold passes where so few
    errors among the accepted rows would be too rare for a classifier whose risk is above the one asked for: an exact
    binomial tail, with the chance of being misled shared out over all thresholds that the search may try. The search tries
    the largest threshold, then halves; it takes the error to rise with the uncertainty, and where that is not so it may
    return a threshold below the largest that would pass, never one that does not pass.

    Parameters
    ----------
    uncertainty : array-like (n,)
        Larger is less certain.
    wrong : array-like of bool (n,)
        Whether the prediction is wrong.
    risk : float
        Largest fraction of accepted predictions that may be wrong, between 0 and 1.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    float
        Accept the rows whose uncertainty is at most this. Minus infinity, which accepts none, where no threshold passes:
        rows are too few or errors too many.

    Raises
    ------
    ParameterError
        `risk` or `confidence` is not between 0 and 1.
    DataError
        Lengths differ, there are no rows, or an uncertainty is not finite.

    References
    ----------
    Geifman and El-Yaniv 2017, arXiv:1705.08500, algorithm 1 and lemma 3.1. Beyond the paper: thresholds that accept too few
    rows to pass even without an error are left out of the search, and the largest threshold is tried first.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> uncertainty = random.random(2000)
    >>> wrong = random.random(2000) < uncertainty / 2
    >>> threshold = threshold_at_risk(uncertainty, wrong, risk=0.1)  # accepting up to 0.4 has that risk
    >>> 0.2 < threshold < 0.4, bool(wrong[uncertainty <= threshold].mean() < 0.1)
    (True, True)
    """
    owner = "threshold_at_risk"
    for name, value in {"risk": risk, "confidence": confidence}.items():
        check_inside(owner, name, value)
    values, mistakes = _rows(owner, uncertainty, wrong)
    steps = 1 + math.ceil(math.log2(len(values)))
    misled = (1 - confidence) / steps
    thresholds, last = np.unique(values[::-1], return_index=True)
    accepted = len(values) - last
    errors = mistakes.cumsum()[accepted - 1]

    def passes(number: int) -> bool:
        return bool(binom.cdf(errors[number], accepted[number], risk) <= misled)

    low = int(np.searchsorted(accepted, math.log(misled) / math.log1p(-risk))) - 1
    high = len(thresholds) - 1
    if low < high and passes(high):
        return float(thresholds[high])
    passed = -1
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle):
            low = passed = middle
        else:
            high = middle
    return float(thresholds[passed]) if passed >= 0 else -math.inf


def _accepted(values: np.ndarray, mistakes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of sorted values: how many rows are at most as uncertain, and how many of those are wrong."""
    accepted = np.searchsorted(values, values, side="right")
    return accepted, mistakes.cumsum()[accepted - 1]


def _rows(owner: str, uncertainty: Any, wrong: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both columns, least uncertain first."""
    values, mistakes = _finite(owner, uncertainty), np.asarray(wrong)
    if mistakes.shape != values.shape:
        raise DataError(f"{owner}: {len(values)} uncertainties need wrong of shape {values.shape}; got {mistakes.shape}.")
    if mistakes.dtype.kind not in "biuf" or not np.isin(mistakes, (0, 1)).all():
        raise parameter_error(owner, "wrong", "an array of bool, true where the prediction is wrong", wrong,
                              "Give prediction.labels != labels.")
    order = np.argsort(values, kind="stable")
    return values[order], mistakes.astype(bool)[order]


def _finite(owner: str, uncertainty: Any) -> np.ndarray:
    try:
        values = np.asarray(uncertainty, float)
    except (TypeError, ValueError) as error:
        raise parameter_error(owner, "uncertainty", "an array of numbers of shape (rows,)", uncertainty) from error
    if values.ndim != 1 or len(values) == 0:
        raise DataError(f"{owner}: uncertainty must have shape (rows,), at least one row; got {values.shape}.")
    if not np.isfinite(values).all():
        raise DataError(f"{owner}: every uncertainty must be finite; row {int((~np.isfinite(values)).argmax())} is "
                        f"{values[~np.isfinite(values)][0]}. Leave such rows out.")
    return values
