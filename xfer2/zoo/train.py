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
from xfer2.data.batches import open_batches
from xfer2.exceptions import DataError, XferError
from xfer2.features.extractor import extract
from xfer2.model_handler import params, sources, targets
from xfer2.model_handler.network import Network, Preprocessing
from xfer2.training.loop import Trainer
from xfer2.zoo import networks

Examples = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Recipe:
    """How one network of the zoo is made."""

    architecture: Callable[[], Any]
    read_data: Callable[[Path], tuple[Examples, Examples]]
    data: str
    preprocessing: Preprocessing
    settings: dict[str, Any]


def _read_mnist(folder: Path) -> tuple[Examples, Examples]:
    path = folder / "mnist.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return (file["train_x"], file["train_y"]), (file["test_x"], file["test_y"])
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{str(path)!r} must hold train_x, train_y, test_x and test_y of MNIST: {error}") from error


RECIPES = {
    "mnist-cnn": Recipe(
        networks.mnist_cnn, _read_mnist, "MNIST, 60,000 training images; accuracy on its 10,000 test images",
        Preprocessing((1, 28, 28), color="GRAY", resize_short=28, crop="center", scale=1 / 255, mean=(0.1307,),
                      std=(0.3081,)),
        {"epochs": 20, "batch_size": 128, "learning_rate": 2e-3, "weight_decay": 1e-4}),
}


class ShiftingTrainer(Trainer):
    """Moves every image of a batch by up to `reach` pixels each way, filling with the image's own border."""

    reach = 2

    def prepare(self, batch: np.ndarray) -> np.ndarray:
        """Images (n, c, h, w), each cut at a random place out of itself with its border repeated around it."""
        height, width = batch.shape[2:]
        padded = np.pad(batch, [(0, 0), (0, 0), (self.reach, self.reach), (self.reach, self.reach)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(  # type: ignore[call-overload]
            padded, (height, width), axis=(2, 3))
        down, right = self.order_.integers(0, 2 * self.reach + 1, (2, len(batch)))
        return windows[np.arange(len(batch)), :, down, right]


def train(name: str, data: Path, output: Path, seed: int = 0) -> float:
    """Train one network and write it.

    Returns
    -------
    float
        Accuracy on the test images, of the files written.
    """
    recipe = RECIPES[name]
    (images, labels), (test_images, test_labels) = recipe.read_data(data)
    network = sources.read(recipe.architecture())
    network = replace(network, preprocessing=recipe.preprocessing,
                      input_shapes={recipe.preprocessing.input_name: recipe.preprocessing.input_shape})
    network = params.initialize(network, seed=child_seed(seed, "initial parameters"))
    inputs = np.concatenate([batch.data["data"] for batch in open_batches(images, network, batch_size=1000)])
    block = targets.to_block(network)
    ShiftingTrainer(block, random_state=seed, **recipe.settings).fit(inputs, labels.astype(np.float32))
    trained = targets.from_block(network, block)
    targets.save_checkpoint(params.cast(trained, "float16"), str(output / name))
    accuracy = measure(output / name, test_images, test_labels)
    (output / f"{name}-card.md").write_text(_card(name, recipe, trained, accuracy, seed), encoding="utf-8")
    return accuracy


def measure(prefix: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of a written network's first output on images."""
    network = params.cast(sources.read((str(prefix), 0)), "float32")
    output = network.graph.outputs[0].node
    scores = extract(network, open_batches(images, network, batch_size=500), (output,))[output]
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
| training | Adam, cosine to zero, images shifted by up to {ShiftingTrainer.reach} pixels, {settings} |
| seed | {seed} |
| preprocessing | `{name}-preprocessing.json` |
| made by | `python -m xfer2.zoo.train {name} --data DIR --seed {seed}`, DIR holding mnist.npz |
| layers | {', '.join(network.graph.layer_names)} |
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m xfer2.zoo.train", description="Train a network of the zoo.")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, required=True, help="folder with the data set")
    parser.add_argument("--output", type=Path, default=sources.ZOO_DIRECTORY, help="folder to write to (default: the zoo)")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if not os.path.isdir(chosen.output):
        parser.error(f"--output: there is no folder {str(chosen.output)!r}")
    try:
        accuracy = train(chosen.name, chosen.data, chosen.output, chosen.seed)
    except XferError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{chosen.name}: {accuracy:.4f} on the test images, mxnet {mx.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
