"""Examples of a fit, and what is seen in others: read once, what is frozen computed on the way, rows held out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xfer2._validation import parameter_error
from xfer2.data.augmentation import Augment, augmented
from xfer2.data.batches import Batch, Batches, open_batches
from xfer2.data.files import FileRows
from xfer2.exceptions import DataError
from xfer2.features.engines.automatic import EngineChoice
from xfer2.features.extractor import extract
from xfer2.features.store import Features, SpillingStore
from xfer2.heads._features import shuffled_by_class
from xfer2.model_handler.lengths import LengthCheck
from xfer2.model_handler.network import Network
from xfer2.uncertainty.predictions import Prediction, label_codes

_LARGEST_IN_MEMORY = 2 << 30  # bytes; more is kept in files, memory-mapped



class Examined(NamedTuple):
    """What a repurposer sees in some data: predictions, the labels that the data carry, features (n, d)."""

    prediction: Prediction
    labels: np.ndarray | None
    features: np.ndarray


class RowsOf:
    """Some rows of an array, which may be on disk: read when they are asked for, never copied as a whole."""

    def __init__(self, array: np.ndarray, rows: np.ndarray) -> None:
        self._array = array
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: Any) -> np.ndarray:
        return self._array[self._rows[chosen]]


@dataclass(frozen=True)
class Examples:
    """What a network is trained on.

    Attributes
    ----------
    arrays : dict of str to array
        The inputs of the network by name, `views` rows an example, one after another; the first of them is as it came.
    codes : numpy.ndarray of int (n,)
    views : int
    """

    arrays: Mapping[str, Any]
    codes: np.ndarray
    views: int = 1

    def __len__(self) -> int:
        return len(self.codes)

    def inputs(self, network: Network) -> list[Any]:
        """The arrays in the order of the network's inputs."""
        return [self.arrays[name] for name in network.inputs]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the inputs, without the batch axis."""
        return {name: array[:1].shape[1:] for name, array in self.arrays.items()}

    def rows(self, chosen: np.ndarray) -> Examples:
        """Some of the examples, with all their views."""
        rows = (chosen[:, np.newaxis] * self.views + np.arange(self.views)).ravel()
        return Examples({name: RowsOf(array, rows) for name, array in self.arrays.items()}, self.codes[chosen], self.views)

    def plain(self) -> Examples:
        """Every example once, as it came."""
        if self.views == 1:
            return self
        rows = np.arange(len(self)) * self.views
        return Examples({name: RowsOf(array, rows) for name, array in self.arrays.items()}, self.codes)

    def through(self, network: Network, layers: Sequence[str], engine: EngineChoice, batch_size: int,
                folder: str, pool: str | None = None) -> Examples:
        """The same examples with the outputs of a network's layers, or its inputs, in place of the arrays they have."""
        inputs = tuple(name for name in layers if name in network.inputs)
        computed = tuple(name for name in layers if name not in inputs)
        if not computed:
            return Examples({name: self.arrays[name] for name in inputs}, self.codes, self.views)
        count = len(self) * self.views

        def read(skipped: list[str]) -> Iterator[Batch]:
            for start in range(0, count, batch_size):
                part = slice(start, min(start + batch_size, count))
                yield Batch({name: self.arrays[name][part] for name in network.inputs}, None, range(part.start, part.stop))

        found = extract(network, Batches(read, count), computed, pool, _store(folder, count), engine)
        kept = {name: self.arrays[name] for name in inputs}
        return Examples({**kept, **{name: found[name] for name in computed}}, self.codes, self.views)


def read_examples(owner: str, network: Network, X: Any, y: Any, layers: tuple[str, ...], inputs: tuple[str, ...],
                  engine: EngineChoice, batch_size: int, errors: str, folder: str, views: int = 1,
                  augment: Augment | None = None, seed: int = 0) -> tuple[Features, dict[str, tuple[int, ...]]]:
    """Read data once: outputs of some layers and some of the inputs as they are, `views` rows an example.

    Parameters
    ----------
    owner : str
        Who asks, for messages.
    network : Network
        Its input is what the data become.
    X, y : data and labels
        As `xfer2.extract_features` takes them.
    layers, inputs : tuple of str
    engine : str or callable
        As in `xfer2.extract_features`.
    batch_size, errors
        As in `xfer2.extract_features`.
    folder : str
        Where to keep what is too large for memory.
    views : int
    augment : callable, optional
        Makes all views but the first, of the network's first input.
    seed : int
        Of the views.

    Returns
    -------
    features : Features
    shapes : dict of str to tuple of int
        Of the network's inputs, without the batch axis, as the data have them.
    """
    batches = open_batches(X, network, y, batch_size, errors, owner)
    shapes: dict[str, tuple[int, ...]] = {}
    random, check_lengths = np.random.default_rng(seed), LengthCheck(network)

    def read(skipped: list[str]) -> Iterator[Batch]:
        for batch in batches.read(skipped):
            check_lengths(batch.data)
            shapes.update({name: array.shape[1:] for name, array in batch.data.items()})
            yield batch if views == 1 else _viewed(batch, network.inputs[0], views, augment, random)

    stream = Batches(read, None if batches.size is None else batches.size * views)
    return extract(network, stream, layers, store=_store(folder, stream.size), engine=engine, inputs=inputs), shapes


def described(value: Any) -> str:
    """A source or data in a few words, for people."""
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    if isinstance(value, FileRows):
        return f"{value.count} of the {len(value.rows)} examples of {value.path}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return f"a {type(value).__name__}"


def data_and_labels(owner: str, name: str, given: Any) -> tuple[Any, Any]:
    """What was given as data that carry labels, or as a pair of both."""
    if isinstance(given, tuple) and len(given) != 2:
        raise parameter_error(owner, name, "data that carry labels, or a pair of data and labels", given)
    return given if isinstance(given, tuple) else (given, None)


def known_codes(owner: str, features: Features, classes: np.ndarray) -> np.ndarray:
    """The column of each example's label (n,), or an error where there are none or one is no class."""
    if features.labels is None:
        raise DataError(f"{owner}: the data carry no labels; give a pair of data and labels.")
    return label_codes(owner, features.labels, classes, len(features))


def _store(folder: str, size: int | None) -> SpillingStore:
    return SpillingStore(os.path.join(folder, f"examples-{len(os.listdir(folder))}"), _LARGEST_IN_MEMORY, size)


def held_out_rows(codes: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A fraction of the rows, sorted, of every class as nearly as its rows allow; one row of each stays.

    Examples
    --------
    >>> codes = np.array([0] * 10 + [1] * 5 + [2])
    >>> np.bincount(codes[held_out_rows(codes, 0.2, 0)]).tolist()
    [2, 1]
    """
    order = shuffled_by_class(codes, seed)
    order = order[np.bincount(codes)[codes[order]] > 1]
    marks = np.floor(fraction * np.arange(len(order) + 1) + 0.5)
    chosen = np.sort(order[np.diff(marks) > 0])
    whole = np.flatnonzero(np.bincount(codes[chosen], minlength=codes.max() + 1) == np.bincount(codes))
    last = [chosen[codes[chosen] == code][-1:] for code in whole]  # of a class that would be held out as a whole
    return np.setdiff1d(chosen, np.concatenate([np.zeros(0, int), *last]))


def _viewed(batch: Batch, name: str, views: int, augment: Augment | None, random: np.random.Generator) -> Batch:
    """Every example of a batch `views` times, all but the first changed."""
    data = {key: np.repeat(array, views, axis=0) for key, array in batch.data.items()}
    later = np.arange(len(data[name])) % views > 0
    if augment is not None:
        data[name][later] = augmented(augment, data[name][later], random)
    labels = None if batch.labels is None else np.repeat(batch.labels, views)
    return Batch(data, labels, [one for one in batch.ids for _ in range(views)])
