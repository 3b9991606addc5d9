"""Runs that end before their time, and what they keep: the best epoch, or the start."""

import numpy as np
import pytest
from training.blocks import noisy, runtime_warning, separable, small_block, values

from xfer2._mxnet import mx
from xfer2.exceptions import TrainingError, XferError
from xfer2.training.callbacks import Callback
from xfer2.training.loop import Trainer


def test_a_loss_that_diverges_names_the_step_and_the_rate():
    inputs, codes = separable()
    trainer = Trainer(small_block(), epochs=5, batch_size=30, learning_rate=1e30, optimizer="sgd", random_state=0)
    with pytest.raises(XferError, match=r"the loss is (nan|inf) at step \d of epoch \d.*learning_rate \(it is 1e\+30\)"):
        trainer.fit(inputs, codes)


def test_input_that_is_not_finite_is_found_at_its_step():
    inputs, codes = separable(9)
    inputs[:] = np.nan
    block = mx.gluon.nn.Dense(3, in_units=2)
    block.initialize()
    with pytest.raises(XferError, match="the loss is nan at step 1 of epoch 1"):
        Trainer(block, random_state=0).fit(inputs, codes)


def test_training_stops_when_the_validation_loss_no_longer_falls():
    trainer = Trainer(small_block(), epochs=200, batch_size=20, learning_rate=0.3, schedule="constant", patience=4,
                      random_state=0).fit(*noisy(), validation=noisy(60, seed=2))
    assert len(trainer.history_) == trainer.best_epoch_ + 4 < 200


def test_a_start_that_no_epoch_improves_on_is_kept():
    inputs, codes = separable()
    block = small_block()
    Trainer(block, epochs=30, learning_rate=0.05, random_state=0).fit(inputs, codes)
    before = values(block)
    trainer = Trainer(block, epochs=2, learning_rate=1.0, random_state=0)
    trainer.fit(inputs, (codes + 1) % 3, validation=(inputs, codes))
    assert trainer.best_epoch_ == 0
    for name, value in values(block).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_loss_that_diverges_late_keeps_the_best_with_a_warning():
    class Breaking(Trainer):
        def train_step(self, inputs, targets, weights, count):
            loss, outputs = super().train_step(inputs, targets, weights, count)
            return (np.inf, outputs) if len(self.history_) == 3 else (loss, outputs)

    inputs, codes = separable()
    trainer = Breaking(small_block(), epochs=9, learning_rate=0.05, random_state=0)
    with runtime_warning(r"step 1 of epoch 4.* The parameters of epoch 3 are kept"):
        trainer.fit(inputs, codes, validation=(inputs, codes))
    kept = trainer.evaluate([inputs], codes)["loss"].mean()
    assert kept == pytest.approx(trainer.history_[-1]["validation_loss"], rel=1e-5)


def test_a_loss_that_diverges_at_once_leaves_the_block_as_it_was():
    inputs, codes = separable()
    block = small_block()
    before = values(block)
    with pytest.raises(TrainingError, match="diverged"):
        Trainer(block, learning_rate=1e30, optimizer="sgd", batch_size=30, random_state=0).fit(inputs, codes)
    for name, value in values(block).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_last_step_that_diverges_is_told():
    class Explodes(Trainer):
        def train_step(self, inputs, targets, weights, count):
            found = super().train_step(inputs, targets, weights, count)
            for parameter in self.block.collect_params().values():
                parameter.set_data(parameter.data() * np.inf)
            return found

    with pytest.raises(TrainingError, match="diverged in the last step of epoch 1"):
        Explodes(small_block(), epochs=1, batch_size=90).fit(*separable())


@pytest.mark.parametrize("event", ["on_step_end", "on_epoch_end"])
def test_of_an_interrupted_run_the_whole_epochs_count(event):
    class Interrupts(Callback):
        def on_step_end(self, trainer, step, loss):
            if event == "on_step_end" and len(trainer.history_) == 1 and step == 2:
                raise KeyboardInterrupt

        def on_epoch_end(self, trainer, record):
            if event == "on_epoch_end":
                raise KeyboardInterrupt

    whole = Trainer(small_block(), epochs=3, batch_size=30, schedule="constant", random_state=0, callbacks=[Interrupts()])
    with runtime_warning("interrupted", UserWarning):
        whole.fit(*separable())
    one = Trainer(small_block(), epochs=1, batch_size=30, schedule="constant", random_state=0).fit(*separable())
    assert whole.stop
    assert len(whole.history_) == 1
    for name, value in values(one.block).items():
        np.testing.assert_array_equal(values(whole.block)[name], value)
