"""Features of files on disk into one file: part after part, so that memory stays flat and an interruption costs one part.

Parts lie in a folder beside the file, ``.NAME.partial``, until all are there. An interrupted run that goes on gives the
same bytes as one that was not interrupted: the parts are the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xfer2._validation import as_names, check_choice, parameter_error
from xfer2.data import files as examples_on_disk
from xfer2.data.batches import open_batches
from xfer2.data.files import FileRows
from xfer2.exceptions import DataError
from xfer2.features import files
from xfer2.features.engines.automatic import EngineChoice
from xfer2.features.extractor import POOLS, extract_parts, pruned
from xfer2.features.store import FOLDER_SUFFIXES, Features, foreign_files, write_parts
from xfer2.model_handler import archive, sources
from xfer2.model_handler.answers import with_layers
from xfer2.model_handler.network import Network

_CALL, _JOINED = "call.json", "joined.json"
_PART_EXAMPLES = 1024


@dataclass(frozen=True)
class Written:
    """What a file of features holds.

    Attributes
    ----------
    path : str
    examples : int
    shapes : dict of str to tuple of int
        Of one example's features, by layer.
    skipped : tuple of str
        Images that could not be read, each with its reason.
    """

    path: str
    examples: int
    shapes: dict[str, tuple[int, ...]]
    skipped: tuple[str, ...]


def extract_to_file(source: Any, data: str, layers: Any, path: str, *, pool: str | None = None, batch_size: int = 32,
                    errors: str = "raise", resume: bool = False, overwrite: bool = False,
                    engine: EngineChoice = "auto") -> Written:
    """Outputs of some layers for the images at a path, into one file; memory does not grow with the images.

    Parameters
    ----------
    source, layers, pool, batch_size, errors, engine
        As in `xfer2.extract_features`.
    data : str
        An image folder, a ``.rec``, or a ``.csv`` of paths and labels.
    path : str
        A ``.parquet``, ``.npz``, ``.npy`` or ``.csv`` file, or a new folder; see `Features.save`.
    resume : bool
        Take up what an interrupted run with the same arguments left; by default it is thrown away.
    overwrite : bool
        Whether a file of that name is replaced, when the new one is whole.

    Raises
    ------
    ParameterError
        The file exists, is of a kind that is not known, or what is there to resume is of another call.
    LayerNotFoundError, DataError, MissingParametersError
        As `xfer2.extract_features`. Parts that were written before an error stay; see `kept`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     os.mkdir(f"{folder}/black")
    ...     Image.fromarray(np.zeros((28, 28), np.uint8)).save(f"{folder}/black/0.png")
    ...     written = extract_to_file("zoo:mnist-cnn", folder, "dense0", f"{folder}/features.parquet")
    >>> written.examples
    1
    """
    owner, path = "extract_to_file", str(Path(path))
    network, names = with_layers(owner, sources.read(source, owner, "source"), as_names(owner, "layers", layers))
    check_choice(owner, "pool", pool, POOLS)
    work = _work_folder(path)
    finished = _finished(work) if resume else None
    _check_target(owner, path, len(names), overwrite or finished is not None)
    network = pruned(network, names)
    call = {"layers": list(names), "pool": pool, "batch_size": batch_size, "errors": errors, "network": _digest(network),
            "data": examples_on_disk.fingerprint(data)}
    lock = _open_work(owner, work, call, resume)
    try:
        if finished is None:
            trailing = _extract_rest(network, names, data, work, pool, batch_size, errors, engine)
            finished = _join(path, work, names, trailing)
    finally:
        if not _parts(work):
            shutil.rmtree(work, ignore_errors=True)
        os.close(lock)
    shutil.rmtree(work)
    return Written(path, finished["examples"], {name: tuple(shape) for name, shape in finished["shapes"].items()},
                   tuple(finished["skipped"]))


def kept(path: str) -> tuple[str, int]:
    """The folder of parts that an interrupted `extract_to_file` left, and the number of examples they are of."""
    work = _work_folder(str(Path(path)))
    return str(work), _done(work)


def _extract_rest(network: Network, layers: tuple[str, ...], data: str, work: Path, pool: str | None, batch_size: int,
                  errors: str, engine: EngineChoice) -> list[str]:
    """Write the parts that are not there yet; images that were skipped after the last of them are given back."""
    done = _done(work)
    rest: Any = data
    # of all examples: the rest goes on with the engine of the parts before
    size = examples_on_disk.open_examples(data).size
    if done or size is None:
        counted = sum(1 for _ in examples_on_disk.open_examples(data).read())
        size = counted if size is None else size
    if done:
        rest = FileRows(data, np.arange(counted) >= done)
        if rest.count == 0:
            return []
    batches = open_batches(rest, network, None, batch_size, errors, "extract_to_file")
    start, told = done, 0
    for found in extract_parts(network, batches, layers, pool, engine, size, _PART_EXAMPLES):
        stop = start + len(found) + len(found.skipped)
        found.save(work / f"part-{start:010d}-{stop:010d}.npz")
        start, told = stop, told + len(found.skipped)
    if start == 0:
        raise DataError(f"None of the {len(batches.skipped)} images of {data!r} can be read; the first: "
                        f"{batches.skipped[0]}")
    return batches.skipped[told:]


def _join(path: str, work: Path, layers: tuple[str, ...], trailing: list[str]) -> dict[str, Any]:
    """Make the file of the parts, and say what it holds.

    That is also written beside the parts, just before the file gets its name: whoever finds it there, and the whole file no
    longer, knows that all is done.
    """
    told: dict[str, Any] = {"examples": 0, "shapes": {}, "skipped": []}
    for _, _, part in _parts(work):
        found = Features.load(part)
        told["examples"] += len(found)
        told["skipped"] += found.skipped
        told["shapes"] = {layer: found[layer].shape[1:] for layer in layers}
    told["skipped"] += trailing

    def parts() -> Iterator[Features]:
        files_of_parts = _parts(work)
        for _, _, part in files_of_parts:
            found = Features.load(part)
            found.skipped += trailing if part == files_of_parts[-1][2] else []
            yield found

    whole = work / f"whole{Path(path).suffix}"
    (work / _JOINED).unlink(missing_ok=True)
    shutil.rmtree(whole, ignore_errors=True)  # a folder that was whole once, and had no name yet
    write_parts(str(whole), parts)
    (work / _JOINED).write_text(json.dumps(told), encoding="utf-8")
    if os.path.isdir(path):
        Path(path).rename(work / "replaced")
    os.replace(whole, path)
    return told


def _finished(work: Path) -> dict[str, Any] | None:
    """What the file holds, where a run was interrupted after the file had its name."""
    try:
        told = json.loads((work / _JOINED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return None if list(work.glob("whole*")) else dict(told)


def _check_target(owner: str, path: str, layers: int, overwrite: bool) -> None:
    suffix, target = Path(path).suffix, Path(path)
    if suffix not in (*files.SUFFIXES, *FOLDER_SUFFIXES):
        raise parameter_error(owner, "path", f"a {', '.join(files.SUFFIXES)} file, or a folder", path)
    if suffix == ".npy" and layers > 1:
        raise parameter_error(owner, "path", "a .npz or .parquet file where there are several layers", path)
    if target.exists() and not overwrite:
        raise parameter_error(owner, "path", "new, or overwrite=True", path)
    if target.is_dir() and (suffix in files.SUFFIXES or foreign_files(target)):
        raise parameter_error(owner, "path", "a name that no folder of other things has", path)
    if not target.parent.is_dir():
        raise DataError(f"Cannot write {path!r}: there is no folder {str(target.parent)!r}.")


def _open_work(owner: str, work: Path, call: dict[str, Any], resume: bool) -> int:
    """Make the folder of the parts, or check that what is there is of the same call; it is locked until this is closed."""
    if work.is_dir():
        os.close(_locked(work))
    try:
        earlier = json.loads((work / _CALL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = None  # it was interrupted before there was any part
    if not resume or earlier is None:
        shutil.rmtree(work, ignore_errors=True)
        try:
            work.mkdir()
            (work / _CALL).write_text(json.dumps(call), encoding="utf-8")
        except OSError as error:
            shutil.rmtree(work, ignore_errors=True)
            raise DataError(f"Cannot write beside {str(work.parent)!r}: {error}.") from error
        earlier = call
    changed = [name for name in call if earlier.get(name) != call[name]]
    if changed:
        raise parameter_error(owner, "resume", f"False where what was kept in {str(work)!r} is of another call "
                              f"(other {', '.join(changed)})", True, "Start anew without it.")
    return _locked(work)


def _locked(work: Path) -> int:
    folder = os.open(work, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(folder)
        raise DataError(f"Another run is writing into {str(work)!r}; wait for it, or write to another file.") from error
    return folder


def _parts(work: Path) -> list[tuple[int, int, Path]]:
    """First and last position, and file, of the parts that are there."""
    found = sorted(work.glob("part-*-*.npz"))
    return [(int(path.stem.split("-")[1]), int(path.stem.split("-")[2]), path) for path in found]


def _done(work: Path) -> int:
    """How many examples the parts are of."""
    return max((stop for _, stop, _ in _parts(work)), default=0)


def _work_folder(path: str) -> Path:
    return Path(path).parent / f".{Path(path).name}.partial"


def _digest(network: Network) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(archive.to_files(network).items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()
