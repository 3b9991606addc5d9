"""Learning without Forgetting."""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from xfer2._mxnet import mx
from xfer2._validation import as_names, check_at_least_zero, check_kind, check_positive, parameter_error
from xfer2.data.batches import open_batches
from xfer2.exceptions import ModelError
from xfer2.features.extractor import extract
from xfer2.model_handler import edits, symbols
from xfer2.model_handler.answers import features_layer, last_features, readable
from xfer2.model_handler.graph import distillation, query, stages
from xfer2.model_handler.graph.compose import fresh_name
from xfer2.model_handler.graph.model import Edge, Graph
from xfer2.model_handler.handler import ModelHandler
from xfer2.model_handler.network import Network
from xfer2.repurposers._examples import Examined, data_and_labels, known_codes
from xfer2.repurposers._layers import served, with_outputs
from xfer2.repurposers._probed import ProbedRepurposer
from xfer2.repurposers._towers import as_frozen, fresh_prefix
from xfer2.training.regularizers import DistillationPenalty
from xfer2.uncertainty.evaluation import Evaluation
from xfer2.uncertainty.predictions import Prediction

SOURCE_TASK = "source"


class LwfRepurposer(ProbedRepurposer):
    """Learns new tasks one after another in the source's own layers, and holds the heads of old ones to what they said.

    A new task adds a dense layer to the shared layers, which reads the features and means of layers below them, and starts
    as a logistic regression on these: the head warmed up until it has converged. Then all are trained together, on the new
    examples' labels and on what the old heads said of these examples before; no data of old tasks are needed. `fit` begins
    with the source's task and learns one; `add_task` learns another. Where no epoch is better than the start, nothing but
    the head is learned.

    Parameters
    ----------
    source_model : model
        A classifier, whatever `ModelHandler` reads.
    transfer_layer_name : str, optional
        The layer that new heads read; by default what the source's own head reads.
    target_class_count, context_function, num_devices, batch_size, num_epochs
        See `ProbedRepurposer`.
    fixed_layers : str or list of str
        Layers not to train, by name or by pattern (``"stage1_*"``).
    task_name : str
        Of the task that `fit` learns; the source's own is ``"source"``.
    source_classes : sequence, optional
        Labels of the source's outputs; by default 0, 1, ...
    distillation_weight : float
        Of the old heads' loss beside the new one's; with 0 this is fine-tuning. The default is the square of the default
        temperature, which makes up for the gradients that softening makes small (Hinton et al. 2015, arXiv:1503.02531).
    distillation_temperature : float
        Above 1, small probabilities of the old heads count for more.
    triplet_weight : float
        Of a triplet loss of the shared features of the new examples; 0 has none.
    triplet_margin : float
        See `xfer2.training.regularizers.DistillationPenalty`.
    old_data : data or pair of data and labels, optional
        Of the source's task, for measuring `forgetting_` only.
    **settings
        See `ProbedRepurposer`, `intermediate_layers` among them, which the paper does not have, and
        `NeuralNetworkRepurposer`.

    Attributes
    ----------
    tasks_ : dict of str to numpy.ndarray
        Classes of every task by its name, the source's first.
    network_ : Network
        Its outputs are each task's probabilities, ``TASK_probabilities``, the last learned first; so are those of
        `target_model` and of exported files.
    forgetting_ : list of dict
        For every task learned, with `old_data`: task, and the source task's accuracy before and after.

    References
    ----------
    Li and Hoiem 2016, Learning without Forgetting, arXiv:1606.09282.

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = xfer2.LwfRepurposer("zoo:mnist-cnn", num_epochs=2).fit(images, ["odd", "even"] * 10)
    >>> repurposer.add_task("size", images, ["small", "large"] * 10).predict_label(images, task="source").shape
    (20,)
    >>> list(repurposer.tasks_)
    ['source', 'target', 'size']
    """

    method: ClassVar[str] = "lwf"
    _shared_by_clones: ClassVar[tuple[str, ...]] = ("source_model", "validation", "old_data")
    tasks_: dict[str, np.ndarray]

    def __init__(self, source_model: Any, transfer_layer_name: str | None = None, target_class_count: int | None = None,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, batch_size: int = 64,
                 num_epochs: int = 30, *, fixed_layers: str | Sequence[str] = (),
                 task_name: str = "target",
                 source_classes: Sequence[Any] | None = None, distillation_weight: float = 4.0,
                 distillation_temperature: float = 2.0, triplet_weight: float = 0.0, triplet_margin: float = 0.2,
                 old_data: Any = None, **settings: Any) -> None:
        super().__init__(source_model, transfer_layer_name, target_class_count, context_function, num_devices, batch_size,
                         num_epochs, **settings)
        self.fixed_layers = fixed_layers
        self.task_name = task_name
        self.source_classes = source_classes
        self.distillation_weight = distillation_weight
        self.distillation_temperature = distillation_temperature
        self.triplet_weight = triplet_weight
        self.triplet_margin = triplet_margin
        self.old_data = old_data

    def fit(self, X: Any, y: Any = None) -> LwfRepurposer:
        """Learn a first task beside the source's own; tasks learned before are left behind.

        Parameters
        ----------
        X : array, path, DataIter, DataLoader, Dataset
            See `xfer2.extract_features`.
        y : array-like (n,), optional
            Labels of any type; by default the data's own.

        Raises
        ------
        DataError
            See `NeuralNetworkRepurposer.fit`; or the old data carry no labels.
        ModelError
            The source has no head.
        ParameterError
            `task_name` is the source's.
        """
        self._check_parameters()
        self._check_task("task_name", self.task_name, (SOURCE_TASK,))
        source = self._with_shapes(self._read_source(), X)
        network, logits, classes = self._answering(source)
        outputs = (network.graph.outputs[0].node, logits, last_features(network))
        known = {"tasks_": {SOURCE_TASK: classes}, "_outputs": {SOURCE_TASK: outputs}, "forgetting_": [],
                 "source_network_": source}
        self._grow(network, known, self.task_name, X, y)
        return self

    def add_task(self, task: str, X: Any, y: Any = None, validation: Any = None) -> LwfRepurposer:
        """Learn one more task; it is the one that predicts by default from then on.

        `target_class_count` and a dict of class weights are of the first task, and not used here.

        Parameters
        ----------
        task : str
        X, y : data and labels
            As in `fit`.
        validation : float or data, optional
            As in the constructor; by default that, where it is a fraction, and else 0.15.
        """
        self._check_is_fitted()
        self._check_parameters()
        kept = ("tasks_", "_outputs", "forgetting_", "source_network_")
        known = {name: getattr(self, name) for name in kept}
        if validation is None:
            validation = self.validation if isinstance(self.validation, Real) else 0.15
        settings: dict[str, Any] = {"validation": validation, "target_class_count": None}
        if isinstance(self.class_weight, dict):
            settings["class_weight"] = None
        self._check_task("task", task, self.tasks_)
        self._grow(replace(self.network_, frozen=self.source_network_.frozen), known, task, X, y, **settings)
        return self

    # --- answers of one task -----------------------------------------------------------------------------------------

    def predict(self, X: Any, task: str | None = None) -> np.ndarray:
        """The most probable class of each example (n,), of a task; by default of the last that was learned."""
        return super(LwfRepurposer, self._of(task)).predict(X)

    def predict_proba(self, X: Any, task: str | None = None) -> np.ndarray:
        """Class probabilities (n, k) of a task, columns as in ``tasks_[task]``."""
        return self.predict_uncertainty(X, task).probabilities

    def predict_label(self, test_iterator: Any, task: str | None = None) -> np.ndarray:
        """`predict`, by Xfer's name."""
        return self.predict(test_iterator, task)

    def predict_probability(self, test_iterator: Any, task: str | None = None) -> np.ndarray:
        """`predict_proba`, by Xfer's name."""
        return self.predict_proba(test_iterator, task)

    def predict_uncertainty(self, X: Any, task: str | None = None) -> Prediction:
        """Labels, probabilities, logits; and distances from training data, of the task that was learned last.

        What earlier tasks measured, they measured in layers that have changed since.
        """
        return self._examine(X, task=task).prediction

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, task: str | None = None) -> float:
        """Accuracy on X in a task; labels from `y`, or from the data where they carry their own."""
        return super(LwfRepurposer, self._of(task)).score(X, y, sample_weight)

    def evaluate(self, X: Any, y: Any = None, task: str | None = None) -> Evaluation:
        """Predictions of X in a task with the true labels, whose `figures` say how good they are, with intervals."""
        return self._evaluation(self._examine(X, y, task))

    def _examine(self, X: Any, y: Any = None, task: str | None = None) -> Examined:
        return super(LwfRepurposer, self._of(task))._examine(X, y)

    def _of(self, task: str | None) -> LwfRepurposer:
        """The repurposer as it answers for one task."""
        self._check_is_fitted()
        names = list(self.tasks_)
        chosen = names[-1] if task is None else task
        if chosen not in self.tasks_:
            raise parameter_error(type(self).__name__, "task", f"one of {', '.join(map(repr, names))}", task)
        view = copy.copy(self)
        view.classes_, view._outputs, view.distances_ = self.tasks_[chosen], self._outputs[chosen], self.distances_[chosen]
        return view

    # --- learning ------------------------------------------------------------------------------------------------------

    def _answering(self, source: Network) -> tuple[Network, str, np.ndarray]:
        """The source with a softmax on its logits, the logits' layer, and its classes."""
        owner = type(self).__name__
        remedy = "Give a classifier, or use NeuralNetworkFineTuneRepurposer."
        logits, count, temperature = distillation.find_logits(
            source.graph, query.single_output(source.graph, owner), owner, remedy)
        handler = ModelHandler(source).extract(logits)
        _, (shape,) = symbols.infer_shapes(handler.network)
        if count < 2 or (shape is not None and math.prod(shape[1:]) != count):
            raise ModelError(f"{owner}: the source has no head that tells classes apart: {logits!r} has the shape {shape}, "
                             f"from a layer of {count} outputs. {remedy}")
        if shape is not None and len(shape) > 2:
            name = fresh_name(f"{SOURCE_TASK}_flat", source.graph.by_name)
            handler.add_layer_top(mx.sym.Flatten(mx.sym.var("data"), name=name))
        told = range(count) if self.source_classes is None else self.source_classes
        classes = np.asarray(list(told) if isinstance(told, Iterable) else None)
        if classes.shape != (count,) or len(np.unique(classes)) < count:
            raise parameter_error(owner, "source_classes", f"{count} different labels, one an output of the source",
                                  self.source_classes)
        network, _ = served(handler.network, temperature, SOURCE_TASK)
        return replace(network, frozen=source.frozen), logits, classes

    def _grow(self, network: Network, known: Mapping[str, Any], task: str, X: Any, y: Any, **settings: Any) -> None:
        """Learn a task in a network whose outputs are the known tasks' probabilities; `settings` replace parameters."""
        source_output, classes = known["_outputs"][SOURCE_TASK][0], known["tasks_"][SOURCE_TASK]
        before = self._old_accuracy(network, source_output, classes)
        worker = copy.copy(self)
        for name, value in {"task_name": task, **settings}.items():
            setattr(worker, name, value)
        if self.checkpoint_dir is not None:
            worker.checkpoint_dir = os.path.join(self.checkpoint_dir, task)
        learned = worker._learn(network, X, y)
        forgotten = [] if before is None else [{
            "task": task, "before": before, "after": self._old_accuracy(learned["network_"], source_output, classes)}]
        for name, own in (("tasks_", "classes_"), ("_outputs", "_outputs")):
            learned[name] = {**known[name], task: learned[own]}
        learned["distances_"] = {**{name: {} for name in known["tasks_"]}, task: learned["distances_"]}
        learned.update(source_network_=known["source_network_"], forgetting_=known["forgetting_"] + forgotten)
        for name, value in learned.items():
            setattr(self, name, value)

    def _old_accuracy(self, network: Network, output: str, classes: np.ndarray) -> float | None:
        """Of the source's task, on the old data; None where there are none."""
        if self.old_data is None:
            return None
        owner = f"{type(self).__name__}, old_data"
        X, y = data_and_labels(type(self).__name__, "old_data", self.old_data)
        found = extract(network, open_batches(X, network, y, self.batch_size, self.errors, owner), (output,),
                        engine=self._engine())
        return float((found.flat(output).argmax(axis=1) == known_codes(owner, found, classes)).mean())

    def _make_target(self, source: ModelHandler, class_count: int) -> ModelHandler:
        owner = type(self).__name__
        network = source.network
        own = self.transfer_layer_name
        if own is None:
            own = features_layer(owner, edits.extract(network, [network.graph.outputs[-1].node]), "Say transfer_layer_name.")
        check_kind(owner, "transfer_layer_name", own, str, "a layer's name")
        name = fresh_name(f"{self.task_name}_logits", network.graph.by_name)
        fixed = as_names(owner, "fixed_layers", self.fixed_layers, may_be_empty=True)
        if fixed:
            source.freeze(fixed)
        network, own = readable(source.network, own, network.graph.outputs[-1])
        features = edits.extract(network, [own])
        below, shapes = self._below(features)
        if below:
            own = fresh_name(f"{self.task_name}_read", network.graph.by_name)
            network = network.with_graph(
                stages.read_together(network.graph, features.graph.outputs[0], below, shapes, own))
        return ModelHandler(edits.with_graph(network, distillation.with_head(network.graph, own, name, class_count)))

    def _task(self) -> str:
        return self.task_name

    def _with_objectives(self, target: Network) -> Network:
        """With the old heads' losses against a frozen copy of them, which is computed once like all that is frozen.

        Where nothing holds the old heads, they are frozen: Adam would make steps of their weight decay alone.
        """
        features = (last_features(target),) if self.triplet_weight else ()
        owner, graph = type(self).__name__, target.graph
        if not self.distillation_weight:
            shared = query.ancestors(graph, [graph.outputs[0].node])
            held = replace(target, frozen=target.frozen | set(graph.layer_names) - shared)
            return with_outputs(held, (*features, *(edge.node for edge in graph.outputs[1:])))
        student = with_outputs(target, features)
        old = [distillation.find_logits(graph, edge, owner, "")[0] for edge in graph.outputs[1:]]
        now = distillation.as_predicted(Graph(graph.nodes, tuple(map(Edge, old)), graph.attrs))
        student = edits.with_graph(target, Graph(now.nodes, student.graph.outputs + now.outputs, graph.attrs))
        both = edits.beside(student, as_frozen(edits.extract(target, old)), fresh_prefix(target, "before_"))
        return edits.with_graph(both, distillation.distilled(both.graph, len(old), self.distillation_temperature))

    def _make_penalty(self, network: Network) -> DistillationPenalty | None:
        if not self.distillation_weight and not self.triplet_weight:
            return None
        return DistillationPenalty(self.distillation_weight, self.triplet_weight, self.triplet_margin)

    # --- parameters and files --------------------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        super()._check_parameters()
        owner = type(self).__name__
        for name in ("distillation_weight", "triplet_weight", "triplet_margin"):
            check_at_least_zero(owner, name, getattr(self, name))
        check_positive(owner, "distillation_temperature", self.distillation_temperature)

    def _check_task(self, name: str, task: str, known: Collection[str]) -> None:
        owner = type(self).__name__
        if not isinstance(task, str) or not re.fullmatch(r"[\w-]+", task):
            raise parameter_error(owner, name, "letters, digits, _ and -", task)
        if task in known:
            raise parameter_error(owner, name, "the name of no task yet; there are " + ", ".join(known), task)

    def _saved_parameters(self) -> dict[str, Any]:
        return {**super()._saved_parameters(), "old_data": None}

    def _learned(self) -> dict[str, Any]:
        return {**super()._learned(), "tasks_": self.tasks_, "forgetting_": self.forgetting_}
