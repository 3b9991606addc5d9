"""Layer pairs: where a second network runs beside a first, layer by layer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from xfer2._validation import as_names
from xfer2.exceptions import ModelError
from xfer2.model_handler.graph import operators, query
from xfer2.model_handler.graph.model import Graph

PAIRED = frozenset({"Convolution", "FullyConnected"})
_CARRIED = operators.BATCH_NORMS | operators.ACTIVATIONS | {"Pooling", "Flatten"}


@dataclass(frozen=True)
class Pair:
    """One layer of the first network and its counterpart in the second.

    Attributes
    ----------
    name : str
        Of the layer; for a recurrent layer, of the weight that its steps share.
    ends : tuple of str
        The last layer that is carried along: normalisation, activation and pooling that only the layer feeds. A recurrent
        layer has its state of every step.
    """

    name: str
    ends: tuple[str, ...]

    @property
    def is_recurrent(self) -> bool:
        """Whether the ends are steps in time."""
        return len(self.ends) > 1


def find_pairs(graph: Graph, parameters: Collection[str], named: Sequence[str] | None = None,
               owner: str = "pairs") -> tuple[Pair, ...]:
    """The pairs of a graph, from the input up.

    Every convolution and dense layer is one. Layers that share a weight are steps of a recurrent layer where one's input
    depends on the one's before; their pair is the state.

    Parameters
    ----------
    graph : Graph
        Up to the features: its head is none of the pairs.
    parameters : collection of str
        Its parameters.
    named : sequence of str, optional
        Only these layers (or recurrent weights).
    owner : str
        Who asks, for messages.

    Raises
    ------
    ModelError
        There is none, or a name is none's.
    """
    found = all_pairs(graph, parameters)
    if not found:
        raise ModelError(f"{owner}: the source has no layer pairs: no convolution, dense layer or unrolled recurrent layer "
                         f"feeds its features. Its layers: {', '.join(graph.layer_names[:8])}.")
    names = [pair.name for pair in found]
    chosen = names if named is None else as_names(owner, "paired_layers", named)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise ModelError(f"{owner}: {unknown[0]!r} is no layer pair of the source. They are: {', '.join(names)}.")
    return tuple(pair for pair in found if pair.name in chosen)


def all_pairs(graph: Graph, parameters: Collection[str]) -> list[Pair]:
    """What `find_pairs` chooses from."""
    found = []
    for node in graph.nodes:
        if node.op not in PAIRED:
            continue
        users = [user for user, position in graph.consumers[node.inputs[1].node] if position == 1]
        if len(users) == 1:
            found.append(Pair(node.name, (_carried(graph, node.name, parameters),)))
        elif node.name == users[-1]:
            states = _states(graph, users)
            if states:
                found.append(Pair(node.inputs[1].node, states))
    return found


def _carried(graph: Graph, name: str, parameters: Collection[str]) -> str:
    outputs = {edge.node for edge in graph.outputs}
    while name not in outputs and len(graph.consumers[name]) == 1:
        following = graph.by_name[graph.consumers[name][0][0]]
        if following.op not in _CARRIED or len(query.data_edges(graph, following, parameters)) != 1:
            break
        name = following.name
    return name


def _states(graph: Graph, steps: Sequence[str]) -> tuple[str, ...]:
    """What the steps of a recurrent layer hand on, the last too where that is read; empty where none needs another."""
    read = [graph.by_name[step].inputs[0].node for step in steps]
    if not all(steps[number] in query.ancestors(graph, [read[number + 1]]) for number in range(len(steps) - 1)):
        return ()
    states = read[1:]
    last = _counterpart(graph, steps[-2], states[-1], steps[-1]) if states else None
    used = last is not None and (graph.consumers[last] or last in [edge.node for edge in graph.outputs])
    return (*states, last) if last is not None and used else tuple(states)


def _counterpart(graph: Graph, start: str, end: str, other: str) -> str | None:
    """The node that is to `other` as `end` is to `start`: reached by the same operators, through the same inputs."""
    between = query.ancestors(graph, [end])
    pairs = {start: other}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        for user, position in graph.consumers[name]:
            if user not in between or user in pairs:
                continue
            alike = [twin for twin, place in graph.consumers[pairs[name]] if twin not in pairs.values()
                     and _place(graph, twin, place) == _place(graph, user, position)]
            if alike:
                pairs[user] = alike[0]
                waiting.append(user)
    return pairs.get(end)


def _place(graph: Graph, user: str, position: int) -> tuple[str | None, int, int]:
    """How a layer reads: its operator, which input, and which output of the layer below."""
    node = graph.by_name[user]
    return node.op, position, node.inputs[position].output
