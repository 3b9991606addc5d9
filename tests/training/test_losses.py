"""Targets, mixing and class weights."""

import numpy as np
import pytest
from training.blocks import separable, small_block

from xfer2.exceptions import ParameterError
from xfer2.training.loop import Trainer
from xfer2.training.losses import class_weights, mix, soft_targets


def test_smoothed_targets_are_probabilities_with_the_class_ahead():
    targets = soft_targets(np.array([2, 0]), 4, 0.1)
    np.testing.assert_allclose(targets.sum(axis=1), 1)
    np.testing.assert_allclose(targets[0], [0.025, 0.025, 0.925, 0.025])
    np.testing.assert_array_equal(soft_targets(np.array([1]), 3), [[0, 1, 0]])


def test_mixing_averages_inputs_and_targets_by_the_same_weight():
    codes = np.arange(50) % 5
    inputs, targets = soft_targets(codes, 5).astype(np.float32), soft_targets(codes, 5)
    (mixed, second), mixed_targets = mix([inputs, 2 * inputs], targets, 0.4, np.random.default_rng(0))
    np.testing.assert_allclose(mixed, mixed_targets, atol=1e-6)
    np.testing.assert_allclose(second, 2 * mixed, atol=1e-6)
    assert mixed.dtype == np.float32
    assert (mixed_targets[np.arange(50), codes] >= 0.5).all()
    assert (mixed_targets.max(axis=1) < 1).any()


def test_balanced_classes_weigh_alike_in_the_sum_and_one_in_the_mean():
    codes = np.array([0] * 6 + [1] * 3 + [2])
    weights = class_weights("Trainer", "balanced", codes, ["a", "b", "c"])
    np.testing.assert_allclose(weights * [6, 3, 1], 10 / 3)
    assert weights[codes].mean() == pytest.approx(1)
    given = class_weights("Trainer", {"c": 4.0}, codes, ["a", "b", "c"])
    assert given[2] == pytest.approx(4 * given[0])
    assert class_weights("Trainer", None, codes, ["a", "b", "c"]) is None


@pytest.mark.parametrize("wrong", [{"d": 1.0}, "even"])
def test_wrong_weights_are_named(wrong):
    with pytest.raises(ParameterError, match="Trainer: class_weight must be"):
        class_weights("Trainer", wrong, np.array([0, 1]), ["a", "b"])


@pytest.mark.parametrize("settings", [{"mixup": 0.5}, {"label_smoothing": 0.2}])
def test_a_class_without_weight_has_none_where_targets_are_soft(settings):
    inputs, codes = separable(30)
    trainer = Trainer(small_block(), epochs=1, class_weights=np.array([0.0, 1.5, 1.5]), random_state=0, **settings)
    trainer.fit(inputs, codes)
    _, targets, weights = trainer.prepare([inputs], codes, np.random.default_rng(0))
    assert (targets[:, 0] == 0).all()
    assert weights.tolist() == [1] * 30
    assert targets[:, 1:].max() == pytest.approx(1.5, rel=0.2)
