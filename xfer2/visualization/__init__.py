"""Pictures of what was learned: arrays and tables in, matplotlib Axes out."""

from xfer2._lazy import lazy_exports

__all__ = ["plot_gates"]

__getattr__, __dir__ = lazy_exports(__name__, {"plot_gates": "xfer2.visualization.gates"})
