"""Heads with a posterior: samples of their logits, and what those say of a prediction's uncertainty."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from xfer2.uncertainty.predictions import Prediction

_VALUES_AT_ONCE = 20_000_000  # of samples x rows x classes
_VALUES_FOR_CHOICE = 2_000_000  # likewise


def normal_draws(samples: int, width: int, seed: int) -> np.ndarray:
    """Standard normal draws (samples, width), every second one the negative of the one before.

    The same draws serve every row, so a row's prediction does not depend on the rows it comes with.
    """
    half = np.random.default_rng(seed).standard_normal(((samples + 1) // 2, width))
    return np.stack([half, -half], axis=1).reshape(-1, width)[:samples]


def rows_for_choice(samples: int, classes: int) -> int:
    """How many rows serve to choose a spread and a temperature: it takes about 200 passes over samples of their logits."""
    return max(50, _VALUES_FOR_CHOICE // (samples * classes))


class PosteriorHead(ClassifierMixin, BaseEstimator):
    """Base of heads that know a distribution of logits for each row.

    A subclass sets ``classes_``, ``temperature_`` and ``spread_`` in `fit`, implements `_logit_samples`, and names its
    parameter for the number of samples ``num_samples``.
    """

    classes_: np.ndarray
    temperature_: float
    spread_: float
    num_samples: int

    @abstractmethod
    def _logit_samples(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean logits (n, k) and samples of them (s, n, k) for valid features X (n, d), before spread and temperature."""

    def predict_uncertainty(self, X: Any) -> Prediction:
        """A Prediction for features X (n, d), with its aleatoric and epistemic parts."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        step = max(1, _VALUES_AT_ONCE // (self.num_samples * self._values_a_sample()))
        parts = [self._summaries(X[start:start + step]) for start in range(0, len(X), step)]
        probabilities, aleatoric, deviation, logits = (np.concatenate(part) for part in zip(*parts, strict=True))
        prediction = Prediction(probabilities, self.classes_, range(len(X)), aleatoric=aleatoric, deviation=deviation,
                                logits=logits)
        return replace(prediction, epistemic=np.maximum(prediction.entropy - aleatoric, 0.0))  # below 0 by rounding only

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities (n, k), columns as in `classes_`: the mean over the posterior."""
        return self.predict_uncertainty(X).probabilities

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row (n,)."""
        return self.predict_uncertainty(X).labels

    def _values_a_sample(self) -> int:
        """The most values that one sample of one row needs at once."""
        return len(self.classes_)

    def _summaries(self, X: np.ndarray) -> tuple[np.ndarray, ...]:
        mean, samples = self._logit_samples(X)
        chances = softmax((mean + self.spread_ * (samples - mean)) / self.temperature_, axis=2)
        entropies = -(chances * np.log(np.clip(chances, np.finfo(float).tiny, None))).sum(axis=2)
        return chances.mean(axis=0), entropies.mean(axis=0), chances.std(axis=0), mean / self.temperature_
