"""Repurposers that build a target network out of the source's graph and train it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from xfer2._mxnet import Block, Module, mx, own_draws
from xfer2._validation import check_at_least_zero, check_choice, check_integer, check_positive, check_switch, parameter_error
from xfer2.data.augmentation import Augmentation
from xfer2.data.batches import open_batches
from xfer2.exceptions import TrainingError
from xfer2.features.extractor import extract
from xfer2.features.store import Features
from xfer2.model_handler import archive, mxnet_files, targets
from xfer2.model_handler.graph import edit
from xfer2.model_handler.handler import ModelHandler
from xfer2.model_handler.network import Network
from xfer2.repurposers import _estimators
from xfer2.repurposers._base import Repurposer
from xfer2.repurposers._examples import Examined, Examples
from xfer2.repurposers._registry import constructor_parameters
from xfer2.repurposers._training_run import TrainingRun
from xfer2.training.callbacks import Callback
from xfer2.training.checkpoint import kept_seed
from xfer2.training.loop import Trainer
from xfer2.training.schedules import make_schedule
from xfer2.uncertainty.predictions import Prediction

_OF_THE_TRAINER = ("batch_size", "learning_rate", "optimizer", "optimizer_params", "schedule", "warm_up", "weight_decay",
                   "label_smoothing", "mixup", "clip_gradient", "patience", "average_last", "callbacks")


class NeuralNetworkRepurposer(Repurposer):
    """Base of repurposers that train a network.

    A subclass of one's own implements `_make_target`: the source's handler in, the target's out. What is frozen there is
    computed once and epochs run on the rest, where `cache` allows it. The latest epoch is kept that is within a standard
    error of the least loss on the validation data, if it is below the start's; probabilities are tempered on the same data.

    Parameters
    ----------
    source_model : model
        Whatever `ModelHandler` reads.
    context_function : {mx.cpu, mx.gpu}
    num_devices : int
        Devices that share each batch.
    batch_size : int
    num_epochs : int
        At most; see `patience`.
    optimizer, optimizer_params
        See `xfer2.training.loop.Trainer`.
    target_class_count : int, optional
        Checked against the labels; by default what they say.
    learning_rate : float
        Of new parameters.
    transferred_rate : float
        Multiplies the learning rate of parameters that come from the source and are trained; copies of them are new.
    depth_decay : float
        Multiplies it once more for each layer further from the output (Howard and Ruder 2018, arXiv:1801.06146: 1 / 2.6).
    gradual_unfreezing : int
        Groups, from the output down, in which transferred layers join the training one after another; 0 trains all from
        the start. The epochs are shared among the phases.
    schedule : {"cosine", "linear", "poly", "step", "constant"} or mx.lr_scheduler.LRScheduler
    warm_up : float
        Fraction of the steps in which the rate rises; an mx.lr_scheduler has its own.
    weight_decay, label_smoothing, mixup, clip_gradient, average_last, patience
        See `xfer2.training.loop.Trainer`.
    class_weight : dict, "balanced" or None
    validation : float or data
        Fraction to hold out, of every class as nearly as its examples allow, 0 for none; or data that carry labels, or a
        pair of data and labels.
    refit : bool
        Train the target anew on all examples, for as many epochs as were kept, where a fraction of 5,000 at most was held
        out; a start that no epoch bettered is made of all examples, however many. `callbacks` and `history_` are of the
        training before.
    augment : Augmentation, dict of its parameters, or callable, optional
        Changes images, of the network's first input, in training.
    cache : {"auto", False} or int
        Whether the outputs of the frozen part are kept: ``"auto"`` where nothing is augmented or mixed, or inputs are rows
        of a table, which cannot be mixed; a number K keeps them of K views of each example, itself and K - 1 augmented ones.
        `mixup` then mixes these outputs.
    calibrate : bool
        Learn a temperature from the validation data, and use it where it helps.
    callbacks : sequence of Callback
    checkpoint_dir : str or path, optional
        Where the run is kept after every epoch, and taken up where it is there.
    errors : {"raise", "skip"}
        What to do with an image that cannot be decoded.
    random_state : int, RandomState or None

    Attributes
    ----------
    source_network_ : Network
        The source as it was read.
    network_ : Network
        The target; its first output is the class probabilities (n, k).
    history_ : list of dict
        One an epoch; see `Trainer`. `history_frame` gives it as a table.
    best_epoch_ : int
        The one that was taken; 0 where none was better than the start.
    outcome_ : str
        What came of the training, in a sentence.
    cached_layers_ : tuple of str
        Layers whose outputs were computed once.
    temperature_ : float
    distances_ : dict
        What measures how far features are from those of training.

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> class Tuned(xfer2.NeuralNetworkRepurposer):
    ...     def _make_target(self, source, class_count):
    ...         return source.replace_head(class_count)
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> Tuned("zoo:mnist-cnn", num_epochs=1).fit(images, ["odd", "even"] * 10).predict(images).shape
    (20,)
    """

    _shared_by_clones: ClassVar[tuple[str, ...]] = ("source_model", "validation")

    def __init__(self, source_model: Any, context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1,
                 batch_size: int = 64, num_epochs: int = 30, optimizer: str = "adam",
                 optimizer_params: Mapping[str, Any] | None = None, *, target_class_count: int | None = None,
                 learning_rate: float = 1e-3, transferred_rate: float = 0.3, depth_decay: float = 1.0,
                 gradual_unfreezing: int = 0, schedule: Any = "cosine", warm_up: float = 0.1, weight_decay: float = 1e-4,
                 label_smoothing: float = 0.0, mixup: float = 0.0, class_weight: Any = None,
                 clip_gradient: float | None = None, average_last: int = 0, validation: Any = 0.15,
                 refit: bool = True, patience: int | None = 10, augment: Any = None, cache: Any = "auto",
                 calibrate: bool = True, callbacks: Sequence[Callback] = (),
                 checkpoint_dir: str | os.PathLike[str] | None = None, errors: str = "raise",
                 random_state: Any = None) -> None:
        self.source_model = source_model
        self.target_class_count = target_class_count
        self.context_function = context_function
        self.num_devices = num_devices
        self.batch_size = batch_size
        self.num_epochs = num_epochs
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.learning_rate = learning_rate
        self.transferred_rate = transferred_rate
        self.depth_decay = depth_decay
        self.gradual_unfreezing = gradual_unfreezing
        self.schedule = schedule
        self.warm_up = warm_up
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.class_weight = class_weight
        self.clip_gradient = clip_gradient
        self.average_last = average_last
        self.validation = validation
        self.refit = refit
        self.patience = patience
        self.augment = augment
        self.cache = cache
        self.calibrate = calibrate
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.errors = errors
        self.random_state = random_state

    @classmethod
    def _get_param_names(cls) -> list[str]:
        """Of this class and its bases: a subclass hands on what it does not name itself."""
        return sorted(constructor_parameters(cls))

    def _make_target(self, source: ModelHandler, class_count: int) -> ModelHandler:
        """Turn the source into the target.

        Parameters
        ----------
        source : ModelHandler
            A copy, to be edited.
        class_count : int

        Returns
        -------
        ModelHandler
            Its first output is logits (n, class_count); further ones stay as they are. Frozen layers are not trained; what
            has no values is drawn.
        """
        raise TypeError(f"{type(self).__name__} does not say what its target is: implement _make_target(source, "
                        "class_count), the source's ModelHandler in, the target's out, its output the logits.")

    def _probed_layer(self, network: Network) -> str | None:
        """The layer on which a logistic regression is what the last dense layer starts as; None where it is drawn.

        Parameters
        ----------
        network : Network
            The target above what is computed once.
        """
        return None

    def _task(self) -> str:
        """What the layer of the probabilities is called, ``TASK_probabilities``."""
        return "target"

    def _with_objectives(self, target: Network) -> Network:
        """The target as it is trained: its logits are the first output, what the penalty needs are the others."""
        return target

    def _make_penalty(self, network: Network) -> Any:
        """The `penalty` of the `Trainer` of a network, of the outputs behind the logits; None where none is."""
        return None

    def _more_learned(self, network: Network, examples: Examples, folder: str) -> dict[str, Any]:
        """Learned attributes of the method's own, by name, from the trained part and its examples as they came."""
        return {}

    def _outcome(self, history: Sequence[Mapping[str, float]], best_epoch: int, averaged: int) -> str:
        """What came of the training, in a sentence."""
        if best_epoch == 0:
            return "No epoch of training had a lower validation loss than the start, whose parameters are kept."
        if averaged:
            return f"The mean of epochs {best_epoch - averaged + 1} to {best_epoch} of {len(history)} is taken."
        chosen = history[best_epoch - 1]
        if "validation_loss" not in chosen:
            return f"Epoch {best_epoch} of {len(history)} is taken, the last: there were no validation data."
        least = min(line["validation_loss"] for line in history if line.get("phase") == chosen.get("phase"))
        return (f"Epoch {best_epoch} of {len(history)} is taken: validation loss {chosen['validation_loss']:.3f}, within a "
                f"standard error of the least ({least:.3f}), accuracy {chosen['validation_accuracy']:.3f}.")

    def fit(self, X: Any, y: Any = None) -> NeuralNetworkRepurposer:
        """Build the target network and train it.

        Parameters
        ----------
        X : array, path, DataIter, DataLoader, Dataset
            See `xfer2.extract_features`; for networks of several inputs a dict or tuple.
        y : array-like (n,), optional
            Labels of any type; by default the data's own.

        Raises
        ------
        DataError
            No labels, one class only, labels beyond those of the training data in the validation data.
        LayerNotFoundError, ModelError
            The source does not have the layers, or the target cannot be built of it.
        TrainingError
            The loss was no number before any epoch had improved.
        """
        self._check_parameters()
        for name, value in self._learn(self._read_source(), X, y).items():
            setattr(self, name, value)
        return self

    def _learn(self, source: Network, X: Any, y: Any) -> dict[str, Any]:
        """Build the target of a source and train it; the learned attributes by name."""
        seed = kept_seed(type(self).__name__, self.checkpoint_dir, self.random_state)
        try:
            with own_draws(), tempfile.TemporaryDirectory(prefix="xfer2-") as folder:
                return TrainingRun(self, source, seed, folder).fit(X, y)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise
            raise TrainingError(f"{type(self).__name__}: there is no room for the outputs that are computed once ({error}). "
                                "Free some, let TMPDIR name another place, or say cache=False.") from error

    # --- what was learned -----------------------------------------------------------------------------------------

    @property
    def target_model(self) -> Block | None:
        """The target as a Gluon block that gives probabilities (n, k), made anew at every call; None before `fit`."""
        return targets.to_block(self.network_) if self.__sklearn_is_fitted__() else None

    @property
    def history_frame(self) -> Any:
        """`history_` as a pandas DataFrame."""
        import pandas

        self._check_is_fitted()
        return pandas.DataFrame(self.history_)

    def export(self, prefix: str) -> list[str]:
        """Write ``PREFIX-symbol.json`` and ``PREFIX-0000.params``; plain MXNet loads them and gives the same probabilities.

        Additions that MXNet's Module would fuse with a convolution, wrongly in some networks, are written as
        ``broadcast_add``, which computes the same.

        Returns
        -------
        list of str
            The paths written.
        """
        self._check_is_fitted()
        return mxnet_files.write(self.network_.with_graph(edit.without_fusible_sums(self.network_.graph)), prefix)

    def get_module(self, iterator: Any) -> Module:
        """The target as a Module, bound for prediction to the shapes of an ``mx.io.DataIter``."""
        self._check_is_fitted()
        return ModelHandler(self.network_, self.context_function, self.num_devices).get_module(iterator, for_training=False)

    def _examine(self, X: Any, y: Any = None) -> Examined:
        self._check_is_fitted()
        features = self._run(X, y, self._outputs)
        probabilities, logits, last = (features.flat(name) for name in self._outputs)
        prediction = Prediction(probabilities, self.classes_, features.ids, logits=logits, skipped=features.skipped,
                                distances=_estimators.distances_of(self.distances_, last))
        return Examined(prediction, features.labels, last)

    def _predict_labels(self, X: Any, y: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
        self._check_is_fitted()
        features = self._run(X, y, self._outputs[:1])
        return self.classes_[features.flat(self._outputs[0]).argmax(axis=1)], features.labels

    def _run(self, X: Any, y: Any, layers: tuple[str, ...]) -> Features:
        batches = open_batches(X, self.network_, y, self.batch_size, self.errors, type(self).__name__)
        return extract(self.network_, batches, tuple(dict.fromkeys(layers)), engine=self._engine())

    def _told(self) -> dict[str, str]:
        return {"outcome": self.outcome_, "temperature": f"{self.temperature_:.3g}"}

    def _drawn(self) -> dict[str, Any]:
        return {"history": self.history_frame} if self.history_ else {}

    # --- parameters -------------------------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        """Raise where a parameter is wrong, before anything is computed."""
        owner = type(self).__name__
        if self.target_class_count is not None:
            check_integer(owner, "target_class_count", self.target_class_count, 2)
        check_integer(owner, "num_epochs", self.num_epochs)
        check_integer(owner, "batch_size", self.batch_size)
        check_integer(owner, "gradual_unfreezing", self.gradual_unfreezing, 0)
        check_at_least_zero(owner, "transferred_rate", self.transferred_rate)
        check_positive(owner, "depth_decay", self.depth_decay)
        check_switch(owner, "calibrate", self.calibrate)
        check_switch(owner, "refit", self.refit)
        check_choice(owner, "errors", self.errors, ("raise", "skip"))
        if isinstance(self.validation, Real) and not 0 <= float(self.validation) <= 0.5:
            raise parameter_error(owner, "validation", "a fraction from 0 to 0.5, or data", self.validation)
        if self.cache is not False and not (isinstance(self.cache, str) and self.cache == "auto"):
            if self.cache is True or not isinstance(self.cache, Integral) or self.cache < 2:
                raise parameter_error(owner, "cache", "'auto', False, or a number of views of at least 2", self.cache)
            if self.augment is None:
                raise parameter_error(owner, "cache", "'auto' or False where augment is None", self.cache)
        if not isinstance(self.optimizer, str) or self.optimizer.lower() not in mx.optimizer.Optimizer.opt_registry:
            raise parameter_error(owner, "optimizer", "an optimizer of MXNet, by name", self.optimizer)
        make_schedule(owner, self.schedule, 1, 0, 1.0)
        self._trainer(None, epochs=self.num_epochs, checkpoint_dir=self.checkpoint_dir)

    def _augmentation(self) -> Any:
        if self.augment is None or callable(self.augment):
            return self.augment
        try:
            return Augmentation(**self.augment)
        except TypeError as error:
            raise parameter_error(type(self).__name__, "augment", "an Augmentation, a dict of its parameters, a function or "
                                  "None", self.augment) from error

    def _trainer(self, block: Any, views: int = 1, **settings: Any) -> Trainer:
        own = {name: getattr(self, name) for name in _OF_THE_TRAINER}
        own.update(rates={}, class_weights=None, penalty=None, random_state=0, earlier=(), views=views,
                   contexts=self._contexts(), augment=None if views > 1 else self._augmentation())
        return self._new_trainer(block, **{**own, **settings})

    def _new_trainer(self, block: Any, **settings: Any) -> Trainer:
        """The loop that trains; a method may have its own."""
        return Trainer(block, **settings)

    # --- files ------------------------------------------------------------------------------------------------------

    def _saved_parameters(self) -> dict[str, Any]:
        """Of what belongs to one run alone (data, callbacks, folders, functions) the defaults."""
        values = {**super()._saved_parameters(), "callbacks": (), "checkpoint_dir": None}
        if not isinstance(self.schedule, str):
            values["schedule"] = "cosine"
        if self.validation is not None and not isinstance(self.validation, Real):
            values["validation"] = 0.15
        if callable(self.augment):
            values["augment"] = asdict(self.augment) if isinstance(self.augment, Augmentation) else None
        return values

    def _to_files(self) -> dict[str, bytes]:
        return {**archive.to_files(self.network_), **archive.to_files(self.source_network_, "source"),
                _estimators.DISTANCES_FILE: _estimators.to_bytes(self.distances_)}

    def _from_files(self, files: Mapping[str, bytes], learned: dict[str, Any], trusted: tuple[str, ...]) -> None:
        self.network_, self.source_network_ = archive.from_files(files), archive.from_files(files, "source")
        self.source_model = self.source_network_
        self.distances_ = _estimators.from_bytes(files[_estimators.DISTANCES_FILE], trusted)
        for name, value in learned.items():
            setattr(self, name, value)

    def _learned(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (
            "history_", "best_epoch_", "outcome_", "cached_layers_", "temperature_", "_outputs")}
