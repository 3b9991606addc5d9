"""Read a saved repurposer, whatever its method."""

from __future__ import annotations

import os
from typing import Any

from xfer2.exceptions import PersistenceError
from xfer2.persistence import read_directory
from xfer2.repurposers._registry import METHODS


def load(path: str | os.PathLike[str], source_model: Any = None, trusted: tuple[str, ...] = ()) -> Any:
    """Read a repurposer that ``save`` wrote; it predicts what the saved one predicted, to the bit.

    Parameters
    ----------
    path : str or path
        The directory.
    source_model : model, optional
        What `fit` is to read from now on. By default, and for predictions in any case, it is the source network that was
        saved: of a meta-model the part that gives its features.
    trusted : tuple of str
        Names of types, beyond scikit-learn's and xfer2's own, that a saved head may hold.

    Returns
    -------
    Repurposer

    Raises
    ------
    PersistenceError
        The directory is incomplete, changed, of another format, or holds a class that is not xfer2's own.
    """
    manifest, files = read_directory(path)
    method = METHODS.get(manifest.get("method", ""))
    if method is None:
        raise PersistenceError(f"{os.fspath(path)!r} holds a {manifest.get('class')!r}, which is no method of xfer2; read "
                               f"it with {manifest.get('class')}.load(path).")
    repurposer = method.load_class()._restore(manifest, files, trusted)
    return repurposer if source_model is None else repurposer.set_params(source_model=source_model)
