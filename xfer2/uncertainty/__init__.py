"""What a prediction knows of itself, and how well it knows it."""

from xfer2._lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {})
