"""Learning rates by step."""

import numpy as np
import pytest

from xfer2._mxnet import mx
from xfer2.exceptions import ParameterError
from xfer2.training.schedules import SCHEDULES, make_schedule


def rates(shape, steps=100, warm_up=0):
    schedule = make_schedule("Trainer", shape, steps, warm_up, 0.2)
    return np.array([schedule(step) for step in range(1, steps + 1)])


@pytest.mark.parametrize("shape", SCHEDULES)
def test_a_rate_rises_along_a_line_to_its_peak_and_never_after(shape):
    found = rates(shape, warm_up=10)
    np.testing.assert_allclose(found[:10], 0.2 * np.arange(1, 11) / 10)
    np.testing.assert_allclose(found[10:], rates(shape, steps=90))
    assert (np.diff(found[10:]) <= 0).all()
    assert found.max() == pytest.approx(0.2)


def test_the_shapes_are_what_their_names_say():
    np.testing.assert_allclose(rates("cosine"), 0.1 * (1 + np.cos(np.pi * np.arange(100) / 100)))
    np.testing.assert_allclose(rates("linear"), 0.2 * (1 - np.arange(100) / 100))
    np.testing.assert_allclose(rates("poly"), 0.2 * (1 - np.arange(100) / 100) ** 2)
    np.testing.assert_allclose(rates("constant"), 0.2)
    np.testing.assert_allclose(rates("step")[[0, 49, 50, 74, 75, 99]], [0.2, 0.2, 0.02, 0.02, 0.002, 0.002])


def test_a_schedule_of_mxnet_is_copied_and_an_unknown_name_is_told():
    own = mx.lr_scheduler.FactorScheduler(10, 0.5, base_lr=1.0)
    copied = make_schedule("Trainer", own, 100, 0, 0.2)
    assert [copied(step) for step in (1, 11, 21)] == [0.2, 0.1, 0.05]
    assert (own.count, own.base_lr) == (0, 1.0)
    cosine = make_schedule("Trainer", mx.lr_scheduler.CosineScheduler(100, base_lr=1.0), 100, 0, 0.2)
    assert [round(cosine(step), 3) for step in (0, 50, 100)] == [0.2, 0.1, 0.0]
    with pytest.raises(ParameterError, match=r"Trainer: schedule must be one of 'constant', .*; got 'cosinus'"):
        make_schedule("Trainer", "cosinus", 100, 0, 0.2)
