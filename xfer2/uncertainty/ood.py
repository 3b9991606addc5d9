"""Out-of-distribution scores: how little an example looks like those of training. Larger is further out, throughout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import rankdata

from xfer2._random import root_seed
from xfer2._scaling import rotate, standardisation, unit_rows
from xfer2._validation import check_integer, check_positive, parameter_error
from xfer2.exceptions import DataError
from xfer2.uncertainty.predictions import Prediction

_LEAST_SHRINKAGE = 1e-6  # what did not vary at training must stay finite at scoring
_CHUNK = 2**22  # entries of a temporary array


def out_of_distribution_scores(prediction: Prediction) -> dict[str, np.ndarray]:
    """Every score that a prediction holds, by name; each an array (n,), larger is further out.

    Parameters
    ----------
    prediction : Prediction

    Returns
    -------
    dict of str to numpy.ndarray (n,)
        ``maximum_probability`` (1 - the largest probability) and ``entropy`` (in nats) always; ``energy`` (minus the
        logarithm of the sum of the exponentials of the logits) where there are logits; ``mutual_information`` (the epistemic
        part, in nats) where there is a posterior; and the distances of the prediction under their own names.

    References
    ----------
    Hendrycks and Gimpel 2017, arXiv:1610.02136 (maximum probability); Liu et al. 2020, arXiv:2010.03759, eq. 4 (energy, at
    temperature 1).

    Examples
    --------
    >>> prediction = Prediction(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array(["bee", "wasp"]), [0, 1])
    >>> scores = out_of_distribution_scores(prediction)
    >>> {name: values.round(3).tolist() for name, values in scores.items()}
    {'maximum_probability': [0.5, 0.0], 'entropy': [0.693, 0.0]}
    """
    if not isinstance(prediction, Prediction):
        raise parameter_error("out_of_distribution_scores", "prediction", "a Prediction", prediction,
                              "A repurposer's predict_uncertainty gives one.")
    scores = {"maximum_probability": 1 - prediction.confidence, "entropy": prediction.entropy}
    if prediction.logits is not None:
        scores["energy"] = -logsumexp(np.asarray(prediction.logits, float), axis=1)
    if prediction.epistemic is not None:
        scores["mutual_information"] = np.asarray(prediction.epistemic)
    return {**scores, **{name: np.asarray(values) for name, values in prediction.distances.items()}}


class MahalanobisDistance:
    """Distance to the nearest class mean, measured by the covariance within classes.

    Columns are standardised. The covariance, shared by the classes, is shrunk: (1 - s) covariance + s m I, with m the mean
    variance within classes. Where features outnumber rows the work is done in the span of the rows; the part of an example
    outside the span has the shrunk covariance s m I exactly. A column that did not vary at training counts by that variance
    too.

    Parameters
    ----------
    shrinkage : float or None
        s, above 0 and at most 1. None estimates it from the data (Ledoit and Wolf 2004), at least 1e-6.

    Attributes
    ----------
    shrinkage_ : float
    mean_, scale_ : numpy.ndarray (d,)
        By which columns are standardised; a constant column has the usual scale.
    basis_ : numpy.ndarray (r, d)
        Orthonormal rows: the axes of the covariance.
    variances_ : numpy.ndarray (r,)
        Shrunk variances along them.
    outside_variance_ : float
        Shrunk variance along any other direction.
    centers_ : numpy.ndarray (k, r)
        Class means along the axes.

    References
    ----------
    Lee et al. 2018, arXiv:1807.03888, eq. 1 and 2. Ledoit and Wolf 2004, Journal of Multivariate Analysis 88.

    Examples
    --------
    >>> features = np.random.default_rng(0).normal(size=(200, 2)) + [[0, 0], [9, 0]] * 100
    >>> MahalanobisDistance().fit(features, np.arange(200) % 2).score([[0, 0], [4.5, 0], [9, 9]]).round().tolist()
    [0.0, 4.0, 9.0]
    """

    def __init__(self, shrinkage: float | None = None) -> None:
        self.shrinkage = shrinkage

    def fit(self, features: Any, codes: Any) -> MahalanobisDistance:
        """Learn class means and covariance.

        Parameters
        ----------
        features : array-like (n, d)
        codes : array-like of int (n,)
            Classes by number; a class may have one row.

        Raises
        ------
        ParameterError
            `shrinkage` is not what it must be.
        DataError
            Features are not finite, or shapes do not agree.
        """
        if self.shrinkage is not None and check_positive("MahalanobisDistance", "shrinkage", self.shrinkage) > 1:
            raise parameter_error("MahalanobisDistance", "shrinkage", "None, or above 0 and at most 1", self.shrinkage)
        rows, numbers = _matrix("MahalanobisDistance", features), np.asarray(codes)
        if numbers.shape != (len(rows),) or numbers.dtype.kind not in "iu":
            raise DataError(f"MahalanobisDistance: {len(rows)} rows need integer codes of shape ({len(rows)},); got "
                            f"{numbers.dtype} of shape {numbers.shape}.")
        self.mean_, self.scale_ = standardisation(rows)
        rows = (rows - self.mean_) / self.scale_
        count, width = rows.shape
        rows, span = rotate(rows)
        _, member = np.unique(numbers, return_inverse=True)
        centers = np.stack([rows[member == number].mean(axis=0) for number in range(member.max() + 1)])
        residuals = rows - centers[member]
        squares = (residuals**2).sum(axis=1)
        variances, axes = np.linalg.eigh(residuals.T @ residuals / count)
        variances = np.clip(variances, 0, None)

        average = float(squares.mean()) / width
        collapsed = average < np.finfo(float).eps  # every row is its class mean, but for rounding: plain distances are left
        self.shrinkage_ = float(self.shrinkage or max(_ledoit_wolf(squares, variances, width), _LEAST_SHRINKAGE))
        self.outside_variance_ = 1.0 if collapsed else self.shrinkage_ * average
        self.variances_ = (1 - self.shrinkage_) * variances + self.outside_variance_
        self.basis_ = np.ascontiguousarray(axes.T if span is None else axes.T @ span)
        self.centers_ = centers @ axes
        return self

    def score(self, features: Any) -> np.ndarray:
        """Distance of each row to the nearest class mean (m,), in standard deviations; larger is further out."""
        owner = "MahalanobisDistance"
        rows = _matrix(owner, features, len(_fitted(owner, self, "mean_")))
        spread = np.sqrt(self.variances_)
        found = np.empty(len(rows))
        for part in _chunks(len(rows), max(rows.shape[1], len(self.centers_))):
            centred = (rows[part] - self.mean_) / self.scale_
            inside = centred @ self.basis_.T
            found[part] = cdist(inside / spread, self.centers_ / spread, "sqeuclidean").min(axis=1)
            if len(self.basis_) < rows.shape[1]:
                found[part] += ((centred - inside @ self.basis_)**2).sum(axis=1) / self.outside_variance_
        return np.sqrt(found)


class NearestNeighbourDistance:
    """Distance to the k-th nearest row of training, between rows scaled to length 1.

    Distances go from 0 to 2. Columns are neither centred nor standardised, as in the source: what a ReLU gives is positive,
    and directions from the origin tell other data apart (photographs and MNIST's digits had an AUROC of 0.71 standardised,
    and 0.98 like this). A single feature is taken as it is; its sign alone would say nothing.

    Parameters
    ----------
    neighbours : int
        k; fewer where fewer rows are kept. A row that was itself kept at training is its own first neighbour.
    max_rows : int
        Rows kept, drawn at random where there are more; memory is max_rows * d * 4 bytes.
    random_state : int, RandomState, Generator or None
        Of that draw.

    Attributes
    ----------
    rows_ : numpy.ndarray of float32 (min(n, max_rows), d)

    References
    ----------
    Sun et al. 2022, arXiv:2204.06507, section 3.

    Examples
    --------
    >>> features = np.random.default_rng(0).normal(size=(200, 4)) + np.array([[-9], [9]] * 100)
    >>> NearestNeighbourDistance().fit(features).score([[9, 9, 9, 9], [9, -9, 9, -9]]).round(1).tolist()
    [0.0, 1.3]
    """

    def __init__(self, neighbours: int = 10, max_rows: int = 5000, random_state: Any = 0) -> None:
        self.neighbours = neighbours
        self.max_rows = max_rows
        self.random_state = random_state

    def fit(self, features: Any, codes: Any = None) -> NearestNeighbourDistance:
        """Keep the rows of features (n, d), or a random part of them; `codes` is not used.

        Raises
        ------
        ParameterError
            A parameter is not what it must be.
        DataError
            Features are not a matrix of finite numbers.
        """
        owner = "NearestNeighbourDistance"
        check_integer(owner, "neighbours", self.neighbours)
        most = check_integer(owner, "max_rows", self.max_rows)
        random = np.random.default_rng(root_seed(owner, self.random_state))
        rows = _matrix(owner, features)
        if len(rows) > most:
            rows = rows[np.sort(random.choice(len(rows), most, replace=False))]
        self.rows_ = _unit(rows)
        return self

    def score(self, features: Any) -> np.ndarray:
        """Distance of each row to the k-th nearest row kept (m,), 0 to 2; larger is further out."""
        from sklearn.neighbors import NearestNeighbors

        owner = "NearestNeighbourDistance"
        rows = _matrix(owner, features, _fitted(owner, self, "rows_").shape[1])
        kept = self.rows_.astype(float)  # in float32 a distance near 0 would be off by 3e-4
        search = NearestNeighbors(n_neighbors=min(self.neighbours, len(kept)), algorithm="brute").fit(kept)
        found = np.empty(len(rows))
        for part in _chunks(len(rows), max(kept.shape)):
            found[part] = search.kneighbors(_unit(rows[part]).astype(float))[0][:, -1]
        return found


def auroc(inside: Any, outside: Any) -> float:
    """The chance that an example from outside scores above one from inside; ties count half. 0.5 is a guess, 1 the best.

    Parameters
    ----------
    inside, outside : array-like (n,), (m,)
        Scores of examples like those of training, and of others.

    Raises
    ------
    DataError
        There are no scores, or one is NaN.

    References
    ----------
    Mann and Whitney 1947; Fawcett 2006, Pattern Recognition Letters 27.

    Examples
    --------
    >>> auroc([0.1, 0.2, 0.3], [0.2, 0.9])
    0.75
    """
    low, high = _scores("auroc", "inside", inside), _scores("auroc", "outside", outside)
    ranks = rankdata(np.concatenate([low, high]))[len(low):]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(low) * len(high)))


def false_positive_rate_at_95(inside: Any, outside: Any) -> float:
    """The fraction of examples from outside that are kept where the threshold keeps 95% of those from inside: 0 is best.

    An example is kept where its score is at most the threshold, the smallest score that at least 95% of `inside` do not
    exceed. Inside counts as positive, as is usual in the field ("FPR95"), so a false positive is an example from outside
    that is taken for one from inside. Parameters and errors are those of `auroc`.

    References
    ----------
    Liang, Li and Srikant 2018, arXiv:1706.02690.

    Examples
    --------
    >>> false_positive_rate_at_95(range(100), [50, 94, 95, 200])
    0.5
    """
    owner = "false_positive_rate_at_95"
    low, high = _scores(owner, "inside", inside), _scores(owner, "outside", outside)
    threshold = np.sort(low)[-(-95 * len(low) // 100) - 1]
    return float((high <= threshold).mean())


def _ledoit_wolf(squares: np.ndarray, variances: np.ndarray, width: int) -> float:
    """Ledoit and Wolf's coefficient, from the rows' squared lengths and the covariance's eigenvalues: no d x d matrix."""
    average, energy = squares.mean() / width, (variances**2).sum()
    distance = energy / width - average**2
    noise = ((squares**2).mean() - energy) / (width * len(squares))
    return float(np.clip(noise / distance, 0, 1)) if distance > 0 else 0.0


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows at length 1, in float32; rows of one feature stay."""
    return (unit_rows(rows) if rows.shape[1] > 1 else rows).astype(np.float32)


def _chunks(rows: int, width: int) -> Iterator[slice]:
    size = max(1, _CHUNK // width)
    return (slice(start, start + size) for start in range(0, rows, size))


def _fitted(owner: str, distance: Any, attribute: str) -> np.ndarray:
    if not hasattr(distance, attribute):
        from sklearn.exceptions import NotFittedError

        raise NotFittedError(f"{owner} is not fitted yet: call fit with the features of training.")
    return getattr(distance, attribute)


def _matrix(owner: str, features: Any, width: int | None = None) -> np.ndarray:
    """The features as float64 (n, d), or an error; where `width` is given, as wide as at fit."""
    try:
        rows = np.asarray(features, float)
    except (TypeError, ValueError) as error:
        raise DataError(f"{owner}: features must be an array of numbers of shape (rows, features).") from error
    if rows.ndim != 2 or rows.shape[1] == 0 or (width is None and len(rows) == 0):
        raise DataError(f"{owner}: features must have shape (rows, features), at least one of each; got {rows.shape}.")
    if not np.isfinite(rows).all():
        raise DataError(f"{owner}: features must be finite; row {int((~np.isfinite(rows)).any(axis=1).argmax())} is not.")
    if width is not None and rows.shape[1] != width:
        raise DataError(f"{owner}: rows must have the {width} features of fit; got {rows.shape[1]}.")
    return rows


def _scores(owner: str, name: str, scores: Any) -> np.ndarray:
    try:
        values = np.asarray(scores, float)
    except (TypeError, ValueError) as error:
        raise parameter_error(owner, name, "an array of numbers of shape (rows,)", scores) from error
    if values.ndim != 1 or len(values) == 0 or np.isnan(values).any():
        raise DataError(f"{owner}: {name} must hold at least one score, in one dimension, none of them NaN; got shape "
                        f"{values.shape}.")
    return values
