"""The diagram shows the calibration module's numbers."""

import numpy as np
import pytest

from xfer2.exceptions import ParameterError
from xfer2.uncertainty.calibration import expected_calibration_error, reliability_curve
from xfer2.visualization import plot_reliability


def test_points_are_the_bins_and_bars_their_shares(told, truth, given):
    ax = plot_reliability(truth, told.probabilities, told.classes, bins=4, ax=given)
    assert ax is given
    confidence, accuracy, count = reliability_curve(truth, told.probabilities, told.classes, 4)
    diagonal, points = ax.get_lines()
    np.testing.assert_array_equal(diagonal.get_ydata(), diagonal.get_xdata())
    np.testing.assert_array_equal(points.get_xdata(), confidence)
    np.testing.assert_array_equal(points.get_ydata(), accuracy)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], count / 4)
    error = expected_calibration_error(truth, told.probabilities, told.classes, 4)
    assert f"accuracy, ECE {error:.3f}" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("confidence", "accuracy; share of rows")


def test_bins_that_are_none_are_an_error(told, truth):
    with pytest.raises(ParameterError, match="bins must be an integer of at least 1; got 0"):
        plot_reliability(truth, told.probabilities, told.classes, bins=0)
