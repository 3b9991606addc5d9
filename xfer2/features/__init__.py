"""Features of any layers of a network, in one pass over the data."""

from xfer2._lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {})
