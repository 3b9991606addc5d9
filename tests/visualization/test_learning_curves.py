"""Lines are means of repeats, bands their t-intervals; a history's best epoch is marked."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from xfer2.exceptions import DataError
from xfer2.visualization import plot_history, plot_learning_curves

REPEATS = pd.DataFrame({"method": ["lr"] * 6 + ["gp"] * 2, "examples": [50, 50, 50, 5, 5, 5, 5, 50],
                        "accuracy": [0.8, 0.9, 0.85, 0.6, 0.5, 0.7, 0.65, 0.95]})
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "loss": [1.0, 0.5, 0.2], "accuracy": [0.5, 0.7, 0.9], "seconds": [1, 1, 1],
                        "validation_loss": [0.9, 0.6, 0.8], "validation_accuracy": [0.6, 0.7, 0.7]})


def test_lines_are_means_and_the_band_the_t_interval(given):
    ax = plot_learning_curves(REPEATS, ax=given)
    assert ax is given
    lr, gp = ax.get_lines()
    assert [lr.get_label(), gp.get_label()] == [text.get_text() for text in ax.get_legend().get_texts()] == ["lr", "gp"]
    np.testing.assert_array_equal(lr.get_xdata(), [5, 50])
    np.testing.assert_allclose(lr.get_ydata(), [0.6, 0.85])
    np.testing.assert_allclose(gp.get_ydata(), [0.65, 0.95])
    band, = ax.collections  # of lr only: gp has single repeats
    corners = band.get_paths()[0].vertices
    interval = ttest_1samp([0.8, 0.9, 0.85], 0).confidence_interval(0.95)
    np.testing.assert_allclose(sorted({y for x, y in corners.round(6) if x == 50}), interval, atol=1e-6)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("examples", "accuracy")
    assert ax.get_xscale() == "log"


def test_other_columns_and_a_narrow_range_of_them():
    frame = pd.DataFrame({"shots": [1, 2], "loss": [0.9, 0.7], "net": ["a", "a"]})
    ax = plot_learning_curves(frame, x="shots", y="loss", group="net")
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("shots", "loss", "linear")


def test_groups_of_long_names_are_told_apart():
    names = ["NeuralNetworkFineTuneRepurposer", "NeuralNetworkRandomFreezeRepurposer"]
    legend = plot_learning_curves(pd.DataFrame({"examples": [5, 5], "accuracy": [0.5, 0.6], "method": names})).get_legend()
    assert len({text.get_text() for text in legend.get_texts()}) == 2


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match=r"plot_learning_curves: the table needs a column 'seed'; it has \['method'"):
        plot_learning_curves(REPEATS, group="seed")
    with pytest.raises(DataError, match="has no rows"):
        plot_learning_curves(REPEATS[:0])


def test_history_shows_both_losses_and_marks_the_best_epoch(given):
    ax = plot_history(HISTORY, given)
    assert ax is given
    training, validation, best = ax.get_lines()
    np.testing.assert_array_equal(training.get_data(), [[1, 2, 3], [1.0, 0.5, 0.2]])
    np.testing.assert_array_equal(validation.get_data(), [[1, 2, 3], [0.9, 0.6, 0.8]])
    np.testing.assert_array_equal(np.ravel(best.get_data()), [2, 0.6])
    assert best.get_label() == "least: epoch 2"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss (nats)")


def test_history_without_validation_is_one_line():
    line, = plot_history(HISTORY[["epoch", "loss"]]).get_lines()
    assert line.get_label() == "training"


def test_epochs_are_whole_numbers():
    ax = plot_history(HISTORY)
    ax.figure.draw_without_rendering()
    assert all(tick == int(tick) for tick in ax.get_xticks())


def test_columns_of_texts_are_an_error_and_leave_no_figure():
    for name in ("examples", "accuracy"):
        with pytest.raises(DataError, match=f"the column '{name}' must hold finite numbers"):
            plot_learning_curves(REPEATS.assign(**{name: "many"}))
    with pytest.raises(DataError, match="the column 'epoch' must hold finite numbers"):
        plot_history(HISTORY.assign(epoch="first"))
    assert plt.get_fignums() == []
