"""An ONNX file -> Network that computes what ONNX Runtime computes with the file."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2._optional import require
from xfer2.exceptions import ModelError
from xfer2.model_handler import mxnet_files, onnx_check, params, symbols
from xfer2.model_handler.graph import codec, edit
from xfer2.model_handler.graph.model import Graph
from xfer2.model_handler.network import Network
from xfer2.model_handler.onnx_operators import OPERATORS
from xfer2.model_handler.onnx_translation import FREE, OnnxNode, Result, Shape, Translation, is_free, refusal

logger = logging.getLogger("xfer2")

_DOMAINS = ("", "ai.onnx")
_OLDEST = 7  # before it, what is added to what was said otherwise
_SIZES = ((64, 96), (224, 256), (8, 12))  # tried for axes that a file leaves free: of maps, of images, of short sequences
_MOVING = frozenset({"Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Identity", "Reshape", "Split", "Cast", "Shape"})


def read(path: str) -> Network:
    """Read an ONNX file, such as PyTorch writes, and compare the network with it on random batches.

    Layers are named as the nodes, parameters as the initializers. A ``NAME-preprocessing.json`` beside ``NAME.onnx`` is read
    with it. Where the file leaves axes free beside the batch, they are compared at two sizes of these; the network then has
    no record of that input's shape.

    Raises
    ------
    ModelError
        The file is missing or broken, an operator has no form in MXNet, ONNX Runtime gives figures that differ from
        MXNet's by more than 1e-4 of the largest, or the network mixes the examples of a batch whose size the file says.
    """
    onnx = require("onnx", "Reading an ONNX file", "onnx<1.17")
    if not os.path.isfile(path):
        raise ModelError(f"There is no file {path!r}.")
    try:
        model = onnx.load(path)
        initial = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        nodes = _needed_nodes(model)
    except Exception as error:  # protobuf's, the file system's and onnx's own have no class in common below it
        raise ModelError(f"{path!r} cannot be read as ONNX: {symbols.first_line(error)}") from error
    try:
        inputs = {value.name: _sizes(value) for value in model.graph.input if value.name not in initial}
    except ModelError as error:
        raise ModelError(f"{path!r}: {error}") from error
    network = _of_fitting_sizes(onnx, path, model, nodes, initial, inputs)
    for name in inputs:
        if name not in network.inputs:
            logger.info("%r: no output depends on its input %r, which is left out", path, name)
    return mxnet_files.with_preprocessing(network, path.removesuffix(".onnx"))


def _of_fitting_sizes(onnx: Any, path: str, model: Any, nodes: list[Any], initial: Mapping[str, np.ndarray],
                      inputs: Mapping[str, Shape]) -> Network:
    """The network as it was found to agree with the file, at the first sizes of the free axes at which it does."""
    read_values = {value for node in nodes for value in node.input}
    batch = next((shape[0] for name, shape in inputs.items() if shape[0] and name in read_values), None)
    is_open = any(0 in shape[1:] for shape in inputs.values())
    tried = _SIZES if is_open else _SIZES[:1]
    errors = []
    for free in tried:
        try:
            network = _network(onnx, model, nodes, initial, {name: shape[1:] for name, shape in inputs.items()}, batch, free)
        except ModelError as error:
            errors.append(ModelError(f"{path!r}: {error}"))
            continue
        try:
            for size in free if is_open else free[:1]:
                shapes = {name: tuple(known or size for known in shape[1:]) for name, shape in inputs.items()}
                onnx_check.compare(path, network, shapes, f"{path!r} was read as something else than it is",
                                   "A node means something that was not understood.", batch or 2, optimized=False,
                                   apart=batch is not None)
        except ModelError as error:
            errors.append(error)
            continue
        return network
    if len({str(error) for error in errors}) == 1:  # it is not the size
        raise errors[0]
    listed = ", ".join(f"{one} and {two}" for one, two in tried)
    raise ModelError(f"{errors[0]} None of the sizes tried for the axes that the file leaves free fits: {listed}.")


def _network(onnx: Any, model: Any, nodes: list[Any], initial: Mapping[str, np.ndarray], inputs: Mapping[str, Shape],
             batch: int | None, free: tuple[int, int]) -> Network:
    opset = max((one.version for one in model.opset_import if one.domain in _DOMAINS), default=0)
    if opset < _OLDEST:
        raise ModelError(f"It is written for opset {opset} of ONNX; the oldest that is known is {_OLDEST}.")
    outputs = [value.name for value in model.graph.output]
    uses = Counter([*outputs, *(value for node in nodes for value in node.input)])
    translation = Translation(opset, inputs, {"": np.zeros(0), **initial}, batch, free, uses)
    for node in nodes:
        _translate(onnx, translation, node)
    edges = tuple(map(translation.edge, outputs))
    graph = edit.prune(Graph(tuple(translation.nodes), edges, codec.current_version_attrs()), edges)
    values = {name: mx.nd.array(array, dtype="float32") for name, array in translation.params.items()
              if name in graph.by_name}
    known = {name: shape for name, shape in inputs.items() if 0 not in shape and name in graph.by_name}
    return params.assemble(symbols.to_symbol(graph), values, input_shapes=known)


def _translate(onnx: Any, translation: Translation, proto: Any) -> None:
    """Add what a node means: layers; or values, where it does not depend on the input."""
    node = _named(onnx, proto, len(translation.nodes))
    translation.check_inputs(node)
    if proto.domain in _DOMAINS and all(map(translation.is_constant, node.inputs)):
        _require_known(translation, node)
        try:
            translation.constants.update(_computed(onnx, proto, translation))
        except Exception as error:  # whatever onnx's reference raises
            raise refusal(node, f"its value cannot be computed ({symbols.first_line(error)})") from error
        return
    if (node.op not in OPERATORS and node.op != "Shape") or proto.domain not in _DOMAINS:
        raise refusal(node, f"it is none of the {len(OPERATORS)} operators that are known. Export the network without it")
    try:
        if node.op == "Shape":
            translation.rank(node)
            sizes = translation.shape(node.inputs[0])[node.attrs.get("start", 0):node.attrs.get("end")]
            translation.constants[node.outputs[0]] = np.array(sizes, np.int64)
            return
        result: Result = OPERATORS[node.op](translation, node)
    except KeyError as error:
        raise refusal(node, f"it has no attribute {error}") from error
    except (AttributeError, IndexError, TypeError, ValueError, OverflowError) as error:
        # what the functions of operators meet in a node that breaks ONNX's rules, or that is written in a rare way
        raise refusal(node, f"its inputs or attributes are not such as are known ({symbols.first_line(error)})") from error
    found = result if isinstance(result, list) else [result]
    translation.edges.update(zip(node.outputs, found, strict=False))
    translation.left_out.update({value: node for value in node.outputs[len(found):] if value})


def _require_known(translation: Translation, node: OnnxNode) -> None:
    """Raise where a node computes with sizes that the file does not say: `BATCH` and `UNKNOWN` can be moved, no more."""
    free = [position for position, value in enumerate(node.inputs) if is_free(translation.constants[value])]
    moved = len(node.inputs) if node.op == "Concat" else 1
    integers = (6, 7)  # ONNX's numbers of int32 and int64
    if free and (node.op not in _MOVING or free[-1] >= moved or node.attrs.get("to", 7) not in integers):
        raise refusal(node, f"it computes with {node.inputs[free[-1]]!r}, which holds {FREE}. Export the network with fixed "
                            "sizes")


def _computed(onnx: Any, proto: Any, translation: Translation) -> dict[str, np.ndarray]:
    """What a node gives that reads constants alone, by onnx's reference."""
    given = {name: translation.constants[name] for name in proto.input if name}
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
              for name, array in given.items()]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output if name]
    graph = onnx.helper.make_graph([proto], "constants", inputs, outputs)
    found = _reference(onnx, graph, translation.opset).run(None, given)
    return dict(zip((output.name for output in outputs), map(np.asarray, found), strict=True))


def _reference(onnx: Any, graph: Any, opset: int) -> Any:
    """Onnx's reference of an opset; it lacks older forms of some operators, which then are computed as of a later one."""
    evaluator = require("onnx.reference", "Reading an ONNX file", "onnx<1.17").ReferenceEvaluator
    try:
        return evaluator(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)]))
    except RuntimeError:  # it has no such form
        if opset >= onnx.defs.onnx_opset_version():
            raise
        return _reference(onnx, graph, opset + 1)


def _named(onnx: Any, proto: Any, number: int) -> OnnxNode:
    name = proto.name.strip("/") or f"{proto.op_type.lower()}{number}"
    try:
        attrs = {one.name: onnx.helper.get_attribute_value(one) for one in proto.attribute}
    except ValueError as error:
        raise ModelError(f"The ONNX node {name!r} ({proto.op_type}) has an attribute that cannot be read: "
                         f"{symbols.first_line(error)}") from error
    return OnnxNode(proto.op_type, name, tuple(proto.input), tuple(proto.output),
                    {name: value.decode(errors="replace") if isinstance(value, bytes) else value
                     for name, value in attrs.items()})


def _needed_nodes(model: Any) -> list[Any]:
    """The nodes that outputs depend on, functions written out."""
    if model.functions:
        inliner = require("onnx.inliner", "Reading an ONNX file with functions", "onnx>=1.15,<1.17")
        model = inliner.inline_local_functions(model)
    wanted = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _sizes(value: Any) -> Shape:
    """Sizes of an input's axes, 0 where the file does not say them."""
    axes = value.type.tensor_type.shape.dim
    if not axes:
        raise ModelError(f"It does not say how many axes its input {value.name!r} has.")
    return tuple(max(axis.dim_value, 0) for axis in axes)  # some write -1
