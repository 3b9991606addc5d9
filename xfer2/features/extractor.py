"""Any number of layers' outputs in one pass: prune, pool inside the network, stream into a store."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any

import numpy as np

from xfer2._progress import Bar
from xfer2._validation import as_names, check_choice
from xfer2.data.batches import Batch, Batches, open_batches, shaped_by
from xfer2.exceptions import DataError, ModelError
from xfer2.features.engines.automatic import EngineChoice, engine_factory
from xfer2.features.engines.base import Engine, EngineFactory
from xfer2.features.store import Features, FolderStore, MemoryStore, Store
from xfer2.model_handler import params, sources, symbols
from xfer2.model_handler.answers import with_layers
from xfer2.model_handler.graph import edit, operators
from xfer2.model_handler.graph.model import Edge, Graph, Node
from xfer2.model_handler.network import Network

logger = logging.getLogger("xfer2")
POOLS = None, "avg", "max"
_PART_BYTES = 1 << 26


def extract_features(source: Any, data: Any, layers: str | Iterable[str], *, labels: Any = None, pool: str | None = None,
                     batch_size: int = 32, errors: str = "raise", store: str | None = None,
                     engine: EngineChoice = "auto") -> Features:
    """Outputs of some layers of a trained network, for some data, in one pass.

    Parameters
    ----------
    source : model
        Whatever `ModelHandler` reads: a Module, a Gluon block, a checkpoint prefix, ``"zoo:NAME"``, a ModelHandler.
    data : array, path, DataIter, DataLoader, Dataset, dict or tuple of arrays
        Network input (float, batch first), or images: uint8 arrays, an image folder, a ``.rec``, a ``.csv`` of paths.
    layers : str or iterable of str
        One name or several; or ``"stages"``, the features and what is known below them, as for `MetaModelRepurposer`.
    labels : array-like, optional
        One per example; by default the data's own.
    pool : {"avg", "max"}, optional
        Reduce maps (n, c, h, w) to (n, c), inside the network.
    batch_size : int
    errors : {"raise", "skip"}
        What to do with an image that cannot be decoded; those skipped are listed in ``Features.skipped``.
    store : str or path, optional
        A new folder to keep the features in, memory-mapped; by default they are kept in memory.
    engine : {"auto", "mxnet", "onnxruntime"} or callable
        What computes: ``"auto"`` takes ONNX Runtime where the network has an ONNX form that gives what MXNet gives and there
        is so much to compute that its start pays (some seconds of it), else MXNet. A callable makes an engine of a Network.

    Returns
    -------
    Features
        ``features[layer]`` is an array (n, ...); ``.labels``, ``.ids``, ``.to_frame()``, ``.save(path)``.

    Raises
    ------
    LayerNotFoundError
        A layer is not in the network; the message lists the nearest names.
    DataError
        The data are empty, do not fit, or need a preprocessing record; or the folder of `store` cannot be written.
    MissingParametersError
        The network has parameters without values.
    ModelError
        A layer does not give one row an example.

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> images = np.zeros((2, 28, 28), np.uint8)
    >>> xfer2.extract_features("zoo:mnist-cnn", images, "dense0")["dense0"].shape
    (2, 128)
    """
    network = sources.read(source, "extract_features", "source")
    names = as_names("extract_features", "layers", layers)
    batches = open_batches(data, network, labels, batch_size, errors)
    network, names = with_layers("extract_features", network, names, lambda: shaped_by(network, batches))
    return extract(network, batches, names, pool, store, engine)


def extract(network: Network, batches: Batches, layers: tuple[str, ...], pool: str | None = None,
            store: str | Store | None = None, engine: EngineChoice = "auto", inputs: tuple[str, ...] = ()) -> Features:
    """Stream batches through an engine into a store; the work of `extract_features`.

    The arrays of `inputs` are kept as they come, beside the layers.
    """
    check_choice("extract_features", "pool", pool, POOLS)
    compute = _Computation(network, layers, pool, engine_factory(engine, batches.size)) if layers else None
    kept = FolderStore(store) if isinstance(store, str | os.PathLike) else store or MemoryStore(batches.size)
    try:
        labels, ids = _stream(compute, batches, inputs, kept)
        return kept.finish(labels, ids, batches.skipped)
    except BaseException:  # an interruption too leaves nothing half written
        kept.abort()
        raise


def extract_parts(network: Network, batches: Batches, layers: tuple[str, ...], pool: str | None = None,
                  engine: EngineChoice = "auto", examples: int | None = None, most: int = 1024) -> Iterator[Features]:
    """`extract` in parts, one engine for all of them, so that memory does not grow with the examples.

    The parts are the same wherever the stream begins, as long as it begins where one of them does.

    Parameters
    ----------
    network, batches, layers, pool, engine
        As in `extract`.
    examples : int, optional
        For how many the engine is chosen, where these are the rest of them.
    most : int
        Examples a part, about; fewer where they would take more than 64 MB, and never less than a batch.

    Yields
    ------
    Features
        With the images that were skipped since the part before.
    """
    check_choice("extract_features", "pool", pool, POOLS)
    compute = _Computation(network, layers, pool, engine_factory(engine, examples or batches.size))
    told = row = 0
    with Bar("extracting features", batches.size) as bar:
        stream = _counted(batches, bar)
        while (first := next(stream, None)) is not None:
            row = row or compute.row_bytes(first)
            count = max(1, min(_PART_BYTES // row, most) // len(first.ids))
            kept = MemoryStore()
            labels, ids = _stream(compute, _once(chain([first], islice(stream, count - 1))), (), kept)
            skipped = batches.skipped[told:]
            told += len(skipped)
            yield kept.finish(labels, ids, skipped)


def _once(batches: Iterator[Batch]) -> Batches:
    """Batches that are read once."""
    return Batches(lambda skipped: batches)


def _counted(batches: Batches, bar: Bar) -> Iterator[Batch]:
    skipped = 0
    for batch in batches:
        yield batch
        bar.step(len(batch.ids) + len(batches.skipped) - skipped)
        skipped = len(batches.skipped)


class _Computation:
    """The layers of a network, pruned and pooled once, by an engine that the first batch starts."""

    def __init__(self, network: Network, layers: tuple[str, ...], pool: str | None, make: EngineFactory) -> None:
        self.layers = layers
        self._network, self._pool, self._make = pruned(network, layers), pool, make
        self._final: Network | None = None
        self._engine: Engine | None = None

    def __call__(self, batch: Batch) -> dict[str, np.ndarray]:
        """Outputs of the layers, by name."""
        final = self._pooled(batch)
        if self._engine is None:
            _check_batch_axis(final, self.layers, self._shapes(batch), len(batch.ids))
            self._engine = self._make(final)
        outputs = self._engine({name: batch.data[name] for name in final.inputs})
        return dict(zip(self.layers, outputs, strict=True))

    def row_bytes(self, batch: Batch) -> int:
        """Of one example's features."""
        _, shapes = symbols.shapes_for_data(self._pooled(batch), self._shapes(batch))
        return max(1, sum(4 * math.prod(shape[1:]) for shape in shapes if shape is not None))

    def _pooled(self, batch: Batch) -> Network:
        """The network, pooled as the first batch's shapes have it."""
        self._final = self._final or pooled(self._network, self._pool, self._shapes(batch))
        return self._final

    def _shapes(self, batch: Batch) -> dict[str, tuple[int, ...]]:
        return {name: batch.data[name].shape[1:] for name in self._network.inputs}


def _stream(compute: _Computation | None, batches: Batches, inputs: tuple[str, ...],
            kept: Store) -> tuple[np.ndarray | None, list[Any]]:
    labels: list[np.ndarray] = []
    ids: list[Any] = []
    shapes: dict[str, tuple[int, ...]] = {}
    # the writer stores one batch while the next is computed
    with Bar("extracting features", batches.size) as bar, ThreadPoolExecutor(1) as writer:
        storing: Future[None] | None = None
        for batch in batches:
            bar.step(len(batch.ids))
            _check_finite(batch)
            outputs = {name: batch.data[name] for name in inputs}
            if compute is not None:
                outputs.update(compute(batch))
            _check_rows(outputs, len(batch.ids))
            shapes = shapes or {layer: output.shape[1:] for layer, output in outputs.items()}
            _check_shapes(outputs, shapes)
            if storing is not None:
                storing.result()
            storing = writer.submit(_keep, kept, outputs)
            ids.extend(batch.ids)
            if batch.labels is not None:
                labels.append(batch.labels)
            if labels and sum(map(len, labels)) != len(ids):
                raise DataError("Some examples have a label and others none. Give one to all of them, or to none.")
        if storing is not None:
            storing.result()
    if not ids:
        raise DataError("The data hold no examples that can be read."
                        + (f" {len(batches.skipped)} images were skipped, the first: {batches.skipped[0]}"
                           if batches.skipped else ""))
    if batches.skipped:
        logger.warning("%d of %d images were skipped; the first: %s", len(batches.skipped),
                       len(batches.skipped) + len(ids), batches.skipped[0])
    return np.concatenate(labels) if labels else None, ids


def _keep(kept: Store, outputs: Mapping[str, np.ndarray]) -> None:
    for layer, output in outputs.items():
        kept.append(layer, output)


def _check_rows(outputs: Mapping[str, np.ndarray], count: int) -> None:
    for layer, output in outputs.items():
        if len(output) != count:
            raise _no_feature(layer, len(output), count)


def _no_feature(layer: str, rows: int, count: int) -> ModelError:
    return ModelError(f"The layer {layer!r} gives {rows} rows for {count} examples; it is no feature of single examples.")


def _check_batch_axis(network: Network, layers: tuple[str, ...], input_shapes: dict[str, tuple[int, ...]],
                      count: int) -> None:
    """Raise where a layer's first axis is known not to follow the batch.

    Of sequences with time on the first axis, steps would pass for examples where a batch has as many. What is made for
    batches of this size alone is right for them, and in a batch of one nothing can be taken for another example.
    """
    fixed = re.compile(rf"[(\[]\s*{count}L?\s*[,)\]]")
    if count == 1 or any(node.op in operators.RESHAPES and fixed.match(node.attrs.get("shape", ""))
                         for node in network.graph.nodes):
        return
    sizes = 2, 3
    try:
        if any(symbols.misfit_reshapes(network, input_shapes, size) for size in sizes):
            return
        found = [symbols.infer_shapes(network, input_shapes, size)[1] for size in sizes]
    except ModelError:  # made for one size of batch too; or the data do not fit at all, which the engine says better
        return
    for size, shapes in zip(sizes, found, strict=True):
        for layer, shape in zip(layers, shapes, strict=True):
            if shape is not None and shape[0] != size:
                raise _no_feature(layer, shape[0], size)


def _check_shapes(outputs: Mapping[str, np.ndarray], first: Mapping[str, tuple[int, ...]]) -> None:
    for layer, output in outputs.items():
        if output.shape[1:] != first[layer]:
            raise DataError(f"The layer {layer!r} gives features of shape {output.shape[1:]} for some examples and "
                            f"{first[layer]} for the first; make all inputs one size, or reduce maps with pool='avg'.")


def _check_finite(batch: Batch) -> None:
    """NaN is found here: an activation (ReLU) or a maximum may swallow it, and the features would look well."""
    for name, array in batch.data.items():
        good = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not good.all():
            raise DataError(f"The data for the input {name!r} are NaN or infinite for {int((~good).sum())} of "
                            f"{len(good)} examples of a batch, the first {batch.ids[int(np.argmin(good))]!r}.")


def pruned(network: Network, layers: tuple[str, ...]) -> Network:
    """The part of a network that these layers need, with them as its outputs; in single precision, as data are."""
    return params.cast(network.with_graph(edit.extract(network.graph, layers, known=network.params)), "float32")


def pooled(network: Network, pool: str | None, input_shapes: dict[str, tuple[int, ...]]) -> Network:
    """The network with every output that is a map (n, c, ...) pooled to (n, c)."""
    if pool is None:
        return network
    graph = network.graph
    _, shapes = symbols.shapes_for_data(network, input_shapes)
    nodes, outputs = list(graph.nodes), []
    for number, (edge, shape) in enumerate(zip(graph.outputs, shapes, strict=True)):
        if shape is None or len(shape) < 3:
            outputs.append(edge)
            continue
        name = f"{edge.node}_xfer2_pool{number}"
        kernel = str((1,) * (len(shape) - 2))
        pooling = Node(f"{name}_map", "Pooling", {"pool_type": pool, "global_pool": "True", "kernel": kernel}, (edge,))
        nodes += [pooling, Node(name, "Flatten", {}, (Edge(pooling.name),))]
        outputs.append(Edge(name))
    return network.with_graph(Graph(tuple(nodes), tuple(outputs), graph.attrs))
