"""Any scikit-learn classifier on features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone, is_classifier

from xfer2._mxnet import mx
from xfer2._validation import parameter_error
from xfer2.repurposers._meta_model import MetaModelRepurposer


class SklearnRepurposer(MetaModelRepurposer):
    """A scikit-learn classifier, or a pipeline that ends in one, on features of a trained network.

    Parameters
    ----------
    source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors
        See `MetaModelRepurposer`.
    estimator : classifier with ``predict_proba``
        Used as it is: it is cloned and fitted on the features. Put a ``StandardScaler`` before one that wants it.

    Examples
    --------
    >>> import xfer2
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> xfer2.SklearnRepurposer("zoo:mnist-cnn", "dense0", RandomForestClassifier()).method
    'sklearn'
    """

    method: ClassVar[str] = "sklearn"

    def __init__(self, source_model: Any, feature_layer_names: str | Sequence[str], estimator: Any,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, pool: str | None = None,
                 batch_size: int = 32, errors: str = "raise") -> None:
        super().__init__(source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors)
        self.estimator = estimator

    def _check_parameters(self) -> None:
        if isinstance(self.estimator, type) or not hasattr(self.estimator, "fit") or not is_classifier(self.estimator):
            raise parameter_error("SklearnRepurposer", "estimator", "an instance of a scikit-learn classifier",
                                  self.estimator)
        if not hasattr(self.estimator, "predict_proba"):
            raise parameter_error("SklearnRepurposer", "estimator", "a classifier with predict_proba", self.estimator,
                                  "Wrap it in sklearn.calibration.CalibratedClassifierCV.")

    def _train_model_from_features(self, features: np.ndarray, labels: np.ndarray,
                                   feature_indices_per_layer: Mapping[str, np.ndarray]) -> Any:
        return clone(self.estimator).fit(features, labels)

    def _saved_parameters(self) -> dict[str, Any]:
        return {name: value for name, value in super()._saved_parameters().items() if name != "estimator"}

    def _from_files(self, files: Mapping[str, bytes], learned: dict[str, Any], trusted: tuple[str, ...]) -> None:
        super()._from_files(files, learned, trusted)
        self.estimator = clone(self.head_)
