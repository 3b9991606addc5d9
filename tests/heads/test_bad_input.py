"""What users hand over, to every head: too few rows, too many classes, features of all kinds, and mistakes."""

import numpy as np
import pytest
import torch
from problems import clusters

from xfer2._mxnet import mx
from xfer2.heads.bayesian_nn import BayesianNeuralNetworkHead
from xfer2.heads.gaussian_process import GaussianProcessHead
from xfer2.heads.laplace import LaplaceHead
from xfer2.heads.logistic_regression import LogisticRegressionHead
from xfer2.heads.svm import SvmHead

HEADS = {
    "logistic regression": (LogisticRegressionHead, {}),
    "svm": (SvmHead, {}),
    "gaussian process": (GaussianProcessHead, {"num_samples": 16, "max_function_evaluations": 10}),
    "variational gaussian process": (GaussianProcessHead, {"num_samples": 16, "max_function_evaluations": 20,
                                                           "max_exact_rows": 1}),
    "laplace": (LaplaceHead, {"num_samples": 16}),
    "bayesian network": (BayesianNeuralNetworkHead, {"num_samples": 16, "num_epochs": 15}),
}


@pytest.fixture(params=HEADS)
def make(request):
    """Makes the head with small settings; more settings may be given."""
    kind, options = HEADS[request.param]
    return lambda **more: kind(**{"random_state": 0, **options, **more})


def answers(head, X, classes):
    """Probabilities of a fitted head, checked: finite, one column a class, rows that sum to 1, and labels that agree."""
    chances = head.predict_proba(X)
    assert chances.shape == (len(X), classes)
    assert np.isfinite(chances).all()
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    np.testing.assert_array_equal(head.predict(X), head.classes_[chances.argmax(axis=1)])
    return chances


@pytest.mark.parametrize("columns", [4, 60], ids=["tall", "wide"])
def test_every_class_has_one_row(make, columns):
    X = np.random.default_rng(0).normal(size=(30, columns))
    head = make().fit(X, np.arange(30))
    answers(head, X, 30)
    assert head.temperature_ == 1  # nothing could be held out


def test_two_rows(make):
    X = np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 0.0]])
    head = make().fit(X, ["a", "b"])
    chances = answers(head, X, 2)
    assert chances[0, 0] > chances[1, 0]


def test_a_class_with_one_row(make):
    X, codes = clusters(40, 5, 3)
    codes[codes == 2] = 0
    codes[0] = 2
    head = make().fit(X, codes)
    answers(head, X, 3)
    assert head.score(X, codes) > 0.8


@pytest.mark.parametrize("columns", [3, 60], ids=["tall", "wide"])
def test_nothing_but_constant_features_gives_the_classes_shares(make, columns):
    X, codes = np.full((40, columns), 7.3), np.arange(40) % 2
    np.testing.assert_allclose(answers(make().fit(X, codes), X, 2), 0.5, atol=0.1)


def test_constant_features_beside_others_do_no_harm(make):
    X, codes = clusters(60, 4, 3)
    X = np.insert(X, [1, 3], [1e9, 0.1], axis=1)
    head = make().fit(X[:40], codes[:40])
    answers(head, X, 3)
    assert head.score(X[40:], codes[40:]) > 0.9


def test_scales_of_features_do_not_matter(make):
    X, codes = clusters(240, 4, 3, apart=0.8)
    scales = np.array([1e-6, 1.0, 1e3, 1e6])
    plain, scaled = make().fit(X[:80], codes[:80]), make().fit(X[:80] * scales, codes[:80])
    assert scaled.score(X[80:] * scales, codes[80:]) == pytest.approx(plain.score(X[80:], codes[80:]), abs=0.05)
    np.testing.assert_allclose(scaled.predict_proba(X * scales), plain.predict_proba(X), atol=0.1)


def test_one_feature(make):
    X = np.r_[np.linspace(-2, -1, 20), np.linspace(1, 2, 20)][:, np.newaxis]
    head = make().fit(X, np.repeat(["low", "high"], 20))
    answers(head, X, 2)
    assert head.score([[-1.6], [1.6]], ["low", "high"]) == 1


def test_rows_that_are_all_twice_there(make):
    X, codes = clusters(20, 4, 2)
    head = make().fit(np.repeat(X, 2, axis=0), np.repeat(codes, 2))
    answers(head, X, 2)
    assert head.score(X, codes) > 0.9


@pytest.mark.parametrize("names", [["bee", "wasp", "hornet"], [7, 3, 100]])
def test_labels_of_any_type(make, names):
    X, codes = clusters(60, 4, 3)
    labels = np.array(names)[codes]
    head = make().fit(X[:40], labels[:40])
    assert head.classes_.tolist() == sorted(names)
    assert head.predict(X).dtype == labels.dtype
    assert head.score(X[40:], labels[40:]) > 0.9


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(make, bad):
    X, codes = clusters(30, 4, 2)
    head = make().fit(X, codes)
    X[3, 2] = bad
    for use in (lambda: make().fit(X, codes), lambda: head.predict_proba(X)):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            use()


def test_another_width_at_prediction_is_refused(make):
    X, codes = clusters(30, 4, 2)
    head = make().fit(X, codes)
    for width in (3, 5):
        with pytest.raises(ValueError, match=f"X has {width} features, but {type(head).__name__} is expecting 4 features"):
            head.predict_proba(np.zeros((2, width)))


@pytest.mark.parametrize(("X", "y", "message"), [
    (np.zeros((4, 2)), [0, 1, 0], "inconsistent numbers of samples"), (np.zeros((0, 2)), [], "minimum of 1 is required"),
    (np.zeros(4), [0, 1, 0, 1], "Expected 2D array"), (np.zeros((4, 2)), [0.5, 1.5, 2.25, 0.5], "Unknown label type"),
    (np.zeros((4, 2)), ["a"] * 4, "needs at least two classes"), (np.zeros((4, 2)), [0, 1, np.nan, 1], "NaN")])
def test_mistakes_are_named(make, X, y, message):
    with pytest.raises(ValueError, match=message):
        make().fit(X, y)


def disturb():
    """Draw from every generator that something else may have used."""
    np.random.random(5)  # noqa: NPY002
    torch.rand(3)
    mx.nd.random.uniform(shape=(4,)).asnumpy()


def test_same_seed_gives_the_same_bits_whatever_ran_before(make):
    X, codes = clusters(60, 5, 3, apart=0.8)
    first = make(random_state=3).fit(X, codes).predict_proba(X)
    disturb()
    head = make(random_state=3).fit(X, codes)
    disturb()
    np.testing.assert_array_equal(head.predict_proba(X), first)
    np.testing.assert_array_equal(head.predict_proba(X), first)  # and asking again does not draw again


def test_a_fit_draws_from_no_global_generator(make):
    X, codes = clusters(40, 5, 3)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    mx.random.seed(5)
    expected = np.random.random(2), torch.rand(2), mx.nd.random.uniform(shape=(2,)).asnumpy()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    mx.random.seed(5)
    make(random_state=3).fit(X, codes).predict_proba(X)
    np.testing.assert_array_equal(np.random.random(2), expected[0])  # noqa: NPY002
    np.testing.assert_array_equal(torch.rand(2), expected[1])
    np.testing.assert_array_equal(mx.nd.random.uniform(shape=(2,)).asnumpy(), expected[2])


def test_random_states_are_accepted(make):
    X, codes = clusters(40, 5, 3, apart=0.8)
    first, second = (make(random_state=np.random.RandomState(1)).fit(X, codes).predict_proba(X)
                     for _ in range(2))
    np.testing.assert_array_equal(first, second)
    answers(make(random_state=None).fit(X, codes), X, 3)


FEWER = {"svm": {"C": 3.0, "calibrate": False}, "laplace": {"C": 1.0}, "bayesian network": {"calibrate": False}}  # fits


@pytest.mark.parametrize("name", ["logistic regression", "svm", "gaussian process", "laplace", "bayesian network"])
def test_a_thousand_classes_with_two_rows_each(name):
    X, codes = clusters(2000, 8, 1000, apart=10.0)
    kind, options = HEADS[name]
    head = kind(**{"random_state": 0, **options, **FEWER.get(name, {})}).fit(X, codes)
    predicted = head.predict(X[:100])
    assert (predicted == codes[:100]).mean() > 0.7
