"""One fit of a target network: read, cut above what is frozen, hold out, train, temper, measure distances."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2._random import child_seed
from xfer2._validation import parameter_error
from xfer2.exceptions import ModelError, TrainingError
from xfer2.heads.blocks import helpful_columns
from xfer2.heads.logistic_regression import LogisticRegressionHead
from xfer2.model_handler import params, symbols, targets
from xfer2.model_handler.answers import answering_layer, last_features
from xfer2.model_handler.frozen import Frontier, frontier
from xfer2.model_handler.graph import operators, query, stages
from xfer2.model_handler.handler import ModelHandler
from xfer2.model_handler.network import Network
from xfer2.repurposers import _estimators
from xfer2.repurposers._examples import Examples, data_and_labels, held_out_rows, known_codes, read_examples
from xfer2.repurposers._layers import served
from xfer2.training.losses import class_weights
from xfer2.uncertainty.calibration import useful_temperature

logger = logging.getLogger("xfer2")

_STOPPED = "Training was stopped before its first epoch ended; the parameters of the start are kept."
_PROBE_ROWS = 5000
_PROBE_NUMBERS = 1 << 26


@dataclass
class TrainingRun:
    """What one call of `NeuralNetworkRepurposer.fit` does, step by step.

    Parameters
    ----------
    repurposer : NeuralNetworkRepurposer
        Its parameters, and the steps that a method may replace: the target, the start, the trainer.
    source : Network
    seed : int
    folder : str
        For what has no room in memory.
    """

    repurposer: Any
    source: Network
    seed: int
    folder: str
    _averaged: int = 0

    def fit(self, X: Any, y: Any) -> dict[str, Any]:
        """Train, and give the learned attributes by name."""
        asked = self.repurposer
        self.source = asked._with_shapes(self.source, X)
        plan = asked._with_objectives(self._target(self.source, 2))
        views = asked.cache if asked.cache not in ("auto", False) else 1
        cut = self._cut(plan, views)
        views = views if cut else 1
        self._where = (plan, cut.layers, cut.inputs) if cut else (plan, (), plan.inputs)
        if set(plan.missing) & set(self.source.parameter_names):
            params.require_values(self.source, type(asked).__name__)
        features, shapes = self._read(type(asked).__name__, X, y, views)
        labels = asked._check_labels(None if features.labels is None else features.labels[::views])
        classes, codes = np.unique(labels, return_inverse=True)
        self._check_count(classes)
        examples = Examples({name: features[name] for name in features.layers}, codes, views)
        source = replace(self.source, input_shapes={**self.source.input_shapes, **shapes})
        target = self._target(source, len(classes))
        part = self._part(target, examples, len(classes))
        train, held_out = self._split(examples, classes)
        weights = class_weights(type(asked).__name__, asked.class_weight, train.codes, classes.tolist())
        widths = self._probed_widths(target)
        start = self._with_probe(part, train.plain(), weights, widths)
        trained, history, best = self._train(start, train, held_out, self._transferred(target), weights)
        logits = trained.graph.outputs[0].node
        temperature = 1.0
        if best == 0 and held_out is not None:  # what training does not better may learn from all that was not given apart
            trained = self._with_probe(part, examples.plain(), weights, widths)
        if held_out is not None and asked.calibrate and (best or not isinstance(asked.validation, Real | None)):
            temperature = useful_temperature(self._outputs(trained, held_out, logits), held_out.codes)
        last = last_features(trained)
        values = {name: array for name, array in trained.params.items() if name in target.graph.by_name}
        whole, probabilities = served(params.with_params(target, values), temperature, asked._task())
        distances = _estimators.fit_distances(self._outputs(trained, examples, last), codes)
        cached = cut.layers if cut else ()
        more = asked._more_learned(trained, examples.plain(), self.folder)
        outcome = asked._outcome(history, best, self._averaged) if history else _STOPPED
        logger.info("%s", outcome)
        return {"source_network_": self.source, "network_": whole, "classes_": classes, "distances_": distances,
                "history_": history, "best_epoch_": best, "outcome_": outcome, "cached_layers_": cached,
                "temperature_": temperature, "_outputs": (probabilities, logits, last), "held_out_": None,
                "trained_on_": asked._record(X, y, labels, features.skipped), **more}

    # --- the target and its examples ------------------------------------------------------------------------------

    def _target(self, source: Network, class_count: int) -> Network:
        """What the method makes of the source; what it draws, it draws from the same seed each time."""
        mx.random.seed(self._child("target"))
        owner, made = type(self.repurposer).__name__, self.repurposer._make_target(ModelHandler(source), class_count)
        if not isinstance(made, ModelHandler):
            raise TypeError(f"{owner}._make_target must return the target's ModelHandler; it returned {made!r}.")
        answer = made.network.graph.by_name[made.network.graph.outputs[0].node]
        if answer.op in operators.ANSWERS:
            raise ModelError(f"{owner}._make_target: the target's first output is to be logits, and {answer.name!r} is a "
                             f"{answer.op} layer; leave it out: loss and probabilities are put on the logits.")
        return made.network

    def _cut(self, network: Network, views: int) -> Frontier | None:
        """Where the frozen part ends, if its outputs may be kept: not of images that change from epoch to epoch."""
        asked = self.repurposer
        return frontier(network) if asked.cache is not False and (asked.augment is None or views > 1) else None

    def _part(self, target: Network, examples: Examples, class_count: int) -> Network:
        """The part of the target that is trained, all its parameters with values."""
        _, shapes = symbols.infer_shapes(target)
        if shapes[0] is not None and shapes[0][1:] != (class_count,):
            raise ModelError(f"{type(self.repurposer).__name__}: the target's first output must be the logits, of shape "
                             f"(n, {class_count}); its outputs have the shapes {shapes}.")
        taught = self.repurposer._with_objectives(target)
        cut = self._cut(taught, examples.views)
        part = replace(cut.upper if cut else taught, input_shapes=examples.shapes())
        self._check_effects(part)
        if cut:
            sizes = ", ".join(f"{name} {'x'.join(map(str, part.input_shapes[name]))}" for name in cut.layers)
            logger.info("computed once for %d examples (%d views of each): %s", len(examples), examples.views, sizes)
        return params.initialize(part, seed=self._child("new parameters"))

    def _check_effects(self, part: Network) -> None:
        """Raise where a parameter has no effect on the part that is trained, or makes nonsense of its inputs."""
        asked, owner = self.repurposer, type(self.repurposer).__name__
        moving = set(part.params) & set(self.source.params) - part.frozen_parameters
        for name, plain in (("gradual_unfreezing", 0), ("depth_decay", 1)):
            if getattr(asked, name) != plain and not moving:
                raise parameter_error(owner, name, f"{plain} where nothing that is trained comes from the source",
                                      getattr(asked, name))
        rows = [edge.node for node in part.graph.nodes if (edge := operators.input_of(node, operators.ROW))]
        if asked.mixup and set(rows) & set(part.inputs):
            raise parameter_error(owner, "mixup", "0 where the network looks its input up in a table: the mean of two words "
                                  "is a third one", asked.mixup)

    def _read(self, owner: str, X: Any, y: Any, views: int = 1) -> tuple[Any, dict[str, tuple[int, ...]]]:
        asked = self.repurposer
        plan, layers, inputs = self._where
        features, shapes = read_examples(owner, plan, X, y, layers, inputs, asked._engine(), asked.batch_size,
                                         asked.errors, self.folder, views, asked._augmentation(), self._child("views"))
        symbols.shapes_for_data(plan, shapes)
        return features, shapes

    def _check_count(self, classes: np.ndarray) -> None:
        asked = self.repurposer
        if asked.target_class_count not in (None, len(classes)):
            raise parameter_error(type(asked).__name__, "target_class_count", f"the number of classes in the labels "
                                  f"({len(classes)})", asked.target_class_count, "Leave it out to take what the labels say.")

    def _split(self, examples: Examples, classes: np.ndarray) -> tuple[Examples, Examples | None]:
        """Examples to learn from, and those to choose by."""
        asked = self.repurposer
        if not isinstance(asked.validation, Real | None):
            return examples, self._given(asked.validation, classes)
        if not asked.validation:
            return examples, None
        held_out = held_out_rows(examples.codes, float(asked.validation), self._child("validation"))
        if not len(held_out):
            return examples, None
        rest = np.setdiff1d(np.arange(len(examples)), held_out)
        return examples.rows(rest), examples.rows(held_out).plain()

    def _given(self, validation: Any, classes: np.ndarray) -> Examples:
        """Validation data that were given."""
        name = type(self.repurposer).__name__
        owner = f"{name}, validation"
        features, _ = self._read(owner, *data_and_labels(name, "validation", validation))
        codes = known_codes(owner, features, classes)
        return Examples({name: features[name] for name in features.layers}, codes)

    def _through(self, examples: Examples, network: Network, cut: Frontier, folder: str) -> Examples:
        asked = self.repurposer
        return examples.through(network, cut.layers + cut.inputs, asked._engine(), asked.batch_size, folder)

    def _outputs(self, network: Network, examples: Examples, layer: str) -> np.ndarray:
        """One layer's outputs for every example as it came, (n, d)."""
        asked = self.repurposer
        found = examples.plain().through(network, (layer,), asked._engine(), asked.batch_size, self.folder).arrays[layer]
        return np.asarray(found[:]).reshape(len(examples), -1)

    # --- training ---------------------------------------------------------------------------------------------------

    def _train(self, start: Network, train: Examples, held_out: Examples | None, transferred: Collection[str],
               weights: np.ndarray | None) -> tuple[Network, list[dict[str, float]], int]:
        """The phases one after another; the network, all epochs, and the best of them."""
        asked = self.repurposer
        phases = _phases(start, transferred, asked.gradual_unfreezing)[-asked.num_epochs:]
        shares = [len(share) for share in np.array_split(np.arange(asked.num_epochs), len(phases))]
        network, best = start, 0
        history: list[dict[str, float]] = []
        for number, (frozen, epochs) in enumerate(zip(phases, shares, strict=True), 1):
            working = replace(network, frozen=network.frozen | frozen)
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                data, checked = train, held_out
                cut = self._cut(working, train.views) if frozen else None
                if cut:
                    data = self._through(train, working, cut, folder)
                    checked = None if held_out is None else self._through(held_out, working, cut, folder)
                    working = replace(cut.upper, input_shapes=data.shapes())
                block = targets.to_training_block(working, asked._contexts())
                rates = _rates(working, transferred, asked.transferred_rate, asked.depth_decay)
                kept = asked.checkpoint_dir
                if kept is not None and len(phases) > 1:
                    kept = os.path.join(kept, f"phase-{number}")
                seed = self._child(f"phase {number}")
                trainer = asked._trainer(block, epochs, rates, weights, data.views, kept, seed, history,
                                         asked._make_penalty(working))
                try:
                    trainer.fit(data.inputs(working), data.codes,
                                None if checked is None else (checked.inputs(working), checked.codes))
                except TrainingError as error:
                    if not best:
                        raise
                    warnings.warn(f"{error} The parameters of epoch {best} are kept.", RuntimeWarning, stacklevel=4)
                    break
            network = params.with_params(network, targets.from_block(working, block).params)
            if trainer.best_epoch_:
                best, self._averaged = len(history) + trainer.best_epoch_, trainer.averaged_
            said = {"phase": number} if len(phases) > 1 else {}
            history += [{**line, **said} for line in trainer.lines()[len(history):]]
            if trainer.stop:
                break
        return network, history, best

    def _transferred(self, target: Network) -> frozenset[str]:
        """Parameters whose values are those of the source."""
        return frozenset(name for name, array in target.params.items() if array is self.source.params.get(name))

    def _probed_widths(self, target: Network) -> list[int]:
        """Of the layers whose outputs lie side by side in the one that is probed; none where none is."""
        last = self.repurposer._probed_layer(target)
        if last is None:
            return []
        sizes = symbols.layer_shapes(target)
        return [math.prod(sizes.get(name) or ()) for name in stages.parts_of(target.graph, last)]

    def _with_probe(self, network: Network, examples: Examples, weights: np.ndarray | None,
                    widths: Sequence[int]) -> Network:
        """The network with its last dense layer taken from a logistic regression, where the method has one.

        Where that layer reads more than the probed one, side by side, the probed one is the first: the others' weights are
        zero. So are those of means of layers that the regression is not better with. It is fitted to 5,000 examples at most,
        and to fewer where they have more than 13,000 features.
        """
        asked = self.repurposer
        last = asked._probed_layer(network)
        if last is None:
            return network
        shape = examples.shapes().get(last)
        if shape is None:
            _, (found,) = symbols.infer_shapes(network, outputs=[query.resolve_output(network.graph, last)])
            shape = (found or ())[1:]
        count = min(_PROBE_ROWS, max(500, _PROBE_NUMBERS // math.prod(shape)))
        seed = self._child("start")
        chosen = examples.rows(_spread_rows(examples.codes, count, seed))
        of_class = None if weights is None else dict(enumerate(weights.tolist()))
        read = self._outputs(network, chosen, last)
        columns = helpful_columns(read, chosen.codes, widths, of_class, seed)
        head = LogisticRegressionHead(class_weight=of_class, random_state=seed)
        weight, bias = head.fit(np.take(read, columns, axis=1), chosen.codes).linear_form()
        names = network.layer_parameters[answering_layer(network)]
        whole = np.zeros(network.params[names[0]].shape, np.float32)
        whole[:, columns] = weight
        return params.with_params(network, dict(zip(names, (mx.nd.array(whole), mx.nd.array(bias)), strict=True)))

    def _child(self, purpose: str) -> int:
        return child_seed(self.seed, purpose)


def _spread_rows(codes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """About `count` rows, sorted, of every class in proportion, at least one."""
    if len(codes) <= count:
        return np.arange(len(codes))
    order = np.random.default_rng(seed).permutation(len(codes))
    first = np.unique(codes[order], return_index=True)[1]
    return np.unique(order[np.concatenate([first, np.arange(count)])])


def _phases(network: Network, transferred: Collection[str], groups: int) -> list[frozenset[str]]:
    """Layers to hold in each phase: all that came from the source, then from the output down a group fewer, then none."""
    clusters: list[tuple[set[str], set[str]]] = []  # layers, and parameters, that only move together
    for layer, own in _moving_layers(network, transferred):
        sharing = [cluster for cluster in clusters if cluster[1] & set(own)]
        clusters = [cluster for cluster in clusters if cluster not in sharing]
        clusters.append(({layer}.union(*(layers for layers, _ in sharing)),
                         set(own).union(*(names for _, names in sharing))))
    ends = np.linspace(len(clusters), 0, min(groups, len(clusters)) + 1).round().astype(int) if groups else [0]
    return [frozenset(layer for layers, _ in clusters[:end] for layer in layers) for end in ends]


def _rates(network: Network, transferred: Collection[str], rate: float, decay: float) -> dict[str, float]:
    """Multipliers of the learning rate of transferred parameters, smaller with every such layer on the way to the logits."""
    moving = dict(_moving_layers(network, transferred))
    depths = {network.graph.outputs[0].node: 0}  # of nodes: layers of `moving` behind them, on the longest way
    for node in reversed(network.graph.nodes):
        if node.name in depths:
            for edge in node.inputs:
                depths[edge.node] = max(depths.get(edge.node, 0), depths[node.name] + (node.name in moving))
    rates: dict[str, float] = {}
    for layer, own in moving.items():
        for name in own:
            rates[name] = min(rates.get(name, rate), rate * decay**depths.get(layer, 0))
    return rates


def _moving_layers(network: Network, transferred: Collection[str]) -> list[tuple[str, list[str]]]:
    """Layers with transferred parameters that training may change, from the input up, and those parameters."""
    chosen = set(transferred) & set(network.arg_params) - network.frozen_parameters
    owned = ((layer, [name for name in names if name in chosen]) for layer, names in network.layer_parameters.items())
    return [(layer, own) for layer, own in owned if own]
