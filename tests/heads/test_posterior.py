"""What heads with a posterior promise alike."""

import numpy as np
import pytest
from problems import clusters

from xfer2.heads import _posterior
from xfer2.heads._posterior import normal_draws
from xfer2.heads.bayesian_nn import BayesianNeuralNetworkHead
from xfer2.heads.gaussian_process import GaussianProcessHead
from xfer2.heads.laplace import LaplaceHead

HEADS = {
    "gp": GaussianProcessHead(num_samples=64, max_function_evaluations=10, random_state=0),
    "sparse gp": GaussianProcessHead(num_samples=64, max_function_evaluations=10, max_exact_rows=50, num_inducing=20,
                                     random_state=0),
    "bnn": BayesianNeuralNetworkHead(num_samples=64, num_epochs=60, random_state=0),
    "laplace": LaplaceHead(num_samples=64, random_state=0),
}
X, CODES = clusters(120, 5, 3, apart=1.0)
NAMES = np.array(["ant", "bee", "wasp"])[CODES]


@pytest.fixture(scope="module", params=HEADS)
def fitted(request):
    return HEADS[request.param].fit(X, NAMES)


def test_aleatoric_and_epistemic_are_the_parts_of_the_entropy(fitted):
    prediction = fitted.predict_uncertainty(X)
    np.testing.assert_allclose(prediction.aleatoric + prediction.epistemic, prediction.entropy, atol=1e-6)
    assert (prediction.aleatoric >= 0).all()
    assert (prediction.epistemic > -1e-12).all()
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1)
    assert prediction.deviation.min() >= 0
    assert prediction.deviation.max() <= 0.5
    assert prediction.logits.shape == (120, 3)
    assert prediction.classes.tolist() == ["ant", "bee", "wasp"]


def test_a_row_is_predicted_alike_whatever_rows_it_comes_with(fitted, monkeypatch):
    together = fitted.predict_uncertainty(X)
    alone = fitted.predict_uncertainty(X[7:8])
    np.testing.assert_allclose(alone.probabilities[0], together.probabilities[7], atol=1e-5)
    monkeypatch.setattr(_posterior, "_VALUES_AT_ONCE", 64 * 3 * 13)
    parts = fitted.predict_uncertainty(X)
    np.testing.assert_allclose(parts.probabilities, together.probabilities, atol=1e-5)
    np.testing.assert_allclose(parts.epistemic, together.epistemic, atol=1e-4)


def test_it_learns_and_doubts_what_is_far_from_all_it_saw(fitted):
    assert fitted.score(X, NAMES) > 0.7
    sure = fitted.predict_uncertainty(X).epistemic.mean()
    far = X.mean(axis=0) + np.random.default_rng(0).normal(size=(50, 5)) * 3
    assert fitted.predict_uncertainty(far).epistemic.mean() > sure


def test_draws_come_in_pairs_that_cancel():
    draws = normal_draws(7, 4, 0)
    assert draws.shape == (7, 4)
    np.testing.assert_array_equal(draws[0], -draws[1])
    assert normal_draws(20_000, 2, 1).std() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(draws, normal_draws(7, 4, 0))
