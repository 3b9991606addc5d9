"""Exact Gaussian processes on Dirichlet-transformed labels, all classes from one factorisation.

Every class regresses the same rows on its own targets, and its noise differs from the other classes' only at its own rows.
With A = K + s I inverted once, class c has A minus a diagonal of rank n_c, so its inverse is that of A plus V_c^T V_c, where
V_c has n_c rows: k classes cost little more than one, where a batch of k Cholesky factors costs k times as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from xfer2._progress import Progress
from xfer2.heads._gpytorch import gpytorch

_JITTER = 1e-10
_LARGEST_LOG = 15.0
_SAME = 1e-12  # squared distance of rows that are the same but for rounding
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Hyperparameters:
    """Of a sum of scaled RBF kernels, one a layer, and of the labels' noise.

    Attributes
    ----------
    lengthscales, outputscales : Tensor (layers,)
    noise : Tensor ()
        Variance added to that of the transformed labels.
    temperature : Tensor ()
        Of the logits.
    """

    lengthscales: torch.Tensor
    outputscales: torch.Tensor
    noise: torch.Tensor
    temperature: torch.Tensor

    @classmethod
    def start(cls, squared_distances: Sequence[torch.Tensor]) -> Hyperparameters:
        """Before learning: each layer's lengthscale is its median distance, and the logits' prior deviation about 3."""
        medians = torch.stack([distances[distances > _SAME].sqrt().median() if (distances > _SAME).any()
                               else torch.ones((), dtype=distances.dtype) for distances in squared_distances])
        one = torch.ones((), dtype=medians.dtype)
        return cls(medians, torch.full_like(medians, 10.0 / len(medians)), 0.1 * one, one)

    def kernel(self, squared_distances: Sequence[torch.Tensor]) -> torch.Tensor:
        """The kernel (n, m) for squared distances, one matrix (n, m) a layer."""
        parts = zip(squared_distances, self.lengthscales, self.outputscales, strict=True)
        return torch.stack([scale * torch.exp(distances / (-2 * length**2)) for distances, length, scale in parts]).sum(0)


@dataclass(frozen=True)
class Solution:
    """The posterior of n rows and k classes, and what it says of each row when that row is left out.

    Attributes
    ----------
    mean : Tensor (k,)
        Constant mean of each class, by generalised least squares.
    weights : Tensor (n, k)
        The posterior mean at x is ``mean + kernel(x, rows) @ weights``.
    inverse : Tensor (n, n)
        Of the matrix that all classes share.
    corrections : Tensor (n, n)
        V_c of all classes, one below the other, in the order of the sorted codes.
    left_out_mean, left_out_variance : Tensor (n, k)
        Of the latent functions at each row, given all other rows (Rasmussen and Williams 2006, eq. 5.12).
    """

    mean: torch.Tensor
    weights: torch.Tensor
    inverse: torch.Tensor
    corrections: torch.Tensor
    left_out_mean: torch.Tensor
    left_out_variance: torch.Tensor

    def left_out_samples(self, draws: torch.Tensor, rows: Any) -> torch.Tensor:
        """Logits (s, r, k) of each of some rows (r,) given all others, for standard normal draws (s, k)."""
        return self.left_out_mean[rows] + draws[:, None] * (self.left_out_variance[rows] + _JITTER).sqrt()

    def log_loss(self, codes: torch.Tensor, rows: torch.Tensor, draws: torch.Tensor,
                 temperature: torch.Tensor) -> torch.Tensor:
        """Mean negative log probability of the true class of these rows (r,), each given all other rows."""
        chances = torch.log_softmax(self.left_out_samples(draws, rows) / temperature, dim=2)
        own = chances[:, torch.arange(len(rows)), codes[rows]]
        return math.log(len(draws)) - torch.logsumexp(own, dim=0).mean()


def solve(kernel: torch.Tensor, codes: torch.Tensor, epsilon: float, noise: torch.Tensor) -> Solution:
    """The exact posterior for a kernel matrix (n, n) and codes (n,), all of 0 to k - 1 among them.

    Parameters
    ----------
    epsilon : float
        Concentration of the classes that a row is not labelled with (`alpha_epsilon`).
    noise : Tensor ()
        Variance added to that of the transformed labels.

    References
    ----------
    Milios et al. 2018, arXiv:1805.10915.
    """
    likelihood = gpytorch.likelihoods.DirichletClassificationLikelihood(codes, alpha_epsilon=epsilon, dtype=kernel.dtype)
    targets, label_noise = likelihood.transformed_targets.T, likelihood.noise.T
    other, own = label_noise.max(), label_noise.min()
    shared = kernel + (other + noise) * torch.eye(len(codes), dtype=kernel.dtype)
    inverse = torch.linalg.inv(shared)  # its derivative costs two thirds of a Cholesky factor's
    on_targets, on_ones, diagonal = inverse @ targets, inverse.sum(1), inverse.diagonal()
    order, counts = torch.argsort(codes, stable=True), torch.bincount(codes)
    starts = counts.cumsum(0) - counts
    solved, places = [], []
    for count in counts.unique().tolist():  # all g classes with so many rows at once; corrections are (g, count, n)
        group = torch.nonzero(counts == count)[:, 0]
        place = starts[group, None] + torch.arange(count)
        members = order[place]
        inner = torch.eye(count, dtype=kernel.dtype) / (other - own) - inverse[members[:, :, None], members[:, None]]
        correction = torch.linalg.solve_triangular(torch.linalg.cholesky(inner), inverse[members], upper=False)
        both = torch.stack([targets.T[group], torch.ones_like(targets.T[group])], 2)
        solved_targets, solved_ones = (torch.stack([on_targets.T[group], on_ones.expand(len(group), -1)], 2)
                                       + correction.mT @ (correction @ both)).unbind(2)
        mean = solved_targets.sum(1) / solved_ones.sum(1)
        solved.append((mean, solved_targets - mean[:, None] * solved_ones, diagonal + (correction**2).sum(1),
                       correction.flatten(0, 1)))
        places.append((group, place.flatten()))
    by_class, by_place = (torch.argsort(torch.cat(one)) for one in zip(*places, strict=True))
    means, weights, precisions, corrections = (torch.cat(one) for one in zip(*solved, strict=True))
    weight, precision = weights[by_class].T, precisions[by_class].T
    return Solution(means[by_class], weight, inverse, corrections[by_place], targets - weight / precision,
                    (1 / precision - label_noise - noise).clamp_min(0))


def learn(owner: str, squared_distances: Sequence[torch.Tensor], codes: torch.Tensor, epsilon: float, start: Hyperparameters,
          draws: torch.Tensor, tempered: bool, evaluations: int) -> tuple[Hyperparameters, float, bool]:
    """Hyperparameters with the least leave-one-out log loss, by L-BFGS, with normal priors on their logarithms.

    The priors are centred at `start`, with standard deviation 1: where rows are few and the loss is flat, they decide. The
    loss hardly changes as the temperature falls from 0.5 to 0, where each sample knows one class only and a class that no
    sample knows has probability 0. The row of a class with one row does not count: left out, nothing shows its class.

    Returns
    -------
    Hyperparameters
        The best seen, whether it converged, ran out of evaluations or was interrupted.
    float
        Its loss in nats a row, priors included; infinite where no class has two rows, and nothing is learned.
    bool
        Whether it was interrupted.
    """
    rows = torch.nonzero(torch.bincount(codes)[codes] > 1)[:, 0]
    if len(rows) == 0:
        return start, math.inf, False
    begin = [value.log() for value in (start.lengthscales, start.outputscales, start.noise, start.temperature)]
    logs = [value.clone().requires_grad_(tempered or value is not begin[-1]) for value in begin]
    optimiser = torch.optim.LBFGS([value for value in logs if value.requires_grad], max_iter=evaluations,
                                  max_eval=evaluations, tolerance_grad=1e-5, tolerance_change=1e-6,
                                  line_search_fn="strong_wolfe")
    best, least = start, math.inf

    def evaluate() -> torch.Tensor:
        nonlocal best, least
        optimiser.zero_grad()
        values = Hyperparameters(*(value.clamp(-_LARGEST_LOG, _LARGEST_LOG).exp() for value in logs))
        solution = solve(values.kernel(squared_distances), codes, epsilon, values.noise)
        penalty = sum(((value - mode) ** 2).sum() / 2 for value, mode in zip(logs, begin, strict=True))
        loss = solution.log_loss(codes, rows, draws, values.temperature) + penalty / len(codes)
        loss.backward()
        if loss.item() < least:
            best, least = Hyperparameters(*(value.detach() for value in vars(values).values())), loss.item()
        progress.step(state=f"leave-one-out log loss {loss.item():.3f}")
        return loss

    with Progress(owner, evaluations) as progress, threadpool_limits(1):  # on a busy machine two cost 15 times as much
        optimiser.step(evaluate)
    return best, least, progress.interrupted


@dataclass
class ExactPosterior:
    """What prediction needs of a solution, as arrays.

    Attributes
    ----------
    layers : list of numpy.ndarray (n, width)
        Prepared features of the rows.
    codes : numpy.ndarray of int (n,)
        Sorted: whose correction each row of `corrections` is.
    lengthscales, outputscales : numpy.ndarray (layers,)
    mean : numpy.ndarray (k,)
    weights : numpy.ndarray (n, k)
    inverse, corrections : numpy.ndarray of float32 (n, n)
    """

    layers: list[np.ndarray]
    codes: np.ndarray
    lengthscales: np.ndarray
    outputscales: np.ndarray
    mean: np.ndarray
    weights: np.ndarray
    inverse: np.ndarray
    corrections: np.ndarray

    @classmethod
    def of(cls, layers: list[np.ndarray], codes: np.ndarray, values: Hyperparameters, solution: Solution) -> ExactPosterior:
        """From the rows' features (n, width) a layer, their codes, and the solution for them."""
        return cls(layers, np.sort(codes), values.lengthscales.numpy(), values.outputscales.numpy(), solution.mean.numpy(),
                   solution.weights.numpy(), solution.inverse.float().numpy(), solution.corrections.float().numpy())

    def marginals(self, layers: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (m, k) of the latent functions for prepared features (m, width) a layer."""
        parts = [self._marginals([layer[start:start + _ROWS_AT_ONCE] for layer in layers])
                 for start in range(0, len(layers[0]), _ROWS_AT_ONCE)]
        mean, variance = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, variance

    def _marginals(self, layers: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        distances = [squared_distances(layer, own) for layer, own in zip(layers, self.layers, strict=True)]
        kernel = sum(scale * np.exp(distance / (-2 * length**2)) for distance, length, scale
                     in zip(distances, self.lengthscales, self.outputscales, strict=True))
        explained = np.einsum("mn,mn->m", kernel @ self.inverse, kernel)
        starts = np.flatnonzero(np.diff(self.codes, prepend=-1))
        corrections = np.add.reduceat((kernel @ self.corrections.T) ** 2, starts, axis=1)
        variance = self.outputscales.sum() - explained[:, np.newaxis] - corrections
        return self.mean + kernel @ self.weights, np.maximum(variance, 0.0)


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, m) between rows (n, d) and rows (m, d)."""
    products = (left**2).sum(1)[:, np.newaxis] + (right**2).sum(1) - 2 * left @ right.T
    return np.maximum(products, 0.0)
