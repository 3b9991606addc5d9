"""What a network knows below its features: the last maps of each size, the states of recurrent layers, and their means."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from xfer2.model_handler.graph import operators, query
from xfer2.model_handler.graph.compose import fresh_name
from xfer2.model_handler.graph.model import Edge, Graph, Node
from xfer2.model_handler.graph.pairs import all_pairs

STAGES = "stages"  # how they are asked for together
_TOGETHER = "__together__"  # attribute of a layer that has features and means side by side
_MAKES_MAPS = operators.BATCH_NORMS | operators.ACTIVATIONS | operators.SUMS | {"Convolution", "Concat", "concat"}
_PARTS = 3  # of a map's height and width, and of a recurrent layer's steps
_MOST = 1024  # means of a layer's maps
Shapes = Mapping[str, tuple[int, ...] | None]


def stages(graph: Graph, parameters: Collection[str], shapes: Shapes) -> list[tuple[str, ...]]:
    """Layers below the features whose means say more of an example than these do alone.

    Parameters
    ----------
    graph : Graph
        Up to the features, its first output.
    parameters : collection of str
        Its parameters.
    shapes : mapping of str to tuple of int
        Output shapes of its layers, without the batch axis.

    Returns
    -------
    list of tuple of str
        The last layer of maps of each size, from the input up; and the steps of each unrolled recurrent layer in three
        parts, early to late.
    """
    recurrent = [pair.ends for pair in all_pairs(graph, parameters) if pair.is_recurrent]
    return [(name,) for name in stage_ends(graph, shapes)] + [part for steps in recurrent for part in _in_parts(steps)]


def stage_ends(graph: Graph, shapes: Shapes) -> list[str]:
    """The last layer of maps of each size, from the input up, but for the graph's first output.

    Sizes are alike that differ by less than a halving; poolings are no ends: they only make maps smaller. Nor is a layer
    whose mean is read, where that is the first output. Other than convolutional networks, and those whose channels come
    last, have none.
    """
    if any(node.attrs.get("layout", "None") not in ("None", "NCHW") for node in graph.nodes if node.op == "Convolution"):
        return []
    areas = {}
    for node in graph.nodes:
        shape = shapes.get(node.name)
        if node.op in _MAKES_MAPS and shape is not None and len(shape) == 3 and math.prod(shape[1:]) > 1:
            areas[node.name] = math.prod(shape[1:])
    largest = max(areas.values(), default=1)
    ends = {round(math.log2(largest / area) / 2): name for name, area in areas.items()}
    known = _averaged(graph, shapes)
    return [name for _, name in sorted(ends.items())
            if name != graph.outputs[0].node and (name != known or _fields(shapes[name] or ()) > 1)]


def with_means(graph: Graph, groups: Sequence[Sequence[str]], shapes: Shapes) -> tuple[Graph, list[str]]:
    """The graph with the mean of every group of layers, and their names; a layer alone that gives no maps is as it is, flat.

    Maps are averaged over 3 by 3 fields, or fewer where that is more than 1,024 numbers or the maps are smaller, and flat.
    """
    taken = set(graph.by_name)
    nodes: list[Node] = []

    def put(name: str, op: str, attrs: Mapping[str, str], *inputs: str) -> str:
        nodes.append(Node(fresh_name(name, taken), op, dict(attrs), tuple(map(Edge, inputs))))
        taken.add(nodes[-1].name)
        return nodes[-1].name

    names = []
    for group in groups:
        first, last = group[0], group[-1]
        shape = shapes.get(first)
        if len(group) > 1:
            total = put(f"{first}_to_{last}_sum", "add_n", {"num_args": str(len(group))}, *group)
            names.append(put(f"{first}_to_{last}_mean", "_mul_scalar", {"scalar": repr(1 / len(group))}, total))
        elif shape is None or len(shape) != 3:
            names.append(first if shape and len(shape) == 1 else put(f"{first}_flat", "Flatten", {}, first))
        else:
            fields = _fields(shape)
            strides = [size // fields for size in shape[1:]]
            kernel = [size - (fields - 1) * stride for size, stride in zip(shape[1:], strides, strict=True)]
            attrs = {"pool_type": "avg", "kernel": str(tuple(kernel)), "stride": str(tuple(strides))}
            names.append(put(f"{first}_means", "Flatten", {}, put(f"{first}_fields", "Pooling", attrs, first)))
    return Graph((*graph.nodes, *nodes), graph.outputs, graph.attrs), names


def read_together(graph: Graph, features: Edge, groups: Sequence[Sequence[str]], shapes: Shapes, name: str) -> Graph:
    """The graph with a layer `name` that has the features, flat, and the means of groups of layers side by side."""
    graph, means = with_means(graph, groups, shapes)
    flat = Node(fresh_name(f"{name}_last", graph.by_name), "Flatten", {}, (features,))
    together = Node(name, "Concat", {"num_args": str(1 + len(means)), "dim": "1", _TOGETHER: "True"},
                    (Edge(flat.name), *map(Edge, means)))
    return Graph((*graph.nodes, flat, together), graph.outputs, graph.attrs)


def parts_of(graph: Graph, layer: str) -> tuple[str, ...]:
    """The layers that `read_together` put side by side in a layer; of another, itself."""
    node = graph.by_name.get(layer)
    return tuple(edge.node for edge in node.inputs) if node is not None and _TOGETHER in node.attrs else (layer,)


def _in_parts(steps: tuple[str, ...]) -> list[tuple[str, ...]]:
    ends = [round(len(steps) * part / _PARTS) for part in range(_PARTS + 1)]
    return [steps[start:end] for start, end in pairwise(ends) if start < end]


def _fields(shape: tuple[int, ...]) -> int:
    """In how many parts the height and the width of maps (c, h, w) are averaged."""
    return max(count for count in range(1, _PARTS + 1)
               if count == 1 or (count <= min(shape[1:]) and shape[0] * count**2 <= _MOST))


def _averaged(graph: Graph, shapes: Shapes) -> str | None:
    """The layer whose mean over all places is the first output, if that is one."""
    node = query.below(graph, graph.outputs[0].node, operators.SHAPING)
    shape = shapes.get(node.name)
    if shape is None or math.prod(shape) != shape[0] or not operators.is_mean(node):
        return None
    return query.below(graph, node.inputs[0].node, {"Dropout"}).name

