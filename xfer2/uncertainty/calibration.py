"""Whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from xfer2._random import root_seed
from xfer2._validation import check_integer, check_positive, parameter_error
from xfer2.exceptions import DataError
from xfer2.uncertainty.predictions import label_codes

_SPREADS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05)


def expected_calibration_error(labels: Any, probabilities: Any, classes: Any, bins: int = 15) -> float:
    """Expected calibration error of the predicted class, over bins of equal width.

    Parameters
    ----------
    labels : array-like (n,)
        True labels.
    probabilities : array-like (n, k)
        Columns in the order of `classes`.
    classes : array-like (k,)
    bins : int

    Returns
    -------
    float
        Mean distance between confidence and accuracy of a bin, weighted by its rows; 0 is calibrated, 1 the worst.

    References
    ----------
    Guo et al. 2017, arXiv:1706.04599, eq. 3.

    Examples
    --------
    >>> expected_calibration_error([0, 1], [[0.8, 0.2], [0.8, 0.2]], [0, 1])
    0.3...
    """
    check_integer("expected_calibration_error", "bins", bins)
    confidence, correct = _confidence(labels, probabilities, classes)
    return _binned_error(confidence, correct, np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1))


def adaptive_calibration_error(labels: Any, probabilities: Any, classes: Any, bins: int = 15) -> float:
    """Expected calibration error over bins with equally many rows, so that no bin rests on a handful.

    Parameters and result are those of `expected_calibration_error`. Rows of one confidence are in one bin, that of the first
    of them, so that the order of the rows does not matter.

    References
    ----------
    Nguyen and O'Connor 2015, arXiv:1508.05154.
    """
    check_integer("adaptive_calibration_error", "bins", bins)
    confidence, correct = _confidence(labels, probabilities, classes)
    first = np.searchsorted(np.sort(confidence), confidence)
    return _binned_error(confidence, correct, first * bins // len(confidence))


def brier_score(labels: Any, probabilities: Any, classes: Any) -> float:
    """Mean squared distance between the probabilities and the truth as 0 and 1, summed over classes: 0 to 2.

    References
    ----------
    Brier 1950, Monthly Weather Review 78, eq. 2.

    Examples
    --------
    >>> brier_score(["a"], [[0.5, 0.5]], ["a", "b"])
    0.5
    """
    return float(brier_rows(labels, probabilities, classes).mean())


def brier_rows(labels: Any, probabilities: Any, classes: Any) -> np.ndarray:
    """What `brier_score` is the mean of (n,)."""
    truth, chances, names = np.asarray(labels), np.asarray(probabilities), np.asarray(classes)
    _check_rows(truth, chances, names)
    own = names[np.newaxis, :] == truth[:, np.newaxis]
    return np.asarray(((chances.astype(np.float64) - own) ** 2).sum(axis=1))


def reliability_curve(labels: Any, probabilities: Any, classes: Any,
                      bins: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a reliability diagram shows: for each bin that is not empty, mean confidence, accuracy, and rows.

    Returns
    -------
    confidence, accuracy : numpy.ndarray (b,)
    count : numpy.ndarray of int (b,)
    """
    check_integer("reliability_curve", "bins", bins)
    confidence, correct = _confidence(labels, probabilities, classes)
    member = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    inside = [member == number for number in np.unique(member)]
    return (np.array([confidence[rows].mean() for rows in inside]), np.array([correct[rows].mean() for rows in inside]),
            np.array([rows.sum() for rows in inside]))


def bootstrap_interval(score: Callable[[Any, Any, Any], float], labels: Any, probabilities: Any, classes: Any,
                       level: float = 0.95, resamples: int = 1000, random_state: Any = None) -> tuple[float, float]:
    """Percentile interval of a score over resamples of the rows (Efron 1979).

    Parameters
    ----------
    score : callable
        Of (labels, probabilities, classes), as the scores of this module.
    level : float
        Between 0 and 1.
    resamples : int
    random_state : int, RandomState or None
    """
    truth, chances = np.asarray(labels), np.asarray(probabilities)
    _check_rows(truth, chances, np.asarray(classes))
    return bootstrap_rows(lambda rows: score(truth[rows], chances[rows], classes), len(truth), level, resamples,
                          random_state)


def bootstrap_rows(score: Callable[[np.ndarray], Any], count: int, level: float = 0.95, resamples: int = 1000,
                   random_state: Any = None) -> tuple[float, float]:
    """`bootstrap_interval` of a score that takes row numbers (count,) of `count` rows."""
    owner = "bootstrap_interval"
    if not 0 < check_positive(owner, "level", level) < 1:
        raise parameter_error(owner, "level", "between 0 and 1", level)
    check_integer(owner, "resamples", resamples)
    random = np.random.default_rng(root_seed(owner, random_state))
    rows = random.integers(0, count, (resamples, count))
    low, high = np.quantile([score(r) for r in rows], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def fit_temperature(logits: np.ndarray, codes: np.ndarray) -> float:
    """The temperature that held-out logits want: softmax(logits / temperature) has the least log loss.

    Its logarithm has a normal prior of deviation 1, which a handful of rows does not overrule and a hundred do.

    Parameters
    ----------
    logits : numpy.ndarray (n, k) or (s, n, k)
        Of rows that the classifier was not fitted on; with three axes, s samples of a posterior, whose probabilities are
        averaged.
    codes : numpy.ndarray of int (n,)
        True columns.

    Returns
    -------
    float
        Between 0.01 and 100; above 1 the classifier was too sure.

    References
    ----------
    Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """

    def loss(log_temperature: float) -> float:
        return float(row_losses(logits / np.exp(log_temperature), codes).mean() + log_temperature**2 / (2 * len(codes)))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded").x))


def useful_temperature(logits: np.ndarray, codes: np.ndarray) -> float:
    """`fit_temperature`, or 1 where what it gains on these rows is less than the standard error of the gain."""
    temperature = fit_temperature(logits, codes)
    gains = row_losses(logits, codes) - row_losses(logits / temperature, codes)
    return temperature if gains.mean() > gains.std() / np.sqrt(len(gains)) else 1.0


def fit_spread(mean: np.ndarray, samples: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """How far a posterior's samples should lie from their mean, as a fraction of how far they do, and the temperature then.

    Approximate posteriors of many weights and few rows are too wide, which no temperature mends. Where the log loss of rows
    held out is as good for several fractions, within the standard error of the difference to the best, the largest is taken:
    the widest posterior that the rows do not contradict.

    Parameters
    ----------
    mean : numpy.ndarray (n, k)
        Logits of rows that the classifier was not fitted on.
    samples : numpy.ndarray (s, n, k)
    codes : numpy.ndarray of int (n,)
        True columns.

    Returns
    -------
    spread : float
        From 0.05 to 1.
    temperature : float
    """
    found = []
    for spread in _SPREADS:
        scaled = mean + spread * (samples - mean)
        temperature = fit_temperature(scaled, codes)
        found.append((spread, temperature, row_losses(scaled / temperature, codes)))
    best = min(found, key=lambda one: one[2].mean())[2]
    return next((spread, temperature) for spread, temperature, losses in found
                if (losses - best).mean() <= (losses - best).std() / np.sqrt(len(codes)))


def row_losses(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Negative log probability of each row's true class (n,), in nats, for logits (n, k) or samples of them (s, n, k)."""
    own = log_softmax(logits, axis=-1)[..., np.arange(len(codes)), codes]
    return -own if own.ndim == 1 else np.log(len(own)) - logsumexp(own, axis=0)


def negative_log_likelihood(labels: Any, probabilities: Any, classes: Any) -> float:
    """Mean negative log probability of the true class, in nats; a label outside `classes` is an error."""
    return float(negative_log_likelihood_rows(labels, probabilities, classes).mean())


def negative_log_likelihood_rows(labels: Any, probabilities: Any, classes: Any) -> np.ndarray:
    """What `negative_log_likelihood` is the mean of (n,)."""
    truth, chances, names = np.asarray(labels), np.asarray(probabilities), np.asarray(classes)
    _check_rows(truth, chances, names)
    own = chances[np.arange(len(truth)), label_codes("negative_log_likelihood", truth, names, len(truth))]
    least = np.finfo(chances.dtype if chances.dtype.kind == "f" else float).tiny
    return -np.log(np.clip(own, least, None).astype(np.float64))


def _confidence(labels: Any, probabilities: Any, classes: Any) -> tuple[np.ndarray, np.ndarray]:
    truth, chances, names = np.asarray(labels), np.asarray(probabilities), np.asarray(classes)
    _check_rows(truth, chances, names)
    return chances.max(axis=1).astype(np.float64), names[chances.argmax(axis=1)] == truth


def _binned_error(confidence: np.ndarray, correct: np.ndarray, member: np.ndarray) -> float:
    error = 0.0
    for number in np.unique(member):
        inside = member == number
        error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return float(error)


def _check_rows(truth: np.ndarray, chances: np.ndarray, names: np.ndarray) -> None:
    if chances.shape != (len(truth), len(names)) or len(truth) == 0:
        raise DataError(f"{len(truth)} labels and {len(names)} classes need probabilities of shape "
                        f"({len(truth)}, {len(names)}), at least one row; got {chances.shape}.")
    if not np.isfinite(chances).all():
        raise DataError("Some probabilities are NaN or infinite.")
    if {truth.dtype.kind, names.dtype.kind} & set("US") and truth.dtype.kind != names.dtype.kind:
        raise DataError(f"The labels are of type {truth.dtype}, the classes of type {names.dtype}: texts are no numbers.")
