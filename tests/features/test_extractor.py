"""Features are the layers' own outputs, wherever the data come from and wherever they are kept."""

import numpy as np
import pytest
from helpers import (
    chain_symbol,
    inputs_for,
    residual_symbol,
    small_networks,
    two_input_symbol,
    two_output_symbol,
    with_values,
)

from xfer2 import extract_features
from xfer2._mxnet import mx
from xfer2.exceptions import DataError, LayerNotFoundError, MissingParametersError, ModelError, ParameterError
from xfer2.features.engines.fake import FakeEngine
from xfer2.model_handler import params, sources, symbols

LAYERS = {"chain": ["conv1", "bn1", "relu1", "pool1", "fc1", "fc2"],
          "residual": ["stem_relu", "add1", "add2", "gap", "fc"], "inception": ["branch3", "concat", "fc"],
          "two inputs": ["fc_left", "add", "top"], "two outputs": ["trunk", "head_b"]}


def by_symbol_block(network, layers, batch):
    """MXNet's own way: the internals of the symbol in a SymbolBlock."""
    internals = symbols.to_symbol(network.graph).get_internals()
    outputs = mx.sym.Group([internals[f"{layer}_output"] for layer in layers])
    names = [name for name in network.inputs if name in outputs.list_inputs()]
    block = mx.gluon.SymbolBlock(outputs, [mx.sym.var(name) for name in names])
    for name, parameter in block.collect_params().items():
        parameter.shape = network.params[name].shape
        parameter.initialize(ctx=mx.cpu())
        parameter.set_data(network.params[name])
    found = block(*[mx.nd.array(batch[name]) for name in names])
    return [array.asnumpy() for array in (found if isinstance(found, (list, tuple)) else [found])]


@pytest.mark.filterwarnings("ignore:Cannot decide type")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_those_of_the_symbols_internals_to_the_bit(name):
    network = small_networks()[name]
    batch = inputs_for(network, count=5)
    features = extract_features(network, batch, LAYERS[name], batch_size=5)
    assert features.layers == tuple(LAYERS[name])
    for layer, expected in zip(LAYERS[name], by_symbol_block(network, LAYERS[name], batch), strict=True):
        np.testing.assert_array_equal(features[layer], expected)


def test_each_layer_alone_is_what_it_is_among_others():
    network = small_networks()["residual"]
    batch = inputs_for(network, count=6)
    together = extract_features(network, batch, LAYERS["residual"])
    for layer in LAYERS["residual"]:
        np.testing.assert_array_equal(extract_features(network, batch, layer)[layer], together[layer])


@pytest.mark.parametrize(("pool", "reduce"), [("avg", np.mean), ("max", np.max)])
def test_pool_reduces_maps_and_leaves_vectors(pool, reduce):
    network = small_networks()["residual"]
    batch = inputs_for(network, count=5)
    whole = extract_features(network, batch, LAYERS["residual"])
    pooled = extract_features(network, batch, LAYERS["residual"], pool=pool)
    for layer in ("stem_relu", "add1", "add2", "gap"):
        np.testing.assert_allclose(pooled[layer], reduce(whole[layer].astype(float), axis=(2, 3)), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(pooled["fc"], whole["fc"])


def test_pool_of_three_dimensional_maps():
    network = with_values(mx.sym.Convolution(mx.sym.var("data"), num_filter=2, kernel=(3,), name="conv"), data=(3, 9))
    batch = inputs_for(network, count=4)
    whole = extract_features(network, batch, "conv")["conv"]
    np.testing.assert_allclose(extract_features(network, batch, "conv", pool="avg")["conv"], whole.mean(axis=2), rtol=1e-5)


def test_the_engine_sees_batches_of_the_size_asked_for():
    network = small_networks()["chain"]
    data = inputs_for(network, count=10)
    engine = FakeEngine(lambda batch: [batch["data"].sum(axis=(1, 2, 3))[:, None]])
    features = extract_features(network, data, "fc2", batch_size=4, engine=lambda pruned: engine)
    assert engine.batches == [4, 4, 2]
    np.testing.assert_allclose(features["fc2"][:, 0], data["data"].sum(axis=(1, 2, 3)), rtol=1e-4)


def test_the_engine_is_given_only_what_the_layers_need():
    given = []

    def make(network):
        given.append(network)
        return FakeEngine(lambda batch: [batch["left"]])

    network = small_networks()["two inputs"]
    extract_features(network, inputs_for(network), "fc_left", engine=make)
    assert given[0].inputs == ("left",)
    assert set(given[0].params) == {"fc_left_weight", "fc_left_bias"}


def test_a_layer_that_mixes_examples_is_refused():
    network = small_networks()["chain"]
    with pytest.raises(ModelError, match="'fc2' gives 1 rows for 3 examples"):
        extract_features(network, inputs_for(network), "fc2", engine=lambda pruned: FakeEngine(lambda b: [np.zeros((1, 2))]))


@pytest.mark.parametrize("pool", [None, "avg"])
@pytest.mark.parametrize("size", [3, 5])
def test_time_on_the_first_axis_is_refused_even_where_a_batch_has_as_many_examples_as_steps(size, pool):
    steps = mx.sym.transpose(mx.sym.var("data"), axes=(1, 0, 2), name="steps")
    network = with_values(mx.sym.FullyConnected(steps, num_hidden=4, flatten=False, name="dense"), data=(5, 3))
    for layer in ("steps", "dense"):
        with pytest.raises(ModelError, match=rf"'{layer}' gives 5 rows for 2 examples; it is no feature of single examples"):
            extract_features(network, np.ones((10, 5, 3)), layer, batch_size=size, pool=pool)
    back = with_values(mx.sym.transpose(steps, axes=(1, 0, 2), name="back"), data=(5, 3))
    data = np.random.default_rng(0).normal(size=(10, 5, 3)).astype("float32")
    np.testing.assert_array_equal(extract_features(back, data, "back", batch_size=5)["back"], data)


@pytest.mark.parametrize(("shape", "size"), [((4, -1), 4), ((4, 3, 8), 4), ((1, -1), 1)])
def test_a_network_made_for_one_size_of_batch_gives_features_in_such_batches(shape, size):
    network = with_values(mx.sym.Reshape(mx.sym.var("data"), shape=shape, name="rows"), data=(24,))
    data = np.random.default_rng(0).normal(size=(8, 24)).astype("float32")
    found = extract_features(network, data, "rows", batch_size=size)["rows"]
    np.testing.assert_array_equal(found.reshape(8, 24), data)


@pytest.mark.parametrize("size", [1, 3, 4, 7, 32])
def test_batch_size_changes_nothing(size):
    network = small_networks()["chain"]
    data = inputs_for(network, count=10)
    expected = extract_features(network, data, ["pool1", "fc2"], batch_size=10)
    found = extract_features(network, data, ["pool1", "fc2"], batch_size=size, labels=range(10))
    assert found.labels.tolist() == found.ids == list(range(10))
    for layer in ("pool1", "fc2"):
        np.testing.assert_allclose(found[layer], expected[layer], rtol=1e-5, atol=1e-6)


def test_a_folder_store_holds_what_memory_holds(tmp_path):
    network = small_networks()["chain"]
    data, labels = inputs_for(network, count=10), ["bee", "hornet"] * 5
    memory = extract_features(network, data, ["pool1", "fc2"], labels=labels, batch_size=4)
    folder = extract_features(network, data, ["pool1", "fc2"], labels=labels, batch_size=4, store=str(tmp_path / "kept"))
    assert isinstance(folder["pool1"], np.memmap)
    assert folder.labels.tolist() == memory.labels.tolist() == labels
    assert folder.ids == memory.ids
    for layer in memory:
        np.testing.assert_array_equal(folder[layer], memory[layer])


@pytest.mark.parametrize("stored", [False, True])
def test_data_of_unknown_number(tmp_path, stored):
    network = small_networks()["chain"]
    data = inputs_for(network, count=21)["data"]
    iterator = mx.io.NDArrayIter(data, np.arange(21), batch_size=2)
    found = extract_features(network, iterator, "fc2", store=str(tmp_path / "kept") if stored else None)
    assert found["fc2"].shape == (21, 3)
    assert found.labels.tolist() == list(range(21))
    np.testing.assert_allclose(found["fc2"], extract_features(network, data, "fc2")["fc2"], rtol=1e-5)


def test_softmaxoutput_networks_need_no_labels():
    network = with_values(chain_symbol(softmax=True), data=(3, 8, 8))
    data = inputs_for(network, count=5)
    probabilities = extract_features(network, data, "softmax")["softmax"]
    logits = extract_features(network, data, "fc2")["fc2"].astype(float)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-5)


def test_one_input_of_two_is_enough_where_the_layer_needs_only_that():
    network = with_values(two_input_symbol(), left=(5,), right=(3,))
    batch = inputs_for(network)
    assert extract_features(network, batch, "fc_right")["fc_right"].shape == (3, 4)


def test_layers_of_a_network_with_two_outputs():
    network = with_values(two_output_symbol(), data=(5,))
    found = extract_features(network, inputs_for(network), ["head_b", "head_a"])
    assert (found["head_a"].shape, found["head_b"].shape) == ((3, 3), (3, 2))
    assert found.layers == ("head_b", "head_a")


def test_a_network_whose_input_size_is_not_recorded():
    network = sources.read((residual_symbol(), with_values(residual_symbol(), data=(3, 8, 8)).params))
    for side in (8, 12):
        found = extract_features(network, np.ones((2, 3, side, side)), "add2")
        assert found["add2"].shape == (2, 8, side, side)


def test_a_misspelt_layer_lists_the_nearest():
    with pytest.raises(LayerNotFoundError, match=r"Relu_1.*relu1"):
        extract_features(small_networks()["chain"], np.ones((2, 3, 8, 8)), "Relu_1")


@pytest.mark.parametrize(("layers", "message"), [([], "layer name or a list"), (["fc1", "fc1"], "without repeated names"),
                                                 (3, "layer name or a list"), ([3], "layer name or a list")])
def test_layers_that_are_no_names(layers, message):
    with pytest.raises(ParameterError, match=message):
        extract_features(small_networks()["chain"], np.ones((2, 3, 8, 8)), layers)


def test_other_mistakes_are_named():
    network = small_networks()["chain"]
    with pytest.raises(ParameterError, match="pool must be one of None, 'avg', 'max'; got 'sum'"):
        extract_features(network, np.ones((2, 3, 8, 8)), "fc1", pool="sum")
    with pytest.raises(DataError, match=r"got data \(n, 3, 8, 12\).*expects data \(n, 3, 8, 8\)"):
        extract_features(network, np.ones((2, 3, 8, 12)), "fc1")
    with pytest.raises(MissingParametersError, match="conv1_weight"):
        extract_features(chain_symbol(), np.ones((2, 3, 8, 8)), "fc1")


def test_missing_values_above_the_layer_do_not_matter():
    values = {name: value for name, value in small_networks()["chain"].params.items() if not name.startswith("fc")}
    network = sources.read((chain_symbol(), values))
    assert extract_features(network, np.ones((2, 3, 8, 8)), "pool1")["pool1"].shape == (2, 4, 4, 4)


def test_inputs_are_kept_as_they_come_beside_the_layers_or_alone():
    from xfer2.data.batches import open_batches
    from xfer2.features.extractor import extract

    network = small_networks()["two inputs"]
    data = inputs_for(network, 7)
    both = extract(network, open_batches(data, network, range(7), 3), ("add",), inputs=("right",))
    np.testing.assert_array_equal(both["right"], data["right"])
    np.testing.assert_allclose(both["add"], extract_features(network, data, "add")["add"], atol=1e-6)
    assert both.labels.tolist() == list(range(7))
    alone = extract(network, open_batches(data, network, batch_size=3), (), inputs=("left",))
    assert alone.layers == ("left",)
    np.testing.assert_array_equal(alone["left"], data["left"])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_sources_in_another_precision_are_computed_in_single(dtype):
    network = small_networks()["chain"]
    data = inputs_for(network, 4)
    found = extract_features(params.cast(network, dtype), data, "fc1")["fc1"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, extract_features(network, data, "fc1")["fc1"], rtol=1e-2, atol=1e-3)


def test_a_store_may_be_a_path(tmp_path):
    network = small_networks()["chain"]
    found = extract_features(network, inputs_for(network, 4), "fc1", store=tmp_path / "kept")
    assert isinstance(found["fc1"], np.memmap)
