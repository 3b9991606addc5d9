"""Random changes of images."""

import numpy as np
import pytest

from xfer2.data.augmentation import Augmentation
from xfer2.exceptions import DataError


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


def test_the_same_generator_changes_alike_and_nothing_is_changed_in_place():
    images = np.random.default_rng(1).normal(0, 1, (8, 3, 6, 6)).astype(np.float32)
    before, change = images.copy(), Augmentation(shift=1, flip=True, color=0.2)
    np.testing.assert_array_equal(change(images, np.random.default_rng(3)), change(images, np.random.default_rng(3)))
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(Augmentation()(images, np.random.default_rng(0)), images)


def test_what_is_no_image_is_told():
    with pytest.raises(DataError, match=r"for images \(n, channels, height, width\); these data have shape \(4, 7\)"):
        Augmentation(flip=True)(np.zeros((4, 7)), np.random.default_rng(0))
