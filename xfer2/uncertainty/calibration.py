"""Whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from xfer2._random import root_seed
from xfer2._validation import check_inside, check_integer
from xfer2.exceptions import DataError
from xfer2.uncertainty.predictions import columns_of, label_codes

_LEAST = float(np.finfo(np.float32).tiny)  # probabilities below it count as it, in any precision: 87 nats
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
    return binned_calibration_error(*confidence_rows(labels, probabilities, classes), bins)


def binned_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """`expected_calibration_error` of rows by their confidence (n,) and whether the predicted class is the true one (n,)."""
    return _binned_error(confidence, correct, _equal_bins(confidence, bins))


def adaptive_calibration_error(labels: Any, probabilities: Any, classes: Any, bins: int = 15) -> float:
    """Expected calibration error over bins with equally many rows, so that no bin rests on a handful.

    Parameters and result are those of `expected_calibration_error`. Rows of one confidence are in one bin, that of the first
    of them, so that the order of the rows does not matter.

    References
    ----------
    Nguyen and O'Connor 2015, arXiv:1508.05154.
    """
    check_integer("adaptive_calibration_error", "bins", bins)
    confidence, correct = confidence_rows(labels, probabilities, classes)
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
    codes, chances = _checked(labels, probabilities, classes)
    return np.asarray(((chances - (np.arange(chances.shape[1]) == codes[:, np.newaxis])) ** 2).sum(axis=1))


def reliability_curve(labels: Any, probabilities: Any, classes: Any,
                      bins: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a reliability diagram shows: for each bin that is not empty, mean confidence, accuracy, and rows.

    Returns
    -------
    confidence, accuracy : numpy.ndarray (b,)
    count : numpy.ndarray of int (b,)
    """
    check_integer("reliability_curve", "bins", bins)
    confidence, correct = confidence_rows(labels, probabilities, classes)
    member = _equal_bins(confidence, bins)
    inside = [member == number for number in np.unique(member)]
    return (np.array([confidence[rows].mean() for rows in inside]), np.array([correct[rows].mean() for rows in inside]),
            np.array([rows.sum() for rows in inside]))


def bootstrap_interval(score: Callable[[Any, Any, Any], float], labels: Any, probabilities: Any, classes: Any,
                       level: float = 0.95, resamples: int = 1000, random_state: Any = None) -> tuple[float, float]:
    """Percentile interval of a score over resamples of the rows (Efron 1979).

    Of a score that grows with every resampling, as calibration errors do, it lies too high; `Evaluation.figures` mends that.

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
    _checked(truth, chances, classes)
    return bootstrap_rows(lambda rows: score(truth[rows], chances[rows], classes), len(truth), level, resamples,
                          random_state)


def bootstrap_rows(score: Callable[[np.ndarray], Any], count: int, level: float = 0.95, resamples: int = 1000,
                   random_state: Any = None) -> tuple[float, float]:
    """`bootstrap_interval` of a score that takes row numbers (count,) of `count` rows."""
    owner = "bootstrap_interval"
    check_inside(owner, "level", level)
    check_integer(owner, "resamples", resamples)
    random = np.random.default_rng(root_seed(owner, random_state))
    scores = [score(random.integers(0, count, count)) for _ in range(resamples)]
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
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
        Above 1 where the classifier was too sure.

    References
    ----------
    Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """

    def loss(log_temperature: float) -> float:
        return float(row_losses(logits / np.exp(log_temperature), codes).mean() + log_temperature**2 / (2 * len(codes)))

    spread = float(np.std(logits - logits.mean(axis=-1, keepdims=True)))
    middle = np.log(spread) if 0 < spread < 0.01 or spread > 100 else 0.0  # margins may be of any size
    while True:
        low, high = middle + np.log(0.01), middle + np.log(100)
        middle = minimize_scalar(loss, bounds=(low, high), method="bounded").x
        if min(middle - low, high - middle) > 0.01:
            return float(np.exp(middle))


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
    codes, chances = _checked(labels, probabilities, classes)
    if (codes < 0).any():  # said by name
        label_codes("negative_log_likelihood", labels, classes, len(codes))
    return -np.log(np.clip(chances[np.arange(len(codes)), codes], _LEAST, None))


def confidence_rows(labels: Any, probabilities: Any, classes: Any) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each row's predicted class, and whether that is the true one: (n,) each."""
    codes, chances = _checked(labels, probabilities, classes)
    return chances.max(axis=1), chances.argmax(axis=1) == codes


def _equal_bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def _binned_error(confidence: np.ndarray, correct: np.ndarray, member: np.ndarray) -> float:
    """Mean over rows of what is wrong in their bin: its share of correct ones less its mean confidence."""
    return float(np.abs(np.bincount(member, correct - confidence)).sum() / len(member))


def _checked(labels: Any, probabilities: Any, classes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the true classes (n,), -1 of a label that is none, and probabilities (n, k) in double precision."""
    truth, chances, names = np.asarray(labels), np.asarray(probabilities), np.asarray(classes)
    if truth.ndim != 1 or chances.shape != (len(truth), len(names)) or len(truth) == 0:
        raise DataError(f"Labels of shape (n,), at least one, and {len(names)} classes need probabilities of shape "
                        f"(n, {len(names)}); got labels of shape {truth.shape} and probabilities of shape {chances.shape}.")
    if not np.isfinite(chances).all():
        raise DataError("Some probabilities are NaN or infinite.")
    if len({isinstance(name, str) for name in truth.tolist() + names.tolist()}) > 1:
        raise DataError(f"The labels are of type {truth.dtype}, the classes of type {names.dtype}: texts are no numbers.")
    return columns_of(truth, names), chances.astype(np.float64)
