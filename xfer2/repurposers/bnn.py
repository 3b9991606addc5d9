"""Bayesian neural network on features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from xfer2._mxnet import mx
from xfer2._validation import check_integer, check_switch
from xfer2.heads.bayesian_nn import BayesianNeuralNetworkHead
from xfer2.model_handler.graph.stages import STAGES
from xfer2.repurposers._meta_model import HeadRepurposer


class BnnRepurposer(HeadRepurposer):
    """A Bayesian neural network on features of a trained network, fitted by mean-field variational inference.

    Parameters
    ----------
    source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors
        See `MetaModelRepurposer`.
    sigma : float
        Standard deviation of the weights' prior, for features of length 1.
    num_layers : int
        Hidden layers; 0 is a Bayesian logistic regression.
    n_hidden : int
        Units of each hidden layer.
    num_samples_mc : int
        Samples of the logits for each example and step of training.
    learning_rate : float
        Of Adam; it falls to 0 along half a cosine. Hidden layers want less, about 0.02.
    num_epochs : int
    start_annealing, end_annealing : int, optional
        Epochs between which the weight of the KL divergence rises from 0 to 1; by default a tenth and half of `num_epochs`.
    calibrate : bool
        Learn the posterior's spread and a temperature from examples held out of up to five further fits.
    num_samples_mc_prediction : int
        Samples of the posterior in prediction.
    random_state : int, RandomState or None

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = xfer2.BnnRepurposer("zoo:mnist-cnn", feature_layer_names=["dense0"], num_epochs=50)
    >>> repurposer.repurpose(images, ["odd", "even"] * 10).predict_uncertainty(images[:1]).epistemic.shape
    (1,)
    """

    method: ClassVar[str] = "bnn"

    def __init__(self, source_model: Any, feature_layer_names: str | Sequence[str] = STAGES,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, *, sigma: float = 3.0,
                 num_layers: int = 0, n_hidden: int = 50, num_samples_mc: int = 1, learning_rate: float = 0.1,
                 num_epochs: int = 200, start_annealing: int | None = None, end_annealing: int | None = None,
                 calibrate: bool = True, num_samples_mc_prediction: int = 256, pool: str | None = None, batch_size: int = 32,
                 errors: str = "raise", random_state: Any = None) -> None:
        super().__init__(source_model, feature_layer_names, context_function, num_devices, pool, batch_size, errors)
        self.sigma = sigma
        self.num_layers = num_layers
        self.n_hidden = n_hidden
        self.num_samples_mc = num_samples_mc
        self.learning_rate = learning_rate
        self.num_epochs = num_epochs
        self.start_annealing = start_annealing
        self.end_annealing = end_annealing
        self.calibrate = calibrate
        self.num_samples_mc_prediction = num_samples_mc_prediction
        self.random_state = random_state

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        check_integer(owner, "num_samples_mc_prediction", self.num_samples_mc_prediction)
        self._head({}).training(owner)
        check_switch(owner, "calibrate", self.calibrate)

    def _train_model_from_features(self, features: np.ndarray, labels: np.ndarray,
                                   feature_indices_per_layer: Mapping[str, np.ndarray]) -> BayesianNeuralNetworkHead:
        return self._head(feature_indices_per_layer).fit(features, labels)

    def _head(self, columns: Mapping[str, np.ndarray]) -> BayesianNeuralNetworkHead:
        return BayesianNeuralNetworkHead(columns, sigma=self.sigma, num_layers=self.num_layers, n_hidden=self.n_hidden,
                                         num_samples_mc=self.num_samples_mc, num_epochs=self.num_epochs,
                                         learning_rate=self.learning_rate, start_annealing=self.start_annealing,
                                         end_annealing=self.end_annealing, calibrate=self.calibrate,
                                         num_samples=self.num_samples_mc_prediction, random_state=self.random_state)
