"""Penalties against sums written out."""

import numpy as np
import pytest

from xfer2._mxnet import mx
from xfer2.training.regularizers import ActivityPenalty, WeightPenalty


def test_activity_is_squared_and_summed_by_example():
    activity = np.random.default_rng(0).normal(size=(4, 3, 2)).astype("float32")
    np.testing.assert_allclose(ActivityPenalty(0.5)([mx.nd.array(activity)], {}).asnumpy(),
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
    assert float(WeightPenalty(kind, 0.1, "_unit_")([], given).asscalar()) == pytest.approx(expected, rel=1e-5)
