"""Files that have their name only when they are whole, and what a file system refuses as an error that says so."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from xfer2.exceptions import DataError


@contextmanager
def replacing(target: str) -> Iterator[str]:
    """A temporary name in the folder of a file, which gets the file's name at the end, if nothing was raised."""
    folder = os.path.dirname(target) or "."
    if not os.path.isdir(folder):
        raise DataError(f"Cannot write {target!r}: there is no folder {folder!r}.")
    with writing(target), tempfile.TemporaryDirectory(dir=folder, prefix=".xfer2-") as scratch:
        name = os.path.join(scratch, os.path.basename(target))
        yield name
        os.replace(name, target)


@contextmanager
def writing(target: str | os.PathLike[str]) -> Iterator[None]:
    """A name that the file system refuses meanwhile becomes an error that says so.

    A disk that is full or broken is no mistake of whoever chose the name; that stays an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        raise DataError(f"Cannot write {os.fspath(target)!r}: {error.strerror or error}. Choose a name in a folder that can "
                        "be written.") from error
