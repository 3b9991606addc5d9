"""Whether probabilities mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np

from xfer2._validation import check_integer
from xfer2.exceptions import DataError


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
    truth, chances, names = np.asarray(labels), np.asarray(probabilities), np.asarray(classes)
    _check_rows(truth, chances, names)
    confidence = chances.max(axis=1)
    correct = names[chances.argmax(axis=1)] == truth
    member = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    error = 0.0
    for number in np.unique(member):
        inside = member == number
        error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return float(error)


def negative_log_likelihood(labels: Any, probabilities: Any, classes: Any) -> float:
    """Mean negative log probability of the true class, in nats; a label outside `classes` is an error."""
    truth, chances, names = np.asarray(labels), np.asarray(probabilities), np.asarray(classes)
    _check_rows(truth, chances, names)
    positions = {name: column for column, name in enumerate(names.tolist())}
    unknown = sorted({str(label) for label in truth.tolist() if label not in positions})
    if unknown:
        raise DataError(f"negative_log_likelihood: the label {unknown[0]!r} is not among the classes.")
    own = chances[np.arange(len(truth)), [positions[label] for label in truth.tolist()]]
    return float(-np.log(np.clip(own, np.finfo(float).tiny, None)).mean())


def _check_rows(truth: np.ndarray, chances: np.ndarray, names: np.ndarray) -> None:
    if chances.shape != (len(truth), len(names)) or len(truth) == 0:
        raise DataError(f"{len(truth)} labels and {len(names)} classes need probabilities of shape "
                        f"({len(truth)}, {len(names)}), at least one row; got {chances.shape}.")
