"""Heads beside heads: a new one on an inner layer, and the old ones held to what they said before."""

from __future__ import annotations

from dataclasses import replace

from xfer2.exceptions import ModelError
from xfer2.model_handler.graph import compose, query
from xfer2.model_handler.graph.model import Edge, Graph, Node

_POOLED = query.SHAPING | {"Pooling", "Activation", "relu", "Dropout", "mean"}  # may follow a convolution that answers
_SCALED = frozenset({"_mul_scalar", "_div_scalar"})


def find_logits(graph: Graph, output: Edge, owner: str, remedy: str) -> tuple[str, int]:
    """The layer that gives the logits of an output, what its softmax reads or the output itself, and how many there are.

    Parameters
    ----------
    graph : Graph
    output : Edge
        A classifier's: below it, with nothing between but softmax and shape, is a dense layer, or a convolution that is
        pooled.
    owner, remedy : str
        For the message.

    Raises
    ------
    ModelError
        There is no such head.
    """
    node = graph.by_name[output.node]
    while node.op in query.ANSWERS | query.SHAPING | _SCALED:
        if node.op in query.ANSWERS | _SCALED:
            output = node.inputs[0]
        node = graph.by_name[node.inputs[0].node]
    head = node
    while head.op in _POOLED:
        head = graph.by_name[head.inputs[0].node]
    if node.op != "FullyConnected" and not (head.op == "Convolution" and head is not node):
        raise ModelError(f"{owner}: the source has no head, a dense layer or a pooled convolution with nothing but softmax "
                         f"behind it: its output comes from {node.name!r} ({node.op or 'an input'}). {remedy}")
    return output.node, int(head.attrs["num_hidden" if head.op == "FullyConnected" else "num_filter"])


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
            copies.append(replace(moved, name=f"{node.name}_sure"))
            routes.update({(node.name, number): Edge(copies[-1].name, number)
                           for number in query.used_outputs(graph, node.name)})
    if any(node.op in query.BATCH_NORMS for node in copies):
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
    for now, before in zip(graph.outputs[-2 * count:-count], graph.outputs[-count:], strict=True):
        layer, softness = now.node, {"axis": "-1", "temperature": repr(float(temperature))}
        said = Node(f"{before.node}_said", "softmax", softness, (before,))
        says = Node(f"{layer}_says", "log_softmax", softness, (now,))
        product = Node(f"{layer}_product", "elemwise_mul", {}, (Edge(said.name), Edge(says.name)))
        total = Node(f"{layer}_total", "sum", {"axis": "1"}, (Edge(product.name),))
        loss = Node(f"{layer}_distillation", "_mul_scalar", {"scalar": "-1.0"}, (Edge(total.name),))
        nodes += [said, says, product, total, loss]
        ends.append(Edge(loss.name))
    return Graph(tuple(nodes), tuple(ends), graph.attrs)
