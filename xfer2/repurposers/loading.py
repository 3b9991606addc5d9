"""Read a saved repurposer, whatever its method."""

from __future__ import annotations

import os
from typing import Any

from xfer2._validation import check_kind
from xfer2.exceptions import PersistenceError
from xfer2.persistence import read_directory
from xfer2.repurposers._registry import METHODS


def load(model_name: str | os.PathLike[str], model_directory: str | os.PathLike[str] = "", source_model: Any = None,
         trusted: tuple[str, ...] = ()) -> Any:
    """Read a repurposer that ``save`` wrote; it predicts what the saved one predicted, to the bit.

    Parameters
    ----------
    model_name : str or path
        The directory that was written.
    model_directory : str or path
        Where that lies, as for ``save_repurposer``.
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

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, xfer2
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = xfer2.LrRepurposer("zoo:mnist-cnn", "dense0").repurpose(images, ["odd", "even"] * 10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     repurposer.save(f"{folder}/parity")
    ...     again = xfer2.load(f"{folder}/parity")
    >>> bool((again.predict(images) == repurposer.predict(images)).all())
    True
    """
    check_kind("load", "model_name", model_name, (str, os.PathLike), "the path of a directory that save wrote")
    check_kind("load", "model_directory", model_directory, (str, os.PathLike), "a folder's path; a source is source_model=")
    path = os.path.join(model_directory, model_name)
    if not os.path.exists(path) and os.path.isfile(f"{path}.json"):
        raise PersistenceError(f"{path}.json was written by another program, Xfer perhaps, whose repurposers xfer2 does not "
                               f"read: repurpose anew. A network beside it, {path}-symbol.json, is read by ModelHandler.")
    manifest, files = read_directory(path)
    method = METHODS.get(manifest.get("method", ""))
    if method is None:
        raise PersistenceError(f"{path!r} holds a {manifest.get('class')!r}, which is no method of xfer2; read "
                               f"it with {manifest.get('class')}.load(path).")
    repurposer = method.load_class()._restore(manifest, files, trusted)
    return repurposer if source_model is None else repurposer.set_params(source_model=source_model)
