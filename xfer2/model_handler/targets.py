"""Network -> a Gluon block, a Module, a checkpoint on disk, an ONNX file."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xfer2._mxnet import Block, Module, mx
from xfer2._optional import require
from xfer2.exceptions import ModelError
from xfer2.model_handler import params, symbols
from xfer2.model_handler.graph import edit, query
from xfer2.model_handler.graph.model import Graph
from xfer2.model_handler.network import Network

_BACKEND = "MXNET_SUBGRAPH_BACKEND"
_INITIALIZER = dict(rnd_type="gaussian", factor_type="in", magnitude=2)


def training_graph(network: Network, fixed: Collection[str] = ()) -> Graph:
    """The graph in which frozen BatchNorm layers use their running statistics, so that training leaves those alone.

    With gradients off alone, MXNet's BatchNorm still normalises by the batch and moves its running mean while recording.
    The same is done for a layer whose statistics are among the parameters in `fixed`.
    """
    graph = network.graph
    for node in graph.nodes:
        held = node.name in network.frozen or any(edge.node in fixed for edge in node.inputs[3:])
        if node.op in query.BATCH_NORMS and held:
            graph = edit.set_attrs(graph, node.name, {"use_global_stats": "True"})
    return graph


def to_block(network: Network, context: Any = None) -> Block:
    """A Gluon block that computes and trains the network.

    Output layers with a label (SoftmaxOutput) become what they compute without one (a softmax), so that the block takes
    data only; for a Gluon loss on logits, drop that layer first. Parameters without values are left to be initialised
    (``block.initialize()`` keeps those that have values). Frozen parameters have ``grad_req="null"``.
    """
    symbol = symbols.to_symbol(edit.as_inference(training_graph(network)))
    inputs = [mx.sym.var(name) for name in network.inputs]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Cannot decide type")  # parameters' types are set below
        block = mx.gluon.SymbolBlock(symbol, inputs)
    frozen = network.frozen_parameters
    states = set(symbol.list_auxiliary_states())
    shapes, _ = symbols.infer_shapes(network)
    for name, parameter in block.collect_params().items():
        value = network.params.get(name)
        if value is not None:
            parameter.shape = value.shape
            parameter.dtype = value.dtype
            parameter.initialize(init=mx.init.Zero(), ctx=context or mx.cpu())
            parameter.set_data(value)
        elif name in shapes:
            parameter.shape = shapes[name]
        parameter.grad_req = "null" if name in frozen or name in states else "write"
    return block


def to_training_block(network: Network, context: Any = None) -> Block:
    """As `to_block`, for training here and `from_block`: the same but for rounding, and faster."""
    return to_block(network.with_graph(edit.with_mean_pooling(network.graph)), context)


def to_module(network: Network, data_shapes: Any, label_shapes: Any, contexts: Any, for_training: bool = True,
              fixed: Iterable[str] = ()) -> Module:
    """A bound MXNet Module with the network's parameters; those without values are drawn.

    Parameters
    ----------
    network : Network
    data_shapes, label_shapes : list of mx.io.DataDesc
        As a DataIter provides them.
    contexts : list of mx.Context
    for_training : bool
    fixed : iterable of str
        Parameters and statistics to hold fixed beside those of the frozen layers.
    """
    labels = network.labels
    fixed = {*fixed, *network.frozen_parameters}
    symbol = symbols.to_symbol(training_graph(network, fixed))
    module = mx.mod.Module(
        symbol, context=contexts, data_names=[name for name, *_ in data_shapes], label_names=list(labels) or None,
        fixed_param_names=sorted(fixed & set(symbol.list_arguments())) or None)  # of statistics Module knows no fixing
    try:
        with _without_fusion():
            module.bind(data_shapes=data_shapes, label_shapes=label_shapes if labels else None, for_training=for_training)
        module.init_params(mx.init.Xavier(**_INITIALIZER), arg_params=dict(network.arg_params),
                           aux_params=dict(network.aux_params), allow_missing=True, allow_extra=True)
    except (mx.MXNetError, ValueError, RuntimeError) as error:
        raise ModelError(f"The network cannot be bound to data of shapes {list(data_shapes)}: "
                         f"{symbols.first_line(error)}") from error
    return module


@contextmanager
def _without_fusion() -> Iterator[None]:
    """Bind without MXNet's MKLDNN subgraphs, unless the user chose a backend.

    In 1.9.1 they give wrong values for inner layers, and cannot bind a residual unit whose addition takes its input first.
    """
    if _BACKEND in os.environ:
        yield
        return
    os.environ[_BACKEND] = "NONE"
    try:
        yield
    finally:
        del os.environ[_BACKEND]


def from_block(network: Network, block: Block) -> Network:
    """The network with the parameter values that `block`, made of it by `to_block`, has now."""
    mx.nd.waitall()  # BatchNorm's backward pass writes its statistics unseen by MXNet's scheduler
    return params.with_params(network, {name: p.data(p.list_ctx()[0]).as_in_context(mx.cpu()).copy()
                                        for name, p in block.collect_params().items() if p._data is not None})


def save_checkpoint(network: Network, prefix: str, epoch: int = 0) -> list[str]:
    """Write ``PREFIX-symbol.json``, ``PREFIX-EPOCH.params`` and, where known, ``PREFIX-preprocessing.json``.

    Plain MXNet loads the first two. Each file is written under a temporary name and renamed.

    Returns
    -------
    list of str
        The paths written.
    """
    params.require_values(network, "save")
    folder = os.path.dirname(prefix) or "."
    if not os.path.isdir(folder):
        raise ModelError(f"Cannot save to {prefix!r}: there is no folder {folder!r}.")
    arrays = {**{f"arg:{k}": v for k, v in network.arg_params.items()},
              **{f"aux:{k}": v for k, v in network.aux_params.items()}}
    texts = {f"{prefix}-symbol.json": symbols.to_symbol(network.graph).tojson()}
    if network.preprocessing is not None:
        texts[f"{prefix}-preprocessing.json"] = network.preprocessing.to_json()
    params_path = f"{prefix}-{epoch:04d}.params"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        mx.nd.save(os.path.join(scratch, "params"), arrays)
        os.replace(os.path.join(scratch, "params"), params_path)
        for path, text in texts.items():
            Path(scratch, "text").write_text(text, encoding="utf-8")
            os.replace(os.path.join(scratch, "text"), path)
    return [*texts, params_path]


def save_onnx(network: Network, path: str, input_shapes: dict[str, tuple[int, ...]] | None = None) -> None:
    """Write an ONNX file (batch axis dynamic), with parameters as initializers only, so that runtimes can fold them.

    Raises
    ------
    ModelError
        An operator has no ONNX translation, or the shape of an input is not known.
    """
    params.require_values(network, "export_onnx")
    onnx = require("onnx", "export_onnx", "onnx<1.17")
    shapes = {**network.input_shapes, **(input_shapes or {})}
    unknown = [name for name in network.inputs if name not in shapes]
    if unknown:
        raise ModelError(f"export_onnx needs the shape of the input {unknown[0]!r}; give it without the batch axis, for "
                         f"example export_onnx(path, {unknown[0]}=(3, 224, 224)).")
    graph = edit.as_inference(network.graph)
    for node in graph.nodes:  # the translation takes a missing "flatten" for False, MXNet for True
        if node.op == "FullyConnected" and "flatten" not in node.attrs:
            graph = edit.set_attrs(graph, node.name, {"flatten": "True"})
    known = [(1, *shapes[name]) for name in network.inputs]
    batched = [("batch", *shapes[name]) for name in network.inputs]
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path) or ".") as scratch:
        written = os.path.join(scratch, "model.onnx")
        try:
            mx.onnx.export_model(symbols.to_symbol(graph), dict(network.params), known, "float32", written,
                                 dynamic=True, dynamic_input_shapes=batched)
        except (AttributeError, NotImplementedError, KeyError, ValueError, RuntimeError) as error:
            raise ModelError(f"The network has no ONNX form: {symbols.first_line(error)}") from error
        model = onnx.load(written)
        initialized = {tensor.name for tensor in model.graph.initializer}
        kept = [value for value in model.graph.input if value.name not in initialized]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        onnx.save(model, written)
        os.replace(written, path)
