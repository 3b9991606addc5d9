"""Laplace approximation of logistic regression on features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from xfer2._mxnet import mx
from xfer2._validation import check_integer, check_jobs, check_positive, check_switch
from xfer2.heads.laplace import LaplaceHead
from xfer2.model_handler.graph.stages import STAGES
from xfer2.repurposers._meta_model import HeadRepurposer


class LaplaceRepurposer(HeadRepurposer):
    """Logistic regression on features of a trained network, with a Gaussian posterior of its weights in closed form.

    Parameters
    ----------
    source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors
        See `MetaModelRepurposer`.
    tol : float
        Stopping tolerance of the optimiser.
    c : float, optional
        Inverse strength of the L2 penalty; by default chosen by cross-validation on log loss.
    n_jobs : int, optional
        Folds of the cross-validation fitted at once.
    calibrate : bool
        Choose the posterior's spread and a temperature on the same folds.
    num_samples_mc_prediction : int
        Samples of the posterior in prediction.
    random_state : int, RandomState or None

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = xfer2.LaplaceRepurposer("zoo:mnist-cnn", feature_layer_names=["dense0"])
    >>> repurposer.repurpose(images, ["odd", "even"] * 10).predict_uncertainty(images[:1]).epistemic.shape
    (1,)
    """

    method: ClassVar[str] = "laplace"

    def __init__(self, source_model: Any, feature_layer_names: str | Sequence[str] = STAGES,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, tol: float = 1e-4,
                 c: float | None = None, n_jobs: int | None = None, calibrate: bool = True,
                 num_samples_mc_prediction: int = 256, pool: str | None = None, batch_size: int = 32, errors: str = "raise",
                 random_state: Any = None) -> None:
        super().__init__(source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors)
        self.tol = tol
        self.c = c
        self.n_jobs = n_jobs
        self.calibrate = calibrate
        self.num_samples_mc_prediction = num_samples_mc_prediction
        self.random_state = random_state

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        if self.c is not None:
            check_positive(owner, "c", self.c)
        check_positive(owner, "tol", self.tol)
        check_jobs(owner, self.n_jobs)
        check_switch(owner, "calibrate", self.calibrate)
        check_integer(owner, "num_samples_mc_prediction", self.num_samples_mc_prediction)

    def _train_model_from_features(self, features: np.ndarray, labels: np.ndarray,
                                   feature_indices_per_layer: Mapping[str, np.ndarray]) -> LaplaceHead:
        head = LaplaceHead(self.c, tol=self.tol, n_jobs=self.n_jobs, calibrate=self.calibrate,
                           num_samples=self.num_samples_mc_prediction, random_state=self.random_state)
        return head.fit(features, labels)
