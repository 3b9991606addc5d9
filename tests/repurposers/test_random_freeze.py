"""Some layers frozen, others drawn anew, the top dropped."""

import numpy as np
import pytest
from tasks import bright_channels, residual_network, two_input_network, values

import xfer2
from xfer2.exceptions import LayerNotFoundError, ModelError, ParameterError
from xfer2.model_handler.network import Network


def refit(source, **settings):
    return xfer2.NeuralNetworkRandomFreezeRepurposer(source, **{"random_state": 0, "num_epochs": 1, **settings})


def test_fixed_layers_stay_random_ones_begin_anew_and_the_rest_moves_a_little():
    source, data = residual_network(), bright_channels(30)
    found = refit(source, fixed_layers="stem", random_layers=["b_conv"], learning_rate=1e-6, validation=0).fit(*data)
    before, after = values(source), values(found.network_)
    np.testing.assert_array_equal(after["stem_weight"], before["stem_weight"])
    assert np.abs(after["a_conv_weight"] - before["a_conv_weight"]).max() < 1e-4
    assert np.abs(after["b_conv_weight"] - before["b_conv_weight"]).max() > 0.1
    again = refit(source, fixed_layers="stem", random_layers=["b_conv"], learning_rate=1e-6, validation=0).fit(*data)
    np.testing.assert_array_equal(values(again.network_)["b_conv_weight"], after["b_conv_weight"])


@pytest.mark.parametrize(("dropped", "last"), [(None, "joined"), (2, "joined"), (1, "top")])
def test_the_top_is_dropped_as_far_as_asked_or_with_the_head(dropped, last):
    images, labels = bright_channels(30)
    found = refit(two_input_network(), num_layers_to_drop=dropped).fit((images, np.zeros((30, 5))), labels)
    layers = found.network_.graph.layer_names
    assert layers[layers.index("target_logits") - 1] == last


def test_a_layer_that_is_dropped_may_be_among_those_drawn_anew_and_a_pattern_may_reach_beyond():
    source, data = residual_network(), bright_channels(30)
    one, two = (refit(source, random_layers=drawn).fit(*data) for drawn in (["b_conv"], ["b_conv", "fc"]))
    for name, value in values(one.network_).items():
        np.testing.assert_array_equal(values(two.network_)[name], value)
    held = refit(source, fixed_layers="*").fit(*data)
    before, after = values(source), values(held.network_)
    assert all((after[name] == value).all() for name, value in before.items() if name in after)


def test_a_source_without_values_is_trained_from_scratch():
    source = residual_network()
    bare = Network(source.graph, input_shapes=source.input_shapes)
    images, labels = bright_channels(90, noise=0.3)
    found = refit(bare, random_layers="*", num_epochs=30, learning_rate=0.01, batch_size=16).fit(images, labels)
    assert found.score(images, labels) > 0.9


@pytest.mark.parametrize(("settings", "error", "message"), [
    ({"fixed_layers": ["stem"], "random_layers": ["st*"]}, ParameterError, "share no parameter with them; got 'stem'"),
    ({"fixed_layers": ["fc"]}, ParameterError, r"fixed_layers must be layers that stay, up to '\w+'; got \['fc'\]"),
    ({"fixed_layers": ["conv9"]}, LayerNotFoundError, "'conv9' is not in the network"),
    ({"random_layers": "z*"}, LayerNotFoundError, r"pattern 'z\*' matches none"),
    ({"num_layers_to_drop": 0}, ParameterError, "num_layers_to_drop must be an integer of at least 1"),
    ({"num_layers_to_drop": 40}, ModelError, "layers"),
])
def test_wrong_parameters_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        refit(residual_network(), **settings).fit(*bright_channels(30))
