"""``xfer2 demo``: a network trained on MNIST learns scikit-learn's handwritten digits from ten images a class."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import typer

from xfer2.uncertainty.calibration import expected_calibration_error, negative_log_likelihood
from xfer2.uncertainty.predictions import Prediction

IMAGES_PER_CLASS = 10
SOURCE = "zoo:mnist-cnn"


@dataclass(frozen=True)
class Row:
    """One method's figures: share of test images right, nats, calibration error, seconds to fit and predict."""

    method: str
    accuracy: float
    nll: float
    ece: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What the demo found."""

    rows: tuple[Row, ...]
    prediction: Prediction
    truth: np.ndarray
    training_images: int


def run(seed: int = 0) -> Outcome:
    """Fit logistic regression on raw pixels and on the source network's features, and measure both.

    Parameters
    ----------
    seed : int
        Chooses the training images, ten a class of 1,797; the rest are test images.
    """
    from sklearn.datasets import load_digits

    from xfer2.heads.logistic_regression import LogisticRegressionHead
    from xfer2.repurposers.lr import LrRepurposer

    digits = load_digits()
    images, labels = digits.images, digits.target
    train, test = _split(labels, seed)
    pixels = images.reshape(len(images), -1)
    framed = np.pad(images * (255 / 16), [(0, 0), (2, 2), (2, 2)]).astype(np.uint8)  # a margin, as MNIST's digits have

    start = time.perf_counter()
    head = LogisticRegressionHead(random_state=seed).fit(pixels[train], labels[train])
    raw = Prediction(head.predict_proba(pixels[test]), head.classes_, test.tolist())
    raw_seconds = time.perf_counter() - start

    start = time.perf_counter()
    repurposer = LrRepurposer(SOURCE, random_state=seed)
    repurposer.repurpose(framed[train], labels[train])
    found = repurposer.predict_uncertainty(framed[test])
    repurposed = Prediction(found.probabilities, found.classes, test.tolist())
    seconds = time.perf_counter() - start
    rows = (_row("raw pixels", raw, labels[test], raw_seconds),
            _row(f"repurposed {SOURCE}", repurposed, labels[test], seconds))
    return Outcome(rows, repurposed, labels[test], len(train))


def demo(seed: int = typer.Option(0, min=0, help="Chooses the training images."),
         as_json: bool = typer.Option(False, "--json", help="Print the table as JSON.")) -> None:
    """Repurpose a network trained on MNIST to scikit-learn's digits, ten images a class. Needs no network.

    \b
    Example:
      xfer2 demo --seed 1
    """
    outcome = run(seed)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in outcome.rows], indent=2))
        return
    _print(outcome)


def _split(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = [order[labels[order] == label][:IMAGES_PER_CLASS] for label in np.unique(labels)]
    train = np.sort(np.concatenate(chosen))
    return train, np.setdiff1d(np.arange(len(labels)), train)


def _row(method: str, prediction: Prediction, truth: np.ndarray, seconds: float) -> Row:
    return Row(method, float((prediction.labels == truth).mean()),
               negative_log_likelihood(truth, prediction.probabilities, prediction.classes),
               expected_calibration_error(truth, prediction.probabilities, prediction.classes), seconds)


def _print(outcome: Outcome, least_certain: int = 5) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"scikit-learn's digits: {outcome.training_images} training and {len(outcome.truth)} test images",
                  title_justify="left")
    table.add_column("logistic regression on")
    for name in ("accuracy", "NLL", "ECE", "seconds"):
        table.add_column(name, justify="right")
    for row in outcome.rows:
        table.add_row(row.method, f"{row.accuracy:.3f}", f"{row.nll:.3f}", f"{row.ece:.3f}", f"{row.seconds:.1f}")
    console.print(table)
    uncertain = Table(title=f"The {least_certain} test images it is least certain of", title_justify="left")
    for name in ("image", "is a", "probabilities"):
        uncertain.add_column(name)
    for row in outcome.prediction.entropy.argsort()[::-1][:least_certain]:
        uncertain.add_row(f"digits[{outcome.prediction.ids[row]}]", str(outcome.truth[row]),
                          _likeliest(outcome.prediction, int(row)))
    console.print(uncertain)


def _likeliest(prediction: Prediction, row: int, count: int = 3) -> str:
    chances: Any = prediction.probabilities[row]
    return ", ".join(f"{prediction.classes[k]}: {chances[k]:.2f}" for k in chances.argsort()[::-1][:count])
