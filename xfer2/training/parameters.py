"""A block's parameters as arrays, and BatchNorm's statistics measured anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xfer2._mxnet import Block, NDArray, mx
from xfer2.model_handler.graph import codec, operators


def values(block: Block, context: Any) -> dict[str, np.ndarray]:
    """All parameters and statistics by name."""
    mx.nd.waitall()  # BatchNorm's backward pass writes its statistics unseen by MXNet's scheduler
    return {name: p.data(context).asnumpy() for name, p in block.collect_params().items()}


def set_values(block: Block, given: Mapping[str, np.ndarray]) -> None:
    """Give parameters the values that `values` told, on every device."""
    for name, parameter in block.collect_params().items():
        if name in given:
            for array in parameter.list_data():  # oneDNN may hold weights in an order of its own, which cannot be written to
                mx.nd.zeros(array.shape, ctx=array.context, dtype=array.dtype, out=array)
            parameter.set_data(mx.nd.array(given[name], dtype=given[name].dtype))


def moving(block: Block, context: Any) -> dict[str, NDArray]:
    """The parameters that training moves."""
    return {name: p.data(context) for name, p in block.collect_params().items() if p.grad_req != "null"}


def measure_statistics(block: Block, batches: Iterable[Sequence[np.ndarray]], context: Any) -> None:
    """Set the statistics of every BatchNorm that is not frozen to their mean over some batches.

    Means of parameters go with none of the statistics that were kept on the way to them.

    References
    ----------
    Izmailov et al. 2018, Averaging Weights Leads to Wider Optima, arXiv:1803.05407, section 3.2.
    """
    graph = codec.decode(block._cached_graph[1].tojson())
    shares = {edge.node: 1 - float(node.attrs.get("momentum", 0.9)) for node in graph.nodes
              if node.op in operators.BATCH_NORMS and not node.is_on("use_global_stats") for edge in node.inputs[3:5]}
    statistics = {name: p for name, p in block.collect_params().items() if name in shares}
    if not statistics:
        return
    total: dict[str, Any] = dict.fromkeys(statistics, 0.0)
    count = 0
    for batch in batches:
        set_values(block, {name: np.zeros(p.shape, p.dtype) for name, p in statistics.items()})
        with mx.autograd.record():
            outputs = block(*[mx.nd.array(array, ctx=context) for array in batch])
        mx.autograd.backward(outputs)  # MXNet writes statistics in the backward pass
        mx.nd.waitall()
        for name, p in statistics.items():
            total[name] = total[name] + p.data(context).asnumpy().astype(float) / shares[name]
        count += 1
    set_values(block, {name: (total[name] / count).astype(p.dtype) for name, p in statistics.items()})
