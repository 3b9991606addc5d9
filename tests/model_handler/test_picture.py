"""What is drawn of a network, and the handler's own picture."""

import matplotlib.pyplot as plt
import pytest
from helpers import chain_symbol, small_networks, with_values

from xfer2.exceptions import ParameterError
from xfer2.model_handler import ModelHandler
from xfer2.model_handler.network import Network
from xfer2.model_handler.picture import layers_and_edges

NETWORKS = small_networks()


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_inputs_then_layers_with_type_and_shape():
    layers, edges = layers_and_edges(NETWORKS["chain"])
    assert [text for _, text, _ in layers][:5] == [
        "data\ninput, 3x8x8", "conv1\nConvolution 3x3, 4x8x8", "bn1\nBatchNorm, 4x8x8", "relu1\nActivation relu, 4x8x8",
        "pool1\nPooling 2x2 max, 4x4x4"]
    assert edges[:2] == [("data", "conv1"), ("conv1", "bn1")]
    assert len(edges) == len(layers) - 1


def test_joined_branches_several_inputs_and_labels():
    layers, edges = layers_and_edges(NETWORKS["two inputs"])
    assert [name for name, _, _ in layers][:2] == ["left", "right"]
    assert {("fc_left", "add"), ("fc_right", "add")} < set(edges)
    layers, edges = layers_and_edges(with_values(chain_symbol(softmax=True), data=(3, 8, 8)))
    assert "softmax_label" not in {name for name, _, _ in layers} | {start for start, _ in edges}


def test_shapes_are_shown_where_they_are_known():
    network = Network(NETWORKS["residual"].graph)
    assert layers_and_edges(network)[0][0][1] == "data\ninput"
    layers, _ = layers_and_edges(network, {"data": (3, 8, 8)})
    assert layers[0][1] == "data\ninput, 3x8x8"
    assert dict((name, text) for name, text, _ in layers)["gap"] == "gap\nPooling avg, 8x1x1"


def test_the_handler_plots_its_network_with_the_frozen_marked(tmp_path):
    handler = ModelHandler(NETWORKS["residual"]).freeze("stem_conv")
    ax = handler.plot()
    assert [text.get_text().split("\n")[0] for text in ax.texts].count("add2") == 1
    assert len(ax.texts) == 1 + len(handler.layer_names)
    assert ax.get_legend() is not None
    ax.figure.savefig(tmp_path / "net.png")
    given = plt.figure().add_subplot()
    assert handler.plot(given) is given


def test_the_handler_takes_input_shapes_it_does_not_know():
    handler = ModelHandler(Network(NETWORKS["chain"].graph))
    assert any("3x16x16" in text.get_text() for text in handler.plot(data=(3, 16, 16)).texts)
    with pytest.raises(ParameterError, match="a shape without the batch axis"):
        handler.plot(data="3x8x8")
