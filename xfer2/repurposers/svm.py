"""Support vector machines on features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from xfer2._mxnet import mx
from xfer2._validation import check_choice, check_positive, check_switch, parameter_error
from xfer2.heads.svm import SvmHead
from xfer2.model_handler.graph.stages import STAGES
from xfer2.repurposers._meta_model import HeadRepurposer
from xfer2.uncertainty.predictions import Prediction


class SvmRepurposer(HeadRepurposer):
    """One-vs-rest support vector machines on standardised features of a trained network, calibrated.

    Parameters
    ----------
    source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors
        See `MetaModelRepurposer`.
    c : float, optional
        Inverse strength of the penalty; by default chosen by cross-validation on log loss.
    kernel : {"rbf", "linear", "poly", "sigmoid"}
    gamma : {"scale", "auto"} or float
        Of the kernel.
    enable_probability_estimates : bool
        Calibrate margins to probabilities. Without it there are labels only, and fitting is faster where c is given.
    random_state : int, RandomState or None

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = xfer2.SvmRepurposer("zoo:mnist-cnn", feature_layer_names=["dense0"], kernel="linear")
    >>> repurposer.repurpose(images, ["odd", "even"] * 10).predict_probability(images[:1]).shape
    (1, 2)
    """

    method: ClassVar[str] = "svm"

    def __init__(self, source_model: Any, feature_layer_names: str | Sequence[str] = STAGES,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, c: float | None = None,
                 kernel: str = "rbf", gamma: Any = "scale", enable_probability_estimates: bool = True,
                 pool: str | None = None, batch_size: int = 32, errors: str = "raise", random_state: Any = None) -> None:
        super().__init__(source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors)
        self.c = c
        self.kernel = kernel
        self.gamma = gamma
        self.enable_probability_estimates = enable_probability_estimates
        self.random_state = random_state

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        if self.c is not None:
            check_positive(owner, "c", self.c)
        check_choice(owner, "kernel", self.kernel, ("linear", "poly", "rbf", "sigmoid"))
        check_switch(owner, "enable_probability_estimates", self.enable_probability_estimates)
        if not isinstance(self.gamma, str) or self.gamma not in ("scale", "auto"):
            check_positive(owner, "gamma", self.gamma)

    def _train_model_from_features(self, features: np.ndarray, labels: np.ndarray,
                                   feature_indices_per_layer: Mapping[str, np.ndarray]) -> SvmHead:
        head = SvmHead(self.c, kernel=self.kernel, gamma=self.gamma, calibrate=self.enable_probability_estimates,
                       random_state=self.random_state)
        return head.fit(features, labels)

    def _predict_uncertainty_from_features(self, features: np.ndarray) -> Prediction:
        if not self.enable_probability_estimates:
            raise parameter_error(type(self).__name__, "enable_probability_estimates",
                                  "True where probabilities are asked for", False, "Set it and fit again.")
        return super()._predict_uncertainty_from_features(features)

    def _predict_label_from_features(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self.head_.predict(features))
