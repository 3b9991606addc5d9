"""Questions to a graph: which variable plays which part, who depends on whom, which output a name means."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal

from xfer2._validation import nearest
from xfer2.exceptions import LayerNotFoundError, ModelError
from xfer2.model_handler.graph import operators
from xfer2.model_handler.graph.model import Edge, Graph, Node

Role = Literal["input", "parameter", "label"]

PARAMETER = "__parameter__"  # attribute of variables that are parameters wherever they are used, with a value or without
_OUTPUT_SUFFIX = re.compile(r"^(?P<layer>.+)_output(?P<index>\d*)$")


def variable_roles(graph: Graph, known_parameters: Collection[str] = ()) -> dict[str, Role]:
    """What each variable is for.

    Parameters
    ----------
    graph : Graph
    known_parameters : collection of str
        Variables that have values; they are parameters wherever they are used.

    Returns
    -------
    dict of str to {"input", "parameter", "label"}
        A variable without a value is a parameter where operators take it only as weight, bias or statistic, a label
        where it is only the second input of an output layer such as SoftmaxOutput, else an input.
    """
    return {name: _role(graph, name, known_parameters) for name in graph.variable_names}


def _role(graph: Graph, name: str, known_parameters: Collection[str]) -> Role:
    if name in known_parameters or PARAMETER in graph.by_name[name].attrs:
        return "parameter"
    found = {operators.role(graph.by_name[user].op, position) for user, position in graph.consumers[name]}
    if found and found <= operators.PARAMETERS:
        return "parameter"
    if found == {operators.LABEL}:
        return "label"
    return "input"


def variables_with_role(graph: Graph, role: Role, known_parameters: Collection[str] = ()) -> tuple[str, ...]:
    """Names of the variables that play one part, in the graph's order."""
    return tuple(name for name, found in variable_roles(graph, known_parameters).items() if found == role)


def data_edges(graph: Graph, node: Node, known_parameters: Collection[str] = ()) -> tuple[Edge, ...]:
    """The inputs of `node` through which data flow: not its parameters, not its label, no edge twice."""
    variables = (edge.node for edge in node.inputs if graph.by_name[edge.node].is_variable)
    roles = {name: _role(graph, name, known_parameters) for name in variables}
    return tuple(dict.fromkeys(edge for edge in node.inputs if roles.get(edge.node, "input") == "input"))


def parameters_by_layer(graph: Graph, known_parameters: Collection[str] = ()) -> dict[str, tuple[str, ...]]:
    """Parameters that each layer takes, through its edges and not by the look of a name, in the graph's order.

    A weight that is computed of parameters alone (scaled, normalised, several joined for an LSTM) counts with its layer.
    """
    roles = variable_roles(graph, known_parameters)
    order = {name: number for number, name in enumerate(roles)}
    # of each parameter, and of what is computed of parameters alone, the parameters behind it
    behind: dict[str, tuple[str, ...]] = {name: (name,) for name, role in roles.items() if role == "parameter"}
    found = {}
    for node in graph.nodes:
        if node.is_variable:
            continue
        read = [behind.get(edge.node, ()) for edge in node.inputs]
        data = bool(node.inputs) and not graph.by_name[node.inputs[0].node].is_variable
        found[node.name] = tuple(sorted({name for names in read[data:] for name in names}, key=order.__getitem__))
        if read and all(read):
            behind[node.name] = tuple(dict.fromkeys(name for names in read for name in names))
    return found


def matching_layers(graph: Graph, patterns: Iterable[str]) -> tuple[str, ...]:
    """Layers by name or by pattern (``*`` is any text, ``?`` any character), in the graph's order.

    Raises
    ------
    LayerNotFoundError
        A name is no layer's, or a pattern matches none.
    """
    found = set[str]()
    for pattern in patterns:
        if not set(pattern) & {"*", "?"}:
            found.add(graph.layer(pattern).name)
            continue
        expression = re.compile("".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern))
        matches = [name for name in graph.layer_names if expression.fullmatch(name)]
        if not matches:
            raise LayerNotFoundError(
                f"The pattern {pattern!r} matches none of the network's {len(graph.layer_names)} layers. Nearest: "
                f"{', '.join(nearest(pattern.strip('*?'), graph.layer_names))}.")
        found.update(matches)
    return tuple(name for name in graph.layer_names if name in found)


def ancestors(graph: Graph, names: Iterable[str]) -> frozenset[str]:
    """The named nodes and all that feeds them."""
    found = set(names)
    for node in reversed(graph.nodes):
        if node.name in found:
            found.update(edge.node for edge in node.inputs)
    return frozenset(found)


def below(graph: Graph, name: str, passed: Collection[str]) -> Node:
    """The node of this name, or the first below it, by first inputs, that is of none of these operators."""
    node = graph.by_name[name]
    while node.op in passed:
        node = graph.by_name[node.inputs[0].node]
    return node


def resolve_output(graph: Graph, name: str) -> Edge:
    """The output that a name means: a layer's (``"conv0"``, ``"conv0_output"``, ``"split0_output1"``) or an input's.

    Raises
    ------
    LayerNotFoundError
        No node of that name.
    ModelError
        The layer has several outputs in use and the name does not say which.
    """
    if not isinstance(name, str):
        raise LayerNotFoundError(f"A layer is said by its name, a text; got {name!r} ({type(name).__name__}).")
    node = graph.by_name.get(name)
    if node is not None and node.is_variable:
        return Edge(name)
    if node is not None:
        used = used_outputs(graph, name)
        if used[-1] > 0:
            choices = ", ".join(f"'{name}_output{index}'" for index in used)
            raise ModelError(f"The layer {name!r} has several outputs; say which: {choices}.")
        return Edge(name)
    match = _OUTPUT_SUFFIX.match(name)
    if match and match["layer"] in graph.by_name and not graph.by_name[match["layer"]].is_variable:
        if not match["index"]:
            return resolve_output(graph, match["layer"])
        return Edge(match["layer"], int(match["index"]))
    raise LayerNotFoundError(
        f"The layer {name!r} is not in the network. Nearest of its {len(graph.layer_names)} layers: "
        f"{', '.join(nearest(name, graph.layer_names))}."
    )


def output_name(graph: Graph, edge: Edge) -> str:
    """What `resolve_output` reads as this output."""
    return edge.node if used_outputs(graph, edge.node) == (0,) else f"{edge.node}_output{edge.output}"


def used_outputs(graph: Graph, name: str) -> tuple[int, ...]:
    """Which outputs of a node its consumers or the graph's outputs take, in ascending order; (0,) if none."""
    indices = {edge.output for user, position in graph.consumers[name]
               for edge in [graph.by_name[user].inputs[position]]}
    indices.update(edge.output for edge in graph.outputs if edge.node == name)
    return tuple(sorted(indices)) or (0,)


def single_output(graph: Graph, purpose: str) -> Edge:
    """The only output of the graph, or an error that lists them all."""
    if len(graph.outputs) > 1:
        names = ", ".join(repr(edge.node) for edge in graph.outputs)
        raise ModelError(f"{purpose} needs a network with one output; this one has {len(graph.outputs)}: {names}. "
                         "Keep one with truncate(layer) or extract(outputs) first.")
    return graph.outputs[0]


def single_input(graph: Graph, purpose: str, known_parameters: Collection[str] = ()) -> str:
    """The only data input of the graph, or an error that lists them all."""
    inputs = variables_with_role(graph, "input", known_parameters)
    if len(inputs) != 1:
        names = ", ".join(repr(name) for name in inputs) or "none"
        raise ModelError(f"{purpose} needs a graph with one input; this one has {len(inputs)}: {names}.")
    return inputs[0]
