"""Points are principal components, or keep neighbours together; colours are classes."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from xfer2._scaling import standardisation
from xfer2.exceptions import DataError, ParameterError
from xfer2.visualization import plot_feature_map

RANDOM = np.random.default_rng(0)
CENTRES = 8 * RANDOM.normal(size=(3, 12))
LABELS = np.repeat(["bee", "fly", "wasp"], 10)
FEATURES = CENTRES[np.repeat([0, 1, 2], 10)] + RANDOM.normal(size=(30, 12))


def test_principal_components_with_the_variance_they_explain(given):
    ax = plot_feature_map(FEATURES, LABELS, ax=given)
    assert ax is given
    mean, deviation = standardisation(FEATURES)
    standard = (FEATURES - mean) / deviation
    axes, sizes, _ = np.linalg.svd(standard, full_matrices=False)
    shares = sizes**2 / (sizes**2).sum()
    assert ax.get_xlabel() == f"component 1 ({shares[0]:.0%} of the variance)"
    assert ax.get_ylabel() == f"component 2 ({shares[1]:.0%} of the variance)"
    drawn = np.concatenate([points.get_offsets() for points in ax.collections])  # classes are in the rows' order
    np.testing.assert_allclose(np.abs(drawn), np.abs(axes[:, :2] * sizes[:2]), atol=1e-8)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["bee", "fly", "wasp"]
    assert len({to_hex(points.get_facecolor()[0], keep_alpha=False) for points in ax.collections}) == 3


def test_tsne_keeps_classes_together_and_repeats_itself():
    first, second = (plot_feature_map(FEATURES, LABELS, "tsne") for _ in range(2))
    points = np.concatenate([one.get_offsets() for one in first.collections])
    np.testing.assert_array_equal(points, np.concatenate([one.get_offsets() for one in second.collections]))
    distance = np.linalg.norm(points[:, np.newaxis] - points, axis=2) + np.where(np.eye(30), np.inf, 0)
    assert (LABELS[distance.argmin(axis=1)] == LABELS).mean() > 0.9
    assert first.get_xlabel() == "t-SNE 1 (no unit)"


def test_tsne_of_three_rows_works():
    assert sum(len(one.get_offsets()) for one in plot_feature_map(FEATURES[:3], LABELS[:3], "tsne").collections) == 3


def test_many_classes_have_a_colorbar_and_no_legend():
    ax = plot_feature_map(FEATURES, [f"breed{number}" for number in range(30)])
    assert ax.get_legend() is None
    assert ax.collections[0].colorbar.ax.get_ylabel() == "class"
    np.testing.assert_array_equal(np.sort(ax.collections[0].get_array()), np.arange(30))


def test_classes_of_long_names_are_told_apart():
    names = np.array(["Northern_red_oak_leaf", "Northern_white_oak_leaf", "Northern_pin_oak_leaf"])
    legend = plot_feature_map(FEATURES, names[np.arange(30) % 3]).get_legend()
    assert len({text.get_text() for text in legend.get_texts()}) == 3
    ax = plot_feature_map(FEATURES, [f"Northern_{letter}_oak" for letter in "abcdefghijklmno"] * 2)
    assert len({text.get_text() for text in ax.collections[0].colorbar.ax.get_yticklabels()}) == 9


@pytest.mark.parametrize(("features", "labels", "message"), [
    (FEATURES[:, :1], LABELS, r"at least \(3, 2\); got \(30, 1\)"),
    (np.where(FEATURES > 9, np.nan, FEATURES), LABELS, "must be finite"),
    (np.ones((5, 4)), LABELS[:5], "all rows of the features are the same"),
    (FEATURES, LABELS[:4], r"30 rows need labels of shape \(30,\); got \(4,\)"),
])
def test_what_cannot_be_drawn_is_an_error(features, labels, message):
    with pytest.raises(DataError, match=message):
        plot_feature_map(features, labels)


def test_an_unknown_method_is_an_error():
    with pytest.raises(ParameterError, match="one of 'pca', 'tsne'; got 'umap'"):
        plot_feature_map(FEATURES, LABELS, "umap")
