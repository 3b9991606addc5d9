"""A network's graph: a box a layer, the input on top."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from xfer2._validation import parameter_error
from xfer2.visualization._axes import plain

# All lengths are in inches.
_POINTS = 7.0
_LINE = 1.2 * _POINTS / 72
_MARGIN = 0.08
_GAP = 0.12  # between levels, at least
_APART = 0.15  # between boxes of one level
_LANE = 0.06  # width of a line that passes a level
_SWEEPS = 8
_STRAIGHT = 100.0  # how much more a box counts than a passing line where both want one place


@dataclass(eq=False)
class _Place:
    """A box, or the place where a line passes between the boxes of one level (then `name` is empty)."""

    name: str
    level: int
    width: float
    x: float = 0.0


def plot_network(layers: Sequence[tuple[str, str, bool]], edges: Iterable[tuple[str, str]], ax: Any = None) -> Any:
    """Boxes joined by arrows, level by level from the inputs down; lines that skip levels pass beside the boxes.

    Parameters
    ----------
    layers : sequence of (name, text, frozen)
        In topological order. Frozen ones are filled, and have a bar at the left.
    edges : iterable of (name, name)
        Who feeds whom.
    ax : matplotlib.axes.Axes, optional
        The picture is scaled to fit it; by default a new figure's, in which a level of two lines takes 0.4 inches.

    Returns
    -------
    matplotlib.axes.Axes
        Without a frame. Boxes have their layer's name as gid, arrows ``"FROM -> TO"``; SVG files keep them as ids.

    Raises
    ------
    ParameterError
        There are no layers, two share a name, or an edge is not from an earlier layer to a later one.

    References
    ----------
    Sugiyama, Tagawa and Toda 1981, Methods for visual understanding of hierarchical system structures, IEEE Transactions
    on Systems, Man and Cybernetics 11: levels, lines split at every level that they pass, order by barycentres.

    Examples
    --------
    >>> from xfer2.visualization.network_graph import plot_network
    >>> layers = [("data", "data", False), ("conv0", "conv0", True), ("add0", "add0", False)]
    >>> ax = plot_network(layers, [("data", "conv0"), ("conv0", "add0"), ("data", "add0")])
    >>> [text.get_text() for text in ax.texts]
    ['data', 'conv0', 'add0']
    """
    import matplotlib.pyplot

    joined = _checked(layers, edges)
    levels, routes = _levels(layers, joined)
    _arrange(levels, routes)
    tops, bottoms = _heights(levels, routes, {name: text.count("\n") + 1 for name, text, _ in layers})
    left = min(p.x - p.width / 2 for level in levels for p in level) - _MARGIN
    right = max(p.x + p.width / 2 for level in levels for p in level) + _MARGIN
    frozen = {name for name, _, is_frozen in layers if is_frozen}
    top = 2 * _LINE if frozen else _MARGIN
    size = max(right - left, 0.8), top + _MARGIN - bottoms[-1]
    if ax is None:
        ax = matplotlib.pyplot.figure(figsize=size).add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set(xlim=(left, left + size[0]), ylim=(bottoms[-1] - _MARGIN, top), aspect="equal")
    window = ax.get_window_extent()
    scale = min(window.width / size[0], window.height / size[1]) / ax.figure.dpi
    for route in routes:
        _draw_line(ax, route, tops, bottoms, scale)
    texts = {name: text for name, text, _ in layers}
    for place in (place for level in levels for place in level if place.name):
        _draw_box(ax, place, texts[place.name], place.name in frozen, tops[place.level], bottoms[place.level], scale)
    if frozen:
        ax.legend(handles=[_frozen_patch()], loc="upper right", fontsize=_POINTS * scale, frameon=False, borderpad=0,
                  borderaxespad=0.3)
    return ax


def _checked(layers: Sequence[tuple[str, str, bool]], edges: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    order = {name: number for number, (name, _, _) in enumerate(layers)}
    if not layers or len(order) < len(layers):
        raise parameter_error("plot_network", "layers", "at least one, each of another name", layers)
    joined = list(dict.fromkeys((start, end) for start, end in edges))
    for start, end in joined:
        if start not in order or end not in order or order[start] >= order[end]:
            raise parameter_error("plot_network", "edges", "from earlier layers to later ones", (start, end))
    return joined


def _levels(layers: Sequence[tuple[str, str, bool]],
            edges: list[tuple[str, str]]) -> tuple[list[list[_Place]], list[list[_Place]]]:
    """Places by level, a layer one below the lowest of those that feed it; and for every edge the places it goes by."""
    feeding: dict[str, list[str]] = {name: [] for name, _, _ in layers}
    for start, end in edges:
        feeding[end].append(start)
    depth: dict[str, int] = {}
    for name, _, _ in layers:
        depth[name] = max((depth[start] + 1 for start in feeding[name]), default=0)
    boxes = {name: _Place(name, depth[name], _text_width(text) + 2 * _MARGIN) for name, text, _ in layers}
    levels: list[list[_Place]] = [[] for _ in range(max(depth.values()) + 1)]
    for box in boxes.values():
        levels[box.level].append(box)
    routes = []
    for start, end in edges:
        passing = [_Place("", level, _LANE) for level in range(depth[start] + 1, depth[end])]
        for place in passing:
            levels[place.level].append(place)
        routes.append([boxes[start], *passing, boxes[end]])
    return levels, routes


def _text_width(text: str) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=_POINTS)
    return max(text_to_path.get_text_width_height_descent(line or " ", font, False)[0] for line in text.split("\n")) / 72


def _arrange(levels: list[list[_Place]], routes: list[list[_Place]]) -> None:
    """Order each level by the mean of what its places are joined to, down and up again; then set them side by side."""
    above: dict[_Place, list[_Place]] = {place: [] for level in levels for place in level}
    below: dict[_Place, list[_Place]] = {place: [] for place in above}
    for route in routes:
        for upper, lower in pairwise(route):
            above[lower].append(upper)
            below[upper].append(lower)
    for level in levels:
        _number(level)
    for sweep in range(_SWEEPS):
        sides = (levels, above) if sweep % 2 == 0 else (levels[::-1], below)
        for level in sides[0]:
            level.sort(key=lambda place, near=sides[1]: _mean(place, near[place]))  # type: ignore[misc]
            _number(level)
    for sweep in range(2 * _SWEEPS):
        sides = (levels, above) if sweep % 2 == 0 else (levels[::-1], below)
        for level in sides[0]:
            _set_apart(level, [_mean(place, sides[1][place], _STRAIGHT) for place in level])


def _number(level: list[_Place]) -> None:
    for number, place in enumerate(level):
        place.x = number - (len(level) - 1) / 2


def _mean(place: _Place, near: list[_Place], straight: float = 1.0) -> float:
    weights = [straight if other.name else 1.0 for other in near]
    return float(np.average([other.x for other in near], weights=weights)) if near else place.x


def _set_apart(level: list[_Place], wanted: list[float]) -> None:
    """Nearest to where they want to be, by weighted least squares, in this order and without overlap: pooled neighbours."""
    offsets = np.cumsum([0.0] + [(one.width + other.width) / 2 + _APART for one, other in pairwise(level)])
    blocks: list[tuple[float, float, int]] = []  # place of the block, weight, how many it holds
    for place, at, offset in zip(level, wanted, offsets, strict=True):
        block = (at - float(offset), _STRAIGHT if place.name else 1.0, 1)
        while blocks and blocks[-1][0] >= block[0]:
            other = blocks.pop()
            weight = other[1] + block[1]
            block = ((other[0] * other[1] + block[0] * block[1]) / weight, weight, other[2] + block[2])
        blocks.append(block)
    starts = [start for start, _, count in blocks for _ in range(count)]
    for place, start, offset in zip(level, starts, offsets, strict=True):
        place.x = start + float(offset)


def _heights(levels: list[list[_Place]], routes: list[list[_Place]],
             lines: Mapping[str, int]) -> tuple[list[float], list[float]]:
    """Top and bottom of every level; where lines go far to the side, levels are farther apart."""
    far = [0.0] * len(levels)
    for route in routes:
        for upper, lower in pairwise(route):
            far[lower.level] = max(far[lower.level], abs(upper.x - lower.x))
    tops, bottoms = [0.0], list[float]()
    for number, level in enumerate(levels):
        if number:
            tops.append(bottoms[-1] - _GAP - min(0.12 * far[number], 0.3))
        bottoms.append(tops[-1] - _LINE * max(lines[place.name] for place in level if place.name) - _MARGIN / 2)
    return tops, bottoms


def _draw_line(ax: Any, route: list[_Place], tops: list[float], bottoms: list[float], scale: float) -> None:
    """From the first box down to the last: an S in each gap between levels, straight down beside the boxes it passes."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points, codes = [(route[0].x, bottoms[route[0].level])], [Path.MOVETO]
    for upper, lower in pairwise(route):
        start, end = bottoms[upper.level], tops[lower.level]
        points += [(upper.x, (start + end) / 2), (lower.x, (start + end) / 2), (lower.x, end)]
        codes += [Path.CURVE4] * 3
        if lower is not route[-1]:
            points.append((lower.x, bottoms[lower.level]))
            codes.append(Path.LINETO)
    ax.add_patch(FancyArrowPatch(path=Path(points, codes), arrowstyle="-|>", mutation_scale=5 * scale, linewidth=0.7 * scale,
                                 color="0.35", joinstyle="miter", gid=f"{route[0].name} -> {route[-1].name}"))


def _draw_box(ax: Any, place: _Place, text: str, frozen: bool, top: float, bottom: float, scale: float) -> None:
    from matplotlib.patches import Rectangle

    left = place.x - place.width / 2
    ax.add_patch(Rectangle((left, bottom), place.width, top - bottom, facecolor="lightblue" if frozen else "white",
                           edgecolor="black", linewidth=0.7 * scale, gid=place.name))
    if frozen:
        ax.add_patch(Rectangle((left, bottom), _MARGIN / 2, top - bottom, facecolor="black", linewidth=0))
    ax.text(place.x, (top + bottom) / 2, plain(text), fontsize=_POINTS * scale, ha="center", va="center", linespacing=1.1)


def _frozen_patch() -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor="lightblue", edgecolor="black", label="frozen")
