"""A training loop for Gluon blocks in small steps, each of which a subclass may replace."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from xfer2._mxnet import Block, NDArray, mx, own_draws, several
from xfer2._progress import Progress
from xfer2._random import child_seed
from xfer2._validation import check_at_least_zero, check_fraction, check_integer, check_kind, check_positive
from xfer2.data.augmentation import Augment, augmented
from xfer2.exceptions import TrainingError
from xfer2.training import checkpoint, parameters
from xfer2.training.callbacks import Callback
from xfer2.training.examples import batch_bounds, by_device, check_classes, checked
from xfer2.training.identity import run_identity
from xfer2.training.losses import mix, soft_targets
from xfer2.training.optimizers import clip, gluon_trainer, without_examples
from xfer2.training.schedules import make_schedule
from xfer2.training.selection import Selection
from xfer2.uncertainty.calibration import fit_temperature, row_losses

logger = logging.getLogger("xfer2")

Inputs = Sequence[np.ndarray]


class Trainer:
    """Trains a block on arrays by mini-batches.

    Every epoch seeds generators of its own, MXNet's (Dropout) among them, so that a run that was killed and started again
    with its `checkpoint_dir` ends with the same parameters, to the bit, as one that was not.

    Parameters
    ----------
    block : mx.gluon.HybridBlock
        Initialised; parameters with ``grad_req="null"`` stay as they are, and BatchNorm statistics where the block says
        ``use_global_stats``, as one made by ``ModelHandler.get_block`` of frozen layers does.
    epochs : int
    batch_size : int
    learning_rate : float
    optimizer : str
        By MXNet's name.
    optimizer_params : dict, optional
        More of its parameters, as in ``{"momentum": 0.9}``.
    schedule : {"cosine", "linear", "poly", "step", "constant"} or mx.lr_scheduler.LRScheduler
        How the rate falls.
    warm_up : float
        Fraction of the steps in which the rate rises along a line.
    weight_decay : float
        Of weights; biases and what BatchNorm learns have none.
    rates : mapping of str to float, optional
        Multipliers of the learning rate by parameter.
    loss : mx.gluon.loss.Loss, optional
        Of outputs, targets and a weight an example; by default softmax cross-entropy of logits. Targets are class codes
        (n,), or probabilities (n, k) where they are smoothed or mixed.
    label_smoothing : float
        Probability, below 1, that is spread over all classes.
    mixup : float
        Alpha of the Beta distribution by which examples are mixed; 0 mixes none.
    penalty : callable, optional
        Of the block's outputs beyond the first, its moving parameters by name, and the targets; gives what is added to the
        loss of each example, (n,) or (1,).
    class_weights : numpy.ndarray (k,), optional
    clip_gradient : float, optional
        Largest norm of all gradients together, of the mean loss of a batch.
    augment : callable, optional
        Of a batch (n, ...) of the first input and a NumPy generator; gives the batch to train on.
    views : int
        Rows that the inputs have for every example, one after another; an epoch takes one of them by chance.
    patience : int, optional
        Epochs after the one that is kept after which training stops.
    average_last : int
        The mean of the parameters after so many last epochs is kept (Izmailov et al. 2018, arXiv:1803.05407), BatchNorm's
        statistics measured anew, unless the validation data show it to be worse than a single epoch.
    callbacks : sequence of Callback
    checkpoint_dir : str or path, optional
        Where the run is kept after every epoch, and taken up where it is there.
    contexts : sequence of mx.Context
        Devices that share each batch.
    random_state : int, RandomState or None
        Orders, augments and mixes the examples.
    earlier : sequence of dict
        Epochs of runs that this one continues; logs begin with them.

    Attributes
    ----------
    history_ : list of dict
        One an epoch: epoch, loss (nats, mean over the epoch's examples), accuracy, seconds, rate; with validation data,
        validation_loss and validation_accuracy. The validation loss is that after temperature scaling: in long trainings
        a network becomes too sure long before it stops getting better at its task.
    best_epoch_ : int
        Whose parameters were kept; 0 where those of the start were best on the validation data.
    averaged_ : int
        Of how many last epochs the mean was kept, `best_epoch_` then is the last; 0 where one epoch's parameters were.
    interrupted_ : bool
        Whether it was ended by Ctrl-C.

    Examples
    --------
    >>> block = mx.gluon.nn.Dense(2, in_units=1)
    >>> block.initialize()
    >>> trainer = Trainer(block, epochs=20, learning_rate=0.1).fit(np.array([[-1], [1]], "float32"), np.array([0, 1]))
    >>> trainer.history_[-1]["accuracy"]
    1.0
    """

    def __init__(self, block: Block, *, epochs: int = 10, batch_size: int = 128, learning_rate: float = 1e-3,
                 optimizer: str = "adam", optimizer_params: Mapping[str, Any] | None = None, schedule: Any = "cosine",
                 warm_up: float = 0.0, weight_decay: float = 0.0, rates: Mapping[str, float] | None = None, loss: Any = None,
                 penalty: Callable[[Sequence[NDArray], Mapping[str, NDArray], NDArray], NDArray] | None = None,
                 label_smoothing: float = 0.0, mixup: float = 0.0, class_weights: np.ndarray | None = None,
                 clip_gradient: float | None = None, augment: Augment | None = None,
                 views: int = 1, patience: int | None = None, average_last: int = 0, callbacks: Sequence[Callback] = (),
                 checkpoint_dir: str | os.PathLike[str] | None = None, contexts: Sequence[Any] = (mx.cpu(),),
                 random_state: Any = None, earlier: Sequence[Mapping[str, float]] = ()) -> None:
        owner = type(self).__name__
        self.block = block
        self.epochs = check_integer(owner, "epochs", epochs)
        self.batch_size = check_integer(owner, "batch_size", batch_size)
        self.learning_rate = check_positive(owner, "learning_rate", learning_rate)
        self.optimizer = optimizer
        self.optimizer_params = dict(check_kind(owner, "optimizer_params", optimizer_params, Mapping | None, "a dict") or {})
        self.schedule = schedule
        self.warm_up = check_fraction(owner, "warm_up", warm_up)
        self.weight_decay = check_at_least_zero(owner, "weight_decay", weight_decay)
        self.rates = dict(rates or {})
        self.label_smoothing = check_fraction(owner, "label_smoothing", label_smoothing)
        self.mixup = check_at_least_zero(owner, "mixup", mixup)
        self.penalty = penalty
        self.class_weights = class_weights
        self.clip_gradient = None if clip_gradient is None else check_positive(owner, "clip_gradient", clip_gradient)
        self.augment = augment
        self.views = check_integer(owner, "views", views)
        self.patience = None if patience is None else check_integer(owner, "patience", patience)
        self.average_last = min(check_integer(owner, "average_last", average_last, 0), self.epochs)
        self.callbacks = [check_kind(owner, "callbacks", one, Callback, "a list of Callback objects")
                          for one in check_kind(owner, "callbacks", callbacks, Sequence, "a list of Callback objects")]
        self.checkpoint_dir = check_kind(owner, "checkpoint_dir", checkpoint_dir, str | os.PathLike | None, "a path or None")
        self.contexts = list(contexts)
        self.random_state = random_state
        self.earlier = list(earlier)
        self.loss = loss or mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=not (label_smoothing or mixup))
        self.stop, self.best_epoch_, self.averaged_, self.interrupted_ = False, 0, 0, False
        self.history_: list[dict[str, float]] = []

    def fit(self, inputs: np.ndarray | Inputs, codes: np.ndarray,
            validation: tuple[np.ndarray | Inputs, np.ndarray] | None = None) -> Trainer:
        """Train on network inputs, each (n, ...), and class codes (n,).

        Parameters
        ----------
        inputs : array or sequence of arrays
            In the order of the block's inputs.
        codes : numpy.ndarray of int (n,)
        validation : tuple of inputs and codes, optional
            Measured before the first epoch and after each; they choose what is kept, see `Selection`.

        Raises
        ------
        DataError
            Inputs and codes differ in number, or there are none.
        TrainingError
            The loss is no longer finite, and no epoch before had improved; the block then holds what it held before that
            epoch. Where one had, its parameters are kept, with a warning.
        ModelError
            MXNet cannot compute the block or its gradients.
        PersistenceError
            The checkpoint is of another run.
        """
        owner = type(self).__name__
        arrays, codes = checked(owner, inputs, codes, self.views)
        held_out = None if validation is None else checked(owner, *validation)
        seed = checkpoint.kept_seed(owner, self.checkpoint_dir, self.random_state)
        self._seed = child_seed(seed, "training")
        self.history_, self.stop, self.best_epoch_, self.averaged_ = [], False, 0, 0
        self._selection, self._best = Selection(np.full(1, np.inf)), dict[str, np.ndarray]()
        self._sum: dict[str, Any] = {}
        steps = self.steps_per_epoch(codes)
        self.optimizer_ = self.make_optimizer(steps * self.epochs)
        self.block.hybridize(static_alloc=True, static_shape=True)
        self._warm_start(arrays)
        for given in (codes, *(() if held_out is None else held_out[1:])):
            check_classes(owner, self._classes, given)
        if self.checkpoint_dir is not None:
            self._run = run_identity(self, self._seed, self._values(), arrays, codes, held_out)
        finished = self._resume()
        if held_out is not None and not finished:
            self._selection, self._best = Selection(self.evaluate(*held_out)["loss"]), self._values()
        self._tell("on_fit_start")
        self._before = self._values()
        with own_draws():
            with Progress(owner, self.epochs * steps) as self._progress:
                self.fit_loop(finished + 1, arrays, codes, held_out)
            self.interrupted_ = self._progress.interrupted
            if self.interrupted_:
                self.stop = True
                parameters.set_values(self.block, self._before)  # an epoch that was not finished does not count
            self._keep(arrays, codes, held_out)
        self._tell("on_fit_end")
        return self

    def fit_loop(self, first: int, inputs: Inputs, codes: np.ndarray, validation: tuple[Inputs, np.ndarray] | None) -> None:
        """The epochs from `first` on."""
        for epoch in range(first, self.epochs + 1):
            if self.stop or self._patience_is_over():
                return
            self._tell("on_epoch_start", epoch)
            try:
                record, values = self.run_epoch(epoch, inputs, codes), self._values()
                if validation is not None:
                    found = self.evaluate(*validation)
                    record.update({f"validation_{name}": float(rows.mean()) for name, rows in found.items()})
                elif not all(np.isfinite(value).all() for value in values.values()):
                    raise TrainingError(f"Training diverged in the last step of epoch {epoch}. Lower learning_rate (it is "
                                        f"{self.learning_rate}), or set clip_gradient.")
            except TrainingError as error:
                parameters.set_values(self.block, self._before)
                if not self.best_epoch_:
                    raise
                warnings.warn(f"{error} The parameters of epoch {self.best_epoch_} are kept.", RuntimeWarning, stacklevel=3)
                return
            self.history_.append(record)
            self._before = values
            self._after_epoch(epoch, None if validation is None else found["loss"])
            logger.info("epoch %d/%d: %s", epoch, self.epochs,
                        ", ".join(f"{name} {one:{'' if isinstance(one, str) else '.4g'}}" for name, one in record.items()
                                  if name != "epoch"))
            self._tell("on_epoch_end", record)
            self._save(epoch)

    def steps_per_epoch(self, codes: np.ndarray) -> int:
        """How many batches `iterate` gives."""
        return len(batch_bounds(len(codes), self.batch_size)) - 1

    def make_optimizer(self, steps: int) -> Any:
        """Gluon's trainer over the parameters that may move, for so many steps."""
        owner = type(self).__name__
        settings = {"learning_rate": self.learning_rate, "wd": self.weight_decay, **self.optimizer_params}
        given = settings.get("lr_scheduler") or self.schedule
        settings["lr_scheduler"] = make_schedule(owner, given, steps, round(self.warm_up * steps), settings["learning_rate"])
        return gluon_trainer(owner, self.block, self.optimizer, settings, self.rates, len(self.contexts))

    def run_epoch(self, epoch: int, inputs: Inputs, codes: np.ndarray) -> dict[str, float]:
        """One pass over the examples in a new order; the epoch's line of the history."""
        start, total, right, seen = time.perf_counter(), 0.0, 0, 0
        mx.random.seed(child_seed(self._seed, f"dropout {epoch}"))
        random = np.random.default_rng([self._seed, epoch])
        for step, (batch, own) in enumerate(self.iterate(inputs, codes, random), 1):
            loss, outputs = self.train_step(*self.prepare(batch, own, random), len(own))
            if not np.isfinite(loss):
                raise TrainingError(f"Training diverged: the loss is {loss} at step {step} of epoch {epoch}. Lower "
                                    f"learning_rate (it is {self.learning_rate}), or set clip_gradient.")
            total, seen = total + loss * len(own), seen + len(own)
            right += int((outputs.argmax(axis=1) == own).sum())
            self._tell("on_step_end", step, loss)
            self._progress.step(state=f"loss {total / seen:.3f} accuracy {right / seen:.3f}")
        return {"epoch": epoch, "loss": total / seen, "accuracy": right / seen, "seconds": time.perf_counter() - start,
                "rate": float(self.optimizer_.learning_rate)}

    def iterate(self, inputs: Inputs, codes: np.ndarray, random: np.random.Generator) -> Iterator[tuple[Inputs, np.ndarray]]:
        """Batches of an epoch, in a new order; the last may be smaller, or larger by the one that would be left."""
        order = random.permutation(len(codes))
        for start, stop in pairwise(batch_bounds(len(codes), self.batch_size)):
            rows = np.sort(order[start:stop])  # sorted: arrays on disk are read in their order
            yield self.take(inputs, codes, rows, random)

    def take(self, inputs: Inputs, codes: np.ndarray, rows: np.ndarray,
             random: np.random.Generator) -> tuple[Inputs, np.ndarray]:
        """Some examples, one view of each."""
        read = rows if self.views == 1 else rows * self.views + random.integers(0, self.views, len(rows))
        return [array[read] for array in inputs], codes[rows]

    def prepare(self, batch: Inputs, codes: np.ndarray,
                random: np.random.Generator) -> tuple[Inputs, np.ndarray, np.ndarray]:
        """Inputs, targets and weights (n,) to train on: augmented, smoothed, mixed, weighted."""
        arrays = list(batch)
        if self.augment is not None:
            arrays[0] = augmented(self.augment, arrays[0], random)
        targets = codes.astype(np.float32)
        weights = np.ones(len(codes)) if self.class_weights is None else self.class_weights[codes]
        if self.label_smoothing or self.mixup:
            targets = soft_targets(codes, self._classes, self.label_smoothing)
        if self.mixup:
            arrays, targets = mix(arrays, targets, self.mixup, random)
        if targets.ndim > 1 and self.class_weights is not None:  # each class's share of an example by its own weight
            targets, weights = targets * self.class_weights, np.ones(len(codes))
        return arrays, targets, weights

    @parameters.told_in_one_line()
    def train_step(self, inputs: Inputs, targets: np.ndarray, weights: np.ndarray, count: int) -> tuple[float, np.ndarray]:
        """Forward, backward, update; the mean loss and the outputs (n, k)."""
        shares = [self._on_device(*one, inputs, targets, weights[:, np.newaxis]) for one in by_device(count, self.contexts)]
        with mx.autograd.record():
            outputs = [several(self.block(*share[:-2])) for share in shares]
            losses = [self.loss(own[0], *share[-2:]) for own, share in zip(outputs, shares, strict=True)]
            totals = losses if self.penalty is None else [
                mx.nd.broadcast_add(loss, self.penalty(own[1:], parameters.moving(self.block, own[0].context), share[-2]))
                for loss, own, share in zip(losses, outputs, shares, strict=True)]
        mx.autograd.backward(totals)
        without_examples(self.optimizer_, self.contexts[len(shares):])
        if self.clip_gradient is None:
            self.optimizer_.step(count)
        else:
            self.optimizer_.allreduce_grads()
            clip(self.optimizer_, self.contexts, self.clip_gradient * count)
            self.optimizer_.update(count)
        return (float(sum(loss.sum().asscalar() for loss in losses)) / count,
                np.concatenate([own[0].asnumpy() for own in outputs]))

    @parameters.told_in_one_line()
    def evaluate(self, inputs: Inputs, codes: np.ndarray) -> dict[str, np.ndarray]:
        """Of each example (n,): loss in nats, unsmoothed, unweighted, at the temperature that suits them best; accuracy."""
        found = []
        for start in range(0, len(codes), self.batch_size):
            batch = [mx.nd.array(array[start:start + self.batch_size], ctx=self.contexts[0]) for array in inputs]
            found.append(several(self.block(*batch))[0].asnumpy())
        logits = np.concatenate(found)
        finite = np.isfinite(logits).all()
        losses = row_losses(logits / fit_temperature(logits, codes), codes) if finite else np.full(len(codes), np.inf)
        return {"loss": losses, "accuracy": logits.argmax(axis=1) == codes}

    def lines(self) -> list[dict[str, float]]:
        """`earlier` and `history_`, epochs counted through."""
        return [*map(dict, self.earlier), *({**line, "epoch": len(self.earlier) + line["epoch"]} for line in self.history_)]

    @parameters.told_in_one_line()
    def _warm_start(self, inputs: Inputs) -> None:
        """Run one example through the block: its shapes are known then, and how many classes it has."""
        rows = [mx.nd.array(array[:1], ctx=self.contexts[0]) for array in inputs]
        self._classes = several(self.block(*rows))[0].shape[1]

    def _on_device(self, part: slice, context: Any, inputs: Inputs, *rest: np.ndarray) -> list[NDArray]:
        return [mx.nd.array(array[part], ctx=context) for array in (*inputs, *rest)]

    def _values(self) -> dict[str, np.ndarray]:
        return parameters.values(self.block, self.contexts[0])

    def _after_epoch(self, epoch: int, losses: np.ndarray | None) -> None:
        if losses is None or self._selection.takes(losses):  # without validation data the last epoch is the best
            self._best, self.best_epoch_ = {} if losses is None else self._before, epoch
        if epoch > self.epochs - self.average_last:
            self._sum = {name: self._sum.get(name, 0.0) + value.astype(np.float64) for name, value in self._before.items()}

    def _patience_is_over(self) -> bool:
        return (self.patience is not None and "validation_loss" in (self.history_ or [{}])[-1]
                and self.history_[-1]["epoch"] - self.best_epoch_ >= self.patience)

    def _keep(self, inputs: Inputs, codes: np.ndarray, held_out: tuple[Inputs, np.ndarray] | None) -> None:
        """Put the best into the block; the mean of the last epochs competes, and wins where nothing is held out."""
        if self._sum and not self.interrupted_ and len(self.history_) == self.epochs:
            means = {name: (value / self.average_last).astype(np.float32) for name, value in self._sum.items()}
            parameters.set_values(self.block, means)
            if self.average_last > 1:
                mx.random.seed(child_seed(self._seed, f"dropout {self.epochs + 1}"))
                random = np.random.default_rng([self._seed, self.epochs + 1])
                batches = (self.prepare(batch, own, random)[0] for batch, own in self.iterate(inputs, codes, random))
                parameters.measure_statistics(self.block, batches, self.contexts[0])
            if held_out is None or self._selection.takes(self.evaluate(*held_out)["loss"]):
                self.averaged_ = self.average_last
        if self.averaged_:
            self.best_epoch_ = self.epochs
        elif self._best:
            parameters.set_values(self.block, self._best)

    def _tell(self, event: str, *values: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *values)

    def _save(self, epoch: int) -> None:
        if self.checkpoint_dir is None:
            return
        remembered, updates = checkpoint.optimizer_state(self.optimizer_)
        arrays = {"parameter": self._values(), "best": self._best, "sum": self._sum, "optimizer": remembered,
                  "losses": vars(self._selection)}
        state = checkpoint.State(self._run, epoch, self.stop, self.history_, self.best_epoch_, arrays, updates)
        checkpoint.write(self.checkpoint_dir, state)

    def _resume(self) -> int:
        """Take up the run that the folder keeps; the last epoch it finished, 0 where there is none."""
        state = None if self.checkpoint_dir is None else checkpoint.read(self.checkpoint_dir, self._run)
        if state is None:
            return 0
        parameters.set_values(self.block, state.arrays["parameter"])
        self._best, self._sum = state.arrays["best"], state.arrays["sum"]
        self.history_, self.stop = state.history, state.stop
        self.best_epoch_ = state.best_epoch
        vars(self._selection).update(state.arrays["losses"])
        checkpoint.restore_optimizer(self.optimizer_, state.arrays["optimizer"], state.updates)
        logger.info("training goes on after epoch %d, from %s", state.epoch, os.fspath(self.checkpoint_dir or ""))
        return state.epoch
