"""How good predictions of examples with known labels are: figures with intervals, kept and read without pickle."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from xfer2.exceptions import DataError
from xfer2.uncertainty import calibration
from xfer2.uncertainty.predictions import Prediction, label_codes
from xfer2.uncertainty.selective import area_under_risk_coverage, threshold_at_risk

_PARTS = ("aleatoric", "epistemic", "deviation", "logits")


@dataclass(frozen=True)
class Figure:
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Evaluation:
    """Predictions of examples that the classifier was not fitted on, and their true labels.

    Attributes
    ----------
    prediction : Prediction
    labels : numpy.ndarray (n,)
        True labels, all among ``prediction.classes``.

    Raises
    ------
    DataError
        Labels and predictions differ in number, or a label is no class.

    Examples
    --------
    >>> prediction = Prediction(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array(["bee", "wasp"]), [0, 1])
    >>> evaluation = Evaluation(prediction, np.array(["bee", "wasp"]))
    >>> evaluation.wrong.tolist(), evaluation.figures()["accuracy"].value
    ([False, True], 0.5)
    """

    prediction: Prediction
    labels: np.ndarray

    def __post_init__(self) -> None:
        codes = label_codes("Evaluation", self.labels, self.prediction.classes, len(self.prediction))
        object.__setattr__(self, "labels", np.asarray(self.prediction.classes)[codes])  # of the classes' own type

    def __len__(self) -> int:
        return len(self.prediction)

    def __repr__(self) -> str:
        return f"Evaluation({len(self)} examples, {self.wrong.sum()} of them wrong)"

    @cached_property
    def wrong(self) -> np.ndarray:
        """Whether the predicted label is not the true one (n,)."""
        return np.asarray(self.prediction.labels != self.labels)

    def figures(self, random_state: Any = 0) -> dict[str, Figure]:
        """The figures of these examples by name, each with its 95% interval.

        ``accuracy``; ``negative_log_likelihood`` in nats; ``brier_score``, 0 to 2; ``expected_calibration_error``, 0 to 1;
        ``area_under_risk_coverage``, the mean error of the answered part as more and more is answered, by entropy. The
        intervals are of 500 resamples of the examples (Efron 1979): percentiles; for the calibration error, which grows with
        every resampling, those mirrored at the figure; for accuracy Wilson's, which is right for few examples too (1927).
        """
        chances, classes = self.prediction.probabilities, self.prediction.classes
        entropy, (confidence, correct) = self.prediction.entropy, calibration.confidence_rows(self.labels, chances, classes)
        losses = calibration.negative_log_likelihood_rows(self.labels, chances, classes)
        squares = calibration.brier_rows(self.labels, chances, classes)
        scores = {"negative_log_likelihood": lambda rows: losses[rows].mean(),
                  "brier_score": lambda rows: squares[rows].mean(),
                  "expected_calibration_error": lambda rows: calibration.binned_calibration_error(
                      confidence[rows], correct[rows]),
                  "area_under_risk_coverage": lambda rows: area_under_risk_coverage(entropy[rows], self.wrong[rows])}
        found = {name: Figure(float(score(np.arange(len(self)))),
                              *calibration.bootstrap_rows(score, len(self), 0.95, 500, random_state))
                 for name, score in scores.items()}
        error = found["expected_calibration_error"]
        mirrored = [max(0.0, 2 * error.value - bound) for bound in (error.high, error.low)] + [error.value]
        return {"accuracy": _share(1 - self.wrong.mean(), len(self)), **found,
                "expected_calibration_error": Figure(error.value, min(mirrored), max(mirrored))}

    def entropy_limit(self, risk: float) -> float:
        """The entropy, in nats, above which to abstain so that at most `risk` of the answers are wrong.

        See `threshold_at_risk`: minus infinity where these examples are too few, or too often wrong, to promise it.
        """
        return threshold_at_risk(self.prediction.entropy, self.wrong, risk)

    def to_bytes(self) -> bytes:
        """A ``.npz`` file without pickle."""
        told = self.prediction
        arrays = {"probabilities": told.probabilities, "classes": np.asarray(told.classes), "ids": np.asarray(told.ids),
                  "labels": np.asarray(self.labels), "skipped": np.asarray(list(told.skipped), str),
                  **{f"distance:{name}": v for name, v in told.distances.items()},
                  **{name: getattr(told, name) for name in _PARTS if getattr(told, name) is not None}}
        content = io.BytesIO()
        np.savez(content, **{name: np.asarray(a, str) if a.dtype.kind == "O" else a for name, a in arrays.items()})
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Evaluation:
        """Undo `to_bytes`.

        Raises
        ------
        DataError
            The content is of another kind.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            distances = {name.partition(":")[2]: a for name, a in arrays.items() if name.startswith("distance:")}
            prediction = Prediction(arrays["probabilities"], arrays["classes"], arrays["ids"].tolist(), distances=distances,
                                    skipped=arrays["skipped"].tolist(),
                                    **{name: arrays[name] for name in _PARTS if name in arrays})
            return cls(prediction, arrays["labels"])
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"The held-out predictions cannot be read: {error}") from error


def _share(value: float, rows: int) -> Figure:
    """A share of some rows with Wilson's interval, which has a width for shares of 0 and 1 too."""
    normal = 1.959964  # 97.5% of a normal distribution lie below
    middle = value + normal**2 / (2 * rows)
    spread = normal * np.sqrt(value * (1 - value) / rows + (normal / (2 * rows)) ** 2)
    low, high = (float((middle + side * spread) / (1 + normal**2 / rows)) for side in (-1, 1))
    return Figure(float(value), max(0.0, low), min(1.0, high))
