"""MXNet's own ways of handing out batches, DataIter and DataLoader: every example once, none padded, none lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2.exceptions import DataError


def as_numpy(value: Any) -> np.ndarray:
    """Anything array-like as a NumPy array."""
    return value.asnumpy() if isinstance(value, mx.nd.NDArray) else np.asarray(value)


def parts_of(item: Any) -> list[Any]:
    """What an item or a batch is made of; arrays in tuples inside it, as in ((left, right), label), one after another."""
    if not isinstance(item, (tuple, list)):
        return [item]
    return [one for part in item for one in (parts_of(part) if _holds_arrays(part) else [part])]


def _holds_arrays(part: Any) -> bool:
    return isinstance(part, (tuple, list)) and any(hasattr(one, "shape") or _holds_arrays(one) for one in part)


def is_shuffled(data: Any) -> bool:
    """Whether an iterator or loader gives, or may give, its examples in another order at each reading.

    An ImageRecordIter is taken at its word: nothing of it says that it shuffles.
    """
    if isinstance(data, mx.io.DataIter):
        return bool(getattr(data, "shuffle", False)) or any(map(is_shuffled, _inside(data)))
    sampler = getattr(getattr(data, "_batch_sampler", None), "_sampler", None)
    return not isinstance(sampler, mx.gluon.data.SequentialSampler)


def _inside(iterator: Any) -> list[Any]:
    """The iterators that an iterator takes its batches from."""
    return [*getattr(iterator, "iters", ()), *([iterator.data_iter] if hasattr(iterator, "data_iter") else [])]


def _check_gives_all(iterator: Any) -> None:
    """Raise where an iterator leaves rows out, or gives others at each reading, and what does so is out of reach."""
    for inner in _inside(iterator):
        if isinstance(inner, mx.io.MXDataIter):
            raise DataError(f"A {type(iterator).__name__} of a {type(inner).__name__} does not begin with the first example "
                            "at each reading. Hand over the inner iterator, or the file that it reads.")
        _check_gives_all(inner)
        if getattr(inner, "last_batch_handle", "pad") != "pad":
            raise DataError(f"A {type(iterator).__name__} of an iterator with last_batch_handle={inner.last_batch_handle!r} "
                            "does not give every example at each reading. Hand over the inner iterator.")
    if not isinstance(iterator, mx.io.NDArrayIter) and getattr(iterator, "last_batch_handle", "pad") != "pad":
        raise DataError(f"A {type(iterator).__name__} with last_batch_handle={iterator.last_batch_handle!r} does not give "
                        "every example at each reading. Make it with last_batch_handle='pad'.")


def read_iterator(iterator: Any) -> Iterator[tuple[list[np.ndarray], np.ndarray | None]]:
    """The batches of a DataIter from its first example on: inputs, and labels where it has them."""
    _check_gives_all(iterator)
    for batch in _rewound(_whole_iterator(iterator)):
        if len(batch.label or ()) > 1:
            names = ", ".join(str(one[0]) for one in getattr(iterator, "provide_label", None) or ())
            raise DataError(f"A {type(iterator).__name__} must give one label an example; this one gives {len(batch.label)}"
                            f"{names and f' ({names})'}. Make an iterator with one of them.")
        kept = batch.data[0].shape[0] - (batch.pad or 0)
        yield ([array.asnumpy()[:kept] for array in batch.data],
               batch.label[0].asnumpy()[:kept] if batch.label else None)


def read_loader(loader: Any) -> Iterator[list[np.ndarray]]:
    """The batches of a DataLoader: the parts of each, labels last where it has them."""
    for parts in _whole_loader(loader):
        arrays = [as_numpy(part) for part in parts_of(parts)]
        if not all(array.ndim for array in arrays):
            raise DataError("A DataLoader must give arrays: the network's inputs, and labels where there are any; it gave a "
                            f"{type(parts).__name__}.")
        yield arrays


def _whole_iterator(iterator: Any) -> Any:
    """An NDArrayIter that drops or carries over its last batch, as one that gives every example once, in its order."""
    if not isinstance(iterator, mx.io.NDArrayIter) or iterator.last_batch_handle == "pad":
        return iterator
    data, labels = ({name: mx.nd.array(as_numpy(array), dtype=array.dtype) for name, array in pairs}  # of NumPy, floats
                    for pairs in (iterator.data, iterator.label))
    return mx.io.NDArrayIter(data, labels, min(iterator.batch_size, len(iterator.idx)))


def _rewound(iterator: Any) -> Iterator[Any]:
    """The batches of a DataIter from its first example on.

    An iterator of MXNet's library (CSVIter, ImageRecordIter) fills its last batch with its first examples, and after
    ``reset()`` starts behind those. One that was never read is therefore not reset; for one that was, the indices that come
    with the batches tell where it starts, and what it left out is taken from the last batch of the reading before.
    """
    if not isinstance(iterator, mx.io.MXDataIter):
        iterator.reset()
    elif iterator.first_batch is None:
        iterator.reset()
        batch = next(iterator)
        index = batch.index[:batch.data[0].shape[0] - (batch.pad or 0)].astype(np.int64)
        if (np.diff(index) != 1).any():
            raise DataError("This iterator of MXNet's has been read before, and MXNet does not start it again at its first "
                            "example. Make a new one, or hand over the file that it reads.")
        if index[0] > 0:
            for following in iterator:
                batch = following
            batch = _padding_of(batch)
            iterator.reset()
        if batch.data[0].shape[0]:
            yield batch
    yield from iterator


def _padding_of(batch: Any) -> Any:
    """What fills up the last batch, as a batch."""
    kept = batch.data[0].shape[0] - (batch.pad or 0)

    def rest(arrays: Any) -> list[Any]:
        return [mx.nd.array(array.asnumpy()[kept:], dtype=array.dtype) for array in arrays or []]

    return mx.io.DataBatch(rest(batch.data), rest(batch.label), pad=0)


def _whole_loader(loader: Any) -> Any:
    """A DataLoader that drops or carries over its last batch, as one that gives it."""
    sampler: Any = getattr(loader, "_batch_sampler", None)
    if getattr(sampler, "_last_batch", "keep") == "keep":
        return loader
    whole = mx.gluon.data.BatchSampler(sampler._sampler, sampler._batch_size, "keep")
    return mx.gluon.data.DataLoader(loader._dataset, batch_sampler=whole, batchify_fn=loader._batchify_fn)
