"""Pictures of what a layer's channels look for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xfer2._validation import parameter_error
from xfer2.visualization._axes import plain


def plot_filters(images: Any, titles: Sequence[str] | None = None, ax: Any = None) -> Any:
    """Small pictures in a grid, each scaled to its own range.

    Parameters
    ----------
    images : array-like (n, h, w) or (n, c, h, w)
        c is 1 (grey) or 3 (red, green, blue). As `xfer2.features.filters.maximise_activation` gives them.
    titles : sequence of str, optional
        One per picture.
    ax : matplotlib.axes.Axes, optional
        The grid fills it; by default a new figure's.

    Returns
    -------
    matplotlib.axes.Axes
        Without a frame; the pictures are its ``child_axes``, row by row.

    Raises
    ------
    ParameterError
        The images have another shape or are not finite, or there are not as many titles.

    References
    ----------
    Anderson et al. 2016, arXiv:1611.01714, figure 3.

    Examples
    --------
    >>> import numpy as np
    >>> from xfer2.visualization.filters import plot_filters
    >>> len(plot_filters(np.random.default_rng(0).random((5, 1, 8, 8))).child_axes)
    5
    """
    import matplotlib.pyplot

    pictures = _pictures(images)
    if titles is not None and len(titles) != len(pictures):
        raise parameter_error("plot_filters", "titles", f"{len(pictures)} texts, one per picture", titles)
    columns = min(len(pictures), max(8, math.ceil(math.sqrt(len(pictures)))))
    rows = math.ceil(len(pictures) / columns)
    if ax is None:
        height = rows * (1.15 if titles is not None else 1.0)
        ax = matplotlib.pyplot.figure(figsize=(columns, height)).add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    share = 0.75 if titles is not None else 0.9  # of a cell's height; titles need the rest
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        inset = ax.inset_axes(((column + 0.05) / columns, 1 - (row + 0.95) / rows, 0.9 / columns, share / rows))
        inset.imshow(picture, cmap="gray", vmin=0, vmax=1)
        inset.set_xticks([])
        inset.set_yticks([])
        if titles is not None:
            inset.set_title(plain(titles[number]), fontsize="small", pad=2)
    return ax


def _pictures(images: Any) -> np.ndarray:
    """The images from 0 to 1, in the order of axes that matplotlib takes; an image of one value is grey."""
    values = np.asarray(images, float)
    if values.ndim == 3:
        values = values[:, None]
    if values.ndim != 4 or values.shape[1] not in (1, 3) or 0 in values.shape or not np.isfinite(values).all():
        raise parameter_error("plot_filters", "images", "finite, of shape (n, h, w), (n, 1, h, w) or (n, 3, h, w)",
                              np.shape(images))
    low, high = (f(values, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    scaled = np.where(high > low, (values - low) / np.where(high > low, high - low, 1), 0.5)
    return scaled[:, 0] if scaled.shape[1] == 1 else scaled.transpose(0, 2, 3, 1)
