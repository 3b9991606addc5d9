"""ONNX Runtime with a file beside MXNet with a network: whether they compute the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xfer2._mxnet import mx
from xfer2._optional import require
from xfer2.exceptions import DataError, ModelError
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import edit
from xfer2.model_handler.graph.model import Graph
from xfer2.model_handler.network import Network

_TOLERANCE = 1e-4
_WHOLE_NUMBERS = {  # operators that count by an input: which one, and the least that it may be
    "Embedding": (0, 0), "take": (1, 0), "gather_nd": (1, 0), "one_hot": (0, 0),
    "SequenceMask": (1, 1), "SequenceReverse": (1, 1), "softmax": (1, 1)}
_WHOLE_TYPES = {"tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool"}


def compare(path: str, network: Network, shapes: Mapping[str, tuple[int, ...]], said: str, remedy: str,
            size: int | None = None, figures: bool = True, optimized: bool = True) -> None:
    """Raise unless ONNX Runtime computes with a file what MXNet computes with a network.

    Parameters
    ----------
    path : str
        Of the ONNX file; its inputs have the names of the network's.
    network : Network
    shapes : mapping of str to tuple of int
        Of all inputs, without the batch axis.
    said, remedy : str
        How the error begins and ends.
    size : int, optional
        Examples of the random batch; by default two, or one where the network takes no two.
    figures : bool
        Whether figures are compared, to 1e-4 of the largest, or shapes alone.
    optimized : bool
        Whether ONNX Runtime may change the graph, as it does where nothing is said. It then takes the zeros of a Pad for
        the padding of a maximum above it, which has none.

    Raises
    ------
    ModelError
        They give different figures, or one of them none.
    """
    runtime = require("onnxruntime", "Comparing an ONNX file with MXNet", "onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong here is said below
    if not optimized:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    graph = edit.as_inference(network.graph)
    batch, expected = _computed(said, network, graph, shapes, size)
    try:
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found = session.run(None, {value.name: batch[value.name].astype(_WHOLE_TYPES.get(value.type, "float32"))
                                   for value in session.get_inputs()})
    except Exception as error:  # ONNX Runtime's errors have no class in common below it
        raise ModelError(f"{said}: ONNX Runtime cannot run it: {symbols.first_line(error)} {remedy}") from error
    for edge, one, two in zip(graph.outputs, expected, found, strict=True):
        wrong = _disagreement(one, two, figures)
        if wrong:
            raise ModelError(f"{said}: at the output {edge.node!r} MXNet gives {wrong[0]} and ONNX Runtime {wrong[1]}, for "
                             f"one random batch. {remedy}")


def _disagreement(expected: np.ndarray, found: np.ndarray, figures: bool) -> tuple[str, str] | None:
    """The two figures, or shapes, that differ most, where they differ by too much."""
    if expected.shape != found.shape:
        return f"shape {expected.shape}", f"shape {found.shape}"
    if not figures:
        return None
    one, two = expected.astype("float64").ravel(), found.astype("float64").ravel()
    scale = np.abs(one[np.isfinite(one)]).max(initial=1e-12)
    close = np.isclose(two, one, rtol=0, atol=_TOLERANCE * scale, equal_nan=True)
    if close.all():
        return None
    with np.errstate(invalid="ignore"):
        worst = int(np.argmax(np.where(close, -1.0, np.nan_to_num(np.abs(two - one), nan=np.inf))))
    return f"{one[worst]:.6g}", f"{two[worst]:.6g}"


def _computed(said: str, network: Network, graph: Graph, shapes: Mapping[str, tuple[int, ...]],
              size: int | None) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """A random batch, by default of two examples or, where the network takes no two, of one; what MXNet computes for it."""
    symbol = symbols.to_symbol(graph)
    operator = mx.nd.CachedOp(symbol)
    why = ""
    for count in (size,) if size else (2, 1):
        try:
            symbols.shapes_for_data(network.with_graph(graph), shapes, count)
        except DataError as error:
            why = str(error)
            continue
        batch = _random_batch(network, graph, shapes, count)
        values = {**network.params, **{name: mx.nd.array(array) for name, array in batch.items()}}
        try:
            outputs = operator(*[values[name] for name in symbol.list_inputs()])
            listed = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            return batch, [array.asnumpy() for array in listed]
        except mx.MXNetError as error:
            why = symbols.first_line(error)
    raise ModelError(f"{said}: MXNet cannot compute the network: {why}")


def _random_batch(network: Network, graph: Graph, shapes: Mapping[str, tuple[int, ...]],
                  count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    batch = {name: random.normal(size=(count, *shapes[name])).astype("float32") for name in network.inputs}
    for name, (low, high) in _whole_number_inputs(network, graph).items():
        batch[name] = random.integers(low, max(high, low + 1), (count, *shapes[name])).astype("float32")
    return batch


def _whole_number_inputs(network: Network, graph: Graph) -> dict[str, tuple[int, int]]:
    """The inputs that hold rows of a table or lengths, with the least value and the first that is too high.

    A layer with parameters in between makes fractions of an input, whatever that was.
    """
    found: dict[str, tuple[int, int]] = {}
    for node in graph.nodes:
        position, low = _WHOLE_NUMBERS.get(node.op or "", (len(node.inputs), 0))
        if position >= len(node.inputs):
            continue
        tables = [network.params[edge.node] for edge in node.inputs if edge.node in network.params]
        high = min((min(table.shape) for table in tables), default=low + 1)
        seen, waiting = set(), [node.inputs[position].node]
        while waiting:
            name = waiting.pop()
            below = [edge.node for edge in graph.by_name[name].inputs]
            if name in network.inputs:
                before = found.get(name, (low, high))
                found[name] = max(low, before[0]), min(high, before[1])
            elif name not in seen and not any(parameter in network.params for parameter in below):
                waiting.extend(below)
            seen.add(name)
    return found
