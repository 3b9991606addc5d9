"""Heads beside heads: a new one on an inner layer, and the old ones held to what they said before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from xfer2.exceptions import ModelError
from xfer2.model_handler.graph import compose, operators, query
from xfer2.model_handler.graph.model import Edge, Graph, Node

_SCALED = operators.SHAPING | {"_mul_scalar", "_div_scalar"}  # between a head and its softmax
_POOLED = _SCALED | {"Pooling", "Activation", "relu", "Dropout", "mean"}  # where the head is a convolution


def find_logits(graph: Graph, output: Edge, owner: str, remedy: str) -> tuple[str, int, float]:
    """What the softmax of a classifier's output reads, how many logits its head has, and the softmax's temperature.

    Parameters
    ----------
    graph : Graph
    output : Edge
        With no softmax, it is taken for the logits. The head is a dense layer with nothing but a scale behind it, or a
        convolution that may be pooled.
    owner, remedy : str
        For the message.

    Raises
    ------
    ModelError
        There is no such head.
    """
    node, temperature = graph.by_name[output.node], 1.0
    while node.op in operators.SOFTMAXES | operators.SHAPING:
        if node.op in operators.SOFTMAXES:
            output = node.inputs[0]
            given = node.attrs.get("temperature", "None")
            temperature = 1.0 if given == "None" else float(given)
        node = graph.by_name[node.inputs[0].node]
    last = node
    while node.op in _SCALED:
        node = graph.by_name[node.inputs[0].node]
    if node.op == "FullyConnected":
        return output.node, int(node.attrs["num_hidden"]), temperature
    while node.op in _POOLED:
        node = graph.by_name[node.inputs[0].node]
    if node.op == "Convolution":
        return output.node, int(node.attrs["num_filter"]), temperature
    raise ModelError(f"{owner}: the source has no head, a dense layer or a convolution with nothing but pooling and softmax "
                     f"behind it: its output comes from {last.name!r} ({last.op or 'an input'}). {remedy}")


def with_head(graph: Graph, layer: str, name: str, count: int) -> Graph:
    """The graph with a dense layer of `count` outputs on one of its layers, as the first of its outputs."""
    weight, bias = Node(f"{name}_weight"), Node(f"{name}_bias")
    read = query.resolve_output(graph, layer)
    graph.layer(read.node)
    head = Node(name, "FullyConnected", {"num_hidden": str(count)}, (read, Edge(weight.name), Edge(bias.name)))
    return Graph((*graph.nodes, weight, bias, head), (Edge(name), *graph.outputs), graph.attrs)


def as_predicted(graph: Graph) -> Graph:
    """The graph with outputs as they are without Dropout: what is above one has a copy beside it, parameters in common.

    Where BatchNorm is above it, nothing is changed: its statistics are of one place.
    """
    needed = query.ancestors(graph, [edge.node for edge in graph.outputs])
    copies: list[Node] = []
    routes: dict[tuple[str, int], Edge] = {}
    for node in graph.nodes:
        if node.name not in needed:
            continue
        if node.op == "Dropout":
            routes[node.name, 0] = routes.get(node.inputs[0][:2], node.inputs[0])
            continue
        moved = compose.redirect(node, routes)
        if moved is not node:
            copies.append(replace(moved, name=compose.fresh_name(f"{node.name}_sure", graph.by_name)))
            routes.update({(node.name, number): Edge(copies[-1].name, number)
                           for number in query.used_outputs(graph, node.name)})
    if any(node.op in operators.BATCH_NORMS for node in copies):
        return graph
    return Graph((*graph.nodes, *copies), tuple(routes.get(edge[:2], edge) for edge in graph.outputs), graph.attrs)


def distilled(graph: Graph, count: int, temperature: float) -> Graph:
    """The graph with, in place of its last outputs, what some softmaxes' cross-entropy with earlier ones is, (n,).

    The last `count` outputs are logits of before, as many ahead of them the logits now; `temperature` softens both.

    References
    ----------
    Li and Hoiem 2016, Learning without Forgetting, arXiv:1606.09282, equations 2 and 3.
    """
    nodes, ends = list(graph.nodes), list(graph.outputs[:-2 * count])

    def put(name: str, op: str, attrs: Mapping[str, str], *inputs: Edge) -> Edge:
        nodes.append(Node(compose.fresh_name(name, graph.by_name), op, attrs, inputs))
        return Edge(nodes[-1].name)

    softness = {"axis": "-1", "temperature": repr(float(temperature))}
    for now, before in zip(graph.outputs[-2 * count:-count], graph.outputs[-count:], strict=True):
        said = put(f"{before.node}_said", "softmax", softness, before)
        says = put(f"{now.node}_says", "log_softmax", softness, now)
        total = put(f"{now.node}_total", "sum", {"axis": "1"}, put(f"{now.node}_product", "elemwise_mul", {}, said, says))
        ends.append(put(f"{now.node}_distillation", "_mul_scalar", {"scalar": "-1.0"}, total))
    return Graph(tuple(nodes), tuple(ends), graph.attrs)
