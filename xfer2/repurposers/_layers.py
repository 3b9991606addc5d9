"""What is put in the place of a network's answer, and what that reads."""

from __future__ import annotations

from collections.abc import Sequence

from xfer2._mxnet import mx
from xfer2.model_handler import edits
from xfer2.model_handler.answers import check_is_below_the_answer, features_layer, readable
from xfer2.model_handler.graph import stages
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


def up_to_features(owner: str, source: ModelHandler, layer: str | None) -> Network:
    """The source up to a layer, by default what its last dense layer or convolution reads; see `cut`."""
    if layer is not None:
        check_is_below_the_answer(owner, source.network, layer)
    return cut(source, layer or features_layer(owner, source.network, "Say transfer_layer_name.")).network


def add_dense(handler: ModelHandler, class_count: int) -> ModelHandler:
    """A dense layer on the output, its parameters without values."""
    name = fresh_name("target_logits", handler.network.graph.by_name)
    return handler.add_layer_top(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=class_count, name=name))


def reading_below(network: Network, groups: Sequence[Sequence[str]], shapes: stages.Shapes) -> Network:
    """The network with, as its output, its features and the means of groups of layers side by side; as it is without any."""
    if not groups:
        return network
    graph, read = network.graph, fresh_name("target_read", network.graph.by_name)
    whole = stages.read_together(graph, graph.outputs[0], groups, shapes, read)
    return network.with_graph(Graph(whole.nodes, (Edge(read),), whole.attrs))


def served(network: Network, temperature: float, prefix: str) -> tuple[Network, str]:
    """The network with its first output divided by a temperature and a softmax on it, and the softmax's name."""
    graph = network.graph
    scaled, probabilities = (fresh_name(f"{prefix}_{name}", graph.by_name) for name in ("scaled", "probabilities"))
    tail = (Node(scaled, "_mul_scalar", {"scalar": repr(1 / temperature)}, graph.outputs[:1]),
            Node(probabilities, "softmax", {"axis": "-1"}, (Edge(scaled),)))
    whole = Graph(graph.nodes + tail, (Edge(probabilities), *graph.outputs[1:]), graph.attrs)
    return edits.with_graph(network, whole, frozen=frozenset()), probabilities
