"""Put graphs together: one onto an edge of another, two side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from xfer2.exceptions import ModelError
from xfer2.model_handler.graph.model import Edge, Graph, Node


def redirect(node: Node, routes: Mapping[tuple[str, int], Edge]) -> Node:
    """The node with its inputs taken from other places; ``routes`` maps (node, output) to the new edge."""
    if not any(edge[:2] in routes for edge in node.inputs):
        return node
    return replace(node, inputs=tuple(routes.get(edge[:2], edge) for edge in node.inputs))


def map_names(graph: Graph, new_name: Callable[[str], str]) -> Graph:
    """The same graph with every node renamed."""
    def edge(old: Edge) -> Edge:
        return old._replace(node=new_name(old.node))

    nodes = tuple(replace(node, name=new_name(node.name), inputs=tuple(edge(e) for e in node.inputs))
                  for node in graph.nodes)
    return Graph(nodes, tuple(edge(e) for e in graph.outputs), graph.attrs)


def fresh_name(name: str, taken: Collection[str]) -> str:
    """The name, with underscores behind it while it is taken."""
    while name in taken:
        name += "_"
    return name


def grafted_nodes(taken: Collection[str], addition: Graph,
                  feeds: Mapping[str, Edge]) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """The nodes of `addition` as part of another graph, and where its outputs are then.

    Parameters
    ----------
    taken : collection of str
        Names that the other graph uses.
    addition : Graph
    feeds : mapping of str to Edge
        For each input variable of `addition`, the edge of the other graph that takes its place.

    Raises
    ------
    ModelError
        A name of `addition` is already taken.
    """
    nodes = [node for node in addition.nodes if node.name not in feeds]
    clash = [node.name for node in nodes if node.name in taken]
    if clash:
        raise ModelError(f"The name {clash[0]!r} is already in the network; give the new layers other names "
                         f"({len(clash)} of {len(nodes)} names clash).")
    routes = {(name, 0): edge for name, edge in feeds.items()}
    return (tuple(redirect(node, routes) for node in nodes),
            tuple(routes.get(edge[:2], edge) for edge in addition.outputs))


def chain(first: Graph, second: Graph, feeds: Mapping[str, Edge]) -> Graph:
    """`second` on top of `first`: outputs are those of `second`, ``feeds`` says what its inputs read."""
    nodes, outputs = grafted_nodes(first.by_name, second, feeds)
    return Graph(first.nodes + nodes, outputs, first.attrs)


def side_by_side(first: Graph, second: Graph, shared: Collection[str]) -> Graph:
    """Both graphs with the variables in `shared` in common and the outputs of both, those of `first` first."""
    feeds = {name: Edge(name) for name in shared}
    nodes, outputs = grafted_nodes(first.by_name, second, feeds)
    return Graph(first.nodes + nodes, first.outputs + outputs, first.attrs)
