"""Network -> a Gluon block, a Module."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from xfer2._mxnet import Block, Module, mx
from xfer2.exceptions import ModelError
from xfer2.model_handler import params, symbols
from xfer2.model_handler.graph import edit, operators
from xfer2.model_handler.graph.model import Graph
from xfer2.model_handler.network import Network

_BACKEND = "MXNET_SUBGRAPH_BACKEND"


def training_graph(network: Network, fixed: Collection[str] = ()) -> Graph:
    """The graph in which frozen BatchNorm layers use their running statistics, so that training leaves those alone.

    With gradients off alone, MXNet's BatchNorm still normalises by the batch and moves its running mean while recording.
    The same is done for a layer whose statistics are among the parameters in `fixed`.
    """
    held = [node.name for node in network.graph.nodes if node.op in operators.BATCH_NORMS
            and (node.name in network.frozen or any(edge.node in fixed for edge in node.inputs[3:]))]
    return edit.set_attrs(network.graph, {name: {"use_global_stats": "True"} for name in held})


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
    """As `to_block`, for training here and `from_block`: the same but for rounding, faster, and safe where MXNet is not."""
    return to_block(network.with_graph(edit.with_sliced_sequences(edit.with_mean_pooling(network.graph))), context)


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
    shapes = {name: tuple(shape[1:]) for name, shape, *_ in data_shapes}
    names = list(shapes)
    if set(names) != set(network.inputs):
        raise ModelError(f"The iterator gives data of the names {', '.join(names) or 'none'}; the network's inputs are "
                         f"{', '.join(network.inputs)}. Name them alike, as in mx.io.NDArrayIter({{'{network.inputs[0]}': "
                         "array}), or rename the input.")
    network = params.initialize(replace(network, input_shapes=shapes))
    fixed = {*fixed, *network.frozen_parameters}
    symbol = symbols.to_symbol(training_graph(network, fixed))
    module = mx.mod.Module(
        symbol, context=contexts, data_names=names, label_names=list(labels) or None,
        fixed_param_names=sorted(fixed & set(symbol.list_arguments())) or None)  # of statistics Module knows no fixing
    try:
        with _without_fusion():
            module.bind(data_shapes=data_shapes, label_shapes=label_shapes if labels else None, for_training=for_training)
        module.init_params(arg_params=dict(network.arg_params), aux_params=dict(network.aux_params), allow_extra=True)
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
