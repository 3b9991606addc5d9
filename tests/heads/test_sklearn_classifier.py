"""Any scikit-learn classifier as a head: its own labels, and probabilities of a temperature that rows held out chose."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from xfer2._random import child_seed
from xfer2.exceptions import DataError, ParameterError
from xfer2.heads._features import held_out_parts, two_columns
from xfer2.heads.sklearn_classifier import SklearnHead
from xfer2.uncertainty.calibration import fit_temperature, useful_temperature

X, Y = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(X))  # as they come, later rows are other people's
X, Y = X[ORDER], Y[ORDER]
TRAIN, TEST = slice(0, 300), slice(300, 900)
FOREST = RandomForestClassifier(20, random_state=0)
MARGINS = make_pipeline(StandardScaler(), LinearSVC(random_state=0))
NAMES = np.array(["nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


@parametrize_with_checks([SklearnHead(LogisticRegression())])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def held_out_logits(estimator, codes, seed, logits):
    """Of estimators that were each fitted on the rest, one part after the other, and the true classes."""
    parts = held_out_parts(codes, child_seed(seed, "parts"))
    fitted = [clone(estimator).fit(X[TRAIN][kept], codes[kept]) for kept, _ in parts]
    found = [logits(model, X[TRAIN][held_out]) for model, (_, held_out) in zip(fitted, parts, strict=True)]
    return np.concatenate(found), codes[np.concatenate([held_out for _, held_out in parts])]


@pytest.mark.parametrize("classes", [2, 10])
def test_margins_become_probabilities(classes):
    codes = Y[TRAIN] % classes
    head = SklearnHead(MARGINS, random_state=1).fit(X[TRAIN], codes)
    margins = two_columns(clone(MARGINS).fit(X[TRAIN], codes).decision_function(X[TEST]))
    expected = fit_temperature(*held_out_logits(MARGINS, codes, 1,
                                                lambda model, rows: two_columns(model.decision_function(rows))))
    assert head.temperature_ == pytest.approx(expected)
    assert head.temperature_ != 1
    prediction = head.predict_uncertainty(X[TEST])
    np.testing.assert_allclose(prediction.logits, margins / expected)
    np.testing.assert_allclose(prediction.probabilities, softmax(margins / expected, axis=1))
    np.testing.assert_array_equal(prediction.labels, head.predict(X[TEST]))
    assert log_loss(Y[TEST] % classes, prediction.probabilities) < log_loss(Y[TEST] % classes, softmax(margins, axis=1))


def test_margins_without_calibration_are_logits():
    head = SklearnHead(MARGINS, calibrate=False).fit(X[TRAIN], Y[TRAIN])
    assert head.temperature_ == 1
    np.testing.assert_allclose(head.predict_proba(X[TEST]), softmax(head.estimator_.decision_function(X[TEST]), axis=1))


def test_probabilities_of_zero_have_a_finite_logarithm():
    head = SklearnHead(FOREST, random_state=0).fit(X[TRAIN], Y[TRAIN])
    plain = head.estimator_.predict_proba(X[TEST])
    assert (plain == 0).any()
    logits = np.log(np.maximum(plain, 1e-6))
    expected = useful_temperature(*held_out_logits(FOREST, Y[TRAIN], 0, lambda model, rows: np.log(
        np.maximum(model.predict_proba(rows), 1e-6))))
    assert head.temperature_ == pytest.approx(expected)
    assert head.temperature_ < 1  # votes of trees are not sure enough
    prediction = head.predict_uncertainty(X[TEST])
    np.testing.assert_allclose(prediction.probabilities, softmax(logits / expected, axis=1))
    np.testing.assert_array_equal(head.predict(X[TEST]), head.estimator_.predict(X[TEST]))
    assert log_loss(Y[TEST], prediction.probabilities) < log_loss(Y[TEST], plain)


def test_naive_bayes_is_too_sure_and_is_mended():
    head = SklearnHead(GaussianNB(), random_state=0).fit(X[TRAIN], Y[TRAIN])
    assert head.temperature_ > 2
    plain = head.estimator_.predict_proba(X[TEST])
    assert log_loss(Y[TEST], head.predict_proba(X[TEST])) < 0.5 * log_loss(Y[TEST], plain)
    np.testing.assert_array_equal(head.predict(X[TEST]), head.estimator_.predict(X[TEST]))


@pytest.mark.parametrize("estimator", [GaussianNB(), FOREST, KNeighborsClassifier()], ids=["bayes", "forest", "neighbours"])
def test_without_calibration_probabilities_are_the_classifiers_own(estimator):
    head = SklearnHead(estimator, calibrate=False).fit(X[TRAIN], Y[TRAIN])
    own = clone(estimator).fit(X[TRAIN], Y[TRAIN])
    assert head.temperature_ == 1
    np.testing.assert_array_equal(head.predict_proba(X[TEST]), own.predict_proba(X[TEST]))
    np.testing.assert_array_equal(head.predict(X[TEST]), own.predict(X[TEST]))
    assert not hasattr(estimator, "classes_")  # a clone was fitted


def test_a_temperature_that_gains_nothing_leaves_the_classifiers_own():
    random = np.random.default_rng(0)
    rows, codes = random.normal(size=(400, 2)), np.arange(400) % 2
    rows[:, 0] += codes
    head = SklearnHead(LogisticRegression(), random_state=0).fit(rows, codes)  # the true model, many rows
    assert head.temperature_ == 1
    np.testing.assert_array_equal(head.predict_proba(rows), head.estimator_.predict_proba(rows))


def test_calibrated_probabilities_are_never_zero_though_no_temperature_helps():
    random = np.random.default_rng(0)
    rows, codes = random.normal(size=(60, 2)), np.arange(60) % 2
    head = SklearnHead(KNeighborsClassifier(2), random_state=0)
    head.fit(rows + 9 * codes[:, None], codes)
    head.temperature_ = 1.0
    own, found = head.estimator_.predict_proba(rows), head.predict_proba(rows)
    assert (own == 0).any()
    assert found.min() == pytest.approx(1e-6, rel=1e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_array_equal(found[(own > 0).all(axis=1)], own[(own > 0).all(axis=1)])


@pytest.mark.parametrize("estimator", [GaussianNB(), MARGINS], ids=["probabilities", "margins"])
def test_labels_are_strings(estimator):
    head = SklearnHead(estimator, random_state=0).fit(X[TRAIN], NAMES[Y[TRAIN]])
    assert head.classes_.tolist() == sorted(NAMES)
    assert head.score(X[TEST], NAMES[Y[TEST]]) > 0.7
    prediction = head.predict_uncertainty(X[TEST])
    assert prediction.classes is head.classes_
    np.testing.assert_array_equal(prediction.labels, head.predict(X[TEST]))


def test_two_classes_have_two_columns():
    head = SklearnHead(GaussianNB(), random_state=0).fit(X[TRAIN], np.where(Y[TRAIN] < 5, "low", "high"))
    prediction = head.predict_uncertainty(X[TEST])
    assert prediction.probabilities.shape == (600, 2)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(prediction.labels, head.predict(X[TEST]))


@pytest.mark.parametrize("estimator", [GaussianNB(), MARGINS], ids=["probabilities", "margins"])
def test_a_class_with_one_row_is_borne(estimator):
    labels = np.where(Y[:60] == 3, 4, Y[:60])
    labels[7] = 3
    head = SklearnHead(estimator, random_state=0).fit(X[:60], labels)
    assert head.predict_proba(X[TEST]).shape == (600, 10)
    np.testing.assert_allclose(head.predict_proba(X[TEST]).sum(axis=1), 1)
    alone = SklearnHead(estimator, random_state=0).fit(X[:6], np.arange(6))
    assert alone.temperature_ == 1


def test_few_rows_a_class_are_no_warning():
    head = SklearnHead(LogisticRegression(max_iter=1000), random_state=0).fit(X[:30] / 16, np.arange(30) // 2)
    np.testing.assert_allclose(head.predict_proba(X[TEST] / 16).sum(axis=1), 1)


def test_same_random_state_same_bits():
    first, second, other = (SklearnHead(GaussianNB(), random_state=seed).fit(X[TRAIN], Y[TRAIN]) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.predict_proba(X[TEST]), second.predict_proba(X[TEST]))
    assert first.temperature_ != other.temperature_


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="SklearnHead needs at least two classes"):
        SklearnHead(GaussianNB()).fit(X[:5], np.zeros(5))
    with pytest.raises(ParameterError, match="SklearnHead: random_state must be"):
        SklearnHead(GaussianNB(), random_state="seed").fit(X[TRAIN], Y[TRAIN])
    with pytest.raises(ValueError, match="NaN"):
        SklearnHead(GaussianNB()).fit([[0.0], [np.nan]], [0, 1])
    for answer in ("predict", "predict_proba", "predict_uncertainty"):
        with pytest.raises(NotFittedError):
            getattr(SklearnHead(GaussianNB()), answer)(X)


def test_margins_of_pairs_of_classes_are_refused():
    for classes in (3, 4):
        rows = np.flatnonzero(classes > Y)[:120]
        pairs = make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo"))
        with pytest.raises(ParameterError, match=r"svc__decision_function_shape of shape .*Set decision_"):
            SklearnHead(pairs).fit(X[rows], Y[rows])
    rows = np.flatnonzero(Y < 2)[:80]
    head = SklearnHead(SVC(decision_function_shape="ovo")).fit(X[rows], Y[rows])
    assert (head.predict_proba(X[rows]).argmax(axis=1) == Y[rows]).mean() > 0.95


def test_a_classifier_that_a_part_is_too_small_for_is_left_as_it_is_with_a_warning():
    rows = np.concatenate([np.flatnonzero(label == Y)[:5] for label in range(3)])
    folded = CalibratedClassifierCV(GaussianNB(), cv=5)
    with pytest.warns(RuntimeWarning, match="not calibrated, as the classifier cannot be fitted to a part of the 15 rows"):
        head = SklearnHead(folded).fit(X[rows], Y[rows])
    np.testing.assert_array_equal(head.predict_proba(X[TEST]), clone(folded).fit(X[rows], Y[rows]).predict_proba(X[TEST]))


class Reversed(LogisticRegression):
    """A classifier whose columns are in another order than the sorted labels."""

    def fit(self, X, y):
        super().fit(X, y)
        self.classes_ = self.classes_[::-1]
        return self

    def predict_proba(self, X):
        return softmax(X @ self.coef_.T + self.intercept_, axis=1)[:, ::-1]


@pytest.mark.parametrize("calibrate", [True, False])
def test_columns_follow_the_classes_whatever_order_the_classifier_has(calibrate):
    plain, other = (SklearnHead(kind(max_iter=2000), calibrate=calibrate, random_state=0).fit(X[TRAIN] / 16, Y[TRAIN])
                    for kind in (LogisticRegression, Reversed))
    np.testing.assert_allclose(other.predict_proba(X[TEST] / 16), plain.predict_proba(X[TEST] / 16), atol=1e-6)
    assert other.temperature_ == pytest.approx(plain.temperature_)


def test_a_classifier_that_knows_other_classes_is_refused():
    head = SklearnHead(FOREST, calibrate=False).fit(X[TRAIN], Y[TRAIN])
    head.estimator_.classes_ = np.arange(1, 11)
    with pytest.raises(ParameterError, match="a classifier whose classes_ are the labels"):
        head.predict_proba(X[TEST])


def test_logarithms_of_probabilities_are_no_logits():
    assert SklearnHead(GaussianNB(), random_state=0).fit(X[TRAIN], Y[TRAIN]).predict_uncertainty(X[TEST]).logits is None
    margins = SklearnHead(LinearSVC(), random_state=0).fit(X[TRAIN] / 16, Y[TRAIN])
    assert margins.predict_uncertainty(X[TEST] / 16).logits.shape == (600, 10)


class FirstSeen(LogisticRegression):
    """A classifier whose columns are in the order in which the labels were seen."""

    def fit(self, X, y):
        self.seen_ = list(dict.fromkeys(np.asarray(y).tolist()))
        return super().fit(X, y)

    @property
    def classes_(self):
        return np.array(self.seen_)

    @classes_.setter
    def classes_(self, value):
        self.sorted_ = value

    def predict_proba(self, X):
        chances = softmax(X @ self.coef_.T + self.intercept_, axis=1)
        return chances[:, [self.sorted_.tolist().index(name) for name in self.seen_]]


def test_the_temperature_is_of_columns_in_the_order_of_each_fit():
    plain, other = (SklearnHead(kind(max_iter=2000, C=100.0), random_state=0).fit(X[TRAIN] / 16, Y[TRAIN])
                    for kind in (LogisticRegression, FirstSeen))
    assert other.temperature_ == pytest.approx(plain.temperature_, rel=1e-4)


def test_a_classifier_that_calls_classes_by_their_number_has_them_in_order():
    head = SklearnHead(GaussianNB(), calibrate=False).fit(X[TRAIN], NAMES[Y[TRAIN]])
    before = head.predict_proba(X[TEST])
    head.estimator_.classes_ = np.arange(10)
    np.testing.assert_array_equal(head.predict_proba(X[TEST]), before)
