"""A training loop for Gluon blocks in small steps, each of which a subclass may replace."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2._random import child_seed, root_seed
from xfer2._validation import check_integer, check_positive
from xfer2.exceptions import DataError, XferError

logger = logging.getLogger("xfer2")


class _HalfCosine(mx.lr_scheduler.LRScheduler):
    """Half a cosine from `base_lr` at the first step. MXNet's own starts one step late and leaves nothing for the last."""

    def __init__(self, steps: int, base_lr: float) -> None:
        super().__init__(base_lr=base_lr)
        self._steps = steps

    def __call__(self, num_update: int) -> float:
        """The rate of a step; steps are counted from 1."""
        done = min(max(num_update - 1, 0) / self._steps, 1.0)
        return self.base_lr * (1 + math.cos(math.pi * done)) / 2


class Trainer:
    """Trains a block on arrays by mini-batches.

    Parameters
    ----------
    block : mx.gluon.HybridBlock
        Initialised; parameters with ``grad_req="null"`` stay as they are, and BatchNorm statistics where the block says
        ``use_global_stats``, as one made by ``ModelHandler.get_block`` of frozen layers does.
    epochs : int
    batch_size : int
    learning_rate : float
        Of the first step; it falls to zero along a half cosine (Loshchilov and Hutter 2017, arXiv:1608.03983).
    optimizer : str
        By MXNet's name.
    weight_decay : float
    loss : mx.gluon.loss.Loss, optional
        Of outputs and class codes; by default softmax cross-entropy of logits.
    random_state : int, RandomState or None
        Orders the examples. MXNet's own generator (Dropout) goes on where it is.

    Attributes
    ----------
    history_ : list of dict
        One an epoch: epoch, loss (nats, mean over the epoch's examples), accuracy, seconds.
    """

    def __init__(self, block: Any, *, epochs: int = 10, batch_size: int = 128, learning_rate: float = 1e-3,
                 optimizer: str = "adam", weight_decay: float = 0.0, loss: Any = None, random_state: Any = None) -> None:
        owner = type(self).__name__
        self.block = block
        self.epochs = check_integer(owner, "epochs", epochs)
        self.batch_size = check_integer(owner, "batch_size", batch_size)
        self.learning_rate = check_positive(owner, "learning_rate", learning_rate)
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.loss = loss or mx.gluon.loss.SoftmaxCrossEntropyLoss()
        self.random_state = random_state
        self.history_: list[dict[str, float]] = []

    def fit(self, inputs: np.ndarray, codes: np.ndarray) -> Trainer:
        """Train on network input (n, ...) and class codes (n,).

        Raises
        ------
        DataError
            Inputs and codes differ in number, or there are none.
        XferError
            The loss is no longer finite; the message says at which step.
        """
        if len(inputs) != len(codes) or len(inputs) == 0:
            raise DataError(f"Training needs as many labels as examples, at least one; got {len(codes)} and {len(inputs)}.")
        seed = child_seed(root_seed(type(self).__name__, self.random_state), "order of examples")
        self.order_ = np.random.default_rng(seed)
        self.history_ = []
        steps = -(-len(inputs) // self.batch_size)
        self.optimizer_ = self.make_optimizer(steps * self.epochs)
        self.block.hybridize(static_alloc=True, static_shape=True)
        for epoch in range(1, self.epochs + 1):
            record = self.run_epoch(epoch, inputs, codes)
            self.history_.append(record)
            logger.info("epoch %d/%d: loss %.4f, accuracy %.4f, %.1f s", epoch, self.epochs, record["loss"],
                        record["accuracy"], record["seconds"])
        return self

    def make_optimizer(self, steps: int) -> Any:
        """Gluon's trainer over the parameters that may move, for so many steps."""
        schedule = _HalfCosine(steps, self.learning_rate)
        params = {name: p for name, p in self.block.collect_params().items() if p.grad_req != "null"}
        return mx.gluon.Trainer(params, self.optimizer, {"learning_rate": self.learning_rate, "wd": self.weight_decay,
                                                         "lr_scheduler": schedule}, kvstore=None)

    def run_epoch(self, epoch: int, inputs: np.ndarray, codes: np.ndarray) -> dict[str, float]:
        """One pass over the examples in a new order; the epoch's line of the history."""
        start, total, right = time.perf_counter(), 0.0, 0
        for step, (batch, targets) in enumerate(self.iterate(inputs, codes), 1):
            loss, outputs = self.train_step(batch, targets)
            batch_loss = float(loss.sum().asscalar())
            if not np.isfinite(batch_loss):
                raise XferError(f"Training diverged: the loss is {batch_loss} at step {step} of epoch {epoch}. "
                                f"Lower learning_rate (it is {self.learning_rate}).")
            total += batch_loss
            right += int((outputs.argmax(axis=1).asnumpy() == targets.asnumpy()).sum())
        return {"epoch": epoch, "loss": total / len(inputs), "accuracy": right / len(inputs),
                "seconds": time.perf_counter() - start}

    def iterate(self, inputs: np.ndarray, codes: np.ndarray) -> Iterator[tuple[Any, Any]]:
        """Batches of an epoch, in a new order; the last may be smaller."""
        order = self.order_.permutation(len(inputs))
        for start in range(0, len(order), self.batch_size):
            rows = order[start:start + self.batch_size]
            yield mx.nd.array(self.prepare(inputs[rows])), mx.nd.array(codes[rows])

    def prepare(self, batch: np.ndarray) -> np.ndarray:
        """Change a batch before it is trained on (augmentation); here it stays as it is."""
        return batch

    def train_step(self, batch: Any, targets: Any) -> tuple[Any, Any]:
        """Forward, backward, update; the losses (n,) and the outputs (n, k)."""
        with mx.autograd.record():
            outputs = self.block(batch)
            loss = self.loss(outputs, targets)
        loss.backward()
        self.optimizer_.step(len(targets))
        return loss, outputs
