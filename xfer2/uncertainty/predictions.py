"""Prediction: labels and probabilities, and how uncertain they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xfer2._validation import parameter_error


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
    skipped : sequence of str
        Images that could not be read, each with its reason.

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
    skipped: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        shape = (len(self.ids), len(self.classes))
        if np.shape(self.probabilities) != shape:
            raise parameter_error("Prediction", "probabilities", f"an array of shape {shape}", np.shape(self.probabilities))

    def __len__(self) -> int:
        return len(self.ids)

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
        safe = np.clip(self.probabilities, np.finfo(float).tiny, 1.0)
        return np.abs(-(self.probabilities * np.log(safe)).sum(axis=1))

    def to_frame(self) -> Any:
        """A pandas DataFrame: id, label, confidence, entropy, the two parts where there are, one column per class."""
        import pandas

        columns: dict[str, Any] = {"id": list(self.ids), "label": self.labels, "confidence": self.confidence,
                                   "entropy": self.entropy}
        if self.aleatoric is not None:
            columns["aleatoric"] = self.aleatoric
        if self.epistemic is not None:
            columns["epistemic"] = self.epistemic
        columns.update({f"probability_{name}": self.probabilities[:, k] for k, name in enumerate(self.classes)})
        return pandas.DataFrame(columns)
