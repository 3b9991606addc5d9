"""Multinomial logistic regression that standardises its features and chooses its own regularisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from xfer2._random import child_seed, root_seed
from xfer2._scaling import Standard
from xfer2._validation import check_choice, check_class_weight, check_integer, check_positive
from xfer2.heads._features import classes_and_codes, few_rows_a_class, least, two_columns
from xfer2.uncertainty.calibration import row_losses, useful_temperature
from xfer2.uncertainty.predictions import Prediction

_CHOICE_TOLERANCE = 1e-3  # enough to rank values of C; the final fit uses `tol`
GRID = tuple(float(c) for c in np.logspace(-4, 1, 11))


class LogisticRegressionHead(ClassifierMixin, BaseEstimator):
    """Standardised features, an L2 penalty, C chosen by cross-validation on log loss.

    Each fold is standardised by its own rows. Where there are more features than rows, features are first rotated into the
    span of the rows. The penalty does not change under rotation, so the model is the same; its cost then depends on the rows
    and not on the features.

    Parameters
    ----------
    C : float, optional
        Inverse strength of the penalty. By default the best of 11 values from 1e-4 to 10 by cross-validated log loss.
    folds : int
        Folds of the cross-validation. A class with fewer rows lowers their number; a row that is alone in its class is
        learned from in all of them. C is 0.01 where fewer than two classes have two rows.
    tol : float
        Stopping tolerance of the optimiser (L-BFGS).
    max_iter : int
    class_weight : dict, "balanced" or None
        Also of the rows held out, where C is chosen.
    calibrate : bool
        Learn a temperature from the held-out logits of the same folds, and use it where what it gains there is more than the
        gain's standard error; else it stays 1.
    n_jobs : int, optional
        Folds fitted at once; None is 1, -1 one per processor.
    random_state : int, RandomState or None
        Shuffles the folds.

    Attributes
    ----------
    classes_ : numpy.ndarray (k,)
    C_ : float
        The value used.
    coef_ : numpy.ndarray (k, d)
        For standardised features; k is 1 where there are two classes.
    intercept_ : numpy.ndarray (k,)
    temperature_ : float
        Logits are divided by it.
    mean_, scale_ : numpy.ndarray (d,)
        Of the features: deviations, drawn to what is usual where rows are few; that where a feature does not vary.
    cv_log_loss_ : dict of float to float
        Mean log loss by C over the folds, in nats, as far as it was tried: it stops after two rises in a row. Empty where
        C was given.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> round(float(LogisticRegressionHead(random_state=0).fit(X[:500], y[:500]).score(X[500:], y[500:])), 1)
    0.9
    """

    def __init__(self, C: float | None = None, *, folds: int = 5, tol: float = 1e-4, max_iter: int = 1000,
                 class_weight: Any = None, calibrate: bool = True, n_jobs: int | None = None,
                 random_state: Any = None) -> None:
        self.C = C
        self.folds = folds
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> LogisticRegressionHead:
        """Fit to features X (n, d) and labels y (n,) of any type.

        Raises
        ------
        ValueError
            NaN or infinite features, one class only, lengths that differ, or a parameter out of its limits.
        """
        work = self.fit_folds(X, y)
        if self.calibrate and work.folds:
            logits = np.concatenate([two_columns(fold.logits) for fold in work.folds])
            codes = work.codes[np.concatenate([fold.held_out for fold in work.folds])]
            self.temperature_ = useful_temperature(logits, codes)
        return self

    def fit_folds(self, X: Any, y: Any) -> Work:
        """Fit all but the temperature, and hand out the features, codes and folds it was done with."""
        owner = type(self).__name__
        if self.C is not None:
            check_positive(owner, "C", self.C)
        check_integer(owner, "folds", self.folds, 2)
        check_positive(owner, "tol", self.tol)
        check_integer(owner, "max_iter", self.max_iter)
        X, y = validate_data(self, X, y, dtype=np.float64)
        self.classes_, codes = classes_and_codes(owner, y)
        self._code_weight = self._weight_by_code(owner)
        seed = root_seed(owner, self.random_state)
        self.cv_log_loss_: dict[float, float] = {}
        # many small products: threads that wait for each other cost up to 20 times
        with threadpool_limits(1, "blas"), few_rows_a_class():
            self.C_, folds = self._choose(X, codes, seed)
            standard, rows = Standard.of(X)
            model = self._model(self.C_, self.tol).fit(rows, codes)
        self.mean_, self.scale_ = standard.mean, standard.scale
        self.coef_ = model.coef_ if standard.basis is None else model.coef_ @ standard.basis
        self.intercept_, self.temperature_ = model.intercept_, 1.0
        self.n_iter_ = int(np.max(model.n_iter_))
        return Work(X, codes, standard, rows, model.coef_, folds)

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits (n, k), divided by the temperature; for two classes (n,), the logit of the second."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        logits = ((X - self.mean_) / self.scale_) @ self.coef_.T + self.intercept_
        return (logits[:, 0] if logits.shape[1] == 1 else logits) / self.temperature_

    def linear_form(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights (k, d) and biases (k,) that give the same probabilities from features as they are, by a softmax."""
        check_is_fitted(self)
        weight, bias = self.coef_ / self.scale_ / self.temperature_, self.intercept_ / self.temperature_
        bias = bias - weight @ self.mean_
        if len(bias) > 1:
            return weight, bias
        return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities (n, k), columns as in `classes_`."""
        return self.predict_uncertainty(X).probabilities

    def predict_uncertainty(self, X: Any) -> Prediction:
        """A Prediction for features X (n, d)."""
        logits = two_columns(self.decision_function(X))
        return Prediction(softmax(logits, axis=1), self.classes_, range(len(logits)), logits=logits)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row (n,)."""
        logits = self.decision_function(X)
        return self.classes_[(logits > 0).astype(int) if logits.ndim == 1 else logits.argmax(axis=1)]

    def _weight_by_code(self, owner: str) -> Any:
        """Class weights by position in `classes_`, as the model inside, which is fitted on positions, needs them."""
        if not isinstance(self.class_weight, dict):
            check_choice(owner, "class_weight", self.class_weight, (None, "balanced"))
            return self.class_weight
        positions = {label: code for code, label in enumerate(self.classes_.tolist())}
        check_class_weight(owner, self.class_weight, positions)
        return {positions[label]: weight for label, weight in self.class_weight.items()}

    def _model(self, C: float, tol: float, warm_start: bool = False) -> LogisticRegression:
        return LogisticRegression(C=C, tol=tol, max_iter=self.max_iter, class_weight=self._code_weight,
                                  warm_start=warm_start)

    def _choose(self, X: np.ndarray, codes: np.ndarray, seed: int) -> tuple[float, list[Fold]]:
        """C, and the models of the folds with it; no folds where nothing needs them or few classes have two rows."""
        counts = np.bincount(codes)
        several = np.flatnonzero(counts[codes] > 1)
        count = min(self.folds, int(counts[counts > 1].min(initial=self.folds))) if (counts > 1).sum() > 1 else 0
        if count < 2 or (self.C is not None and not self.calibrate):
            return 0.01 if self.C is None else float(self.C), []
        tolerance = max(self.tol, _CHOICE_TOLERANCE) if self.C is None else self.tol
        splitter = StratifiedKFold(count, shuffle=True, random_state=child_seed(seed, "folds"))
        held = [several[rows] for _, rows in splitter.split(several, codes[several])]
        parts = [_Part(X, codes, rows, self._model(GRID[0], tolerance, warm_start=True)) for rows in held]
        weights = None if self._code_weight is None else compute_sample_weight(self._code_weight, codes)
        found: dict[float, list[Fold]] = {}
        losses: dict[float, float] = {}
        for C in GRID if self.C is None else (float(self.C),):  # from strong to weak: each fit starts at the last
            found[C] = Parallel(self.n_jobs, prefer="threads")(delayed(part.fit)(C) for part in parts)
            losses[C] = float(np.mean([fold.log_loss(codes, weights) for fold in found[C]]))
            tried = list(losses.values())
            if len(tried) > 2 and tried[-1] > tried[-2] > tried[-3]:
                break  # the slow weak ones are mostly not reached
        best = least(losses)
        if self.C is None:
            self.cv_log_loss_ = losses
        return best, found[best]


@dataclass(frozen=True)
class Fold:
    """A model of some rows, standardised by themselves, and its logits (m, k), or (m, 1), of the rows held out.

    Rows that are held out have no part in the deviations: of few rows, they would give much away.
    """

    train: np.ndarray
    held_out: np.ndarray
    standard: Standard
    coef: np.ndarray
    intercept: np.ndarray
    logits: np.ndarray

    def log_loss(self, codes: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Mean over the rows held out, in nats; weighted where rows are."""
        losses = row_losses(two_columns(self.logits), codes[self.held_out])
        return float(losses.mean() if weights is None else np.average(losses, weights=weights[self.held_out]))


@dataclass(frozen=True)
class Work:
    """What a fit was done with: features X and codes, what standardised them, the rows it made, the model's coefficients."""

    X: np.ndarray
    codes: np.ndarray
    standard: Standard
    rows: np.ndarray
    coef: np.ndarray
    folds: list[Fold]


class _Part:
    """One fold, fitted for one C after another, each from where the last one ended."""

    def __init__(self, X: np.ndarray, codes: np.ndarray, held_out: np.ndarray, model: LogisticRegression) -> None:
        self.X, self.codes, self.held_out, self.model = X, codes, held_out, model
        self.train = np.setdiff1d(np.arange(len(X)), held_out)
        self.standard, rows = Standard.of(X[self.train])
        self.rotated = None  # a copy of nearly all features would be kept, where rows are no fewer than columns
        if self.standard.basis is not None:
            self.rotated = rows, self.standard.inside(X[held_out])

    def fit(self, C: float) -> Fold:
        if self.rotated is None:
            rows, others = (self.standard.inside(self.X[part]) for part in (self.train, self.held_out))
        else:
            rows, others = self.rotated
        model = self.model.set_params(C=C).fit(rows, self.codes[self.train])
        return Fold(self.train, self.held_out, self.standard, model.coef_.copy(), model.intercept_.copy(),
                    others @ model.coef_.T + model.intercept_)
