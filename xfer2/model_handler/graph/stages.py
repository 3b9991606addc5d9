"""Where the maps of a network get smaller: the last layer of each size."""

from __future__ import annotations

import math
from collections.abc import Mapping

from xfer2.model_handler.graph import operators
from xfer2.model_handler.graph.model import Graph

_MAKES_MAPS = operators.BATCH_NORMS | {
    "Convolution", "Activation", "LeakyReLU", "relu", "sigmoid", "tanh", "clip", "Concat", "concat", "elemwise_add",
    "_plus", "_Plus", "broadcast_add", "add_n", "ElementWiseSum"}


def stage_ends(graph: Graph, shapes: Mapping[str, tuple[int, ...] | None]) -> list[str]:
    """The last layer of maps of each size, from the input up, but for the graph's first output.

    Sizes are alike that differ by less than a halving; poolings are no ends: they only make maps smaller. Other than
    convolutional networks, and those whose channels come last, have none.

    Parameters
    ----------
    graph : Graph
    shapes : mapping of str to tuple of int
        Output shapes of its layers, without the batch axis.
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
    return [name for _, name in sorted(ends.items()) if name != graph.outputs[0].node]
