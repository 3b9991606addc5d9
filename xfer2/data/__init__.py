"""Data in any shape that users keep it -> one stream of batches."""

from xfer2._lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {})
