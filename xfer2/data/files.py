"""Examples on disk: a folder of images, a record file, a CSV list. They are named and counted here, not decoded."""

from __future__ import annotations

import csv
import hashlib
import logging
import mimetypes
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xfer2._mxnet import mx
from xfer2.data.images import EXTENSIONS
from xfer2.exceptions import DataError

logger = logging.getLogger("xfer2")

_HEADER_NAMES = frozenset({"path", "file", "file_name", "filename", "file_path", "filepath", "image", "image_path",
                           "image_name", "image_file", "image_id", "img", "img_path", "img_name", "name", "id"})


class Example(NamedTuple):
    """One example: identifier, label (None without one), its name in messages, and its content or where that is."""

    id: Any
    label: Any
    name: str
    content: Any


class Examples(NamedTuple):
    """Examples to read, and how many there are where that is known."""

    read: Callable[[], Iterator[Example]]
    size: int | None


@dataclass(frozen=True)
class FileRows:
    """Some of the examples at a path, as data: by position, in the order of the path's own.

    Attributes
    ----------
    path : str
        A folder, ``.rec`` or ``.csv``.
    rows : numpy.ndarray of bool (n,)
        Which of all n examples.

    Examples
    --------
    >>> FileRows("photos", np.array([True, False, True])).count
    2
    """

    path: str
    rows: np.ndarray

    @property
    def count(self) -> int:
        """How many examples these are."""
        return int(np.count_nonzero(self.rows))


def labels_at(path: str) -> np.ndarray | None:
    """Labels of all examples at a path (n,), found without decoding an image; None where they have none.

    Raises
    ------
    DataError
        As `open_examples`; or some examples have a label and others none.
    """
    labels = [example.label for example in open_examples(path).read()]
    if all(label is None for label in labels):
        return None
    if any(label is None for label in labels):
        raise DataError(f"Some examples of {path!r} have a label and others none.")
    return np.asarray(labels)


def fingerprint(path: str) -> str:
    """What changes when the examples at a path do: a hash of their names, sizes and times of change."""
    path = os.fspath(path)
    digest = hashlib.sha256()
    listed = [Path(path)] if os.path.isfile(path) else []
    if not path.endswith(".rec"):
        listed += [example.content for example in open_examples(path).read()]
    for file in listed:
        status = file.stat() if file.is_file() else None
        digest.update(f"{file}\0{status and (status.st_size, status.st_mtime_ns)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def are_files(data: Any) -> bool:
    """Whether data lie on disk: a path, some of the examples at one, or a list of the paths of images."""
    return isinstance(data, (str, os.PathLike, FileRows)) or (
        isinstance(data, list) and bool(data) and all(isinstance(one, (str, os.PathLike)) for one in data))


def open_examples(data: str | os.PathLike[str] | list[str | os.PathLike[str]] | FileRows) -> Examples:
    """Find the examples at a path, an image, a folder, ``.rec`` or ``.csv``, of images listed, or those that were chosen.

    Raises
    ------
    DataError
        There is nothing at the path, it is of another kind, or it holds no examples.
    """
    if isinstance(data, FileRows):
        every, rows = open_examples(data.path), data.rows.tolist()
        return Examples(lambda: (example for example, chosen in zip(every.read(), rows, strict=False) if chosen), data.count)
    if isinstance(data, list):
        return _listed([Example(os.fspath(one), None, repr(os.fspath(one)), Path(one)) for one in data])
    path = os.fspath(data)
    if os.path.isdir(path):
        return _listed(_in_folder(Path(path)))
    if not os.path.isfile(path):
        raise DataError(f"There is no file or folder {path!r}.")
    if path.endswith(".csv"):
        return _listed(_in_csv(Path(path)))
    if path.endswith(".rec"):
        index = Path(path[:-4] + ".idx")
        size = sum(1 for line in index.read_bytes().splitlines() if line.strip()) if index.is_file() else None
        if os.path.getsize(path) == 0:
            raise DataError(f"The record file {path!r} is empty.")
        return Examples(lambda: _in_records(path), size)
    if Path(path).suffix.lower() in EXTENSIONS:
        return _listed([Example(path, None, repr(path), Path(path))])
    raise DataError(f"{path!r} is neither an image, an image folder, a .rec file nor a .csv of paths and labels.")


def _listed(examples: list[Example]) -> Examples:
    return Examples(lambda: iter(examples), len(examples))


def _in_folder(folder: Path) -> list[Example]:
    """Images by class folder, both in alphabetical order; images without class folders have no labels."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files = {directory: _files_below(directory) for directory in entries if directory.is_dir()}
    images = {directory: [path for path in paths if path.suffix.lower() in EXTENSIONS] for directory, paths in files.items()}
    found = [Example(_shown(path.relative_to(folder)), _shown(directory.name), repr(str(path)), path)
             for directory, paths in images.items() for path in paths]
    loose = [path for path in entries if path not in images and path.suffix.lower() in EXTENSIONS]
    empty = [directory for directory, paths in images.items() if not paths]
    if found and empty:
        raise DataError(f"The class folder {str(empty[0])!r} holds no images: files of the kinds "
                        f"{', '.join(sorted(EXTENSIONS))} were expected. Move it away, or save its images as one of these.")
    if found and loose:
        raise DataError(f"The folder {str(folder)!r} holds class folders and, beside them, {len(loose)} images without a "
                        f"class ({loose[0].name!r}); put them into a class folder.")
    found = found or [Example(_shown(path.name), None, repr(str(path)), path) for path in loose]
    others = [path for path in chain(entries, *files.values()) if path not in files and _is_unreadable_image(path)]
    if others:
        logger.warning("%d images of %r are of kinds that are not read, and left out; the first: %s", len(others),
                       str(folder), _shown(others[0].name))
    if not found:
        raise DataError(f"The folder {str(folder)!r} holds no images: folders by class with files of the kinds "
                        f"{', '.join(sorted(EXTENSIONS))} were expected.")
    return found


def _shown(path: Path | str) -> str:
    """A name as text; bytes that are no UTF-8 are written as their codes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_unreadable_image(path: Path) -> bool:
    kind = mimetypes.guess_type(path.name, strict=False)[0] or ""
    return kind.startswith("image/") and path.suffix.lower() not in EXTENSIONS


def _files_below(folder: Path) -> list[Path]:
    """Files in a folder and in those in it, links followed; hidden ones are copies that programs keep for themselves."""
    def unreadable(error: OSError) -> None:
        raise DataError(f"The folder {str(folder)!r} cannot be read: {error}.") from error

    found: list[Path] = []
    seen = set[str]()
    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = [name for name in folders
                      if not name.startswith(".") and os.path.realpath(os.path.join(place, name)) not in seen]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _in_csv(path: Path) -> list[Example]:
    """Rows of (path[, label]); paths are relative to the CSV.

    A first row is a header where it begins with a name that columns of paths have, or where it names no image and the second
    row does.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file, skipinitialspace=True) if row and any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{str(path)!r} cannot be read as CSV: {error}.") from error
    images = [_is_image(path.parent / row[0].strip()) for row in rows[:2]]
    plain = bool(rows) and not set(rows[0][0]) & set("./\\")
    if rows and (rows[0][0].strip().lower() in _HEADER_NAMES or (plain and images == [False, True])):
        rows = rows[1:]
    if not rows:
        raise DataError(f"The list {str(path)!r} names no images.")
    widths = {len(row) for row in rows}
    if not widths <= {1} and not widths <= {2}:
        raise DataError(f"The rows of {str(path)!r} must all be 'path' or all 'path,label'; found rows of "
                        f"{', '.join(map(str, sorted(widths)))} cells.")
    labels = _as_numbers([row[1].strip() for row in rows]) if widths == {2} else [None] * len(rows)
    return [Example(row[0].strip(), label, repr(str(path.parent / row[0].strip())), path.parent / row[0].strip())
            for row, label in zip(rows, labels, strict=True)]


def _is_image(path: Path) -> bool:
    """Whether a path is called as images are, or is there: files without a suffix may be images too."""
    return path.suffix.lower() in EXTENSIONS or os.path.isfile(path)


def _as_numbers(texts: list[str]) -> list[Any]:
    if "" in texts:
        raise DataError(f"Row {texts.index('') + 1} of the list has an empty label.")
    try:
        numbers = [int(text) for text in texts]
    except ValueError:
        return list(texts)
    plain = [str(number) for number in numbers] == texts  # "007" is a name
    return numbers if plain and all(abs(number) < 2**63 for number in numbers) else list(texts)


def _in_records(path: str) -> Iterator[Example]:
    reader = mx.recordio.MXRecordIO(path, "r")
    try:
        number = 0
        while (record := _next_record(reader, path, number)) is not None:
            header, content = _unpacked(record, path, number)
            label = header.label
            if np.ndim(label) and np.size(label) != 1:
                raise DataError(f"Record {number} of {path!r} has {np.size(label)} labels; one is needed.")
            yield Example(number, float(np.ravel(label)[0]), f"record {number} of {path!r}", bytes(content))
            number += 1
    finally:
        reader.close()


def _unpacked(record: bytes, path: str, number: int) -> tuple[Any, bytes]:
    try:
        return mx.recordio.unpack(record)
    except (struct.error, ValueError) as error:
        raise DataError(f"The record file {path!r} holds no packed image at record {number}: {error}.") from error


def _next_record(reader: Any, path: str, number: int) -> bytes | None:
    try:
        return reader.read()
    except mx.MXNetError as error:
        raise DataError(f"The record file {path!r} cannot be read at record {number}: "
                        f"{str(error).splitlines()[-1]}") from error
