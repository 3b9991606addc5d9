"""MXNet's symbol JSON <-> Graph. The only file that knows the JSON's keys.

MXNet's own reader trusts what it reads: some malformed files end the process. Nothing reaches it unless it has been
decoded here first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from xfer2.exceptions import ModelError
from xfer2.model_handler.graph.model import Edge, Graph, Node

MXNET_VERSION = 10901
_ATTRIBUTE_KEYS = ("param", "attr", "attrs")  # oldest first: MXNet 0.8 wrote "param", 0.9 to 0.11 "attr", later "attrs"
_VERSION_KEY = "mxnet_version"


def decode(text: str) -> Graph:
    """Read symbol JSON.

    Parameters
    ----------
    text : str
        What ``Symbol.tojson()`` or a ``-symbol.json`` file holds, of any MXNet version.

    Returns
    -------
    Graph
        Names are made unique: MXNet lets two operators share a name (one Gluon block called twice), but a layer must
        be addressable, so the second becomes ``NAME_1``, the third ``NAME_2``. Variables that share a name are one.

    Raises
    ------
    ModelError
        The text is no JSON, no symbol, or a symbol with edges to nodes or outputs that do not exist.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The symbol is not valid JSON: {error}.") from error
    if not isinstance(document, dict) or not isinstance(document.get("nodes"), list):
        raise ModelError("The JSON is no MXNet symbol: an object with a list of 'nodes' was expected.")
    raw_nodes, raw_heads = document["nodes"], document.get("heads")
    if not isinstance(raw_heads, list) or not raw_heads:
        raise ModelError("The JSON is no MXNet symbol: it has no 'heads' (outputs).")

    nodes: dict[str, Node] = {}
    names: list[str] = []  # by position in the file
    taken = {raw.get("name") for raw in raw_nodes if isinstance(raw, dict) and isinstance(raw.get("name"), str)}
    for position, raw in enumerate(raw_nodes):
        node = _decode_node(position, raw, names)
        if node.name in nodes and not (node.is_variable and nodes[node.name].is_variable):
            count = 1
            while f"{node.name}_{count}" in taken:
                count += 1
            node = Node(f"{node.name}_{count}", node.op, node.attrs, node.inputs, node.subgraphs)
            taken.add(node.name)
        nodes.setdefault(node.name, node)
        names.append(node.name)
    outputs = tuple(_decode_edge(raw, names, "the outputs ('heads')") for raw in raw_heads)
    attributes = document.get("attrs", {})
    if not isinstance(attributes, dict):
        raise ModelError("The symbol's 'attrs' must be an object.")
    return Graph(tuple(nodes.values()), outputs, {key: json.dumps(value) for key, value in attributes.items()})


def encode(graph: Graph) -> str:
    """Write symbol JSON that MXNet 1.9 loads; ``decode(encode(graph)) == graph``."""
    position = {node.name: number for number, node in enumerate(graph.nodes)}
    nodes = [_encode_node(node, position) for node in graph.nodes]
    document = {
        "nodes": nodes,
        "arg_nodes": [number for number, node in enumerate(graph.nodes) if node.is_variable],
        "heads": [[position[edge.node], edge.output, edge.version] for edge in graph.outputs],
        "attrs": {key: json.loads(value) for key, value in graph.attrs.items()},
    }
    return json.dumps(document, ensure_ascii=False)  # MXNet reads UTF-8, but no \u escapes


def subgraphs(node: Node) -> list[Graph]:
    """The bodies of a control-flow operator; none for every other operator."""
    return [decode(json.dumps(body)) for body in json.loads(node.subgraphs)] if node.subgraphs else []


def written_by(graph: Graph) -> int:
    """The MXNet version that wrote the symbol, as its five-digit number (10901 is 1.9.1); 0 when it does not say."""
    try:
        kind, version = json.loads(graph.attrs.get(_VERSION_KEY, "null"))
    except (TypeError, ValueError):
        return 0
    return version if kind == "int" and isinstance(version, int) else 0


def current_version_attrs() -> Mapping[str, str]:
    """Graph attributes that mark a symbol as written by MXNet 1.9.1, so that its reader upgrades nothing."""
    return {_VERSION_KEY: json.dumps(["int", MXNET_VERSION])}


def _decode_node(position: int, raw: Any, names: list[str]) -> Node:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str) or not isinstance(raw.get("op"), str):
        raise ModelError(f"Node {position} of the symbol has no 'name' and 'op' texts.")
    owner = f"node {position} ({raw['name']!r})"
    attributes: dict[str, str] = {}
    for key in _ATTRIBUTE_KEYS:
        found = raw.get(key, {})
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise ModelError(f"The attributes of {owner} must be an object of texts.")
        attributes.update(found)
    raw_inputs = raw.get("inputs", [])
    if not isinstance(raw_inputs, list):
        raise ModelError(f"The inputs of {owner} must be a list.")
    operator = None if raw["op"] == "null" else raw["op"]
    if operator is None and raw_inputs:
        raise ModelError(f"The variable at {owner} has inputs; a variable has none.")
    if not raw["name"]:
        raise ModelError(f"Node {position} of the symbol has an empty name.")
    inputs = tuple(_decode_edge(edge, names, owner) for edge in raw_inputs)
    bodies = raw.get("subgraphs") or []
    if not isinstance(bodies, list):
        raise ModelError(f"The subgraphs of {owner} must be a list.")
    for body in bodies:
        decode(json.dumps(body))
    return Node(raw["name"], operator, attributes, inputs, json.dumps(bodies) if bodies else "")


def _decode_edge(raw: Any, names: list[str], owner: str) -> Edge:
    whole = isinstance(raw, list) and len(raw) in (2, 3)
    if not whole or not all(isinstance(part, int) and not isinstance(part, bool) and part >= 0 for part in raw):
        raise ModelError(f"An edge of {owner} must be [node, output] or [node, output, version]; got {raw!r}.")
    if raw[0] >= len(names):
        raise ModelError(f"An edge of {owner} points to node {raw[0]}, which does not come before it.")
    return Edge(names[raw[0]], *raw[1:])


def _encode_node(node: Node, position: Mapping[str, int]) -> dict[str, Any]:
    document: dict[str, Any] = {"op": node.op or "null", "name": node.name}
    if node.attrs:
        document["attrs"] = dict(node.attrs)
    document["inputs"] = [[position[edge.node], edge.output, edge.version] for edge in node.inputs]
    if node.subgraphs:
        document["subgraphs"] = json.loads(node.subgraphs)
    return document
