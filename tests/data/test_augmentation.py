"""Random changes of images."""

import re

import numpy as np
import pytest

from xfer2._mxnet import mx
from xfer2.data.augmentation import Augmentation, augmented
from xfer2.exceptions import DataError, ParameterError


def test_shifting_moves_images_whole_and_by_at_most_its_reach():
    images = np.zeros((50, 1, 9, 9), np.float32)
    images[:, 0, 4, 4] = 1
    moved = Augmentation(shift=2)(images, np.random.default_rng(0))
    rows, columns = zip(*(np.argwhere(image[0])[0] for image in moved), strict=True)
    assert (moved.sum(axis=(1, 2, 3)) == 1).all()
    assert set(rows) == set(columns) == {2, 3, 4, 5, 6}


def test_about_half_of_the_images_are_mirrored_and_the_others_untouched():
    images = np.arange(200 * 3 * 4 * 4, dtype=np.float32).reshape(200, 3, 4, 4)
    mirrored = Augmentation(flip=True)(images, np.random.default_rng(0))
    turned = (mirrored == images[..., ::-1]).all(axis=(1, 2, 3))
    assert (turned | (mirrored == images).all(axis=(1, 2, 3))).all()
    assert 70 < turned.sum() < 130


def test_colour_changes_brightness_and_contrast_and_nothing_else():
    images = np.random.default_rng(1).normal(0, 1, (20, 3, 6, 6)).astype(np.float32)
    coloured = Augmentation(color=0.3)(images, np.random.default_rng(0))
    assert coloured.dtype == np.float32
    assert np.abs(coloured - images).max() < 2
    assert (np.abs(coloured - images).max(axis=(1, 2, 3)) > 1e-3).all()
    for before, after in zip(images, coloured, strict=True):
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.98


def bar(height=31, width=21):
    """An image with an upright bar in its middle."""
    image = np.zeros((1, 1, height, width), np.float32)
    image[..., height // 2 - 6:height // 2 + 7, width // 2] = 1
    return image


def slope(image):
    """Columns by which the ink moves right from one row to the next."""
    rows, columns = np.mgrid[:image.shape[1], :image.shape[2]]
    ink = image[0] / image[0].sum()
    rows, columns = rows - (ink * rows).sum(), columns - (ink * columns).sum()
    return (ink * rows * columns).sum() / (ink * rows**2).sum()


def test_images_are_turned_both_ways_by_at_most_the_angle_also_where_they_are_not_square():
    turned = Augmentation(rotation=20)(np.repeat(bar(), 100, axis=0), np.random.default_rng(0))
    angles = np.degrees(np.arctan([slope(image) for image in turned]))
    assert 18 < angles.max() < 21
    assert -21 < angles.min() < -18
    np.testing.assert_allclose(turned.sum(axis=(1, 2, 3)), 13, rtol=0.1)


def test_zooming_changes_width_and_height_each_on_its_own():
    square = np.zeros((100, 1, 41, 41), np.float32)
    square[..., 10:31, 10:31] = 1
    zoomed = Augmentation(zoom=0.5)(square, np.random.default_rng(0))
    heights, widths = zoomed[:, 0, :, 20].sum(axis=1), zoomed[:, 0, 20].sum(axis=1)
    for sizes in (heights, widths):
        assert 13 < sizes.min() < 16
        assert 28 < sizes.max() < 33
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.3


def test_shearing_moves_rows_sideways():
    sheared = Augmentation(shear=0.5)(np.repeat(bar(), 100, axis=0), np.random.default_rng(0))
    slopes = np.array([slope(image) for image in sheared])
    assert 0.4 < slopes.max() < 0.55
    assert -0.55 < slopes.min() < -0.4
    assert (np.argwhere(sheared[:, 0].sum(axis=2) > 0.5)[:, 1].min(), sheared.shape) == (9, (100, 1, 31, 21))


def test_beyond_its_border_a_turned_image_goes_on_as_it_ends():
    images = np.full((20, 3, 8, 8), 7, np.float32)
    np.testing.assert_allclose(Augmentation(rotation=45, zoom=1.0)(images, np.random.default_rng(0)), 7, rtol=1e-6)


@pytest.mark.parametrize(("parameters", "message"), [
    ({"shift": -1}, "shift must be an integer of at least 0"), ({"shift": 1.5}, "shift must be an integer"),
    ({"rotation": -1}, "rotation must be a number of at least 0"), ({"zoom": "much"}, "zoom must be a number"),
    ({"color": float("nan")}, "color must be a number"), ({"shear": None}, "shear must be a number")])
def test_parameters_that_mean_nothing_are_refused(parameters, message):
    with pytest.raises(ParameterError, match=message):
        Augmentation(**parameters)


def test_the_same_generator_changes_alike_and_nothing_is_changed_in_place():
    images = np.random.default_rng(1).normal(0, 1, (8, 3, 6, 6)).astype(np.float32)
    before, change = images.copy(), Augmentation(1, True, 0.2, 10, 0.2, 0.1)
    np.testing.assert_array_equal(change(images, np.random.default_rng(3)), change(images, np.random.default_rng(3)))
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(Augmentation()(images, np.random.default_rng(0)), images)


def test_what_is_no_image_is_told():
    with pytest.raises(DataError, match=r"for images \(n, channels, height, width\); these data have shape \(4, 7\)"):
        Augmentation(flip=True)(np.zeros((4, 7)), np.random.default_rng(0))


@pytest.mark.parametrize(("made", "told"), [(lambda images, random: None, "object of shape ()"),
                                            (lambda images, random: images[1:], "float32 of shape (3, 3, 8, 8)"),
                                            (lambda images, random: images.mean(), "float32 of shape ()")])
def test_what_an_augmentation_of_ones_own_must_give(made, told):
    images = np.zeros((4, 3, 8, 8), np.float32)
    with pytest.raises(DataError, match=re.escape(f"one row an example; of 4 examples it gave {told}")):
        augmented(made, images, np.random.default_rng(0))
    with pytest.raises(DataError, match="augment gave NaN or infinity for 4 examples"):
        augmented(lambda images, random: images + np.inf, images, np.random.default_rng(0))
    doubled = augmented(lambda images, random: mx.nd.array(images + 1), images, np.random.default_rng(0))
    np.testing.assert_array_equal(doubled, images + 1)
