"""The grid shows every picture, each over its own range."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from xfer2.exceptions import ParameterError
from xfer2.visualization.filters import plot_filters

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def shown(ax):
    return [inset.images[0].get_array() for inset in ax.child_axes]


@pytest.mark.parametrize("shape", [(11, 6, 5), (11, 1, 6, 5)])
def test_grey_pictures_fill_their_own_range(shape):
    images = RANDOM.normal(size=shape) * np.arange(1, 12).reshape(-1, *(1,) * (len(shape) - 1))
    pictures = shown(plot_filters(images))
    assert len(pictures) == 11
    for picture, image in zip(pictures, images.reshape(11, 6, 5), strict=True):
        np.testing.assert_allclose(picture, (image - image.min()) / (image.max() - image.min()))


def test_three_channels_are_a_colour_picture_scaled_as_one():
    images = RANDOM.normal(size=(2, 3, 6, 5))
    (picture, _) = shown(plot_filters(images))
    assert picture.shape == (6, 5, 3)
    assert (picture.min(), picture.max()) == (0, 1)
    assert picture[..., 1].argmax() == images[0, 1].argmax()


def test_a_picture_of_one_value_is_grey():
    image = plot_filters(np.full((1, 4, 4), 7.0)).child_axes[0].images[0]
    np.testing.assert_allclose(image.to_rgba(image.get_array())[..., :3], 0.5, atol=0.01)


@pytest.mark.parametrize("count", [1, 5, 64, 70])
def test_pictures_do_not_overlap_and_stay_inside(count):
    ax = plot_filters(RANDOM.random((count, 4, 4)), titles=[str(number) for number in range(count)])
    ax.figure.canvas.draw()
    boxes = [inset.get_window_extent() for inset in ax.child_axes]
    outer = ax.get_window_extent()
    for number, box in enumerate(boxes):
        assert outer.x0 <= box.x0 < box.x1 <= outer.x1
        assert outer.y0 <= box.y0 < box.y1 <= outer.y1
        assert not any(box.overlaps(other) for other in boxes[:number])
    assert [inset.get_title() for inset in ax.child_axes] == [str(number) for number in range(count)]


def test_it_draws_into_axes_that_are_given_without_their_frame():
    ax = plt.figure().add_subplot()
    assert plot_filters(RANDOM.random((3, 4, 4)), ax=ax) is ax
    assert not ax.axison


@pytest.mark.parametrize("images", [np.ones((4, 4)), np.ones((2, 2, 4, 4)), np.ones((0, 4, 4)), [[[np.nan]]]])
def test_wrong_shapes_are_refused(images):
    with pytest.raises(ParameterError, match="images must be finite, of shape"):
        plot_filters(images)


def test_titles_must_be_as_many():
    with pytest.raises(ParameterError, match="2 texts, one per picture"):
        plot_filters(np.ones((2, 4, 4)), ["one"])
