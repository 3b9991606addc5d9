"""Methods that learn a new task from a trained network: one file and one row of ``_registry.py`` each."""

from xfer2._lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {})
