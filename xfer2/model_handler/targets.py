"""Network -> a Gluon block, a Module, a checkpoint on disk."""

from __future__ import annotations

import glob
import os
import re
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xfer2._mxnet import Block, Module, mx
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

    Plain MXNet loads the first two. Each file is written under a temporary name and renamed. A preprocessing record of an
    earlier checkpoint of that prefix is removed where the network has none.

    Returns
    -------
    list of str
        The paths written.

    Raises
    ------
    ModelError
        There is no such folder, or the prefix has parameters of a later epoch: those are what is read back.
    """
    params.require_values(network, "save")
    folder = os.path.dirname(prefix) or "."
    if not os.path.isdir(folder):
        raise ModelError(f"Cannot save to {prefix!r}: there is no folder {folder!r}.")
    later = _later_epoch(prefix, epoch)
    if later is not None:
        raise ModelError(f"Cannot save epoch {epoch} to {prefix!r}: {prefix}-{later:04d}.params is of a later epoch, and it "
                         f"is what would be read. Choose another prefix, save with epoch={later} or a later one, or "
                         "remove that file.")
    arrays = {**{f"arg:{k}": v for k, v in network.arg_params.items()},
              **{f"aux:{k}": v for k, v in network.aux_params.items()}}
    texts = {f"{prefix}-symbol.json": symbols.to_symbol(network.graph).tojson()}
    record = f"{prefix}-preprocessing.json"
    if network.preprocessing is not None:
        texts[record] = network.preprocessing.to_json()
    params_path = f"{prefix}-{epoch:04d}.params"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        mx.nd.save(os.path.join(scratch, "params"), arrays)
        if network.preprocessing is None:  # first: another network's record beside this one would be believed
            Path(record).unlink(missing_ok=True)
        os.replace(os.path.join(scratch, "params"), params_path)
        for path, text in texts.items():
            Path(scratch, "text").write_text(text, encoding="utf-8")
            os.replace(os.path.join(scratch, "text"), path)
    return [*texts, params_path]


def _later_epoch(prefix: str, epoch: int) -> int | None:
    """The newest epoch of which the prefix has parameters, where that is later than `epoch`."""
    found = [int(match[1]) for path in glob.glob(f"{glob.escape(prefix)}-*.params")
             if (match := re.match(r"^-(\d{4,})\.params$", path[len(prefix):]))]
    return max((number for number in found if number > epoch), default=None)
