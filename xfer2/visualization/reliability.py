"""Whether a classifier is right as often as it says."""

from __future__ import annotations

from typing import Any

from xfer2.uncertainty.calibration import expected_calibration_error, reliability_curve
from xfer2.visualization._axes import COLORS, ink, legend_above, new_axes


def plot_reliability(labels: Any, probabilities: Any, classes: Any, bins: int = 15, ax: Any = None) -> Any:
    """Accuracy against confidence, bin by bin: below the diagonal the classifier is too sure, above it not sure enough.

    Bins are of equal width in confidence. Bars show the share of the rows in each, the legend the expected calibration
    error (ECE).

    Parameters
    ----------
    labels : array-like (n,)
        True labels.
    probabilities : array-like (n, k)
        Columns in the order of `classes`.
    classes : array-like (k,)
    bins : int
    ax : matplotlib.axes.Axes, optional
        By default a new figure's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        `bins` is not an integer of at least 1.
    DataError
        There is not one label a row, or there are no rows.

    References
    ----------
    Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599, figure 1.

    Examples
    --------
    >>> ax = plot_reliability(["bee", "wasp"], [[0.8, 0.2], [0.8, 0.2]], ["bee", "wasp"])
    >>> ax.get_xlabel(), ax.get_lines()[1].get_ydata().tolist()
    ('confidence', [0.5])
    """
    confidence, accuracy, count = reliability_curve(labels, probabilities, classes, bins)
    error = expected_calibration_error(labels, probabilities, classes, bins)
    ax = new_axes(ax)
    ax.bar(confidence, count / count.sum(), width=0.5 / bins, color=COLORS[3], label="share of rows")
    ax.plot([0, 1], [0, 1], color=ink(), linestyle="--", linewidth=1, label="calibrated")
    ax.plot(confidence, accuracy, marker="o", color=COLORS[0], label=f"accuracy, ECE {error:.3f}")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.03)
    ax.set_xlabel("confidence")
    ax.set_ylabel("accuracy; share of rows")
    legend_above(ax)
    return ax
