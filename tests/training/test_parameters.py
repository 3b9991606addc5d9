"""Parameters as arrays, statistics measured anew, and what a run leaves of the program around it."""

import numpy as np
import pytest
from training.test_loop import Recorder, runtime_warning, separable, small_block, values

from xfer2._mxnet import mx
from xfer2.exceptions import DataError, ModelError, TrainingError
from xfer2.training import parameters
from xfer2.training.callbacks import Callback
from xfer2.training.loop import Trainer

nn = mx.gluon.nn


def normalised_block(seed=0):
    mx.random.seed(seed)
    block = nn.HybridSequential(prefix="bn_")
    with block.name_scope():
        block.add(nn.Dense(4, in_units=2), nn.BatchNorm(in_channels=4, momentum=0.8), nn.Dense(3, in_units=4))
    block.initialize(mx.init.Xavier())
    return block


def test_averaged_parameters_get_statistics_of_their_own():
    inputs, codes = separable()
    trainer = Trainer(normalised_block(), epochs=6, batch_size=30, learning_rate=0.2, schedule="constant", average_last=5,
                      random_state=0).fit(inputs, codes)
    assert trainer.averaged_ == 5
    kept = values(trainer.block)
    below = inputs @ kept["bn_dense0_weight"].T + kept["bn_dense0_bias"]
    np.testing.assert_allclose(kept["bn_batchnorm0_running_mean"], below.mean(axis=0), atol=1e-4)
    batches = below[np.newaxis]  # the variance within batches of 30 is a little less than that of all
    assert (kept["bn_batchnorm0_running_var"] < batches.var(axis=1)[0] * 1.001).all()
    assert (kept["bn_batchnorm0_running_var"] > batches.var(axis=1)[0] * 0.8).all()


def test_frozen_statistics_are_not_measured():
    block = normalised_block()
    block[1]._kwargs["use_global_stats"] = True
    block.hybridize()
    block(mx.nd.ones((1, 2)))
    before = values(block)
    parameters.measure_statistics(block, [[separable()[0]]], mx.cpu())
    for name, value in values(block).items():
        np.testing.assert_array_equal(value, before[name])


class Siamese(nn.HybridBlock):
    """Puts one BatchNorm on two inputs."""

    def __init__(self, momentum):
        super().__init__(prefix="siamese_")
        with self.name_scope():
            self.norm, self.dense = nn.BatchNorm(in_channels=2, momentum=momentum), nn.Dense(3, in_units=2)

    def hybrid_forward(self, F, one, other):
        return self.dense(F.abs(self.norm(one) - self.norm(other)))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_statistics_of_a_layer_that_is_used_twice_are_those_of_a_long_training(momentum):
    (one, codes), kept = separable(), []
    for settings in ({"epochs": 2, "average_last": 2}, {"epochs": 150}):
        block = Siamese(momentum)
        block.initialize()
        Trainer(block, batch_size=90, random_state=0, **settings).fit([one, one + 3], codes)
        kept.append([block.norm.running_mean.data().asnumpy(), block.norm.running_var.data().asnumpy()])
    np.testing.assert_allclose(*kept, rtol=1e-4)
    assert (one.mean(axis=0) - 0.01 < kept[0][0]).all()
    assert (kept[0][0] < one.mean(axis=0) + 3.01).all()


@pytest.mark.parametrize("settings", [{"momentum": 1.0}, {"scale": False, "center": False}])
def test_statistics_that_training_does_not_write_stay(settings):
    block = nn.HybridSequential()
    block.add(nn.BatchNorm(in_channels=2, **settings), nn.Dense(3, in_units=2))
    block.initialize()
    block[0].running_mean.set_data(mx.nd.array([2, 3]))
    Trainer(block, epochs=3, average_last=2, random_state=0).fit(*separable())
    assert block[0].running_mean.data().asnumpy().tolist() == [2, 3]
    assert block[0].running_var.data().asnumpy().tolist() == [1, 1]


@pytest.mark.parametrize("stops", [False, True])
def test_a_mean_does_not_depend_on_draws_before_nor_on_a_stop_after_the_last_epoch(stops):
    class Stop(Callback):
        def on_epoch_end(self, trainer, record):
            trainer.stop = stops and record["epoch"] == 4

    found = []
    for seed in (5, 77):
        mx.random.seed(0)
        block = nn.HybridSequential(prefix="net_")
        block.add(nn.Dropout(0.5), nn.Dense(8, in_units=2), nn.BatchNorm(in_channels=8), nn.Dense(3, in_units=8))
        block.initialize(mx.init.Xavier())
        mx.random.seed(seed)
        trainer = Trainer(block, epochs=4, batch_size=30, average_last=3, callbacks=[Stop()], random_state=0)
        assert trainer.fit(*separable()).averaged_ == 3
        found.append([parameter.data().asnumpy() for parameter in block.collect_params().values()])
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("channels", [8, 16])
def test_weights_of_three_axes_are_set_after_they_were_used(channels):
    block = nn.HybridSequential()
    block.add(nn.Conv1D(channels, 3, in_channels=3), nn.Conv1D(channels, 1, in_channels=channels), nn.GlobalMaxPool1D(),
              nn.Flatten(), nn.Dense(2, in_units=channels))
    block.initialize(mx.init.Xavier())
    inputs, codes = np.random.default_rng(0).normal(size=(24, 3, 9)).astype("float32"), np.arange(24) % 2
    trainer = Trainer(block, epochs=3, batch_size=8, random_state=0).fit(inputs, codes, (inputs, codes))
    assert np.isfinite([line["validation_loss"] for line in trainer.history_]).all()
    told = parameters.values(block, mx.cpu())
    parameters.set_values(block, {name: value + 1 for name, value in told.items()})
    for name, value in parameters.values(block, mx.cpu()).items():
        np.testing.assert_array_equal(value, told[name] + 1)


def test_no_batch_has_one_example_alone():
    inputs, codes = separable(31)
    recorder = Recorder(small_block(), epochs=1, batch_size=10, random_state=0)
    assert recorder.steps_per_epoch(codes) == 3
    sizes = [len(own) for _, own in recorder.iterate([inputs], codes, np.random.default_rng(0))]
    assert sizes == [10, 10, 11]


@pytest.mark.parametrize(("codes", "said"), [
    ([0, 1, 7], "from 0 to 2, the block's outputs; got 0 to 7"), ([0, -1, 2], "got -1 to 2"),
    ([0.0, 1.7, 1.0], "must be whole numbers"), ([0.0, np.nan, 1.0], "must be whole numbers"),
    (["a", "b", "c"], "must be whole numbers"), ([[0], [1], [2]], "must be whole numbers")])
def test_codes_of_no_class_are_refused(codes, said):
    inputs = separable(3)[0]
    with pytest.raises(DataError, match=said):
        Trainer(small_block(), epochs=1).fit(inputs, codes)
    with pytest.raises(DataError, match=said):
        Trainer(small_block(), epochs=1).fit(inputs, [0, 1, 2], (inputs, codes))


def test_an_augmentation_may_work_in_place():
    seen = []

    def doubled(images, random):
        images *= 2
        return images

    class Seeing(Trainer):
        def iterate(self, inputs, codes, random):
            batch = next(super().iterate(inputs, codes, random))
            yield from [batch] * 3

        def train_step(self, inputs, targets, weights, count):
            seen.append(float(np.abs(inputs[0]).max()))
            return super().train_step(inputs, targets, weights, count)

    Seeing(small_block(), epochs=1, batch_size=90, augment=doubled).fit(*separable())
    assert len(set(seen)) == 1


@pytest.mark.parametrize("settings", [{"mixup": 0.5}, {"label_smoothing": 0.2}])
def test_a_class_without_weight_has_none_where_targets_are_soft(settings):
    inputs, codes = separable(30)
    trainer = Trainer(small_block(), epochs=1, class_weights=np.array([0.0, 1.5, 1.5]), random_state=0, **settings)
    trainer.fit(inputs, codes)
    _, targets, weights = trainer.prepare([inputs], codes, np.random.default_rng(0))
    assert (targets[:, 0] == 0).all()
    assert weights.tolist() == [1] * 30
    assert targets[:, 1:].max() == pytest.approx(1.5, rel=0.2)


def test_a_scheduler_among_the_optimizers_parameters_begins_anew_with_every_fit(capsys):
    schedule = mx.lr_scheduler.FactorScheduler(3, 0.5, base_lr=7.0)
    rates = []
    for _ in range(2):
        trainer = Trainer(small_block(), epochs=3, batch_size=30, optimizer_params={"lr_scheduler": schedule},
                          learning_rate=0.1, random_state=0).fit(*separable())
        rates.append([line["rate"] for line in trainer.history_])
    assert rates[0] == rates[1] == [0.1, 0.05, 0.025]
    assert capsys.readouterr().out == ""


def test_the_generator_around_a_run_goes_on():
    def drawn(seed, trains):
        mx.random.seed(seed)
        if trains:
            Trainer(small_block(), epochs=1, random_state=0).fit(*separable(9))
        return mx.nd.random.normal(shape=(3,)).asnumpy().tolist()

    assert drawn(1, True) != drawn(1, False)  # one number was taken
    mx.random.seed(1)
    assert len({tuple(drawn_between()) for _ in range(3)}) == 3


def drawn_between():
    """What is drawn after a run with a seed of its own, going on from where the generator was."""
    Trainer(fixed_block(), epochs=1, random_state=0).fit(*separable(9))
    return mx.nd.random.normal(shape=(3,)).asnumpy().tolist()


def fixed_block():
    block = nn.Dense(3, in_units=2)
    block.initialize(mx.init.Constant(0.1))
    return block


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


def test_a_last_step_that_diverges_is_told():
    class Explodes(Trainer):
        def train_step(self, inputs, targets, weights, count):
            found = super().train_step(inputs, targets, weights, count)
            for parameter in self.block.collect_params().values():
                parameter.set_data(parameter.data() * np.inf)
            return found

    with pytest.raises(TrainingError, match="diverged in the last step of epoch 1"):
        Explodes(small_block(), epochs=1, batch_size=90).fit(*separable())


class Fails(nn.HybridBlock):
    """Computes an example, and no batch: shapes do not fit, or a matrix has no root, which MXNet finds late."""

    def __init__(self, late):
        super().__init__()
        self.late = late
        with self.name_scope():
            self.dense, self.shift = nn.Dense(3, in_units=2), self.params.get("shift", shape=(1, 3), init="zeros")

    def hybrid_forward(self, F, inputs, shift):
        if not self.late:
            return self.dense(inputs) + shift
        root = F.linalg.potrf(30 * F.eye(2) - F.dot(inputs, inputs, transpose_a=True))
        return F.broadcast_add(self.dense(inputs), F.broadcast_mul(root.sum().reshape((1, 1)), shift))


@pytest.mark.parametrize(("make", "loss", "said"), [
    (lambda: Fails(False), None, r"expected \[9,3\], got \[1,3\]"), (lambda: Fails(True), None, "spotrf failed"),
    (small_block, lambda outputs, targets, weights: mx.nd.ones(9), "Cannot differentiate")])
def test_what_mxnet_cannot_train_is_told_in_one_line(make, loss, said):
    block = make()
    block.initialize(force_reinit=True)
    with pytest.raises(ModelError, match=f"^MXNet cannot train the network: .*{said}") as caught:
        Trainer(block, loss=loss, random_state=0).fit(*separable(9))
    assert "\n" not in str(caught.value)


def test_an_error_of_mxnet_in_a_callback_is_the_callbacks_own():
    class Wrong(Callback):
        def on_step_end(self, trainer, step, loss):
            mx.nd.dot(mx.nd.ones((2, 3)), mx.nd.ones((2, 3)))

    with pytest.raises(mx.MXNetError):
        Trainer(small_block(), epochs=1, callbacks=[Wrong()]).fit(*separable(9))
