"""Where a network's frozen part ends: what is computed once, and what is trained on it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from xfer2.exceptions import ModelError
from xfer2.model_handler import edits, symbols
from xfer2.model_handler.graph import query
from xfer2.model_handler.graph.model import Edge
from xfer2.model_handler.network import Network

_RANDOM = ("Dropout", "dropout", "random", "sample", "shuffle", "RNN", "RReLU")


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

    A layer is fixed where it and all that feeds it are frozen or have no parameters, none of it is random (Dropout in a
    frozen part draws anew in every epoch), and its output has one row an example: sequences with time on the first axis
    cannot be kept by example.
    """
    graph = network.graph
    held = network.frozen | _sharing_frozen(network)
    fixed = _fixed(network, held)
    parameters = set(network.parameter_names)
    if not any(edge.node in parameters for name in fixed for edge in graph.by_name[name].inputs):
        return None
    if any(edge.node in fixed for edge in graph.outputs):
        return None
    cuts: dict[str, None] = {}
    inputs: dict[str, None] = {}
    for node in graph.nodes:
        if node.is_variable or node.name in fixed:
            continue
        for edge in node.inputs:
            if edge.node in fixed:
                cuts[query.output_name(graph, edge)] = None
            elif edge.node in network.inputs:
                inputs[edge.node] = None
    outputs = [query.output_name(graph, edge) for edge in graph.outputs]
    upper = edits.extract(network, outputs, [*cuts, *inputs])
    return Frontier(tuple(cuts), tuple(inputs), replace(upper, frozen=held))


def _fixed(network: Network, held: Collection[str]) -> set[str]:
    graph, fixed = network.graph, set[str]()
    parameters, sources, odd = set(network.parameter_names), set(network.inputs), _without_batch_axis(network)
    for node in graph.nodes:
        if node.is_variable or any(word in str(node.op) for word in _RANDOM) or node.subgraphs or node.name in odd:
            continue
        rest = [edge.node for edge in node.inputs if edge.node not in parameters]
        still = node.name in held or not parameters.intersection(edge.node for edge in node.inputs)
        if still and rest and all(name in fixed or name in sources for name in rest):
            fixed.add(node.name)
    return fixed


def _sharing_frozen(network: Network) -> set[str]:
    """Layers all of whose parameters are frozen, in this layer or in others that share them."""
    parameters, frozen = set(network.parameter_names), network.frozen_parameters
    own = {node.name: parameters.intersection(edge.node for edge in node.inputs) for node in network.graph.nodes}
    return {name for name, names in own.items() if names and names <= frozen}


def _without_batch_axis(network: Network) -> set[str]:
    """Layers whose first axis is known to be no batch of examples."""
    names = [name for name in network.graph.layer_names if query.used_outputs(network.graph, name) == (0,)]
    found = set()
    for size in (2, 3):
        try:
            _, shapes = symbols.infer_shapes(network, batch_size=size, outputs=[Edge(name) for name in names])
        except ModelError:  # made for one size of batch
            continue
        found |= {name for name, shape in zip(names, shapes, strict=True) if shape is not None and shape[:1] != (size,)}
    return found
