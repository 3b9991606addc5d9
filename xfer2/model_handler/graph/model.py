"""The immutable graph: nodes in topological order, joined by edges that carry names, not positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from xfer2._validation import nearest
from xfer2.exceptions import LayerNotFoundError, ModelError


class Edge(NamedTuple):
    """One output of one node, as somebody's input or as an output of the graph.

    `version` is MXNet's count of the writes to an auxiliary state; it is kept as read, and nothing here depends on it.
    """

    node: str
    output: int = 0
    version: int = 0


@dataclass(frozen=True)
class Node:
    """One operator, or one variable where `op` is None.

    Attributes
    ----------
    name : str
        Unique in its graph.
    op : str or None
        MXNet's operator name, None for a variable (data, label, parameter or auxiliary state).
    attrs : mapping of str to str
        The operator's attributes as MXNet writes them.
    inputs : tuple of Edge
    subgraphs : str
        JSON text of a control-flow operator's bodies, carried through unread; empty for every other operator.
    """

    name: str
    op: str | None = None
    attrs: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Edge, ...] = ()
    subgraphs: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attrs", MappingProxyType(dict(self.attrs)))
        object.__setattr__(self, "inputs", tuple(Edge(*edge) for edge in self.inputs))

    @property
    def is_variable(self) -> bool:
        """Whether the node is a variable and not an operator."""
        return self.op is None

    def is_on(self, attr: str, default: bool = False) -> bool:
        """Whether an attribute that says yes or no says yes, in any of MXNet's ways of writing it."""
        return self.attrs.get(attr, str(default)) in ("True", "true", "1")

    def __hash__(self) -> int:
        return hash((self.name, self.op, self.inputs))

    def __reduce__(self) -> Any:  # processes that search parameters side by side hand networks over
        return Node, (self.name, self.op, dict(self.attrs), self.inputs, self.subgraphs)


@dataclass(frozen=True, repr=False)
class Graph:
    """A directed acyclic graph of operators.

    Attributes
    ----------
    nodes : tuple of Node
        In topological order, names unique.
    outputs : tuple of Edge
        What the network returns, in order.
    attrs : mapping of str to str
        Attributes of the whole graph (MXNet keeps its version number here), as JSON texts.

    Raises
    ------
    ModelError
        Two nodes share a name, an edge names a node that does not come before its consumer, or there is no output.

    Examples
    --------
    >>> data = Node("data")
    >>> relu = Node("relu0", "Activation", {"act_type": "relu"}, (Edge("data"),))
    >>> Graph((data, relu), (Edge("relu0"),)).layer_names
    ('relu0',)
    """

    nodes: tuple[Node, ...]
    outputs: tuple[Edge, ...]
    attrs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "outputs", tuple(Edge(*edge) for edge in self.outputs))
        object.__setattr__(self, "attrs", MappingProxyType(dict(self.attrs)))
        seen: dict[str, Node] = {}
        for node in self.nodes:
            if node.name in seen:
                raise ModelError(f"Two nodes of the graph are named {node.name!r}; names must be unique.")
            _check_edges(node.inputs, seen, f"the node {node.name!r}")
            seen[node.name] = node
        if not self.outputs:
            raise ModelError("A graph must have at least one output.")
        _check_edges(self.outputs, seen, "the graph's outputs")

    def __repr__(self) -> str:
        return f"Graph({len(self.layer_names)} layers, outputs {', '.join(edge.node for edge in self.outputs)})"

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[tuple[str, int], ...]]:
        """For every node, the (consumer's name, position among its inputs) of each edge that leaves it."""
        found: dict[str, list[tuple[str, int]]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for position, edge in enumerate(node.inputs):
                found[edge.node].append((node.name, position))
        return {name: tuple(users) for name, users in found.items()}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the operators, in topological order."""
        return tuple(node.name for node in self.nodes if not node.is_variable)

    @property
    def variable_names(self) -> tuple[str, ...]:
        """Names of the variables, in topological order."""
        return tuple(node.name for node in self.nodes if node.is_variable)

    def layer(self, name: str) -> Node:
        """The operator of that name, or an error that lists the nearest names."""
        node = self.by_name.get(name)
        if node is None or node.is_variable:
            kind = "is a variable, not a layer" if node is not None else "is not in the network"
            choices = nearest(name, self.layer_names)
            raise LayerNotFoundError(
                f"The layer {name!r} {kind}. Nearest of its {len(self.layer_names)} layers: {', '.join(choices)}."
            )
        return node

    def __hash__(self) -> int:
        return hash((self.nodes, self.outputs))

    def __reduce__(self) -> Any:
        return Graph, (self.nodes, self.outputs, dict(self.attrs))


def _check_edges(edges: Iterable[Edge], known: Mapping[str, Node], owner: str) -> None:
    for edge in edges:
        if edge.node not in known:
            raise ModelError(f"An edge of {owner} names {edge.node!r}, which is not a node before it.")
        if edge.output < 0 or (edge.output > 0 and known[edge.node].is_variable):
            raise ModelError(f"An edge of {owner} takes output {edge.output} of {edge.node!r}, which does not exist.")
