"""Which epoch is kept: the latest that validation does not show to be worse than the best, and never one above the start."""

import numpy as np
import pytest
from training.blocks import noisy, small_block

from xfer2.training.callbacks import Callback
from xfer2.training.loop import Trainer
from xfer2.training.selection import Selection


def chosen(start, losses):
    """Numbers of the losses that are taken, from 1."""
    selection = Selection(np.asarray(start, float))
    return [number for number, rows in enumerate(losses, 1) if selection.takes(np.asarray(rows, float))]


def by_the_definition(start, losses):
    """The last epoch below the start that is within a standard error of the least; 0 where none is below the start."""
    means = [np.mean(rows) for rows in losses]
    least = int(np.argmin(means))
    kept = 0
    for number, rows in enumerate(losses):
        above = np.subtract(rows, losses[least])
        error = np.sqrt(np.var(above, ddof=1) / len(above))
        if means[number] < np.mean(start) and (number == least or (number > least and above.mean() <= error)):
            kept = number + 1
    return kept


def test_the_least_loss_is_taken_where_examples_agree():
    assert chosen([3, 4, 5], [[2, 3, 4], [1, 2, 3], [1.1, 2.1, 3.1], [1.5, 2.5, 3.5]]) == [1, 2]


def test_a_later_epoch_is_taken_where_examples_do_not_agree_that_it_is_worse():
    assert chosen([3, 3, 3], [[1, 1, 1], [0.2, 1.8, 1.3], [1.3, 1.4, 1.5]]) == [1, 2]


def test_nothing_at_or_above_the_start_is_taken():
    assert chosen([1, 1], [[1, 1], [0, 3], [np.inf, np.inf]]) == []
    assert chosen([1, 1], [[0.9, 0.9], [0, 2.1]]) == [1]


def test_of_one_example_the_least_loss_is_taken():
    assert chosen([2], [[1], [1.01], [0.5], [0.6]]) == [1, 3]


def test_a_start_that_is_not_finite_is_left():
    assert chosen([np.inf, np.inf], [[np.inf, np.inf], [5, 6]]) == [2]


@pytest.mark.parametrize("seed", range(8))
def test_what_is_taken_last_is_what_the_definition_says(seed):
    random = np.random.default_rng(seed)
    level = 1 + 2 * np.abs(np.linspace(-1, 0.7, 30))[:, np.newaxis]
    losses = level * random.uniform(0.5, 1.5, (30, 12))
    start = random.uniform(1, 3, 12)
    assert (chosen(start, losses) or [0])[-1] == by_the_definition(start, losses)


def test_training_keeps_the_epoch_that_the_definition_says():
    class Notes(Callback):
        def on_epoch_end(self, trainer, record):
            found.append(trainer.evaluate([held_out[0]], held_out[1])["loss"])

    held_out, found = noisy(20, seed=2), []
    block = small_block()
    trainer = Trainer(block, epochs=40, batch_size=20, learning_rate=0.03, schedule="constant", random_state=0,
                      callbacks=[Notes()])
    start = trainer.evaluate([held_out[0]], held_out[1])["loss"]
    trainer.fit(*noisy(), validation=held_out)
    assert trainer.best_epoch_ == by_the_definition(start, found) > 1 + int(np.argmin([rows.mean() for rows in found]))
    kept = trainer.evaluate([held_out[0]], held_out[1])["loss"]
    np.testing.assert_allclose(kept, found[trainer.best_epoch_ - 1], rtol=1e-5)
