"""Features as one file: .parquet, .npz, .npy or .csv, written part after part, so that memory holds one part.

The file has its name only when it is whole. The same parts give the same bytes.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from xfer2._files import replacing
from xfer2._validation import parameter_error
from xfer2.exceptions import DataError

SUFFIXES = (".parquet", ".npz", ".npy", ".csv")

Parts = Callable[[], Iterable[Any]]  # gives the parts, each a Features, as often as it is called


def write(path: str, parts: Parts) -> None:
    """Write features to a file of the kind that its suffix says.

    ``.parquet`` and ``.csv`` hold ``id``, ``label`` where there are labels, and a column a feature, ``LAYER_0`` on.
    ``.npz`` holds an array a layer, ids, labels and what was skipped; `Features.load` reads it. ``.npy`` holds the array
    of one layer alone.

    Parameters
    ----------
    path : str
    parts : callable
        Gives the parts, each a `Features` with the same layers; it may be called several times.

    Raises
    ------
    ParameterError
        The suffix is another, or ``.npy`` is asked for with several layers.
    DataError
        There is no such folder, it cannot be written, or labels are of mixed types.
    """
    kind = os.path.splitext(path)[1]
    if kind not in _WRITERS:
        kinds = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise parameter_error("Features.save", "path", f"a {kinds} file, or a folder", path)
    with replacing(path) as scratch:
        _WRITERS[kind](scratch, parts)


def write_csv(file: Any, parts: Parts) -> None:
    """Write lines of CSV to an open text file, a header first."""
    for number, part in enumerate(parts()):
        part.to_frame().to_csv(file, index=False, header=number == 0)


def content(array: np.ndarray) -> memoryview:
    """An array's values as bytes, none of one without values."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def storable(labels: np.ndarray) -> np.ndarray:
    """Labels as a file without pickle can hold them: texts or numbers that are kept as objects become NumPy's.

    Raises
    ------
    DataError
        They are of several types, or of one that is no text, number or date.
    """
    if labels.dtype.kind == "O":
        labels = np.array([one.item() if isinstance(one, (np.number, np.bool_)) else one for one in labels], object)
    kinds = {str if isinstance(label, str) else type(label) for label in labels} if labels.dtype.kind == "O" else set()
    plain = np.array(labels.tolist()) if len(kinds) == 1 and kinds <= {str, bool, int, float} else labels
    if plain.dtype.kind not in "biufSUMm":
        found = "mixed types" if len(kinds) > 1 else next((kind.__name__ for kind in kinds), plain.dtype)
        raise DataError(f"Labels of {found} cannot be saved; make them all texts, or all numbers of at most 64 bits.")
    return plain


def _to_parquet(path: str, parts: Parts) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    writer = None
    try:
        for part in parts():
            frame = part.to_frame()
            if part.labels is not None:
                frame["label"] = storable(part.labels)
            table = pyarrow.Table.from_pandas(frame, preserve_index=False)
            writer = writer or ParquetWriter(path, table.schema)
            writer.write_table(table.cast(writer.schema))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError) as error:
        raise DataError(f"A column of {os.path.basename(path)!r} holds values of another type further down (labels with "
                        f"fractions, say): {error}. Make them all of one type, or write .npz or .csv.") from error
    finally:
        if writer is not None:
            writer.close()


def _to_csv(path: str, parts: Parts) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        write_csv(file, parts)


def _to_npz(path: str, parts: Parts) -> None:
    rows, ids, labels, skipped = 0, [], [], []
    layers: dict[str, np.ndarray] = {}
    for part in parts():
        rows += len(part)
        layers = layers or {layer: part[layer] for layer in part.layers}
        ids.append(np.asarray(part.ids))
        skipped += part.skipped
        if part.labels is not None:
            labels.append(storable(part.labels))
    small = {"ids": np.concatenate(ids), "skipped": np.asarray(skipped, dtype=str)}
    if labels:
        small["labels"] = np.concatenate(labels)
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, array in small.items():
            _add(archive, name, array.shape, array.dtype, [array])
        for layer, first in layers.items():
            _add(archive, f"layer:{layer}", (rows, *first.shape[1:]), first.dtype, (part[layer] for part in parts()))


def _add(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: Any, arrays: Iterable[np.ndarray]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        _write_array(file, shape, dtype, arrays)


def _to_npy(path: str, parts: Parts) -> None:
    first = next(iter(parts()))
    if len(first.layers) != 1:
        raise parameter_error("Features.save", "path", "a .npz or .parquet file where there are several layers", path)
    layer, = first.layers
    rows = sum(len(part) for part in parts())
    with open(path, "wb") as file:
        _write_array(file, (rows, *first[layer].shape[1:]), first[layer].dtype, (part[layer] for part in parts()))


def _write_array(file: Any, shape: tuple[int, ...], dtype: Any, arrays: Iterable[np.ndarray]) -> None:
    """NumPy's own format, of an array that comes in pieces."""
    np.lib.format.write_array_header_1_0(file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False,
                                                "shape": shape})
    for array in arrays:
        file.write(content(array.astype(dtype, copy=False)))


_WRITERS: dict[str, Callable[[str, Parts], None]] = {
    ".parquet": _to_parquet, ".npz": _to_npz, ".npy": _to_npy, ".csv": _to_csv}
