"""ONNX Runtime: a network as an ONNX file, faster than MXNet on processors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from xfer2._mxnet import THREADS
from xfer2._optional import require
from xfer2.exceptions import ModelError
from xfer2.features.engines.mxnet import MxnetEngine
from xfer2.model_handler import onnx_check, onnx_export
from xfer2.model_handler.network import Network
from xfer2.model_handler.symbols import first_line

_MOST_COMPARED = 1 << 20  # figures of an output of the first batch; the others are computed alike


class OnnxRuntimeEngine:
    """Runs a network by ONNX Runtime, after it was written as ONNX for the first batch's shapes.

    It must give what MXNet gives, to 1e-4 of the largest figure, on a random batch and on rows of the first one. Batches of
    other shapes are left to MXNet.

    Parameters
    ----------
    network : Network
        Pruned to the outputs wanted.

    Raises
    ------
    MissingParametersError
        A parameter has no value.
    """

    name = "onnxruntime"

    def __init__(self, network: Network) -> None:
        self._network, self._reference = network, MxnetEngine(network)
        self._session: Any = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._made: list[tuple[tuple[int, ...], np.dtype[Any]]] = []  # of each output: shape of a row, type
        self._buffers: dict[tuple[int, int], np.ndarray] = {}
        self._calls = 0

    def __call__(self, batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Compute all outputs for a batch; see `Engine`.

        Raises
        ------
        ModelError
            The network has no ONNX form that is right, or ONNX Runtime cannot compute it.
        """
        shapes = {name: array.shape[1:] for name, array in batch.items()}
        if self._session is None:
            self._start(batch, shapes)
        if shapes != self._shapes:
            return self._reference(batch)
        self._reference.check(batch)
        return self._run(batch)

    def _start(self, batch: Mapping[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> None:
        expected = self._reference(batch)  # also says what is wrong with the data, as MXNet's engine does
        self._shapes, self._made = shapes, [(array.shape[1:], array.dtype) for array in expected]
        runtime = require("onnxruntime", "Computing by ONNX Runtime", "onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = THREADS, 4  # what goes wrong here is said below
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "network.onnx")
            onnx_export.save_onnx(self._network, path, shapes)
            self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for edge, one, two in zip(self._network.graph.outputs, expected, self._run(batch), strict=True):
            rows = slice(max(1, _MOST_COMPARED * len(one) // one.size))
            wrong = onnx_check.disagreement(one[rows], two[rows])
            if wrong:
                raise ModelError(f"At the output {edge.node!r} MXNet gives {wrong[0]} and ONNX Runtime {wrong[1]}.")

    def _run(self, batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Compute into one of two sets of buffers that serve in turn: new ones would cost a page fault every 4 KB."""
        self._calls += 1
        count = len(next(iter(batch.values())))
        binding, buffers = self._session.io_binding(), []
        try:
            for value in self._session.get_inputs():
                binding.bind_cpu_input(value.name, np.ascontiguousarray(batch[value.name]))
            for number, (value, (shape, kind)) in enumerate(zip(self._session.get_outputs(), self._made, strict=True)):
                key = number, self._calls % 2
                if key not in self._buffers or len(self._buffers[key]) < count:
                    self._buffers[key] = np.empty((count, *shape), kind)
                buffers.append(self._buffers[key][:count])
                binding.bind_output(value.name, "cpu", 0, kind, (count, *shape), buffers[-1].ctypes.data)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's errors have no class in common below it
            raise ModelError(f"ONNX Runtime could not compute the layers: {first_line(error)}") from error
        return buffers
