"""Layers stay in the table's order, and the best is marked."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from xfer2.exceptions import DataError
from xfer2.visualization import plot_layer_sweep

SCORES = pd.DataFrame({"layer": ["conv9", "conv10", "dense0"] * 2, "score": [0.5, 0.9, 0.6, 0.7, 0.8, 0.6]})


def test_means_in_the_tables_order_and_the_best(given):
    ax = plot_layer_sweep(SCORES, given)
    assert ax is given
    mean, best = ax.get_lines()
    np.testing.assert_allclose(mean.get_ydata(), [0.6, 0.85, 0.6])
    np.testing.assert_allclose(np.ravel(best.get_data()), [1, 0.85])
    assert best.get_label() == "best: conv10, 0.850"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["conv9", "conv10", "dense0"]
    assert len(ax.collections) == 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("layer", "score")


def test_single_repeats_have_no_band():
    assert not plot_layer_sweep(SCORES[:3]).collections


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="needs a column 'score'"):
        plot_layer_sweep(SCORES[["layer"]])


@pytest.mark.parametrize("score", [[0.5, np.nan], [np.nan, np.nan], ["good", "bad"]])
def test_scores_that_are_no_numbers_are_an_error_and_leave_no_figure(score):
    with pytest.raises(DataError, match="the column 'score' must hold finite numbers"):
        plot_layer_sweep(pd.DataFrame({"layer": ["a", "b"], "score": score}))
    assert plt.get_fignums() == []
