"""Make the zoo's networks: ``python -m xfer2.zoo.train mnist-cnn --data DIR``.

Writes symbol, float16 parameters, preprocessing record and model card; accuracy is measured on the written files.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2._random import child_seed
from xfer2.data import files, images
from xfer2.data.batches import open_batches
from xfer2.exceptions import DataError, XferError
from xfer2.features.extractor import extract
from xfer2.model_handler import params, sources, targets
from xfer2.model_handler.network import Network, Preprocessing
from xfer2.training.loop import Trainer
from xfer2.zoo import networks

Examples = tuple[np.ndarray, np.ndarray]
Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _read_mnist(folder: Path, part: str) -> Examples:
    path = folder / "mnist.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            train_x, train_y, test_x, test_y = (file[name] for name in ("train_x", "train_y", "test_x", "test_y"))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{str(path)!r} must hold train_x, train_y, test_x and test_y of MNIST: {error}") from error
    return (train_x, train_y) if part == "train" else (test_x, test_y)


def _read_cifar10(folder: Path, part: str) -> Examples:
    """Images as uint8 (n, 32, 32, 3)."""
    pixels, labels = [], []
    for example in files.open_examples(str(folder / f"cifar10_{part}.rec")).read():
        pixels.append(np.asarray(images.decode(example.content, example.name).convert("RGB")))
        labels.append(int(example.label))
    return np.stack(pixels), np.array(labels)


def shifted(batch: np.ndarray, random: np.random.Generator, reach: int, border: str) -> np.ndarray:
    """Images (n, c, h, w), each moved by up to `reach` pixels each way; `border` is NumPy's padding mode."""
    height, width = batch.shape[2:]
    padded = np.pad(batch, [(0, 0), (0, 0), (reach, reach), (reach, reach)], mode=border)  # type: ignore[call-overload]
    windows = np.lib.stride_tricks.sliding_window_view(  # type: ignore[call-overload]
        padded, (height, width), axis=(2, 3))
    down, right = random.integers(0, 2 * reach + 1, (2, len(batch)))
    return windows[np.arange(len(batch)), :, down, right]


def mirrored(batch: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Images (n, c, h, w), half of them, drawn by lot, with left and right exchanged."""
    chosen = random.integers(0, 2, len(batch)).astype(bool)
    return np.where(chosen[:, None, None, None], batch[..., ::-1], batch)


def cropped_and_mirrored(batch: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """CIFAR's usual augmentation: moved by up to 4 pixels with the mean colour around, mirrored half of the time."""
    return shifted(mirrored(batch, random), random, 4, "constant")


class ZooTrainer(Trainer):
    """A Trainer with what the zoo's recipes need beside: augmentation, momentum, warm-up, clipping, an end of each epoch.

    Parameters
    ----------
    block : mx.gluon.HybridBlock
    augment : callable, optional
        Changes a batch (n, c, h, w) before it is trained on, drawing from the generator it is handed.
    momentum : float, optional
        Of the optimizers that have one.
    warm_up : float
        Share of all steps in which the learning rate rises linearly, before its half cosine.
    decay : {"all", "weights"}
        Which parameters decay; "weights" spares biases and BatchNorm's scales and shifts.
    clip : float, optional
        The largest norm that the gradient of a batch's mean loss may have, over all parameters (Pascanu et al. 2013).
    after_epoch : callable, optional
        Called with the number of each epoch when it is over.
    **settings
        Of `Trainer`.
    """

    def __init__(self, block: Any, *, augment: Augmentation | None = None, momentum: float | None = None,
                 warm_up: float = 0.0, decay: str = "all", clip: float | None = None,
                 after_epoch: Callable[[int], None] | None = None, **settings: Any) -> None:
        super().__init__(block, **settings)
        self.augment = augment
        self.momentum = momentum
        self.warm_up = warm_up
        self.decay = decay
        self.clip = clip
        self.after_epoch = after_epoch

    def make_optimizer(self, steps: int) -> Any:
        """As the base class, with warm-up, momentum and the choice of what decays."""
        parameters = {name: p for name, p in self.block.collect_params().items() if p.grad_req != "null"}
        for parameter in parameters.values():
            parameter.wd_mult = float(self.decay == "all" or len(parameter.shape) > 1)
        options = {"learning_rate": self.learning_rate, "wd": self.weight_decay,
                   "lr_scheduler": WarmCosine(steps, self.learning_rate, self.warm_up)}
        if self.momentum is not None:
            options["momentum"] = self.momentum
        return mx.gluon.Trainer(parameters, self.optimizer, options, kvstore=None)

    def run_epoch(self, epoch: int, inputs: np.ndarray, codes: np.ndarray) -> dict[str, float]:
        """One pass over the examples, and what follows it."""
        record = super().run_epoch(epoch, inputs, codes)
        if self.after_epoch is not None:
            self.after_epoch(epoch)
        return record

    def prepare(self, batch: np.ndarray) -> np.ndarray:
        """The batch, augmented."""
        return batch if self.augment is None else self.augment(batch, self.order_)

    def train_step(self, batch: Any, targets: Any) -> tuple[Any, Any]:
        """Forward, backward, clip, update; the losses (n,) and the outputs (n, k)."""
        if self.clip is None:
            return super().train_step(batch, targets)
        with mx.autograd.record():
            outputs = self.block(batch)
            loss = self.loss(outputs, targets)
        loss.backward()
        gradients = [p.grad() for p in self.block.collect_params().values() if p.grad_req != "null"]
        mx.gluon.utils.clip_global_norm(gradients, self.clip * len(targets))  # they are sums over the batch
        self.optimizer_.step(len(targets))
        return loss, outputs


class ShiftingTrainer(ZooTrainer):
    """Moves every image of a batch by up to `reach` pixels each way, filling with the image's own border."""

    reach = 2

    def prepare(self, batch: np.ndarray) -> np.ndarray:
        """Images (n, c, h, w), each cut at a random place out of itself with its border repeated around it."""
        return shifted(batch, self.order_, self.reach, "edge")


class WarmCosine(mx.lr_scheduler.LRScheduler):
    """Rises linearly to `base_lr`, then falls to zero along half a cosine."""

    def __init__(self, steps: int, base_lr: float, warm_up: float) -> None:
        super().__init__(base_lr=base_lr)
        self._rise = round(steps * warm_up)
        self._fall = max(steps - self._rise, 1)

    def __call__(self, num_update: int) -> float:
        """The rate of a step; steps are counted from 1."""
        if num_update <= self._rise:
            return self.base_lr * num_update / (self._rise + 1)
        done = min(max(num_update - 1 - self._rise, 0) / self._fall, 1.0)
        return self.base_lr * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Recipe:
    """How one network of the zoo is made.

    Attributes
    ----------
    architecture : callable
        Makes the symbol; its docstring opens the card.
    read_data : callable
        Of the folder and "train" or "test": raw images (n, h, w) or (n, h, w, 3), uint8, and their labels (n,).
    data : str
        What they are, for the card.
    holding : str
        Names of the files that the folder must hold.
    preprocessing : Preprocessing
    training : str
        What the settings do not say.
    settings : dict
        Of the trainer.
    trainer : type
    fixed : dict
        Arguments of the trainer that the card tells in words.
    """

    architecture: Callable[[], Any]
    read_data: Callable[[Path, str], Examples]
    data: str
    holding: str
    preprocessing: Preprocessing
    training: str
    settings: dict[str, Any]
    trainer: type[ZooTrainer] = ZooTrainer
    fixed: dict[str, Any] = field(default_factory=dict)


_MNIST: dict[str, Any] = {
    "read_data": _read_mnist, "holding": "mnist.npz",
    "data": "MNIST, 60,000 training images; accuracy on its 10,000 test images",
    "preprocessing": Preprocessing((1, 28, 28), color="GRAY", resize_short=28, crop="center", scale=1 / 255,
                                   mean=(0.1307,), std=(0.3081,))}
_CIFAR10: dict[str, Any] = {
    "read_data": _read_cifar10, "holding": "cifar10_train.rec and cifar10_test.rec",
    "data": "CIFAR-10, 50,000 training images; accuracy on its 10,000 test images",
    "preprocessing": Preprocessing((3, 32, 32), resize_short=32, crop="center", scale=1 / 255,
                                   mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))}

RECIPES = {
    "mnist-cnn": Recipe(
        networks.mnist_cnn, training=f"Adam, cosine to zero, images shifted by up to {ShiftingTrainer.reach} pixels",
        settings={"epochs": 20, "batch_size": 128, "learning_rate": 2e-3, "weight_decay": 1e-4},
        trainer=ShiftingTrainer, **_MNIST),
    "mnist-rnn": Recipe(
        networks.mnist_rnn, training="Adam, linear warm-up, cosine to zero, gradient clipped to a norm of `clip`, images "
        "shifted by up to 2 pixels",
        settings={"epochs": 20, "batch_size": 128, "learning_rate": 2e-3, "weight_decay": 0.0, "warm_up": 0.02,
                  "clip": 1.0},
        fixed={"augment": partial(shifted, reach=2, border="edge")}, **_MNIST),
    "cifar10-cnn": Recipe(
        networks.cifar10_cnn, training="Adam, linear warm-up, cosine to zero, images shifted by up to 4 pixels and mirrored",
        settings={"epochs": 16, "batch_size": 128, "learning_rate": 1e-3, "weight_decay": 0.0, "warm_up": 0.05},
        fixed={"augment": cropped_and_mirrored}, **_CIFAR10),
    "cifar10-resnet28": Recipe(
        networks.cifar10_resnet28, training="SGD with Nesterov momentum, linear warm-up, cosine to zero, weights decay and "
        "scales and shifts do not, images shifted by up to 4 pixels and mirrored",
        settings={"epochs": 20, "batch_size": 128, "learning_rate": 0.1, "optimizer": "nag", "momentum": 0.9,
                  "weight_decay": 5e-4, "warm_up": 0.05},
        fixed={"augment": cropped_and_mirrored, "decay": "weights"}, **_CIFAR10),
}


def train(name: str, data: Path, output: Path, seed: int = 0, checkpoints: Path | None = None) -> float:
    """Train one network and write it.

    Parameters
    ----------
    name : str
    data : Path
        Folder with the data set.
    output : Path
        Folder to write to.
    seed : int
    checkpoints : Path, optional
        Folder for the parameters after every epoch, as checkpoints of the network in float32.

    Returns
    -------
    float
        Accuracy on the test images, of the files written.
    """
    recipe = RECIPES[name]
    pixels, labels = recipe.read_data(data, "train")
    test_examples = recipe.read_data(data, "test")
    network = sources.read(recipe.architecture())
    network = replace(network, preprocessing=recipe.preprocessing,
                      input_shapes={recipe.preprocessing.input_name: recipe.preprocessing.input_shape})
    network = params.initialize(network, seed=child_seed(seed, "initial parameters"))
    inputs = np.concatenate([batch.data["data"] for batch in open_batches(pixels, network, batch_size=1000)])
    block = targets.to_block(network)

    def keep(epoch: int) -> None:
        if checkpoints is not None:
            targets.save_checkpoint(targets.from_block(network, block), str(checkpoints / name), epoch)

    trainer = recipe.trainer(block, random_state=seed, after_epoch=keep, **recipe.settings, **recipe.fixed)
    trainer.fit(inputs, labels.astype(np.float32))
    trained = targets.from_block(network, block)
    targets.save_checkpoint(params.cast(trained, "float16"), str(output / name))
    accuracy = measure(output / name, *test_examples)
    (output / f"{name}-card.md").write_text(_card(name, recipe, trained, accuracy, seed), encoding="utf-8")
    return accuracy


def measure(prefix: Path, pixels: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of a written network's first output on images."""
    network = params.cast(sources.read((str(prefix), 0)), "float32")
    output = network.graph.outputs[0].node
    scores = extract(network, open_batches(pixels, network, batch_size=500), (output,))[output]
    return float((scores.argmax(axis=1) == labels).mean())


def _card(name: str, recipe: Recipe, network: Network, accuracy: float, seed: int) -> str:
    count = sum(array.size for array in network.params.values())
    settings = ", ".join(f"{key} {value}" for key, value in recipe.settings.items())
    return f"""# {name}

{inspect.cleandoc(recipe.architecture.__doc__ or '')}

| | |
|---|---|
| data | {recipe.data} |
| accuracy | {accuracy:.4f}, measured on these float16 files |
| parameters | {count:,} |
| training | {recipe.training}, {settings} |
| seed | {seed} |
| preprocessing | `{name}-preprocessing.json` |
| made by | `python -m xfer2.zoo.train {name} --data DIR --seed {seed}`, DIR holding {recipe.holding} |
| layers | {', '.join(network.graph.layer_names)} |
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m xfer2.zoo.train", description="Train a network of the zoo.")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, required=True, help="folder with the data set")
    parser.add_argument("--output", type=Path, default=sources.ZOO_DIRECTORY, help="folder to write to (default: the zoo)")
    parser.add_argument("--checkpoints", type=Path, help="folder to keep the parameters of every epoch in")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for option, folder in (("--output", chosen.output), ("--checkpoints", chosen.checkpoints)):
        if folder is not None and not os.path.isdir(folder):
            parser.error(f"{option}: there is no folder {str(folder)!r}")
    try:
        accuracy = train(chosen.name, chosen.data, chosen.output, chosen.seed, chosen.checkpoints)
    except XferError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{chosen.name}: {accuracy:.4f} on the test images, mxnet {mx.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
