"""Sparse variational Gaussian processes with a softmax likelihood, for rows too many to factorise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from xfer2._progress import Progress
from xfer2.heads._dirichlet_gp import squared_distances
from xfer2.heads._gpytorch import gpytorch

_BATCH = 512
_LEARNING_RATE = 0.02
_PATIENCE = 3  # passes without a gain of a thousandth
_ROWS_AT_ONCE = 4096


class _Model(gpytorch.models.ApproximateGP):
    """k independent processes that share their kernel, one scaled RBF a layer, and their inducing points."""

    def __init__(self, inducing: torch.Tensor, widths: Sequence[int], classes: int) -> None:
        batch = torch.Size([classes])
        strategy = gpytorch.variational.VariationalStrategy(
            self, inducing, gpytorch.variational.CholeskyVariationalDistribution(len(inducing), batch_shape=batch),
            learn_inducing_locations=False)
        super().__init__(gpytorch.variational.IndependentMultitaskVariationalStrategy(strategy, num_tasks=classes))
        self.mean_module = gpytorch.means.ConstantMean(batch_shape=batch)
        ends = np.cumsum(widths)
        self.covar_module = gpytorch.kernels.AdditiveKernel(*(
            gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(active_dims=tuple(range(end - width, end))))
            for end, width in zip(ends.tolist(), widths, strict=True)))

    def forward(self, x: torch.Tensor) -> gpytorch.distributions.MultivariateNormal:
        """The prior at x (n, d)."""
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    def layer_kernels(self) -> list[gpytorch.kernels.ScaleKernel]:
        """One a layer."""
        return list(self.covar_module.kernels)


class _Softmax(gpytorch.likelihoods.SoftmaxLikelihood):
    """Takes samples (s, n, k) as they are: gpytorch's turns rows into classes where a batch has as many of both."""

    def forward(self, function_samples: torch.Tensor, *_: Any, **__: Any) -> torch.distributions.Categorical:
        """Probabilities of the classes."""
        return torch.distributions.Categorical(logits=function_samples)


@dataclass
class VariationalPosterior:
    """A fitted approximation, as arrays.

    Attributes
    ----------
    state : dict of str to numpy.ndarray
        Of the gpytorch model.
    widths : list of int
        Columns a layer.
    classes : int
    loss : float
        Mean negative evidence lower bound of the last pass, in nats a row.
    """

    state: dict[str, np.ndarray]
    widths: list[int]
    classes: int
    loss: float

    @classmethod
    def fit(cls, owner: str, layers: Sequence[np.ndarray], codes: np.ndarray, inducing: int, passes: int,
            seed: int) -> VariationalPosterior:
        """Adam on the evidence lower bound, until a pass over the rows no longer lowers it, `passes` at most.

        Parameters
        ----------
        layers : sequence of numpy.ndarray (n, width)
            Prepared features.
        codes : numpy.ndarray of int (n,)
        inducing : int
            Inducing points: centres of k-means.
        """
        x, y = np.concatenate(layers, axis=1).astype(np.float32), torch.as_tensor(codes)
        classes = int(codes.max()) + 1
        means = MiniBatchKMeans(min(inducing, len(x)), n_init=1, batch_size=2048, random_state=seed).fit(x)
        centres = np.unique(means.cluster_centers_, axis=0)  # rows may be alike
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = _Model(torch.as_tensor(centres.astype(np.float32)), [layer.shape[1] for layer in layers], classes)
            for layer, kernel in zip(layers, model.layer_kernels(), strict=True):
                kernel.base_kernel.lengthscale = _median_distance(layer, seed)
                kernel.outputscale = 10.0 / len(layers)
            likelihood = _Softmax(num_classes=classes, mixing_weights=False)
            bound = gpytorch.mlls.VariationalELBO(likelihood, model, num_data=len(x))
            loss = _train(owner, model, bound, torch.as_tensor(x), y, passes)
        state = {name: value.numpy() for name, value in model.state_dict().items()}
        return cls(state, [layer.shape[1] for layer in layers], classes, loss)

    @property
    def lengthscales(self) -> np.ndarray:
        """By layer (layers,)."""
        return np.array([kernel.base_kernel.lengthscale.item() for kernel in self._model().layer_kernels()])

    @property
    def outputscales(self) -> np.ndarray:
        """By layer (layers,)."""
        return np.array([kernel.outputscale.item() for kernel in self._model().layer_kernels()])

    def marginals(self, layers: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (m, k) of the latent functions for prepared features (m, width) a layer."""
        model, x = self._model(), torch.as_tensor(np.concatenate(layers, axis=1).astype(np.float32))
        with torch.no_grad():
            parts = [model(part) for part in x.split(_ROWS_AT_ONCE)]
        return (np.concatenate([part.mean.double().numpy() for part in parts]),
                np.concatenate([part.variance.clamp_min(0).double().numpy() for part in parts]))

    def _model(self) -> _Model:
        points = self.state["variational_strategy.base_variational_strategy.inducing_points"]
        model = _Model(torch.as_tensor(points), self.widths, self.classes)
        model.load_state_dict({name: torch.as_tensor(value) for name, value in self.state.items()})
        return model.eval()


def _train(owner: str, model: _Model, bound: gpytorch.mlls.VariationalELBO, x: torch.Tensor, y: torch.Tensor,
           passes: int) -> float:
    optimiser = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    losses: list[float] = []
    with Progress(owner, passes) as progress, threadpool_limits(1):  # on a busy machine two threads cost more than they give
        while len(losses) < passes and not _converged(losses):
            total = 0.0
            for rows in torch.randperm(len(x)).split(_BATCH):
                optimiser.zero_grad()
                loss = -bound(model(x[rows]), y[rows])
                loss.backward()
                optimiser.step()
                total += loss.item() * len(rows)
            losses.append(total / len(x))
            progress.step(state=f"loss {losses[-1]:.3f}")
    return losses[-1] if losses else math.inf


def _converged(losses: Sequence[float]) -> bool:
    return len(losses) > _PATIENCE and min(losses[-_PATIENCE:]) > 0.999 * min(losses[:-_PATIENCE])


def _median_distance(layer: np.ndarray, seed: int) -> float:
    some = layer[np.random.default_rng(seed).permutation(len(layer))[:500]]
    distances = np.sqrt(squared_distances(some, some))
    apart = distances[distances > 1e-6]
    return float(np.median(apart)) if len(apart) else 1.0
