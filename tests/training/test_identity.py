"""What tells a run from others: all that its settings hold, where it starts, and what it learns from."""

import os
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from training.blocks import separable, small_block

from xfer2._mxnet import mx
from xfer2.exceptions import PersistenceError
from xfer2.training.loop import Trainer

L = mx.gluon.loss


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
from training.test_identity import *
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
