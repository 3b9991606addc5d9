"""One fit of a target network: read, cut above what is frozen, hold out, train, temper, measure distances."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2._random import child_seed
from xfer2._validation import parameter_error
from xfer2.exceptions import ModelError, TrainingError
from xfer2.heads.blocks import helpful_regression
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
from xfer2.repurposers._phases import Kept, Phase, StopAfter, best_of, held_layers, learning_rates
from xfer2.training.loop import Trainer
from xfer2.training.losses import class_weights
from xfer2.uncertainty.calibration import useful_temperature

logger = logging.getLogger("xfer2")

_STOPPED = "Training was stopped before its first epoch ended; the parameters of the start are kept."
_REFITTED = " As many epochs were then trained anew on all examples."
_PROBE_ROWS = 5000
_REFIT_ROWS = 5000
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
        weighted = partial(class_weights, type(asked).__name__, asked.class_weight, classes=classes.tolist())
        widths, transferred = self._probed_widths(target), self._transferred(target)
        start, columns = self._with_probe(part, train.plain(), weighted(train.codes), widths)
        trained, history, kept = self._train(start, train, held_out, transferred, weighted(train.codes))
        best, averaged = best_of(kept)
        logits, last = trained.graph.outputs[0].node, last_features(trained)
        held = held_out is not None and len(train) < len(examples)  # out of the examples
        again = asked.refit and held and not any(one.interrupted for one in kept)
        temperature = 1.0
        if held_out is not None and asked.calibrate and (best or not again):
            temperature = useful_temperature(self._outputs(trained, held_out, logits), held_out.codes)
        outcome = asked._outcome(history, best, averaged) if history else _STOPPED
        if again and (not best or len(examples) <= _REFIT_ROWS):
            on_all = self._train_again(part, examples, transferred, weighted(examples.codes), columns, kept)
            trained = on_all or trained
            outcome += _REFITTED if best and on_all else ""
        values = {name: array for name, array in trained.params.items() if name in target.graph.by_name}
        whole, probabilities = served(params.with_params(target, values), temperature, asked._task())
        distances = _estimators.fit_distances(self._outputs(trained, examples, last), codes)
        cached = cut.layers if cut else ()
        more = asked._more_learned(trained, examples.plain(), self.folder)
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
        """Where the frozen part ends, if its outputs may be kept: not of examples that change from epoch to epoch."""
        asked = self.repurposer
        changing = asked.augment is not None or (asked.mixup > 0 and not _looked_up(network))  # words cannot be mixed
        return None if asked.cache is False or (changing and views < 2) else frontier(network)

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
        if asked.mixup and _looked_up(part):
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
               weights: np.ndarray | None) -> tuple[Network, list[dict[str, float]], list[Kept]]:
        """The phases one after another; the network, all epochs, and what was kept of each phase."""
        phases, network = self._phases(start, transferred), start
        history: list[dict[str, float]] = []
        kept: list[Kept] = []
        for number, phase in enumerate(phases, 1):
            try:
                network, trainer = self._run(network, phase, train, held_out, transferred, weights, earlier=history)
            except TrainingError as error:
                best, _ = best_of(kept)
                if not best:
                    raise
                warnings.warn(f"{error} The parameters of epoch {best} are kept.", RuntimeWarning, stacklevel=4)
                break
            kept.append(Kept(len(history), trainer.best_epoch_, trainer.averaged_, trainer.interrupted_))
            said = {"phase": number} if len(phases) > 1 else {}
            history += [{**line, **said} for line in trainer.lines()[len(history):]]
            if trainer.stop:
                break
        return network, history, kept

    def _train_again(self, part: Network, examples: Examples, transferred: Collection[str], weights: np.ndarray | None,
                     columns: np.ndarray | None, kept: Sequence[Kept]) -> Network | None:
        """The start and the phases once more, on all examples, each for as long as was kept; None where that failed."""
        failed = ""
        try:
            network = start = self._with_probe(part, examples.plain(), weights, columns=columns)[0]
            for phase, one in zip(self._phases(start, transferred, "refit"), kept, strict=False):
                if one.epochs:
                    network, trainer = self._run(network, phase, examples, None, transferred, weights,
                                                 callbacks=[StopAfter(one.epochs)], average_last=one.averaged)
                    if trainer.interrupted_ or len(trainer.history_) < one.epochs:
                        failed = "was interrupted" if trainer.interrupted_ else "diverged"
                        break
        except KeyboardInterrupt:
            failed = "was interrupted"
        except TrainingError:
            failed = "diverged"
        if failed:
            warnings.warn(f"The training on all examples {failed}; what was trained without those held out is kept.",
                          RuntimeWarning, stacklevel=4)
        return None if failed else network

    def _phases(self, start: Network, transferred: Collection[str], *folder: str) -> list[Phase]:
        """Layers to hold, epochs, and where the run is kept, in a folder of the checkpoints."""
        asked = self.repurposer
        held = held_layers(start, transferred, asked.gradual_unfreezing)[-asked.num_epochs:]
        shares = [len(share) for share in np.array_split(np.arange(asked.num_epochs), len(held))]
        names = [(*folder, f"phase-{number}") if len(held) > 1 else folder for number in range(1, len(held) + 1)]
        return [Phase(frozen, epochs, f"phase {number}", asked.checkpoint_dir and os.path.join(asked.checkpoint_dir, *own))
                for number, (frozen, epochs, own) in enumerate(zip(held, shares, names, strict=True), 1)]

    def _run(self, network: Network, phase: Phase, train: Examples, held_out: Examples | None, transferred: Collection[str],
             weights: np.ndarray | None, **settings: Any) -> tuple[Network, Trainer]:
        """The network after one phase, and what trained it."""
        asked = self.repurposer
        working = replace(network, frozen=network.frozen | phase.frozen)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            cut = self._cut(working, train.views) if phase.frozen else None
            if cut:
                train = self._through(train, working, cut, folder)
                held_out = None if held_out is None else self._through(held_out, working, cut, folder)
                working = replace(cut.upper, input_shapes=train.shapes())
            block = targets.to_training_block(working, asked._contexts())
            rates = learning_rates(working, transferred, asked.transferred_rate, asked.depth_decay)
            trainer = asked._trainer(block, epochs=phase.epochs, rates=rates, class_weights=weights, views=train.views,
                                     checkpoint_dir=phase.checkpoint_dir, random_state=self._child(phase.name),
                                     penalty=asked._make_penalty(working), **settings)
            trainer.fit(train.inputs(working), train.codes,
                        None if held_out is None else (held_out.inputs(working), held_out.codes))
        return params.with_params(network, targets.from_block(working, block).params), trainer

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

    def _with_probe(self, network: Network, examples: Examples, weights: np.ndarray | None, widths: Sequence[int] = (),
                    columns: np.ndarray | None = None) -> tuple[Network, np.ndarray | None]:
        """The network with its last dense layer taken from a logistic regression, and the columns that this reads.

        Unchanged, and None, where the method has no such layer. Where the layer reads more than the probed one, side by
        side, the probed one is the first: the others' weights are zero. So are those of columns that were not given, or, if
        none were, of means of layers that the regression is not better with. It is fitted to 5,000 examples at most, and to
        fewer where they have more than 13,000 features.
        """
        asked = self.repurposer
        last = asked._probed_layer(network)
        if last is None:
            return network, None
        shape = examples.shapes().get(last)
        if shape is None:
            _, (found,) = symbols.infer_shapes(network, outputs=[query.resolve_output(network.graph, last)])
            shape = (found or ())[1:]
        count = min(_PROBE_ROWS, max(500, _PROBE_NUMBERS // math.prod(shape)))
        seed = self._child("start")
        chosen = examples.rows(_spread_rows(examples.codes, count, seed))
        of_class = None if weights is None else dict(enumerate(weights.tolist()))
        read = self._outputs(network, chosen, last)
        if columns is None:
            columns, head = helpful_regression(read, chosen.codes, widths, of_class, seed)
        else:
            head = LogisticRegressionHead(class_weight=of_class, random_state=seed)
            head.fit(np.take(read, columns, axis=1), chosen.codes)
        weight, bias = head.linear_form()
        names = network.layer_parameters[answering_layer(network)]
        whole = np.zeros(network.params[names[0]].shape, np.float32)
        whole[:, columns] = weight
        values = dict(zip(names, (mx.nd.array(whole), mx.nd.array(bias)), strict=True))
        return params.with_params(network, values), columns

    def _child(self, purpose: str) -> int:
        return child_seed(self.seed, purpose)


def _looked_up(network: Network) -> set[str]:
    """Inputs of a network that are rows of a table."""
    rows = [operators.input_of(node, operators.ROW) for node in network.graph.nodes]
    return {edge.node for edge in rows if edge}.intersection(network.inputs)


def _spread_rows(codes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """About `count` rows, sorted, of every class in proportion, at least one."""
    if len(codes) <= count:
        return np.arange(len(codes))
    order = np.random.default_rng(seed).permutation(len(codes))
    first = np.unique(codes[order], return_index=True)[1]
    return np.unique(order[np.concatenate([first, np.arange(count)])])
