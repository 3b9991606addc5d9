"""What abstaining from uncertain examples buys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xfer2._validation import parameter_error
from xfer2.uncertainty.selective import area_under_risk_coverage, risk_coverage_curve
from xfer2.visualization._axes import COLORS, distinct, ink, legend_above, new_axes


def plot_risk_coverage(uncertainty: Any, wrong: Any, ax: Any = None) -> Any:
    """The error of the rows that are answered, as more and more are, the least uncertain first.

    Parameters
    ----------
    uncertainty : array-like (n,) or mapping of str to array-like (n,)
        Larger is less certain. Of several, one curve each.
    wrong : array-like of bool (n,)
        Whether the prediction is wrong.
    ax : matplotlib.axes.Axes, optional
        By default a new figure's.

    Returns
    -------
    matplotlib.axes.Axes
        The legend gives the area under each curve, the smaller the better, and that of a random order, the error rate.

    Raises
    ------
    ParameterError
        `uncertainty` is an empty mapping or `wrong` holds anything but bool.
    DataError
        Lengths differ, there are no rows, or an uncertainty is not finite.

    References
    ----------
    El-Yaniv and Wiener 2010, JMLR 11.

    Examples
    --------
    >>> ax = plot_risk_coverage([0.1, 0.9, 0.2, 0.8], [False, True, False, False])
    >>> [line.get_label() for line in ax.get_lines()]
    ['random, area 0.250', 'area 0.062']
    """
    measures = uncertainty if isinstance(uncertainty, Mapping) else {"": uncertainty}
    if not measures:
        raise parameter_error("plot_risk_coverage", "uncertainty", "an array or a mapping of names to arrays", uncertainty)
    curves = {name: risk_coverage_curve(values, wrong) for name, values in measures.items()}
    rate = float(np.mean(wrong))
    ax = new_axes(ax)
    ax.axhline(rate, color=ink(), linestyle="--", linewidth=1, label=f"random, area {rate:.3f}")
    labels = distinct(list(curves), 22)
    for number, (name, (coverage, risk)) in enumerate(curves.items()):
        area = f"area {area_under_risk_coverage(measures[name], wrong):.3f}"
        ax.plot(coverage, risk, color=COLORS[number % len(COLORS)], linestyle=("-", ":", "-.")[number // len(COLORS) % 3],
                label=f"{labels[number]}, {area}" if name else area)
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("coverage: share of rows answered")
    ax.set_ylabel("risk: share of those wrong")
    legend_above(ax)
    return ax
