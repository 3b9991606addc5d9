"""What heads share: layers, samples and parts of rows, rotations and scales, against loops and their defining properties."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.preprocessing import StandardScaler

from xfer2._scaling import rotate, standardisation, unit_rows
from xfer2.exceptions import DataError, ParameterError
from xfer2.heads._features import (
    classes_and_codes,
    few_rows_a_class,
    held_out_parts,
    layer_columns,
    principal_axes,
    stratified_rows,
    two_columns,
)

# integers have no singular values between 0 and those that count; degenerate matrices are frequent
MATRICES = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.integers(-3, 3).map(float))
SEEDS = st.integers(0, 2**31 - 2)


@st.composite
def class_codes(draw, most=30):
    """Codes of rows in any order, every class there, many of them with a single row."""
    counts = draw(st.lists(st.integers(1, most), min_size=2, max_size=6))
    return np.random.default_rng(draw(SEEDS)).permutation(np.repeat(np.arange(len(counts)), counts))


def test_layers_are_one_where_no_columns_are_given():
    layers = layer_columns("Head", None, 3)
    assert list(layers) == ["features"]
    np.testing.assert_array_equal(layers["features"], [0, 1, 2])


def test_layers_keep_their_order_and_their_columns_order():
    layers = layer_columns("Head", {"late": [3, 1], 7: np.array([[2], [0]])}, 4)
    assert list(layers) == ["late", "7"]
    np.testing.assert_array_equal(layers["late"], [3, 1])
    np.testing.assert_array_equal(layers["7"], [2, 0])
    assert all(positions.dtype.kind == "i" for positions in layers.values())


@pytest.mark.parametrize("columns", [{}, {"a": [0, 1]}, {"a": [0, 1], "b": [1, 2]}, {"a": [0, 1, 2], "b": []}, [0, 1, 2],
                                     {"a": [0, 1, 3]}, {"a": [-1, 0, 1]}, {"a": [0, 0.5, 2]}, "abc", 3],
                         ids=str)
def test_columns_in_no_layer_or_in_two_are_refused(columns):
    with pytest.raises(ParameterError, match="Head: columns must be a dict of layers, each of the 3 columns in one of them"):
        layer_columns("Head", columns, 3)


@given(class_codes(), st.integers(1, 60), SEEDS)
@settings(max_examples=60, deadline=None)
def test_stratified_rows_are_alike_from_every_class(codes, count, seed):
    chosen, classes = stratified_rows(codes, count, seed), codes.max() + 1
    assert len(chosen) == min(len(codes), max(count, classes))
    assert (np.diff(chosen) > 0).all()
    taken, there = np.bincount(codes[chosen], minlength=classes), np.bincount(codes)
    assert taken.min() >= 1
    assert ((taken >= taken.max() - 1) | (taken == there)).all()
    np.testing.assert_array_equal(chosen, stratified_rows(codes, count, seed))


def test_stratified_rows_depend_on_the_seed_and_are_from_everywhere():
    codes = np.repeat([0, 1], 500)
    chosen = [stratified_rows(codes, 100, seed) for seed in range(20)]
    assert not np.array_equal(chosen[0], chosen[1])
    assert len(np.unique(np.concatenate(chosen))) > 800  # 1000 (1 - 0.9^20) = 878 are expected


@given(class_codes(), SEEDS, st.integers(2, 6), st.integers(5, 200))
@settings(max_examples=100, deadline=None)
def test_parts_hold_out_what_can_be_spared(codes, seed, folds, rows):
    parts, counts = held_out_parts(codes, seed, folds, rows), np.bincount(codes)
    assert len(parts) <= min(folds, max(1, round(rows * folds / len(codes))))
    for kept, held_out in parts:
        assert 1 <= len(held_out) <= rows
        np.testing.assert_array_equal(np.sort(np.concatenate([kept, held_out])), np.arange(len(codes)))
        assert set(codes[kept].tolist()) == set(range(len(counts)))
        assert (counts[codes[held_out]] > 1).all()
    together = np.concatenate([np.empty(0, int), *[held_out for _, held_out in parts]])
    assert len(np.unique(together)) == len(together)
    if len(codes) <= rows:  # then every row is held out once, but those that are their class's only one
        np.testing.assert_array_equal(np.sort(together), np.flatnonzero(counts[codes] > 1))


@given(class_codes(), SEEDS, st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_parts_are_stratified(codes, seed, folds):
    for _, held_out in held_out_parts(codes, seed, folds):
        shares = np.bincount(codes)[codes.min():] / folds
        found = np.bincount(codes[held_out], minlength=len(shares))
        assert (abs(found - shares) <= 1).all()


@pytest.mark.parametrize(("count", "parts", "each"), [(10, 5, 2), (1000, 5, 200), (1100, 5, 220), (1500, 3, 300),
                                                      (2500, 2, 500), (5000, 1, 1000), (20_000, 1, 1000)])
def test_as_many_parts_as_hold_out_about_a_thousand_rows(count, parts, each):
    found = held_out_parts(np.arange(count) % 2, 0)
    assert [len(held_out) for _, held_out in found] == [each] * parts


def test_parts_of_classes_with_single_rows_alone_are_none():
    assert held_out_parts(np.arange(7), 0) == []
    assert sorted(held_out.tolist() for _, held_out in held_out_parts(np.array([2, 0, 1, 1]), 0)) == [[2], [3]]


def test_parts_are_those_of_their_seed():
    codes = np.arange(50) % 3
    first, again, other = (held_out_parts(codes, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one[1], two[1]) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one[1], two[1]) for one, two in zip(first, other, strict=True))


def assert_orthonormal(basis):
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-9)


@given(MATRICES)
@settings(max_examples=100, deadline=None)
def test_principal_axes_are_an_orthonormal_basis_of_the_rows_in_order(rows):
    axes = principal_axes(rows)
    assert_orthonormal(axes)
    assert len(axes) == max(1, np.linalg.matrix_rank(rows))
    np.testing.assert_allclose(rows @ axes.T @ axes, rows, atol=1e-6)
    moments = ((rows @ axes.T)**2).sum(axis=0)
    np.testing.assert_allclose(moments, np.linalg.svd(rows, compute_uv=False)[:len(axes)]**2, atol=1e-6)


@pytest.mark.parametrize("shape", [(60, 8), (8, 60), (20, 20)])
def test_principal_axes_are_those_of_an_uncentred_decomposition(shape):
    rows = np.random.default_rng(0).normal(size=shape) * np.geomspace(1, 100, shape[1]) + 1
    expected = np.linalg.svd(rows, full_matrices=False)[2]
    found = principal_axes(rows)
    assert_orthonormal(found)
    np.testing.assert_allclose(abs(found @ expected.T), np.eye(len(expected)), atol=1e-6)  # but for their signs


@pytest.mark.parametrize("shape", [(30, 80), (80, 30)])
def test_principal_axes_of_rows_that_nearly_depend_on_each_other_are_orthonormal(shape):
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(size, 30)))[0] for size in shape)
    rows = left * np.geomspace(1, 1e-9, 30) @ right.T
    axes = principal_axes(rows)
    assert_orthonormal(axes)
    np.testing.assert_allclose(rows @ axes.T @ axes, rows, atol=1e-6)


def slowly_shrunken(values, errors):
    """By bisection, column by column."""
    def mean(between):
        return sum(v / (between + e) for v, e in zip(values, errors, strict=True)) / sum(1 / (between + e) for e in errors)

    def surplus(between):
        return sum((v - mean(between)) ** 2 / (between + e) for v, e in zip(values, errors, strict=True)) - len(values) + 1

    low, high = 0.0, 1e6
    for _ in range(200):
        low, high = ((low + high) / 2, high) if surplus((low + high) / 2) > 0 else (low, (low + high) / 2)
    return [v + (mean(low) - v) * e / (low + e) for v, e in zip(values, errors, strict=True)]


@pytest.mark.parametrize("kind", ["alike", "of units", "sparse"])
def test_deviations_are_drawn_together_as_far_as_they_are_uncertain(kind):
    random = np.random.default_rng(0)
    rows = random.normal(size=(12, 7))
    if kind == "of units":
        rows *= np.geomspace(1e-6, 1e6, 7)
    if kind == "sparse":
        rows = np.maximum(rows - np.linspace(-1, 0.8, 7), 0)
    own = np.log(rows.std(axis=0))
    left_out = np.array([np.log(np.maximum(np.delete(rows, row, axis=0).std(axis=0), 1e-300)) for row in range(12)])
    errors = 11 / 12 * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    assert errors.max() < 30  # no column fires once
    found = np.log(standardisation(rows)[1])
    expected = np.clip(slowly_shrunken(own.tolist(), errors.tolist()), own - np.sqrt(2 / 11), own + 2 * np.sqrt(errors))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    moved = abs(found - own).max()
    assert moved < 0.06 if kind == "of units" else moved > 0.1


def test_deviations_of_few_rows_come_nearer_to_the_true_ones():
    random = np.random.default_rng(0)
    true = np.exp(random.normal(0, 0.3, 200))
    rows = random.normal(size=(15, 200)) * true
    own, found = (abs(np.log(deviation / true)).mean() for deviation in (rows.std(axis=0), standardisation(rows)[1]))
    assert found < 0.9 * own


def test_a_column_that_one_row_makes_vary_has_the_usual_deviation():
    random = np.random.default_rng(0)
    rows = np.maximum(random.normal(size=(100, 5)), 0)
    rows[:, 3] = 0
    rows[7, 3] = 1e-4  # a unit that fires once, hardly
    _, deviation = standardisation(rows)
    usual = rows.std(axis=0)[[0, 1, 2, 4]]
    assert 0.5 * usual.min() < deviation[3] < usual.max()
    np.testing.assert_allclose(deviation[[0, 1, 2, 4]], usual, rtol=0.2)


@given(MATRICES)
@settings(max_examples=100, deadline=None)
def test_rotation_keeps_products_and_leads_back(rows):
    rotated, basis = rotate(rows)
    if rows.shape[1] <= rows.shape[0]:
        assert rotated is rows
        assert basis is None
    else:
        assert_orthonormal(basis)
        assert rotated.shape == (len(rows), len(basis))
        assert len(basis) == max(1, np.linalg.matrix_rank(rows))
        np.testing.assert_allclose(rotated @ basis, rows, atol=1e-9)
        np.testing.assert_allclose(rotated @ rotated.T, rows @ rows.T, atol=1e-9)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_one_logit_becomes_two(shape):
    logits = np.array([1.5, -2.0, 0.0]).reshape(shape)
    np.testing.assert_array_equal(two_columns(logits), [[-0.75, 0.75], [1, -1], [0, 0]])


@pytest.mark.parametrize("columns", [2, 5])
def test_logits_of_every_class_stay(columns):
    logits = np.arange(3.0 * columns).reshape(3, columns)
    assert two_columns(logits) is logits


@given(MATRICES)
@settings(max_examples=60, deadline=None)
def test_unit_rows_have_length_one_and_their_direction(rows):
    scaled, lengths = unit_rows(rows), np.sqrt((rows**2).sum(axis=1))
    np.testing.assert_allclose(np.sqrt((scaled**2).sum(axis=1)), lengths > 0, atol=1e-12)
    np.testing.assert_allclose(scaled * lengths[:, None], rows, atol=1e-12)


@given(MATRICES)
@settings(max_examples=60, deadline=None)
def test_deviations_are_between_those_of_scikit_learn(rows):
    mean, deviation = standardisation(rows)
    reference = StandardScaler().fit(rows)
    np.testing.assert_allclose(mean, reference.mean_, atol=1e-12)
    varies = rows.std(axis=0) > 0
    own = reference.scale_[varies]
    np.testing.assert_allclose(deviation[~varies], np.exp(np.log(own).mean()) if len(own) else 1, rtol=1e-9)
    assert (deviation[varies] >= own.min(initial=np.inf) * (1 - 1e-9)).all()
    assert (deviation[varies] <= own.max(initial=0) * (1 + 1e-9)).all()
    if len(rows) < 3 or varies.sum() < 2:
        np.testing.assert_allclose(deviation[varies], own, rtol=1e-9)


@pytest.mark.parametrize("rows", [20, 2000])
def test_one_large_value_does_not_make_its_row_further_away_than_it_is(rows):
    features = np.random.default_rng(0).normal(size=(rows, 6))
    features[3, 5] = 1e5
    mean, deviation = standardisation(features)
    own = abs(features[3, 5] - features[:, 5].mean()) / features[:, 5].std()
    assert abs(features[3, 5] - mean[5]) / deviation[5] < 1.5 * own
    assert standardisation(-features)[1] == pytest.approx(deviation)


def test_a_column_that_never_varied_has_the_usual_deviation_whatever_the_unit():
    features = np.random.default_rng(0).normal(size=(20, 6))
    features[:, 2] = 7.0
    for unit in (1.0, 100.0):
        _, deviation = standardisation(unit * features)
        assert deviation[2] == pytest.approx(unit, rel=0.3)


def test_with_many_rows_standardisation_is_that_of_scikit_learn():
    rows = np.maximum(np.random.default_rng(0).normal(size=(5000, 40)) * np.geomspace(1, 10, 40), 0)
    np.testing.assert_allclose(standardisation(rows)[1], StandardScaler().fit(rows).scale_, rtol=0.005)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7e-9, 1e8, 1 / 3])
def test_a_column_that_varies_by_rounding_alone_has_deviation_one(value):
    mean, deviation = standardisation(np.full((1001, 2), value))
    np.testing.assert_allclose(mean, value, rtol=1e-12)
    np.testing.assert_array_equal(deviation, 1)
    assert standardisation(np.array([[1e-9], [3e-9]]))[1] == pytest.approx(1e-9)  # small, but not for rounding


def test_labels_become_positions_among_the_sorted_classes():
    classes, codes = classes_and_codes("Head", ["wasp", "bee", "wasp"])
    assert classes.tolist() == ["bee", "wasp"]
    assert codes.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="Head needs at least two classes; the labels hold one class: 3"):
        classes_and_codes("Head", np.array([3, 3]))


def test_labels_of_few_rows_each_are_no_warning():
    classes, _ = classes_and_codes("Head", np.arange(40) // 1.5 // 1)
    assert len(classes) == 27
    with few_rows_a_class(), pytest.warns(UserWarning, match="another"):
        warnings.warn("another", stacklevel=1)
