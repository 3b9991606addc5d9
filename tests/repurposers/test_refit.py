"""Examples that were held out to choose by are learned from in the end."""

import json
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from tasks import bright_channels, residual_network, values

import xfer2
from xfer2.exceptions import ParameterError, TrainingError
from xfer2.persistence import manifest_digest
from xfer2.training.callbacks import Callback
from xfer2.training.loop import Trainer

METHODS = {
    "fine-tune": xfer2.NeuralNetworkFineTuneRepurposer, "random-freeze": xfer2.NeuralNetworkRandomFreezeRepurposer,
    "two-tower": xfer2.TwoTowerRepurposer, "stitch": xfer2.StitchRepurposer, "ptu": xfer2.PtuRepurposer,
    "lwf": xfer2.LwfRepurposer}
SETTINGS = {"num_epochs": 6, "batch_size": 16, "random_state": 0}
STEADY = {"schedule": "constant", "warm_up": 0}  # a schedule ends with `num_epochs`, whichever epoch is taken
TASK = bright_channels(120, noise=2)


class Watched(xfer2.NeuralNetworkFineTuneRepurposer):
    """Tells the examples and epochs of each training; `spoil` is called with that of all, before or after an epoch."""

    def __init__(self, source_model, transfer_layer_name=None, *, seen=None, before=None, after=None, epoch=1, **settings):
        super().__init__(source_model, transfer_layer_name, **settings)
        self.seen = seen
        self.before = before
        self.after = after
        self.epoch = epoch

    def _new_trainer(self, block, **settings):
        watch = self

        class Telling(Trainer):
            def fit(self, inputs, codes, validation=None):
                watch.seen.append([len(codes), 0])
                return super().fit(inputs, codes, validation)

            def run_epoch(self, epoch, inputs, codes):
                spoiled = len(codes) == len(TASK[1]) and epoch == watch.epoch
                if spoiled and watch.before:
                    watch.before(self)
                record = super().run_epoch(epoch, inputs, codes)
                if spoiled and watch.after:
                    watch.after(self)
                watch.seen[-1][1] += 1
                return record

        return Telling(block, **settings)


class StopAt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, record):
        trainer.stop = record["epoch"] == self.epoch


def watched(task=TASK, cls=Watched, **settings):
    seen = []
    repurposer = cls(residual_network(), "gap", seen=seen, **{**SETTINGS, "learning_rate": 0.01, **settings})
    return repurposer.fit(*task), seen


def same(first, second):
    ours, theirs = values(first.network_), values(second.network_)
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("method", METHODS)
def test_the_target_is_that_of_a_training_on_all_examples_for_as_long(method):
    settings = {**SETTINGS, **STEADY, "learning_rate": 0.01, "calibrate": False}
    found = METHODS[method](residual_network(), callbacks=[StopAt(4)], **settings).fit(*TASK)
    assert 0 < found.best_epoch_ < 6
    assert len(found.history_) == 4
    assert found.outcome_.endswith(" As many epochs were then trained anew on all examples.")
    settings.update(num_epochs=found.best_epoch_, validation=0)
    assert same(found, METHODS[method](residual_network(), **settings).fit(*TASK))


def test_the_training_that_chooses_sees_no_more_than_before():
    found, seen = watched(callbacks=[StopAt(3)])
    alone, seen_alone = watched(callbacks=[StopAt(3)], refit=False)
    assert (seen, seen_alone) == ([[102, 3], [120, found.best_epoch_]], [[102, 3]])
    assert found.history_frame.drop(columns="seconds").equals(alone.history_frame.drop(columns="seconds"))
    assert found.temperature_ == alone.temperature_
    assert not same(found, alone)
    assert alone.outcome_ + " As many epochs were then trained anew on all examples." == found.outcome_


def test_validation_data_that_were_given_stay_apart():
    _, seen = watched(validation=bright_channels(30, noise=2, seed=1))
    assert seen == [[120, 6]]


def test_many_examples_are_trained_on_once(monkeypatch):
    monkeypatch.setattr("xfer2.repurposers._training_run._REFIT_ROWS", 119)
    found, seen = watched()
    assert seen == [[102, 6]]
    assert "all examples" not in found.outcome_


def test_every_phase_is_trained_for_as_long_as_was_kept_of_it():
    epochs = []

    class Count(Callback):
        def on_epoch_end(self, trainer, record):
            epochs.append(record["epoch"])

    found, seen = watched(gradual_unfreezing=1, num_epochs=7, callbacks=[Count(), StopAt(3)], patience=None)
    assert epochs == [1, 2, 3]  # a callback that stops stops all
    assert seen == [[102, 3], [120, found.best_epoch_]]
    epochs.clear()
    found, seen = watched(gradual_unfreezing=1, num_epochs=7, callbacks=[Count()], patience=None)
    assert epochs == [1, 2, 3, 4, 1, 2, 3]  # of the training before
    assert found.best_epoch_ > 4
    first, second = seen[2:]
    assert first[0] == second[0] == 120
    assert 1 <= first[1] <= 4
    assert second[1] == found.best_epoch_ - 4


def test_the_mean_of_the_last_epochs_is_taken_on_all_examples_too():
    noisy = bright_channels(120, noise=5)
    settings = {**STEADY, "average_last": 3, "validation": 0.3, "patience": None}
    found, _ = watched(noisy, **settings)
    assert found.outcome_.startswith("The mean of epochs 4 to 6 of 6 is taken.")
    assert same(found, watched(noisy, **{**settings, "validation": 0})[0])


def interrupt(trainer):
    raise KeyboardInterrupt


def diverge(trainer):
    raise TrainingError("Training diverged.")


def poison(trainer):
    weight = trainer.block.collect_params()["target_logits_weight"]
    weight.set_data(weight.data() * np.nan)


class InterruptedBetween(Watched):
    def _probed_layer(self, network):
        if len(self.seen) == 1:
            raise KeyboardInterrupt
        return super()._probed_layer(network)


@pytest.mark.parametrize(("settings", "reason"), [
    ({"before": interrupt}, "was interrupted"), ({"after": interrupt, "epoch": 2}, "was interrupted"),
    ({"cls": InterruptedBetween}, "was interrupted"), ({"before": diverge}, "diverged"),
    ({"before": diverge, "epoch": 2}, "diverged"), ({"after": poison, "epoch": 2}, "diverged")])
def test_a_second_training_that_comes_to_no_end_leaves_the_first(settings, reason):
    settings = {"callbacks": [StopAt(3)], **settings}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found, _ = watched(**settings)
    assert found.best_epoch_ == 2
    told = f"The training on all examples {reason}; what was trained without those held out is kept."
    assert sum(told == str(one.message) for one in caught) == 1
    alone, _ = watched(callbacks=[StopAt(3)], refit=False)
    assert same(found, alone)
    assert found.outcome_ == alone.outcome_


def test_what_was_interrupted_is_not_trained_anew():
    class Interrupt(Callback):
        def on_epoch_start(self, trainer, epoch):
            if epoch == 3:
                raise KeyboardInterrupt

    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        found, seen = watched(callbacks=[Interrupt()])
    assert seen == [[102, 2]]
    assert len(found.history_) == 2


def test_a_run_that_is_taken_up_trains_on_all_examples_once_more(tmp_path):
    settings = {"checkpoint_dir": tmp_path / "run", "patience": None}
    whole, _ = watched(**settings)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["refit", "training.safetensors"]
    again, _ = watched(**settings)
    assert same(whole, again)
    assert same(whole, watched(patience=None)[0])


def test_refit_is_a_switch():
    with pytest.raises(ParameterError, match=r"refit must be one of True, False; got .yes."):
        watched(refit="yes")


def test_what_a_version_before_saved_has_the_defaults_of_what_it_lacks(tmp_path):
    saved = xfer2.NeuralNetworkFineTuneRepurposer(residual_network(), "gap", refit=False, num_epochs=1).fit(*TASK)
    saved.save(tmp_path / "saved")
    manifest = tmp_path / "saved" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["parameters"]["refit"]
    manifest.write_text(json.dumps({**content, "sha256": manifest_digest(content)}))
    loaded = xfer2.load(tmp_path / "saved")
    assert loaded.refit is True
    assert clone(loaded).fit(*TASK).predict(TASK[0]).shape == (120,)
