"""Any scikit-learn classifier on features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone, is_classifier

from xfer2._mxnet import mx
from xfer2._validation import check_switch, parameter_error
from xfer2.heads.sklearn_classifier import SklearnHead
from xfer2.repurposers._meta_model import HeadRepurposer


class SklearnRepurposer(HeadRepurposer):
    """A scikit-learn classifier, or a pipeline that ends in one, on features of a trained network.

    Parameters
    ----------
    source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors
        See `MetaModelRepurposer`.
    estimator : classifier with ``predict_proba`` or ``decision_function``
        Used as it is: it is cloned and fitted on the features. Put a ``StandardScaler`` before one that wants it.
    calibrate : bool
        Learn a temperature for its probabilities from rows held out of up to five further fits, and use it where it helps;
        where the classifier has margins only, they become probabilities.
    random_state : int, RandomState or None
        Chooses the rows to hold out; the estimator has its own.

    Examples
    --------
    >>> import xfer2
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> xfer2.SklearnRepurposer("zoo:mnist-cnn", "dense0", RandomForestClassifier()).method
    'sklearn'
    """

    method: ClassVar[str] = "sklearn"

    def __init__(self, source_model: Any, feature_layer_names: str | Sequence[str], estimator: Any,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, calibrate: bool = True,
                 pool: str | None = None, batch_size: int = 32, errors: str = "raise", random_state: Any = None) -> None:
        super().__init__(source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors)
        self.estimator = estimator
        self.calibrate = calibrate
        self.random_state = random_state

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        if isinstance(self.estimator, type) or not hasattr(self.estimator, "fit") or not is_classifier(self.estimator):
            raise parameter_error(owner, "estimator", "an instance of a scikit-learn classifier", self.estimator)
        if not hasattr(self.estimator, "predict_proba") and not hasattr(self.estimator, "decision_function"):
            raise parameter_error(owner, "estimator", "a classifier with predict_proba or decision_function",
                                  self.estimator, "Wrap it in sklearn.calibration.CalibratedClassifierCV.")
        check_switch(owner, "calibrate", self.calibrate)

    def _train_model_from_features(self, features: np.ndarray, labels: np.ndarray,
                                   feature_indices_per_layer: Mapping[str, np.ndarray]) -> SklearnHead:
        return SklearnHead(self.estimator, calibrate=self.calibrate, random_state=self.random_state).fit(features, labels)

    def _predict_label_from_features(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self.head_.predict(features))

    def _saved_parameters(self) -> dict[str, Any]:
        return {name: value for name, value in super()._saved_parameters().items() if name != "estimator"}

    def _from_files(self, files: Mapping[str, bytes], learned: dict[str, Any], trusted: tuple[str, ...]) -> None:
        super()._from_files(files, learned, trusted)
        self.estimator = clone(self.head_.estimator)
