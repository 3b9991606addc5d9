"""Blocks of columns are chosen that a regression predicts better with."""

import numpy as np
import pytest

from xfer2.heads.blocks import helpful_blocks, helpful_columns


def blocks(useful, rows=120, width=20, seed=0):
    """Blocks of noise, in those that are useful one column more that tells some of three classes; and the classes."""
    random = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    parts = [random.normal(size=(rows, width)) for _ in range(3)]
    for block, label in useful.items():
        parts[block][:, 0] = 3 * (y == label) + random.normal(scale=0.5, size=rows)
    return np.hstack(parts), np.array(["ant", "bee", "wasp"])[y]


@pytest.mark.parametrize(("useful", "chosen"), [({0: 0}, [0]), ({0: 0, 2: 1}, [0, 2]), ({0: 0, 1: 1}, [0, 1, 2])])
def test_the_first_and_from_the_last_back_those_that_help(useful, chosen):
    X, y = blocks(useful)
    assert helpful_blocks(X, y, [20, 20, 20]) == chosen
    expected = np.concatenate([np.arange(20 * block, 20 * block + 20) for block in chosen])
    np.testing.assert_array_equal(helpful_columns(X, y, [20, 20, 20]), expected)


def test_many_rows_are_chosen_by_some_of_them():
    X, y = blocks({0: 0, 2: 1}, rows=1500)
    X[:, 40:] *= 1e3  # units do not matter
    assert helpful_blocks(X, y, [20, 20, 20], class_weight={"ant": 1.0, "bee": 2.0, "wasp": 1.0}, seed=3) == [0, 2]


def test_one_row_a_class_cannot_tell():
    X, y = blocks({2: 0}, rows=3)
    assert helpful_blocks(X, y, [20, 20, 20]) == [0]


def test_one_block_has_no_choice():
    X, y = blocks({0: 0})
    np.testing.assert_array_equal(helpful_columns(X, y, [60]), np.arange(60))
    np.testing.assert_array_equal(helpful_columns(X, y, [7]), np.arange(60))  # whatever the graph thinks of its width
