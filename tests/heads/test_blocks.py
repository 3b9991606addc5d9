"""Blocks of columns are chosen that a regression predicts better with."""

import numpy as np
import pytest

from xfer2.heads.blocks import helpful_blocks, helpful_regression
from xfer2.heads.logistic_regression import LogisticRegressionHead


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
    np.testing.assert_array_equal(helpful_regression(X, y, [20, 20, 20])[0], expected)


@pytest.mark.parametrize("rows", [120, 1500])
def test_the_regression_is_that_of_all_rows_on_their_columns(rows):
    X, y = blocks({0: 0, 2: 1}, rows=rows)
    columns, head = helpful_regression(X, y, [20, 20, 20], class_weight="balanced", seed=3)
    np.testing.assert_array_equal(columns, np.r_[0:20, 40:60])
    alone = LogisticRegressionHead(class_weight="balanced", random_state=3).fit(X[:, columns], y)
    assert head.C_ == alone.C_
    for of_head, of_alone in zip(head.linear_form(), alone.linear_form(), strict=True):
        np.testing.assert_allclose(of_head, of_alone, rtol=1e-9, atol=1e-9)


def test_many_rows_are_chosen_by_some_of_them():
    X, y = blocks({0: 0, 2: 1}, rows=1500)
    X[:, 40:] *= 1e3  # units do not matter
    assert helpful_blocks(X, y, [20, 20, 20], class_weight={"ant": 1.0, "bee": 2.0, "wasp": 1.0}, seed=3) == [0, 2]


def test_one_row_a_class_cannot_tell():
    X, y = blocks({2: 0}, rows=3)
    assert helpful_blocks(X, y, [20, 20, 20]) == [0]


def test_one_block_has_no_choice():
    X, y = blocks({0: 0})
    assert helpful_blocks(X, y, [60]) == [0]
    np.testing.assert_array_equal(helpful_regression(X, y, [60])[0], np.arange(60))
    np.testing.assert_array_equal(helpful_regression(X, y, [7])[0], np.arange(60))  # whatever the graph thinks of its width
