"""Features of files on disk into one file: part after part, so that memory stays flat and an interruption costs one part.

Parts lie in a folder beside the file, ``.NAME.partial``, until all are there. An interrupted run that goes on gives the
same bytes as one that was not interrupted: the parts are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
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
from xfer2.features.engines.base import EngineFactory
from xfer2.features.engines.mxnet import MxnetEngine
from xfer2.features.extractor import extract_parts, pruned
from xfer2.features.store import Features, FolderStore
from xfer2.model_handler import archive, sources
from xfer2.model_handler.network import Network

_CALL = "call.json"
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
                    engine: EngineFactory = MxnetEngine) -> Written:
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
    """
    owner, path = "extract_to_file", str(Path(path))
    names = as_names(owner, "layers", layers)
    check_choice(owner, "pool", pool, (None, "avg", "max"))
    _check_target(owner, path, len(names), overwrite)
    whole = sources.read(source)
    network = pruned(whole, names)
    call = {"layers": list(names), "pool": pool, "batch_size": batch_size, "errors": errors, "network": _digest(network),
            "data": examples_on_disk.fingerprint(data)}
    work = _work_folder(path)
    _open_work(owner, work, call, resume)
    try:
        trailing = _extract_rest(network, names, data, work, pool, batch_size, errors, engine)
        written = _join(path, work, names, trailing)
    finally:
        if not _parts(work):
            shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(work)
    return written


def kept(path: str) -> tuple[str, int]:
    """The folder of parts that an interrupted `extract_to_file` left, and the number of examples they are of."""
    work = _work_folder(str(Path(path)))
    return str(work), max((stop for _, stop, _ in _parts(work)), default=0)


def _extract_rest(network: Network, layers: tuple[str, ...], data: str, work: Path, pool: str | None, batch_size: int,
                  errors: str, engine: EngineFactory) -> list[str]:
    """Write the parts that are not there yet; images that were skipped after the last of them are given back."""
    done = max((stop for _, stop, _ in _parts(work)), default=0)
    rest: Any = data
    if done:
        size = sum(1 for _ in examples_on_disk.open_examples(data).read())
        rest = FileRows(data, np.arange(size) >= done)
        if rest.count == 0:
            return []
    batches = open_batches(rest, network, None, batch_size, errors, "extract_to_file")
    start, told = done, 0
    for found in extract_parts(network, batches, layers, pool, engine, _PART_EXAMPLES):
        stop = start + len(found) + len(found.skipped)
        found.save(work / f"part-{start:010d}-{stop:010d}.npz")
        start, told = stop, told + len(found.skipped)
    if start == 0:
        raise DataError(f"None of the {len(batches.skipped)} images of {data!r} can be read; the first: "
                        f"{batches.skipped[0]}")
    return batches.skipped[told:]


def _join(path: str, work: Path, layers: tuple[str, ...], trailing: list[str]) -> Written:
    """Make the file of the parts."""
    counts: list[int] = []
    skipped: list[str] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for _, _, part in _parts(work):
        found = Features.load(part)
        counts.append(len(found))
        skipped += found.skipped
        shapes = shapes or {layer: found[layer].shape[1:] for layer in layers}
    skipped += trailing

    def parts() -> Iterator[Features]:
        last = len(counts) - 1
        for number, (_, _, part) in enumerate(_parts(work)):
            found = Features.load(part)
            found.skipped += trailing if number == last else []
            yield found

    if Path(path).suffix in files.SUFFIXES:
        whole = work / f"whole{Path(path).suffix}"
        files.write(str(whole), parts)
        os.replace(whole, path)
    else:
        if os.path.isdir(path):
            shutil.rmtree(path)
        _fill(FolderStore(path), parts, skipped)
    return Written(path, sum(counts), shapes, tuple(skipped))


def _fill(store: FolderStore, parts: Callable[[], Iterator[Features]], skipped: list[str]) -> None:
    labels, ids = [], []
    try:
        for part in parts():
            for layer in part.layers:
                store.append(layer, part[layer])
            labels += [] if part.labels is None else [part.labels]
            ids += part.ids
        store.finish(np.concatenate(labels) if labels else None, ids, skipped)
    except BaseException:
        store.abort()
        raise


def _check_target(owner: str, path: str, layers: int, overwrite: bool) -> None:
    suffix, target = Path(path).suffix, Path(path)
    if suffix not in (*files.SUFFIXES, "", ".features"):
        raise parameter_error(owner, "path", f"a {', '.join(files.SUFFIXES)} file, or a folder", path)
    if suffix == ".npy" and layers > 1:
        raise parameter_error(owner, "path", "a .npz or .parquet file where there are several layers", path)
    if target.exists() and not overwrite:
        raise parameter_error(owner, "path", "new, or overwrite=True", path)
    if target.is_dir() and (suffix in files.SUFFIXES or not (target / "features.json").is_file()):
        raise parameter_error(owner, "path", "a name that no folder of other things has", path)
    if not target.parent.is_dir():
        raise DataError(f"Cannot write {path!r}: there is no folder {str(target.parent)!r}.")


def _open_work(owner: str, work: Path, call: dict[str, Any], resume: bool) -> None:
    """Make the folder of the parts, or check that what is there is of the same call."""
    if work.is_dir() and not resume:
        shutil.rmtree(work)
    if not work.is_dir():
        try:
            work.mkdir()
        except OSError as error:
            raise DataError(f"Cannot write beside {str(work.parent)!r}: {error}.") from error
        (work / _CALL).write_text(json.dumps(call), encoding="utf-8")
        return
    try:
        earlier = json.loads((work / _CALL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = {}
    changed = [name for name in call if earlier.get(name) != call[name]]
    if changed:
        raise parameter_error(owner, "resume", f"False where what was kept in {str(work)!r} is of another call "
                              f"(other {', '.join(changed)})", True, "Start anew without it.")


def _parts(work: Path) -> list[tuple[int, int, Path]]:
    """First and last position, and file, of the parts that are there."""
    found = sorted(work.glob("part-*-*.npz"))
    return [(int(path.stem.split("-")[1]), int(path.stem.split("-")[2]), path) for path in found]


def _work_folder(path: str) -> Path:
    return Path(path).parent / f".{Path(path).name}.partial"


def _digest(network: Network) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(archive.to_files(network).items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()
