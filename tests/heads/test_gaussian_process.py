"""Gaussian processes: the fast exact solution against dense algebra and gpytorch, the variational against the exact."""

import dataclasses

import numpy as np
import pytest
import torch
from problems import clusters, interrupt_after
from sklearn.datasets import load_digits
from sklearn.utils import shuffle
from sklearn.utils.estimator_checks import parametrize_with_checks

from xfer2.exceptions import ParameterError
from xfer2.heads import _variational_gp
from xfer2.heads._dirichlet_gp import ExactPosterior, Hyperparameters, learn, solve, squared_distances
from xfer2.heads._gpytorch import gpytorch
from xfer2.heads._posterior import normal_draws
from xfer2.heads.gaussian_process import EPSILONS, GaussianProcessHead
from xfer2.uncertainty.calibration import negative_log_likelihood

EPSILON = 0.01
QUICK = {"num_samples": 32, "max_function_evaluations": 10, "random_state": 0}
DIGITS, NUMERALS = shuffle(*load_digits(return_X_y=True), random_state=0)


@parametrize_with_checks([GaussianProcessHead(num_samples=16, max_function_evaluations=5)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@dataclasses.dataclass
class Problem:
    """25 rows of two layers (3 and 2 columns) and three classes of 16, 8 and 1 rows; hyperparameters that are no optimum."""

    layers: list
    codes: np.ndarray
    values: Hyperparameters

    def kernel(self, layers):
        pairs = zip(layers, self.layers, strict=True)
        return self.values.kernel([torch.as_tensor(squared_distances(left, right)) for left, right in pairs])

    def solution(self):
        return solve(self.kernel(self.layers), torch.as_tensor(self.codes), EPSILON, self.values.noise)


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    values = Hyperparameters(*(torch.tensor(value, dtype=torch.float64) for value in ([0.9, 1.4], [4.0, 2.0], 0.3, 1.0)))
    codes = random.permutation(np.repeat([0, 1, 2], [16, 8, 1]))
    return Problem([random.normal(size=(25, 3)), random.normal(size=(25, 2))], codes, values)


@pytest.fixture
def new_layers():
    random = np.random.default_rng(1)
    return [random.normal(size=(9, 3)), random.normal(size=(9, 2))]


class Dense:
    """The slow reference: one matrix a class, K plus that class's label noise (Milios et al. 2018, eq. 6 and 7)."""

    def __init__(self, problem, code):
        concentration = EPSILON + (problem.codes == code)
        variance = np.log(1 / concentration + 1)
        self.target = np.log(concentration) - variance / 2
        self.kernel = problem.kernel(problem.layers).numpy()
        self.noise = variance + problem.values.noise.item()
        inverse = np.linalg.inv(self.kernel + np.diag(self.noise))
        self.mean = inverse.sum(0) @ self.target / inverse.sum()

    def posterior(self, rows, cross, prior):
        """Mean and variance at points with kernel `cross` (m, n) to all rows, from some rows only."""
        inverse = np.linalg.inv(self.kernel[np.ix_(rows, rows)] + np.diag(self.noise[rows]))
        mean = self.mean + cross[:, rows] @ inverse @ (self.target[rows] - self.mean)
        return mean, prior - np.einsum("mn,nk,mk->m", cross[:, rows], inverse, cross[:, rows])


def test_solution_is_that_of_one_dense_matrix_a_class(problem, new_layers):
    posterior = ExactPosterior.of(problem.layers, problem.codes, problem.values, problem.solution())
    mean, variance = posterior.marginals(new_layers)
    cross = problem.kernel(new_layers).numpy()
    for code in range(3):
        dense = Dense(problem, code)
        expected = dense.posterior(np.arange(25), cross, 6.0)
        assert problem.solution().mean[code].item() == pytest.approx(dense.mean, rel=1e-9)
        np.testing.assert_allclose(mean[:, code], expected[0], rtol=1e-9)
        np.testing.assert_allclose(variance[:, code], expected[1], atol=1e-5)  # its matrices are stored as float32


def test_solution_is_that_of_gpytorchs_exact_process(problem, new_layers):
    likelihoods = gpytorch.likelihoods
    labels = likelihoods.DirichletClassificationLikelihood(torch.as_tensor(problem.codes), alpha_epsilon=EPSILON,
                                                           dtype=torch.float64)
    x, new = (torch.as_tensor(np.concatenate(layers, axis=1)) for layers in (problem.layers, new_layers))

    class Exact(gpytorch.models.ExactGP):
        def __init__(self, likelihood):
            super().__init__(x.expand(3, -1, -1), labels.transformed_targets, likelihood)
            self.mean_module = gpytorch.means.ConstantMean(batch_shape=torch.Size([3]))
            self.mean_module.constant.data = problem.solution().mean
            self.covar_module = gpytorch.kernels.AdditiveKernel(*(
                gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(active_dims=dims)) for dims in ((0, 1, 2), (3, 4))))

        def forward(self, rows):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(rows), self.covar_module(rows))

    model = Exact(likelihoods.FixedNoiseGaussianLikelihood(labels.noise + problem.values.noise)).double().eval()
    for kernel, length, scale in zip(model.covar_module.kernels, problem.values.lengthscales, problem.values.outputscales,
                                     strict=True):
        kernel.base_kernel.lengthscale, kernel.outputscale = length, scale
    with torch.no_grad():
        expected = model(new.expand(3, -1, -1))
    posterior = ExactPosterior.of(problem.layers, problem.codes, problem.values, problem.solution())
    mean, variance = posterior.marginals(new_layers)
    np.testing.assert_allclose(mean, expected.mean.T, atol=1e-6)
    np.testing.assert_allclose(variance, expected.variance.T, atol=1e-4)


def test_leaving_a_row_out_is_solving_without_it(problem):
    solution = problem.solution()
    kernel = problem.kernel(problem.layers).numpy()
    for code in range(3):
        dense = Dense(problem, code)  # its constant mean is estimated once, from all rows
        for row in range(25):
            mean, variance = dense.posterior(np.delete(np.arange(25), row), kernel[[row]], kernel[row, row])
            assert solution.left_out_mean[row, code].item() == pytest.approx(mean.item(), abs=1e-9)
            assert solution.left_out_variance[row, code].item() == pytest.approx(variance.item(), abs=1e-9)


def test_leave_one_out_loss_is_that_of_loops(problem):
    solution, rows = problem.solution(), np.flatnonzero(problem.codes < 2)
    draws = np.random.default_rng(0).normal(size=(7, 3))
    total = 0.0
    for row in rows:
        logits = solution.left_out_mean[row].numpy() + draws * solution.left_out_variance[row].sqrt().numpy()
        chances = np.exp(logits / 1.7) / np.exp(logits / 1.7).sum(axis=1, keepdims=True)
        total -= np.log(chances[:, problem.codes[row]].mean())
    codes, rows = torch.as_tensor(problem.codes), torch.as_tensor(rows)
    loss = solution.log_loss(codes, rows, torch.as_tensor(draws), torch.tensor(1.7))
    assert loss.item() == pytest.approx(total / len(rows), rel=1e-6)


def test_gradients_are_those_of_finite_differences(problem):
    codes, draws = torch.as_tensor(problem.codes), torch.as_tensor(normal_draws(4, 3, 0))
    distances = [torch.as_tensor(squared_distances(layer, layer)) for layer in problem.layers]

    def loss(lengthscales, outputscales, noise, temperature):
        values = Hyperparameters(lengthscales, outputscales, noise, temperature)
        return solve(values.kernel(distances), codes, EPSILON, noise).log_loss(codes, torch.arange(25), draws, temperature)

    assert torch.autograd.gradcheck(loss, [value.clone().requires_grad_() for value in vars(problem.values).values()])


def test_learning_lowers_the_loss_and_keeps_the_best(problem):
    codes, draws = torch.as_tensor(problem.codes), torch.as_tensor(normal_draws(64, 3, 0))
    distances = [torch.as_tensor(squared_distances(layer, layer)) for layer in problem.layers]
    losses = [learn("test", distances, codes, EPSILON, problem.values, draws, True, count)[1] for count in (1, 3, 50)]
    assert losses[0] > losses[1] > losses[2]
    values, least, interrupted = learn("test", distances, codes, EPSILON, problem.values, draws, True, 50)
    rows = torch.nonzero(codes < 2)[:, 0]  # the third class has one row, and none to be learned from without it
    loss = solve(values.kernel(distances), codes, EPSILON, values.noise).log_loss(codes, rows, draws, values.temperature)
    pairs = zip(vars(values).values(), vars(problem.values).values(), strict=True)
    prior = sum(((found.log() - start.log()) ** 2).sum().item() / 2 for found, start in pairs)
    assert least == pytest.approx(loss.item() + prior / 25, rel=1e-9)
    assert not interrupted


def test_predictions_are_the_same_in_parts(problem, new_layers):
    posterior = ExactPosterior.of(problem.layers, problem.codes, problem.values, problem.solution())
    many = [np.tile(layer, (300, 1)) for layer in new_layers]  # more rows than are computed at once
    for whole, few in zip(posterior.marginals(many), posterior.marginals(new_layers), strict=True):
        np.testing.assert_allclose(whole, np.tile(few, (300, 1)), rtol=1e-9)


def test_digits_are_learned():
    head = GaussianProcessHead(random_state=0, max_function_evaluations=20).fit(DIGITS[:300], NUMERALS[:300])
    assert head.exact_
    assert head.alpha_epsilon_ in EPSILONS
    assert 0 < head.loss_ < 0.5
    assert head.score(DIGITS[300:], NUMERALS[300:]) > 0.93


@pytest.mark.parametrize(("rows", "limit"), [(100, 0.5), (500, 0.15)])
def test_a_wide_posterior_does_not_draw_the_temperature_to_0(rows, limit):
    """There, each sample knows one class only, and a class that none knows has probability 0: the loss was 9.1 and 1.7."""
    head = GaussianProcessHead(random_state=0).fit(DIGITS[:rows], NUMERALS[:rows])
    assert head.temperature_ > 0.2
    assert negative_log_likelihood(NUMERALS[rows:], head.predict_proba(DIGITS[rows:]), head.classes_) < limit


def two_layers(rows=120):
    """A layer that tells the classes apart, and one of noise."""
    features, codes = clusters(rows, 4, 3, apart=1.0)
    return np.concatenate([features, np.random.default_rng(7).normal(size=(rows, 4))], axis=1), codes


@pytest.mark.parametrize(("rows_exact", "times"), [(5000, 3), (50, 1.5)])
def test_a_layer_of_noise_says_little(rows_exact, times):
    features, codes = two_layers()
    columns = {"signal": [0, 1, 2, 3], "noise": [4, 5, 6, 7]}
    head = GaussianProcessHead(columns, num_samples=32, max_function_evaluations=40, max_exact_rows=rows_exact,
                               random_state=0).fit(features, codes)
    assert list(head.lengthscales_) == list(head.outputscales_) == ["signal", "noise"]
    steepness = {name: head.outputscales_[name] / head.lengthscales_[name]**2 for name in columns}
    assert steepness["signal"] > times * steepness["noise"]


def test_columns_of_layers_may_come_in_any_order():
    features, codes = two_layers(60)
    order = np.random.default_rng(0).permutation(8)
    place = np.argsort(order)
    plain = GaussianProcessHead({"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]}, **QUICK).fit(features, codes)
    shuffled = GaussianProcessHead({"a": place[:4], "b": place[4:]}, **QUICK).fit(features[:, order], codes)
    np.testing.assert_allclose(shuffled.predict_proba(features[:, order]), plain.predict_proba(features), atol=1e-5)


@pytest.mark.parametrize("columns", [{"a": [0, 1]}, {"a": [0, 1], "b": [1, 2]}, {"a": [0, 1, 2], "b": []}, [0, 1, 2],
                                     {"a": [0.5, 1, 2]}])
def test_columns_that_are_not_every_column_once_are_refused(columns):
    with pytest.raises(ParameterError, match="GaussianProcessHead: columns must be a dict of layers, each of the 3 columns"):
        GaussianProcessHead(columns).fit(*clusters(10, 3, 2))


@pytest.mark.parametrize("name", ["max_function_evaluations", "max_exact_rows", "num_inducing", "num_samples"])
def test_wrong_parameters_are_named(name):
    with pytest.raises(ParameterError, match=f"GaussianProcessHead: {name} must be an integer of at least 1; got 0"):
        GaussianProcessHead(**{name: 0}).fit(*clusters(10, 3, 2))


def test_without_length_one_scales_count():
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, 90)
    radius = np.where(np.arange(90) % 2, 1.0, 3.0)
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, np.newaxis]
    scores = [GaussianProcessHead(apply_l2_norm=norm, **QUICK).fit(features[:60], radius[:60] > 2).score(
        features[60:], radius[60:] > 2) for norm in (True, False)]
    assert scores[0] < 0.8
    assert scores[1] == 1


@pytest.mark.parametrize("rows_exact", [5000, 50])
def test_without_calibration_the_temperature_is_one(rows_exact):
    features, codes = clusters(80, 4, 3, apart=1.0)
    options = {**QUICK, "max_exact_rows": rows_exact}
    assert GaussianProcessHead(calibrate=False, **options).fit(features, codes).temperature_ == 1
    calibrated = GaussianProcessHead(**options).fit(features, codes)
    assert calibrated.temperature_ != 1
    assert calibrated.exact_ == (rows_exact > 80)


def test_calibrated_probabilities_are_better():
    train, test = slice(0, 200), slice(200, 900)
    losses = []
    for calibrate in (False, True):
        head = GaussianProcessHead(calibrate=calibrate, max_function_evaluations=20, max_exact_rows=50, random_state=0,
                                   num_inducing=50).fit(DIGITS[train], NUMERALS[train])
        losses.append(negative_log_likelihood(NUMERALS[test], head.predict_proba(DIGITS[test]), head.classes_))
    assert losses[1] < losses[0]


@pytest.mark.parametrize("classes", [12, 130])
def test_hyperparameters_of_many_rows_or_classes_are_learned_from_some(monkeypatch, classes):
    monkeypatch.setattr("xfer2.heads.gaussian_process._LEARNING_ROWS", 60)
    seen = []

    def watched(owner, distances, codes, *rest):
        seen.append(np.bincount(codes))
        return learn(owner, distances, codes, *rest)

    monkeypatch.setattr("xfer2.heads.gaussian_process.learn", watched)
    features, codes = clusters(3 * classes, 10, classes)
    head = GaussianProcessHead(**QUICK).fit(features, codes)
    assert len(seen) == len(EPSILONS)
    assert len(seen[0]) == min(classes, 100)
    assert seen[0].min() >= 1
    assert head.predict_proba(features).shape == (3 * classes, classes)
    assert head.score(*clusters(3 * classes, 10, classes)) > 0.9


def test_classes_with_one_row_each_leave_the_starting_values():
    features = np.random.default_rng(0).normal(size=(12, 3))
    head = GaussianProcessHead(**QUICK).fit(features, np.arange(12))
    assert head.temperature_ == 1
    assert head.outputscales_ == {"features": pytest.approx(10)}
    assert head.score(features, np.arange(12)) == 1


def test_interrupted_learning_keeps_a_usable_fit(monkeypatch):
    features, codes = clusters(60, 4, 3)
    done = interrupt_after(monkeypatch, 4)
    with pytest.warns(UserWarning, match="GaussianProcessHead was interrupted and keeps what it has learned so far"):
        head = GaussianProcessHead(random_state=0, num_samples=32).fit(features, codes)
    assert len(done) == 5  # of one label noise, not of all three
    assert head.alpha_epsilon_ == EPSILONS[0]
    assert head.score(features, codes) > 0.9


def test_interrupted_before_anything_was_learned(monkeypatch):
    features, codes = clusters(60, 4, 3)
    interrupt_after(monkeypatch, 0)
    with pytest.warns(UserWarning, match="interrupted"):
        head = GaussianProcessHead(random_state=0, num_samples=32).fit(features, codes)
    assert head.score(features, codes) > 0.9


def test_variational_process_is_nearly_as_good_as_the_exact(monkeypatch):
    monkeypatch.setattr(_variational_gp, "_BATCH", 32)  # as many steps a pass as thousands of rows have
    exact, variational = (GaussianProcessHead(max_exact_rows=rows, num_inducing=100, random_state=0, num_samples=64,
                                              max_function_evaluations=40).fit(DIGITS[:300], NUMERALS[:300])
                          for rows in (5000, 50))
    assert (exact.exact_, variational.exact_) == (True, False)
    chances = [head.predict_proba(DIGITS[300:]) for head in (exact, variational)]
    accuracies = [(one.argmax(axis=1) == NUMERALS[300:]).mean() for one in chances]
    assert accuracies[1] > accuracies[0] - 0.05
    losses = [negative_log_likelihood(NUMERALS[300:], one, exact.classes_) for one in chances]
    assert variational.temperature_ > 0.1
    assert losses[1] < losses[0] + 0.3
    assert (variational.alpha_epsilon_, variational.noise_) == (None, 0)


def test_variational_process_is_deterministic_and_draws_from_its_own_generator():
    features, codes = clusters(90, 4, 3)
    options = {**QUICK, "max_exact_rows": 50, "max_function_evaluations": 3}
    first = GaussianProcessHead(**options).fit(features, codes).predict_proba(features)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    second = GaussianProcessHead(**options).fit(features, codes).predict_proba(features)
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(first, second)


def test_variational_process_stops_when_passes_no_longer_help(monkeypatch):
    features, codes = clusters(90, 4, 3)
    done = interrupt_after(monkeypatch, 10_000)
    head = GaussianProcessHead(max_exact_rows=50, max_function_evaluations=1000, num_samples=32, random_state=0).fit(
        features, codes)
    losses = [float(state.removeprefix("loss ")) for state in done]
    assert 10 < len(losses) < 1000
    assert min(losses[-3:]) > 0.99 * min(losses[:-3])
    assert losses[-1] < 0.5 * losses[0]
    assert head.score(features, codes) > 0.9


@pytest.mark.parametrize(("losses", "stops"), [([3, 2, 1], False), ([1, 1, 1, 1], True), ([3, 1, 2, 2, 2], True),
                                               ([2, 2.1, 2.2, 1.9], False), ([5, 4, 3, 2, 1.9999], False)])
def test_convergence_is_three_passes_without_a_gain(losses, stops):
    assert _variational_gp._converged(losses) is stops


def test_variational_marginals_are_those_of_dense_algebra():
    features, codes = clusters(80, 4, 3)
    options = {**QUICK, "max_exact_rows": 50, "num_inducing": 12}
    head = GaussianProcessHead({"a": [0, 1], "b": [2, 3]}, **options).fit(features, codes)
    state, layers = head.posterior_.state, head._layers(features[:6])
    strategy = "variational_strategy.base_variational_strategy."
    points = state[strategy + "inducing_points"].astype(float)

    def kernel(left, right):
        parts = zip((slice(0, 2), slice(2, 4)), head.posterior_.lengthscales, head.posterior_.outputscales, strict=True)
        return sum(scale * np.exp(-squared_distances(left[:, part], right[:, part]) / (2 * length**2))
                   for part, length, scale in parts)

    new = np.concatenate(layers, axis=1)
    factor = np.linalg.cholesky(kernel(points, points) + 1e-4 * np.eye(len(points)))  # gpytorch's jitter
    interpolation = np.linalg.solve(factor, kernel(points, new))  # whitened: the inducing values are factor @ u
    mean, variance = head.posterior_.marginals(layers)
    for code in range(3):
        u = state[strategy + "_variational_distribution.variational_mean"][code].astype(float)
        root = np.tril(state[strategy + "_variational_distribution.chol_variational_covar"][code].astype(float))
        expected = state["mean_module.raw_constant"][code] + interpolation.T @ u
        spread = kernel(new, new).diagonal() + np.einsum("im,ij,jm->m", interpolation, root @ root.T - np.eye(len(u)),
                                                         interpolation)
        np.testing.assert_allclose(mean[:, code], expected, atol=5e-3)
        np.testing.assert_allclose(variance[:, code], spread, atol=5e-3)


def test_a_batch_with_as_many_rows_as_classes_is_no_other_thing():
    features, codes = clusters(64, 20, 16)  # 51 of them fitted, or all 64: a batch of 16 rows comes with the smaller size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_variational_gp, "_BATCH", 16)
        head = GaussianProcessHead(calibrate=False, max_exact_rows=50, random_state=0, num_samples=32,
                                   max_function_evaluations=60).fit(features, codes)
    assert head.score(features, codes) > 0.9


def test_variational_process_bears_rows_that_are_all_alike():
    features, codes = np.ones((80, 3)), np.arange(80) % 4
    head = GaussianProcessHead(**{**QUICK, "max_exact_rows": 50}).fit(features, codes)
    np.testing.assert_allclose(head.predict_proba(features[:2]), 0.25, atol=0.08)


def test_variational_process_without_two_rows_of_any_class_holds_none_out():
    features = np.random.default_rng(0).normal(size=(6, 3))
    head = GaussianProcessHead(**{**QUICK, "max_exact_rows": 5}).fit(features, np.arange(6))
    assert not head.exact_
    assert head.temperature_ == 1


def test_interrupted_variational_process_keeps_its_passes(monkeypatch):
    features, codes = clusters(300, 4, 3)
    done = interrupt_after(monkeypatch, 15)
    with pytest.warns(UserWarning, match="GaussianProcessHead was interrupted"):
        head = GaussianProcessHead(max_exact_rows=50, random_state=0, num_samples=32).fit(features, codes)
    assert len(done) == 16
    assert head.score(features, codes) > 0.9


def test_a_parameter_changed_after_fit_waits_for_the_next_fit():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(40, 6)), np.arange(40) % 2
    head = GaussianProcessHead(max_function_evaluations=3, num_samples=16, random_state=0).fit(X, y)
    before = head.predict_proba(X)
    np.testing.assert_array_equal(head.set_params(apply_l2_norm=False).predict_proba(X), before)
    assert np.abs(head.fit(X, y).predict_proba(X) - before).max() > 0
