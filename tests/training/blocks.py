"""What tests of training share: a task, small networks, and trainers that note or end."""

import re
import warnings
from contextlib import contextmanager

import numpy as np

from xfer2._mxnet import mx
from xfer2.training.callbacks import Callback
from xfer2.training.loop import Trainer

CENTRES = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 4.0]])


def separable(count=90):
    codes = np.arange(count) % 3
    return (CENTRES[codes] + np.random.default_rng(0).normal(0, 0.4, (count, 2))).astype("float32"), codes


def noisy(count=120, seed=1):
    inputs, codes = separable(count)
    return inputs + np.random.default_rng(seed).normal(0, 2, inputs.shape).astype("float32"), codes


def small_block(seed=0):
    mx.random.seed(seed)
    block = mx.gluon.nn.HybridSequential(prefix="net_")
    with block.name_scope():
        block.add(mx.gluon.nn.Dense(8, activation="relu", in_units=2), mx.gluon.nn.Dense(3, in_units=8))
    block.initialize(mx.init.Xavier())
    return block


def dropout_block():
    mx.random.seed(0)
    block = mx.gluon.nn.HybridSequential(prefix="net_")
    with block.name_scope():
        block.add(mx.gluon.nn.Dense(8, in_units=2), mx.gluon.nn.BatchNorm(in_channels=8), mx.gluon.nn.Dropout(0.3),
                  mx.gluon.nn.Dense(3, in_units=8))
    block.initialize(mx.init.Xavier())
    return block


def values(block):
    return {name: parameter.data().asnumpy() for name, parameter in block.collect_params().items()}


def check_same(first, second):
    for name, value in values(first).items():
        np.testing.assert_array_equal(value, values(second)[name])


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


@contextmanager
def runtime_warning(pattern, category=RuntimeWarning):
    """As `pytest.warns`, which would hand on MXNet's own deprecation warnings as errors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert any(one.category is category and re.search(pattern, str(one.message)) for one in caught)


class Killed(BaseException):
    """What ends a run at once."""


class Killer(Callback):
    """Kills the run in an epoch, after so many steps of it."""

    def __init__(self, epoch, step):
        self.epoch, self.step = epoch, step

    def on_step_end(self, trainer, step, loss):
        if len(trainer.history_) + 1 == self.epoch and step == self.step:
            raise Killed
