"""The images behind predictions, as they were before a network's preprocessing: for people to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xfer2.data import files, images
from xfer2.data.iterators import as_numpy
from xfer2.exceptions import DataError

Pictures = Callable[[Sequence[int]], dict[int, np.ndarray]]


def pictures_of(data: Any, ids: Sequence[Any]) -> Pictures | None:
    """A function that gives some of the images of some data, or None where the data are no images.

    Parameters
    ----------
    data : data
        A path of images, `FileRows`, or a uint8 array; other data have no pictures.
    ids : sequence
        Identifiers of the examples that were predicted, in their order.

    Returns
    -------
    callable or None
        Of positions in `ids`; it gives uint8 arrays (h, w, 3) by position, of images that can still be decoded.

    Examples
    --------
    >>> pictures = pictures_of(np.zeros((2, 8, 8), np.uint8), [0, 1])
    >>> pictures([1])[1].shape
    (8, 8, 3)
    """
    if files.are_files(data):
        examples = files.open_examples(data)
        return lambda rows: _decoded(examples, ids, rows)
    if not hasattr(data, "__array__") or not images.is_pixels(np.asarray(data[:1])):
        return None
    return lambda rows: {row: _rgb(images.from_array(as_numpy(data[ids[row]]))) for row in rows}


def _decoded(examples: files.Examples, ids: Sequence[Any], rows: Sequence[int]) -> dict[int, np.ndarray]:
    wanted, found = {ids[row] for row in rows}, {}
    for example in examples.read():
        if example.id in wanted:
            try:
                found[example.id] = _rgb(images.decode(example.content, example.name))
            except DataError:  # it has gone since
                continue
    return {row: found[ids[row]] for row in rows if ids[row] in found}


def _rgb(image: Any) -> np.ndarray:
    return np.asarray(image.convert("RGB"))
