"""Pictures of what was learned: arrays and tables in, matplotlib Axes out."""

from xfer2._lazy import lazy_exports

_HOMES = {
    "plot_confusion": "xfer2.visualization.confusion",
    "plot_feature_map": "xfer2.visualization.feature_map",
    "plot_filters": "xfer2.visualization.filters",
    "plot_gates": "xfer2.visualization.gates",
    "plot_history": "xfer2.visualization.learning_curves",
    "plot_layer_sweep": "xfer2.visualization.layer_sweep",
    "plot_learning_curves": "xfer2.visualization.learning_curves",
    "plot_most_confidently_wrong": "xfer2.visualization.images",
    "plot_most_uncertain": "xfer2.visualization.images",
    "plot_network": "xfer2.visualization.network_graph",
    "plot_predictions": "xfer2.visualization.images",
    "plot_reliability": "xfer2.visualization.reliability",
    "plot_risk_coverage": "xfer2.visualization.risk_coverage",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
