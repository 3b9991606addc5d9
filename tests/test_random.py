"""One random_state in, the same child seeds out."""

import numpy as np
import pytest

from xfer2._random import child_seed, root_seed
from xfer2.exceptions import ParameterError


@pytest.mark.parametrize("seed", [0, 7, 2**40, np.int64(5)])
def test_an_integer_is_its_own_seed(seed):
    assert root_seed("Owner", seed) == seed
    assert type(root_seed("Owner", seed)) is int


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_generators_of_the_same_state_give_the_same_seed_and_go_on(make):
    first, second = make(3), make(3)
    drawn = [root_seed("Owner", first), root_seed("Owner", first)]
    assert drawn == [root_seed("Owner", second), root_seed("Owner", second)]
    assert drawn[0] != drawn[1]


def test_none_is_fresh_and_leaves_numpys_global_state_alone():
    drawn = []
    for with_seeds in (False, True):
        np.random.seed(0)  # noqa: NPY002
        seeds = {root_seed("Owner", None) for _ in range(5)} if with_seeds else set(range(5))
        assert len(seeds) == 5
        drawn.append(np.random.random())  # noqa: NPY002
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("value", [-1, 1.5, "0", True, [0]])
def test_other_values_are_refused(value):
    with pytest.raises(ParameterError, match="Owner: random_state must be None, an integer of at least 0, a Random"):
        root_seed("Owner", value)


def test_children_depend_on_seed_and_purpose_alone():
    assert child_seed(0, "folds") == child_seed(0, "folds")
    seeds = [child_seed(root, purpose) for root in range(50) for purpose in ("folds", "shuffle", "weights", "")]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 - 1 for seed in seeds)


def test_children_are_the_same_in_every_version():
    """Saved results depend on these; a change of them is a change of every result with a fixed seed."""
    assert (child_seed(0, "folds"), child_seed(42, "order of examples")) == (1749997051, 1359308279)
