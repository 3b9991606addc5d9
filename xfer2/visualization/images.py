"""Examples beside what the classifier says of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from xfer2._validation import check_integer, parameter_error
from xfer2.exceptions import DataError
from xfer2.uncertainty.predictions import Prediction, label_codes
from xfer2.uncertainty.ranking import most_confidently_wrong, most_uncertain
from xfer2.visualization._axes import COLORS, distinct, new_axes

_MOST_IMAGES = 12
_CELL = (2.1, 1.0)  # inches


def plot_predictions(images: Any, prediction: Prediction, rows: Any = None, labels: Any = None, top: int = 4,
                     ax: Any = None) -> Any:
    """A grid of images, each beside bars of its likeliest classes with their probabilities.

    Parameters
    ----------
    images : sequence or mapping of int to numpy.ndarray of uint8
        Of shape (height, width) or (height, width, 1, 3 or 4), each of a size of its own: one for every row of the
        prediction, or by row number those that are shown.
    prediction : Prediction
    rows : sequence of int, optional
        Which examples; by default those that have images, the first 12 where they are more.
    labels : array-like (n,), optional
        True labels of all rows. A wrong prediction's title says so, and its image has a frame. Without labels, titles are
        the ids.
    top : int
        How many classes.
    ax : matplotlib.axes.Axes, optional
        By default a new figure's. The grid is drawn in Axes inside of it, two for each example.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError
        `top` is not an integer of at least 1.
    DataError
        There are no rows, a row has no image or is not in the prediction, an image is of another type or shape, or labels do
        not fit.

    References
    ----------
    Damianou et al. 2018, Xfer: an open-source library for neural network transfer learning, the figure of hand-drawn images.

    Examples
    --------
    >>> prediction = Prediction(np.array([[0.9, 0.1]]), np.array(["bee", "wasp"]), ["a.png"])
    >>> ax = plot_predictions([np.zeros((8, 8), np.uint8)], prediction, labels=["wasp"])
    >>> [text.get_text() for text in ax.texts]
    ['wrong, true: wasp']
    """
    owner = "plot_predictions"
    check_integer(owner, "top", top)
    known = images if isinstance(images, Mapping) else dict(enumerate(images))
    chosen = list(known)[:_MOST_IMAGES] if rows is None else _rows(owner, rows, len(prediction))
    if not chosen:
        raise DataError(f"{owner}: there are no rows to show.")
    truth = None if labels is None else label_codes(owner, labels, prediction.classes, len(prediction))
    pictures = [_checked(owner, known, row, len(prediction)) for row in chosen]
    columns = min(2, len(chosen)) if len(chosen) <= 8 else 3
    lines = -(-len(chosen) // columns)
    ax = new_axes(ax, columns * _CELL[0], lines * _CELL[1] + 0.3)
    ax.set_axis_off()
    ax.set_title(f"probability of the {min(top, len(prediction.classes))} likeliest classes", fontsize="small")
    width, height = 1 / columns, 1 / lines
    size, length = (7.5, 12) if columns < 3 else (6.5, 9)  # of names: points, characters
    codes = np.unique(np.argsort(-prediction.probabilities[chosen], kind="stable")[:, :top])
    if truth is not None:
        codes = np.union1d(codes, truth[chosen])
    names = dict(zip(codes.tolist(), distinct(prediction.classes[codes], length), strict=True))
    ids = distinct([prediction.ids[row] for row in chosen], 2 * length)
    title_size = _fitting(size, ids, 2 * length) if truth is None else _fitting(size, names.values(), length)
    for number, (row, picture) in enumerate(zip(chosen, pictures, strict=True)):
        left, bottom = number % columns * width, 1 - (number // columns + 1) * height
        shown = ax.inset_axes((left, bottom + 0.03 * height, 0.4 * width, 0.75 * height))
        bars = ax.inset_axes((left + 0.43 * width, bottom + 0.03 * height, 0.53 * width, 0.75 * height))
        _draw_image(shown, picture)
        _draw_bars(bars, prediction.probabilities[row], names, top, _fitting(size, names.values(), length))
        wrong = truth is not None and truth[row] != prediction.probabilities[row].argmax()
        title = ids[number] if truth is None else ("wrong, true: " if wrong else "true: ") + names[truth[row]]
        ax.text(left, bottom + 0.83 * height, title, transform=ax.transAxes, fontsize=title_size,
                fontweight="bold" if wrong else "normal")
        if wrong:
            shown.spines[:].set(visible=True, color=COLORS[6], linewidth=2)
    return ax


def plot_most_uncertain(images: Any, prediction: Prediction, count: int = 6, labels: Any = None, ax: Any = None) -> Any:
    """The examples whose probabilities have the largest entropy, as `plot_predictions` shows them.

    Parameters
    ----------
    images, prediction, labels, ax
        As of `plot_predictions`.
    count : int

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ParameterError, DataError
        As of `plot_predictions`.

    Examples
    --------
    >>> prediction = Prediction(np.array([[0.9, 0.1], [0.5, 0.5]]), np.array(["bee", "wasp"]), ["a.png", "b.png"])
    >>> ax = plot_most_uncertain([np.zeros((8, 8), np.uint8)] * 2, prediction, count=1)
    >>> ax.texts[0].get_text()
    'b.png'
    """
    return plot_predictions(images, prediction, most_uncertain(prediction, count), labels, ax=ax)


def plot_most_confidently_wrong(images: Any, prediction: Prediction, labels: Any, count: int = 6, ax: Any = None) -> Any:
    """The wrong predictions of the largest probability, as `plot_predictions` shows them.

    Parameters
    ----------
    images, prediction, labels, ax
        As of `plot_predictions`.
    count : int

    Returns
    -------
    matplotlib.axes.Axes
        Where no prediction is wrong, it says so.

    Raises
    ------
    ParameterError, DataError
        As of `plot_predictions`.

    Examples
    --------
    >>> prediction = Prediction(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array(["bee", "wasp"]), ["a.png", "b.png"])
    >>> ax = plot_most_confidently_wrong([np.zeros((8, 8), np.uint8)] * 2, prediction, ["bee", "wasp"])
    >>> ax.texts[0].get_text()
    'wrong, true: wasp'
    """
    rows = most_confidently_wrong(prediction, labels, count)
    if len(rows):
        return plot_predictions(images, prediction, rows, labels, ax=ax)
    ax = new_axes(ax)
    ax.set_axis_off()
    ax.text(0.5, 0.5, "no prediction is wrong", ha="center", va="center", transform=ax.transAxes)
    return ax


def _checked(owner: str, images: Mapping[int, Any], row: int, rows: int) -> np.ndarray:
    """The image of a row, grey ones (h, w), or an error that names the row."""
    if not 0 <= row < rows:
        raise DataError(f"{owner}: the prediction has rows 0 to {rows - 1}; got row {row}.")
    if row not in images:
        raise DataError(f"{owner}: row {row} has no image. Give one for every row that is shown.")
    image = np.asarray(images[row])
    if image.dtype != np.uint8 or image.ndim < 2 or image.size == 0 or image.shape[2:] not in ((), (1,), (3,), (4,)):
        raise DataError(f"{owner}: the image of row {row} must be of uint8, (height, width) or (height, width, 1, 3 or 4); "
                        f"got {image.dtype} of shape {image.shape}.")
    return image[..., 0] if image.shape[2:] == (1,) else image


def _draw_image(ax: Any, image: np.ndarray) -> None:
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="none")
    ax.set_anchor("NW")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def _fitting(size: float, labels: Collection[str], length: int) -> float:
    """A size of letters that puts the longest label where so many characters of the given size have room."""
    return size * length / max(length, *map(len, labels))


def _draw_bars(ax: Any, chances: np.ndarray, names: Mapping[int, str], top: int, size: float) -> None:
    """Bars from the likeliest class down, names and probabilities written on them."""
    likeliest = np.argsort(-chances, kind="stable")[:top]
    ax.barh(range(len(likeliest)), chances[likeliest], height=0.9, color=COLORS[0], alpha=0.45)
    for place, code in enumerate(likeliest):
        ax.text(0.02, place, names[code], va="center", fontsize=size)
        ax.text(1.0, place, f"{chances[code]:.2f}", va="center", ha="right", fontsize=size)
    ax.set_xlim(0, 1)
    ax.set_ylim(max(top, 3) - 0.5, -0.5)
    ax.set_axis_off()


def _rows(owner: str, rows: Any, count: int) -> list[int]:
    """Positions, or those where a mask is True."""
    given = np.asarray(rows)
    if given.dtype.kind == "b" and given.shape == (count,):
        return np.flatnonzero(given).tolist()
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise parameter_error(owner, "rows", f"positions of rows, or a mask of {count}", rows)
    return given.tolist()
