"""The cells hold the counts, and say them where there are few."""

from itertools import pairwise

import numpy as np
import pytest

from xfer2.exceptions import DataError
from xfer2.visualization import plot_confusion


def test_cells_and_numbers_are_counts_in_the_classes_order(told, truth, given):
    ax = plot_confusion(truth, told.labels, told.classes, ax=given)
    assert ax is given
    expected = [[2, 1, 0], [0, 0, 0], [1, 0, 0]]  # bee, fly, wasp down; the same across
    assert ax.images[0].get_array().tolist() == expected
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(column, row): str(expected[row][column]) for row in range(3) for column in range(3)}
    for axis in (ax.xaxis, ax.yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == ["bee", "fly", "wasp"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert ax.yaxis_inverted()  # the first class on top, as in a table


def test_shares_are_of_the_true_class_and_blank_without_rows(told, truth):
    ax = plot_confusion(truth, told.labels, told.classes, normalize=True)
    np.testing.assert_allclose(ax.images[0].get_array().filled(np.nan),
                               [[200 / 3, 100 / 3, 0], [np.nan] * 3, [100, 0, 0]])
    assert [text.get_text() for text in ax.texts] == ["67", "33", "0", "100", "0", "0"]
    assert "% of the true class's rows" in ax.get_title()


def test_numbers_stand_out_from_their_cells():
    ax = plot_confusion([0] * 9 + [1], [0] * 9 + [0])
    assert [text.get_color() for text in ax.texts] == ["white", "black", "black", "black"]


def test_many_classes_have_a_colorbar_and_every_kth_name(given):
    names = [f"breed{number:03}" for number in range(100)]
    ax = plot_confusion(names, names, ax=given)
    assert not ax.texts
    assert ax.images[0].colorbar.ax.get_ylabel() == "rows"
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert shown == names[::12]
    ax.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))


def test_a_label_that_is_no_class_is_an_error(told, truth):
    with pytest.raises(DataError, match="plot_confusion: the label 'hornet' is not among the classes"):
        plot_confusion(truth, ["hornet", *told.labels[1:]], told.classes)
    with pytest.raises(DataError, match="at least one row"):
        plot_confusion([], [])
