"""Each image stands beside its own probabilities, and wrong ones are marked."""

import numpy as np
import pytest

from xfer2 import Prediction
from xfer2.exceptions import DataError, ParameterError
from xfer2.visualization import plot_most_confidently_wrong, plot_most_uncertain, plot_predictions

IMAGES = [np.full(shape, 50 * number, np.uint8) for number, shape in enumerate([(8, 8), (20, 10, 3), (6, 9, 1), (5, 5, 4)])]


def titles(ax):
    return [text.get_text() for text in ax.texts]


def bars_of(ax):
    """Names, written probabilities and widths of the bars beside each image."""
    found = []
    for bars in ax.child_axes[1::2]:
        texts = [text.get_text() for text in bars.texts]
        found.append((texts[::2], texts[1::2], [bar.get_width() for bar in bars.patches]))
    return found


def test_bars_are_the_likeliest_classes(told, truth, given):
    ax = plot_predictions(IMAGES, told, rows=[1, 2], labels=truth, top=2, ax=given)
    assert ax is given
    assert bars_of(ax) == [(["fly", "bee"], ["0.80", "0.10"], [0.8, 0.1]), (["bee", "fly"], ["0.40", "0.30"], [0.4, 0.3])]
    assert ax.child_axes[0].images[0].get_array().shape == (20, 10, 3)
    assert ax.child_axes[2].images[0].get_array().shape == (6, 9)
    assert not ax.axison
    assert ax.get_title() == "probability of the 2 likeliest classes"


def test_wrong_ones_are_marked_by_words_and_a_frame(told, truth):
    ax = plot_predictions(IMAGES, told, labels=truth)
    assert titles(ax) == ["true: bee", "wrong, true: bee", "true: bee", "wrong, true: wasp"]
    assert [shown.spines["left"].get_visible() for shown in ax.child_axes[::2]] == [False, True, False, True]


def test_without_labels_titles_are_ids(told):
    assert titles(plot_predictions({2: IMAGES[2], 0: IMAGES[0]}, told)) == ["c.png", "a.png"]


def test_long_ids_are_told_apart(told):
    ids = [f"photographs/of/{name}/in/the/garden.png" for name in ("bees", "wasp", "flies", "ants")]
    assert len(set(titles(plot_predictions(IMAGES, type(told)(told.probabilities, told.classes, ids))))) == 4
    assert titles(plot_predictions(IMAGES[:1], type(told)(told.probabilities[:1], told.classes, [""]))) == [""]


def test_most_uncertain_and_most_confidently_wrong(told, truth, given):
    assert titles(plot_most_uncertain(IMAGES, told, count=2, ax=given)) == ["c.png", "d.png"]
    ax = plot_most_confidently_wrong(dict(enumerate(IMAGES)), told, truth)
    assert titles(ax) == ["wrong, true: bee", "wrong, true: wasp"]
    assert titles(plot_most_confidently_wrong(IMAGES, told, told.labels)) == ["no prediction is wrong"]


def test_names_are_shortened_and_no_mathematics_is_read_into_them(told):
    classes = np.array(["$x^$ and \\frac", "n02106662_German_shepherd", "_"])
    ax = plot_predictions(IMAGES, type(told)(told.probabilities, classes, ["$\\bad{$", "b", "c", "d"]), rows=[0])
    ax.figure.canvas.draw()  # a formula that cannot be read would be an error here
    names = bars_of(ax)[0][0]
    assert names[1] == "n02106…pherd"
    assert all(len(name.replace("\\$", "$")) <= 12 for name in names)


@pytest.mark.parametrize("classes", [["German_shepherd_dog", "German_shepherd_cat", "German_shepherd_wasp"],
                                     ["Northern_red_oak_leaf", "Northern_white_oak_leaf", "Northern_pin_oak_leaf"]])
def test_texts_differ_and_do_not_overlap_at_the_reports_size(told, truth, given, classes):
    classes = np.array(classes)
    names = dict(zip(told.classes, classes, strict=True))
    ax = plot_predictions(IMAGES, type(told)(told.probabilities, classes, told.ids), labels=[names[one] for one in truth],
                          ax=given)
    ax.figure.draw_without_rendering()
    assert len({name for shown, _, _ in bars_of(ax) for name in shown}) == 3
    assert {title.rpartition(" ")[2] for title in titles(ax)} <= set(bars_of(ax)[0][0])
    boxes = [text.get_window_extent() for axes in [ax, *ax.child_axes] for text in axes.texts]
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    assert all(ax.figure.bbox.padded(1).containsx(box.x1) for box in boxes)


@pytest.mark.parametrize(("images", "rows", "message"), [
    (IMAGES, [4], "the prediction has rows 0 to 3; got row 4"),
    ({0: IMAGES[0]}, [1], "row 1 has no image"),
    ([np.zeros((4, 4))], None, r"the image of row 0 must be of uint8.*got float64 of shape \(4, 4\)"),
    ([np.zeros((4, 4, 2), np.uint8)], None, r"got uint8 of shape \(4, 4, 2\)"),
    ({}, None, "no rows to show"),
])
def test_what_cannot_be_shown_is_an_error(told, images, rows, message):
    with pytest.raises(DataError, match=message):
        plot_predictions(images, told, rows)


def test_other_errors(told, truth):
    with pytest.raises(ParameterError, match="top must be an integer of at least 1; got 0"):
        plot_predictions(IMAGES, told, top=0)
    with pytest.raises(DataError, match=r"4 predictions need labels of shape \(4,\)"):
        plot_predictions(IMAGES, told, labels=truth[:2])


def test_rows_are_positions_or_a_mask():
    prediction = Prediction(np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), np.array([0, 1]), ["a", "b", "c"])
    images = np.zeros((3, 4, 4), np.uint8)
    for rows in ([1, 2], np.array([False, True, True])):
        assert [text.get_text() for text in plot_predictions(images, prediction, rows).texts] == ["b", "c"]
    for rows in ([1.9], ["a"], 1, [True, False]):
        with pytest.raises(ParameterError, match="rows must be positions of rows, or a mask of 3"):
            plot_predictions(images, prediction, rows)
