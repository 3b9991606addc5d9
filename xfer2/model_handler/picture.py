"""The graph as a picture, by graphviz."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xfer2._optional import require
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import query
from xfer2.model_handler.graph.model import Edge
from xfer2.model_handler.network import Network
from xfer2.model_handler.symbols import Shape


def draw(network: Network, input_shapes: Mapping[str, Shape] | None = None) -> Any:
    """A ``graphviz.Digraph`` of a network: layers with their types, output shapes on the edges, frozen layers blue."""
    graphviz = require("graphviz", "ModelHandler.visualize_net", "graphviz")
    shapes = symbols.layer_shapes(network, input_shapes)
    known = {**network.input_shapes, **(input_shapes or {})}
    picture = graphviz.Digraph("network", graph_attr={"rankdir": "BT"}, node_attr={
        "shape": "box", "style": "rounded,filled", "fontname": "Helvetica", "fillcolor": "white"})
    for name in network.inputs:
        shape = known.get(name)
        picture.node(name, f"{name}\\n{'x'.join(map(str, shape)) if shape else 'input'}", shape="ellipse")
    for name in network.graph.layer_names:
        node = network.graph.layer(name)
        picture.node(name, f"{name}\\n{node.op}", fillcolor="lightblue" if name in network.frozen else "white")
        for edge in query.data_edges(network.graph, node, network.params):
            picture.edge(edge.node, name, label=_label(edge, shapes))
    return picture


def _label(edge: Edge, shapes: Mapping[str, Shape | None]) -> str:
    shape = shapes.get(edge.node) if edge.output == 0 else None
    return "x".join(map(str, shape)) if shape else ""
