"""Which layer's features serve a task best."""

from __future__ import annotations

from typing import Any

import numpy as np

from xfer2.visualization._axes import (
    COLORS,
    check_columns,
    distinct,
    draw_interval,
    ink,
    legend_above,
    mean_and_interval,
    name_ticks,
    new_axes,
)


def plot_layer_sweep(frame: Any, ax: Any = None) -> Any:
    """The score of each layer, in the table's order: mean over repeats with its 95% t-interval, the best marked.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns layer and score (larger is better), a row for every repeat.
    ax : matplotlib.axes.Axes, optional
        By default a new figure's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DataError
        The table has no rows or lacks a column.

    Examples
    --------
    >>> import pandas
    >>> ax = plot_layer_sweep(pandas.DataFrame({"layer": ["conv0", "dense0"], "score": [0.6, 0.9]}))
    >>> ax.get_lines()[1].get_label()
    'best: dense0, 0.900'
    """
    check_columns("plot_layer_sweep", frame, ("layer", "score"), finite=("score",))
    groups = frame.groupby("layer", sort=False, dropna=False)["score"]
    layers = list(groups.groups)
    mean, half = np.array([mean_and_interval(scores) for _, scores in groups]).T
    best = int(np.argmax(mean))
    ax = new_axes(ax, max(4.2, min(12.0, 0.3 * len(layers) + 1.2)))
    ax.plot(mean, marker="o", color=COLORS[0], label="mean")
    draw_interval(ax, range(len(layers)), mean, half, COLORS[0], "95% interval")
    ax.plot(best, mean[best], marker="o", markersize=11, fillstyle="none", color=ink(), linestyle="none",
            label=f"best: {distinct(layers)[best]}, {mean[best]:.3f}")
    name_ticks(ax.xaxis, layers)
    ax.set_xlabel("layer")
    ax.set_ylabel("score")
    legend_above(ax)
    return ax
