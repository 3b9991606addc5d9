"""Prediction: labels and probabilities, and how uncertain they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xfer2._validation import parameter_error
from xfer2.exceptions import DataError

_TAKEN = ("id", "label", "confidence", "entropy", "aleatoric", "epistemic", "deviation", "maximum_probability", "energy",
          "mutual_information")


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of n examples.

    Attributes
    ----------
    probabilities : numpy.ndarray (n, k)
        Columns in the order of `classes`; rows sum to 1.
    classes : numpy.ndarray (k,)
    ids : sequence
        One identifier per example.
    aleatoric, epistemic : numpy.ndarray (n,) or None
        For methods with a posterior, the two parts of the entropy, in nats: expected entropy, and mutual information
        between label and weights. None for the others.
    deviation : numpy.ndarray (n, k) or None
        Standard deviation of each class's probability under the posterior; None without a posterior.
    logits : numpy.ndarray (n, k) or None
        Logits, their mean under the posterior where there is one; None where the head has none.
    distances : mapping of str to numpy.ndarray (n,)
        How far the features are from those seen at training, by name: ``"mahalanobis"``, ``"nearest_neighbour"``.
        Larger is further. Empty where nothing measured them.
    skipped : sequence of str
        Images that could not be read, each with its reason.

    Raises
    ------
    ParameterError
        A part has another shape than `ids` and `classes` ask for, or a distance has the name of another column.

    Examples
    --------
    >>> prediction = Prediction(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array(["bee", "wasp"]), [0, 1])
    >>> prediction.labels.tolist(), prediction.entropy.round(3).tolist()
    (['bee', 'bee'], [0.693, 0.0])
    """

    probabilities: np.ndarray
    classes: np.ndarray
    ids: Sequence[Any]
    aleatoric: np.ndarray | None = None
    epistemic: np.ndarray | None = None
    deviation: np.ndarray | None = None
    logits: np.ndarray | None = None
    distances: Mapping[str, np.ndarray] = field(default_factory=dict)
    skipped: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        rows, table = (len(self.ids),), (len(self.ids), len(self.classes))
        if not isinstance(self.distances, Mapping):
            raise parameter_error("Prediction", "distances", "a mapping of names to arrays", self.distances)
        for name in self.distances:
            if not isinstance(name, str) or name in _TAKEN or name.startswith("probability_"):
                raise parameter_error("Prediction", "distances", "named by strings that no other column has", name,
                                      'Use a name such as "mahalanobis".')
        parts: list[tuple[str, Any, tuple[int, ...]]] = [("probabilities", self.probabilities, table)]
        parts += [(f"distances[{name!r}]", values, rows) for name, values in self.distances.items()]
        optional = [("aleatoric", self.aleatoric, rows), ("epistemic", self.epistemic, rows),
                    ("deviation", self.deviation, table), ("logits", self.logits, table)]
        for name, values, shape in parts + [part for part in optional if part[1] is not None]:
            if np.shape(values) != shape:
                raise parameter_error("Prediction", name, f"an array of shape {shape}", np.shape(values))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        parts = [name for name in ("aleatoric", "epistemic", "deviation", "logits") if getattr(self, name) is not None]
        more = "".join(f", {name}" for name in (*parts, *self.distances))
        return f"Prediction({len(self)} examples, {len(self.classes)} classes{more})"

    @property
    def labels(self) -> np.ndarray:
        """The most probable class of each example (n,)."""
        return self.classes[self.probabilities.argmax(axis=1)]

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class (n,)."""
        return self.probabilities.max(axis=1)

    @property
    def entropy(self) -> np.ndarray:
        """Entropy of the class probabilities (n,), in nats: 0 where certain, ln k where all classes are alike."""
        chances = np.sort(np.asarray(self.probabilities, np.float64), axis=1)  # the order of classes must not round anew
        return np.abs(-(chances * np.log(np.clip(chances, np.finfo(float).tiny, 1.0))).sum(axis=1))

    def to_frame(self) -> Any:
        """A pandas DataFrame with one row an example.

        Its columns are id, label, confidence and entropy; aleatoric, epistemic and deviation where there are, the last that
        of the predicted class; one for every distance; and one for every class, ``probability_NAME``.
        """
        import pandas

        columns: dict[str, Any] = {"id": list(self.ids), "label": self.labels, "confidence": self.confidence,
                                   "entropy": self.entropy}
        if self.aleatoric is not None:
            columns["aleatoric"] = self.aleatoric
        if self.epistemic is not None:
            columns["epistemic"] = self.epistemic
        if self.deviation is not None:
            columns["deviation"] = self.deviation[np.arange(len(self)), self.probabilities.argmax(axis=1)]
        columns.update(self.distances)
        columns.update({f"probability_{name}": self.probabilities[:, k] for k, name in enumerate(self.classes)})
        return pandas.DataFrame(columns)


def label_codes(owner: str, labels: Any, classes: Any, rows: int) -> np.ndarray:
    """The column of each label (n,), or an error that names the label."""
    truth, names = np.asarray(labels), np.asarray(classes)
    if truth.shape != (rows,):
        raise DataError(f"{owner}: {rows} predictions need labels of shape ({rows},); got {truth.shape}.")
    codes = columns_of(truth, names)
    if (codes < 0).any():
        unknown = min(repr(label) for label in truth[codes < 0].tolist())
        raise DataError(f"{owner}: the label {unknown} is not among the classes {shown_classes(names)}. "
                        "Leave such rows out, or train with examples of it.")
    return codes


def columns_of(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The column of each label (n,), -1 of one that is no class."""
    positions = {name: column for column, name in enumerate(classes.tolist())}
    return np.array([positions.get(label, -1) for label in labels.tolist()], int)


def shown_classes(classes: Any) -> str:
    """The classes for a message, the first eight where they are many."""
    names = np.asarray(classes).tolist()
    return str(names) if len(names) <= 8 else f"[{', '.join(map(repr, names[:8]))}, ... ({len(names)} in all)]"
