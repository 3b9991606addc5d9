"""The graph as a picture: what to draw, and graphviz's drawing of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from xfer2._optional import require
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import query
from xfer2.model_handler.graph.model import Node
from xfer2.model_handler.network import Network
from xfer2.model_handler.symbols import Shape


def draw(network: Network, input_shapes: Mapping[str, Shape] | None = None) -> Any:
    """A ``graphviz.Digraph`` of a network: layers with their types and output shapes, frozen layers blue."""
    graphviz = require("graphviz", "ModelHandler.visualize_net", "graphviz")
    picture = graphviz.Digraph("network", graph_attr={"rankdir": "BT"}, node_attr={
        "shape": "box", "style": "rounded,filled", "fontname": "Helvetica", "fillcolor": "white"})
    layers, edges = layers_and_edges(network, input_shapes)
    for name, text, frozen in layers:
        shape = "ellipse" if name in network.inputs else "box"
        picture.node(name, text.replace("\n", "\\n"), shape=shape, fillcolor="lightblue" if frozen else "white")
    picture.edges(edges)
    return picture


def layers_and_edges(network: Network, input_shapes: Mapping[str, Shape] | None = None
                     ) -> tuple[list[tuple[str, str, bool]], list[tuple[str, str]]]:
    r"""What `xfer2.visualization.plot_network` draws.

    Parameters
    ----------
    network : Network
    input_shapes : mapping of str to tuple of int, optional
        Without the batch axis, where the network does not know them.

    Returns
    -------
    layers : list of (name, text, frozen)
        Inputs, then layers, in topological order. The text is the name, and below it type and output shape:
        ``"conv0\nConvolution 3x3, 64x32x32"``.
    edges : list of (name, name)
        Through which data flow, each once; parameters and labels are left out.

    Examples
    --------
    >>> from xfer2.model_handler import ModelHandler
    >>> layers, edges = layers_and_edges(ModelHandler("zoo:mnist-cnn").truncate("relu0").network)
    >>> [text for _, text, _ in layers]
    ['data\ninput, 1x28x28', 'conv0\nConvolution 8x8, 8x21x21', 'relu0\nActivation relu, 8x21x21']
    >>> edges
    [('data', 'conv0'), ('conv0', 'relu0')]
    """
    shapes = {**network.input_shapes, **(input_shapes or {}), **symbols.layer_shapes(network, input_shapes)}
    layers = [(name, _text(name, "input", shapes.get(name)), False) for name in network.inputs]
    edges: dict[tuple[str, str], None] = {}
    for name in network.graph.layer_names:
        node = network.graph.layer(name)
        layers.append((name, _text(name, _kind(node), shapes[name]), name in network.frozen))
        edges.update(dict.fromkeys((edge.node, name) for edge in query.data_edges(network.graph, node, network.params)))
    return layers, list(edges)


def _kind(node: Node) -> str:
    """Type of a layer, and what a person asks of it first: the size of its kernel, which activation or pooling."""
    words = [node.op or ""]
    if not node.is_on("global_pool"):
        words.append("x".join(re.findall(r"\d+", node.attrs.get("kernel", ""))))
    words += [node.attrs.get("pool_type", ""), node.attrs.get("act_type", "")]
    return " ".join(filter(None, words))


def _text(name: str, kind: str, shape: Shape | None) -> str:
    return f"{name}\n{kind}, {'x'.join(map(str, shape))}" if shape else f"{name}\n{kind}"
