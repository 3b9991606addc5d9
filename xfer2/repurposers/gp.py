"""Gaussian processes on features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from xfer2._mxnet import mx
from xfer2._validation import check_integer, check_switch
from xfer2.heads.gaussian_process import GaussianProcessHead
from xfer2.model_handler.graph.stages import STAGES
from xfer2.repurposers._meta_model import HeadRepurposer


class GpRepurposer(HeadRepurposer):
    """A Gaussian process on features of a trained network, with one kernel a layer.

    ``head_.lengthscales_`` and ``head_.outputscales_`` say by layer how far its kernel reaches and how much it counts.

    Parameters
    ----------
    source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors
        See `MetaModelRepurposer`.
    max_function_evaluations : int
        Most evaluations of the loss for one set of hyperparameters; it stops before where the loss has converged.
    apply_l2_norm : bool
        Scale each layer's features, standardised, to length 1 for each example.
    max_exact_rows : int
        Examples above which a sparse variational approximation is used.
    num_inducing : int
        Its inducing points.
    calibrate : bool
        Learn a temperature.
    num_samples_mc_prediction : int
        Samples of the posterior in prediction.
    random_state : int, RandomState or None

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = xfer2.GpRepurposer("zoo:mnist-cnn", feature_layer_names=["pool0", "dense0"])
    >>> sorted(repurposer.repurpose(images, ["odd", "even"] * 10).head_.lengthscales_)
    ['dense0', 'pool0']
    """

    method: ClassVar[str] = "gp"

    def __init__(self, source_model: Any, feature_layer_names: str | Sequence[str] = STAGES,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, max_function_evaluations: int = 100,
                 apply_l2_norm: bool = True, max_exact_rows: int = 5000, num_inducing: int = 300, calibrate: bool = True,
                 num_samples_mc_prediction: int = 256, pool: str | None = None, batch_size: int = 32, errors: str = "raise",
                 random_state: Any = None) -> None:
        super().__init__(source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors)
        self.max_function_evaluations = max_function_evaluations
        self.apply_l2_norm = apply_l2_norm
        self.max_exact_rows = max_exact_rows
        self.num_inducing = num_inducing
        self.calibrate = calibrate
        self.num_samples_mc_prediction = num_samples_mc_prediction
        self.random_state = random_state

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        for name in ("max_function_evaluations", "max_exact_rows", "num_inducing", "num_samples_mc_prediction"):
            check_integer(owner, name, getattr(self, name))
        for name in ("apply_l2_norm", "calibrate"):
            check_switch(owner, name, getattr(self, name))

    def _train_model_from_features(self, features: np.ndarray, labels: np.ndarray,
                                   feature_indices_per_layer: Mapping[str, np.ndarray]) -> GaussianProcessHead:
        head = GaussianProcessHead(feature_indices_per_layer, apply_l2_norm=self.apply_l2_norm,
                                   max_function_evaluations=self.max_function_evaluations,
                                   max_exact_rows=self.max_exact_rows, num_inducing=self.num_inducing,
                                   calibrate=self.calibrate, num_samples=self.num_samples_mc_prediction,
                                   random_state=self.random_state)
        return head.fit(features, labels)
