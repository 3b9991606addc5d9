"""A block's parameters as arrays, BatchNorm's statistics measured anew, and what MXNet refuses in one line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from xfer2._mxnet import Block, NDArray, mx
from xfer2.exceptions import ModelError
from xfer2.model_handler.graph import codec, operators
from xfer2.model_handler.symbols import first_line


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Raise MXNet's errors as a `ModelError`: around what computes, and what waits for it, where they come late."""
    try:
        yield
    except mx.MXNetError as error:
        raise ModelError(f"MXNet cannot train the network: {first_line(error)}") from error


@told_in_one_line()
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

    Means of parameters go with none of the statistics that were kept on the way to them. Of a BatchNorm that is used more
    than once, the uses of a batch count as in MXNet's running mean. Statistics that training does not write stay.

    References
    ----------
    Izmailov et al. 2018, Averaging Weights Leads to Wider Optima, arXiv:1803.05407, section 3.2.
    """
    graph = codec.decode(block._cached_graph[1].tojson())
    momenta = dict[str, list[float]]()
    for node in graph.nodes:
        if node.op in operators.BATCH_NORMS and not node.is_on("use_global_stats"):
            for edge in node.inputs[3:5]:
                momenta.setdefault(edge.node, []).append(float(node.attrs.get("momentum", 0.9)))
    shares = {name: 1 - math.prod(of_uses) for name, of_uses in momenta.items()}  # of a batch, in what its uses write
    statistics = {name: p for name, p in block.collect_params().items() if shares.get(name)}
    if not statistics:
        return
    before = {name: p.data(context).asnumpy() for name, p in statistics.items()}
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
    measured = {name: (total[name] / count).astype(p.dtype) for name, p in statistics.items()}
    # MXNet writes nothing where the backward pass has no gradient to compute: below all that moves
    set_values(block, {name: value if value.any() else before[name] for name, value in measured.items()})
