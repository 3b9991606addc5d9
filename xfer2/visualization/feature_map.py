"""Features in two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from xfer2._random import root_seed
from xfer2._scaling import standardisation
from xfer2._validation import check_choice
from xfer2.exceptions import DataError
from xfer2.visualization._axes import COLORS, MARKERS, distinct, legend_above, new_axes

_MOST_COMPONENTS = 50  # that t-SNE works on
_MOST_VECTORS = 1000  # beyond, points are drawn as one image, which keeps a vector file small


def plot_feature_map(features: Any, labels: Any, method: str = "pca", random_state: Any = 0, ax: Any = None) -> Any:
    """The rows of a feature matrix as points of a plane, coloured by class.

    Parameters
    ----------
    features : array-like (n, d)
        At least three rows and two columns. Columns are standardised.
    labels : array-like (n,)
        True or predicted.
    method : {"pca", "tsne"}
        The first two principal components, whose axes say how much of the variance they hold; or t-SNE on at most 50 of
        them, whose axes and distances between far groups mean nothing.
    random_state : int, RandomState, Generator or None
    ax : matplotlib.axes.Axes, optional
        By default a new figure's.

    Returns
    -------
    matplotlib.axes.Axes
        With a legend for up to ten classes, a colorbar for more.

    Raises
    ------
    ParameterError
        `method` is unknown.
    DataError
        Features are no finite matrix of that size, or there is not one label a row.

    References
    ----------
    van der Maaten and Hinton 2008, Visualizing Data using t-SNE, JMLR 9.

    Examples
    --------
    >>> features = [[0.0, 1.0], [1.0, 0.0], [2.0, -1.0], [3.0, -2.0]]
    >>> plot_feature_map(features, ["bee", "bee", "wasp", "wasp"]).get_xlabel()
    'component 1 (100% of the variance)'
    """
    owner = "plot_feature_map"
    check_choice(owner, "method", method, ("pca", "tsne"))
    X, names = np.asarray(features, float), np.asarray(labels)
    if X.ndim != 2 or X.shape[0] < 3 or X.shape[1] < 2 or not np.isfinite(X).all():
        raise DataError(f"{owner}: features must be finite, of shape (rows, columns), at least (3, 2); got {X.shape}. "
                        "Flatten maps to rows, and leave rows with NaN out.")
    if names.shape != (len(X),):
        raise DataError(f"{owner}: {len(X)} rows need labels of shape ({len(X)},); got {names.shape}.")
    points, axis_labels = _plane(X, method, root_seed(owner, random_state))
    ax = new_axes(ax)
    classes, codes = np.unique(names, return_inverse=True)
    style = {"s": 14, "alpha": 0.8, "linewidths": 0, "rasterized": len(X) > _MOST_VECTORS}
    if len(classes) <= len(COLORS):
        for number, label in enumerate(distinct(classes)):
            ax.scatter(*points[codes == number].T, color=COLORS[number], marker=MARKERS[number], label=label, **style)
        legend_above(ax)
    else:
        drawn = ax.scatter(*points.T, c=codes, cmap="viridis", **style)
        places = np.linspace(0, len(classes) - 1, 9).round().astype(int)
        bar = ax.figure.colorbar(drawn, ax=ax, label="class")
        shown = distinct(classes, 10)
        bar.set_ticks(places, labels=[shown[place] for place in places])
    ax.set_xlabel(axis_labels[0])
    ax.set_ylabel(axis_labels[1])
    return ax


def _plane(X: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, list[str]]:
    """Points (n, 2) and what their axes are."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    mean, deviation = standardisation(X)
    X = (X - mean) / deviation
    if not X.any():
        raise DataError("plot_feature_map: all rows of the features are the same. Give the features of another layer.")
    pca = PCA(2 if method == "pca" else min(_MOST_COMPONENTS, *X.shape), random_state=seed)
    components = pca.fit_transform(X)
    if method == "pca":
        shares = pca.explained_variance_ratio_
        return components, [f"component {number} ({share:.0%} of the variance)" for number, share in enumerate(shares, 1)]
    tsne = TSNE(2, perplexity=min(30.0, (len(X) - 1) / 3), init="pca", random_state=seed)
    return tsne.fit_transform(components), ["t-SNE 1 (no unit)", "t-SNE 2 (no unit)"]
