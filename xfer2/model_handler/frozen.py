"""Where a network's frozen part ends: what is computed once, and what is trained on it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from xfer2.exceptions import ModelError
from xfer2.model_handler import edits, symbols
from xfer2.model_handler.graph import query
from xfer2.model_handler.graph.model import Edge, Node
from xfer2.model_handler.network import Network

_RANDOM = ("Dropout", "dropout", "random", "sample", "shuffle", *(f"_npi_{name}" for name in (
    "bernoulli", "choice", "exponential", "gamma", "gumbel", "logistic", "multinomial", "normal", "pareto", "powerd",
    "rayleigh", "uniform", "weibull")))
_TURNS = ("SwapAxis", "transpose")  # what may put time before the examples, and what is known to keep examples apart then
_BY_TIME = (*_TURNS, "RNN", "SliceChannel", "slice_axis", "SequenceLast", "SequenceMask", "SequenceReverse")


@dataclass(frozen=True)
class Frontier:
    """The cut between what training cannot change and the rest.

    Attributes
    ----------
    layers : tuple of str
        Outputs of the fixed part that the rest needs.
    inputs : tuple of str
        Inputs of the network that the rest needs as well.
    upper : Network
        The rest; its inputs are `layers`, then `inputs`, under the same names.
    """

    layers: tuple[str, ...]
    inputs: tuple[str, ...]
    upper: Network


def frontier(network: Network) -> Frontier | None:
    """Cut a network above its frozen part; None where nothing with parameters is fixed, or nothing is left to train.

    A layer is fixed where it and all that feeds it are frozen or have no parameters, and none of it is random (Dropout in a
    frozen part draws anew in every epoch). Outputs that have no row of each example, as sequences with time on the first
    axis and states to begin with, cannot be kept by example: what reads them above the cut computes them there.
    """
    graph = network.graph
    held = network.frozen | _sharing_frozen(network)
    fixed, kept = _fixed(network, held)
    if any(edge.node in fixed for edge in graph.outputs):
        return None
    parameters, inner = set(network.parameter_names), fixed - kept
    above = {node.name for node in graph.nodes if not node.is_variable and node.name not in fixed}
    for node in reversed(graph.nodes):
        if node.name in above:
            above.update(edge.node for edge in node.inputs if edge.node in inner)
    if not any(edge.node in parameters for name in fixed - above for edge in graph.by_name[name].inputs):
        return None
    cuts: dict[str, None] = {}
    inputs: dict[str, None] = {}
    for node in graph.nodes:
        if node.name not in above:
            continue
        for edge in node.inputs:
            if edge.node in kept:
                cuts[query.output_name(graph, edge)] = None
            elif edge.node in network.inputs:
                inputs[edge.node] = None
    outputs = [query.output_name(graph, edge) for edge in graph.outputs]
    upper = edits.extract(network, outputs, [*cuts, *inputs])
    return Frontier(tuple(cuts), tuple(inputs), replace(upper, frozen=held))


def _fixed(network: Network, held: Collection[str]) -> tuple[set[str], set[str]]:
    """What is fixed, and of that what has a row of each example."""
    graph = network.graph
    parameters, turned = set(network.parameter_names), _without_batch_axis(network)
    examples, known, fixed, kept = set(network.inputs), parameters | set(network.inputs), set[str](), set[str]()
    for node in graph.nodes:
        read = {edge.node for edge in node.inputs}
        if read & examples:
            examples.add(node.name)
        if node.is_variable or node.subgraphs or _is_random(node) or not read <= known:
            continue
        if (read & parameters and node.name not in held) or (read & examples and _mixes(node, examples, turned)):
            continue
        fixed.add(node.name)
        known.add(node.name)
        if node.name in examples and node.name not in turned:
            kept.add(node.name)
    return fixed, kept


def _is_random(node: Node) -> bool:
    if node.op == "RNN":
        return float(node.attrs.get("p", 0)) > 0
    return node.attrs.get("act_type") == "rrelu" or any(word in str(node.op) for word in _RANDOM)


def _mixes(node: Node, examples: Collection[str], turned: Collection[str]) -> bool:
    """Whether examples may have a part in each other's outputs, of a layer that reads them."""
    first, axis = node.inputs[0].node, node.attrs.get("axis", "1" if node.op == "SliceChannel" else None)
    if not any(name in turned and name in examples for name in (node.name, *(edge.node for edge in node.inputs))):
        return first in examples and axis in ("0", "(0,)")
    return node.op not in (_BY_TIME if first in turned and axis in ("0", None) else _TURNS)


def _sharing_frozen(network: Network) -> set[str]:
    """Layers all of whose parameters are frozen, in this layer or in others that share them."""
    parameters, frozen = set(network.parameter_names), network.frozen_parameters
    own = {node.name: parameters.intersection(edge.node for edge in node.inputs) for node in network.graph.nodes}
    return {name for name, names in own.items() if names and names <= frozen}


def _without_batch_axis(network: Network) -> set[str]:
    """Layers of which an output is known to have another first axis than the examples."""
    graph = network.graph
    edges = [Edge(name, output) for name in graph.layer_names for output in query.used_outputs(graph, name)]
    found = set()
    for size in (2, 3):
        try:
            _, shapes = symbols.infer_shapes(network, batch_size=size, outputs=edges)
        except ModelError:  # made for one size of batch
            continue
        found |= {edge.node for edge, shape in zip(edges, shapes, strict=True) if shape is not None and shape[:1] != (size,)}
    return found
