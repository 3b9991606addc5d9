"""Networks to plain MXNet's files and back."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import chain_symbol, inputs_for, small_networks, two_input_symbol, with_values
from model_handler.running import assert_same, assert_same_parameters, block_outputs, computed, small_cnn, write_checkpoint

from xfer2._mxnet import mx
from xfer2.exceptions import MissingParametersError, ModelError, ParameterError
from xfer2.model_handler import ModelHandler, Preprocessing, mxnet_files, sources

NETWORKS = small_networks()
IMAGES = np.random.default_rng(2).normal(size=(2, 3, 8, 8)).astype("float32")


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.fixture
def epochs(tmp_path):
    networks = {epoch: with_values(chain_symbol(), seed=epoch, data=(3, 8, 8)) for epoch in (0, 3, 12)}
    for epoch, network in networks.items():
        write_checkpoint(network, tmp_path / "net", epoch)
    write_checkpoint(with_values(two_input_symbol(), left=(5,), right=(3,)), tmp_path / "net-other", 99)
    return str(tmp_path / "net"), networks


def test_a_prefix_is_its_newest_epoch(epochs):
    prefix, networks = epochs
    for source in (prefix, Path(prefix), f"{prefix}-symbol.json"):
        assert_same_parameters(sources.read(source), networks[12])


def test_a_prefix_and_an_epoch(epochs):
    prefix, networks = epochs
    assert_same_parameters(sources.read((prefix, 3)), networks[3])
    with pytest.raises(ModelError, match=r"no parameter file '.*net-0004.params'"):
        sources.read((prefix, 4))
    with pytest.raises(ParameterError, match=r"epoch of \(prefix, epoch\) must be an integer of at least 0; got '3'"):
        sources.read((prefix, "3"))


def test_an_absent_checkpoint_lists_those_beside_it(epochs):
    with pytest.raises(ModelError, match=r"There is no checkpoint '.*nett'.*Checkpoints in that folder: .*net"):
        sources.read(epochs[0] + "t")


def test_a_symbol_without_parameters_says_which_file_is_expected(tmp_path):
    chain_symbol().save(str(tmp_path / "net-symbol.json"))
    with pytest.raises(ModelError, match=r"net-0000.params was expected"):
        sources.read(str(tmp_path / "net"))


def test_parameters_under_bare_names(tmp_path):
    chain_symbol().save(str(tmp_path / "net-symbol.json"))
    network = with_values(chain_symbol(), data=(3, 8, 8))
    mx.nd.save(str(tmp_path / "net-0000.params"), dict(network.params))
    assert_same_parameters(sources.read(str(tmp_path / "net")), network)


def test_parameters_saved_by_a_parameter_dict(tmp_path):
    block = small_cnn()
    block(mx.sym.var("data")).save(str(tmp_path / "net-symbol.json"))
    block.collect_params().save(str(tmp_path / "net-0000.params"))
    expected = block(mx.nd.array(IMAGES)).asnumpy()
    found = computed(sources.read(str(tmp_path / "net")), {"data": IMAGES})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_exported_block(tmp_path):
    block = small_cnn()
    block.hybridize()
    expected = block(mx.nd.array(IMAGES)).asnumpy()
    block.export(str(tmp_path / "net"), epoch=7)
    assert_same(computed(sources.read(str(tmp_path / "net")), {"data": IMAGES}), [expected])


def test_parameters_under_structured_names_are_refused_with_the_remedy(tmp_path):
    block = small_cnn()
    block(mx.sym.var("data")).save(str(tmp_path / "net-symbol.json"))
    block.save_parameters(str(tmp_path / "net-0000.params"))
    with pytest.raises(ModelError, match=r"Block\.save_parameters name parameters by the block's attributes: load one into"):
        sources.read(str(tmp_path / "net"))


def test_the_preprocessing_record_is_read_with_the_model(tmp_path):
    prefix = write_checkpoint(with_values(chain_symbol(softmax=True), data=(3, 8, 8)), tmp_path / "net")
    Path(f"{prefix}-preprocessing.json").write_text('{"input_shape": [3, 8, 8], "scale": 0.5}')
    network = sources.read(prefix)
    assert network.preprocessing.scale == 0.5
    assert network.input_shapes == {"data": (3, 8, 8)}


@pytest.mark.parametrize(("text", "error", "message"), [
    ("{", ModelError, "not valid JSON"), ("[]", ModelError, "must hold an object"),
    ("{}", ParameterError, "no 'input_shape'"), ('{"input_shape": [3, 8, 8], "sise": 1}', ParameterError, "'sise'"),
    ('{"input_shape": [3, 8]}', ParameterError, "input_shape must be three positive integers"),
    ('{"input_shape": 8}', ParameterError, "input_shape must be three positive integers"),
    ('{"input_shape": [3, 16, 16]}', ModelError, "contradict"),
    ('{"input_shape": [3, 8, 8], "input_name": "image"}', ModelError, "the input 'image'; the network's inputs are: data"),
    ('{"input_shape": [3, 8, 8], "scale": "x"}', ParameterError, "scale must be"),
    ('{"input_shape": [3, 8, 8], "resize_short": "x", "crop": "center"}', ParameterError, "resize_short must be"),
    ('{"input_shape": [3, 8, 8], "input_name": 3}', ParameterError, "input_name must be"),
])
def test_a_wrong_preprocessing_record_is_one_clear_error(text, error, message, tmp_path):
    prefix = write_checkpoint(with_values(chain_symbol(softmax=True), data=(3, 8, 8)), tmp_path / "net")
    Path(f"{prefix}-preprocessing.json").write_text(text)
    with pytest.raises(error, match=message):
        sources.read(prefix)


# --- writing ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Cannot decide type")
@pytest.mark.parametrize("name", NETWORKS)
def test_plain_mxnet_loads_what_is_saved(name, tmp_path):
    network = NETWORKS[name]
    prefix = str(tmp_path / "net")
    paths = mxnet_files.write(network, prefix, 3)
    assert sorted(paths) == [f"{prefix}-0003.params", f"{prefix}-symbol.json"]
    assert sorted(str(path) for path in tmp_path.iterdir()) == sorted(paths)
    inputs = inputs_for(network)
    assert_same(computed(sources.read(mx.model.load_checkpoint(prefix, 3)), inputs), computed(network))
    block = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", list(network.inputs), f"{prefix}-0003.params")
    assert_same(block_outputs(block, network, inputs), computed(network))


def test_the_preprocessing_record_is_written_and_read_back(tmp_path):
    handler = ModelHandler(NETWORKS["chain"])
    handler.preprocessing = {"input_shape": (3, 8, 8), "scale": 0.5, "mean": [1, 2, 3], "color": "BGR"}
    assert len(handler.save(str(tmp_path / "net"))) == 3
    assert json.loads((tmp_path / "net-preprocessing.json").read_text())["mean"] == [1, 2, 3]
    again = ModelHandler(str(tmp_path / "net"))
    assert again.preprocessing == handler.preprocessing == Preprocessing(
        (3, 8, 8), color="BGR", scale=0.5, mean=(1.0, 2.0, 3.0))


def test_saving_over_a_checkpoint_replaces_it(tmp_path):
    prefix = str(tmp_path / "net")
    mxnet_files.write(NETWORKS["chain"], prefix)
    mxnet_files.write(NETWORKS["inception"], prefix)
    assert sources.read(prefix).graph == NETWORKS["inception"].graph


def test_saving_over_a_checkpoint_leaves_no_record_of_the_earlier_one(tmp_path):
    prefix = str(tmp_path / "net")
    handler = ModelHandler(NETWORKS["chain"])
    handler.preprocessing = {"input_shape": (3, 8, 8)}
    handler.save(prefix)
    (tmp_path / "net2-preprocessing.json").write_text("{}")
    assert len(ModelHandler(NETWORKS["residual"]).save(prefix)) == 2
    assert ModelHandler(prefix).preprocessing is None
    assert (tmp_path / "net2-preprocessing.json").is_file()


def test_what_would_not_be_read_back_is_not_saved(tmp_path):
    prefix = str(tmp_path / "net[1]")
    old, new = NETWORKS["chain"], ModelHandler(NETWORKS["chain"]).reinitialize("fc2", seed=1).network
    mxnet_files.write(old, prefix, 7)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ModelError, match=r"epoch 0 .*net\[1\]-0007.params is of a later epoch.*epoch=7 or a later"):
        ModelHandler(new).save(prefix)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    for epoch in (7, 12345):
        mxnet_files.write(new, prefix, epoch)
        assert_same([sources.read(prefix).params["fc2_weight"].asnumpy()], [new.params["fc2_weight"].asnumpy()])
    (tmp_path / "net[1]2-0009.params").write_text("of another prefix")
    mxnet_files.write(old, str(tmp_path / "net"), 3)


def test_names_beyond_ascii_are_saved_and_read(tmp_path):
    network = ModelHandler(NETWORKS["chain"]).rename("fc2", "größe").network
    mxnet_files.write(network, str(tmp_path / "net"))
    assert_same(computed(sources.read(str(tmp_path / "net")), {"data": IMAGES}), computed(network, {"data": IMAGES}))


def test_a_network_without_parameters_is_saved_and_read_back(tmp_path):
    prefix = str(tmp_path / "net")
    pooling = mx.sym.Pooling(mx.sym.var("data"), kernel=(2, 2), pool_type="max", name="pool")
    mxnet_files.write(sources.read(pooling), prefix)
    assert_same(computed(sources.read(prefix), {"data": IMAGES}), computed(sources.read(pooling), {"data": IMAGES}))
    chain_symbol().save(f"{prefix}-symbol.json")
    with pytest.raises(ModelError, match=r"net-0000.params' holds no arrays; '.*json' has 12 parameters, the first 'conv1"):
        sources.read(prefix)
    mx.nd.save(f"{prefix}-0000.params", [mx.nd.zeros(3)])
    with pytest.raises(ModelError, match="holds 1 arrays without names"):
        sources.read(prefix)


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(ModelError, match=r"there is no folder '.*nowhere'"):
        mxnet_files.write(NETWORKS["chain"], str(tmp_path / "nowhere" / "net"))
    with pytest.raises(MissingParametersError, match=r"save needs values for all parameters"):
        mxnet_files.write(sources.read(chain_symbol()), str(tmp_path / "net"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "net-0000.params").mkdir()
    with pytest.raises(ModelError, match=r"Cannot save to '.*net': .*directory"):
        mxnet_files.write(NETWORKS["chain"], str(tmp_path / "net"))
    assert [path.name for path in tmp_path.iterdir()] == ["net-0000.params"]
