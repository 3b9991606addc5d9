"""Laplace approximation of logistic regression: a Gaussian around its weights, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.utils.validation import validate_data
from threadpoolctl import threadpool_limits

from xfer2._random import child_seed, root_seed
from xfer2._scaling import Standard
from xfer2._validation import check_integer
from xfer2.heads._features import two_columns
from xfer2.heads._posterior import PosteriorHead, normal_draws, rows_for_choice
from xfer2.heads.logistic_regression import LogisticRegressionHead
from xfer2.uncertainty.calibration import fit_spread

_CHOICE_DRAWS = 32


class LaplaceHead(PosteriorHead):
    """Logistic regression with a Gaussian posterior of its weights, Kronecker-factored.

    The mode is `LogisticRegressionHead`'s. The curvature at it is approximated by the Kronecker product of the logits' part
    and the features' part, so the variance of a logit is closed form; directions that no row has keep the prior's variance.
    Where features outnumber rows that posterior is far too wide: its spread and the temperature are chosen on the mode's
    folds.

    Parameters
    ----------
    C : float, optional
        Inverse strength of the penalty; by default chosen as `LogisticRegressionHead` does.
    calibrate : bool
        Choose the posterior's spread and a temperature. Without it, they are 1.
    folds, tol, n_jobs
        See `LogisticRegressionHead`.
    num_samples : int
        Samples of the posterior in prediction.
    random_state : int, RandomState or None

    Attributes
    ----------
    classes_ : numpy.ndarray (k,)
    mode_ : LogisticRegressionHead
    spread_ : float
        Fraction of their distance from the mean that samples of the logits keep.
    temperature_ : float

    References
    ----------
    Daxberger et al. 2021, arXiv:2106.14806; Kronecker factors: Ritter et al. 2018, "A scalable Laplace approximation for
    neural networks".

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> head = LaplaceHead(random_state=0).fit(X[:500], y[:500])
    >>> bool((head.predict_uncertainty(X[500:]).epistemic > 0).all())
    True
    """

    def __init__(self, C: float | None = None, *, calibrate: bool = True, folds: int = 5, tol: float = 1e-4,
                 n_jobs: int | None = None, num_samples: int = 256, random_state: Any = None) -> None:
        self.C = C
        self.calibrate = calibrate
        self.folds = folds
        self.tol = tol
        self.n_jobs = n_jobs
        self.num_samples = num_samples
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> LaplaceHead:
        """Fit to features X (n, d) and labels y (n,) of any type.

        Raises
        ------
        ValueError
            NaN or infinite features, one class only, or a parameter out of its limits.
        """
        owner = type(self).__name__
        check_integer(owner, "num_samples", self.num_samples)
        X, y = validate_data(self, X, y, dtype=np.float64)
        seed = root_seed(owner, self.random_state)
        mode = LogisticRegressionHead(self.C, folds=self.folds, tol=self.tol, calibrate=self.calibrate, n_jobs=self.n_jobs,
                                      random_state=child_seed(seed, "mode"))
        work = mode.fit_folds(X, y)
        self.mode_, self.classes_ = mode, mode.classes_
        outputs = len(mode.intercept_)
        self.draws_ = normal_draws(self.num_samples, outputs, child_seed(seed, "draws"))
        self.spread_, self.temperature_ = 1.0, 1.0
        with threadpool_limits(1, "blas"):
            if self.calibrate and work.folds:
                draws = normal_draws(_CHOICE_DRAWS, outputs, child_seed(seed, "choice"))
                rows = rows_for_choice(len(draws), len(self.classes_)) // len(work.folds)
                random = np.random.default_rng(child_seed(seed, "rows"))
                means, samples, held_out = [], [], []
                for fold in work.folds:
                    some = random.permutation(len(fold.held_out))[:rows]
                    known = fold.standard.inside(work.X[fold.train])
                    curvature = Curvature.at(known, known @ fold.coef.T + fold.intercept, 1 / mode.C_)
                    held_out.append(fold.held_out[some])
                    means.append(fold.logits[some])
                    samples.append(curvature.samples(means[-1], *fold.standard.parts(work.X[held_out[-1]]), draws))
                codes = work.codes[np.concatenate(held_out)]
                self.spread_, self.temperature_ = fit_spread(two_columns(np.concatenate(means)),
                                                             two_columns(np.concatenate(samples, axis=1)), codes)
            self.curvature_ = Curvature.at(work.rows, work.rows @ work.coef.T + mode.intercept_, 1 / mode.C_)
        self.rotation_ = work.standard.basis
        return self

    def _logit_samples(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        standard = Standard(self.mode_.mean_, self.mode_.scale_, self.rotation_)
        mean = (X - standard.mean) @ (self.mode_.coef_ / standard.scale).T + self.mode_.intercept_
        samples = self.curvature_.samples(mean, *standard.parts(X), self.draws_)
        return two_columns(mean), two_columns(samples)


@dataclass
class Curvature:
    """Hessian of the penalised loss at the mode, as the Kronecker product of two factors plus the prior.

    Attributes
    ----------
    prior_precision : float
    precision : numpy.ndarray (d + 1, o)
        Of the weights, prior included, along every pair of axes; o is 1 where there are two classes.
    feature_axes : numpy.ndarray (d + 1, d + 1)
        Columns: eigenvectors of the features' second moments, the intercept's 1 as the last feature.
    logit_axes : numpy.ndarray (o, o)
        Columns: eigenvectors of the mean Hessian by the logits.
    """

    prior_precision: float
    precision: np.ndarray
    feature_axes: np.ndarray
    logit_axes: np.ndarray

    @classmethod
    def at(cls, X: np.ndarray, logits: np.ndarray, prior_precision: float) -> Curvature:
        """At the mode, for standardised features X (n, d) and the logits (n, o) it gives them."""
        chances = softmax(two_columns(logits), axis=1)[:, -logits.shape[1]:]
        hessian = np.diag(chances.mean(axis=0)) - chances.T @ chances / len(X)
        extended = _with_one(X)
        features, feature_axes = np.linalg.eigh(extended.T @ extended / len(X))
        values, axes = np.linalg.eigh(hessian)
        precision = len(X) * np.outer(np.maximum(features, 0), np.maximum(values, 0)) + prior_precision
        return cls(prior_precision, precision, feature_axes, axes)

    def samples(self, mean: np.ndarray, X: np.ndarray, outside: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Logits (s, n, o) for their means (n, o), features X (n, d), and draws (s, o).

        `outside` (n,) is the squared length of what each row's features have in directions that X does not show.
        """
        projected = (_with_one(X) @ self.feature_axes) ** 2
        variance = projected @ (1 / self.precision) + np.reshape(outside, (-1, 1)) / self.prior_precision
        return mean + (draws[:, np.newaxis] * np.sqrt(variance)) @ self.logit_axes.T


def _with_one(X: np.ndarray) -> np.ndarray:
    return np.concatenate([X, np.ones((len(X), 1))], axis=1)
