"""Import what only some installations have, or say which command installs it."""

from __future__ import annotations

import importlib
from types import ModuleType

from xfer2.exceptions import MissingDependencyError


def require(module: str, purpose: str, install: str) -> ModuleType:
    """Import `module`, or raise with the command that installs it.

    Parameters
    ----------
    module : str
        Dotted name to import.
    purpose : str
        What needs it, for the message: ``"ModelHandler.export_onnx"``.
    install : str
        What to hand to pip: ``"xfer2[openvino]"``.

    Raises
    ------
    MissingDependencyError
        The module cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs the package {module.partition('.')[0]!r}, which cannot be imported ({error}). "
            f"Install it with: pip install '{install}'"
        ) from error
