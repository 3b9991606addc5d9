"""Conformal sets: coverage on data drawn from known probabilities, and the sets themselves against plain loops."""

import hashlib
import math
import struct
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from xfer2 import Prediction
from xfer2._random import child_seed
from xfer2.exceptions import DataError, ParameterError
from xfer2.uncertainty.conformal import ConformalSets, empirical_coverage, mean_set_size

METHODS = ("lac", "aps", "raps")


def sample(seed, rows, classes, sharpness=1.0):
    """Labels drawn from a softmax, and predictions from the same logits times `sharpness`: 1 is calibrated."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (rows, len(classes)))

    def softmax(values):
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    codes = (softmax(logits).cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)
    return softmax(sharpness * logits), np.array(list(classes))[codes]


def predicted(chances, classes):
    return Prediction(chances, np.array(list(classes)), range(len(chances)))


def sets_by_loops(sets, cal_chances, cal_codes, new_chances, as_given=None):
    """Every class with a score of at most the k-th smallest calibration score, k = ceil((n + 1) coverage)."""
    coverage, seed = Fraction(str(sets.coverage)), sets.seed_
    tuning = max(math.ceil(1 / min(coverage, 1 - coverage)), len(cal_codes) // 5) if sets.method == "raps" else 0
    rows = np.random.default_rng(child_seed(seed, "split")).permutation(len(cal_codes))[tuning:]

    def uniform(purpose, count):
        if sets.method == "lac":
            return [0.0] * count
        if purpose == "prediction":
            return draws(child_seed(seed, purpose), new_chances if as_given is None else as_given)
        return np.random.RandomState(child_seed(seed, purpose)).uniform(size=count)

    def draws(seed, rows):
        seen, found = Counter(), []
        for row in rows:
            key = b"".join(struct.pack("<q", round(chance * 1e6)) for chance in row)
            found.append(int(hashlib.blake2b(f"{seed} {seen[key]} ".encode() + key, digest_size=7).hexdigest(), 16) / 2**56)
            seen[key] += 1
        return found

    def score(chances, code, u):
        if sets.method == "lac":
            return 1 - chances[code]
        order = sorted(range(len(chances)), key=lambda column: -chances[column])
        rank = order.index(code) + 1
        total = sum(chances[column] for column in order[:rank])
        return total - u * chances[code] + sets.penalty_ * max(0.0, rank - sets.rank_)

    scores = sorted(score(cal_chances[row], cal_codes[row], u)
                    for row, u in zip(rows, uniform("calibration", len(rows)), strict=True))
    threshold = scores[math.ceil((len(scores) + 1) * coverage) - 1]
    return np.array([[score(chances, code, u) <= threshold for code in range(len(chances))]
                     for chances, u in zip(new_chances, uniform("prediction", len(new_chances)), strict=True)])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [3, 6])
@pytest.mark.parametrize("coverage", [0.3, 0.9])
def test_sets_are_those_of_loops(method, count, coverage):
    chances, codes = sample(0, 1100, range(count))
    sets = ConformalSets(coverage, method, random_state=1).fit(predicted(chances[:300], range(count)), codes[:300])
    found = sets.predict(predicted(chances[300:], range(count)))
    assert (found != sets_by_loops(sets, chances[:300], codes[:300], chances[300:])).sum() <= 1  # rounding at the threshold


@pytest.mark.parametrize("method", METHODS)
def test_no_class_that_loops_have_is_left_out_where_probabilities_are_tiny(method):
    chances, codes = sample(0, 1200, range(10), 9.0)
    chances = np.maximum(chances, 1e-20 * np.arange(1, 11))  # no ties, whose order is anyone's
    shown = (chances + 1e-7) / (1 + 10e-7)  # what the sets are made of
    for coverage in (0.8, 0.9, 0.95, 0.98):
        sets = ConformalSets(coverage, method, 1).fit(predicted(chances[:400], range(10)), codes[:400])
        found = sets.predict(predicted(chances[400:], range(10)))
        assert (found | ~sets_by_loops(sets, shown[:400], codes[:400], shown[400:], chances[400:])).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [2, 10, 50])
@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
def test_coverage_is_that_asked_for_whether_or_not_probabilities_are_calibrated(method, count, sharpness):
    classes = [f"class{number}" for number in range(count)]
    chances, labels = sample(count, 7000, classes, sharpness)
    for coverage in (0.5, 0.8, 0.95):
        sets = ConformalSets(coverage, method, 0).fit(predicted(chances[:3000], classes), labels[:3000])
        found = empirical_coverage(sets.predict(predicted(chances[3000:], classes)), labels[3000:], classes)
        spread = math.sqrt(coverage * (1 - coverage) * (1 / 2400 + 1 / 4000))
        assert abs(found - coverage) < 4 * spread


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sharpness", [12.0, 100.0, 2000.0])
def test_coverage_holds_where_probabilities_round_to_nothing(method, sharpness):
    chances, labels = sample(3, 7000, range(10), sharpness)
    assert (chances < 1e-8).mean() > 0.3
    for coverage in (0.5, 0.9):
        sets = ConformalSets(coverage, method, 0).fit(predicted(chances[:3000], range(10)), labels[:3000])
        found = empirical_coverage(sets.predict(predicted(chances[3000:], range(10))), labels[3000:], range(10))
        assert found > coverage - 4 * math.sqrt(coverage * (1 - coverage) * (1 / 2400 + 1 / 4000))


@pytest.mark.parametrize("method", METHODS)
def test_coverage_over_many_small_calibrations_is_that_asked_for(method):
    """19 rows are enough for 0.9 with each method; the mean over calibrations has no error of sample size."""
    found = []
    for seed in range(150):
        chances, labels = sample(seed, 319, "abc", 2.0)
        sets = ConformalSets(0.9, method, seed).fit(predicted(chances[:19], "abc"), labels[:19])
        found.append(empirical_coverage(sets.predict(predicted(chances[19:], "abc")), labels[19:], list("abc")))
    assert abs(np.mean(found) - 0.9) < 4 * np.std(found) / math.sqrt(len(found))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("present", [[7], [3, 7], [0, 3, 7]])
def test_classes_may_be_absent_at_calibration(method, present):
    classes = np.array([0, 3, 7, 11, 12])
    random = np.random.default_rng(0)
    prediction = predicted(random.dirichlet(np.ones(5), 100), classes)
    found = ConformalSets(0.8, method, 0).fit(prediction, random.choice(present, 100)).predict(prediction)
    assert found.shape == (100, 5)
    assert found[:, 3:].any()


def test_easy_rows_get_small_sets_and_hard_rows_large_ones():
    chances, labels = sample(0, 4000, "abcdef")
    prediction = predicted(chances, "abcdef")
    sizes = ConformalSets(0.9, "aps", 0).fit(prediction, labels).predict(prediction).sum(axis=1)
    hard = prediction.entropy > np.median(prediction.entropy)
    assert sizes[hard].mean() > sizes[~hard].mean() + 1


def test_sets_grow_with_the_coverage():
    chances, labels = sample(0, 500, "abcd")
    prediction = predicted(chances, "abcd")
    for method in METHODS:
        sizes = [mean_set_size(ConformalSets(c, method, 0).fit(prediction, labels).predict(prediction))
                 for c in (0.5, 0.7, 0.9)]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]


def test_label_sets_are_the_labels_of_the_columns():
    chances, labels = sample(0, 100, [3, 7, 9])
    prediction = predicted(chances, [3, 7, 9])
    sets = ConformalSets(0.9).fit(prediction, labels)
    for row, names in zip(sets.predict(prediction), sets.label_sets(prediction), strict=True):
        assert names.tolist() == [name for name, inside in zip([3, 7, 9], row, strict=True) if inside]
        assert names.dtype.kind == "i"


@pytest.mark.parametrize("method", METHODS)
def test_one_random_state_gives_the_same_sets_and_more_rows_do_not_change_them(method):
    chances, labels = sample(0, 400, "abc")
    prediction = predicted(chances, "abc")
    first, second, other = (ConformalSets(0.8, method, seed).fit(prediction, labels) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.predict(prediction), second.predict(prediction))
    np.testing.assert_array_equal(first.predict(prediction)[:50], first.predict(predicted(chances[:50], "abc")))
    assert (method == "lac") == np.array_equal(first.predict(prediction), other.predict(prediction))


@pytest.mark.parametrize("method", METHODS)
def test_saved_sets_predict_the_same(method):
    chances, labels = sample(0, 200, "abc")
    prediction = predicted(chances, "abc")
    sets = ConformalSets(0.8, method, 0).fit(prediction, labels)
    saved = skops.io.dumps(sets)
    assert skops.io.get_untrusted_types(data=saved) == ["xfer2.uncertainty.conformal.ConformalSets"]
    loaded = skops.io.loads(saved, trusted=["xfer2.uncertainty.conformal.ConformalSets"])
    np.testing.assert_array_equal(loaded.predict(prediction), sets.predict(prediction))


@pytest.mark.parametrize("method", METHODS)
def test_no_new_rows_are_no_error(method):
    chances, labels = sample(0, 100, "abc")
    sets = ConformalSets(0.8, method, 0).fit(predicted(chances, "abc"), labels)
    assert sets.predict(predicted(np.empty((0, 3)), "abc")).shape == (0, 3)
    assert sets.label_sets(predicted(np.empty((0, 3)), "abc")) == []


@given(st.integers(1, 199))
@settings(max_examples=25, deadline=None)
def test_rows_needed_are_coverage_over_one_minus_coverage(per_200):
    coverage = Fraction(per_200, 200)
    needed = math.ceil(coverage / (1 - coverage))
    chances, labels = sample(0, needed, "abc")
    ConformalSets(float(coverage)).fit(predicted(chances, "abc"), labels)
    with pytest.raises(DataError, match=f"needs at least {needed} labelled rows; got {needed - 1}"):
        ConformalSets(float(coverage)).fit(predicted(chances[1:], "abc"), labels[1:])


def test_raps_asks_for_the_rows_that_choose_the_penalty_too():
    chances, labels = sample(0, 19, "abc")
    ConformalSets(0.9, "raps").fit(predicted(chances, "abc"), labels)
    with pytest.raises(DataError, match=r"coverage 0\.9 with method 'raps' needs at least 19 labelled rows; got 18"):
        ConformalSets(0.9, "raps").fit(predicted(chances[1:], "abc"), labels[1:])


@pytest.mark.parametrize("coverage", [0, 1, 1.5, -0.1, float("nan"), "0.9", None])
def test_coverage_is_between_0_and_1(coverage):
    chances, labels = sample(0, 50, "ab")
    with pytest.raises(ParameterError, match="ConformalSets: coverage must be"):
        ConformalSets(coverage).fit(predicted(chances, "ab"), labels)


def test_bad_parameters_and_rows_are_named():
    chances, labels = sample(0, 50, "ab")
    prediction = predicted(chances, "ab")
    with pytest.raises(ParameterError, match="method must be one of 'lac', 'aps', 'raps'; got 'topk'"):
        ConformalSets(method="topk").fit(prediction, labels)
    with pytest.raises(ParameterError, match="random_state must be"):
        ConformalSets(random_state="x").fit(prediction, labels)
    with pytest.raises(ParameterError, match="prediction must be a Prediction"):
        ConformalSets().fit(chances, labels)
    with pytest.raises(DataError, match=r"need labels of shape \(50,\); got \(49,\)"):
        ConformalSets().fit(prediction, labels[:49])
    with pytest.raises(DataError, match="the label 'wasp' is not among the classes"):
        ConformalSets().fit(prediction, ["wasp", *labels[1:]])
    with pytest.raises(DataError, match="the label 1 is not among the classes"):
        ConformalSets().fit(prediction, np.ones(50, int))


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [-0.5, 1.5], [0.7, 0.7], [np.inf, 0.0]])
def test_rows_that_are_no_probabilities_are_refused(bad):
    chances, labels = sample(0, 50, "ab")
    sets = ConformalSets().fit(predicted(chances, "ab"), labels)
    chances[7] = bad
    for call in (lambda: ConformalSets().fit(predicted(chances, "ab"), labels),
                 lambda: sets.predict(predicted(chances, "ab"))):
        with pytest.raises(DataError, match="every row of the probabilities must be finite"):
            call()


@pytest.mark.parametrize("classes", [["b", "a"], ["a", "c"], ["a"], [0, 1]])
def test_classes_must_be_those_of_fit_in_their_order(classes):
    chances, labels = sample(0, 50, "ab")
    sets = ConformalSets().fit(predicted(chances, "ab"), labels)
    with pytest.raises(DataError, match="must be those of fit in the same order"):
        sets.predict(predicted(np.full((2, len(classes)), 1 / len(classes)), classes))


def test_predict_before_fit():
    with pytest.raises(NotFittedError, match="call fit with held-out predictions"):
        ConformalSets().predict(predicted(np.full((1, 2), 0.5), "ab"))


def test_measures_of_sets_by_hand():
    sets = [[True, False], [True, True], [False, False], [False, True]]
    assert empirical_coverage(sets, [3, 7, 3, 3], [3, 7]) == 0.5
    assert mean_set_size(sets) == 1.0


def test_measures_refuse_what_are_no_sets():
    for bad in ([], [True, False], [[0.5, 1.0]], np.empty((0, 2), bool)):
        with pytest.raises(ParameterError, match="sets must be an array of bool"):
            mean_set_size(bad)
        with pytest.raises(ParameterError, match="sets must be an array of bool"):
            empirical_coverage(bad, [0], [0, 1])
    with pytest.raises(DataError, match="3 classes need sets of 3 columns"):
        empirical_coverage([[True, False]], ["a"], ["a", "b", "c"])
    with pytest.raises(DataError, match=r"need labels of shape \(1,\)"):
        empirical_coverage([[True, False]], ["a", "b"], ["a", "b"])
    with pytest.raises(DataError, match="label 'c' is not among the classes"):
        empirical_coverage([[True, False]], ["c"], ["a", "b"])


def test_importing_the_room_loads_neither_scikit_learn_nor_mapie():
    code = ("import sys; from xfer2.uncertainty import predictions, conformal, selective, ood; "
            "print(sorted({'sklearn', 'mapie', 'torch', 'pandas'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("method", ["aps", "raps"])
def test_a_randomised_set_does_not_depend_on_the_rows_it_comes_with(method):
    random = np.random.default_rng(3)
    chances = random.dirichlet([0.5] * 5, 700)
    chances[600:] = chances[600]  # a hundred alike
    labels = (chances.cumsum(axis=1) > random.random((700, 1))).argmax(axis=1)
    classes = np.arange(5)
    sets = ConformalSets(0.8, method, random_state=1).fit(Prediction(chances[:300], classes, range(300)), labels[:300])
    whole = sets.predict(Prediction(chances[300:], classes, range(400)))
    alone = np.concatenate([sets.predict(Prediction(row[np.newaxis], classes, [0])) for row in chances[300:601]])
    np.testing.assert_array_equal(alone, whole[:301])
    order = random.permutation(300)
    np.testing.assert_array_equal(sets.predict(Prediction(chances[300:600][order], classes, range(300))), whole[:300][order])
    assert len(np.unique(whole[300:], axis=0)) > 1  # each of those that are alike has a draw of its own
    assert empirical_coverage(whole, labels[300:], classes) > 0.72


def test_rows_with_names_draw_each_their_own_one_by_one_too():
    random = np.random.default_rng(0)
    chances, classes = np.tile([0.6, 0.3, 0.1], (400, 1)), np.arange(3)
    labels = (chances.cumsum(axis=1) > random.random((400, 1))).argmax(axis=1)
    names = [f"{number}.png" for number in range(400)]
    sets = ConformalSets(0.8, "aps", random_state=0).fit(Prediction(chances[:200], classes, names[:200]), labels[:200])
    alone = np.concatenate([sets.predict(Prediction(chances[:1], classes, [name])) for name in names[200:]])
    assert len(np.unique(alone, axis=0)) > 1
    assert 0.7 < empirical_coverage(alone, labels[200:], classes) < 0.9
    np.testing.assert_array_equal(sets.predict(Prediction(chances[200:], classes, names[200:])), alone)
