"""Reading, editing and writing networks. ``ModelHandler`` is the facade; the files below it are its rooms."""

from xfer2._lazy import lazy_exports

_HOMES = {
    "ModelHandler": "xfer2.model_handler.handler",
    "Network": "xfer2.model_handler.network",
    "Preprocessing": "xfer2.model_handler.network",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
