"""The reference engine: MXNet's cached operator on one or several devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from xfer2._mxnet import mx, several
from xfer2._validation import check_integer, parameter_error
from xfer2.exceptions import ModelError
from xfer2.model_handler import params, symbols
from xfer2.model_handler.lengths import LengthCheck
from xfer2.model_handler.network import Network


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
        self._check_lengths = LengthCheck(network)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Compute all outputs for a batch; see `Engine`."""
        self.check(batch)
        self._calls += 1
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

    def check(self, batch: Mapping[str, np.ndarray]) -> None:
        """Raise what is wrong with a batch before anything is computed of it."""
        symbols.require_classic_interface()
        self._check_lengths(batch)

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
        return several(outputs)

    def _zero_label_shapes(self, batch: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
        """Check the batch against the network once per shape; labels, which do not matter here, are fed zeros."""
        key = tuple((name, array.shape) for name, array in batch.items())
        if key not in self._label_shapes:
            count = len(next(iter(batch.values())))
            shapes, _ = symbols.shapes_for_data(self._network, {n: a.shape[1:] for n, a in batch.items()}, count)
            self._label_shapes[key] = {name: shapes.get(name, (count,)) for name in self._network.labels}
        return self._label_shapes[key]
