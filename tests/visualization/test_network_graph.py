"""Every layer and every edge is drawn, and nothing runs through a box."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import small_networks

from xfer2.exceptions import ParameterError
from xfer2.model_handler import sources
from xfer2.model_handler.picture import layers_and_edges
from xfer2.visualization.network_graph import plot_network

GRAPHS = {name: layers_and_edges(network) for name, network in small_networks().items()}
GRAPHS["residual network"] = layers_and_edges(sources.read("zoo:cifar10-resnet28"))
GRAPHS["recurrent network"] = layers_and_edges(sources.read("zoo:mnist-rnn"))
GRAPHS["one layer"] = [("data", "data", False)], []
# Layers that read every earlier one, as in a dense block.
GRAPHS["dense"] = [(str(n), f"layer {n}\ntype", n % 2 == 0) for n in range(8)], list(itertools.combinations("01234567", 2))


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def boxes_of(ax, names):
    found = {patch.get_gid(): patch.get_bbox() for patch in ax.patches if patch.get_gid() in names}
    assert set(found) == set(names)
    return found


def lines_of(ax):
    """Points along every arrow's line, close together."""
    corners = {tuple(patch.get_gid().split(" -> ")): patch._path_original.to_polygons(closed_only=False)[0]
               for patch in ax.patches if " -> " in (patch.get_gid() or "")}
    shares = np.linspace(0, 1, 9)[:, None, None]
    return {edge: (points[:-1] + shares * np.diff(points, axis=0)).swapaxes(0, 1).reshape(-1, 2)
            for edge, points in corners.items()}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_layer_and_edge_is_drawn_and_nothing_overlaps(name):
    layers, edges = GRAPHS[name]
    ax = plot_network(layers, edges)
    boxes = boxes_of(ax, [layer for layer, _, _ in layers])
    assert sorted(text.get_text() for text in ax.texts) == sorted(text for _, text, _ in layers)
    for one, other in itertools.combinations(boxes.values(), 2):
        assert one.x1 < other.x0 or other.x1 < one.x0 or one.y1 < other.y0 or other.y1 < one.y0
    lines = lines_of(ax)
    assert set(lines) == set(edges)
    for (start, end), points in lines.items():
        np.testing.assert_allclose(points[0], [(boxes[start].x0 + boxes[start].x1) / 2, boxes[start].y0], atol=1e-9)
        np.testing.assert_allclose(points[-1], [(boxes[end].x0 + boxes[end].x1) / 2, boxes[end].y1], atol=1e-9)
        for box in boxes.values():
            assert not ((points[:, 0] > box.x0) & (points[:, 0] < box.x1) & (points[:, 1] > box.y0 + 1e-9)
                        & (points[:, 1] < box.y1 - 1e-9)).any()


@pytest.mark.parametrize("name", ["residual network", "inception", "chain"])
def test_texts_fit_their_boxes_in_a_figure_of_their_own_and_in_another(name):
    layers, edges = GRAPHS[name]
    for ax in (None, plt.figure(figsize=(3, 9), dpi=300).add_subplot()):
        drawn = plot_network(layers, edges, ax)
        assert ax is None or drawn is ax
        drawn.figure.canvas.draw()
        boxes = boxes_of(drawn, [layer for layer, _, _ in layers])
        for text in drawn.texts:
            inner = text.get_window_extent()
            outer = drawn.transData.transform_bbox(boxes[text.get_text().split("\n")[0]])
            assert outer.x0 < inner.x0 < inner.x1 < outer.x1
            assert outer.y0 < inner.y0 + 1 < inner.y1 - 1 < outer.y1
            assert drawn.figure.bbox.x0 <= outer.x0 < outer.x1 <= drawn.figure.bbox.x1


def test_the_main_line_of_a_residual_network_is_straight_beside_its_shortcuts():
    ax = plot_network(*GRAPHS["residual network"])
    boxes = boxes_of(ax, [layer for layer, _, _ in GRAPHS["residual network"][0]])
    middles = [(box.x0 + box.x1) / 2 for name, box in boxes.items() if name.startswith("stage2_unit3")]
    assert np.ptp(middles) < 0.1 * boxes["stage2_unit3_conv1"].width


def test_height_grows_with_depth():
    def height(count):
        layers = [(str(n), f"{n}\nDense", False) for n in range(count)]
        return plot_network(layers, list(itertools.pairwise(map(str, range(count))))).figure.get_size_inches()[1]

    assert 0.3 < (height(40) - height(20)) / 20 < 0.45


def test_frozen_layers_are_filled_barred_and_explained():
    layers = [("data", "data", False), ("conv0", "conv0", True), ("fc", "fc", False)]
    edges = [("data", "conv0"), ("conv0", "fc")]
    ax = plot_network(layers, edges)
    (legend,) = ax.get_legend().get_texts()
    assert legend.get_text() == "frozen"
    colors = {patch.get_gid(): patch.get_facecolor() for patch in ax.patches if patch.get_gid()}
    assert colors["conv0"] != colors["data"] == colors["fc"]
    bars = [patch for patch in ax.patches if patch.get_gid() is None]
    assert len(bars) == 1
    assert bars[0].get_x() == next(patch for patch in ax.patches if patch.get_gid() == "conv0").get_x()
    assert plot_network([(name, text, False) for name, text, _ in layers], edges).get_legend() is None


def test_svg_files_name_the_layers(tmp_path):
    plot_network(*GRAPHS["residual"]).figure.savefig(tmp_path / "net.svg")
    text = (tmp_path / "net.svg").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in text for name, _, _ in GRAPHS["residual"][0])


@pytest.mark.parametrize("edges", [[("b", "a")], [("a", "a")], [("a", "z")]])
def test_edges_must_go_from_earlier_layers_to_later_ones(edges):
    with pytest.raises(ParameterError, match="edges must be from earlier layers to later ones"):
        plot_network([("a", "a", False), ("b", "b", False)], edges)


@pytest.mark.parametrize("layers", [[], [("a", "a", False), ("a", "b", False)]])
def test_layers_must_be_and_have_names_of_their_own(layers):
    with pytest.raises(ParameterError, match="layers must be at least one"):
        plot_network(layers, [])


def test_no_mathematics_is_read_into_names():
    ax = plot_network([("a", "US$_in_{US$", False)], [])
    ax.figure.canvas.draw()
    assert ax.texts[0].get_text() == r"US\$_in_{US\$"
