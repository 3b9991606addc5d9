"""Arrays, DataIters, DataLoaders, Datasets, image folders, record files, CSV lists -> one stream of batches.

Order is the source's, the last batch is neither padded nor lost, labels keep their type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from numbers import Integral, Number
from pathlib import Path
from typing import Any

import numpy as np

from xfer2._mxnet import available_cores, mx
from xfer2._validation import check_choice, check_integer, parameter_error
from xfer2.data import files, images, iterators
from xfer2.data.files import Example
from xfer2.data.iterators import as_numpy
from xfer2.exceptions import DataError, ImageError
from xfer2.model_handler.network import Network

KINDS = ("an array, an image or a list of their paths, an image folder, a .rec file, a .csv of paths and labels, an "
         "mx.io.DataIter, a Gluon DataLoader or "
         "Dataset, or a dict or tuple of arrays")


@dataclass(frozen=True)
class Batch:
    """Some examples: network inputs by name (n, ...), labels (n,) or None, one identifier each."""

    data: Mapping[str, np.ndarray]
    labels: np.ndarray | None
    ids: Sequence[Any]


@dataclass
class Batches:
    """A stream of batches that can be read more than once.

    Attributes
    ----------
    size : int or None
        Number of examples, those that cannot be decoded too, where it is known before they are read.
    skipped : list of str
        Images that could not be decoded in the last reading (with ``errors="skip"``), each with its reason.
    """

    read: Callable[[list[str]], Iterator[Batch]]
    size: int | None = None
    skipped: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Batch]:
        self.skipped.clear()
        yield from self.read(self.skipped)


def open_batches(data: Any, network: Network, labels: Any = None, batch_size: int = 32, errors: str = "raise",
                 owner: str = "extract_features") -> Batches:
    """Open any data as a stream of batches for a network.

    Parameters
    ----------
    data : array, path, DataIter, DataLoader, Dataset, dict or tuple of arrays
        uint8 arrays of shape (n, h, w), (n, h, w, channels) or (n, channels, h, w) are images, as are files and uint8
        items of a Dataset: they are prepared by the network's preprocessing record. All else is network input already.
    network : Network
        Names its inputs and knows its preprocessing.
    labels : array-like, optional
        One per example, of any type; they take the place of the data's own.
    batch_size : int
        Examples a batch; a DataIter and a DataLoader keep their own.
    errors : {"raise", "skip"}
        What to do with an image that cannot be decoded.
    owner : str
        Who asks, for messages.

    Raises
    ------
    DataError
        The data are empty, of unequal lengths, or need a preprocessing record that is not there.
    ParameterError
        `data` is of no kind that can be read.
    """
    check_choice(owner, "errors", errors, ("raise", "skip"))
    size = check_integer(owner, "batch_size", batch_size)
    given = None if labels is None else _label_array(labels)
    if files.are_files(data):
        examples = files.open_examples(data)
        path = data.path if isinstance(data, files.FileRows) else data
        images.require_record(network.preprocessing, f"The images of {str(path)!r}")
        _check_label_count(owner, given, examples.size)
        return Batches(lambda skipped: _from_examples(examples.read(), network, given, size, errors, skipped, owner),
                       examples.size)
    if isinstance(data, mx.io.DataIter):
        _check_order_known(given, data, owner)
        return Batches(lambda skipped: _relabelled(_from_data_iter(data, network), given, owner))
    if isinstance(data, mx.gluon.data.DataLoader):
        _check_order_known(given, data, owner)
        return Batches(lambda skipped: _relabelled(_from_loader(data, network), given, owner))
    if isinstance(data, mx.gluon.data.Dataset):
        count = len(data)
        _check_label_count(owner, given, count)
        parts = len(network.inputs)
        return Batches(lambda skipped: _from_examples(_dataset_examples(data, parts), network, given, size, errors, skipped,
                                                      owner), count)
    arrays = _as_arrays(data, network, owner)
    count = len(next(iter(arrays.values())))
    if count == 0:
        raise DataError(f"{owner}: the data are empty: they hold no examples.")
    _check_label_count(owner, given, count)
    return Batches(lambda skipped: _from_arrays(arrays, network, given, size), count)


def shaped_by(network: Network, batches: Batches) -> Network:
    """The network with its inputs' shapes as the first batch of some data has them; as they are where there is none."""
    first = next(iter(batches), None)
    return network if first is None else replace(network, input_shapes={name: array.shape[1:]
                                                                        for name, array in first.data.items()})


def _as_arrays(data: Any, network: Network, owner: str) -> dict[str, np.ndarray]:
    if isinstance(data, Mapping):
        missing = [name for name in network.inputs if name not in data]
        if missing:
            raise parameter_error(owner, "data", f"a dict with the network's inputs {', '.join(network.inputs)}",
                                  sorted(map(str, data)))
        arrays = {name: _rectangular(data[name], owner) for name in network.inputs}
    elif isinstance(data, tuple) or len(network.inputs) > 1:
        if not isinstance(data, (tuple, list)) or len(data) != len(network.inputs):
            raise parameter_error(owner, "data", f"a tuple of {len(network.inputs)} arrays, one for each of the network's "
                                  f"inputs {', '.join(network.inputs)}", type(data).__name__)
        arrays = {name: _rectangular(part, owner) for name, part in zip(network.inputs, data, strict=True)}
    elif hasattr(data, "__array__") or isinstance(data, (list, mx.nd.NDArray)):
        arrays = {network.inputs[0]: _rectangular(data, owner)}
    else:
        raise parameter_error(owner, "data", KINDS, type(data).__name__)
    for name, array in arrays.items():
        if array.ndim == 0 or array.dtype.kind not in "fiub":
            raise parameter_error(owner, f"data for the input {name!r}", "an array of numbers, one row an example",
                                  f"{array.dtype} of shape {array.shape}")
    if len({len(array) for array in arrays.values()}) > 1:
        raise DataError(f"{owner}: the inputs have different numbers of examples: "
                        + ", ".join(f"{name} {len(array)}" for name, array in arrays.items()) + ".")
    return arrays


def _rectangular(value: Any, owner: str) -> np.ndarray:
    try:
        return as_numpy(value)
    except ValueError as error:  # lists in lists of different lengths
        raise parameter_error(owner, "data", "an array of numbers, one row an example and all rows of one shape",
                              value) from error


def _label_array(labels: Any) -> np.ndarray:
    """Labels in one dimension; texts that come as objects (a pandas column) become NumPy's texts, which files can hold."""
    try:
        flat = as_numpy(labels).reshape(-1)
        given = np.array(labels, object).reshape(-1) if isinstance(labels, (list, tuple)) else flat
        if given.dtype.kind == "O" and len({_kind(label) for label in given}) > 1:  # NumPy would make them one
            return given
        for kinds, dtype in ((str, str), (bool | np.bool_, bool), (Integral, np.int64)):
            if flat.dtype.kind == "O" and all(isinstance(label, kinds) for label in flat):
                return flat.astype(dtype)
    except (ValueError, OverflowError) as error:
        raise DataError(f"Labels must be one an example, texts or numbers of at most 64 bits: {error}.") from error
    return flat


def _kind(label: Any) -> Any:
    return next((kind for kind in (str, bool | np.bool_, Number) if isinstance(label, kind)), object)


def _whole_numbers(labels: np.ndarray) -> np.ndarray:
    """MXNet carries class numbers as floats; give them back as integers."""
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] != 1:
        raise DataError(f"Each example must have one label; these have {flat.shape[1]}.")
    flat = flat[:, 0]
    if flat.dtype.kind == "f" and np.isfinite(flat).all() and (flat == np.round(flat)).all():
        return flat.astype(np.int64)
    return flat


def _check_label_count(owner: str, labels: np.ndarray | None, count: int | None, more: bool = False) -> None:
    """Raise unless there is a label for each of `count` examples, or where there are more of these to come."""
    if labels is not None and count is not None and (len(labels) < count if more else len(labels) != count):
        raise DataError(f"{owner}: there are {len(labels)} labels for {count}{' or more' * more} examples. Give one an "
                        "example, in the order of the data.")


def _check_order_known(labels: np.ndarray | None, data: Any, owner: str) -> None:
    if labels is not None and iterators.is_shuffled(data):
        raise DataError(f"{owner}: labels cannot be given beside data that may be shuffled at every reading: nothing says "
                        "which label belongs to which example. Put the labels into the data, or do not shuffle.")


def _named(arrays: Sequence[np.ndarray], network: Network, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Inputs by name: by the source's own names where they are the network's, else by position."""
    if len(arrays) != len(network.inputs):
        raise DataError(f"The network has {len(network.inputs)} inputs ({', '.join(network.inputs)}); "
                        f"the data have {len(arrays)}.")
    chosen = names if set(names) == set(network.inputs) else network.inputs
    return {name: _network_input(name, array, network) for name, array in zip(chosen, arrays, strict=True)}


def _network_input(name: str, array: np.ndarray, network: Network) -> np.ndarray:
    record = network.preprocessing
    if not images.is_pixels(array):
        if record is not None and record.input_name == name and array.dtype.kind in "iu":
            raise DataError(f"The input {name!r} takes images, uint8 of shape (n, height, width) or with channels, or what "
                            f"is prepared already, float of shape {('n', *record.input_shape)}; got {array.dtype} of shape "
                            f"{array.shape}. Convert pixels from 0 to 255 with .astype('uint8').")
        try:
            return np.ascontiguousarray(array, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"The network's inputs must be numbers; got {array.dtype} of shape {array.shape}.") from error
    record = images.require_record(record, "uint8 arrays are images; they")
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.shape[1] > array.shape[2]:
        raise DataError(f"A uint8 array of shape (..., {array.shape[1]}, {array.shape[2]}) is one image in colour; give a "
                        "batch of images, image[None] for one.")
    return np.stack([images.prepare(images.from_array(pixels), record) for pixels in array])


def _from_arrays(arrays: Mapping[str, np.ndarray], network: Network, labels: np.ndarray | None,
                 size: int) -> Iterator[Batch]:
    count = len(next(iter(arrays.values())))
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield Batch({name: _network_input(name, array[start:stop], network) for name, array in arrays.items()},
                    None if labels is None else labels[start:stop], range(start, stop))


def _from_data_iter(iterator: Any, network: Network) -> Iterator[Batch]:
    names = [description[0] for description in iterator.provide_data]
    position = 0
    for arrays, labels in iterators.read_iterator(iterator):
        stop = position + len(arrays[0])
        codes = None if labels is None else _whole_numbers(labels)
        yield Batch(_named(arrays, network, names), codes, range(position, stop))
        position = stop


def _from_loader(loader: Any, network: Network) -> Iterator[Batch]:
    position, inputs = 0, len(network.inputs)
    for parts in iterators.read_loader(loader):
        stop = position + len(parts[0])
        labels = _whole_numbers(parts.pop()) if len(parts) == inputs + 1 else None
        yield Batch(_named(parts, network), labels, range(position, stop))
        position = stop


def _relabelled(batches: Iterable[Batch], labels: np.ndarray | None, owner: str) -> Iterator[Batch]:
    if labels is None:
        yield from batches
        return
    position = 0
    for batch in batches:
        count = len(batch.ids)
        _check_label_count(owner, labels, position + count, more=True)
        yield Batch(batch.data, labels[position:position + count], batch.ids)
        position += count
    _check_label_count(owner, labels, position)


def _dataset_examples(dataset: Any, inputs: int) -> Iterator[Example]:
    """Items are the network's inputs, and one more where there are labels."""
    for number in range(len(dataset)):
        parts, label = tuple(iterators.parts_of(dataset[number])), None
        if len(parts) == inputs + 1:
            parts, label = parts[:-1], parts[-1]
        if isinstance(label, mx.nd.NDArray):
            label = label.asnumpy()
        yield Example(number, label, f"{number} of the dataset", parts)


def _from_examples(examples: Iterator[Example], network: Network, labels: np.ndarray | None, size: int, errors: str,
                   skipped: list[str], owner: str) -> Iterator[Batch]:
    def prepared(example: Example) -> list[np.ndarray] | ImageError:
        try:
            return _prepare_example(example, network)
        except ImageError as error:
            return error

    position = 0
    with ThreadPoolExecutor(available_cores()) as pool:
        while group := list(islice(examples, size)):
            if labels is not None:
                _check_label_count(owner, labels, position + len(group), more=True)
                group = [example._replace(label=label) for example, label in zip(group, labels[position:], strict=False)]
            position += len(group)
            kept: list[tuple[Example, list[np.ndarray]]] = []
            for example, result in zip(group, pool.map(prepared, group), strict=True):
                if not isinstance(result, ImageError):
                    kept.append((example, result))
                elif errors == "raise":
                    raise ImageError(f"{str(result).rstrip('.')}. Read past such images with errors='skip'.") from result
                else:
                    skipped.append(str(result))
            if kept:
                yield _stacked(kept, network)
    _check_label_count(owner, labels, position)


def _prepare_example(example: Example, network: Network) -> list[np.ndarray]:
    parts = example.content if isinstance(example.content, tuple) else (example.content,)
    prepared = []
    for name, part in zip(network.inputs, parts, strict=False):
        if isinstance(part, (bytes, Path)):
            record = images.require_record(network.preprocessing, "Images")
            prepared.append(images.prepare(images.decode(part, example.name), record))
        else:
            prepared.append(_network_input(name, as_numpy(part)[np.newaxis], network)[0])
    return prepared


def _stacked(kept: Sequence[tuple[Example, list[np.ndarray]]], network: Network) -> Batch:
    shapes = {tuple(part.shape for part in parts) for _, parts in kept}
    if len(shapes) > 1:
        raise DataError(f"The examples have different shapes: {sorted(shapes)[:3]}.")
    columns = [np.stack(parts) for parts in zip(*(parts for _, parts in kept), strict=True)]
    labels = [example.label for example, _ in kept]
    if any(label is None for label in labels):
        if not all(label is None for label in labels):
            raise DataError("Some examples have a label and others none.")
        found = None
    else:
        try:
            found = _whole_numbers(np.asarray(labels))
        except ValueError as error:  # of different lengths
            raise DataError(f"Each example must have one label: {error}.") from error
    return Batch(_named(columns, network), found, [example.id for example, _ in kept])
