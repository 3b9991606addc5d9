"""Which layer gives a network's answer, and what a new answer would read."""

from __future__ import annotations

import math
from collections.abc import Callable

from xfer2._validation import check_kind
from xfer2.exceptions import ModelError
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import edit, operators, query, stages
from xfer2.model_handler.graph.compose import fresh_name
from xfer2.model_handler.graph.model import Edge, Graph, Node
from xfer2.model_handler.network import Network


def answering_layer(network: Network) -> str:
    """The dense layer or convolution nearest to the first output."""
    graph = network.graph
    return edit.head_layer(Graph(graph.nodes, graph.outputs[:1], graph.attrs))


def check_is_below_the_answer(owner: str, network: Network, layer: str) -> None:
    """Raise where a layer is the network's own answer, or above it."""
    graph = network.graph
    check_kind(owner, "transfer_layer_name", layer, str, "a layer's name")
    node, *answers = (query.below(graph, edge.node, operators.SHAPING)
                      for edge in (query.resolve_output(graph, layer), *graph.outputs))
    if node.op in operators.ANSWERS and node in answers:
        below = query.data_edges(graph, node, network.params)[0].node
        raise ModelError(f"{owner}: transfer_layer_name must be a layer below the source's own answer; {layer!r} is at or "
                         f"above its {node.op} layer {node.name!r}. The layer below is {below!r}.")


def readable(network: Network, layer: str, answer: Edge) -> tuple[Network, str]:
    """The network with, and the name of, what a new dense layer reads of a layer.

    Where a convolution answers at every place, and the mean of these is the network's answer, it is the mean of the layer's
    maps: from it a dense layer gives what a convolution of one place and the mean over them would. Else it is the layer.
    """
    graph, read = network.graph, query.resolve_output(network.graph, layer)
    try:
        head = graph.by_name[edit.head_layer(Graph(graph.nodes, (answer,), graph.attrs))]
    except ModelError:
        return network, layer
    if head.op != "Convolution" or not _is_averaged(graph, head, answer) or graph.by_name[read.node].is_variable:
        return network, layer
    at_places, found, answered = (_shape(network, edge) for edge in (Edge(head.name), read, answer))
    if at_places is None or found is None or len(found) != len(at_places):
        return network, layer
    if math.prod(at_places) == at_places[0] or math.prod(found) == found[0]:  # one place
        return network, layer
    if answered is not None and math.prod(answered) != at_places[0]:
        return network, layer
    name = fresh_name("target_mean", graph.by_name)
    mean = Node(name, "Pooling", {"pool_type": "avg", "global_pool": "True", "kernel": str((1,) * len(found[1:]))}, (read,))
    return network.with_graph(Graph((*graph.nodes, mean), graph.outputs, graph.attrs)), name


def _shape(network: Network, edge: Edge) -> tuple[int, ...] | None:
    """Without the batch axis; None where it does not follow, or the layers up to there take images of another size."""
    try:
        _, (shape,) = symbols.infer_shapes(network, outputs=[edge])
    except ModelError:
        return None
    return None if shape is None else shape[1:]


def _is_averaged(graph: Graph, head: Node, answer: Edge) -> bool:
    """Whether a mean is taken between a layer and what the network answers with."""
    needed, above = query.ancestors(graph, [answer.node]), {head.name}
    for node in graph.nodes:
        if node.name in needed and any(edge.node in above for edge in node.inputs):
            above.add(node.name)
            if operators.is_mean(node):
                return True
    return False


def with_layers(owner: str, network: Network, names: tuple[str, ...],
                shaped: Callable[[], Network] | None = None) -> tuple[Network, tuple[str, ...]]:
    """The network with the layers that are asked for, and their names.

    These are as they come, but for ``"stages"`` where no layer has that name: the features, then means of what the network
    knows below them. Means need the sizes of maps; `shaped` gives the network with the shapes that its data have.
    """
    if names != (stages.STAGES,) or stages.STAGES in network.graph.by_name:
        return network, names
    network = network if shaped is None else shaped()
    features = features_layer(owner, network, "Name the layers.")
    network, features = readable(network, features, network.graph.outputs[0])
    below = network.with_graph(edit.extract(network.graph, [features], known=network.params))
    shapes = symbols.layer_shapes(below)
    groups = stages.stages(below.graph, below.parameter_names, shapes)
    graph, means = stages.with_means(network.graph, groups, shapes)
    return network.with_graph(graph), (features, *means)


def features_layer(owner: str, network: Network, remedy: str) -> str:
    """What the last dense layer or convolution of a source reads; `remedy` is for the message where there is none."""
    head = network.graph.by_name[edit.head_layer(network.graph, owner, remedy)]
    return query.data_edges(network.graph, head, network.params)[0].node


def last_features(network: Network) -> str:
    """The layer or input that the last dense layer reads; the output where there is none."""
    try:
        head = answering_layer(network)
    except ModelError:
        return network.graph.outputs[0].node
    return query.output_name(network.graph, network.graph.by_name[head].inputs[0])
