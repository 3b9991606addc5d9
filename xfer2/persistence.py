"""The directory format: files, a manifest with their hashes, written at once or not at all. Knows nothing of methods.

No pickle: JSON for what is said, safetensors for arrays, skops for scikit-learn estimators.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xfer2.exceptions import PersistenceError

FORMAT = 4
MANIFEST = "manifest.json"
_COLLECTIONS: Mapping[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def write_directory(path: str | os.PathLike[str], manifest: Mapping[str, Any], files: Mapping[str, bytes],
                    overwrite: bool = False) -> None:
    """Write files and a manifest as one directory.

    All is written to a temporary name beside the target and renamed, so a reader sees the whole or nothing. A link is
    followed.

    Raises
    ------
    PersistenceError
        The target exists and may not be overwritten, or holds what xfer2 did not write, or cannot be written.
    """
    target = Path(os.path.realpath(path))
    check_writable(target, overwrite)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    document = json.loads(json.dumps({"format": FORMAT, **manifest, "files": hashes}, allow_nan=False))  # as it is read
    document["sha256"] = manifest_digest(document)
    try:
        _write(target, document, files)
    except OSError as error:
        raise PersistenceError(f"Cannot save to {str(target)!r}: {error}.") from error


def _write(target: Path, document: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        new = scratch / "new"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        (new / MANIFEST).write_text(json.dumps(document, indent=2, allow_nan=False), encoding="utf-8")
        _put_in_place(new, target, scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_writable(target: Path, overwrite: bool) -> None:
    """Raise where `write_directory` would not write."""
    if target.exists() and not overwrite:
        raise PersistenceError(f"{str(target)!r} exists; choose another path or pass overwrite=True.")
    if target.exists():
        foreign = _foreign(target)
        if foreign:
            raise PersistenceError(f"{str(target)!r} holds what was not written there by xfer2 ({', '.join(foreign[:3])}"
                                   f"{', ...' if len(foreign) > 3 else ''}); it is not overwritten. Choose another path, or "
                                   "move that away.")
    if not target.parent.is_dir():
        raise PersistenceError(f"Cannot save to {str(target)!r}: there is no folder {str(target.parent)!r}.")


def _foreign(target: Path) -> list[str]:
    """Names in a folder that are no files of a saved directory; the path itself where it is no folder."""
    if not target.is_dir():
        return [target.name]
    found = sorted(entry.name for entry in target.iterdir())
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        own = {MANIFEST, *manifest["files"].keys()} if "format" in manifest else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        own = set()
    return [name for name in found if name not in own or (target / name).is_dir()]


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """The sha256 of what a manifest says, but for the line that holds it."""
    said = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _put_in_place(new: Path, target: Path, old: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise


def read_directory(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read a directory that `write_directory` wrote: its manifest and its files, each checked against its hash.

    Raises
    ------
    PersistenceError
        It is no such directory, its format is another, or a file is missing or changed; the message names the file.
    """
    folder = Path(path)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PersistenceError(f"{str(folder)!r} is no saved repurposer: it has no {MANIFEST}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise PersistenceError(f"{str(folder / MANIFEST)!r} cannot be read: {error}.") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise PersistenceError(f"{str(folder / MANIFEST)!r} is no manifest of xfer2.")
    if manifest.get("format") != FORMAT:
        raise PersistenceError(f"{str(folder)!r} has format {manifest.get('format')!r}; this version of xfer2 reads "
                               f"format {FORMAT}.")
    if manifest.get("sha256") != manifest_digest(manifest):
        raise PersistenceError(f"{str(folder / MANIFEST)!r} is not what was saved: its own sha256 differs.")
    return manifest, {name: _checked(folder, name, digest) for name, digest in manifest["files"].items()}


def _checked(folder: Path, name: str, digest: Any) -> bytes:
    if Path(name).name != name:
        raise PersistenceError(f"The manifest of {str(folder)!r} names {name!r}, which is not a plain file name.")
    try:
        content = (folder / name).read_bytes()
    except (OSError, ValueError) as error:
        raise PersistenceError(f"{str(folder / name)!r} is missing or cannot be read: {error}.") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise PersistenceError(f"{str(folder / name)!r} is not what was saved: its sha256 differs from the manifest's.")
    return content


def to_plain(name: str, value: Any) -> Any:
    """A parameter's value as JSON can hold it; `from_plain` gives it back.

    Raises
    ------
    PersistenceError
        The value is of a kind that cannot be saved; the message names the parameter.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"kind": "float", "items": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, range):
        return {"kind": "range", "items": [value.start, value.stop, value.step]}
    for kind, one in _COLLECTIONS.items():
        if isinstance(value, one):
            items = sorted(value, key=repr) if kind in ("set", "frozenset") else value
            return {"kind": kind, "items": [to_plain(name, item) for item in items]}
    if isinstance(value, dict):
        return {"kind": "dict", "items": [[to_plain(name, k), to_plain(name, v)] for k, v in value.items()]}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufUO":
        return {"kind": "array", "dtype": value.dtype.str if value.dtype.kind != "O" else "O", "shape": list(value.shape),
                "items": [to_plain(name, item) for item in value.ravel().tolist()]}
    raise PersistenceError(f"The parameter {name!r} holds a {type(value).__name__}, which cannot be saved without pickle; "
                           "use None, numbers, texts, lists, sets or dicts.")


def from_plain(value: Any) -> Any:
    """Undo `to_plain`."""
    if not isinstance(value, dict):
        return value
    items = value["items"]
    if value["kind"] == "dict":
        return {from_plain(k): from_plain(v) for k, v in items}
    if value["kind"] == "float":
        return float(items)
    if value["kind"] == "array":
        return np.array([from_plain(item) for item in items], dtype=np.dtype(value["dtype"])).reshape(value["shape"])
    if value["kind"] == "range":
        return range(*items)
    return _COLLECTIONS[value["kind"]](from_plain(item) for item in items)
