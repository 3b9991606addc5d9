"""How a score grows with the data, and a loss falls with the epochs."""

from __future__ import annotations

from typing import Any

import numpy as np

from xfer2.visualization._axes import (
    COLORS,
    MARKERS,
    check_columns,
    distinct,
    draw_interval,
    ink,
    legend_above,
    mean_and_interval,
    new_axes,
    plain,
)


def plot_learning_curves(frame: Any, x: str = "examples", y: str = "accuracy", group: str = "method", ax: Any = None) -> Any:
    """One line a group: the mean over repeats, and its 95% t-interval where there are at least two.

    Parameters
    ----------
    frame : pandas.DataFrame
        A row for every repeat (a seed, say) of every group at every `x`.
    x, y, group : str
        Its columns; `x` and `y` hold numbers. Where `x` spans a factor of ten or more, its axis is logarithmic.
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
    >>> frame = pandas.DataFrame({"examples": [10, 10, 50, 50], "accuracy": [0.6, 0.8, 0.9, 0.9], "method": "lr"})
    >>> plot_learning_curves(frame).get_lines()[0].get_ydata().round(2).tolist()
    [0.7, 0.9]
    """
    check_columns("plot_learning_curves", frame, (x, y, group), finite=(x, y))
    ax = new_axes(ax)
    names, groups = zip(*frame.groupby(group, sort=False, dropna=False), strict=True)
    for number, (label, rows) in enumerate(zip(distinct(names, 22), groups, strict=True)):
        places = sorted(rows[x].unique())
        mean, half = np.array([mean_and_interval(rows.loc[rows[x] == place, y]) for place in places]).T
        color = COLORS[number % len(COLORS)]
        ax.plot(places, mean, marker=MARKERS[number % len(MARKERS)], color=color, label=label,
                linestyle=("-", "--", ":")[number // len(COLORS) % 3])
        draw_interval(ax, places, mean, half, color)
    places = sorted(frame[x].unique())
    if places[0] > 0 and places[-1] >= 10 * places[0]:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        if len(places) <= 8:
            ax.set_xticks(places)
            ax.minorticks_off()
    ax.set_xlabel(plain(x))
    ax.set_ylabel(plain(y))
    legend_above(ax)
    return ax


def plot_history(frame: Any, ax: Any = None) -> Any:
    """Training loss by epoch, and validation loss with its least value marked, where there is one.

    Parameters
    ----------
    frame : pandas.DataFrame
        What `NeuralNetworkRepurposer.history_frame` gives: columns epoch and loss, perhaps validation_loss.
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
    >>> ax = plot_history(pandas.DataFrame({"epoch": [1, 2], "loss": [0.9, 0.5], "validation_loss": [0.8, 0.9]}))
    >>> [line.get_label() for line in ax.get_lines()]
    ['training', 'validation', 'least: epoch 1']
    """
    check_columns("plot_history", frame, ("epoch", "loss"), finite=("epoch",))
    ax = new_axes(ax)
    epochs = frame["epoch"].to_numpy()
    for number, (column, label) in enumerate({"loss": "training", "validation_loss": "validation"}.items()):
        if column in frame:
            ax.plot(epochs, frame[column].to_numpy(float), color=COLORS[number], marker=".", label=label)
    held_out = frame["validation_loss"].to_numpy(float) if "validation_loss" in frame else np.array([np.nan])
    if np.isfinite(held_out).any():
        best = int(np.nanargmin(held_out))
        ax.plot(epochs[best], held_out[best], marker="o", markersize=10, fillstyle="none", color=ink(), linestyle="none",
                label=f"least: epoch {epochs[best]}")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss (nats)")
    legend_above(ax)
    return ax
