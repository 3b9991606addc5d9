"""Which examples to look at first."""

from __future__ import annotations

from typing import Any

import numpy as np

from xfer2._validation import check_integer
from xfer2.uncertainty.predictions import Prediction, label_codes


def most_uncertain(prediction: Prediction, count: int) -> np.ndarray:
    """The rows whose probabilities have the largest entropy.

    Parameters
    ----------
    prediction : Prediction
    count : int
        At least 1.

    Returns
    -------
    numpy.ndarray of int (min(count, n),)
        Row numbers, the most uncertain first; of equals, the earlier row.

    Raises
    ------
    ParameterError
        `count` is not an integer of at least 1.

    Examples
    --------
    >>> prediction = Prediction(np.array([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]]), np.array(["bee", "wasp"]), "abc")
    >>> most_uncertain(prediction, 2)
    array([1, 2])
    """
    check_integer("most_uncertain", "count", count)
    return np.argsort(-prediction.entropy, kind="stable")[:count]


def most_confidently_wrong(prediction: Prediction, labels: Any, count: int) -> np.ndarray:
    """The rows whose predicted class is wrong and has the largest probability.

    Parameters
    ----------
    prediction : Prediction
    labels : array-like (n,)
        True labels.
    count : int
        At least 1.

    Returns
    -------
    numpy.ndarray of int (at most count,)
        Row numbers, the most confident first; of equals, the earlier row. Empty where no prediction is wrong.

    Raises
    ------
    ParameterError
        `count` is not an integer of at least 1.
    DataError
        There is not one label a row, or one is not among the classes.

    Examples
    --------
    >>> prediction = Prediction(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array(["bee", "wasp"]), "abc")
    >>> most_confidently_wrong(prediction, ["bee", "bee", "bee"], 5)
    array([2, 1])
    """
    owner = "most_confidently_wrong"
    check_integer(owner, "count", count)
    truth = label_codes(owner, labels, prediction.classes, len(prediction))
    wrong = np.flatnonzero(prediction.probabilities.argmax(axis=1) != truth)
    return wrong[np.argsort(-prediction.confidence[wrong], kind="stable")[:count]]
