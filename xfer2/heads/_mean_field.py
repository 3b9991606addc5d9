"""Mean-field Gaussian dense layers in Gluon, and the loop that fits them to features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from xfer2._mxnet import Block, NDArray, mx
from xfer2._progress import Progress

_START_LOG_DEVIATION = -3.0


class _MeanFieldDense(mx.gluon.HybridBlock):
    """A dense layer whose weights are independent Gaussians; it samples its outputs and not its weights.

    Kingma et al. 2015, arXiv:1506.02557 (local reparameterisation). Biases are points.
    """

    def __init__(self, width: int, units: int, prior: float) -> None:
        super().__init__()
        self.units, self.prior = units, prior
        with self.name_scope():
            self.mean = self.params.get("mean", shape=(units, width))
            self.log_deviation = self.params.get("log_deviation", shape=(units, width))
            self.bias = self.params.get("bias", shape=(units,))

    def hybrid_forward(self, F: Any, x: Any, outside: Any, draws: Any, mean: Any, log_deviation: Any, bias: Any) -> Any:
        """Samples (s, n, units), KL divergence (1,) to the prior; of x (s or 1, n, width) and draws (s, n or 1, units)."""
        variances = F.exp(2 * log_deviation)
        centre = F.FullyConnected(x, mean, bias, num_hidden=self.units, flatten=False)
        spread = F.FullyConnected(F.square(x), variances, no_bias=True, num_hidden=self.units, flatten=False)
        spread = F.broadcast_add(spread, outside * self.prior**2)
        divergence = (F.sum(variances + F.square(mean)) / (2 * self.prior**2)
                      - F.sum(log_deviation - float(np.log(self.prior)) + 0.5))
        return F.broadcast_add(centre, F.broadcast_mul(F.sqrt(spread + 1e-12), draws)), divergence


class _Network(mx.gluon.HybridBlock):
    """Mean-field layers with ReLU between them; answers with logits (s, n, k) and the sum of their divergences."""

    def __init__(self, widths: Sequence[int], priors: Sequence[float]) -> None:
        super().__init__()
        with self.name_scope():
            self.layers = [_MeanFieldDense(*shape) for shape in zip(widths[:-1], widths[1:], priors, strict=True)]
        for layer in self.layers:
            self.register_child(layer)

    def hybrid_forward(self, F: Any, x: Any, outside: Any, *draws: Any) -> Any:
        """Of features x (n, d), the squared length outside of them (n, 1), and one array of draws a layer."""
        value, total = F.expand_dims(x, axis=0), 0.0
        for number, (layer, draw) in enumerate(zip(self.layers, draws, strict=True)):
            value, divergence = layer(F.relu(value) if number else value, outside if number == 0 else 0 * outside, draw)
            total = total + divergence
        return value, total


@dataclass
class MeanField:
    """A fitted network, as arrays.

    Attributes
    ----------
    priors : list of float
        Standard deviation of the prior of each layer's weights.
    layers : list of dict of str to numpy.ndarray
        ``mean`` and ``log_deviation`` (units, width) and ``bias`` (units,) of each layer.
    loss : float
        Last epoch's negative evidence lower bound, in nats a row.
    """

    priors: list[float]
    layers: list[dict[str, np.ndarray]]
    loss: float = float("nan")

    @classmethod
    def start(cls, widths: Sequence[int], prior: float, random: np.random.Generator) -> MeanField:
        """Before training: small means. Hidden units share the prior's variance, so that logits keep their scale."""
        priors = [prior, *(prior / np.sqrt(width) for width in widths[1:-1])]
        layers = [{"mean": random.normal(0, 1 / np.sqrt(width) if number else 0.01, (units, width)),
                   "log_deviation": np.full((units, width), _START_LOG_DEVIATION), "bias": np.zeros(units)}
                  for number, (width, units) in enumerate(pairwise(widths))]
        return cls(priors, layers)

    def samples(self, X: np.ndarray, outside: np.ndarray, draws: Sequence[np.ndarray]) -> np.ndarray:
        """Logits (s, n, k) for features X (n, d), the squared length outside of them (n,), and draws (s, units) a layer.

        In double precision: in single precision a row's last digits depend on the rows that it comes with.
        """
        network = self.network()
        network.cast("float64")
        logits, _ = network(*(mx.nd.array(one, dtype="float64") for one in (
            X, outside[:, np.newaxis], *(draw[:, np.newaxis] for draw in draws))))
        return logits.asnumpy()

    def network(self) -> Block:
        """The Gluon block, hybridized."""
        shapes = [layer["mean"].shape for layer in self.layers]
        network = _Network([shapes[0][1], *(units for units, _ in shapes)], self.priors)
        for block, layer in zip(network.layers, self.layers, strict=True):
            for name, value in layer.items():
                parameter = getattr(block, name)
                parameter.initialize(mx.init.Zero())
                parameter.set_data(mx.nd.array(value))
        network.hybridize(static_alloc=True)
        return network

    def fit(self, X: np.ndarray, codes: np.ndarray, training: Training, random: np.random.Generator,
            progress: Progress) -> None:
        """Adam on the evidence lower bound; the divergence weighs 0 up to `warm_up[0]` epochs and 1 from `warm_up[1]` on."""
        network = self.network()
        trainer = mx.gluon.Trainer(network.collect_params(), "adam", {"learning_rate": training.learning_rate})
        loss_of = mx.gluon.loss.SoftmaxCrossEntropyLoss()
        units = [len(layer["bias"]) for layer in self.layers]
        first, last = training.warm_up
        whole = list(_batches(X, codes, training, random)) if len(X) <= training.batch_size else None
        try:
            for epoch in range(training.epochs):
                weight = min(1.0, max(0.0, (epoch - first) / max(last - first, 1))) if epoch < last else 1.0
                trainer.set_learning_rate(training.learning_rate * 0.5 * (1 + np.cos(np.pi * epoch / training.epochs)))
                total = 0.0
                for x, y, outside in whole or _batches(X, codes, training, random):
                    draws = [mx.nd.array(random.standard_normal((training.samples, len(x), count), np.float32))
                             for count in units]
                    with mx.autograd.record():
                        logits, divergence = network(x, outside, *draws)
                        loss = loss_of(logits.reshape((-1, units[-1])), y).mean() + weight * divergence / len(X)
                    loss.backward()
                    trainer.step(1)
                    total += loss.asscalar() * len(x)
                self.loss = total / len(X)
                progress.step(state=f"loss {self.loss:.3f}")
        finally:  # an interruption keeps what was learned
            for block, layer in zip(network.layers, self.layers, strict=True):
                layer.update({name: getattr(block, name).data().asnumpy() for name in layer})


@dataclass(frozen=True)
class Training:
    """How a network is fitted: epochs, rows a batch, samples of the logits, learning rate, and the epochs of the warm-up."""

    epochs: int
    batch_size: int
    samples: int
    learning_rate: float
    warm_up: tuple[int, int]


def _batches(X: np.ndarray, codes: np.ndarray, training: Training,
             random: np.random.Generator) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Shuffled batches of about equal size: features, codes once for every sample, and nothing outside the features."""
    for rows in np.array_split(random.permutation(len(X)), -(-len(X) // training.batch_size)):
        yield mx.nd.array(X[rows]), mx.nd.array(np.tile(codes[rows], training.samples)), mx.nd.zeros((len(rows), 1))
