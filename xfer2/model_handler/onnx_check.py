"""ONNX Runtime with a file beside MXNet with a network: whether they compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xfer2._mxnet import mx, several
from xfer2._optional import require
from xfer2.exceptions import DataError, ModelError
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import edit, operators
from xfer2.model_handler.network import Network

_TOLERANCE = 1e-4
_ROUNDING = 1e-6  # differences below it are of float32, where the largest figure is 1 or more
_OUTLIER = 1e6  # times the median: what a mask adds, say; the other figures are not measured by it
_NUMPY_NAMES = {"float": "float32", "double": "float64"}

Arrays = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


def compare(path: str, network: Network, shapes: Shapes, said: str, remedy: str, size: int | None = None,
            figures: bool = True, optimized: bool = True, apart: bool = False) -> None:
    """Raise unless ONNX Runtime computes with a file what MXNet computes with a network.

    Parameters
    ----------
    path : str
        Of the ONNX file; its inputs have the names of the network's, and there may be more, of which nothing depends.
    network : Network
    shapes : mapping of str to tuple of int
        Of all inputs of the file, without the batch axis.
    said, remedy : str
        How the error begins and ends.
    size : int, optional
        Examples of the random batch; by default two, or one where the network takes no two.
    figures : bool
        Whether figures are compared, to 1e-4 of the largest, or shapes alone.
    optimized : bool
        Whether ONNX Runtime may change the graph, as it does where nothing is said. It then takes the zeros of a Pad for
        the padding of a maximum above it, which has none.
    apart : bool
        Whether MXNet, where it takes twice as many examples, must compute for them what it computes for either half alone.

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
    try:
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no class in common below it
        raise ModelError(f"{said}: ONNX Runtime cannot load it: {symbols.first_line(error)} {remedy}") from error
    types = {value.name: _type(said, value) for value in session.get_inputs()}
    part = _Inference(network, shapes, types, said)
    batch, expected = part.of_random_batch(size)
    count = size or len(next(iter(batch.values()), ""))
    unread = {value.name: np.zeros((_first_size(value, count), *shapes[value.name])) for value in session.get_inputs()
              if value.name not in batch}
    try:
        found = session.run(None, {name: {**batch, **unread}[name].astype(kind) for name, kind in types.items()})
    except Exception as error:  # as above
        raise ModelError(f"{said}: ONNX Runtime cannot run it: {symbols.first_line(error)} {remedy}") from error
    for edge, one, two in zip(network.graph.outputs, expected, found, strict=True):
        wrong = disagreement(one, two, figures)
        if wrong:
            raise ModelError(f"{said}: at the output {edge.node!r} MXNet gives {wrong[0]} and ONNX Runtime {wrong[1]}, for "
                             f"one random batch. {remedy}")
    if apart and batch:
        _require_apart(path, part, batch, expected)


def _type(said: str, value: Any) -> np.dtype[Any]:
    """NumPy's type of an input of the file."""
    name = value.type.removeprefix("tensor(").removesuffix(")")
    try:
        return np.dtype(_NUMPY_NAMES.get(name, name))
    except TypeError as error:
        raise ModelError(f"{said}: its input {value.name!r} must be an array of numbers; it is {value.type}.") from error


def _first_size(value: Any, count: int) -> int:
    first = value.shape[0] if value.shape else None
    return first if isinstance(first, int) else count


class _Inference:
    """MXNet with a network as it is used, for one random batch after another."""

    def __init__(self, network: Network, shapes: Shapes, types: Mapping[str, np.dtype[Any]], said: str) -> None:
        self.network = network.with_graph(edit.as_inference(network.graph))
        self._inputs = network.inputs
        self._shapes, self._types, self._said = shapes, types, said
        self._symbol = symbols.to_symbol(self.network.graph)
        self._operator = mx.nd.CachedOp(self._symbol)

    def of_random_batch(self, size: int | None) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """A random batch, by default of two examples or, where the network takes no two, of one; what is computed for it.

        Most figures must be finite, or the comparison would see nothing: the logarithm of a negative number is none.
        """
        why = ""
        for count in (size,) if size else (2, 1):
            batch = self.random_batch(count)
            try:
                expected = self.outputs(batch, count)
                if _seen(expected) < 0.5:
                    above_zero = {name: np.abs(array) for name, array in batch.items()}
                    other = self.outputs(above_zero, count)
                    if _seen(other) > _seen(expected):
                        return above_zero, other
                return batch, expected
            except DataError as error:
                why = str(error)
            except mx.MXNetError as error:
                why = symbols.first_line(error)
        raise ModelError(f"{self._said}: MXNet cannot compute the network: {why}")

    def outputs(self, batch: Arrays, count: int) -> list[np.ndarray]:
        """What MXNet computes for a batch; DataError where the network cannot take so many examples."""
        symbols.shapes_for_data(self.network, self._shapes, count)
        values = {**self.network.params, **{name: mx.nd.array(array, dtype="float32") for name, array in batch.items()}}
        outputs = self._operator(*[values[name] for name in self._symbol.list_inputs()])
        return [array.asnumpy() for array in several(outputs)]

    def random_batch(self, count: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Normal figures, or whole numbers where the file or the network asks for them."""
        random = np.random.default_rng(seed)
        counted = self._whole_number_inputs()
        batch = {}
        for name in self._inputs:
            shape, kind = (count, *self._shapes[name]), self._types.get(name, np.dtype("float32"))
            if name in counted:
                low, high = counted[name]
                array = random.integers(low, max(high, low + 1), shape)
            elif kind.kind in "biu":  # pixels, or a mask of 0 and 1
                array = random.integers(0, 256 if kind == np.uint8 else 2, shape)
            else:
                array = random.normal(size=shape).astype("float32")
            batch[name] = array.astype(kind)
        return batch

    def _whole_number_inputs(self) -> dict[str, tuple[int, int]]:
        """The inputs that hold rows of a table or lengths, with the least value and the first that is too high.

        A layer with parameters in between makes fractions of an input, whatever that was.
        """
        graph, params = self.network.graph, self.network.params
        found: dict[str, tuple[int, int]] = {}
        for node in graph.nodes:
            counted = operators.input_of(node, operators.ROW, operators.LENGTH)
            if counted is None:
                continue
            low = int(operators.input_of(node, operators.LENGTH) is not None)
            tables = [params[edge.node] for edge in node.inputs if edge.node in params]
            high = min((min(table.shape) for table in tables), default=low + 1)
            seen, waiting = set(), [counted.node]
            while waiting:
                name = waiting.pop()
                below = [edge.node for edge in graph.by_name[name].inputs]
                if name in self._inputs:
                    before = found.get(name, (low, high))
                    found[name] = max(low, before[0]), min(high, before[1])
                elif name not in seen and not any(parameter in params for parameter in below):
                    waiting.extend(below)
                seen.add(name)
        return found


def _seen(outputs: list[np.ndarray]) -> float:
    """The share of finite figures, in the output that has fewest."""
    return min((float(np.isfinite(array).mean()) for array in outputs if array.size), default=1.0)


def disagreement(expected: np.ndarray, found: np.ndarray, figures: bool = True) -> tuple[str, str] | None:
    """The two figures, or shapes, that differ most, where they differ by too much."""
    if expected.shape != found.shape:
        return f"shape {expected.shape}", f"shape {found.shape}"
    if not figures:
        return None
    one, two = expected.astype("float64").ravel(), found.astype("float64").ravel()
    with np.errstate(invalid="ignore"):
        off = np.abs(two - one)
    close = (off <= _tolerances(np.abs(one))) | (one == two) | (np.isnan(one) & np.isnan(two))
    if close.all():
        return None
    worst = int(np.argmax(np.where(close, -1.0, np.nan_to_num(off, nan=np.inf))))
    return f"{one[worst]:.6g}", f"{two[worst]:.6g}"


def _tolerances(magnitudes: np.ndarray) -> np.ndarray:
    """How far each figure may be off: by a part of the largest; one that is far larger than most by a part of itself."""
    finite = np.isfinite(magnitudes)
    above_zero = magnitudes[finite & (magnitudes > 0)]
    if not above_zero.size:
        return np.full(magnitudes.shape, 1e-12 * _TOLERANCE)
    is_outlier = finite & (magnitudes > _OUTLIER * np.median(above_zero))
    scale = magnitudes[finite & ~is_outlier].max()
    least = max(_TOLERANCE * scale, _ROUNDING * min(1.0, above_zero.max()))
    return np.where(is_outlier, _TOLERANCE * np.where(finite, magnitudes, 0), least)


def _require_apart(path: str, part: _Inference, batch: Arrays, expected: list[np.ndarray]) -> None:
    """Raise where the figures of an example depend on what else is in the batch."""
    count = len(next(iter(batch.values())))
    other = part.random_batch(count, seed=1)
    both = {name: np.concatenate([array, other[name]]) for name, array in batch.items()}
    try:
        together, alone = part.outputs(both, 2 * count), part.outputs(other, count)
    except (DataError, mx.MXNetError):  # it takes so many examples as the file says and no more
        return
    for edge, whole, one, two in zip(part.network.graph.outputs, together, expected, alone, strict=True):
        longer = [axis for axis, sizes in enumerate(zip(whole.shape, one.shape, strict=False)) if sizes[0] != sizes[1]]
        halves = [np.concatenate([one, two], longer[0])] if longer and whole.ndim == one.ndim else [one, two]
        if any(disagreement(half, whole) for half in halves):
            raise ModelError(f"{path!r} mixes the examples of a batch: at the output {edge.node!r} two batches of {count} "
                             f"give other figures together than apart. It was written for {count} only; export it with a "
                             "free batch axis.")
