"""Features: the value, where it is kept while it grows, and its files (.npz, .parquet, a folder of .npy)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np

from xfer2._files import writing
from xfer2._validation import nearest
from xfer2.exceptions import DataError, LayerNotFoundError, ParameterError
from xfer2.features import files

_INDEX = "features.json"
_WRITE_AT_ONCE = 1 << 24  # bytes
_LONGEST_NAME = 245  # with "layer-" and ".npy" 255 bytes
FOLDER_SUFFIXES = ("", ".features")  # of a name that is a folder of features


class Features:
    """Outputs of some layers for some data.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray
        By layer, (n, ...).
    labels : numpy.ndarray or None
        (n,), of the data's own type.
    ids : sequence
        One identifier per example: row number, path within the folder, record number.
    skipped : sequence of str
        Images that were passed over, each with its reason.

    Examples
    --------
    >>> features = Features({"pool": np.zeros((2, 3))}, None, [0, 1])
    >>> features["pool"].shape, features.layers
    ((2, 3), ('pool',))
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], labels: np.ndarray | None, ids: Sequence[Any],
                 skipped: Sequence[str] = ()) -> None:
        self._arrays = dict(arrays)
        self.labels = None if labels is None else np.asarray(labels)
        self.ids = list(ids)
        columns = {**self._arrays, **({} if self.labels is None else {"the labels": self.labels})}
        odd = [name for name, array in columns.items() if len(array) != len(self.ids)]
        if odd:
            raise DataError(f"Features of {len(self.ids)} examples need arrays of as many rows; {odd[0]!r} has "
                            f"{len(columns[odd[0]])}.")
        self.skipped = list(skipped)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in the order asked for."""
        return tuple(self._arrays)

    def __getitem__(self, layer: str) -> np.ndarray:
        if layer not in self._arrays:
            names = ", ".join(nearest(layer, self.layers))
            raise LayerNotFoundError(f"There are no features of {layer!r}. Nearest: {names}.")
        return self._arrays[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{layer} {'x'.join(map(str, array.shape[1:]))}" for layer, array in self._arrays.items())
        return f"Features({len(self)} examples; {shapes})"

    def flat(self, layer: str) -> np.ndarray:
        """One layer's features as (n, d)."""
        return self[layer].reshape(len(self), -1)

    def matrix(self) -> np.ndarray:
        """All layers' features side by side, (n, sum of d), in the order of `layers`."""
        flat = [self.flat(layer) for layer in self.layers]
        return flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)

    def columns(self) -> dict[str, np.ndarray]:
        """For each layer, the indices of its columns in `matrix`."""
        found, start = {}, 0
        for layer in self.layers:
            width = self.flat(layer).shape[1]
            found[layer] = np.arange(start, start + width)
            start += width
        return found

    def to_frame(self) -> Any:
        """A pandas DataFrame: ``id``, ``label`` where there are labels, then one column per feature, ``LAYER_0`` on."""
        import pandas

        named = [f"{layer}_{number}" for layer, indices in self.columns().items() for number in range(len(indices))]
        frame = pandas.DataFrame(self.matrix(), columns=named)
        if self.labels is not None:
            frame.insert(0, "label", self.labels)
        frame.insert(0, "id", self.ids)
        return frame

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a file of the kind that its suffix says, or to a new folder of ``.npy`` files.

        ``.parquet`` and ``.csv`` hold what `to_frame` gives, ``.npz`` an array a layer, ``.npy`` the array of one layer
        alone. A file is written under a temporary name and renamed. `load` reads .npz and folders back.

        Raises
        ------
        ParameterError
            The suffix is none of these, or the folder has something in it.
        DataError
            The file system refuses such a name, or labels are of mixed types.
        """
        write_parts(os.fspath(path), lambda: [self])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Features:
        """Read what `save` wrote as .npz or folder; the arrays of a folder stay on disk (memory-mapped)."""
        target = os.fspath(path)
        try:
            if os.path.isdir(target):
                return FolderStore.open(target)
            archive: Any = target  # NumPy's types know of open files only
            with np.lib.npyio.NpzFile(archive, allow_pickle=False) as file:
                arrays = {name.partition(":")[2]: file[name] for name in file.files if name.startswith("layer:")}
                labels = file["labels"] if "labels" in file.files else None
                return cls(arrays, labels, file["ids"].tolist(), file["skipped"].tolist())
        except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{target!r} cannot be read as features: {error}") from error


def write_parts(path: str, parts: files.Parts) -> None:
    """Write features that come in parts, as `Features.save` does; memory holds one part."""
    if Path(path).suffix not in FOLDER_SUFFIXES:
        files.write(path, parts)
        return
    store, labels = FolderStore(path), []
    ids: list[Any] = []
    skipped: list[str] = []
    try:
        for part in parts():
            for layer in part.layers:
                store.append(layer, np.asarray(part[layer]))
            labels += [] if part.labels is None else [part.labels]
            ids += part.ids
            skipped += part.skipped
        store.finish(np.concatenate(labels) if labels else None, ids, skipped)
    except BaseException:  # an interruption too leaves nothing half written
        store.abort()
        raise


class Store(Protocol):
    """Where features are kept while batches come."""

    def append(self, layer: str, array: np.ndarray) -> None:
        """Add rows (n, ...) of one layer."""
        ...

    def finish(self, labels: np.ndarray | None, ids: Sequence[Any], skipped: Sequence[str]) -> Features:
        """Close the store and give its features."""
        ...

    def abort(self) -> None:
        """Leave nothing behind."""
        ...


def foreign_files(folder: Path) -> list[str]:
    """Names in a folder that no `FolderStore` put there; all of them where it is no folder of features."""
    names = sorted(entry.name for entry in folder.iterdir())
    own = {_INDEX, "labels.npy"} if _INDEX in names else set()
    return [name for name in names if name not in own and not (own and re.fullmatch(r"layer-.*\.npy", name))]


class MemoryStore:
    """Keeps features in arrays that are allocated once where the number of examples is known, doubled where not."""

    def __init__(self, size: int | None = None) -> None:
        self._size = size
        self._arrays: dict[str, np.ndarray] = {}
        self._filled: dict[str, int] = {}

    def append(self, layer: str, array: np.ndarray) -> None:
        """Add rows (n, ...) of one layer."""
        start = self._filled.get(layer, 0)
        stop = start + len(array)
        if layer not in self._arrays:
            self._arrays[layer] = np.empty((max(self._size or 0, stop), *array.shape[1:]), array.dtype)
        elif stop > len(self._arrays[layer]):
            grown = np.empty((max(2 * start, stop), *array.shape[1:]), array.dtype)
            grown[:start] = self._arrays[layer][:start]
            self._arrays[layer] = grown
        self._arrays[layer][start:stop] = array
        self._filled[layer] = stop

    def abort(self) -> None:
        """Forget all rows."""
        self._arrays.clear()

    def finish(self, labels: np.ndarray | None, ids: Sequence[Any], skipped: Sequence[str]) -> Features:
        """Give the features; rows that were allocated and not filled are cut off."""
        return Features(self.rows(), labels, ids, skipped)

    def rows(self) -> dict[str, np.ndarray]:
        """What was added, by layer."""
        return {layer: array[:self._filled[layer]] for layer, array in self._arrays.items()}


class FolderStore:
    """Writes features to ``LAYER.npy`` files as they come and gives them memory-mapped, so memory does not grow.

    Rows go through plain file writes, not through a writable map: pages of a map count as the process's memory until
    they are flushed. What is written is given to the disk at once and dropped from the page cache, which otherwise grows
    as large as the features, and stops the writer when it is full. Files go to a temporary name, which `finish` renames:
    a folder is whole or not there.

    Parameters
    ----------
    path : str
        A folder that does not exist yet, or is empty.

    Raises
    ------
    ParameterError
        The folder has something in it, or is a file.
    DataError
        The file system refuses such a folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._target = Path(path)
        with writing(self._target):
            if self._target.exists() and (not self._target.is_dir() or any(self._target.iterdir())):
                raise ParameterError(f"Features cannot be kept in {str(path)!r}: it must be a folder that is new or empty. "
                                     "Choose another name, or remove what is there.")
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._path = Path(tempfile.mkdtemp(prefix=f".{self._target.name}-", dir=self._target.parent))
        self._files: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._unsynced: dict[str, int] = {}
        self._dtypes: dict[str, np.dtype[Any]] = {}

    def append(self, layer: str, array: np.ndarray) -> None:
        """Add rows (n, ...) of one layer."""
        with writing(self._target):
            if layer not in self._files:
                self._files[layer] = (self._path / _file_name(layer)).open("w+b")
                self._shapes[layer], self._dtypes[layer] = (0, *array.shape[1:]), array.dtype
                self._write_header(layer)
            content = files.content(array)
            for start in range(0, len(content), _WRITE_AT_ONCE):
                self._write(layer, content[start:start + _WRITE_AT_ONCE])
        self._shapes[layer] = (self._shapes[layer][0] + len(array), *self._shapes[layer][1:])

    def _write(self, layer: str, content: memoryview) -> None:
        file = self._files[layer]
        file.write(content)
        self._unsynced[layer] = self._unsynced.get(layer, 0) + len(content)
        if self._unsynced[layer] >= _WRITE_AT_ONCE:
            file.flush()
            os.fdatasync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._unsynced[layer] = 0

    def finish(self, labels: np.ndarray | None, ids: Sequence[Any], skipped: Sequence[str]) -> Features:
        """Complete the files, write the index, and give the features memory-mapped."""
        plain = [one.item() if isinstance(one, np.generic) else one for one in ids]
        index = {"layers": list(self._files), "ids": plain, "skipped": list(skipped), "labels": labels is not None}
        with writing(self._target):
            for layer, file in self._files.items():
                file.seek(0)
                self._write_header(layer)
                file.close()
            if labels is not None:
                np.save(self._path / "labels.npy", files.storable(labels), allow_pickle=False)
            (self._path / _INDEX).write_text(json.dumps(index), encoding="utf-8")
            self._path.chmod(0o777 & ~_umask())
            self._path.replace(self._target)
        return self.open(self._target)

    def abort(self) -> None:
        """Remove what was written."""
        for file in self._files.values():
            with suppress(OSError):  # what it still holds back may not fit on the disk, and is thrown away anyway
                file.close()
        shutil.rmtree(self._path, ignore_errors=True)

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Features:
        """Give the features of a finished folder, memory-mapped."""
        folder = Path(path)
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        arrays = {layer: np.load(folder / _file_name(layer), mmap_mode="r") for layer in index["layers"]}
        labels = np.load(folder / "labels.npy", allow_pickle=False) if index["labels"] else None
        return Features(arrays, labels, index["ids"], index["skipped"])

    def _write_header(self, layer: str) -> None:
        """NumPy's header; it leaves room for the first axis to grow, so it can be rewritten in place."""
        np.lib.format.write_array_header_1_0(self._files[layer], {
            "descr": np.lib.format.dtype_to_descr(self._dtypes[layer]), "fortran_order": False,
            "shape": self._shapes[layer]})


class SpillingStore:
    """Keeps features in memory up to a limit, and all of them in a folder from there on.

    Parameters
    ----------
    folder : str
        A new folder; it is made only where it is needed.
    limit : int
        Bytes.
    size : int, optional
        Number of examples, where it is known.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: int, size: int | None = None) -> None:
        self._folder, self._left = folder, limit
        self._store: MemoryStore | FolderStore = MemoryStore(size)

    def append(self, layer: str, array: np.ndarray) -> None:
        """Add rows (n, ...) of one layer."""
        self._left -= array.nbytes
        if self._left < 0 and isinstance(self._store, MemoryStore):
            kept, self._store = self._store, FolderStore(self._folder)
            for name, rows in kept.rows().items():
                self._store.append(name, rows)
        self._store.append(layer, array)

    def finish(self, labels: np.ndarray | None, ids: Sequence[Any], skipped: Sequence[str]) -> Features:
        """Give the features, memory-mapped where they were too many."""
        return self._store.finish(labels, ids, skipped)

    def abort(self) -> None:
        """Leave nothing behind."""
        self._store.abort()


def _umask() -> int:
    """The process's mask of permissions; a temporary folder is made private, the finished one is an ordinary one."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _file_name(layer: str) -> str:
    """A layer's file. File systems take names of 255 bytes: of a longer one, its beginning and a hash; the index has all."""
    name = quote(layer, safe="")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME - 65]}-{hashlib.sha256(name.encode()).hexdigest()}"
    return f"layer-{name}.npy"
