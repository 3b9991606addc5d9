"""Graph <-> mxnet.sym.Symbol, and what only MXNet knows of a graph: shapes, and how many outputs an operator has."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from xfer2._mxnet import Symbol, mx
from xfer2.exceptions import DataError, ModelError
from xfer2.model_handler.graph import codec, numpy_operators, operators
from xfer2.model_handler.graph.model import Edge, Graph, Node
from xfer2.model_handler.network import Network

Shape = tuple[int, ...]

_POINTER_OPERATORS = frozenset({"_Native", "_NDArray"})
_GROUP_COUNTS = frozenset({"num_group", "num_groups"})  # of Convolution, Deconvolution and GroupNorm


def require_classic_interface() -> None:
    """Raise while ``mx.npx.set_np()`` is in force: MXNet's layers, initialisers and shapes then mean something else."""
    if mx.util.is_np_array() or mx.util.is_np_shape():
        raise ModelError("MXNet's NumPy interface is switched on in this process (mx.npx.set_np()); xfer2 computes by the "
                         "classic one. Call mx.npx.reset_np() first: networks of the NumPy interface are read all the same.")


def to_symbol(graph: Graph) -> Symbol:
    """The MXNet symbol of a graph."""
    check_operators(graph)
    check_output_numbers(graph)
    return _load(graph, "the graph")


def from_symbol(symbol: Symbol) -> Graph:
    """The graph of an MXNet symbol."""
    graph = numpy_operators.to_classic(codec.decode(symbol.tojson()))
    check_input_numbers(graph)
    return graph


def read_symbol_text(text: str) -> Graph:
    """Decode symbol JSON of any MXNet version, checked in Python first and brought to version 1.9.1 by MXNet."""
    graph = numpy_operators.to_classic(codec.decode(text))
    symbol = to_symbol(graph)
    if codec.written_by(graph) != codec.MXNET_VERSION:
        return from_symbol(symbol)
    check_input_numbers(graph)
    return graph


def check_operators(graph: Graph) -> None:
    """Raise where an operator ends the process: at loading if it holds memory addresses, later if it divides by zero."""
    for node in graph.nodes:
        if node.op in _POINTER_OPERATORS:
            raise ModelError(f"The layer {node.name!r} ({node.op}) holds a memory address of the program that wrote it; it "
                             "cannot be read.")
        for key in _GROUP_COUNTS & node.attrs.keys():
            if re.fullmatch(r"\s*[-+]?0+\s*", node.attrs[key]):
                raise ModelError(f"{key} of the layer {node.name!r} must be at least 1; got {node.attrs[key]}.")
        for body in codec.subgraphs(node):
            check_operators(body)


def check_input_numbers(graph: Graph) -> None:
    """Raise where an operator has another number of inputs than it takes.

    MXNet reads such a graph, and many operators then end the process when asked for names or shapes (a BatchNorm without
    inputs, say). Only for graphs of version 1.9.1: the upgrade of old ones gives operators the inputs that they had not.
    """
    for node in graph.nodes:
        if not node.is_variable:
            count = _input_count(node.op or "", tuple(sorted(node.attrs.items())), node.subgraphs)
            if count and len(node.inputs) != count:
                raise ModelError(f"The layer {node.name!r} ({node.op}) takes {count} "
                                 f"input{'s' if count != 1 else ''}; it has {len(node.inputs)}.")
        for body in codec.subgraphs(node):
            check_input_numbers(body)


def check_output_numbers(graph: Graph) -> None:
    """Raise where an edge takes an output that its operator does not have.

    MXNet's reader does not check this and ends the process with a segmentation fault. Output 0 exists always; for the
    others each operator concerned is built alone and counted.
    """
    for node in graph.nodes:
        for body in codec.subgraphs(node):
            check_output_numbers(body)
    edges = [edge for node in graph.nodes for edge in node.inputs] + list(graph.outputs)
    for name in dict.fromkeys(edge.node for edge in edges if edge.output > 0):
        count = _output_count(graph.by_name[name])
        highest = max(edge.output for edge in edges if edge.node == name)
        if highest >= count:
            raise ModelError(f"An edge takes output {highest} of {name!r}, which has {count} "
                             f"output{'s' if count != 1 else ''}.")


def _output_count(node: Node) -> int:
    return sum(name.startswith("layer_") for name in _alone(node).list_outputs())


def _alone(node: Node) -> Symbol:
    """All that an operator gives, under the name ``layer``, where it reads variables ``input0``, ``input1`` and so on."""
    variables = tuple(Node(f"input{number}") for number in range(len(node.inputs)))
    layer = replace(node, name="layer", inputs=tuple(Edge(v.name) for v in variables))
    return _load(Graph((*variables, layer), (Edge("layer"),), codec.current_version_attrs()),
                 f"the layer {node.name!r}").get_internals()


@lru_cache(maxsize=4096)
def _input_count(op: str, attrs: tuple[tuple[str, str], ...], subgraphs: str) -> int:
    """How many inputs MXNet gives the operator when it may choose; 0 where it takes none or any number, or cannot tell."""
    alone = Node("layer", op, dict(attrs), subgraphs=subgraphs)
    symbol = _load(Graph((alone,), (Edge("layer"),), codec.current_version_attrs()), f"an operator {op}")
    try:
        return len(symbol(name="layer").list_inputs())
    except mx.MXNetError:  # control flow: what its bodies read has names that only the writer knew
        return 0


def _load(graph: Graph, what: str) -> Symbol:
    try:
        return mx.sym.load_json(codec.encode(graph))
    except (mx.MXNetError, UnicodeEncodeError) as error:
        raise ModelError(f"MXNet refuses {what}: {first_line(error)}") from error


def infer_shapes(network: Network, input_shapes: Mapping[str, Shape] | None = None, batch_size: int = 1,
                 outputs: Iterable[Edge] | None = None) -> tuple[dict[str, Shape], list[Shape | None]]:
    """Shapes of all variables and of some outputs, as far as they follow from what is known.

    Parameters
    ----------
    network : Network
    input_shapes : mapping of str to tuple of int, optional
        Without the batch axis; they take the place of the network's own record.
    batch_size : int
    outputs : iterable of Edge, optional
        By default the graph's own.

    Returns
    -------
    variables : dict of str to tuple of int
        Only those that are known in full, batch axis included.
    shapes : list of tuple of int or None
        One per output; None where it does not follow.

    Raises
    ------
    ModelError
        Shapes contradict each other; the message names the layer.
    """
    graph = network.graph
    edges = graph.outputs if outputs is None else tuple(outputs)
    symbol = to_symbol(Graph(graph.nodes, edges, graph.attrs))
    known = {name: array.shape for name, array in network.params.items()}
    given = {**network.input_shapes, **(input_shapes or {})}
    known.update({name: (batch_size, *given[name]) for name in network.inputs if name in given})
    present = set(symbol.list_inputs())
    known = {name: shape for name, shape in known.items() if name in present}
    try:
        found, outs = _infer(symbol, known)
    except (mx.MXNetError, ValueError) as error:
        if not all(name in known for name in network.inputs if name in present) and not _infers_from_nothing(symbol):
            return {name: shape for name, shape in known.items()}, [None] * len(edges)
        raise ModelError(f"The shapes of the network contradict each other: {first_line(error)}") from error
    _check_sizes(graph, known, found)
    return ({name: shape for name, shape in found.items() if _is_full(shape)},
            [shape if _is_full(shape) else None for shape in outs])


def _check_sizes(graph: Graph, known: Mapping[str, Shape], found: Mapping[str, Shape]) -> None:
    """Raise where MXNet set aside the shape of an array: BatchNorm then computes with what lies behind it."""
    for name, shape in known.items():
        if name in found and _is_full(found[name]) and found[name] != tuple(shape):
            reader = ", ".join(repr(user) for user in dict.fromkeys(user for user, _ in graph.consumers[name]))
            raise ModelError(f"The shapes of the network contradict each other: {name!r} has the shape {tuple(shape)}; the "
                             f"layer {reader} needs {found[name]}.")


def _infer(symbol: Symbol, known: Mapping[str, Shape]) -> tuple[dict[str, Shape], list[Shape]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments, outputs, states = symbol.infer_shape_partial(**known)
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    return dict(zip(names, [*arguments, *states], strict=True)), outputs


def _infers_from_nothing(symbol: Symbol) -> bool:
    """Whether all operators bear an input of unknown shape; some (Pad, UpSampling) raise, which is no contradiction."""
    try:
        _infer(symbol, {})
    except (mx.MXNetError, ValueError):
        return False
    return True


def shapes_for_data(network: Network, data_shapes: Mapping[str, Shape],
                    batch_size: int | None = None) -> tuple[dict[str, Shape], list[Shape | None]]:
    """As `infer_shapes`, for data that a user gave: that they do not fit is the data's error, not the network's.

    Where the batch's size is known, every Reshape must fit it too.
    """
    try:
        misfits = misfit_reshapes(network, data_shapes, batch_size) if batch_size else {}
        if misfits:
            raise ModelError(next(iter(misfits.values())))
        return infer_shapes(network, data_shapes, batch_size or 1)
    except ModelError as error:
        def listed(shapes: Mapping[str, Shape]) -> str:
            return ", ".join(f"{name} (n, {', '.join(map(str, shape))})" for name, shape in shapes.items())

        expected = f" The network expects {listed(network.input_shapes)}." if network.input_shapes else ""
        raise DataError(f"The data do not fit the network: got {listed(data_shapes)}.{expected} {error}") from error


def misfit_reshapes(network: Network, input_shapes: Mapping[str, Shape] | None = None,
                    batch_size: int = 1) -> dict[str, str]:
    """What is wrong with each Reshape that gives another number of values than it reads.

    MXNet 1.9.1 does not look: it computes with what lies behind its array, or writes over it and ends the process.
    """
    nodes = [node for node in network.graph.nodes if node.op in operators.RESHAPES]
    edges = [edge for node in nodes for edge in (node.inputs[0], Edge(node.name))]
    _, shapes = infer_shapes(network, input_shapes, batch_size, edges) if edges else ({}, [])
    return {node.name: f"The layer {node.name!r} ({node.op}) is to give {node.attrs.get('shape')} of {read}, for a batch of "
            f"{batch_size}; the numbers of values differ."
            for node, read, made in zip(nodes, shapes[::2], shapes[1::2], strict=True)
            if read is not None and (made is None or math.prod(read) != math.prod(made))}


def output_shapes(node: Node, inputs: Sequence[Shape | None]) -> list[Shape | None]:
    """Shapes of an operator's outputs, from those of what it reads; none where MXNet finds a contradiction."""
    every = _alone(node)
    try:
        _, found = _infer(every, {f"input{number}": shape for number, shape in enumerate(inputs) if shape is not None})
    except (mx.MXNetError, ValueError):
        return []
    return [shape if _is_full(shape) else None for name, shape in zip(every.list_outputs(), found, strict=True)
            if name.startswith("layer_")]


def layer_shapes(network: Network, input_shapes: Mapping[str, Shape] | None = None) -> dict[str, Shape | None]:
    """Output shape of every layer without the batch axis; None where it does not follow from what is known."""
    layers = network.graph.layer_names
    _, shapes = infer_shapes(network, input_shapes, outputs=[Edge(name) for name in layers])
    return {name: None if shape is None else shape[1:] for name, shape in zip(layers, shapes, strict=True)}


def first_line(error: BaseException) -> str:
    """What MXNet has to say, without the native stack trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    trace = re.compile(r"^(\[bt\]|Stack trace|Traceback|File \"|\d+: |\(\d+\)|\[\d\d:\d\d:\d\d\])")
    useful = [line for line in lines if not trace.match(line)] or lines
    text = re.sub(r"^MXNetError: |\[\d\d:\d\d:\d\d\] \S+?:\d+: ", "", " ".join(useful[:2]))
    return text if len(text) <= 400 else text[:397] + "..."


def _is_full(shape: Shape | None) -> bool:
    return shape is not None and len(shape) > 0 and all(size > 0 for size in shape)
