"""The logistic regression head against scikit-learn's estimator contract and slow references."""

import numpy as np
import pytest
from problems import Standardiser
from scipy.special import softmax
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from xfer2._random import child_seed
from xfer2.exceptions import DataError, ParameterError
from xfer2.heads._features import two_columns
from xfer2.heads.logistic_regression import GRID, LogisticRegressionHead
from xfer2.uncertainty.calibration import fit_temperature, useful_temperature


@parametrize_with_checks([LogisticRegressionHead()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def sample(rows, columns, classes, seed=0, informative=8):
    X, y = make_classification(rows, columns, n_informative=min(informative, columns), n_redundant=0, n_classes=classes,
                               class_sep=0.7, random_state=seed)
    scales = np.random.default_rng(seed).uniform(0.1, 30, columns)
    return X * scales + scales, y


def standardised_reference(X, y, C, **options):
    model = make_pipeline(Standardiser(), LogisticRegression(C=C, tol=1e-8, max_iter=10_000, **options))
    return model.fit(X, y).predict_proba


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("C", [0.01, 1.0])
@pytest.mark.parametrize(("rows", "columns"), [(40, 300), (30, 31), (300, 12)], ids=["wide", "just wide", "tall"])
def test_same_model_as_scikit_learn_on_standardised_features(rows, columns, classes, C):
    X, y = sample(rows + 50, columns, classes)
    head = LogisticRegressionHead(C, tol=1e-8, max_iter=10_000, calibrate=False).fit(X[:rows], y[:rows])
    reference = standardised_reference(X[:rows], y[:rows], C)
    np.testing.assert_allclose(head.predict_proba(X[rows:]), reference(X[rows:]), atol=1e-3)
    assert head.C_ == C
    assert head.cv_log_loss_ == {}
    assert head.temperature_ == 1
    assert head.coef_.shape == (1 if classes == 2 else classes, columns)


def test_class_weights_are_used():
    X, y = sample(120, 6, 2)
    rows = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:8]]
    head = LogisticRegressionHead(1.0, tol=1e-8, class_weight="balanced", calibrate=False).fit(X[rows], y[rows])
    reference = standardised_reference(X[rows], y[rows], 1.0, class_weight="balanced")
    np.testing.assert_allclose(head.predict_proba(X), reference(X), atol=1e-3)
    plain = LogisticRegressionHead(1.0, tol=1e-8, calibrate=False).fit(X[rows], y[rows])
    assert head.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean() + 0.05


def exhaustive_losses(X, y, seed, folds=5):
    """Every C of the grid on every fold, each fitted from nothing and to the end, standardised by its own rows."""
    codes = np.unique(y, return_inverse=True)[1]
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=child_seed(seed, "folds")).split(X, codes))

    def loss(C, train, test):
        model = make_pipeline(Standardiser(), LogisticRegression(C=C, tol=1e-7, max_iter=5000)).fit(X[train], codes[train])
        return log_loss(codes[test], model.predict_proba(X[test]), labels=np.unique(codes))

    with threadpool_limits(1, "blas"):
        return {C: np.mean([loss(C, train, test) for train, test in splits]) for C in GRID}


@pytest.mark.parametrize(("rows", "columns", "classes"), [(60, 20, 2), (100, 10, 3), (40, 80, 2), (90, 120, 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_chosen_C_is_that_of_an_exhaustive_search(rows, columns, classes, seed):
    X, y = sample(rows, columns, classes, seed)
    head = LogisticRegressionHead(random_state=seed).fit(X, y)
    losses = exhaustive_losses(X, y, seed)
    assert losses[head.C_] < min(losses.values()) + 3e-4  # it ranks with a loose tolerance
    for C, found in head.cv_log_loss_.items():
        assert found == pytest.approx(losses[C], abs=0.02)


def slow_held_out_logits(X, y, C, seed, folds=5):
    """Logits of each row by a model of the other folds, standardised by them, without rotation."""
    splitter = StratifiedKFold(folds, shuffle=True, random_state=child_seed(seed, "folds"))
    model = make_pipeline(Standardiser(), LogisticRegression(C=C, tol=1e-7, max_iter=5000))
    return two_columns(cross_val_predict(model, X, y, cv=splitter, method="decision_function"))


@pytest.mark.parametrize(("rows", "columns", "classes"), [(60, 20, 2), (100, 10, 3), (40, 80, 2), (90, 120, 3)])
@pytest.mark.parametrize("C", [None, 0.001, 0.3])
def test_temperature_is_that_of_logits_held_out(rows, columns, classes, C):
    X, y = sample(rows + 50, columns, classes)
    head = LogisticRegressionHead(C, random_state=3).fit(X[:rows], y[:rows])
    assert C in (None, head.C_)
    held_out = slow_held_out_logits(X[:rows], y[:rows], head.C_, 3)
    assert head.temperature_ == pytest.approx(useful_temperature(held_out, y[:rows]), rel=0.06)  # folds stop at 1e-3
    plain = LogisticRegressionHead(head.C_, calibrate=False).fit(X[:rows], y[:rows])
    assert plain.temperature_ == 1
    logits = two_columns(plain.decision_function(X[rows:]))
    prediction = head.predict_uncertainty(X[rows:])
    np.testing.assert_allclose(prediction.logits, logits / head.temperature_, atol=1e-9)
    np.testing.assert_allclose(prediction.probabilities, softmax(logits / head.temperature_, axis=1), atol=1e-9)
    np.testing.assert_array_equal(head.predict_proba(X[rows:]), prediction.probabilities)
    np.testing.assert_array_equal(head.predict(X[rows:]), plain.predict(X[rows:]))
    np.testing.assert_array_equal(prediction.labels, head.predict(X[rows:]))
    assert prediction.classes is head.classes_


def test_a_model_that_is_too_sure_gets_a_temperature_that_helps_on_new_rows():
    X, y = sample(600, 60, 3)
    sure = LogisticRegressionHead(100.0, calibrate=False).fit(X[:150], y[:150])
    calibrated = LogisticRegressionHead(100.0, random_state=0).fit(X[:150], y[:150])
    assert calibrated.temperature_ > 2
    assert calibrated.cv_log_loss_ == {}
    assert log_loss(y[150:], calibrated.predict_proba(X[150:])) < 0.7 * log_loss(y[150:], sure.predict_proba(X[150:]))


def test_a_temperature_that_gains_nothing_stays_one():
    random = np.random.default_rng(0)
    codes = np.arange(1000) % 2
    X = random.normal(size=(1000, 2)) + codes[:, None] * [1, 0]
    head = LogisticRegressionHead(1.0, random_state=0).fit(X, codes)  # the true model, many rows
    assert head.temperature_ == 1
    assert fit_temperature(slow_held_out_logits(X, codes, 1.0, 0), codes) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("columns", [10, 200], ids=["tall", "wide"])
def test_work_is_what_the_fit_was_done_with(columns, classes):
    X, y = sample(60, columns, classes)
    head = LogisticRegressionHead(random_state=0)
    work = head.fit_folds(X, np.array(["c", "a", "b"])[y])
    assert head.temperature_ == 1
    np.testing.assert_array_equal(head.classes_[work.codes], np.array(["c", "a", "b"])[y])
    assert (work.standard.basis is None) == (columns == 10)
    logits = two_columns(work.standard.inside(work.X) @ work.coef.T + head.intercept_)
    np.testing.assert_allclose(logits, two_columns(head.decision_function(X)), atol=1e-9)
    assert len(work.folds) == 5
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.held_out for fold in work.folds])), np.arange(60))
    for fold in work.folds:
        np.testing.assert_array_equal(np.setdiff1d(np.arange(60), fold.held_out), fold.train)
        logits = fold.standard.inside(X[fold.held_out]) @ fold.coef.T + fold.intercept
        np.testing.assert_allclose(fold.logits, logits, atol=1e-12)
        chances, true = softmax(two_columns(logits), axis=1), work.codes[fold.held_out]
        assert fold.log_loss(work.codes) == pytest.approx(log_loss(true, chances, labels=range(classes)))
    assert np.mean([fold.log_loss(work.codes) for fold in work.folds]) == pytest.approx(head.cv_log_loss_[head.C_])


@pytest.mark.parametrize("columns", [10, 200], ids=["tall", "wide"])
def test_a_row_that_is_held_out_is_not_in_what_its_fold_learned(columns):
    X, y = sample(60, columns, 2)
    before = LogisticRegressionHead(0.1, random_state=0).fit_folds(X, y).folds
    changed = X.copy()
    changed[before[2].held_out] *= 50  # of the third fold alone
    after = LogisticRegressionHead(0.1, random_state=0).fit_folds(changed, y).folds
    np.testing.assert_array_equal(after[2].standard.scale, before[2].standard.scale)
    np.testing.assert_array_equal(after[2].coef, before[2].coef)
    assert not np.allclose(after[0].standard.scale, before[0].standard.scale)


def test_with_three_rows_a_class_columns_that_rarely_fire_do_not_decide():
    random = np.random.default_rng(0)
    y = np.arange(30 + 300) % 10
    centres = random.normal(size=(10, 400))
    X = np.maximum(centres[y] + 2 * random.normal(size=(330, 400)) - np.linspace(0, 8, 400), 0)
    losses = [log_loss(y[30:], model.fit(X[:30], y[:30]).predict_proba(X[30:])) for model in (
        LogisticRegressionHead(random_state=0), make_pipeline(StandardScaler(), LogisticRegression(C=0.1)))]
    assert losses[0] < min(losses[1] - 0.1, np.log(10))


def test_without_calibration_a_given_C_is_not_cross_validated():
    X, y = sample(60, 10, 2)
    assert LogisticRegressionHead(1.0, calibrate=False).fit_folds(X, y).folds == []
    assert len(LogisticRegressionHead(1.0).fit_folds(X, y).folds) == 5
    assert len(LogisticRegressionHead(calibrate=False).fit_folds(X, y).folds) == 5
    chosen = [LogisticRegressionHead(calibrate=calibrate, random_state=0).fit(X, y) for calibrate in (False, True)]
    assert chosen[0].C_ == chosen[1].C_
    np.testing.assert_array_equal(chosen[0].coef_, chosen[1].coef_)
    assert chosen[0].temperature_ == 1


def test_digits_are_learned():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))  # they come by writers
    X, y = X[order], y[order]
    head = LogisticRegressionHead(random_state=0).fit(X[:500], y[:500])
    assert head.score(X[500:], y[500:]) > 0.93
    np.testing.assert_allclose(head.predict_proba(X).sum(axis=1), 1)


def test_predictions_agree_with_each_other():
    for classes in (2, 3):
        X, y = sample(80, 5, classes)
        head = LogisticRegressionHead(1.0).fit(X, y)
        chances, logits = head.predict_proba(X), head.decision_function(X)
        np.testing.assert_array_equal(head.predict(X), head.classes_[chances.argmax(axis=1)])
        if classes == 2:
            np.testing.assert_allclose(chances[:, 1], 1 / (1 + np.exp(-logits)), rtol=1e-10)
        else:
            np.testing.assert_allclose(np.log(chances[:, 0] / chances[:, 1]), logits[:, 0] - logits[:, 1], atol=1e-10)


def test_probabilities_far_from_the_data_stay_probabilities():
    X, y = sample(80, 5, 3)
    chances = LogisticRegressionHead(1.0).fit(X, y).predict_proba(X * 1e9)
    assert np.isfinite(chances).all()
    np.testing.assert_allclose(chances.sum(axis=1), 1)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8, -3.7e-9])
def test_constant_features_change_nothing(value):
    X, y = sample(60, 6, 2)
    constant = np.full((60, 3), value)
    plain = LogisticRegressionHead(random_state=0).fit(X, y)
    padded = LogisticRegressionHead(random_state=0).fit(np.hstack([X, constant]), y)
    np.testing.assert_allclose(padded.predict_proba(np.hstack([X, constant])), plain.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(padded.coef_[:, 6:], 0, atol=1e-12)


@pytest.mark.parametrize("shape", [(20, 4), (6, 30)], ids=["tall", "wide"])
def test_nothing_but_constant_features_gives_the_classes_shares(shape):
    X, y = np.ones(shape), np.arange(shape[0]) % 2
    np.testing.assert_allclose(LogisticRegressionHead(random_state=0).fit(X, y).predict_proba(X), 0.5, atol=1e-6)


@pytest.mark.parametrize("columns", [10, 200], ids=["tall", "wide"])
def test_scales_of_features_do_not_matter(columns):
    X, y = sample(60, columns, 2)
    scales = np.where(np.arange(columns) % 2, 1e6, 1e-6)
    plain = LogisticRegressionHead(random_state=0, tol=1e-8).fit(X, y)
    scaled = LogisticRegressionHead(random_state=0, tol=1e-8).fit(X * scales, y)
    assert scaled.C_ == plain.C_
    np.testing.assert_allclose(scaled.predict_proba(X * scales), plain.predict_proba(X), atol=0.02)  # alike, columns inform


def test_one_class_with_several_rows_leaves_C_at_its_default():
    X, y = sample(30, 5, 2)
    y[:] = 0
    y[7] = 1
    head = LogisticRegressionHead().fit(X, y)
    assert head.C_ == 0.01
    assert head.cv_log_loss_ == {}
    assert head.temperature_ == 1
    assert LogisticRegressionHead(2.0).fit(X, y).C_ == 2
    assert head.classes_.tolist() == [0, 1]


def test_a_class_with_two_rows_is_cross_validated_in_two_folds():
    X, y = sample(40, 5, 2)
    y[:] = 0
    y[[3, 9]] = 1
    head = LogisticRegressionHead(random_state=0).fit(X, y)
    reference = exhaustive_losses(X, y, 0, folds=2)
    best = min(reference, key=reference.__getitem__)
    assert best == head.C_


@pytest.mark.parametrize("names", [["bee", "wasp", "hornet"], [7, 3, 100], [True, False, True]])
def test_labels_of_any_type(names):
    X, codes = sample(90, 8, 3)
    head = LogisticRegressionHead(random_state=0).fit(X, np.array(names)[codes])
    assert head.classes_.tolist() == sorted(set(names))
    assert set(head.predict(X).tolist()) <= set(names)
    assert head.score(X, np.array(names)[codes]) > 0.7


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    X, y = sample(30, 5, 2)
    head = LogisticRegressionHead(1.0).fit(X, y)
    X[3, 2] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        LogisticRegressionHead().fit(X, y)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        head.predict(X)


def test_a_single_class_is_refused_by_name():
    with pytest.raises(DataError, match=r"needs at least two classes; the labels hold one class: .*bee"):
        LogisticRegressionHead().fit(np.random.default_rng(0).normal(size=(5, 2)), ["bee"] * 5)


@pytest.mark.parametrize(("parameter", "value", "message"), [
    ("C", 0, "C must be a positive number"), ("C", -1.0, "C must be a positive number"), ("C", "1", "C must be a positive"),
    ("C", float("nan"), "C must be a positive number"), ("folds", 1, "folds must be an integer of at least 2"),
    ("folds", 2.5, "folds must be an integer"), ("tol", 0, "tol must be a positive number"),
    ("max_iter", 0, "max_iter must be an integer of at least 1"), ("random_state", "seed", "random_state must be None, an"),
    ("random_state", -1, "random_state must be None, an integer of at least 0")])
def test_wrong_parameters_are_named(parameter, value, message):
    X, y = sample(30, 5, 2)
    with pytest.raises(ParameterError, match=f"LogisticRegressionHead: {message}"):
        LogisticRegressionHead(**{parameter: value}).fit(X, y)


@pytest.mark.parametrize("columns", [10, 120])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_same_random_state_gives_the_same_bits(columns, n_jobs):
    X, y = sample(60, columns, 3)
    first, second = (LogisticRegressionHead(random_state=5, n_jobs=jobs).fit(X, y) for jobs in (None, n_jobs))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert first.cv_log_loss_ == second.cv_log_loss_


def test_another_random_state_folds_otherwise():
    X, y = sample(60, 10, 3)
    losses = [LogisticRegressionHead(random_state=seed).fit(X, y).cv_log_loss_[GRID[0]] for seed in (0, 1)]
    assert losses[0] != losses[1]


def test_class_weights_go_to_the_classes_they_name():
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(60, 3)), np.array(["b", "a"] * 30)
    heavy_a = LogisticRegressionHead(0.1, class_weight={"a": 50, "b": 1}, calibrate=False).fit(features, labels)
    assert heavy_a.predict_proba(features)[:, 0].min() > 0.8
    numbers = LogisticRegressionHead(0.1, class_weight={1: 50}, calibrate=False).fit(features, np.where(labels == "a", 1, 2))
    np.testing.assert_allclose(numbers.predict_proba(features), heavy_a.predict_proba(features), atol=1e-6)
    with pytest.raises(ParameterError, match=r"class_weight must be a dict of the classes \['a', 'b'\]; got 'c'"):
        LogisticRegressionHead(class_weight={"c": 2}).fit(features, labels)
    with pytest.raises(ParameterError, match="class_weight must be one of None, 'balanced'; got 'foo'"):
        LogisticRegressionHead(class_weight="foo").fit(features, labels)


def test_a_row_alone_in_its_class_does_not_end_the_choice_for_the_others():
    X, y = load_digits(return_X_y=True)
    rows = np.append(np.flatnonzero(y < 9)[:200], np.flatnonzero(y == 9)[0])
    head = LogisticRegressionHead(random_state=0).fit(X[rows], y[rows])
    without = LogisticRegressionHead(random_state=0).fit(X[rows[:-1]], y[rows[:-1]])
    assert head.cv_log_loss_[head.C_] == min(head.cv_log_loss_.values())
    assert head.C_ == without.C_ > 0.01
    assert head.classes_.tolist() == list(range(10))
    assert head.score(X[y < 9][200:], y[y < 9][200:]) > 0.85


def test_class_weights_count_where_C_is_chosen():
    X, y = make_classification(300, 20, n_informative=5, weights=[0.94], class_sep=0.8, random_state=3)
    head = LogisticRegressionHead(class_weight="balanced", random_state=0).fit(X, y)
    work = LogisticRegressionHead(head.C_, class_weight="balanced", random_state=0).fit_folds(X, y)
    weights = 1 / np.bincount(y)[y]
    expected = np.mean([log_loss(y[fold.held_out], softmax(two_columns(fold.logits), axis=1),
                                 sample_weight=weights[fold.held_out]) for fold in work.folds])
    assert head.cv_log_loss_[head.C_] == pytest.approx(expected, rel=1e-2)
    assert head.C_ != LogisticRegressionHead(random_state=0).fit(X, y).C_
