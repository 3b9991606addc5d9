"""Any scikit-learn classifier as a head, its probabilities calibrated."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from xfer2._random import child_seed, root_seed
from xfer2._validation import parameter_error
from xfer2.heads._features import classes_and_codes, few_rows_a_class, held_out_parts, two_columns
from xfer2.uncertainty.calibration import fit_temperature, useful_temperature
from xfer2.uncertainty.predictions import Prediction

_LEAST = 1e-6  # a probability of 0 has no logarithm


class SklearnHead(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier, fitted as it is, and a temperature from rows held out of further fits.

    A classifier with ``decision_function`` and without ``predict_proba`` gets probabilities from its margins.

    Parameters
    ----------
    estimator : classifier
    calibrate : bool
        Learn the temperature of the logarithms of the probabilities, and use it where what it gains is more than the gain's
        standard error; where there are margins only, of those. It costs up to five more fits. Without it, it is 1.
    random_state : int, RandomState or None
        Chooses the rows to hold out.

    Attributes
    ----------
    classes_ : numpy.ndarray (k,)
    estimator_ : classifier
    temperature_ : float

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.naive_bayes import GaussianNB
    >>> X, y = load_digits(return_X_y=True)
    >>> SklearnHead(GaussianNB(), random_state=0).fit(X[:1000], y[:1000]).temperature_ > 2
    True
    """

    def __init__(self, estimator: Any, *, calibrate: bool = True, random_state: Any = None) -> None:
        self.estimator = estimator
        self.calibrate = calibrate
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> SklearnHead:
        """Fit to features X (n, d) and labels y (n,) of any type.

        Raises
        ------
        ValueError
            NaN or infinite features, one class only, or what the classifier refuses.
        """
        owner = type(self).__name__
        X, y = validate_data(self, X, y)
        self.classes_, codes = classes_and_codes(owner, y)
        seed = root_seed(owner, self.random_state)
        with few_rows_a_class():
            self.estimator_ = clone(self.estimator).fit(X, y)
        _check_margins(owner, self.estimator_, X, len(self.classes_))
        self._order(owner, self.estimator_)
        self.temperature_ = 1.0
        parts = held_out_parts(codes, child_seed(seed, "parts")) if self.calibrate else []
        if parts:
            try:
                with few_rows_a_class():
                    logits = np.concatenate([self._logits(clone(self.estimator).fit(X[kept], y[kept]), X[left_out])
                                             for kept, left_out in parts])
            except ValueError as error:  # folds or neighbours of its own that a part has too few rows for
                warnings.warn(f"{owner}: the probabilities are not calibrated, as the classifier cannot be fitted to a part "
                              f"of the {len(X)} rows ({error}). calibrate=False does not try.", RuntimeWarning, stacklevel=2)
                return self
            fit = useful_temperature if hasattr(self.estimator_, "predict_proba") else fit_temperature
            self.temperature_ = fit(logits, codes[np.concatenate([left_out for _, left_out in parts])])
        return self

    def predict_uncertainty(self, X: Any) -> Prediction:
        """A Prediction for features X (n, d); its logits are margins, where the classifier has no probabilities."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        has_chances = hasattr(self.estimator_, "predict_proba")
        if has_chances and self.temperature_ == 1:
            chances = self.estimator_.predict_proba(X)[:, self._order(type(self).__name__, self.estimator_)]
            if self.calibrate:  # its rows held out were measured without zeros
                zeros = (chances < _LEAST).any(axis=1)
                chances[zeros] = softmax(np.log(np.clip(chances[zeros], _LEAST, None)), axis=1)
            return Prediction(chances, self.classes_, range(len(X)))
        logits = self._logits(self.estimator_, X) / self.temperature_
        # logarithms of probabilities have lost how large the logits were
        return Prediction(softmax(logits, axis=1), self.classes_, range(len(X)), logits=None if has_chances else logits)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities (n, k), columns as in `classes_`."""
        return self.predict_uncertainty(X).probabilities

    def predict(self, X: Any) -> np.ndarray:
        """The classifier's own labels (n,); they need not be the most probable, where it decides otherwise (a threshold)."""
        check_is_fitted(self)
        return self.estimator_.predict(validate_data(self, X, reset=False))

    def _order(self, owner: str, estimator: Any) -> list[int]:
        """A fitted classifier's column of each of `classes_`; one that calls them by their number has them in order."""
        own, names = np.asarray(getattr(estimator, "classes_", self.classes_)).tolist(), self.classes_.tolist()
        if set(own) == set(names) and len(own) == len(names):
            return [own.index(name) for name in names]
        if own == list(range(len(names))):
            return own
        raise parameter_error(owner, "estimator", f"a classifier whose classes_ are the labels {names}", own)

    def _logits(self, estimator: Any, X: np.ndarray) -> np.ndarray:
        logits = two_columns(np.asarray(estimator.decision_function(X))) if not hasattr(estimator, "predict_proba") else (
            np.log(np.clip(estimator.predict_proba(X), _LEAST, None)))
        return logits[:, self._order(type(self).__name__, estimator)]


def _check_margins(owner: str, estimator: Any, X: np.ndarray, classes: int) -> None:
    """Raise where the margins of a classifier without probabilities are not one a class."""
    if hasattr(estimator, "predict_proba") or classes == 2:
        return
    pairwise = [name for name, value in estimator.get_params().items()
                if name.split("__")[-1] == "decision_function_shape" and value == "ovo"]
    shape = np.shape(estimator.decision_function(X[:1]))
    if pairwise or shape != (1, classes):
        name = pairwise[0] if pairwise else "decision_function"
        raise parameter_error(owner, "estimator", f"a classifier whose margins are one a class ({classes}), not one a pair",
                              f"{name} of shape {shape}", "Set decision_function_shape='ovr', or wrap it in "
                              "sklearn.calibration.CalibratedClassifierCV.")
