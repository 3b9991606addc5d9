"""Out-of-distribution scores against scikit-learn and plain loops."""

import math

import numpy as np
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

from xfer2 import Prediction
from xfer2._scaling import standardisation
from xfer2.exceptions import DataError, ParameterError
from xfer2.uncertainty.ood import (
    MahalanobisDistance,
    NearestNeighbourDistance,
    auroc,
    false_positive_rate_at_95,
    out_of_distribution_scores,
)

DISTANCES = [MahalanobisDistance, NearestNeighbourDistance]
SCORES = st.lists(st.integers(-3, 3).map(float) | st.floats(-5, 5), min_size=1, max_size=40)


def clusters(seed, rows, width, classes=3):
    random = np.random.default_rng(seed)
    codes = np.arange(rows) % classes
    mixed = random.normal(size=(rows, width)) @ random.normal(size=(width, width)) / math.sqrt(width)
    return mixed + 4 * random.normal(size=(classes, width))[codes], codes


def mahalanobis_by_loops(features, codes, new):
    """Lee et al. 2018, eq. 1 and 2, on standardised columns, with scikit-learn's shrunk d x d covariance."""
    mean, scale = standardisation(features)
    rows, new = (features - mean) / scale, (new - mean) / scale
    means = {code: rows[codes == code].mean(axis=0) for code in sorted(set(codes.tolist()))}
    residuals = np.array([row - means[code] for row, code in zip(rows, codes.tolist(), strict=True)])
    estimate = LedoitWolf(assume_centered=True).fit(residuals)
    inverse = np.linalg.inv(estimate.covariance_)
    return estimate.shrinkage_, [min(math.sqrt((row - m) @ inverse @ (row - m)) for m in means.values()) for row in new]


@pytest.mark.parametrize(("rows", "width"), [(200, 2), (60, 59), (60, 60), (60, 61), (30, 200), (7, 40)])
def test_mahalanobis_is_that_of_loops_also_with_more_features_than_rows(rows, width):
    features, codes = clusters(0, rows, width)
    new = np.random.default_rng(1).normal(0, 3, (20, width))
    shrinkage, expected = mahalanobis_by_loops(features, codes, new)
    distance = MahalanobisDistance().fit(features, codes)
    assert distance.shrinkage_ == pytest.approx(shrinkage, rel=1e-9)
    np.testing.assert_allclose(distance.score(new), expected, rtol=1e-6)


@pytest.mark.parametrize("width", [5, 80])
def test_shrinkage_of_ones_own_is_used_and_one_is_the_plain_distance(width):
    features, codes = clusters(0, 50, width)
    assert MahalanobisDistance(0.25).fit(features, codes).shrinkage_ == 0.25
    distance = MahalanobisDistance(1.0).fit(features, codes)
    mean, scale = standardisation(features)
    rows = (features - mean) / scale
    means = np.stack([rows[codes == code].mean(axis=0) for code in range(3)])
    plain = np.sqrt(((rows[:, np.newaxis] - means) ** 2).sum(axis=2)).min(axis=1)
    spread = math.sqrt(((rows - means[codes]) ** 2).mean())
    np.testing.assert_allclose(distance.score(features), plain / spread, rtol=1e-8)


@pytest.mark.parametrize(("rows", "width", "neighbours"), [(100, 3, 10), (40, 300, 1), (6, 4, 10)])
def test_nearest_neighbour_is_that_of_scikit_learn(rows, width, neighbours):
    features, _ = clusters(0, rows, width)
    new = np.random.default_rng(1).normal(0, 3, (20, width))

    def unit(values):
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    nearest = min(neighbours, rows)
    slow = NearestNeighbors(n_neighbors=nearest).fit(unit(features)).kneighbors(unit(new))[0][:, -1]
    found = NearestNeighbourDistance(neighbours).fit(features).score(new)
    np.testing.assert_allclose(found, slow, atol=1e-6)


def test_a_row_of_training_is_at_no_distance_from_itself():
    features, _ = clusters(0, 50, 20)
    np.testing.assert_allclose(NearestNeighbourDistance(1).fit(features).score(features), 0, atol=1e-7)


def test_rows_are_kept_at_random_up_to_the_limit_in_float32():
    features, _ = clusters(0, 300, 4)
    first, second, other = (NearestNeighbourDistance(max_rows=50, random_state=seed).fit(features) for seed in (0, 0, 1))
    assert first.rows_.shape == (50, 4)
    assert first.rows_.dtype == np.float32
    np.testing.assert_array_equal(first.rows_, second.rows_)
    assert not np.array_equal(first.rows_, other.rows_)


@pytest.mark.parametrize("make", DISTANCES)
def test_rows_from_elsewhere_score_higher(make):
    random = np.random.default_rng(0)
    features, codes = clusters(0, 300, 20)
    distance = make().fit(features[:200], codes[:200])
    assert auroc(distance.score(features[200:]), distance.score(random.normal(0, 6, (100, 20)))) > 0.95


@pytest.mark.parametrize("width", [4, 60])
def test_units_of_the_columns_do_not_matter_to_mahalanobis(width):
    features, codes = clusters(0, 40, width)
    new = np.random.default_rng(1).normal(0, 3, (10, width))
    units, offsets = np.logspace(-6, 6, width), np.linspace(-5, 5, width)
    plain = MahalanobisDistance().fit(features, codes).score(new)
    moved = MahalanobisDistance().fit(features * units + offsets, codes).score(new * units + offsets)
    np.testing.assert_allclose(moved, plain, rtol=0.03)  # where units are alike, deviations are drawn together a little


def test_the_length_of_a_row_does_not_matter_to_nearest_neighbour_but_where_it_has_one_feature():
    features, _ = clusters(0, 40, 6)
    distance = NearestNeighbourDistance().fit(features)
    np.testing.assert_allclose(distance.score(7 * features), distance.score(features), atol=1e-6)
    single = NearestNeighbourDistance(1).fit(np.arange(1.0, 11.0)[:, np.newaxis])
    np.testing.assert_allclose(single.score([[12.0], [4.25]]), [2, 0.25], atol=1e-6)


@pytest.mark.parametrize("make", DISTANCES)
@pytest.mark.parametrize("width", [3, 80])
def test_a_column_that_was_constant_counts_where_it_changes(make, width):
    features, codes = clusters(0, 60, width)
    features[:, 1] = 0.1
    distance = make().fit(features, codes)
    changed = features.copy()
    changed[:, 1] = 5.1
    assert distance.score(changed).mean() > distance.score(features).mean() + 0.01
    assert np.isfinite(distance.score(changed)).all()


EDGES = {
    "one row": (np.ones((1, 3)), [0]),
    "a row a class": (np.arange(12.0).reshape(4, 3), [0, 1, 2, 3]),
    "gaps in the codes": (np.arange(12.0).reshape(4, 3), [7, 7, 2, 90]),
    "one feature": (np.arange(10.0).reshape(10, 1), [0, 1] * 5),
    "one constant feature": (np.full((10, 1), 0.1), [0, 1] * 5),
    "all alike": (np.full((6, 3), 0.1), [0, 1, 2] * 2),
    "alike within classes": (np.repeat([[0.1, 0.7, 3.3], [1.9, 2.2, 0.3]], 3, axis=0), [0] * 3 + [1] * 3),
    "alike within classes, wide": (np.repeat(np.random.default_rng(0).normal(size=(2, 50)), 3, axis=0), [0] * 3 + [1] * 3),
    "scales apart": (np.random.default_rng(0).normal(size=(30, 3)) * [1e-6, 1, 1e6], [0, 1, 2] * 10),
    "float32, wide": (np.random.default_rng(0).normal(size=(5, 400)).astype(np.float32), [0, 1, 0, 1, 2]),
}


@pytest.mark.parametrize("make", DISTANCES)
@pytest.mark.parametrize("edge", EDGES)
def test_scores_are_finite_at_the_edges(make, edge):
    features, codes = EDGES[edge]
    distance = make().fit(features, codes)
    far = np.concatenate([features, features + 1, -1e6 * np.ones((1, features.shape[1])), np.zeros((1, features.shape[1]))])
    scores = distance.score(far)
    assert scores.shape == (len(far),)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


def test_without_spread_within_classes_it_is_the_plain_distance():
    features = np.repeat([[0.0, 0.0], [2.0, 2.0]], 3, axis=0)
    distance = MahalanobisDistance().fit(features, [0] * 3 + [1] * 3)
    np.testing.assert_allclose(distance.score([[0, 0], [2, 2], [2, 3]]), [0, 0, 1])


@pytest.mark.parametrize("make", DISTANCES)
def test_many_rows_in_parts_are_as_one_by_one(make):
    random = np.random.default_rng(0)
    features = random.normal(size=(4200, 3))
    distance = make().fit(features, np.arange(4200))
    new = random.normal(size=(2500, 3))
    scores = distance.score(new)
    np.testing.assert_allclose(scores[[0, 998, 999, 2499]], [distance.score(new[[row]])[0] for row in (0, 998, 999, 2499)])
    assert distance.score(new[:0]).shape == (0,)


@pytest.mark.parametrize("make", DISTANCES)
@pytest.mark.parametrize("width", [4, 60])
def test_saved_distances_score_the_same(make, width):
    features, codes = clusters(0, 40, width)
    distance = make().fit(features, codes)
    saved = skops.io.dumps(distance)
    assert skops.io.get_untrusted_types(data=saved) == [f"xfer2.uncertainty.ood.{make.__name__}"]
    loaded = skops.io.loads(saved, trusted=[f"xfer2.uncertainty.ood.{make.__name__}"])
    np.testing.assert_array_equal(loaded.score(features), distance.score(features))


@pytest.mark.parametrize("make", DISTANCES)
def test_bad_features_are_named(make):
    name = make.__name__
    features, codes = clusters(0, 30, 4)
    with pytest.raises(NotFittedError, match=f"{name} is not fitted yet"):
        make().score(features)
    distance = make().fit(features, codes)
    with pytest.raises(DataError, match=f"{name}: rows must have the 4 features of fit; got 3"):
        distance.score(features[:, :3])
    for bad, message in ((np.zeros(4), r"got \(4,\)"), (np.zeros((4, 0)), r"got \(4, 0\)"),
                         ([["a", "b"]], "array of numbers"), ([[1.0, np.nan]], "row 0 is not"),
                         ([[0.0, 1.0], [np.inf, 1.0]], "row 1 is not")):
        with pytest.raises(DataError, match=f"{name}: .*{message}"):
            make().fit(bad, np.zeros(len(bad), int))
        with pytest.raises(DataError, match=f"{name}: .*{message}"):
            distance.score(bad)
    with pytest.raises(DataError, match="at least one of each"):
        make().fit(np.zeros((0, 4)), np.zeros(0, int))


def test_bad_codes_and_parameters_are_named():
    features, codes = clusters(0, 30, 4)
    for bad in (codes[:29], codes.astype(float), codes.astype(str), codes[:, np.newaxis]):
        with pytest.raises(DataError, match=r"30 rows need integer codes of shape \(30,\)"):
            MahalanobisDistance().fit(features, bad)
    for bad in (0, -1, 1.5, "auto", np.nan):
        with pytest.raises(ParameterError, match="MahalanobisDistance: shrinkage must be"):
            MahalanobisDistance(bad).fit(features, codes)
    for name, bad in {"neighbours": 0, "max_rows": 2.5, "random_state": "x"}.items():
        with pytest.raises(ParameterError, match=f"NearestNeighbourDistance: {name} must be"):
            NearestNeighbourDistance(**{name: bad}).fit(features)


def test_a_prediction_gives_every_score_that_it_holds():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (20, 4))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    parts = {"aleatoric": random.random(20), "epistemic": random.random(20), "logits": logits}
    prediction = Prediction(chances, np.arange(4), range(20), **parts, distances={"mahalanobis": np.arange(20)})
    scores = out_of_distribution_scores(prediction)
    assert list(scores) == ["maximum_probability", "entropy", "energy", "mutual_information", "mahalanobis"]
    for row in range(20):
        assert scores["maximum_probability"][row] == 1 - max(chances[row])
        assert scores["energy"][row] == pytest.approx(-math.log(sum(math.exp(value) for value in logits[row])))
        assert scores["entropy"][row] == pytest.approx(-sum(p * math.log(p) for p in chances[row]))
    np.testing.assert_array_equal(scores["mutual_information"], parts["epistemic"])
    np.testing.assert_array_equal(scores["mahalanobis"], np.arange(20))


def test_a_prediction_without_posterior_logits_or_distances_gives_two_scores():
    scores = out_of_distribution_scores(Prediction(np.eye(2), np.arange(2), [0, 1]))
    assert list(scores) == ["maximum_probability", "entropy"]
    with pytest.raises(ParameterError, match="prediction must be a Prediction"):
        out_of_distribution_scores(np.eye(2))


def test_energy_of_large_logits_is_finite():
    logits = np.array([[1e4, -1e4], [-1e4, -1e4]])
    scores = out_of_distribution_scores(Prediction(np.eye(2), np.arange(2), [0, 1], logits=logits))
    np.testing.assert_allclose(scores["energy"], [-1e4, 1e4 - math.log(2)])


@given(SCORES, SCORES)
@settings(max_examples=60, deadline=None)
def test_auroc_and_false_positive_rate_are_those_of_scikit_learn(inside, outside):
    truth = [0] * len(inside) + [1] * len(outside)
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(truth, inside + outside))
    false, true, _ = roc_curve([1 - t for t in truth], [-s for s in inside + outside], drop_intermediate=False)
    assert false_positive_rate_at_95(inside, outside) == pytest.approx(false[(true >= 0.95 - 1e-12).argmax()])


def test_measures_at_their_ends():
    assert auroc([0, 1], [2, 3]) == 1
    assert auroc([2, 3], [0, 1]) == 0
    assert auroc([1, 1], [1]) == 0.5
    assert false_positive_rate_at_95(range(20), [18, 18.5, 19]) == pytest.approx(1 / 3)
    assert false_positive_rate_at_95([0, 1], [math.inf]) == 0


@pytest.mark.parametrize("measure", [auroc, false_positive_rate_at_95])
@pytest.mark.parametrize("bad", [[], [[1.0]], [math.nan]])
def test_measures_refuse_what_are_no_scores(measure, bad):
    with pytest.raises(DataError, match=f"{measure.__name__}: inside must hold"):
        measure(bad, [1.0])
    with pytest.raises(DataError, match=f"{measure.__name__}: outside must hold"):
        measure([1.0], bad)
    with pytest.raises(ParameterError, match="outside must be an array of numbers"):
        measure([1.0], ["a"])
