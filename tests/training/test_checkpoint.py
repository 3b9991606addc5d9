"""A run that is taken up ends as one that was never stopped, on several devices too."""

import numpy as np
import pytest
from training.blocks import Killed, Killer, check_same, dropout_block, noisy, runtime_warning, separable, small_block, values

from xfer2._mxnet import mx
from xfer2.exceptions import PersistenceError
from xfer2.training.callbacks import Callback
from xfer2.training.checkpoint import FILE, kept_seed
from xfer2.training.loop import Trainer


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "nag", "nadam", "lars", "dcasgd"])
@pytest.mark.parametrize(("epoch", "step"), [(1, 2), (4, 1), (6, 6)])
def test_a_run_that_was_killed_ends_as_one_that_was_not(optimizer, epoch, step, tmp_path):
    settings = {"epochs": 6, "batch_size": 20, "learning_rate": 0.05, "optimizer": optimizer, "mixup": 0.2,
                "random_state": 3, "average_last": 2,
                "optimizer_params": {"momentum": 0.9} if optimizer in ("sgd", "nag", "lars") else {},
                "schedule": mx.lr_scheduler.FactorScheduler(9, 0.7) if optimizer == "sgd" else "cosine"}
    data, held_out = noisy(), noisy(60, seed=2)
    whole = dropout_block()
    Trainer(whole, **settings).fit(*data, validation=held_out)
    parted = dropout_block()
    with pytest.raises(Killed):
        Trainer(parted, checkpoint_dir=tmp_path, callbacks=[Killer(epoch, step)], **settings).fit(*data, validation=held_out)
    resumed = dropout_block()
    trainer = Trainer(resumed, checkpoint_dir=tmp_path, **settings).fit(*data, validation=held_out)
    assert [record["epoch"] for record in trainer.history_] == list(range(1, 7))
    check_same(whole, resumed)


def test_a_run_that_a_callback_stopped_is_not_gone_on_with(tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, trainer, record):
            trainer.stop = len(trainer.history_) == 2

    settings = {"epochs": 5, "checkpoint_dir": tmp_path, "random_state": 0}
    first, second = small_block(), small_block()
    Trainer(first, callbacks=[Stop()], **settings).fit(*separable())
    trainer = Trainer(second, **settings).fit(*separable())
    assert len(trainer.history_) == 2
    check_same(first, second)


def test_a_checkpoint_of_another_run_is_refused_and_a_spoiled_one_too(tmp_path):
    data = separable()
    Trainer(small_block(), epochs=2, checkpoint_dir=tmp_path, random_state=0).fit(*data)
    with pytest.raises(PersistenceError, match=r"of another run: its learning_rate is 0\.001, this run's 0\.5"):
        Trainer(small_block(), epochs=2, learning_rate=0.5, checkpoint_dir=tmp_path, random_state=0).fit(*data)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(PersistenceError, match="cannot be read"):
        Trainer(small_block(), epochs=2, checkpoint_dir=tmp_path, random_state=0).fit(*data)


def test_a_checkpoint_that_cannot_be_written_is_told_and_training_goes_on(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with runtime_warning(r"checkpoint of epoch \d could not be written .* training goes on"):
        trainer = Trainer(small_block(), epochs=2, checkpoint_dir=tmp_path / "file" / "kept", random_state=0)
        trainer.fit(*separable())
    assert len(trainer.history_) == 2


@pytest.mark.parametrize("name", ["", "file"])
def test_a_checkpoint_folder_that_is_none_is_refused_before_training(name, tmp_path):
    (tmp_path / "file").write_text("no folder")
    block = small_block()
    before = values(block)
    with pytest.raises(PersistenceError, match="checkpoint_dir must be a folder, a new one or that of this run"):
        Trainer(block, checkpoint_dir=name and tmp_path / name, random_state=0).fit(*separable())
    for parameter, value in values(block).items():
        np.testing.assert_array_equal(value, before[parameter])


def test_a_run_without_a_seed_keeps_the_one_it_drew(tmp_path):
    drawn = kept_seed("Trainer", tmp_path / "run", None)
    assert kept_seed("Trainer", tmp_path / "run", None) == drawn
    assert kept_seed("Trainer", tmp_path / "run", 3) == 3
    assert kept_seed("Trainer", tmp_path / "other", None) != drawn
    assert kept_seed("Trainer", None, 5) == 5
    assert kept_seed("Trainer", tmp_path / "run", np.random.RandomState(3)) == drawn
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(PersistenceError, match="nothing can be kept in checkpoint_dir"):
        kept_seed("Trainer", tmp_path / "file" / "run", None)


@pytest.mark.parametrize("numbers", [(0, 1), (1, 2), (2,)])
def test_a_run_on_other_devices_that_was_killed_ends_as_one_that_was_not(numbers, tmp_path):
    devices = [mx.cpu(number) for number in numbers]

    def trained(**settings):
        block = small_block()
        block.collect_params().reset_ctx(devices)
        Trainer(block, epochs=4, batch_size=16, learning_rate=0.05, contexts=devices, random_state=0,
                **settings).fit(*separable(40))
        return [parameter.data(device).asnumpy() for parameter in block.collect_params().values() for device in devices]

    with pytest.raises(Killed):
        trained(checkpoint_dir=tmp_path, callbacks=[Killer(3, 2)])
    for whole, resumed in zip(trained(), trained(checkpoint_dir=tmp_path), strict=True):
        np.testing.assert_array_equal(whole, resumed)
