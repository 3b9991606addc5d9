"""Repurposers that put a trained module beside the frozen source instead of changing it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from xfer2._mxnet import mx
from xfer2.exceptions import ModelError
from xfer2.model_handler import edits, sources, symbols
from xfer2.model_handler.answers import last_features
from xfer2.model_handler.graph import query, stages, towers
from xfer2.model_handler.graph.compose import fresh_name
from xfer2.model_handler.graph.model import Graph
from xfer2.model_handler.handler import ModelHandler
from xfer2.model_handler.network import Network
from xfer2.repurposers._layers import add_dense
from xfer2.repurposers._probed import ProbedRepurposer

_PARTS = ("source", "module", "features")


class TowerRepurposer(ProbedRepurposer):
    """Base of repurposers with a frozen source and a module beside it, whose features meet in one dense layer.

    The dense layer starts as a logistic regression on the source's features and means of its earlier maps, with no weight
    on the module's: before training the target is what `LrRepurposer` gives, and where no epoch has a lower validation
    loss, that is what predicts. Dropout in the source is left out: it is frozen, and computes what it computes when it
    predicts.

    Parameters
    ----------
    source_model, transfer_layer_name, target_class_count, context_function, num_devices, batch_size, num_epochs
        See `ProbedRepurposer`.
    **settings
        See `ProbedRepurposer`, `intermediate_layers` among them, which the paper does not have, and
        `NeuralNetworkRepurposer`. What is trained here is new, a module that begins as a copy of the source too: nothing has
        `transferred_rate`, and `depth_decay` and `gradual_unfreezing` are refused.
    """

    def __init__(self, source_model: Any, transfer_layer_name: str | None = None, target_class_count: int | None = None,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, batch_size: int = 64,
                 num_epochs: int = 60, **settings: Any) -> None:
        super().__init__(source_model, transfer_layer_name, target_class_count, context_function, num_devices, batch_size,
                         num_epochs, **settings)

    def _joined(self, network: Network, source: Network, class_count: int,
                hidden_units: Sequence[int] = ()) -> ModelHandler:
        """Dense layers on two outputs of a network: the features of the source, which is in it, and those of the module."""
        self._check_parts(network)
        graph, taken = network.graph, network.graph.by_name
        features, module = graph.outputs
        names = [fresh_name(f"target_{part}", taken) for part in _PARTS]
        groups, shapes = self._below(source)
        graph = stages.read_together(graph, features, groups, shapes, names[0])
        network = edits.extract(network.with_graph(graph), [names[0], query.output_name(graph, module)])
        x = mx.sym.Flatten(mx.sym.var("module"), name=names[1])
        x = mx.sym.Concat(mx.sym.var("source"), x, dim=1, name=names[2])
        for number, size in enumerate(hidden_units):
            x = mx.sym.FullyConnected(x, num_hidden=size, name=fresh_name(f"target_dense{number}", taken))
            x = mx.sym.Activation(x, act_type="relu", name=fresh_name(f"target_relu{number}", taken))
        return add_dense(ModelHandler(edits.compose_networks(network, sources.read(x))), class_count)

    def _check_parts(self, network: Network) -> None:
        """Raise where source and module are not two outputs of features."""
        owner = type(self).__name__
        _, shapes = symbols.infer_shapes(network)
        if len(shapes) != 2:
            raise ModelError(f"{owner}: the module must have one output, its features; it has {len(shapes) - 1}. Name one, "
                             "as ModelHandler(module).extract(layer) does.")
        for part, shape in zip(_PARTS, shapes, strict=False):
            if shape is not None and len(shape) < 2:
                raise ModelError(f"{owner}: the {part} must give features (n, ...); its output has the shape {shape}.")
        ranks = [2 if shape is None or math.prod(shape[2:]) == 1 else len(shape) for shape in shapes]
        if ranks[1] not in (2, ranks[0]):
            raise ModelError(f"{owner}: the module must give features (n, d); its output has the shape {shapes[1]}, the "
                             f"source's {shapes[0]}. Put global pooling or Flatten on it.")

    def _probed_layer(self, network: Network) -> str | None:
        joint = network.graph.by_name[last_features(network)]
        return joint.inputs[0].node if joint.op == "Concat" else None  # else what hidden units make of both


def as_frozen(source: Network, graph: Graph | None = None) -> Network:
    """The source, or a graph that has its layers and more, with these as they predict: frozen, without Dropout."""
    layers = source.graph.layer_names
    graph = towers.without_dropout(graph or source.graph, layers)
    return edits.with_graph(source, graph, frozen=frozenset(layers).intersection(graph.by_name))


def check_unfused(owner: str, network: Network) -> None:
    """Raise where layers are inside one operator, where no other network can run beside them."""
    fused = [node.name for node in network.graph.nodes if node.op == "RNN"]
    if fused:
        raise ModelError(f"{owner}: the recurrent layers of {fused[0]!r} are inside one operator (RNN), which has no layer "
                         "pairs. Give the network with cells unrolled, or use TwoTowerRepurposer.")


def module_features(network: Network) -> str:
    """The layer that gives the module's features, flat."""
    joint = [node for node in network.graph.nodes if node.op == "Concat" and node.name.startswith(f"target_{_PARTS[2]}")]
    return joint[-1].inputs[1].node


def fresh_prefix(network: Network, prefix: str) -> str:
    """The prefix, with underscores behind it while a name of the network begins with it."""
    while any(name.startswith(prefix) for name in network.graph.by_name):
        prefix += "_"
    return prefix
