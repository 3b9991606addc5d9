"""Which engine: the fastest that gives what MXNet gives, where there is enough to compute for it to be worth its start."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2._validation import parameter_error
from xfer2.exceptions import ModelError
from xfer2.features.engines.base import Engine, EngineFactory
from xfer2.features.engines.mxnet import MxnetEngine
from xfer2.features.engines.onnxruntime import OnnxRuntimeEngine
from xfer2.model_handler import summary
from xfer2.model_handler.network import Network

logger = logging.getLogger("xfer2")

EngineChoice = str | EngineFactory

# how much there must be to compute, in floating-point operations, for the start of ONNX Runtime to be worth it: writing the
# network and comparing takes a second, 3 more for the 25 million parameters of a ResNet-50, 3 for 600 layers
_START, _EACH_PARAMETER, _EACH_PAIR_OF_LAYERS = 1e12, 1e5, 1e7
_FEWEST = 64  # and as many as there are layers: counting the operations takes as long as computing some examples
_NAMED = {"mxnet": MxnetEngine, "onnxruntime": OnnxRuntimeEngine}


class AutomaticEngine:
    """ONNX Runtime where the work is worth it and it gives what MXNet gives, else MXNet; logged, with the reason.

    The choice follows from the network and the number of examples alone, never from a clock: the same call gives the same
    figures to the bit.

    Parameters
    ----------
    network : Network
    examples : int or None
        How many there will be; None where nobody knows.
    """

    name = "auto"

    def __init__(self, network: Network, examples: int | None) -> None:
        self._network, self._examples = network, examples
        self._chosen: Engine | None = None

    def __call__(self, batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Compute all outputs for a batch; see `Engine`."""
        if self._chosen is None:
            self._chosen = OnnxRuntimeEngine(self._network) if self._is_worthwhile(batch) else MxnetEngine(self._network)
            logger.debug("engine: %s", self._chosen.name)
        try:
            return self._chosen(batch)
        except ModelError as error:
            if self._chosen.name == MxnetEngine.name:
                raise
            logger.info("MXNet computes the layers, and not ONNX Runtime, which is faster: %s", error)
            self._chosen = MxnetEngine(self._network)
            return self._chosen(batch)

    def _is_worthwhile(self, batch: Mapping[str, np.ndarray]) -> bool:
        layers = len(self._network.graph.layer_names)
        if self._examples is None or self._examples < max(_FEWEST, layers):
            return False
        try:
            table = summary.summarize(self._network, {name: array.shape[1:] for name, array in batch.items()})
        except ModelError:  # the data do not fit, which MXNet's engine says as their error
            return False
        needed = _START + _EACH_PARAMETER * table.parameters + _EACH_PAIR_OF_LAYERS * layers**2
        return self._examples * (table.flops or 0) > needed


def engine_factory(engine: EngineChoice, examples: int | None) -> EngineFactory:
    """What makes the engine that was asked for: by its name, or a callable that makes one of a Network."""
    if callable(engine):
        return engine
    if engine == "auto":
        return partial(AutomaticEngine, examples=examples)
    if not isinstance(engine, str) or engine not in _NAMED:
        raise parameter_error("extract_features", "engine",
                              "'auto', 'mxnet', 'onnxruntime', or a callable that makes one of a Network", engine)
    return _NAMED[engine]


def engine_on(contexts: Sequence[Any]) -> EngineChoice:
    """The engine for some devices: on one processor the best there is, else MXNet, which alone knows the others."""
    if list(contexts) == [mx.cpu()]:
        return "auto"
    return partial(MxnetEngine, contexts=contexts)
