"""The reference engine: MXNet's cached operator on one or several devices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2._validation import check_integer, parameter_error
from xfer2.exceptions import DataError, ModelError
from xfer2.model_handler import params, symbols
from xfer2.model_handler.graph import query
from xfer2.model_handler.graph.model import Edge, Graph, Node
from xfer2.model_handler.network import Network

_LEAST_LENGTHS = {"SequenceLast": 1, "SequenceReverse": 0, "SequenceMask": 0}


def devices(owner: str, context_function: Callable[[int], Any], count: int) -> list[Any]:
    """The devices that Xfer's pair of parameters means: ``mx.cpu`` or ``mx.gpu``, and how many."""
    contexts = [context_function(number) if callable(context_function) else None
                for number in range(check_integer(owner, "num_devices", count))]
    if not all(isinstance(context, mx.Context) for context in contexts):
        raise parameter_error(owner, "context_function", "mx.cpu or mx.gpu itself", context_function)
    return contexts


class MxnetEngine:
    """Runs a network by ``mx.nd.CachedOp`` with memory planned once for a batch shape.

    Not by Module or ``simple_bind``: those fuse operators through the MKLDNN subgraph backend, which in MXNet 1.9.1 gives
    wrong values when an inner layer is asked for beside a later one (``tests/features/test_mxnet_engine.py`` shows it).

    Parameters
    ----------
    network : Network
        Pruned to the outputs wanted.
    contexts : sequence of mx.Context, optional
        Devices; a batch is split among them. By default the CPU.

    Raises
    ------
    MissingParametersError
        A parameter has no value.
    """

    name = "mxnet"

    def __init__(self, network: Network, contexts: Sequence[Any] | None = None) -> None:
        params.require_values(network, "computing features")
        self._network = network
        symbol = symbols.to_symbol(network.graph)
        self._inputs = symbol.list_inputs()
        self._operator = mx.nd.CachedOp(symbol, [("static_alloc", True), ("static_shape", True)])
        self._contexts = list(contexts or [mx.cpu()])
        try:
            self._params = [{name: array.as_in_context(context) for name, array in network.params.items()}
                            for context in self._contexts]
        except mx.MXNetError as error:
            raise ModelError(f"The devices {self._contexts} cannot be used: {symbols.first_line(error)}") from error
        self._buffers: dict[tuple[int, int, int], tuple[np.ndarray, Any]] = {}
        self._calls = 0
        self._label_shapes: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}
        self._lengths = _length_inputs(network.graph, network.inputs)
        self._steps: dict[tuple[Any, ...], list[int | None]] = {}

    def __call__(self, batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Compute all outputs for a batch; see `Engine`."""
        self._calls += 1
        self._check_lengths(batch)
        count = len(next(iter(batch.values())))
        bounds = np.linspace(0, count, min(len(self._contexts), count) + 1).astype(int)
        pending = [self._start(device, {name: array[start:stop] for name, array in batch.items()})
                   for device, (start, stop) in enumerate(pairwise(bounds))]
        try:
            parts = [[self._fetch(device, number, array) for number, array in enumerate(outputs)]
                     for device, outputs in enumerate(pending)]
        except mx.MXNetError as error:
            raise ModelError(f"MXNet could not compute the layers: {symbols.first_line(error)}") from error
        return parts[0] if len(parts) == 1 else [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _fetch(self, device: int, number: int, array: Any) -> np.ndarray:
        """Copy one output into one of two buffers that serve in turn: a new one would cost a page fault every 4 KB."""
        key = device, number, self._calls % 2
        if key not in self._buffers or self._buffers[key][0].shape != array.shape:
            buffer = np.empty(array.shape, array.dtype)
            self._buffers[key] = buffer, mx.nd.from_numpy(buffer)  # the same memory
        values, shared = self._buffers[key]
        array.copyto(shared)
        shared.wait_to_read()
        return values

    def _start(self, device: int, batch: Mapping[str, np.ndarray]) -> list[Any]:
        context = self._contexts[device]
        labels = self._zero_label_shapes(batch)
        values = {**self._params[device],
                  **{name: mx.nd.array(array, ctx=context, dtype=array.dtype) for name, array in batch.items()},
                  **{name: mx.nd.zeros(shape, ctx=context) for name, shape in labels.items()}}
        try:
            outputs = self._operator(*[values[name] for name in self._inputs])
        except mx.MXNetError as error:
            raise ModelError(f"MXNet could not compute the layers: {symbols.first_line(error)}") from error
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    def _zero_label_shapes(self, batch: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
        """Check the batch against the network once per shape; labels, which do not matter here, are fed zeros."""
        key = _shapes_of(batch)
        if key not in self._label_shapes:
            count = len(next(iter(batch.values())))
            shapes, _ = symbols.shapes_for_data(self._network, {n: a.shape[1:] for n, a in batch.items()}, count)
            self._label_shapes[key] = {name: shapes.get(name, (count,)) for name in self._network.labels}
        return self._label_shapes[key]

    def _check_lengths(self, batch: Mapping[str, np.ndarray]) -> None:
        """Raise where a sequence is said to be longer than it is: MXNet would read, or write, beyond its array."""
        if not self._lengths:
            return
        key = _shapes_of(batch)
        if key not in self._steps:
            self._steps[key] = self._steps_of(batch)
        for (name, node), steps in zip(self._lengths, self._steps[key], strict=True):
            if steps is None:
                continue
            values, least = batch[name].reshape(len(batch[name]), -1), _LEAST_LENGTHS[node.op or ""]
            good = ((values >= least) & (values <= steps) & (values == np.floor(values))).all(axis=1)
            if not good.all():
                row = int(np.argmin(good))
                raise DataError(f"The data for the input {name!r} are lengths of sequences for the layer {node.name!r} "
                                f"({node.op}): whole numbers from {least} to {steps}, the number of steps. Row {row} of the "
                                f"batch has {values[row].tolist()}; correct the lengths, or give longer sequences.")

    def _steps_of(self, batch: Mapping[str, np.ndarray]) -> list[int | None]:
        """How many steps the sequences of each layer in `_lengths` have; None where that does not follow."""
        shapes, count = {name: array.shape[1:] for name, array in batch.items()}, len(next(iter(batch.values())))
        symbols.shapes_for_data(self._network, shapes, count)  # what does not fit at all is said first, as the data's error
        _, found = symbols.infer_shapes(self._network, shapes, count, [node.inputs[0] for _, node in self._lengths])
        return [None if shape is None else shape[int(node.attrs.get("axis", "0"))]
                for (_, node), shape in zip(self._lengths, found, strict=True)]


def _shapes_of(batch: Mapping[str, np.ndarray]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, array.shape) for name, array in batch.items())


def _length_inputs(graph: Graph, inputs: Collection[str]) -> list[tuple[str, Node]]:
    """Each layer that works on the steps of sequences, with the input of the network that says how many each has."""
    def unchanged(edge: Edge) -> str:
        node = graph.by_name[edge.node]
        return unchanged(node.inputs[0]) if node.op in query.SHAPING else node.name

    found = [(unchanged(node.inputs[1]), node) for node in graph.nodes
             if node.op in _LEAST_LENGTHS and node.is_on("use_sequence_length") and len(node.inputs) > 1]
    return [(name, node) for name, node in found if name in inputs]
