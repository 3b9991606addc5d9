"""An ONNX file -> Network that computes what ONNX Runtime computes with the file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
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
from xfer2.model_handler.onnx_translation import OnnxNode, Shape, Translation, refusal

logger = logging.getLogger("xfer2")

_DOMAINS = ("", "ai.onnx")
_OLDEST = 7  # before it, what is added to what was said otherwise


def read(path: str) -> Network:
    """Read an ONNX file, such as PyTorch writes, and compare the network with it on a random batch.

    Layers are named as the nodes, parameters as the initializers. A ``NAME-preprocessing.json`` beside ``NAME.onnx`` is read
    with it.

    Raises
    ------
    ModelError
        The file is missing or broken, an operator has no form in MXNet, or ONNX Runtime gives figures that differ from
        MXNet's by more than 1e-4 of the largest.
    """
    onnx = require("onnx", "Reading an ONNX file", "onnx<1.17")
    if not os.path.isfile(path):
        raise ModelError(f"There is no file {path!r}.")
    try:
        model = onnx.load(path)
        opset = {one.domain: one.version for one in model.opset_import}
        initial = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    except Exception as error:  # protobuf's, the file system's and onnx's own have no class in common below it
        raise ModelError(f"{path!r} cannot be read as ONNX: {symbols.first_line(error)}") from error
    try:
        batch = _made_for(model, initial)
        network = _network(onnx, model, max((opset[name] for name in _DOMAINS if name in opset), default=0), initial, batch)
    except ModelError as error:
        raise ModelError(f"{path!r}: {error}") from error
    network = mxnet_files.with_preprocessing(network, path.removesuffix(".onnx"))
    unknown = [name for name in network.inputs if name not in network.input_shapes]
    if unknown:
        logger.warning("%r was not compared with ONNX Runtime: it does not say the shape of its input %r", path, unknown[0])
        return network
    onnx_check.compare(path, network, network.input_shapes, f"{path!r} was read as something else than it is",
                       "A node means something that was not understood.", batch, optimized=False)
    return network


def _network(onnx: Any, model: Any, opset: int, initial: dict[str, np.ndarray], batch: int | None) -> Network:
    if opset < _OLDEST:
        raise ModelError(f"It is written for opset {opset} of ONNX; the oldest that is known is {_OLDEST}.")
    inputs = {value.name: _sizes(value)[1:] for value in model.graph.input if value.name not in initial}
    translation = Translation(opset, inputs, {"": np.zeros(0), **initial}, batch)
    for node in _nodes(model):
        _translate(onnx, translation, node)
    outputs = tuple(translation.edge(value.name) for value in model.graph.output)
    graph = edit.prune(Graph(tuple(translation.nodes), outputs, codec.current_version_attrs()), outputs)
    values = {name: mx.nd.array(array, dtype="float32") for name, array in translation.params.items()
              if name in graph.by_name}
    known = {name: shape for name, shape in inputs.items() if 0 not in shape}
    return params.assemble(symbols.to_symbol(graph), values, input_shapes=known)


def _translate(onnx: Any, translation: Translation, proto: Any) -> None:
    """Add what a node means: layers; or values, where it does not depend on the input."""
    node = _named(onnx, proto, len(translation.nodes))
    if node.op == "Shape" and not translation.is_constant(node.inputs[0]):
        translation.rank(node)
        sizes = translation.shape(node.inputs[0])[node.attrs.get("start", 0):node.attrs.get("end")]
        translation.constants[node.outputs[0]] = np.array(sizes, np.int64)
        return
    if proto.domain in _DOMAINS and all(map(translation.is_constant, node.inputs)):
        try:
            translation.constants.update(_computed(onnx, proto, translation))
        except Exception as error:  # whatever onnx's reference raises
            raise refusal(node, f"its value cannot be computed ({symbols.first_line(error)})") from error
        return
    if node.op not in OPERATORS or proto.domain not in _DOMAINS:
        raise refusal(node, f"it is none of the {len(OPERATORS)} operators that are known. Export the network without it")
    try:
        found = OPERATORS[node.op](translation, node)
    except KeyError as error:
        raise refusal(node, f"it has no {error}, or reads what no node before it gives") from error
    translation.edges.update(zip(node.outputs, found if isinstance(found, list) else [found], strict=False))


def _computed(onnx: Any, proto: Any, translation: Translation) -> dict[str, np.ndarray]:
    """What a node gives that reads constants alone, by onnx's reference."""
    given = {name: translation.constants[name] for name in proto.input if name}
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
              for name, array in given.items()]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output if name]
    model = onnx.helper.make_model(onnx.helper.make_graph([proto], "constants", inputs, outputs),
                                   opset_imports=[onnx.helper.make_opsetid("", translation.opset)])
    found = require("onnx.reference", "Reading an ONNX file", "onnx<1.17").ReferenceEvaluator(model).run(None, given)
    return dict(zip((output.name for output in outputs), map(np.asarray, found), strict=True))


def _named(onnx: Any, proto: Any, number: int) -> OnnxNode:
    attrs = {one.name: onnx.helper.get_attribute_value(one) for one in proto.attribute}
    return OnnxNode(proto.op_type, proto.name.strip("/") or f"{proto.op_type.lower()}{number}", tuple(proto.input),
                    tuple(proto.output), {name: value.decode() if isinstance(value, bytes) else value
                                          for name, value in attrs.items()})


def _nodes(model: Any) -> Iterator[Any]:
    """The nodes, functions written out."""
    if model.functions:
        inliner = require("onnx.inliner", "Reading an ONNX file with functions", "onnx>=1.15,<1.17")
        model = inliner.inline_local_functions(model)
    yield from model.graph.node


def _sizes(value: Any) -> Shape:
    """Sizes of an input's axes, 0 where the file does not say them."""
    axes = value.type.tensor_type.shape.dim
    if not axes:
        raise ModelError(f"It does not say how many axes its input {value.name!r} has.")
    return tuple(axis.dim_value for axis in axes)


def _made_for(model: Any, initial: dict[str, np.ndarray]) -> int | None:
    """The number of examples that the file is made for; None where it takes any."""
    first = [_sizes(value)[0] for value in model.graph.input if value.name not in initial]
    return next(filter(None, first), None)
