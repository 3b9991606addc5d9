"""Which classes are taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np

from xfer2.exceptions import DataError
from xfer2.uncertainty.predictions import label_codes
from xfer2.visualization._axes import name_ticks, new_axes

_MOST_NUMBERS = 12


def plot_confusion(labels: Any, predicted: Any, classes: Any = None, normalize: bool = False, ax: Any = None) -> Any:
    """Counts of rows by true and predicted class; the numbers are written where there are at most 12 classes.

    Parameters
    ----------
    labels : array-like (n,)
        True labels.
    predicted : array-like (n,)
        Predicted labels.
    classes : array-like (k,), optional
        In the order they are shown; by default what occurs, sorted.
    normalize : bool
        Percent of the true class's rows instead of counts; a class without rows stays blank.
    ax : matplotlib.axes.Axes, optional
        By default a new figure's.

    Returns
    -------
    matplotlib.axes.Axes
        Rows of its image are true classes, columns predicted ones.

    Raises
    ------
    DataError
        Lengths differ, there are no rows, or a label is not among the classes.

    Examples
    --------
    >>> ax = plot_confusion(["bee", "bee", "wasp"], ["bee", "wasp", "wasp"])
    >>> ax.images[0].get_array().tolist()
    [[1, 1], [0, 1]]
    """
    owner = "plot_confusion"
    if np.ndim(labels) != 1 or len(labels) == 0:
        raise DataError(f"{owner}: labels must have shape (rows,), at least one row; got {np.shape(labels)}.")
    names = np.unique([*np.asarray(labels).tolist(), *np.asarray(predicted).tolist()]) if classes is None else classes
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (label_codes(owner, labels, names, len(labels)), label_codes(owner, predicted, names, len(labels))), 1)
    totals = counts.sum(axis=1, keepdims=True)
    table = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan) if normalize else counts
    unit = "% of the true class's rows" if normalize else "rows"
    ax = new_axes(ax)
    image = ax.imshow(table, cmap="Blues", vmin=0, aspect="auto", interpolation="none")
    if len(names) <= _MOST_NUMBERS:
        ax.set_title(f"number in each cell: {unit}", fontsize="small")
        for (row, column), value in np.ndenumerate(table):
            if np.isfinite(value):
                ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize="small" if len(names) < 8 else 7,
                        color="white" if value > 0.6 * np.nanmax(table) else "black")
    else:
        ax.figure.colorbar(image, ax=ax, label=unit)
    name_ticks(ax.xaxis, names)
    name_ticks(ax.yaxis, names)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    return ax
