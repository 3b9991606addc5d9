"""Rows to look at first, against plain sorting."""

import numpy as np
import pytest

from xfer2 import Prediction
from xfer2.exceptions import DataError, ParameterError
from xfer2.uncertainty.ranking import most_confidently_wrong, most_uncertain

RANDOM = np.random.default_rng(0)
PROBABILITIES = RANDOM.dirichlet([0.5] * 4, 40).round(1)
PREDICTION = Prediction(PROBABILITIES / PROBABILITIES.sum(axis=1, keepdims=True), np.array(list("abcd")), range(40))
LABELS = RANDOM.choice(list("abcd"), 40)


def test_most_uncertain_first_and_the_earlier_of_equals():
    expected = sorted(range(40), key=lambda row: (-PREDICTION.entropy[row], row))
    assert most_uncertain(PREDICTION, 7).tolist() == expected[:7]
    assert most_uncertain(PREDICTION, 100).tolist() == expected


def test_only_wrong_rows_the_most_confident_first():
    wrong = [row for row in range(40) if PREDICTION.labels[row] != LABELS[row]]
    expected = sorted(wrong, key=lambda row: (-PREDICTION.confidence[row], row))
    assert most_confidently_wrong(PREDICTION, LABELS, 100).tolist() == expected
    assert most_confidently_wrong(PREDICTION, LABELS, 3).tolist() == expected[:3]
    assert most_confidently_wrong(PREDICTION, PREDICTION.labels, 3).tolist() == []


def test_errors():
    with pytest.raises(ParameterError, match="count must be an integer of at least 1; got 0"):
        most_uncertain(PREDICTION, 0)
    with pytest.raises(DataError, match="the label 'e' is not among the classes"):
        most_confidently_wrong(PREDICTION, ["e"] * 40, 3)
