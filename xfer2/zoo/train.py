"""Make the zoo's networks: ``python -m xfer2.zoo.train mnist-cnn --data DIR``.

Writes symbol, float16 parameters, preprocessing record and model card; accuracy is measured on the written files.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2._random import child_seed
from xfer2.data import files, images
from xfer2.data.augmentation import Augmentation
from xfer2.data.batches import open_batches
from xfer2.exceptions import DataError, XferError
from xfer2.features.extractor import extract
from xfer2.model_handler import mxnet_files, params, sources, targets
from xfer2.model_handler.network import Network, Preprocessing
from xfer2.training.loop import Trainer
from xfer2.zoo import networks

Examples = tuple[np.ndarray, np.ndarray]


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
        Of the `Trainer`.
    restart : dict, optional
        Settings that differ in a second run, from where the first ended: a warm restart (Loshchilov and Hutter 2017,
        arXiv:1608.03983).
    """

    architecture: Callable[[], Any]
    read_data: Callable[[Path, str], Examples]
    data: str
    holding: str
    preprocessing: Preprocessing
    training: str
    settings: dict[str, Any]
    restart: dict[str, Any] | None = None


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
        networks.mnist_cnn, training="Adam, cosine to zero",
        settings={"epochs": 20, "batch_size": 128, "learning_rate": 2e-3, "weight_decay": 1e-4,
                  "augment": Augmentation(shift=2)}, **_MNIST),
    "mnist-rnn": Recipe(
        networks.mnist_rnn, training="Adam, linear warm-up, cosine to zero, clipped gradients",
        settings={"epochs": 20, "batch_size": 128, "learning_rate": 2e-3, "warm_up": 0.02, "clip_gradient": 1.0,
                  "augment": Augmentation(shift=3, rotation=25, zoom=0.25, shear=0.3)}, **_MNIST),
    "cifar10-cnn": Recipe(
        networks.cifar10_cnn, training="Adam, linear warm-up, cosine to zero",
        settings={"epochs": 16, "batch_size": 128, "learning_rate": 1e-3, "warm_up": 0.05,
                  "augment": Augmentation(shift=4, flip=True)}, **_CIFAR10),
    "cifar10-resnet28": Recipe(
        networks.cifar10_resnet28, training="SGD with Nesterov momentum, linear warm-up, cosine to zero, warm restart",
        settings={"epochs": 20, "batch_size": 128, "learning_rate": 0.1, "optimizer": "nag",
                  "optimizer_params": {"momentum": 0.9}, "weight_decay": 5e-4, "warm_up": 0.05,
                  "augment": Augmentation(shift=4, flip=True)},
        restart={"epochs": 10, "learning_rate": 0.05}, **_CIFAR10),
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
        Folder to keep the run in after every epoch; a run that was stopped goes on from there.

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
    block = targets.to_training_block(network)
    Trainer(block, random_state=seed, checkpoint_dir=checkpoints, **recipe.settings).fit(inputs, labels)
    if recipe.restart:
        Trainer(block, random_state=child_seed(seed, "restart"), checkpoint_dir=checkpoints and checkpoints / "restart",
                **{**recipe.settings, **recipe.restart}).fit(inputs, labels)
    trained = targets.from_block(network, block)
    mxnet_files.write(params.cast(trained, "float16"), str(output / name))
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
    if recipe.restart:
        settings += "; restarted with " + ", ".join(f"{key} {value}" for key, value in recipe.restart.items())
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
    parser.add_argument("--checkpoints", type=Path, help="folder to keep the run in; one that was stopped goes on from it")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if not os.path.isdir(chosen.output):
        parser.error(f"--output: there is no folder {str(chosen.output)!r}")
    try:
        accuracy = train(chosen.name, chosen.data, chosen.output, chosen.seed, chosen.checkpoints)
    except XferError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{chosen.name}: {accuracy:.4f} on the test images, mxnet {mx.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
