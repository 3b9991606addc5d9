"""Penalties against sums written out."""

import numpy as np
import pytest

from xfer2._mxnet import mx
from xfer2.training.regularizers import ActivityPenalty, DistillationPenalty, WeightPenalty, triplet_loss


def test_activity_is_squared_and_summed_by_example():
    activity = np.random.default_rng(0).normal(size=(4, 3, 2)).astype("float32")
    np.testing.assert_allclose(ActivityPenalty(0.5)([mx.nd.array(activity)], {}, mx.nd.zeros(4)).asnumpy(),
                               0.5 * (activity**2).sum(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("kind", "norm"), [
    ("l1", lambda w: np.abs(w).sum()), ("l2", lambda w: (w**2).sum()),
    ("filter", lambda w: sum(np.sqrt((row**2).sum()) for row in w)),
    ("channel", lambda w: sum(np.sqrt((w[:, column]**2).sum()) for column in range(w.shape[1])))])
def test_weights_are_measured_as_named_and_biases_are_not(kind, norm):
    random = np.random.default_rng(0)
    arrays = {"a_unit_weight": random.normal(size=(4, 3, 3, 3)), "b_unit_weight": random.normal(size=(2, 5)),
              "a_unit_bias": random.normal(size=4), "other_weight": random.normal(size=(3, 3))}
    given = {name: mx.nd.array(array) for name, array in arrays.items()}
    expected = 0.1 * (norm(arrays["a_unit_weight"]) + norm(arrays["b_unit_weight"]))
    found = WeightPenalty(kind, 0.1, ["a_unit_weight", "a_unit_bias", "b_unit_weight"])([], given, mx.nd.zeros(1))
    assert float(found.asscalar()) == pytest.approx(expected, rel=1e-5)


def test_of_a_depthwise_convolution_what_reads_a_channel_is_its_own_filter():
    weight = np.random.default_rng(0).normal(size=(4, 1, 3, 3))
    found = WeightPenalty("channel", 1.0, None, ["depth_weight"])([], {"depth_weight": mx.nd.array(weight)}, mx.nd.zeros(1))
    assert float(found.asscalar()) == pytest.approx(sum(np.sqrt((row**2).sum()) for row in weight), rel=1e-5)


def test_weights_whose_layers_are_summed_are_one_group_by_output():
    random = np.random.default_rng(0)
    of_source, of_target = random.normal(size=(4, 3)), random.normal(size=(4, 3))
    given = {"source": mx.nd.array(of_source), "target": mx.nd.array(of_target)}
    found = WeightPenalty("filter", 1.0, summed={"target": "source"})([], given, mx.nd.zeros(1))
    rows = np.hstack([of_source, of_target])
    assert float(found.asscalar()) == pytest.approx(sum(np.sqrt((row**2).sum()) for row in rows), rel=1e-5)


def written_out_triplet_loss(features, codes, margin):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[:, np.newaxis] - unit, axis=2)
    losses = []
    for row, code in enumerate(codes):
        companions = [distances[row, other] for other in range(len(codes)) if codes[other] == code and other != row]
        strangers = [distances[row, other] for other in range(len(codes)) if codes[other] != code]
        losses.append(max(0, max(companions) - min(strangers) + margin) if companions and strangers else 0)
    return losses


@pytest.mark.parametrize("codes", [[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]])
def test_the_triplet_loss_is_of_the_furthest_companion_and_the_nearest_stranger(codes):
    features = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    found = triplet_loss(mx.nd.array(features), mx.nd.array(codes), 0.3)
    np.testing.assert_allclose(found.asnumpy(), written_out_triplet_loss(features, codes, 0.3), atol=1e-5)
    shares = np.full((6, 6), 0.1)
    shares[np.arange(6), codes] = 0.5
    np.testing.assert_allclose(triplet_loss(mx.nd.array(features), mx.nd.array(shares), 0.3).asnumpy(), found.asnumpy())


def test_distillation_sums_losses_by_their_weights():
    losses, features = mx.nd.array([1, 2, 3]), mx.nd.array([[1, 0], [0, 1], [1, 1]])
    codes = mx.nd.array([0, 0, 1])
    np.testing.assert_allclose(DistillationPenalty(0.5)([losses, losses], {}, codes).asnumpy(), [1, 2, 3])
    both = DistillationPenalty(0.5, 2.0, 0.1)([features, losses], {}, codes)
    np.testing.assert_allclose(both.asnumpy(), [0.5, 1, 1.5] + 2 * triplet_loss(features, codes, 0.1).asnumpy(), rtol=1e-6)
