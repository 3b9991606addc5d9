"""What is put in the place of a network's answer."""

from __future__ import annotations

from collections.abc import Sequence

from xfer2._mxnet import mx
from xfer2.model_handler import edits
from xfer2.model_handler.answers import readable
from xfer2.model_handler.graph.compose import fresh_name
from xfer2.model_handler.graph.model import Edge, Graph, Node
from xfer2.model_handler.handler import ModelHandler
from xfer2.model_handler.network import Network


def with_outputs(network: Network, layers: Sequence[str]) -> Network:
    """The network with its first output, then those of some layers."""
    return edits.extract(network, [network.graph.outputs[0].node, *layers])


def cut(source: ModelHandler, layer: str) -> ModelHandler:
    """The source up to a layer, its output what a new dense layer reads."""
    network, name = readable(source.network, layer, source.network.graph.outputs[0])
    return ModelHandler(network).truncate(name)


def add_dense(handler: ModelHandler, class_count: int) -> ModelHandler:
    """A dense layer on the output, its parameters without values."""
    name = fresh_name("target_logits", handler.network.graph.by_name)
    return handler.add_layer_top(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=class_count, name=name))


def served(network: Network, temperature: float, prefix: str) -> tuple[Network, str]:
    """The network with its first output divided by a temperature and a softmax on it, and the softmax's name."""
    graph = network.graph
    scaled, probabilities = (fresh_name(f"{prefix}_{name}", graph.by_name) for name in ("scaled", "probabilities"))
    tail = (Node(scaled, "_mul_scalar", {"scalar": repr(1 / temperature)}, graph.outputs[:1]),
            Node(probabilities, "softmax", {"axis": "-1"}, (Edge(scaled),)))
    whole = Graph(graph.nodes + tail, (Edge(probabilities), *graph.outputs[1:]), graph.attrs)
    return edits.with_graph(network, whole, frozen=frozenset()), probabilities
