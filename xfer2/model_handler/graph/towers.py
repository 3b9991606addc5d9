"""Graphs of two networks: a frozen source, and a module or target beside it that reads what the source computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from xfer2.exceptions import ModelError
from xfer2.model_handler.graph import edit, query
from xfer2.model_handler.graph.model import Edge, Graph, Node
from xfer2.model_handler.graph.pairs import PAIRED, Pair

_SIZES = {"Convolution": "num_filter", "FullyConnected": "num_hidden"}
UNIT = "__unit__"  # attribute of a unit's gates and parameters: the name of its pair
Shape = tuple[int, ...]
Edges = tuple[Edge, ...]


def without_dropout(graph: Graph, layers: Collection[str]) -> Graph:
    """The graph with some layers as they predict: a frozen source that drops out would be another one at every step."""
    for name in [node.name for node in graph.nodes if node.op == "Dropout" and node.name in layers]:
        graph = edit.remove(graph, name)
    return graph


def stitched(source: Graph, parameters: Collection[str], width: float, behind: Collection[str] | None = None,
             prefix: str = "module_", joint_prefix: str = "stitch_", flattening: Collection[str] = (),
             sizes: Mapping[str, Shape] | None = None) -> Graph:
    """The source and a narrow module whose layers also read what the source's layers read.

    Every convolution and dense layer of the module has `width` times the outputs. It reads the concatenation of what its
    counterpart reads and of what the module has in that place: each of them, or those that are the next behind the layers in
    `behind`; the others read the module's only. So do grouped convolutions. Reshapes in `flattening`, which make vectors
    of maps, do so in the module whatever their size. No name of the source begins with a prefix.

    Raises
    ------
    ModelError
        No narrow module fits, or nothing is joined behind a layer of `behind`.

    References
    ----------
    Anderson et al. 2016, arXiv:1611.01714, section 4.1 and figure 2.
    """
    nearest = _nearest_below(source)
    joined = set[str]()

    def narrowed(node: Node, edges: Edges) -> tuple[Mapping[str, str], Edges, list[Node]]:
        if node.name in flattening:
            return {"shape": "(0, -1)"}, edges, []
        if node.op not in PAIRED:
            return node.attrs, edges, []
        key = _SIZES[node.op]
        outputs, groups = int(node.attrs[key]), int(node.attrs.get("num_group", "1"))
        size = max(1, math.ceil(outputs * width))
        attrs = {**node.attrs, key: str(size)}
        if groups > 1 and groups != outputs and size != outputs:
            raise ModelError(f"stitch: {node.name!r} has {groups} groups for {outputs} outputs, and no narrow module fits "
                             "it. Say width=1.0, or take the features from below it.")
        if groups > 1:
            return {**attrs, "num_group": str(size if groups == outputs else groups)}, edges, []
        read, own = node.inputs[0], edges[0]
        if read[:2] == own[:2] or not (behind is None or nearest[read.node].intersection(behind)):
            return attrs, edges, []
        joined.update(nearest[read.node])
        axis = "1" if node.op == "Convolution" or node.is_on("flatten", default=True) else "-1"
        joint = Node(joint_prefix + node.name, "Concat", {"num_args": "2", "dim": axis}, (read, own))
        return attrs, (Edge(joint.name), *edges[1:]), [joint]

    copied, mapped = _beside(source, parameters, prefix, sizes if width == 1 else None, narrowed)
    alone = [name for name in behind or () if name not in joined | nearest[source.outputs[0].node]]
    if alone:
        raise ModelError(f"stitch: no layer that could read source and module is the next behind {alone[0]!r}; grouped "
                         "convolutions read the module's only. Leave it out of paired_layers.")
    unknown = [node.name for node in copied if query.PARAMETER in node.attrs and width != 1]
    if unknown:
        raise ModelError(f"stitch: nothing says what size {unknown[0].removeprefix(prefix)!r} has in a narrower module. Say "
                         "width=1.0, or take the features from below what reads it.")
    return Graph(source.nodes + copied, (source.outputs[0], mapped[source.outputs[0][:2]]), source.attrs)


def _nearest_below(graph: Graph) -> dict[str, frozenset[str]]:
    """Of every node the paired layers that it is made of with no other paired layer between; of a paired layer itself."""
    found: dict[str, frozenset[str]] = {}
    for node in graph.nodes:
        own = [frozenset((node.name,))] if node.op in PAIRED else [found[edge.node] for edge in node.inputs]
        found[node.name] = frozenset().union(*own)
    return found


def gated(source: Graph, parameters: Collection[str], pairs: Sequence[Pair], shapes: Mapping[str, Shape | None],
          activation: str = "tanh", prefix: str = "target_", unit_prefix: str = "unit_",
          sizes: Mapping[str, Shape] | None = None) -> Graph:
    """The source and a target of the same layers, a parameter transfer unit behind every pair; its output is the target's.

    With S and T the pair's outputs in source and target, W depthwise-separable 3x3 convolutions (dense for vectors)::

        r = sigmoid(W_r [S, T])        z = sigmoid(W_z [S, T])
        f = S + r (phi(W_h S) - S)     out = T + z (f - T)

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Output shapes of the ends of the pairs, without the batch axis.
    activation : {"tanh", "relu"}
        phi.
    prefix, unit_prefix : str
        Of the names of the target's layers and of the units; no name of the source begins with them.
    sizes : mapping of str to tuple of int, optional
        Shapes of the source's parameters; needed of those that are no layer's weight or bias.

    References
    ----------
    Zhang et al. 2018, Parameter Transfer Unit for Deep Neural Networks, equations 1 and 2.
    """
    behind = {end: pair for pair in pairs for end in pair.ends}
    made: set[str] = set()

    def unit(node: Node, copy: Node) -> tuple[list[Node], Edge | None]:
        pair = behind.get(node.name)
        if pair is None:
            return [], None
        shape = shapes.get(node.name)
        if shape is None or len(shape) not in (1, 3):
            raise ModelError(f"ptu: the layer {node.name!r} gives {shape or 'an unknown shape'}; units are for maps "
                             "(c, h, w) and vectors (d,). Name the layers to pair, or say the input's shape.")
        name, step = unit_prefix + pair.name, gated_name(node.name, [pair], prefix, unit_prefix)
        nodes = _unit(name, step, Edge(node.name), Edge(copy.name), shape, activation)
        if name not in made:
            nodes = _unit_variables(name, shape) + nodes
        made.add(name)
        marked = [one.is_variable or one.attrs.get("act_type") == "sigmoid" for one in nodes]
        return [replace(one, attrs={**one.attrs, UNIT: pair.name}) if mark else one
                for one, mark in zip(nodes, marked, strict=True)], Edge(step)

    copied, mapped = _beside(source, parameters, prefix, sizes, behind=unit)
    return Graph(source.nodes + copied, (mapped[source.outputs[0][:2]],), source.attrs)


def gated_name(layer: str, pairs: Sequence[Pair], prefix: str = "target_", unit_prefix: str = "unit_") -> str:
    """The layer of a `gated` graph where its target has what the source has in a layer: a unit's, where one is behind it."""
    pair = next((pair for pair in pairs if layer in pair.ends), None)
    if pair is None:
        return prefix + layer
    return unit_prefix + (layer if pair.is_recurrent else pair.name)


def summed_weights(graph: Graph, weights: Collection[str]) -> dict[str, str]:
    """Of the gates of a `gated` graph, the weights W_T, and W_S which are of the same outputs; of those given."""
    found = {}
    for gate in graph.nodes:
        if UNIT in gate.attrs and not gate.is_variable:
            of_source, of_target = (graph.by_name[edge.node].inputs[1].node
                                    for edge in graph.by_name[gate.inputs[0].node].inputs)
            if of_source in weights:
                found[of_target] = of_source
    return found


def _beside(source: Graph, parameters: Collection[str], prefix: str, sizes: Mapping[str, Shape] | None,
            changed: Callable[[Node, Edges], tuple[Mapping[str, str], Edges, list[Node]]] | None = None,
            behind: Callable[[Node, Node], tuple[list[Node], Edge | None]] | None = None,
            ) -> tuple[tuple[Node, ...], dict[tuple[str, int], Edge]]:
    """Copies of a graph's operators and parameters under prefixed names, and where each of its outputs is in the copy.

    Of an operator and its inputs in the copy, `changed` gives attributes and inputs, and what must come before it. Of an
    operator and its copy, `behind` gives what is put behind, and where its readers read then.
    """
    nodes: list[Node] = []
    mapped: dict[tuple[str, int], Edge] = {}
    roles = query.variable_roles(source)
    for node in source.nodes:
        if node.is_variable:
            if node.name in parameters:
                told = {key: value for key, value in node.attrs.items() if key not in ("__shape__", UNIT)}
                if roles[node.name] != "parameter":  # known by its values alone, which the copy may not have yet
                    told[query.PARAMETER] = "True"
                    told.update({"__shape__": str(sizes[node.name])} if sizes and node.name in sizes else {})
                nodes.append(Node(prefix + node.name, None, told))
                mapped[node.name, 0] = Edge(prefix + node.name)
            else:
                mapped[node.name, 0] = Edge(node.name)
            continue
        attrs, edges = node.attrs, tuple(_moved(edge, mapped, prefix) for edge in node.inputs)
        if changed is not None:
            attrs, edges, before = changed(node, edges)
            nodes += before
        told = {key: value for key, value in attrs.items() if key != UNIT}
        copy = replace(node, name=prefix + node.name, attrs=told, inputs=edges)
        nodes.append(copy)
        if behind is not None:
            more, end = behind(node, copy)
            nodes += more
            if end is not None:
                mapped[node.name, 0] = end
    for edge in source.outputs:
        mapped[edge[:2]] = _moved(edge, mapped, prefix)
    return tuple(nodes), mapped


def _moved(edge: Edge, mapped: Mapping[tuple[str, int], Edge], prefix: str) -> Edge:
    return mapped.get(edge[:2], edge._replace(node=prefix + edge.node))


def _unit_variables(name: str, shape: Shape) -> list[Node]:
    kinds = ("weight",) if len(shape) == 1 else ("depth_weight", "weight")
    return [Node(f"{name}_{gate}_{part}_{kind}") for gate in "rzh" for part in _parts(gate) for kind in kinds] + [
        Node(f"{name}_{gate}_bias") for gate in "rzh"]


def _parts(gate: str) -> tuple[str, ...]:
    return ("source",) if gate == "h" else ("source", "target")


def _unit(name: str, step: str, source: Edge, target: Edge, shape: Shape, activation: str) -> list[Node]:
    """W [S, T] is written W_S S + W_T T: the same, and the gradient of a concatenation ends MXNet at some sizes."""
    nodes: list[Node] = []
    width = str(shape[0])

    def put(label: str, op: str, attrs: Mapping[str, str], *inputs: Edge) -> Edge:
        nodes.append(Node(f"{step}_{label}", op, dict(attrs), inputs))
        return Edge(f"{step}_{label}")

    def linear(gate: str, part: str, x: Edge) -> Edge:
        label = f"{gate}_{part}"
        first = part == "source"
        own = [Edge(f"{name}_{label}_weight"), *([Edge(f"{name}_{gate}_bias")] if first else [])]
        bias = {"no_bias": str(not first)}
        if len(shape) == 1:
            return put(f"{label}_dense", "FullyConnected", {"num_hidden": width, **bias}, x, *own)
        deep = put(f"{label}_depth", "Convolution", {"kernel": "(3, 3)", "pad": "(1, 1)", "num_filter": width,
                   "num_group": width, "no_bias": "True"}, x, Edge(f"{name}_{label}_depth_weight"))
        return put(f"{label}_point", "Convolution", {"kernel": "(1, 1)", "num_filter": width, **bias}, deep, *own)

    def gate(letter: str) -> Edge:
        both = put(f"{letter}_both", "elemwise_add", {}, linear(letter, "source", source), linear(letter, "target", target))
        return put(letter, "Activation", {"act_type": "sigmoid"}, both)

    r, z = gate("r"), gate("z")
    h = put("h", "Activation", {"act_type": activation}, linear("h", "source", source))
    tuned = put("tuned", "elemwise_mul", {}, r, put("change", "elemwise_sub", {}, h, source))
    f = put("f", "elemwise_add", {}, source, tuned)
    moved = put("moved", "elemwise_mul", {}, z, put("distance", "elemwise_sub", {}, f, target))
    nodes.append(Node(step, "elemwise_add", {}, (target, moved)))
    return nodes
