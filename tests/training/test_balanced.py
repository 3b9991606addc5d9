"""Batches with the classes alike, each trained on several times."""

import numpy as np
import pytest

from xfer2._mxnet import mx
from xfer2.training.balanced import BalancedTrainer, balanced_batches


@pytest.mark.parametrize(("sizes", "batch"), [((20, 20, 20), 6), ((20, 5, 11), 9), ((3, 3), 40), ((7, 2), 5)])
def test_batches_have_the_classes_alike_and_see_the_largest_whole(sizes, batch):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    batches = list(balanced_batches(codes, batch, np.random.default_rng(0)))
    for rows in batches:
        counts = np.bincount(codes[rows], minlength=len(sizes))
        assert len(rows) == min(batch, len(codes))
        assert counts.max() - counts.min() <= 1
    largest = int(np.argmax(sizes))
    seen = np.concatenate(batches)
    shares = np.bincount(codes[seen], minlength=len(sizes))
    assert shares.max() - shares.min() <= 1  # what a batch has beyond equal shares goes to the classes in turn
    if batch % len(sizes) == 0:
        assert set(np.flatnonzero(codes == largest)) <= set(seen)
    for code in range(len(sizes)):
        times = np.bincount(seen, minlength=len(codes))[codes == code]
        assert times.max() - times.min() <= 1


def test_each_batch_comes_as_often_as_asked_and_the_schedule_ends_with_the_last():
    block = mx.gluon.nn.Dense(2, in_units=3)
    block.initialize()
    steps = []

    class Counting(BalancedTrainer):
        def train_step(self, inputs, targets, weights, count):
            steps.append(inputs[0].copy())
            return super().train_step(inputs, targets, weights, count)

    inputs, codes = np.random.default_rng(0).normal(size=(12, 3)).astype("float32"), np.tile([0, 1], 6)
    trainer = Counting(block, repeats=3, epochs=2, batch_size=4, schedule="linear", random_state=0).fit(inputs, codes)
    assert len(steps) == 2 * 3 * 3
    assert trainer.steps_per_epoch(codes) == 9
    for start in range(0, 18, 3):
        assert all((step == steps[start]).all() for step in steps[start:start + 3])
    assert trainer.history_[-1]["rate"] == pytest.approx(trainer.learning_rate / 18)
