"""Conformal prediction: sets of labels that hold the true one as often as asked."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from xfer2._random import child_seed, root_seed
from xfer2._validation import check_choice, check_inside, parameter_error
from xfer2.exceptions import DataError
from xfer2.uncertainty.predictions import Prediction, label_codes, shown_classes

# MAPIE takes numbers within 1e-8 of each other for equal. Left so, a class of smaller probability is in no set, and a class
# whose score is just below the threshold may be dropped: a classifier that is too sure then misses its coverage by far.
_FLOOR = 1e-7  # added to every probability
_SLACK = 1e-8 - 1e-12  # added to the threshold on cumulated probabilities; the rest is for rounding


class ConformalSets:
    """Sets of labels that hold the true label with a given probability, whatever the classifier.

    The guarantee is marginal and for finite samples: over the draw of the calibration rows and of one new row, the set of
    the new row holds its label with probability at least `coverage`. It needs calibration rows and new rows that are
    exchangeable (drawn alike), and calibration rows that the classifier was not fitted or tuned on. It does not say that
    each class, or each kind of example, is covered that often; and one set of calibration rows gives a coverage that
    scatters about the one asked for with a standard deviation of about sqrt(coverage * (1 - coverage) / n).

    Parameters
    ----------
    coverage : float
        Between 0 and 1.
    method : {"lac", "aps", "raps"}
        ``"lac"`` gives the smallest sets on average; a set may be empty, where no class is probable enough. ``"aps"`` gives
        sets that grow with the difficulty of a row; they are randomised, so that they are no larger than the coverage
        needs, and may be empty too. ``"raps"`` is that with a penalty on classes of low rank, for many classes; the penalty
        is chosen on a fifth of the calibration rows, at least 1 / (1 - coverage), which then do not calibrate. Where many
        true labels have a probability below about 1e-7, sets of each method are larger than they need be.
    random_state : int, RandomState, Generator or None
        Of the randomised sets. For one integer, a row's set is the same whatever rows it comes with, where its
        probabilities are, to the bit (another engine's or machine's may round otherwise); only of rows whose
        probabilities and names are alike, each in turn has another draw. A service that predicts rows one by one gives them
        names (files have them), or takes ``"lac"``, which draws nothing.

    Attributes
    ----------
    classes_ : numpy.ndarray (k,)
    threshold_ : float
        Largest nonconformity score of a class in a set.
    rank_, penalty_ : float
        Of ``"raps"``: the rank up to which classes go unpenalised, and the penalty for each rank beyond; else 0.
    seed_ : int

    References
    ----------
    LAC: Sadinle, Lei and Wasserman 2019, JASA 114, arXiv:1609.00451. APS: Romano, Sesia and Candes 2020,
    arXiv:2006.02544, algorithm 1. RAPS: Angelopoulos et al. 2021, arXiv:2009.14193, algorithms 2 and 3. The scores are
    MAPIE's.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> chances = random.dirichlet([1, 1, 1], 1000)
    >>> labels = np.array(["ant", "bee", "wasp"])[(chances.cumsum(axis=1) > random.random((1000, 1))).argmax(axis=1)]
    >>> held_out = Prediction(chances[:500], np.array(["ant", "bee", "wasp"]), range(500))
    >>> new = Prediction(chances[500:], held_out.classes, range(500))
    >>> sets = ConformalSets(coverage=0.8).fit(held_out, labels[:500])
    >>> sets.label_sets(new)[0].tolist(), new.probabilities[0].round(2).tolist()
    (['bee', 'wasp'], [0.05, 0.48, 0.47])
    >>> round(empirical_coverage(sets.predict(new), labels[500:], new.classes), 2)
    0.8...
    """

    def __init__(self, coverage: float = 0.9, method: str = "lac", random_state: Any = None) -> None:
        self.coverage = coverage
        self.method = method
        self.random_state = random_state

    def fit(self, prediction: Prediction, labels: Any) -> ConformalSets:
        """Calibrate on rows that the classifier has not seen.

        Parameters
        ----------
        prediction : Prediction
            Of n held-out rows.
        labels : array-like (n,)
            Their true labels, all among ``prediction.classes``; not every class need occur.

        Returns
        -------
        ConformalSets
            Itself.

        Raises
        ------
        ParameterError
            A parameter is not what it must be.
        DataError
            Probabilities are not finite, a label is unknown, or rows are too few for the coverage: n must be at least
            coverage / (1 - coverage), for ``"raps"`` more; the message says how many.
        """
        check_inside("ConformalSets", "coverage", self.coverage, "For example 0.9.")
        check_choice("ConformalSets", "method", self.method, ("lac", "aps", "raps"))
        seed = root_seed("ConformalSets", self.random_state)
        chances = _probabilities(prediction)
        codes = label_codes("ConformalSets.fit", labels, prediction.classes, len(prediction))
        order = np.random.default_rng(child_seed(seed, "split")).permutation(len(codes))
        tuning, rest = order[:self._tuning_rows(len(codes))], order[self._tuning_rows(len(codes)):]

        score = _mapie_score(self.method, chances.shape[1], child_seed(seed, "calibration"))
        if self.method == "raps":
            score.set_ref_predictor(_PassThrough())
            score.X_raps, score.y_raps, score.y_raps_no_enc = chances[tuning], codes[tuning], codes[tuning]
        scores = score.get_conformity_scores(codes[rest], chances[rest], y_enc=codes[rest])
        quantile = score.get_conformity_score_quantiles(scores, np.array([self._error_rate()]), **_PREFIT)
        self.classes_ = np.asarray(prediction.classes)
        self.seed_ = seed
        self.threshold_ = float(quantile[0])
        self.rank_ = float(score.k_star[0]) if self.method == "raps" else 0.0
        self.penalty_ = float(score.lambda_star) if self.method == "raps" else 0.0
        return self

    def predict(self, prediction: Prediction) -> np.ndarray:
        """Which classes are in the set of each row.

        Parameters
        ----------
        prediction : Prediction
            Of m new rows, with the classes in the order they had in `fit`.

        Returns
        -------
        numpy.ndarray of bool (m, k)
            Columns in the order of ``prediction.classes``.

        Raises
        ------
        DataError
            Probabilities are not finite, or the classes are others or in another order.
        """
        if not hasattr(self, "threshold_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("ConformalSets is not fitted yet: call fit with held-out predictions and their labels.")
        chances = _probabilities(prediction)
        if np.asarray(prediction.classes).tolist() != self.classes_.tolist():
            raise DataError("ConformalSets: the classes must be those of fit in the same order, "
                            f"{shown_classes(self.classes_)}; got {shown_classes(prediction.classes)}. Predict with the "
                            "classifier that the sets were fitted on.")
        if len(prediction) == 0:
            return np.zeros((0, len(self.classes_)), bool)
        draws = _RowDraws(child_seed(self.seed_, "prediction"), np.asarray(prediction.probabilities, float), prediction.ids)
        score = _mapie_score(self.method, chances.shape[1], draws)
        score.quantiles_ = np.array([self.threshold_ + (0.0 if self.method == "lac" else _SLACK)])
        score.k_star, score.lambda_star = np.array([self.rank_]), self.penalty_
        sets = score.get_prediction_sets(chances[:, :, np.newaxis], np.empty(0), np.array([self._error_rate()]), **_PREFIT)
        return np.asarray(sets[:, :len(self.classes_), 0], bool)

    def label_sets(self, prediction: Prediction) -> list[np.ndarray]:
        """The labels in the set of each row: m arrays, in the order of the classes. Parameters are those of `predict`."""
        return [self.classes_[row] for row in self.predict(prediction)]

    def _error_rate(self) -> float:
        """1 - coverage as a decimal fraction: 0.1, not 0.09999999999999998, which would ask for one row more."""
        return float(1 - Decimal(str(float(self.coverage))))

    def _tuning_rows(self, rows: int) -> int:
        """How many rows choose the penalty; an error where too few are left for the quantile to be one of the scores."""
        rate = self._error_rate()
        least = max(1, math.floor((1 - rate) / rate))
        while math.ceil((least + 1) * (1 - rate)) > least:
            least += 1
        tuning = max(math.ceil(max(1 / rate, 1 / (1 - rate))), rows // 5) if self.method == "raps" else 0
        if rows - tuning < least:
            raise DataError(f"ConformalSets: coverage {self.coverage} with method {self.method!r} needs at least "
                            f"{least + tuning} labelled rows; got {rows}. Hold out more rows or ask for a lower coverage.")
        return tuning


def empirical_coverage(sets: Any, labels: Any, classes: Any) -> float:
    """The fraction of rows whose set holds the true label.

    Parameters
    ----------
    sets : array-like of bool (n, k)
        As `ConformalSets.predict` gives them.
    labels : array-like (n,)
        True labels; one that is not among the classes is an error.
    classes : array-like (k,)

    Examples
    --------
    >>> empirical_coverage([[True, False], [True, True]], ["wasp", "bee"], ["bee", "wasp"])
    0.5
    """
    inside, names = _checked_sets("empirical_coverage", sets), np.asarray(classes)
    if inside.shape[1] != len(names):
        raise DataError(f"empirical_coverage: {len(names)} classes need sets of {len(names)} columns; got {inside.shape}.")
    codes = label_codes("empirical_coverage", labels, names, len(inside))
    return float(inside[np.arange(len(codes)), codes].mean())


def mean_set_size(sets: Any) -> float:
    """Mean number of labels in a set, over the rows of an array of bool (n, k).

    Examples
    --------
    >>> mean_set_size([[True, False], [True, True]])
    1.5
    """
    return float(_checked_sets("mean_set_size", sets).sum(axis=1).mean())


class _PassThrough:
    """What MAPIE takes for a fitted classifier: its rows are probabilities already."""

    cv = "prefit"

    @property
    def single_estimator_(self) -> _PassThrough:
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return X


# Both names of one thing: MAPIE 1.0 reads estimator.cv, later ones cv.
_PREFIT = {"cv": "prefit", "estimator": _PassThrough(), "include_last_label": "randomized"}


class _RowDraws(np.random.RandomState):
    """What MAPIE draws from: a number for every row, by its probabilities, its name, and how many such came before.

    A number for an id is where a row stands, no name.
    """

    def __init__(self, seed: int, chances: np.ndarray, ids: Sequence[Any]) -> None:
        super().__init__(seed)
        self._seed, self._chances, self._ids = seed, chances, ids

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """The rows' numbers, from 0 to 1."""
        seen, draws = Counter[bytes](), []
        rows = np.round(self._chances * 1e6).astype(np.int64)
        for row, name in zip(rows, self._ids, strict=True):
            key = row.tobytes() + (name.encode(errors="surrogateescape") if isinstance(name, str) else b"")
            text = f"{self._seed} {seen[key]} ".encode() + key
            draws.append(int.from_bytes(hashlib.blake2b(text, digest_size=7).digest()) / 2.0**56)
            seen[key] += 1
        return np.reshape(draws, size)


def _mapie_score(method: str, columns: int, seed: int | np.random.RandomState) -> Any:
    """MAPIE's score, not its SplitConformalClassifier: that refuses two classes, rare classes, and few rows."""
    from mapie.conformity_scores import APSConformityScore, LACConformityScore, RAPSConformityScore

    class ExactRaps(RAPSConformityScore):
        """RAPS that drops the last label by the rule of APS, as its own calibration scores ask for.

        MAPIE's rule divides by another number beyond the first penalised rank, mostly a negative one, and keeps the label
        too often.
        """

        _compute_v_parameter = APSConformityScore._compute_v_parameter

    score = {"lac": LACConformityScore, "aps": APSConformityScore, "raps": ExactRaps}[method]()
    score.set_external_attributes(classes=np.arange(columns), random_state=seed)
    return score


def _probabilities(prediction: Any) -> np.ndarray:
    """Rows that sum to 1 exactly, no entry near 0, and at least the three columns that MAPIE's APS can tell apart."""
    if not isinstance(prediction, Prediction):
        raise parameter_error("ConformalSets", "prediction", "a Prediction", prediction,
                              "A repurposer's predict_uncertainty gives one.")
    chances = np.asarray(prediction.probabilities, float)
    if not (np.isfinite(chances).all() and (chances >= 0).all() and np.allclose(chances.sum(axis=1), 1, atol=1e-2)):
        raise DataError("ConformalSets: every row of the probabilities must be finite, at least 0, and sum to 1.")
    padded = np.pad(chances, ((0, 0), (0, max(0, 3 - chances.shape[1])))) + _FLOOR
    return padded / padded.sum(axis=1, keepdims=True)


def _checked_sets(owner: str, sets: Any) -> np.ndarray:
    inside = np.asarray(sets)
    if inside.ndim != 2 or inside.dtype != bool or len(inside) == 0:
        raise parameter_error(owner, "sets", "an array of bool of shape (rows, classes), at least one row", sets)
    return inside
