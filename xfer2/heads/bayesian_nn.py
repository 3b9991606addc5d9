"""Bayesian neural network: mean-field variational inference on features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data
from threadpoolctl import threadpool_limits

from xfer2._progress import Progress
from xfer2._random import child_seed, root_seed
from xfer2._scaling import standardisation
from xfer2._validation import check_integer, check_positive, parameter_error
from xfer2.heads._features import (
    classes_and_codes,
    held_out_parts,
    layer_columns,
    layers_of,
    principal_axes,
)
from xfer2.heads._mean_field import MeanField, Training
from xfer2.heads._posterior import PosteriorHead, normal_draws, rows_for_choice
from xfer2.uncertainty.calibration import fit_spread

_CHOICE_DRAWS = 64


class BayesianNeuralNetworkHead(PosteriorHead):
    """Dense layers with a Gaussian posterior for every weight, fitted by variational inference.

    Features are standardised, each layer's row is scaled to length 1, and rows are turned into their principal axes: weights
    of different axes are nearly independent in the true posterior, which is what a mean-field posterior supposes. Directions
    that no training row has keep the prior.

    Parameters
    ----------
    columns : mapping of str to array of int, optional
        The columns of each layer; by default all columns are one layer.
    sigma : float
        Standard deviation of the weights' prior.
    num_layers : int
        Hidden layers; 0 is a Bayesian logistic regression.
    n_hidden : int
        Units of each hidden layer.
    num_samples_mc : int
        Samples of the logits for each row and step of training.
    num_epochs : int
    learning_rate : float
        Of Adam; it falls to 0 along half a cosine.
    batch_size : int
    start_annealing, end_annealing : int, optional
        Epochs between which the weight of the KL divergence rises from 0 to 1; by default a tenth and half of `num_epochs`.
    calibrate : bool
        Learn the posterior's spread and a temperature from rows held out of further fits, five at most. Without it, they
        are 1.
    num_samples : int
        Samples of the posterior in prediction.
    random_state : int, RandomState or None

    Attributes
    ----------
    classes_ : numpy.ndarray (k,)
    posterior_ : MeanField
    loss_ : float
        Last epoch's negative evidence lower bound, in nats a row.
    spread_ : float
        Fraction of their distance from the mean that samples of the logits keep.
    temperature_ : float

    References
    ----------
    Blundell et al. 2015, arXiv:1505.05424; Kingma et al. 2015, arXiv:1506.02557 (local reparameterisation).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> head = BayesianNeuralNetworkHead(random_state=0).fit(X[:500], y[:500])
    >>> float(head.score(X[500:], y[500:])) > 0.8
    True
    """

    def __init__(self, columns: Mapping[str, Any] | None = None, *, sigma: float = 3.0, num_layers: int = 0,
                 n_hidden: int = 50, num_samples_mc: int = 1, num_epochs: int = 200, learning_rate: float = 0.1,
                 batch_size: int = 5000, start_annealing: int | None = None, end_annealing: int | None = None,
                 calibrate: bool = True, num_samples: int = 256, random_state: Any = None) -> None:
        self.columns = columns
        self.sigma = sigma
        self.num_layers = num_layers
        self.n_hidden = n_hidden
        self.num_samples_mc = num_samples_mc
        self.num_epochs = num_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.start_annealing = start_annealing
        self.end_annealing = end_annealing
        self.calibrate = calibrate
        self.num_samples = num_samples
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> BayesianNeuralNetworkHead:
        """Fit to features X (n, d) and labels y (n,) of any type.

        Raises
        ------
        ValueError
            NaN or infinite features, one class only, or a parameter out of its limits.
        """
        owner = type(self).__name__
        training = self.training(owner)
        X, y = validate_data(self, X, y, dtype=np.float64)
        columns = layer_columns(owner, self.columns, X.shape[1])
        self.classes_, codes = classes_and_codes(owner, y)
        seed = root_seed(owner, self.random_state)
        self._positions = list(columns.values())
        self.mean_, self.scale_ = standardisation(X)
        prepared = self._prepare(X)
        self.axes_ = principal_axes(prepared)
        inside = prepared @ self.axes_.T
        widths = [inside.shape[1], *[self.n_hidden] * self.num_layers, len(self.classes_)]
        self.draws_ = [normal_draws(self.num_samples, units, child_seed(seed, f"draws {number}"))
                       for number, units in enumerate(widths[1:])]
        rows = min(1000, rows_for_choice(_CHOICE_DRAWS, len(self.classes_)))
        parts = held_out_parts(codes, child_seed(seed, "parts"), rows=rows) if self.calibrate else []
        self.spread_, self.temperature_ = 1.0, 1.0
        found: list[tuple[np.ndarray, np.ndarray]] = []
        # small products: on a busy machine, two threads that wait for each other cost 20 times as much
        with Progress(owner, training.epochs * (1 + len(parts))) as progress, threadpool_limits(1):
            random = np.random.default_rng(child_seed(seed, "fit"))
            self.posterior_ = MeanField.start(widths, self.sigma, random)
            self.posterior_.fit(inside, codes, training, random, progress)
            for kept, left_out in parts:
                posterior = MeanField.start(widths, self.sigma, random)
                posterior.fit(inside[kept], codes[kept], training, random, progress)
                found.append((left_out, posterior.samples(inside[left_out], np.zeros(len(left_out)),
                                                          [draws[:_CHOICE_DRAWS] for draws in self.draws_])))
        if found:  # all of them, but after an interruption
            held_out = np.concatenate([left_out for left_out, _ in found])
            logits = np.concatenate([samples for _, samples in found], axis=1)
            self.spread_, self.temperature_ = fit_spread(logits.mean(axis=0), logits, codes[held_out])
        self.loss_ = self.posterior_.loss
        return self

    def training(self, owner: str) -> Training:
        """The parameters of the fit, checked."""
        for name in ("num_samples_mc", "num_epochs", "batch_size", "num_samples", "n_hidden"):
            check_integer(owner, name, getattr(self, name))
        check_integer(owner, "num_layers", self.num_layers, 0)
        check_positive(owner, "sigma", self.sigma)
        check_positive(owner, "learning_rate", self.learning_rate)
        first = self.num_epochs // 10 if self.start_annealing is None else check_integer(
            owner, "start_annealing", self.start_annealing, 0)
        last = max(first, self.num_epochs // 2) if self.end_annealing is None else check_integer(
            owner, "end_annealing", self.end_annealing, 0)
        if first >= self.num_epochs:
            raise parameter_error(owner, "start_annealing", f"below num_epochs, which is {self.num_epochs}", first)
        if not first <= last <= self.num_epochs:
            raise parameter_error(owner, "end_annealing", f"from start_annealing, which is {first}, to num_epochs, which is "
                                  f"{self.num_epochs}", last)
        return Training(self.num_epochs, self.batch_size, self.num_samples_mc, self.learning_rate, (first, last))

    def _values_a_sample(self) -> int:
        return max(draws.shape[1] for draws in self.draws_)

    def _prepare(self, X: np.ndarray) -> np.ndarray:
        return np.concatenate(layers_of((X - self.mean_) / self.scale_, self._positions), axis=1)

    def _logit_samples(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        prepared = self._prepare(X)
        inside = prepared @ self.axes_.T
        outside = np.maximum((prepared**2).sum(axis=1) - (inside**2).sum(axis=1), 0.0)
        samples = self.posterior_.samples(inside, outside, self.draws_)
        return samples.mean(axis=0), samples
