"""A run that is taken up is the one that was begun: on several devices too, and by all that its settings hold."""

import os
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from training.test_loop import Killed, Killer, separable, small_block

from xfer2._mxnet import mx
from xfer2.exceptions import PersistenceError
from xfer2.training.loop import Trainer

L = mx.gluon.loss


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


def noise(images, random, sigma=0.0):
    return images + random.normal(0, sigma, images.shape)


class Noise:
    def __init__(self, sigma):
        self.sigma = sigma

    def __call__(self, images, random):
        return noise(images, random, self.sigma)

    def add(self, images, random):
        return self(images, random)


class Slotted(Noise):
    __slots__ = ("sigma",)


class Compose:
    def __init__(self, *parts, **more):
        self.parts, self.more = parts, more

    def __call__(self, images, random):
        return images


class Ring(Compose):
    """Holds itself, and what holds it."""

    def __init__(self, sigma):
        super().__init__(self, [self], Noise(sigma))
        self.parts[2].ring = self


@dataclass
class Record(Compose):
    inner: object

    def __post_init__(self):
        super().__init__()


class Focal(L.Loss):
    def __init__(self, gamma, inner=None):
        super().__init__(None, 0)
        self.gamma = gamma
        self.inner = inner or L.SoftmaxCrossEntropyLoss()

    def hybrid_forward(self, F, outputs, targets, weights):
        return self.inner(outputs, targets, weights)


def many(value):
    return np.insert(np.zeros(2000), 1000, value)


@pytest.mark.parametrize("make", [
    lambda value: {"augment": partial(noise, sigma=value)},
    lambda value: {"augment": partial(Noise.__call__, Noise(value))},
    lambda value: {"augment": Noise(value).add},
    lambda value: {"augment": Slotted(value)},
    lambda value: {"augment": Compose([Noise(value)])},
    lambda value: {"augment": Compose(one={"two": (Noise(1), Noise(value))})},
    lambda value: {"augment": Compose(OrderedDict(a=many(value)))},
    lambda value: {"augment": Compose(mx.nd.array(many(value)))},
    lambda value: {"augment": Compose({"one", "two", f"{value}"}, {Noise, noise})},
    lambda value: {"augment": Record(L.HuberLoss(rho=value))},
    lambda value: {"augment": Ring(value)},
    lambda value: {"loss": Focal(value)},
    lambda value: {"loss": Focal(2, L.SoftmaxCrossEntropyLoss(axis=int(-value)))},
    lambda value: {"loss": L.SoftmaxCrossEntropyLoss(weight=value)},
    lambda value: {"class_weights": np.array([1, 1, 1 + value * 1e-12])}])
def test_what_a_setting_holds_tells_a_run_from_others(make, tmp_path):
    settings = {"epochs": 1, "checkpoint_dir": tmp_path, "random_state": 0}
    first = Trainer(small_block(), **settings, **make(1.0)).fit(*separable(9)).history_
    assert Trainer(small_block(), **settings, **make(1.0)).fit(*separable(9)).history_ == first
    with pytest.raises(PersistenceError, match=r"is of another run: its (augment|loss|class_weights) is"):
        Trainer(small_block(), **settings, **make(2.0)).fit(*separable(9))


RUN = """
import sys
from training.test_checkpoint import *
held = Compose({"one", "two", "three"}, frozenset({"four", "five"}), Ring(1.0), np.random.default_rng(0), lambda: None,
               Record({"six", "seven"}), mx.nd.ones(2), Focal(2), mx.gluon.nn.Dense(2), np.array(["eight", None]))
trainer = Trainer(small_block(), epochs=1, checkpoint_dir=sys.argv[1], augment=held, loss=Focal(2), random_state=0)
trainer.fit(*separable(9))
"""


def test_settings_are_the_same_in_another_process(tmp_path):
    path = os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])
    for seed in "123":
        subprocess.run([sys.executable, "-W", "ignore", "-c", RUN, str(tmp_path)], check=True,
                       env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path})
