"""What the pictures share: new Axes, colours, names as labels, means of repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t

from xfer2.exceptions import DataError

# Told apart by people with colour vision deficiencies: Petroff 2021, arXiv:2107.02270, ten colours.
COLORS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "*")
_LEGEND = 62  # characters of a line that fit above Axes 4 inches wide
_SHORT = 14  # characters of a label
_MOST_TICKS, _FEWER_TICKS = 13, 9  # all names where there are no more, else about this many


def new_axes(ax: Any, width: float = 4.2, height: float = 3.2) -> Any:
    """The Axes given, or those of a new figure of this size in inches."""
    import matplotlib.pyplot

    return ax if ax is not None else matplotlib.pyplot.figure(figsize=(width, height), layout="constrained").add_subplot()


def ink() -> Any:
    """The colour of text, for lines of reference."""
    import matplotlib

    return matplotlib.rcParams["text.color"]


def shortened(name: Any, length: int = _SHORT) -> str:
    """A name from the data as a label: its middle left out where it is long, no mathematics read into it.

    Examples
    --------
    >>> shortened("n02106662_German_shepherd")
    'n021066…epherd'
    """
    text = " ".join(str(name).encode("utf-8", "replace").decode("utf-8").split())  # names of files may be no text
    if len(text) > length:
        text = text[:length // 2] + "…" + text[len(text) - (length - 1) // 2:]
    return (" " if text.startswith("_") else "") + plain(text)  # matplotlib leaves "_x" out of legends


def plain(text: Any) -> str:
    """A text in which matplotlib reads no mathematics."""
    return str(text).replace("$", r"\$")


def distinct(names: Sequence[Any], length: int = _SHORT) -> list[str]:
    """Names as labels: of this length, or as much longer as labels of different names need to differ."""
    longest = max((len(str(name)) for name in names), default=0)
    while length < longest and len({shortened(name, length) for name in names}) < len(set(map(str, names))):
        length += 4
    return [shortened(name, length) for name in names]


def name_ticks(axis: Any, names: Sequence[Any]) -> None:
    """Put names at 0, 1, ... of an axis: all of a few, every k-th of many."""
    places = range(0, len(names), 1 if len(names) <= _MOST_TICKS else -(-len(names) // _FEWER_TICKS))
    shown = distinct(names)
    labels = [shown[place] for place in places]
    slanted = axis.axis_name == "x" and (len(names) > _MOST_TICKS or max(map(len, labels), default=0) > 2)
    axis.set_ticks(places, labels, **({"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}))


def legend_above(ax: Any) -> None:
    """A legend above the Axes, where it hides nothing."""
    labels = ax.get_legend_handles_labels()[1]
    widths = [len(label) + 6 for label in labels]  # in characters, with the handle
    columns = len(labels) if sum(widths) <= _LEGEND else max(1, min(3, _LEGEND // max(widths)))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns, frameon=False, fontsize="small",
              columnspacing=1.2, handlelength=1.6)


def check_columns(owner: str, frame: Any, names: Sequence[str], finite: Sequence[str] = ()) -> None:
    """Raise unless a table has these columns and at least one row, some columns of finite numbers alone."""
    missing = [name for name in names if name not in frame]
    if missing:
        raise DataError(f"{owner}: the table needs a column {missing[0]!r}; it has {list(frame.columns)}.")
    if len(frame) == 0:
        raise DataError(f"{owner}: the table has no rows.")
    for name in finite:
        column = frame[name].to_numpy()
        if column.dtype.kind not in "biuf" or not np.isfinite(column).all():
            raise DataError(f"{owner}: the column {name!r} must hold finite numbers. Leave out rows where it does not.")


def draw_interval(ax: Any, places: Any, mean: np.ndarray, half: np.ndarray, color: str, label: str | None = None) -> None:
    """A band of a mean and half the width of its interval, where any is known."""
    if np.isfinite(half).any():
        ax.fill_between(places, mean - half, mean + half, color=color, alpha=0.2, linewidth=0, label=label)


def mean_and_interval(values: Any) -> tuple[float, float]:
    """Mean of repeats, and half the width of its 95% t-interval: NaN for a single one.

    Examples
    --------
    >>> mean_and_interval([1.0, 2.0, 3.0])
    (2.0, 2.48...)
    """
    repeats = np.asarray(values, float)
    if len(repeats) < 2:
        return float(repeats.mean()), float("nan")
    return float(repeats.mean()), float(t.ppf(0.975, len(repeats) - 1) * repeats.std(ddof=1) / np.sqrt(len(repeats)))
