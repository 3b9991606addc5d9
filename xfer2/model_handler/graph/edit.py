"""Edits of a graph. Each is a function from a graph to a new graph; what it keeps, it keeps node for node."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from xfer2.exceptions import LayerNotFoundError, ModelError
from xfer2.model_handler.graph import compose, operators, query
from xfer2.model_handler.graph.model import Edge, Graph, Node

Known = Collection[str]
_SUMS = frozenset({"elemwise_add", "_Plus", "_plus", "_add"})
_RANK_KEPT = _SUMS | {
    "Activation", "LeakyReLU", "BatchNorm", "LayerNorm", "Dropout", "_copy", "identity", "Cast", "BlockGrad", "relu", "clip",
    "L2Normalization", "softmax", "log_softmax", "_mul_scalar", "_div_scalar", "_plus_scalar", "_minus_scalar"}
_HEAD_SIZES = {"FullyConnected": "num_hidden", "Convolution": "num_filter"}


def prune(graph: Graph, outputs: Iterable[Edge]) -> Graph:
    """Only what these outputs need."""
    edges = tuple(outputs)
    needed = query.ancestors(graph, [edge.node for edge in edges])
    return Graph(tuple(node for node in graph.nodes if node.name in needed), edges, graph.attrs)


def extract(graph: Graph, outputs: Iterable[str], inputs: Iterable[str] | None = None, known: Known = ()) -> Graph:
    """The part between `inputs` and `outputs`.

    Parameters
    ----------
    graph : Graph
    outputs : iterable of str
        Layers whose outputs the new graph returns.
    inputs : iterable of str, optional
        Layers (or inputs) whose outputs become the new graph's inputs: variables of the same names. By default the
        graph keeps its own inputs.
    known : collection of str
        Variables that have values.

    Raises
    ------
    ModelError
        An output does not depend on the inputs given, or needs another input as well.
    """
    wanted = tuple(outputs)
    edges = [query.resolve_output(graph, name) for name in wanted]
    roles = query.variable_roles(graph, known)
    for name in wanted:
        if roles.get(name, "input") != "input":
            raise LayerNotFoundError(f"{name!r} is a {roles[name]} of the network, not a layer with an output.")
    if inputs is None:
        return prune(graph, edges)
    names = tuple(inputs)
    cuts = {query.resolve_output(graph, name)[:2]: Edge(name) for name in names}
    for name, edge in zip(wanted, edges, strict=True):
        if edge[:2] in cuts:
            raise ModelError(f"{name!r} cannot be an input and an output of the extracted network at once.")
    nodes = tuple(Node(name) for name in names) + tuple(
        compose.redirect(node, cuts) for node in graph.nodes if node.name not in names)
    cut = prune(Graph(nodes, tuple(edges), graph.attrs), edges)
    unused = [name for name in names if name not in cut.by_name]
    if unused:
        raise ModelError(f"The outputs {', '.join(map(repr, wanted))} do not depend on the input {unused[0]!r}.")
    others = [name for name in query.variables_with_role(cut, "input", known) if name not in names]
    if others:
        raise ModelError(f"The outputs need {', '.join(map(repr, others))} beside the inputs given; name it as an "
                         "input too, or choose inputs that all paths to the outputs cross.")
    return cut


def truncate(graph: Graph, layer: str, known: Known = ()) -> Graph:
    """All up to and including `layer`, which becomes the only output."""
    cut = extract(graph, [layer], known=known)
    if not cut.layer_names:
        raise LayerNotFoundError(f"{layer!r} is an input of the network; nothing would be left below it.")
    return cut


def remove(graph: Graph, layer: str, known: Known = (), keep: str | None = None) -> Graph:
    """Take one layer out: what read it now reads what it read. Its parameters go with it unless others use them.

    Parameters
    ----------
    graph : Graph
    layer : str
    known : collection of str
        Variables that have values.
    keep : str, optional
        For a layer with several inputs, the input that takes its place.

    Raises
    ------
    ModelError
        The layer has several inputs and `keep` does not choose one, several outputs, or it is the only layer.
    """
    node = graph.layer(layer)
    source = _through(graph, node, known, keep)
    _require_one_output(graph, layer, "removed")
    if len(graph.layer_names) == 1:
        raise ModelError(f"{layer!r} is the only layer left and cannot be removed.")
    gone = _owned(graph, layer, kept={source.node})
    removed = _rewire(graph, {(layer, 0): source}, gone=gone)
    return removed if keep is None else prune(removed, removed.outputs)  # the branches that nothing reads any more go too


def replace_layer(graph: Graph, layer: str, new: Graph, known: Known = (), new_known: Known = ()) -> Graph:
    """Put `new` where `layer` was: it reads what the layer read, and who read the layer reads its output.

    The inputs of `new` take the layer's data inputs in order; their numbers must agree.
    """
    node = graph.layer(layer)
    sources = query.data_edges(graph, node, known)
    inputs = query.variables_with_role(new, "input", new_known)
    if len(inputs) != len(sources):
        raise ModelError(f"The layer {layer!r} has {len(sources)} data inputs and what is to replace it {len(inputs)}; "
                         "the numbers must agree.")
    _require_one_output(graph, layer, "replaced")
    gone = _owned(graph, layer, kept={edge.node for edge in sources})
    taken = graph.by_name.keys() - gone
    added, outputs = compose.grafted_nodes(taken, new, dict(zip(inputs, sources, strict=True)))
    return _rewire(graph, {(layer, 0): _one(new, outputs)}, gone=gone, added=added, after=layer)


def insert_after(graph: Graph, name: str, new: Graph, new_known: Known = ()) -> Graph:
    """Put `new` behind a layer or an input: who read that reads the output of `new`, the graph's outputs included."""
    edge = query.resolve_output(graph, name)
    require_no_loss(graph, edge)
    feed = query.single_input(new, "insert_after", new_known)
    added, outputs = compose.grafted_nodes(graph.by_name, new, {feed: edge})
    return _rewire(graph, {edge[:2]: _one(new, outputs)}, added=added, after=edge.node)


def rename(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The same graph with some nodes renamed, each old name to its new one."""
    for new in names.values():
        if not new or (new in graph.by_name and new not in names):
            raise ModelError(f"Cannot rename to {new!r}: the name is " + ("already in the network." if new else "empty."))
    return compose.map_names(graph, lambda name: names.get(name, name))


def set_attrs(graph: Graph, changes: Mapping[str, Mapping[str, str]]) -> Graph:
    """The same graph with some attributes of some layers changed."""
    changed = {name: replace(graph.layer(name), attrs={**graph.layer(name).attrs, **new}) for name, new in changes.items()}
    return Graph(tuple(changed.get(node.name, node) for node in graph.nodes), graph.outputs, graph.attrs)


def head_layer(graph: Graph, asker: str = "replace_head", remedy: str = "Use truncate and add_layer_top.") -> str:
    """The dense or convolution layer nearest to the only output; `asker` and `remedy` are for messages."""
    edge = query.single_output(graph, asker)
    while True:
        node = graph.layer(edge.node)
        if node.op in _HEAD_SIZES:
            return node.name
        below = [e for e in query.data_edges(graph, node) if not graph.by_name[e.node].is_variable]
        if len(below) != 1:
            raise ModelError(f"{asker}: going down from the output, {node.name!r} ({node.op}) has {len(below)} inputs "
                             f"before any dense layer, so which layer is the head is ambiguous. {remedy}")
        edge = below[0]


def resize_head(graph: Graph, head: str, parameters: Collection[str], count: int) -> Graph:
    """The graph with `count` outputs of the head; its parameters lose the attributes that told their size."""
    shared = [name for name in parameters if {user for user, _ in graph.consumers[name]} != {head}]
    if shared:
        raise ModelError(f"The head {head!r} shares its parameter {shared[0]!r} with another layer.")
    key = _HEAD_SIZES[graph.by_name[head].op or ""]
    told = {"__shape__", key}
    nodes = tuple(replace(node, attrs={k: v for k, v in node.attrs.items() if k not in told})
                  if node.name in parameters else node for node in graph.nodes)
    return set_attrs(Graph(nodes, graph.outputs, graph.attrs), {head: {key: str(count)}})


def drop_top(graph: Graph, count: int, known: Known = ()) -> Graph:
    """Drop layers from the output down; ambiguous where a dropped layer has several inputs."""
    _require_more_layers(graph, count)
    for number in range(count):
        node = graph.layer(query.single_output(graph, "drop_layer_top").node)
        sources = query.data_edges(graph, node, known)
        if len(sources) != 1 or graph.by_name[sources[0].node].is_variable:
            raise ModelError(
                f"drop_layer_top: layer {number + 1} to drop, {node.name!r}, has {len(sources)} inputs, so what comes "
                f"below it is ambiguous: {_listed(graph, sources)}. Choose one with truncate(layer).")
        graph = prune(graph, sources)
    return graph


def drop_bottom(graph: Graph, count: int, data_name: str, known: Known = ()) -> Graph:
    """Drop layers from the input up: who read the first layer reads the input. Ambiguous where the input branches."""
    _require_more_layers(graph, count)
    for number in range(count):
        users = list(dict.fromkeys(user for user, _ in graph.consumers[data_name]))
        if len(users) != 1:
            raise ModelError(
                f"drop_layer_bottom: at layer {number + 1} to drop, the input {data_name!r} feeds {len(users)} layers, so "
                f"which to drop is ambiguous: {', '.join(map(repr, users))}. Choose with remove(layer).")
        graph = remove(graph, users[0], known)
    return graph


def add_top(graph: Graph, layers: Iterable[Graph], known: Known = ()) -> Graph:
    """Put graphs with one input and one output on the output, one after another."""
    for new in layers:
        top = query.single_output(graph, "add_layer_top")
        require_no_loss(graph, top)
        feed = query.single_input(new, "add_layer_top", known)
        graph = compose.chain(graph, new, {feed: top})
        query.single_output(graph, "add_layer_top")
    return graph


def require_no_loss(graph: Graph, edge: Edge) -> None:
    """Raise where layers would come above one that sends down the gradient of its own label, whatever comes from above."""
    if graph.by_name[edge.node].op in operators.LOSS_OUTPUTS:
        raise ModelError(f"Cannot add a layer above the output layer {edge.node!r}; drop it first with drop_layer_top().")


def add_bottom(graph: Graph, layers: Iterable[Graph], data_name: str, known: Known = ()) -> Graph:
    """Put graphs with one input and one output between an input and its readers; the first is lowest."""
    for new in reversed(list(layers)):
        graph = insert_after(graph, data_name, new, known)
    return graph


def with_inputs_first(graph: Graph, names: Collection[str]) -> Graph:
    """The graph with some of its inputs as its first nodes, in this order; names that it does not have are passed over."""
    if len(names) < 2:
        return graph
    first = [graph.by_name[name] for name in names if name in graph.by_name]
    return Graph((*first, *[node for node in graph.nodes if node.name not in names]), graph.outputs, graph.attrs)


def as_inference(graph: Graph) -> Graph:
    """Output layers that take a label replaced by what they compute without one: a softmax, a sigmoid, a copy."""
    labels = query.variables_with_role(graph, "label")
    nodes = tuple(new for node in graph.nodes if node.name not in labels for new in _without_label(graph, node))
    return Graph(nodes, graph.outputs, graph.attrs)


def without_fusible_sums(graph: Graph) -> Graph:
    """The graph with additions of a convolution's output written as ``broadcast_add``, which computes the same.

    MXNet 1.9.1's Module fuses a convolution with an ``elemwise_add`` behind it. In networks that add before they normalise
    it then gives wrong values, or cannot bind.
    """
    nodes = tuple(replace(node, op="broadcast_add")
                  if node.op in _SUMS and any(graph.by_name[edge.node].op == "Convolution" for edge in node.inputs) else node
                  for node in graph.nodes)
    return Graph(nodes, graph.outputs, graph.attrs)


def with_mean_pooling(graph: Graph) -> Graph:
    """The graph with global average pooling written as a mean, which computes the same.

    The gradient of MXNet 1.9.1's pooling is slow where it is global, and makes that of the BatchNorm below it slow: a
    third of a residual network's step of training, at 8x8 maps.
    """
    attrs = {"axis": "(0, 1)", "exclude": "True", "keepdims": "True"}
    return Graph(tuple(Node(node.name, "mean", attrs, node.inputs[:1]) if _is_global_average(node) else node
                       for node in graph.nodes), graph.outputs, graph.attrs)


def with_sliced_sequences(graph: Graph) -> Graph:
    """The graph with the last step of whole sequences written as a slice, which gives the same.

    The gradient of MXNet 1.9.1's SequenceLast without lengths reads memory that is not its own, and ends the process.
    """
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op == "SequenceLast" and not node.is_on("use_sequence_length"):
            axis = node.attrs.get("axis", "0")
            step = compose.fresh_name(f"{node.name}_step", graph.by_name)
            nodes.append(Node(step, "slice_axis", {"axis": axis, "begin": "-1", "end": "None"}, node.inputs[:1]))
            node = Node(node.name, "squeeze", {"axis": axis}, (Edge(step),))
        nodes.append(node)
    return Graph(tuple(nodes), graph.outputs, graph.attrs)


def _is_global_average(node: Node) -> bool:
    return (node.op == "Pooling" and node.is_on("global_pool") and node.attrs.get("pool_type") == "avg"
            and node.attrs.get("layout", "None") in ("None", "NCW", "NCHW", "NCDHW"))


def _without_label(graph: Graph, node: Node) -> tuple[Node, ...]:
    if node.op not in operators.LOSS_OUTPUTS:
        return (node,)
    inputs = node.inputs[:1]
    if node.op not in ("SoftmaxOutput", "Softmax"):
        return (Node(node.name, "sigmoid" if node.op == "LogisticRegressionOutput" else "_copy", {}, inputs),)
    if node.is_on("multi_output"):
        return (Node(node.name, "softmax", {"axis": "1"}, inputs),)
    if node.is_on("preserve_shape") or _is_matrix(graph, inputs[0]):
        return (Node(node.name, "softmax", {"axis": "-1"}, inputs),)
    # SoftmaxOutput makes all figures of an example, of whatever shape, add up to 1. (With four axes MXNet 1.9.1 does so in
    # training, and at inference without oneDNN; with oneDNN it then takes the last axis.)
    flat, softmax = (compose.fresh_name(f"{node.name}_{part}", graph.by_name) for part in ("flat", "softmax"))
    return (Node(flat, "Flatten", {}, inputs), Node(softmax, "softmax", {"axis": "-1"}, (Edge(flat),)),
            Node(node.name, "reshape_like", {}, (Edge(softmax), inputs[0])))


def _is_matrix(graph: Graph, edge: Edge) -> bool:
    """Whether a value has a batch axis and one more for certain; shapes of inputs are not in the graph."""
    node = graph.by_name[edge.node]
    while node.op in _RANK_KEPT:
        node = graph.by_name[node.inputs[0].node]
    if node.op in operators.RESHAPES:
        return bool(re.fullmatch(r"[(\[]\s*(0|-1|[1-9]\d*)L?\s*,\s*(0|-1|[1-9]\d*)L?\s*[)\]]", node.attrs.get("shape", "")))
    return node.op == "Flatten" or (node.op == "FullyConnected" and node.is_on("flatten", default=True))


def _rewire(graph: Graph, routes: Mapping[tuple[str, int], Edge], gone: Collection[str] = (),
            added: tuple[Node, ...] = (), after: str = "") -> Graph:
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name not in gone:
            nodes.append(compose.redirect(node, routes))
        if node.name == after:
            nodes.extend(added)
    return Graph(tuple(nodes), tuple(routes.get(edge[:2], edge) for edge in graph.outputs), graph.attrs)


def _owned(graph: Graph, layer: str, kept: Collection[str]) -> set[str]:
    """The layer and the variables that nothing but it reads, those in `kept` excepted."""
    outputs = {edge.node for edge in graph.outputs}
    variables = {edge.node for edge in graph.by_name[layer].inputs if graph.by_name[edge.node].is_variable}
    alone = {name for name in variables - set(kept) - outputs
             if all(user == layer for user, _ in graph.consumers[name])}
    return {layer} | alone


def _through(graph: Graph, node: Node, known: Known, keep: str | None) -> Edge:
    sources = query.data_edges(graph, node, known)
    if keep is not None:
        chosen = query.resolve_output(graph, keep)
        for edge in sources:
            if edge[:2] == chosen[:2]:
                return edge
        raise ModelError(f"{keep!r} is not an input of {node.name!r}; its inputs are: {_listed(graph, sources)}.")
    if len(sources) != 1:
        raise ModelError(f"The layer {node.name!r} has {len(sources)} inputs, so what takes its place is ambiguous: "
                         f"{_listed(graph, sources)}. Choose one with remove({node.name!r}, keep=...).")
    return sources[0]


def _listed(graph: Graph, edges: Iterable[Edge]) -> str:
    return ", ".join(repr(query.output_name(graph, edge)) for edge in edges) or "none"


def _one(new: Graph, outputs: tuple[Edge, ...]) -> Edge:
    """The only one of `outputs`, which are those of `new` by the names they have now."""
    if len(outputs) != 1:
        raise ModelError(f"What is put into the network must have one output; it has {len(outputs)}: "
                         f"{_listed(new, new.outputs)}.")
    return outputs[0]


def _require_one_output(graph: Graph, layer: str, done: str) -> None:
    used = query.used_outputs(graph, layer)
    if used != (0,):
        raise ModelError(f"The layer {layer!r} has outputs {', '.join(map(str, used))} in use and cannot be {done}.")


def _require_more_layers(graph: Graph, count: int) -> None:
    if count >= len(graph.layer_names):
        raise ModelError(f"Cannot drop {count} layers: the network has {len(graph.layer_names)}, and one must stay.")
