"""The Bayesian network: its layers against NumPy, what it learns, and what it keeps of the prior."""

import warnings

import numpy as np
import pytest
from problems import clusters, interrupt_after
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from xfer2._mxnet import mx
from xfer2.exceptions import DataError, ParameterError
from xfer2.heads import _posterior
from xfer2.heads._mean_field import MeanField
from xfer2.heads.bayesian_nn import BayesianNeuralNetworkHead
from xfer2.heads.laplace import LaplaceHead
from xfer2.uncertainty.calibration import negative_log_likelihood

DIGITS, NUMERALS = load_digits(return_X_y=True)
QUICK = {"num_epochs": 40, "num_samples": 32, "random_state": 0}


@parametrize_with_checks([BayesianNeuralNetworkHead(num_epochs=30, num_samples=16)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def deep():
    X, codes = clusters(60, 7, 3, apart=1.0)
    return X, codes, BayesianNeuralNetworkHead(num_layers=2, n_hidden=5, learning_rate=0.02, **QUICK).fit(X, codes)


def reference(layers, x, outside, draws, priors):
    """The network in NumPy: x (n, d), one draw (units,) a layer, shared by the rows."""
    for number, (layer, draw) in enumerate(zip(layers, draws, strict=True)):
        x = np.maximum(x, 0) if number else x
        extra = priors[0] ** 2 * outside[:, np.newaxis] if number == 0 else 0
        spread = (x**2) @ np.exp(2 * layer["log_deviation"].astype(float)).T + extra
        x = x @ layer["mean"].T + layer["bias"] + np.sqrt(spread) * draw
    return x


@pytest.mark.parametrize("scale", [0.0, 1.0], ids=["without draws, a plain network", "with draws"])
def test_the_network_computes_what_numpy_does(deep, scale):
    _, _, head = deep
    random = np.random.default_rng(0)
    widths = [len(layer["bias"]) for layer in head.posterior_.layers]
    x, outside = random.normal(size=(4, head.axes_.shape[0])), random.random(4)
    draws = [scale * random.normal(size=(3, width)) for width in widths]
    found = head.posterior_.samples(x, outside, draws)
    for number in range(3):
        expected = reference(head.posterior_.layers, x, outside, [draw[number] for draw in draws], head.posterior_.priors)
        np.testing.assert_allclose(found[number], expected, rtol=1e-9)


def test_the_divergence_is_that_of_gaussians(deep):
    _, _, head = deep
    network = head.posterior_.network()
    widths = [len(layer["bias"]) for layer in head.posterior_.layers]
    x = mx.nd.zeros((1, head.axes_.shape[0]))
    _, found = network(x, mx.nd.zeros((1, 1)), *(mx.nd.zeros((1, 1, width)) for width in widths))
    expected = 0.0
    for layer, prior in zip(head.posterior_.layers, head.posterior_.priors, strict=True):
        deviation, mean = np.exp(layer["log_deviation"].astype(float)), layer["mean"].astype(float)
        expected += (np.log(prior / deviation) + (deviation**2 + mean**2) / (2 * prior**2) - 0.5).sum()
    assert found.asscalar() == pytest.approx(expected, rel=1e-4)


def test_the_divergence_is_that_of_an_integral():
    random = np.random.default_rng(0)
    layer = {"mean": random.normal(size=(2, 3)), "log_deviation": random.normal(size=(2, 3)), "bias": random.normal(size=2)}
    network = MeanField([1.7], [layer]).network()
    _, found = network(mx.nd.zeros((1, 3)), mx.nd.zeros((1, 1)), mx.nd.zeros((1, 1, 2)))
    expected = 0.0
    for mean, deviation in zip(layer["mean"].ravel(), np.exp(layer["log_deviation"].ravel()), strict=True):
        grid = mean + deviation * np.linspace(-9, 9, 20_001)
        posterior, prior = norm(mean, deviation), norm(0, 1.7)
        inside = posterior.pdf(grid) * (posterior.logpdf(grid) - prior.logpdf(grid))
        expected += inside.sum() * (grid[1] - grid[0])
    assert found.asscalar() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("first", "last", "weighs"), [(0, 0, True), (199, 200, False)])
def test_the_divergence_weighs_from_the_end_of_the_warm_up(first, last, weighs):
    X, codes = clusters(60, 4, 3, apart=0.5)
    annealing = {"start_annealing": first, "end_annealing": last}
    head = BayesianNeuralNetworkHead(**annealing, calibrate=False, random_state=0).fit(X, codes)
    deviation = np.exp(head.posterior_.layers[0]["log_deviation"]).mean()
    assert deviation > 0.3 if weighs else deviation < 0.3  # without it, nothing widens the posterior


def test_wide_hidden_layers_are_predicted_in_smaller_parts(monkeypatch):
    X, codes = clusters(60, 4, 3)
    head = BayesianNeuralNetworkHead(num_layers=1, n_hidden=200, calibrate=False, num_epochs=2, num_samples=8).fit(X, codes)
    rows, plain = [], head._logit_samples
    monkeypatch.setattr(head, "_logit_samples", lambda part: (rows.append(len(part)), plain(part))[1])
    monkeypatch.setattr(_posterior, "_VALUES_AT_ONCE", 8 * 200 * 25)
    head.predict_proba(X)
    assert rows == [25, 25, 10]


def test_fit_twice_is_fit_once(deep):
    X, codes, _ = deep
    once = BayesianNeuralNetworkHead(**QUICK).fit(X, codes)
    twice = BayesianNeuralNetworkHead(**QUICK).fit(X[:30], codes[:30])
    mx.nd.random.normal(shape=(7,))
    np.random.normal(size=3)  # noqa: NPY002  what ran before must not matter
    np.testing.assert_array_equal(once.predict_proba(X), twice.fit(X, codes).predict_proba(X))


def test_directions_outside_the_rows_keep_the_prior(deep):
    _, _, head = deep
    inside = np.zeros((2, head.axes_.shape[0]))
    draws = [np.ones((1, len(layer["bias"]))) for layer in head.posterior_.layers]
    first = {**head.posterior_.layers[0]}
    single = type(head.posterior_)(head.posterior_.priors[:1], [first])
    found = single.samples(inside, np.array([0.0, 4.0]), draws[:1])[0]
    np.testing.assert_allclose(found[1] - found[0], 2 * head.posterior_.priors[0], rtol=1e-3)


def test_more_rows_narrow_the_posterior():
    X, codes = clusters(800, 6, 3, apart=0.5)
    few, many = (BayesianNeuralNetworkHead(calibrate=False, random_state=0).fit(X[:count], codes[:count])
                 for count in (40, 800))
    assert many.predict_uncertainty(X[:100]).epistemic.mean() < 0.5 * few.predict_uncertainty(X[:100]).epistemic.mean()


def test_hidden_layers_learn_what_a_line_cannot():
    random = np.random.default_rng(0)
    X = random.uniform(-1, 1, (400, 2))
    labels = np.where(X[:, 0] * X[:, 1] > 0, "same", "opposite")
    settings = {"num_epochs": 400, "learning_rate": 0.03, "random_state": 0, "calibrate": False}
    deep = BayesianNeuralNetworkHead(num_layers=1, n_hidden=30, **settings).fit(X[:300], labels[:300])
    flat = BayesianNeuralNetworkHead(**settings).fit(X[:300], labels[:300])
    assert deep.score(X[300:], labels[300:]) > 0.85
    assert flat.score(X[300:], labels[300:]) < 0.7


def test_calibration_learns_the_spread_and_lowers_the_log_loss():
    losses = []
    for calibrate in (False, True):
        head = BayesianNeuralNetworkHead(calibrate=calibrate, random_state=0).fit(DIGITS[:200], NUMERALS[:200])
        losses.append(negative_log_likelihood(NUMERALS[300:], head.predict_proba(DIGITS[300:]), head.classes_))
    assert head.spread_ < 1
    assert losses[1] < losses[0]
    assert head.score(DIGITS[300:], NUMERALS[300:]) > 0.7


def test_it_agrees_with_the_laplace_approximation_about_what_is_uncertain():
    X, codes = clusters(90, 4, 3, apart=0.7)
    test = clusters(200, 4, 3, apart=0.7)[0]
    entropies = [head.fit(X, codes).predict_uncertainty(test).entropy
                 for head in (BayesianNeuralNetworkHead(random_state=0), LaplaceHead(random_state=0))]
    assert np.corrcoef(entropies)[0, 1] > 0.6


@pytest.mark.parametrize("steps", [0, 25, 70], ids=["at once", "in the fit", "in the folds"])
def test_an_interrupted_fit_keeps_what_it_learned(monkeypatch, steps):
    X, codes = clusters(60, 7, 3)
    interrupt_after(monkeypatch, steps)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        head = BayesianNeuralNetworkHead(num_epochs=40, num_samples=32, learning_rate=0.1, random_state=0).fit(X, codes)
    said = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert said == ["BayesianNeuralNetworkHead was interrupted and keeps what it has learned so far."]
    if steps:
        assert head.score(X, codes) > 0.8
    np.testing.assert_allclose(head.predict_proba(X).sum(axis=1), 1)


def test_batches_learn_as_well():
    X, codes = clusters(200, 6, 3)
    head = BayesianNeuralNetworkHead(batch_size=64, **QUICK).fit(X, codes)
    assert head.score(X, codes) > 0.95


@pytest.mark.parametrize("parameters", [{"sigma": 0}, {"num_layers": -1}, {"n_hidden": 0}, {"num_epochs": 0},
                                        {"num_samples_mc": 1.5}, {"learning_rate": -1}, {"end_annealing": -1},
                                        {"num_samples": 0}])
def test_wrong_parameters_are_named(parameters):
    with pytest.raises(ParameterError, match=f"BayesianNeuralNetworkHead: {next(iter(parameters))} must be"):
        BayesianNeuralNetworkHead(**parameters).fit(DIGITS[:50], NUMERALS[:50])


def test_annealing_that_ends_before_it_starts_and_one_class():
    with pytest.raises(ParameterError, match="must be from start_annealing, which is 9, to num_epochs, which is 200; got 5"):
        BayesianNeuralNetworkHead(start_annealing=9, end_annealing=5).fit(DIGITS[:50], NUMERALS[:50])
    with pytest.raises(ParameterError, match="start_annealing must be below num_epochs, which is 20; got 20"):
        BayesianNeuralNetworkHead(num_epochs=20, start_annealing=20).fit(DIGITS[:50], NUMERALS[:50])
    with pytest.raises(DataError, match="at least two classes"):
        BayesianNeuralNetworkHead().fit(DIGITS[:5], np.zeros(5))
