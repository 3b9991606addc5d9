"""How much each layer of a network with parameter transfer units takes from its source."""

from __future__ import annotations

from typing import Any

from xfer2.visualization._axes import COLORS, check_columns, name_ticks, new_axes

_GATES = {"update": ("update gate z", COLORS[0]), "fine_tune": ("fine-tune gate r", COLORS[1])}
_BAND = (0.1, 0.9)


def plot_gates(frame: Any, ax: Any = None) -> Any:
    """Means of the two gates layer by layer, from the input up; and the middle 80% of the channels, where they are given.

    Parameters
    ----------
    frame : pandas.DataFrame
        What `PtuRepurposer.transferability` gives, by layer or by channel.
    ax : matplotlib.axes.Axes, optional
        By default a new figure's.

    Returns
    -------
    matplotlib.axes.Axes

    References
    ----------
    Zhang et al. 2018, Parameter Transfer Unit for Deep Neural Networks, arXiv:1804.08613, figure 7.

    Examples
    --------
    >>> import pandas, xfer2.visualization
    >>> frame = pandas.DataFrame({"layer": ["conv0", "dense0"], "update": [0.8, 0.3], "fine_tune": [0.2, 0.6]})
    >>> xfer2.visualization.plot_gates(frame).get_ylabel()
    'mean over the training examples'
    """
    check_columns("plot_gates", frame, ("layer", *_GATES), finite=tuple(_GATES))
    ax = new_axes(ax, max(4.2, 0.45 * frame["layer"].nunique() + 1.5))
    groups = frame.groupby("layer", sort=False)
    layers = list(groups.groups)
    for column, (label, color) in _GATES.items():
        ax.plot(range(len(layers)), groups[column].mean().to_numpy(), marker="o", color=color, label=label)
        if "channel" in frame:
            low, high = (groups[column].quantile(share).to_numpy() for share in _BAND)
            ax.fill_between(range(len(layers)), low, high, color=color, alpha=0.2, linewidth=0)
    name_ticks(ax.xaxis, layers)
    ax.set_ylim(0, 1)
    ax.set_xlabel("layer")
    ax.set_ylabel("mean over the training examples")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return ax
