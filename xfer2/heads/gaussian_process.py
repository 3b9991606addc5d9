"""Gaussian processes with one kernel a layer: exact where rows are few, variational above."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data

from xfer2._random import child_seed, root_seed
from xfer2._scaling import standardisation
from xfer2._validation import check_integer
from xfer2.heads._dirichlet_gp import ExactPosterior, Hyperparameters, Solution, learn, solve, squared_distances
from xfer2.heads._features import (
    classes_and_codes,
    held_out_parts,
    layer_columns,
    layers_of,
    stratified_rows,
)
from xfer2.heads._posterior import PosteriorHead, normal_draws, rows_for_choice
from xfer2.heads._variational_gp import VariationalPosterior
from xfer2.uncertainty.calibration import fit_temperature

EPSILONS = (1e-2, 1e-3, 1e-4)
_LEARNING_ROWS = 1000  # rows that hyperparameters are learned from: their cost grows with the cube
_LEARNING_CLASSES = 100  # at most, so that each has several of these rows
_LEARNING_DRAWS = 128
_LEARNING_VALUES = 1_280_000  # of draws x rows x classes: fewer draws, but 32, where they would be more
_TEMPERATURE_DRAWS = 16
_HELD_OUT_DRAWS = 64


class GaussianProcessHead(PosteriorHead):
    """A Gaussian process classifier whose kernel is a sum of scaled RBF kernels, one a layer.

    Up to `max_exact_rows` rows it is exact regression on Dirichlet-transformed labels. Lengthscales, output scales, noise
    and temperature have the least leave-one-out log loss of the classes, which is closed form, so nothing is held out and
    nothing is fitted twice. Above, it is a sparse variational one, its inducing points the centres of k-means, its
    temperature from rows held out. Features are standardised, then each layer's row is scaled to length 1.

    Parameters
    ----------
    columns : mapping of str to array of int, optional
        The columns of each layer; by default all columns are one layer, ``"features"``.
    apply_l2_norm : bool
        Scale each layer's row to length 1; a layer of one column never is.
    max_function_evaluations : int
        Of the loss, in learning the hyperparameters of one of three label noises; for the variational one, passes over the
        rows. Both stop before where the loss has converged.
    max_exact_rows : int
        Rows above which the variational approximation is used.
    num_inducing : int
        Inducing points of the variational approximation.
    calibrate : bool
        Learn a temperature. Without it, it is 1.
    num_samples : int
        Samples of the posterior in prediction.
    random_state : int, RandomState or None
        Draws the samples, and the rows that hyperparameters are learned from where there are more than 1,000 rows or 100
        classes.

    Attributes
    ----------
    classes_ : numpy.ndarray (k,)
    posterior_ : ExactPosterior or VariationalPosterior
    lengthscales_, outputscales_ : dict of str to float
        By layer. With `apply_l2_norm`, distances are between 0 and 2.
    noise_ : float
        Variance added to the transformed labels'; 0 for the variational one.
    alpha_epsilon_ : float or None
        Concentration of a row's other classes, of 0.01, 0.001 and 0.0001 the best; None for the variational one.
    temperature_ : float
    loss_ : float
        Leave-one-out log loss in nats a row, with priors; for the variational one, the last pass's mean loss.
    exact_ : bool

    References
    ----------
    Milios et al. 2018, arXiv:1805.10915 (labels); Rasmussen and Williams 2006, section 5.4.2 (leaving out);
    Hensman et al. 2015, arXiv:1411.2005 (variational).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> head = GaussianProcessHead(random_state=0).fit(X[:500], y[:500])
    >>> bool(head.score(X[500:], y[500:]) > 0.9), head.exact_
    (True, True)
    """

    def __init__(self, columns: Mapping[str, Any] | None = None, *, apply_l2_norm: bool = True,
                 max_function_evaluations: int = 100, max_exact_rows: int = 5000, num_inducing: int = 300,
                 calibrate: bool = True, num_samples: int = 256, random_state: Any = None) -> None:
        self.columns = columns
        self.apply_l2_norm = apply_l2_norm
        self.max_function_evaluations = max_function_evaluations
        self.max_exact_rows = max_exact_rows
        self.num_inducing = num_inducing
        self.calibrate = calibrate
        self.num_samples = num_samples
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> GaussianProcessHead:
        """Fit to features X (n, d) and labels y (n,) of any type.

        Raises
        ------
        ValueError
            NaN or infinite features, one class only, or a parameter out of its limits.
        """
        owner = type(self).__name__
        for name in ("max_function_evaluations", "max_exact_rows", "num_inducing", "num_samples"):
            check_integer(owner, name, getattr(self, name))
        X, y = validate_data(self, X, y, dtype=np.float64)
        columns = layer_columns(owner, self.columns, X.shape[1])
        self.classes_, codes = classes_and_codes(owner, y)
        seed = root_seed(owner, self.random_state)
        self.alpha_epsilon_: float | None = None
        self.spread_ = 1.0  # exact: what width the posterior should have, its hyperparameters learn
        self.draws_ = normal_draws(self.num_samples, len(self.classes_), child_seed(seed, "draws"))
        self.mean_, self.scale_ = standardisation(X)
        self._positions, self.apply_l2_norm_ = list(columns.values()), self.apply_l2_norm
        self.exact_ = len(X) <= self.max_exact_rows
        fit = self._fit_exact if self.exact_ else self._fit_variational
        self.posterior_ = fit(owner, self._layers(X), codes, seed)
        self.lengthscales_ = dict(zip(columns, self.posterior_.lengthscales.tolist(), strict=True))
        self.outputscales_ = dict(zip(columns, self.posterior_.outputscales.tolist(), strict=True))
        return self

    def _layers(self, X: np.ndarray) -> list[np.ndarray]:
        """Prepared features, one array (n, width) a layer."""
        return layers_of((X - self.mean_) / self.scale_, self._positions, self.apply_l2_norm_)

    def _fit_exact(self, owner: str, layers: list[np.ndarray], codes: np.ndarray, seed: int) -> ExactPosterior:
        rows = self._learning_rows(codes, child_seed(seed, "rows"))
        learned = torch.as_tensor(np.unique(codes[rows], return_inverse=True)[1])
        distances = [torch.as_tensor(squared_distances(layer[rows], layer[rows])) for layer in layers]
        classes = int(learned.max()) + 1
        samples = min(_LEARNING_DRAWS, max(32, _LEARNING_VALUES // (len(rows) * classes)))
        draws = torch.as_tensor(normal_draws(samples, classes, child_seed(seed, "learning draws")))
        start, found = Hyperparameters.start(distances), []
        for epsilon in EPSILONS:
            values, loss, interrupted = learn(owner, distances, learned, epsilon, start, draws, self.calibrate,
                                              self.max_function_evaluations)
            found.append((loss, epsilon, values))
            if interrupted:
                break
        self.loss_, epsilon, values = min(found, key=lambda one: one[0])
        if len(rows) < len(codes):
            distances = [torch.as_tensor(squared_distances(layer, layer)) for layer in layers]
        solution = solve(values.kernel(distances), torch.as_tensor(codes), epsilon, values.noise)
        self.alpha_epsilon_ = epsilon
        self.noise_, self.temperature_ = float(values.noise), float(values.temperature)
        if self.calibrate and len(rows) < len(codes):
            self.temperature_ = self._left_out_temperature(solution, codes, seed)
        return ExactPosterior.of(layers, codes, values, solution)

    @staticmethod
    def _learning_rows(codes: np.ndarray, seed: int) -> np.ndarray:
        """Rows (r,), sorted, of all classes, or of some where they are so many that few rows of each could be had."""
        some = np.random.default_rng(seed).permutation(codes.max() + 1)[:_LEARNING_CLASSES]
        rows = np.flatnonzero(np.isin(codes, some))
        return rows[stratified_rows(np.unique(codes[rows], return_inverse=True)[1], _LEARNING_ROWS, seed)]

    def _left_out_temperature(self, solution: Solution, codes: np.ndarray, seed: int) -> float:
        rows = np.flatnonzero(np.bincount(codes)[codes] > 1)
        count = rows_for_choice(_TEMPERATURE_DRAWS, len(self.classes_))
        rows = np.random.default_rng(child_seed(seed, "temperature")).permutation(rows)[:count]
        draws = torch.as_tensor(normal_draws(_TEMPERATURE_DRAWS, len(self.classes_), child_seed(seed, "choice")))
        return fit_temperature(solution.left_out_samples(draws, rows).numpy(), codes[rows]) if len(rows) else 1.0

    def _fit_variational(self, owner: str, layers: list[np.ndarray], codes: np.ndarray, seed: int) -> VariationalPosterior:
        everything = np.arange(len(codes))  # where no class has two rows, none can be held out
        rows = min(1000, rows_for_choice(_HELD_OUT_DRAWS, len(self.classes_)))
        parts = held_out_parts(codes, child_seed(seed, "held out"), rows=rows) if self.calibrate else []
        kept, held_out = parts[0] if parts else (everything, everything[:0])
        posterior = VariationalPosterior.fit(owner, [layer[kept] for layer in layers], codes[kept], self.num_inducing,
                                             self.max_function_evaluations, child_seed(seed, "variational"))
        self.noise_, self.loss_, self.temperature_ = 0.0, posterior.loss, 1.0
        if len(held_out):
            mean, variance = posterior.marginals([layer[held_out] for layer in layers])
            samples = mean + self.draws_[:_HELD_OUT_DRAWS, np.newaxis] * np.sqrt(variance)
            self.temperature_ = fit_temperature(samples, codes[held_out])
        return posterior

    def _logit_samples(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = self.posterior_.marginals(self._layers(X))
        return mean, mean + self.draws_[:, np.newaxis] * np.sqrt(variance)
