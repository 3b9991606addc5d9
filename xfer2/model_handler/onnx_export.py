"""Network -> an ONNX file that ONNX Runtime has run and that computes what MXNet computes."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from xfer2._mxnet import mx
from xfer2._optional import require
from xfer2.exceptions import ModelError
from xfer2.model_handler import onnx_check, params, symbols
from xfer2.model_handler.graph import compose, edit, query
from xfer2.model_handler.graph.model import Edge, Graph, Node
from xfer2.model_handler.network import Network

_OPSET = 13  # the newest that MXNet's translations were written for; what they write is wrong under newer ones
_DEFAULTS = {  # of MXNet, where the translation takes a missing attribute for another value
    "FullyConnected": {"flatten": "True"}, "LRN": {"knorm": "2"}, "Deconvolution": {"no_bias": "True"}}
_ORDERING = frozenset({"_contrib_box_nms", "topk", "argsort", "sort"})
_ONE_AT_A_TIME = threading.Lock()  # the onnx package has one opset to check for, whoever checks
_REMEDY = "Replace that layer, or export the part of the network below it (truncate, extract)."


def save_onnx(network: Network, path: str, input_shapes: Mapping[str, tuple[int, ...]] | None = None) -> None:
    """Write an ONNX file (batch axis dynamic), with parameters as initializers only, so that runtimes can fold them.

    The file gets its name after ONNX Runtime has computed with it what MXNet computes, on one random batch: MXNet's
    translation of some layers is wrong, and says nothing. Of what is sorted (a detector's boxes), what goes into the sorting
    is compared, and of what comes out the shapes.

    Parameters
    ----------
    network : Network
    path : str
    input_shapes : mapping of str to tuple of int, optional
        Without the batch axis; they take the place of the network's own record.

    Raises
    ------
    ModelError
        An operator has no ONNX translation, the shape of an input is not known, there is no such folder or it cannot be
        written, or the file does not load or gives figures that differ from MXNet's by more than 1e-4 of the largest. No
        file is left then.
    ParameterError, DataError
        A shape is given for what is no input, or does not fit the network.
    """
    params.require_values(network, "export_onnx")
    onnx = require("onnx", "export_onnx", "onnx<1.17")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise ModelError(f"Cannot export to {path!r}: there is no folder {folder!r}. Make it first.")
    if os.path.isdir(path):
        raise ModelError(f"Cannot export to {path!r}: it is a folder. Give the path of a file.")
    shapes = _known_shapes(network, input_shapes or {})
    model = _translated(onnx, network, shapes)
    part = _below_ordering(network)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            written, other = (os.path.join(scratch, name) for name in ("model.onnx", "part.onnx"))
            onnx.save(model, written)
            _check(written, network, shapes, figures=part is network)
            if part is not None and part is not network:
                onnx.save(_translated(onnx, part, shapes), other)
                _check(other, part, shapes)
            os.replace(written, path)
    except OSError as error:
        raise ModelError(f"Cannot export to {path!r}: {folder!r} cannot be written ({error.strerror or error}). Choose a "
                         "folder that can, with room for the file.") from error


def _known_shapes(network: Network, given: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    shapes = {**network.input_shapes, **given}
    unknown = [name for name in network.inputs if name not in shapes]
    if unknown:
        raise ModelError(f"export_onnx needs the shape of the input {unknown[0]!r}; give it without the batch axis, for "
                         f"example export_onnx(path, {unknown[0]}=(3, 224, 224)).")
    symbols.shapes_for_data(network, shapes)
    return shapes


def _translated(onnx: Any, network: Network, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    graph, values = _spelled_out(network, shapes)
    symbol = symbols.to_symbol(graph)
    names = [name for name in symbol.list_inputs() if name not in values]  # the translation reads shapes in this order
    known = [(1, *shapes[name]) for name in names]
    batched = [("batch", *shapes[name]) for name in names]
    types = [onnx.TensorProto.FLOAT] * len(names)
    _silence_translations()
    converter = mx.onnx.mx2onnx._export_onnx.MXNetGraph()
    try:
        # not mx.onnx.export_model, which stamps the newest opset that the onnx package knows on what is written for 13
        with _ONE_AT_A_TIME, _checked_as_opset(onnx, _OPSET):
            made = converter.create_onnx_graph_proto(symbol, values, known, types, opset_version=_OPSET, dynamic=True,
                                                     dynamic_input_shapes=batched)
        _, order = converter.get_outputs(symbol, values, known, "", types)
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError, RuntimeError,
            onnx.checker.ValidationError) as error:
        said = symbols.first_line(error) or type(error).__name__
        raise ModelError(f"The network has no ONNX form: {said.rstrip('.')}. {_REMEDY}") from error
    outputs = {value.name: value for value in made.output}
    if len(outputs) != len(graph.outputs) or outputs.keys() != order.keys():
        raise ModelError(f"The network has no ONNX form: of its {len(graph.outputs)} outputs MXNet translates "
                         f"{len(outputs)}. Export each output alone (extract).")
    inputs = {value.name: value for value in made.input}
    for field, kept in ((made.input, [inputs[name] for name in network.inputs if name in inputs]),
                        (made.output, [outputs[name] for name in order])):
        copies = [type(value).FromString(value.SerializeToString()) for value in kept]
        del field[:]
        field.extend(copies)
    return onnx.helper.make_model_gen_version(made, opset_imports=[onnx.helper.make_opsetid("", _OPSET)])


def _silence_translations() -> None:
    """Some print; others that print meanwhile must be heard."""
    for name, module in list(sys.modules.items()):
        if name.startswith("mxnet.onnx.mx2onnx"):
            vars(module)["print"] = lambda *said, **how: None


@contextmanager
def _checked_as_opset(onnx: Any, version: int) -> Iterator[None]:
    """Let the onnx package check graphs as of one opset: MXNet's converter asks it to, and cannot tell it which."""
    context = onnx.checker.DEFAULT_CONTEXT
    before = context.opset_imports
    context.opset_imports = {"": version}
    try:
        yield
    finally:
        context.opset_imports = before


def _spelled_out(network: Network, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Graph, dict[str, Any]]:
    """The graph and its parameters with all said that MXNet means and its translation to ONNX leaves out."""
    graph, values = edit.as_inference(network.graph), dict(network.params)
    slopes = [node for node in graph.nodes if node.op == "LeakyReLU" and node.attrs.get("act_type") == "prelu"]
    _, found = symbols.infer_shapes(network.with_graph(graph), shapes, outputs=[node.inputs[0] for node in slopes] or None)
    ranks = {node.name: len(shape or ()) for node, shape in zip(slopes, found if slopes else [], strict=True)}
    graph = edit.set_attrs(graph, {node.name: {**_DEFAULTS[node.op], **node.attrs} for node in graph.nodes
                                   if node.op in _DEFAULTS})
    for node in graph.nodes:
        held = values.get(node.inputs[1].node) if len(node.inputs) > 1 else None
        if held is None:
            continue
        if node.op == "BatchNorm" and node.is_on("fix_gamma", default=True):
            graph = _with_value(graph, values, node.name, mx.nd.ones_like(held))
        elif ranks.get(node.name, 0) > 2 and held.ndim == 1:  # one slope a channel: ONNX would lay them along the last axis
            graph = _with_value(graph, values, node.name, held.reshape((-1, *[1] * (ranks[node.name] - 2))))
    return graph, values


def _with_value(graph: Graph, values: dict[str, Any], layer: str, value: Any) -> Graph:
    """Let one layer read `value` as its first parameter; a layer that shares the parameter keeps what it reads."""
    old = graph.by_name[layer].inputs[1].node
    if len(graph.consumers[old]) == 1:
        values[old] = value
        return graph
    name = compose.fresh_name(f"{layer}_{old}", graph.by_name)
    values[name] = value
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name == layer:
            nodes.append(Node(name))
            node = replace(node, inputs=(node.inputs[0], Edge(name), *node.inputs[2:]))
        nodes.append(node)
    return Graph(tuple(nodes), graph.outputs, graph.attrs)


def _below_ordering(network: Network) -> Network | None:
    """The network up to where it first puts examples' figures in order; itself where it does not, None if nothing is below.

    Detectors sort boxes by their scores: where two all but tie, a difference of 1e-7 exchanges them and all that follows.
    """
    graph = network.graph
    ordering = [node for node in graph.nodes if node.op in _ORDERING]
    first = [node for node in ordering if not any(
        other is not node and other.name in query.ancestors(graph, [node.name]) for other in ordering)]
    above = {node.name for node in ordering}
    kept = [edge for edge in graph.outputs if not above & query.ancestors(graph, [edge.node])]
    if len(kept) == len(graph.outputs):
        return network
    kept += [edge for node in first for edge in query.data_edges(graph, node, network.params)
             if not graph.by_name[edge.node].is_variable]
    edges = list(dict.fromkeys(kept))
    return network.with_graph(edit.prune(graph, edges)) if edges else None


def _check(written: str, network: Network, shapes: Mapping[str, tuple[int, ...]], figures: bool = True) -> None:
    onnx_check.compare(written, network, shapes, "The network has no ONNX form that is right",
                       f"MXNet's translation of a layer is wrong; no file was written. {_REMEDY}", figures=figures)
