"""The training loop learns, repeats itself to the bit, and says when it fails."""

import logging
import re
import warnings
from contextlib import contextmanager
from itertools import chain

import numpy as np
import pytest

from xfer2._mxnet import mx
from xfer2.exceptions import DataError, ParameterError, PersistenceError, TrainingError, XferError
from xfer2.training.callbacks import Callback
from xfer2.training.checkpoint import FILE
from xfer2.training.loop import Trainer

CENTRES = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 4.0]])


def separable(count=90):
    codes = np.arange(count) % 3
    return (CENTRES[codes] + np.random.default_rng(0).normal(0, 0.4, (count, 2))).astype("float32"), codes


def small_block(seed=0):
    mx.random.seed(seed)
    block = mx.gluon.nn.HybridSequential(prefix="net_")
    with block.name_scope():
        block.add(mx.gluon.nn.Dense(8, activation="relu", in_units=2), mx.gluon.nn.Dense(3, in_units=8))
    block.initialize(mx.init.Xavier())
    return block


def values(block):
    return {name: parameter.data().asnumpy() for name, parameter in block.collect_params().items()}


def check_same(first, second):
    for name, value in values(first).items():
        np.testing.assert_array_equal(value, values(second)[name])


def test_a_separable_task_is_learned():
    inputs, codes = separable()
    trainer = Trainer(small_block(), epochs=20, batch_size=30, learning_rate=0.05, random_state=0).fit(inputs, codes)
    assert [record["epoch"] for record in trainer.history_] == list(range(1, 21))
    assert trainer.history_[-1]["loss"] < 0.1 < trainer.history_[0]["loss"]
    assert trainer.history_[-1]["accuracy"] == 1
    predicted = trainer.block(mx.nd.array(inputs)).argmax(axis=1).asnumpy()
    assert predicted.tolist() == codes.tolist()


def test_the_first_step_is_gradient_descent_by_hand():
    inputs, codes = separable(9)
    block = mx.gluon.nn.Dense(3, in_units=2)
    block.initialize(mx.init.Xavier())
    before = values(block)
    weight, bias = (before[name].astype(float) for name in sorted(before, reverse=True))
    logits = inputs @ weight.T + bias
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = chances - np.eye(3)[codes]
    trainer = Trainer(block, epochs=1, batch_size=9, learning_rate=0.1, optimizer="sgd", random_state=0).fit(inputs, codes)
    np.testing.assert_allclose(block.weight.data().asnumpy(), weight - 0.1 * error.T @ inputs / 9, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(block.bias.data().asnumpy(), bias - 0.1 * error.mean(axis=0), rtol=1e-4, atol=1e-6)
    assert trainer.history_[0]["loss"] == pytest.approx(-np.log(chances[np.arange(9), codes]).mean(), rel=1e-5)
    assert trainer.history_[0]["accuracy"] == pytest.approx((logits.argmax(axis=1) == codes).mean())


def test_the_same_seed_gives_the_same_parameters_to_the_bit():
    inputs, codes = separable()
    blocks = [small_block(), small_block()]
    for number, block in enumerate(blocks):
        np.random.seed(number)  # noqa: NPY002  the global state must not matter
        Trainer(block, epochs=2, batch_size=20, random_state=4).fit(inputs, codes)
    check_same(*blocks)


def test_another_seed_orders_the_examples_otherwise():
    inputs, codes = separable()
    first, second = small_block(), small_block()
    for seed, block in enumerate((first, second)):
        Trainer(block, epochs=1, batch_size=7, random_state=seed).fit(inputs, codes)
    assert any((value != values(second)[name]).any() for name, value in values(first).items())


class Recorder(Trainer):
    """Notes the rows that each epoch trains on, and the learning rate of each step."""

    def __init__(self, block, **options):
        super().__init__(block, **options)
        self.rows, self.used = [], []

    def prepare(self, batch, codes, random):
        self.rows.append(batch[0][:, 0].astype(int).tolist())
        return super().prepare(batch, codes, random)

    def train_step(self, inputs, targets, weights, count):
        found = super().train_step(inputs, targets, weights, count)
        self.used.append(self.optimizer_.learning_rate)
        return found


def test_each_epoch_sees_every_example_once_in_a_new_order():
    inputs = np.stack([np.arange(10), np.zeros(10)], axis=1).astype("float32")
    trainer = Recorder(small_block(), epochs=2, batch_size=4, random_state=0).fit(inputs, np.arange(10) % 3)
    assert [len(rows) for rows in trainer.rows] == [4, 4, 2] * 2
    epochs = list(chain(*trainer.rows[:3])), list(chain(*trainer.rows[3:]))
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    assert list(range(10)) not in epochs


def test_the_learning_rate_falls_along_half_a_cosine():
    trainer = Recorder(small_block(), epochs=4, batch_size=45, learning_rate=0.2, random_state=0).fit(*separable())
    expected = [0.1 * (1 + np.cos(np.pi * step / 8)) for step in range(8)]
    np.testing.assert_allclose(trainer.used, expected, atol=1e-9)


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


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_parameters_without_gradients_stay(optimizer):
    block = small_block()
    frozen = block[0].collect_params()
    frozen.setattr("grad_req", "null")
    before = values(block)
    Trainer(block, epochs=3, learning_rate=0.1, optimizer=optimizer, weight_decay=0.1, random_state=0).fit(*separable())
    after = values(block)
    for name in before:
        assert (after[name] == before[name]).all() == (name in frozen), name


def test_weight_decay_shrinks_the_weights():
    sizes = []
    for decay in (0.0, 0.5):
        block = small_block()
        Trainer(block, epochs=20, learning_rate=0.05, optimizer="sgd", weight_decay=decay, random_state=0).fit(*separable())
        sizes.append(sum(float((value ** 2).sum()) for name, value in values(block).items() if name.endswith("weight")))
    assert sizes[1] < 0.8 * sizes[0]


def test_another_loss_may_be_given():
    inputs, codes = separable(30)
    halved = mx.gluon.loss.SoftmaxCrossEntropyLoss(weight=0.5)
    trainers = [Trainer(small_block(), epochs=1, batch_size=30, loss=loss, random_state=0) for loss in (None, halved)]
    whole, half = (trainer.fit(inputs, codes).history_[0]["loss"] for trainer in trainers)
    assert half == pytest.approx(whole / 2, rel=1e-5)


def test_a_second_fit_starts_its_history_anew():
    trainer = Trainer(small_block(), epochs=2, random_state=0)
    inputs, codes = separable()
    trainer.fit(inputs, codes).fit(inputs, codes)
    assert [record["epoch"] for record in trainer.history_] == [1, 2]


def test_progress_is_logged(caplog):
    with caplog.at_level(logging.INFO, "xfer2"):
        Trainer(small_block(), epochs=2, random_state=0).fit(*separable())
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.parametrize(("inputs", "codes"), [(np.zeros((3, 2), np.float32), [0, 1]), (np.zeros((0, 2), np.float32), [])])
def test_examples_and_labels_must_agree_in_number(inputs, codes):
    with pytest.raises(DataError, match=f"got {len(codes)} and {len(inputs)}"):
        Trainer(small_block()).fit(inputs, np.array(codes))


@pytest.mark.parametrize(("parameter", "value"), [("epochs", 0), ("epochs", 1.5), ("batch_size", 0), ("batch_size", True),
                                                  ("learning_rate", 0), ("learning_rate", "fast")])
def test_wrong_parameters_are_named(parameter, value):
    with pytest.raises(ParameterError, match=f"Trainer: {parameter} must be"):
        Trainer(small_block(), **{parameter: value})


@contextmanager
def runtime_warning(pattern, category=RuntimeWarning):
    """As `pytest.warns`, which would hand on MXNet's own deprecation warnings as errors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert any(one.category is category and re.search(pattern, str(one.message)) for one in caught)


def noisy(count=120, seed=1):
    inputs, codes = separable(count)
    return inputs + np.random.default_rng(seed).normal(0, 2, inputs.shape).astype("float32"), codes


def test_the_parameters_with_the_least_validation_loss_are_kept():
    block, held_out = small_block(), noisy(60, seed=2)
    trainer = Trainer(block, epochs=40, batch_size=20, learning_rate=0.2, schedule="constant", random_state=0)
    trainer.fit(*noisy(), validation=held_out)
    losses = [record["validation_loss"] for record in trainer.history_]
    assert trainer.best_epoch_ == 1 + int(np.argmin(losses))
    assert trainer.evaluate([held_out[0]], held_out[1])["loss"] == pytest.approx(min(losses), rel=1e-5)


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
    assert trainer.evaluate([inputs], codes)["loss"] == pytest.approx(trainer.history_[-1]["validation_loss"], rel=1e-5)


def test_a_loss_that_diverges_at_once_leaves_the_block_as_it_was():
    inputs, codes = separable()
    block = small_block()
    before = values(block)
    with pytest.raises(TrainingError, match="diverged"):
        Trainer(block, learning_rate=1e30, optimizer="sgd", batch_size=30, random_state=0).fit(inputs, codes)
    for name, value in values(block).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_clipped_step_is_as_long_as_the_clip_in_the_direction_of_the_gradient():
    inputs, codes, moved = *separable(9), {}
    for clip in (None, 0.01):
        block = small_block()
        before = values(block)
        Trainer(block, epochs=1, batch_size=9, learning_rate=1.0, optimizer="sgd", clip_gradient=clip,
                random_state=0).fit(inputs, codes)
        moved[clip] = np.concatenate([(values(block)[name] - before[name]).ravel() for name in before])
    assert np.linalg.norm(moved[None]) > 0.01
    np.testing.assert_allclose(moved[0.01], moved[None] * 0.01 / np.linalg.norm(moved[None]), rtol=1e-3, atol=1e-7)


def test_rates_multiply_the_steps_of_their_parameters_and_decay_spares_biases():
    inputs, codes = separable(9)
    steps = {}
    for rate in (1.0, 0.25):
        block = small_block()
        before = values(block)
        Trainer(block, epochs=1, batch_size=9, learning_rate=0.1, optimizer="sgd", rates={"net_dense0_weight": rate},
                random_state=0).fit(inputs, codes)
        steps[rate] = {name: values(block)[name] - before[name] for name in before}
    names = {name.split("net_")[1]: name for name in steps[1.0]}
    assert names
    first = next(name for name in steps[1.0] if name.endswith("dense0_weight"))
    np.testing.assert_allclose(steps[0.25][first], 0.25 * steps[1.0][first], rtol=1e-4, atol=1e-7)


def test_several_devices_share_a_batch_and_come_to_the_same():
    inputs, codes = separable(40)
    single, shared = small_block(), small_block()
    Trainer(single, epochs=3, batch_size=16, learning_rate=0.1, clip_gradient=1.0, random_state=0).fit(inputs, codes)
    shared.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    Trainer(shared, epochs=3, batch_size=16, learning_rate=0.1, clip_gradient=1.0, contexts=[mx.cpu(0), mx.cpu(1)],
            random_state=0).fit(inputs, codes)
    for name, value in values(single).items():
        np.testing.assert_allclose(value, shared.collect_params()[name].data(mx.cpu(0)).asnumpy(), atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"clip_gradient": 0.1}])
def test_devices_for_which_a_last_batch_has_no_example_add_nothing(settings):
    inputs, codes = separable(17)
    devices = [mx.cpu(number) for number in range(3)]
    single, shared = small_block(), small_block()
    shared.collect_params().reset_ctx(devices)
    for block, contexts in ((single, devices[:1]), (shared, devices)):
        Trainer(block, epochs=3, batch_size=8, optimizer="sgd", learning_rate=0.1, contexts=contexts, random_state=0,
                **settings).fit(inputs, codes)
    for name, value in values(single).items():
        for device in devices:
            np.testing.assert_allclose(value, shared.collect_params()[name].data(device).asnumpy(), atol=1e-5)


@pytest.mark.parametrize("settings", [{"label_smoothing": 0.1}, {"mixup": 0.3}, {"label_smoothing": 0.1, "mixup": 0.3},
                                      {"class_weights": np.array([1.0, 2.0, 0.5])}])
def test_softened_and_weighted_targets_are_learned(settings):
    inputs, codes = separable()
    trainer = Trainer(small_block(), epochs=20, batch_size=30, learning_rate=0.05, random_state=0, **settings)
    trainer.fit(inputs, codes)
    assert trainer.evaluate([inputs], codes)["accuracy"] == 1


def test_the_mean_of_the_last_epochs_is_kept_where_asked():
    inputs, codes = noisy()
    kept = []

    class Keeper(Callback):
        def on_epoch_end(self, trainer, record):
            kept.append(values(trainer.block))

    block = small_block()
    Trainer(block, epochs=5, batch_size=20, learning_rate=0.1, average_last=3, callbacks=[Keeper()],
            random_state=0).fit(inputs, codes)
    for name, value in values(block).items():
        np.testing.assert_allclose(value, np.mean([one[name] for one in kept[-3:]], axis=0), atol=1e-6)


def test_the_mean_is_of_the_epochs_there_were_where_more_are_asked_for():
    inputs, codes = noisy()
    found = []
    for last in (2, 5):
        block = small_block()
        trainer = Trainer(block, epochs=2, batch_size=20, learning_rate=0.1, average_last=last, random_state=0)
        assert trainer.fit(inputs, codes).averaged_ == 2
        found.append(values(block))
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name])


class Killed(BaseException):
    """What ends a run at once."""


class Killer(Callback):
    """Kills the run in an epoch, after so many steps of it."""

    def __init__(self, epoch, step):
        self.epoch, self.step = epoch, step

    def on_step_end(self, trainer, step, loss):
        if len(trainer.history_) + 1 == self.epoch and step == self.step:
            raise Killed


def dropout_block():
    mx.random.seed(0)
    block = mx.gluon.nn.HybridSequential(prefix="net_")
    with block.name_scope():
        block.add(mx.gluon.nn.Dense(8, in_units=2), mx.gluon.nn.BatchNorm(in_channels=8), mx.gluon.nn.Dropout(0.3),
                  mx.gluon.nn.Dense(3, in_units=8))
    block.initialize(mx.init.Xavier())
    return block


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


@pytest.mark.parametrize("changed", [
    {"rates": {"dense0_weight": 0.5}}, {"optimizer_params": {"beta1": 0.8}}, {"class_weights": np.array([1.0, 2.0, 1.0])},
    {"augment": np.add}, {"patience": 3}, {"loss": mx.gluon.loss.L2Loss()}, {"schedule": "linear"}, "start", "data",
    "one row", "held out"])
def test_what_a_run_depends_on_tells_it_from_others(changed, tmp_path):
    block, (inputs, codes) = small_block(), separable()
    inputs = inputs.copy()
    name = next(name for name in block.collect_params() if name.endswith("weight"))
    held_out = (inputs[:30], codes[:30])
    settings = {"epochs": 1, "checkpoint_dir": tmp_path, "random_state": 0}
    Trainer(block, **settings).fit(inputs, codes, held_out)
    block = small_block(seed=1) if changed == "start" else small_block()
    if isinstance(changed, dict):
        if "rates" in changed:
            changed = {"rates": {name: 0.5}}
        settings.update(changed)
    if changed == "data":
        inputs[-1] += 1
    if changed == "one row":
        inputs[37, 0] += 1
    if changed == "held out":
        held_out = (inputs[:29], codes[:29])
    with pytest.raises(PersistenceError, match="is of another run"):
        Trainer(block, **settings).fit(inputs, codes, held_out)


def test_the_mean_of_the_last_epochs_competes_with_the_best():
    inputs, codes = noisy()
    losses = []
    for last in (0, 3):
        block = small_block()
        trainer = Trainer(block, epochs=12, batch_size=20, learning_rate=0.3, average_last=last, random_state=0)
        trainer.fit(inputs, codes, noisy(60, seed=2))
        losses.append(trainer.evaluate([noisy(60, seed=2)[0]], noisy(60, seed=2)[1])["loss"])
        assert trainer.averaged_ == (last if last and losses[1] < losses[0] else 0)
    assert losses[1] <= losses[0]


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


def test_of_several_rows_an_example_every_epoch_takes_one():
    trainer = Trainer(small_block(), epochs=1, batch_size=4, views=3, random_state=0)
    rows, seen = np.arange(30), []
    for _ in range(12):
        for (batch,), codes in trainer.iterate([rows], np.arange(10), np.random.default_rng(len(seen))):
            assert (batch // 3 == codes).all()
            seen.extend(batch.tolist())
    assert len(seen) == 120
    assert set(seen) == set(range(30))
    inputs, codes = separable(30)
    Trainer(small_block(), epochs=1, views=3, random_state=0).fit(np.repeat(inputs, 3, axis=0), codes, (inputs, codes))
    with pytest.raises(DataError, match="as many labels as examples"):
        Trainer(small_block(), epochs=1, views=3, random_state=0).fit(inputs, codes)


def test_a_run_without_a_seed_keeps_the_one_it_drew(tmp_path):
    from xfer2.training.checkpoint import kept_seed

    drawn = kept_seed("Trainer", tmp_path / "run", None)
    assert kept_seed("Trainer", tmp_path / "run", None) == drawn
    assert kept_seed("Trainer", tmp_path / "run", 3) == 3
    assert kept_seed("Trainer", tmp_path / "other", None) != drawn
    assert kept_seed("Trainer", None, 5) == 5
    assert kept_seed("Trainer", tmp_path / "run", np.random.RandomState(3)) == drawn
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(PersistenceError, match="nothing can be kept in checkpoint_dir"):
        kept_seed("Trainer", tmp_path / "file" / "run", None)
