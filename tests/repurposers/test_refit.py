"""Examples that were held out to choose by are learned from in the end."""

import warnings

import numpy as np
import pytest
from tasks import bright_channels, residual_network, values

import xfer2
from xfer2.exceptions import ParameterError, TrainingError
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
    """Tells of each training the number of its examples; `spoil` is called in that of all, before an epoch."""

    def __init__(self, source_model, transfer_layer_name=None, *, seen=None, spoil=None, **settings):
        super().__init__(source_model, transfer_layer_name, **settings)
        self.seen = seen
        self.spoil = spoil

    def _new_trainer(self, block, **settings):
        seen, spoil = self.seen, self.spoil

        class Telling(Trainer):
            def fit(self, inputs, codes, validation=None):
                seen.append(len(codes))
                return super().fit(inputs, codes, validation)

            def run_epoch(self, epoch, inputs, codes):
                if len(codes) == len(TASK[1]) and spoil and epoch == spoil[1]:
                    spoil[0]()
                return super().run_epoch(epoch, inputs, codes)

        return Telling(block, **settings)


def watched(task=TASK, **settings):
    seen = []
    repurposer = Watched(residual_network(), "gap", seen=seen, **{**SETTINGS, "learning_rate": 0.01, **settings})
    return repurposer.fit(*task), seen


def same(first, second):
    ours, theirs = values(first.network_), values(second.network_)
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("method", METHODS)
def test_the_target_is_that_of_a_training_on_all_examples_for_as_long(method):
    settings = {**SETTINGS, **STEADY, "learning_rate": 0.01, "calibrate": False}
    found = METHODS[method](residual_network(), **settings).fit(*TASK)
    assert found.best_epoch_ > 0
    assert len(found.history_) == 6
    assert found.outcome_.endswith(" It was then trained anew on all examples, for as long.")
    settings.update(num_epochs=found.best_epoch_, validation=0)
    assert same(found, METHODS[method](residual_network(), **settings).fit(*TASK))


def test_the_training_that_chooses_sees_no_more_than_before():
    found, seen = watched()
    alone, seen_alone = watched(refit=False)
    assert (seen, seen_alone) == ([102, 120], [102])
    assert found.history_frame.drop(columns="seconds").equals(alone.history_frame.drop(columns="seconds"))
    assert found.temperature_ == alone.temperature_
    assert not same(found, alone)
    assert alone.outcome_ + " It was then trained anew on all examples, for as long." == found.outcome_


def test_validation_data_that_were_given_stay_apart():
    _, seen = watched(validation=bright_channels(30, noise=2, seed=1))
    assert seen == [120]


def test_many_examples_are_trained_on_once(monkeypatch):
    monkeypatch.setattr("xfer2.repurposers._training_run._REFIT_ROWS", 119)
    found, seen = watched()
    assert seen == [102]
    assert "all examples" not in found.outcome_


def test_every_phase_is_trained_for_as_long_as_was_kept_of_it():
    epochs = []

    class Count(Callback):
        def on_epoch_end(self, trainer, record):
            epochs.append(record["epoch"])

    found, seen = watched(gradual_unfreezing=2, callbacks=[Count()], patience=None)
    assert epochs == [1, 2] * 3  # of the training before
    kept = [line["epoch"] for line in found.history_ if line["epoch"] <= found.best_epoch_]
    assert seen[:3] == [102] * 3
    assert seen[3:] == [120] * (len(seen) - 3)
    assert len(seen) - 3 <= len({found.history_[epoch - 1]["phase"] for epoch in kept})


def test_the_mean_of_the_last_epochs_is_taken_on_all_examples_too():
    noisy = bright_channels(120, noise=5)
    settings = {**STEADY, "average_last": 3, "validation": 0.3, "patience": None}
    found, _ = watched(noisy, **settings)
    assert found.outcome_.startswith("Trained for 6 epochs; the mean of the last 3 ones' parameters is taken.")
    assert same(found, watched(noisy, **{**settings, "validation": 0})[0])


def interrupt():
    raise KeyboardInterrupt


def diverge():
    raise TrainingError("Training diverged.")


@pytest.mark.parametrize("spoil", [interrupt, diverge])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_second_training_that_comes_to_no_end_leaves_the_first(spoil, epoch):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found, seen = watched(spoil=(spoil, epoch))
    assert sum("what was trained without those held out is kept" in str(one.message) for one in caught) == 1
    assert seen == [102, 120]
    alone, _ = watched(refit=False)
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
    assert seen == [102]
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
