"""The gates' picture shows the table's numbers."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from xfer2.exceptions import DataError
from xfer2.visualization import plot_gates

CHANNELS = pd.DataFrame({"layer": ["conv9"] * 4 + ["conv10"] * 2, "channel": [0, 1, 2, 3, 0, 1],
                         "update": [0.1, 0.2, 0.3, 0.4, 0.9, 0.7], "fine_tune": [0.5, 0.5, 0.7, 0.7, 0.2, 0.4]})


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("frame", [CHANNELS, CHANNELS.groupby("layer", sort=False)[["update", "fine_tune"]].mean()
                                   .reset_index()])
def test_lines_are_the_means_in_the_tables_order(frame):
    ax = plot_gates(frame)
    update, fine_tune = ax.get_lines()
    np.testing.assert_allclose(update.get_ydata(), [0.25, 0.8])
    np.testing.assert_allclose(fine_tune.get_ydata(), [0.6, 0.3])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["conv9", "conv10"]
    assert ax.get_ylim() == (0, 1)
    assert ax.get_xlabel() == "layer"
    assert ax.get_ylabel() == "mean over the training examples"
    assert len(ax.collections) == (2 if "channel" in frame else 0)


def test_it_draws_into_axes_that_are_given():
    ax = plt.figure().add_subplot()
    assert plot_gates(CHANNELS, ax) is ax


@pytest.mark.parametrize(("frame", "said"), [(CHANNELS.drop(columns="update"), "needs a column 'update'"),
                                             (CHANNELS[:0], "has no rows")])
def test_tables_of_another_kind_are_told_so_and_leave_no_figure(frame, said):
    with pytest.raises(DataError, match=said):
        plot_gates(frame)
    assert plt.get_fignums() == []


def test_layers_that_begin_and_end_alike_have_labels_of_their_own():
    names = [f"stage{stage}_unit{unit}_conv1" for stage in (1, 3) for unit in (1, 2, 3)]
    ax = plot_gates(pd.DataFrame({"layer": names, "update": 0.5, "fine_tune": 0.5}))
    assert len({label.get_text() for label in ax.get_xticklabels()}) == 6
