"""Parameters as arrays, statistics measured anew, and what MXNet refuses."""

import numpy as np
import pytest
from training.blocks import separable, small_block, values

from xfer2._mxnet import mx
from xfer2.exceptions import ModelError
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


def test_frozen_statistics_are_not_measured_and_hold_for_the_layers_above():
    block = nn.HybridSequential(prefix="net_")
    with block.name_scope():
        block.add(nn.BatchNorm(in_channels=2, use_global_stats=True), nn.Dense(4, in_units=2), nn.BatchNorm(in_channels=4))
    block.initialize(mx.init.Xavier())
    block[0].running_mean.set_data(mx.nd.array([1, -1]))
    block[0].running_var.set_data(mx.nd.array([4, 9]))
    block.hybridize()
    block(mx.nd.ones((1, 2)))
    before, inputs = values(block), separable()[0]
    parameters.measure_statistics(block, [[inputs]], mx.cpu())
    after = values(block)
    moved = {name for name in after if (after[name] != before[name]).any()}
    assert moved == {"net_batchnorm1_running_mean", "net_batchnorm1_running_var"}
    dense = (inputs - [1, -1]) / np.sqrt([4 + 1e-5, 9 + 1e-5]) @ after["net_dense0_weight"].T + after["net_dense0_bias"]
    np.testing.assert_allclose(after["net_batchnorm1_running_mean"], dense.mean(axis=0), atol=1e-5)


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
