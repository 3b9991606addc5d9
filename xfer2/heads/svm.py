"""One-vs-rest support vector machines on standardised features, their margins calibrated to probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from xfer2._random import child_seed, root_seed
from xfer2._scaling import standardisation
from xfer2._validation import check_choice, check_integer, check_positive
from xfer2.heads._features import classes_and_codes, held_out_parts, least, stratified_rows, two_columns
from xfer2.uncertainty.calibration import fit_temperature, row_losses
from xfer2.uncertainty.predictions import Prediction

GRID = (1.0, 3.0, 10.0)
_CHOICE_ROWS = 5000  # rows that C and the temperature are chosen on: their kernel matrix is kept whole


def _calibrates(head: SvmHead) -> bool:
    if not head.calibrate:
        raise AttributeError("SvmHead has no predict_proba with calibrate=False.")
    return True


class SvmHead(ClassifierMixin, BaseEstimator):
    """Standardised features, one support vector machine a class against the rest, a temperature for their margins.

    Margins of one-vs-rest machines act as logits. Pairwise machines (SVC's own way) lose: calibrated by the same folds they
    gave log loss 1.13 where these gave 0.96 (SqueezeNet's features of CIFAR-10, 512 rows, ten classes).

    Parameters
    ----------
    C : float, optional
        Inverse strength of the penalty. By default that of 1, 3 and 10 with the least cross-validated log loss, after each
        one's own temperature.
    kernel : str
        ``"rbf"``, ``"linear"``, ``"poly"`` or ``"sigmoid"``.
    gamma : {"scale", "auto"} or float
        Of the kernel.
    calibrate : bool
        Learn a temperature from cross-validated margins. Without it there are no probabilities, and where C is given
        nothing is cross-validated.
    folds : int
        Folds of that cross-validation; of many rows, as many of the folds as hold out 1,000 rows, of 5,000 rows at most. A
        class with a single row is never held out.
    random_state : int, RandomState or None
        Shuffles the folds.

    Attributes
    ----------
    classes_ : numpy.ndarray (k,)
    C_ : float
        The value used.
    temperature_ : float
    gamma_ : float
    mean_, scale_ : numpy.ndarray (d,)
    estimator_ : sklearn.multiclass.OneVsRestClassifier

    References
    ----------
    Temperature: Guo et al. 2017, arXiv:1706.04599.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> float(SvmHead(random_state=0).fit(X[:1000], y[:1000]).score(X[1000:], y[1000:])) > 0.9
    True
    """

    def __init__(self, C: float | None = None, *, kernel: str = "rbf", gamma: Any = "scale", calibrate: bool = True,
                 folds: int = 5, random_state: Any = None) -> None:
        self.C = C
        self.kernel = kernel
        self.gamma = gamma
        self.calibrate = calibrate
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> SvmHead:
        """Fit to features X (n, d) and labels y (n,) of any type.

        Raises
        ------
        ValueError
            NaN or infinite features, one class only, or a parameter out of its limits.
        """
        owner = type(self).__name__
        if self.C is not None:
            check_positive(owner, "C", self.C)
        check_choice(owner, "kernel", self.kernel, ("linear", "poly", "rbf", "sigmoid"))
        check_integer(owner, "folds", self.folds, 2)
        X, y = validate_data(self, X, y, dtype=np.float64)
        self.classes_, codes = classes_and_codes(owner, y)
        seed = root_seed(owner, self.random_state)
        self.mean_, self.scale_ = standardisation(X)
        standard = (X - self.mean_) / self.scale_
        total = (standard**2).sum() / len(X)  # over rows, as in scikit-learn's "scale"; 0 where no feature varies
        self.gamma_ = (1 / total if total else 1.0) if self.gamma == "scale" else (
            1 / X.shape[1] if self.gamma == "auto" else check_positive(owner, "gamma", self.gamma))
        self.C_, self.temperature_ = self._choose(standard, codes, seed)
        machine = SVC(C=self.C_, kernel=self.kernel, gamma=self.gamma_, random_state=0)  # None draws a seed that none uses
        self.estimator_ = OneVsRestClassifier(machine).fit(standard, codes)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Margins (n, k), one machine a column; for two classes (n,), of the second."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self.estimator_.decision_function((X - self.mean_) / self.scale_)

    @available_if(_calibrates)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities (n, k), columns as in `classes_`."""
        return self.predict_uncertainty(X).probabilities

    @available_if(_calibrates)
    def predict_uncertainty(self, X: Any) -> Prediction:
        """A Prediction for features X (n, d); its logits are margins divided by the temperature."""
        logits = two_columns(self.decision_function(X)) / self.temperature_
        return Prediction(softmax(logits, axis=1), self.classes_, range(len(logits)), logits=logits)

    def predict(self, X: Any) -> np.ndarray:
        """The class of the largest margin (n,)."""
        check_is_fitted(self)
        return self.classes_[two_columns(self.decision_function(X)).argmax(axis=1)]

    def _choose(self, X: np.ndarray, codes: np.ndarray, seed: int) -> tuple[float, float]:
        """C and the temperature, by margins of standardised features that were held out."""
        rows = stratified_rows(codes, _CHOICE_ROWS, child_seed(seed, "rows"))
        X, codes = X[rows], codes[rows]
        parts = held_out_parts(codes, child_seed(seed, "folds"), self.folds)
        if not parts or (not self.calibrate and self.C is not None):
            return 1.0 if self.C is None else float(self.C), 1.0
        with threadpool_limits(1, "blas"):
            kernel = pairwise_kernels(X, metric=self.kernel, filter_params=True, gamma=self.gamma_, coef0=0)
        held_out = np.concatenate([left_out for _, left_out in parts])
        found = {}
        for C in GRID if self.C is None else (float(self.C),):
            machines = OneVsRestClassifier(SVC(C=C, kernel="precomputed", random_state=0))
            margins = Parallel(n_jobs=-1, prefer="threads")(  # libsvm releases Python's lock
                delayed(_held_out_margins)(clone(machines), kernel, codes, kept, left_out) for kept, left_out in parts)
            logits = np.concatenate(margins)
            temperature = fit_temperature(logits, codes[held_out])
            found[C, temperature] = float(row_losses(logits / temperature, codes[held_out]).mean())
        return least(found)


def _held_out_margins(machines: OneVsRestClassifier, kernel: np.ndarray, codes: np.ndarray, kept: np.ndarray,
                      left_out: np.ndarray) -> np.ndarray:
    machines.fit(kernel[np.ix_(kept, kept)], codes[kept])
    return two_columns(machines.decision_function(kernel[np.ix_(left_out, kept)]))
