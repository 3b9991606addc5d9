"""An ONNX file computes what MXNet computes, whatever MXNet's translation leaves out; else there is no file."""

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import chain_symbol, inputs_for, small_networks, with_values
from model_handler.running import computed

from xfer2._mxnet import mx
from xfer2.exceptions import DataError, MissingParametersError, ModelError, ParameterError
from xfer2.model_handler import ModelHandler, Network, onnx_export, sources

NETWORKS = small_networks()
MAPS = (4, 6, 5)
DATA = mx.sym.var("data")


def batch_norm_twice():
    gamma = mx.sym.var("shared_gamma")
    first = mx.sym.BatchNorm(DATA, gamma=gamma, fix_gamma=True, name="fixed")
    return mx.sym.BatchNorm(first, gamma=gamma, fix_gamma=False, name="free")


def prelu_twice():
    alpha = mx.sym.var("shared_gamma")
    maps = mx.sym.LeakyReLU(DATA, gamma=alpha, act_type="prelu", name="of_maps")
    return mx.sym.LeakyReLU(mx.sym.mean(maps, axis=(2, 3), name="mean"), gamma=alpha, act_type="prelu", name="of_vectors")


def in_turn():
    """Two parts of a split, the second first."""
    parts = mx.sym.SliceChannel(DATA, num_outputs=2, axis=1, name="parts")
    return mx.sym.Group([parts[1], parts[0]])


LAYERS = {
    "BatchNorm whose gamma counts as 1": lambda: mx.sym.BatchNorm(DATA, name="bn"),
    "BatchNorm told so": lambda: mx.sym.BatchNorm(DATA, fix_gamma=True, name="bn"),
    "BatchNorm with its gamma": lambda: mx.sym.BatchNorm(DATA, fix_gamma=False, name="bn"),
    "a gamma that counts once as 1": batch_norm_twice,
    "LRN": lambda: mx.sym.LRN(DATA, nsize=3, alpha=0.1, name="lrn"),
    "LRN told": lambda: mx.sym.LRN(DATA, nsize=3, alpha=0.1, knorm=1, name="lrn"),
    "Deconvolution": lambda: mx.sym.Deconvolution(DATA, kernel=(3, 3), stride=(2, 2), num_filter=3, name="deconv"),
    "Deconvolution with a bias": lambda: mx.sym.Deconvolution(DATA, kernel=(3, 3), num_filter=3, no_bias=False, name="bias"),
    "PReLU": lambda: mx.sym.LeakyReLU(DATA, act_type="prelu", name="prelu"),
    "PReLU of one slope": lambda: mx.sym.LeakyReLU(DATA, gamma=mx.sym.var("a_gamma", shape=(1,)), act_type="prelu"),
    "a slope for maps and vectors": prelu_twice,
    "SliceChannel": lambda: mx.sym.SliceChannel(DATA, num_outputs=2, name="parts"),
    "SliceChannel in turn": in_turn,
    "LayerNorm": lambda: mx.sym.LayerNorm(DATA, name="ln"),
    "mean": lambda: mx.sym.mean(DATA, axis=(2, 3), name="mean"),
    "norm": lambda: mx.sym.norm(DATA, axis=1, name="norm"),
    "a Reshape that fits one example": lambda: mx.sym.reshape(mx.sym.Flatten(DATA), shape=(1, 4, 30), name="reshape"),
}


def exported(network, path, **shapes):
    onnx_export.save_onnx(network, path, shapes)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # warnings of unused constants
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def assert_close(found, expected):
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        assert one.shape == two.shape
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_what_mxnet_means_unsaid_is_in_the_file(name, tmp_path):
    network = with_values(LAYERS[name](), data=MAPS)
    inputs = {"data": np.random.default_rng(1).normal(size=(1, *MAPS)).astype("float32")}
    assert_close(exported(network, str(tmp_path / "net.onnx")).run(None, inputs), computed(network, inputs))


def test_an_export_changes_no_parameter_of_the_network(tmp_path):
    network = with_values(mx.sym.BatchNorm(DATA, name="bn"), data=MAPS)
    before = network.params["bn_gamma"].asnumpy()
    onnx_export.save_onnx(network, str(tmp_path / "net.onnx"))
    np.testing.assert_array_equal(network.params["bn_gamma"].asnumpy(), before)


@pytest.mark.parametrize("name", ["two inputs", "two outputs"])
@pytest.mark.parametrize("count", [1, 3])
def test_several_inputs_and_outputs(name, count, tmp_path):
    network = NETWORKS[name]
    session = exported(network, str(tmp_path / "net.onnx"))
    assert [value.name for value in session.get_inputs()] == list(network.inputs)
    inputs = {key: np.random.default_rng(2).normal(size=(count, *network.input_shapes[key])).astype("float32")
              for key in network.inputs}
    assert_close(session.run(None, inputs), computed(network, inputs))


def test_inputs_that_the_outputs_read_in_another_order(tmp_path):
    dense = [mx.sym.FullyConnected(mx.sym.var(name), num_hidden=2, name=f"fc_{name}") for name in "ab"]
    network = ModelHandler(with_values(mx.sym.Group(dense), a=(5,), b=(7,))).extract(["fc_b", "fc_a"]).network
    random = np.random.default_rng(3)
    inputs = {"a": random.normal(size=(3, 5)).astype("float32"), "b": random.normal(size=(3, 7)).astype("float32")}
    session = exported(network, str(tmp_path / "net.onnx"))
    assert [value.name for value in session.get_outputs()] == ["fc_b", "fc_a"]
    assert_close(session.run(None, inputs), computed(network, inputs))


@pytest.mark.parametrize("name", ["mnist-rnn", "mnist-cnn"])
def test_networks_of_the_zoo_compute_the_same(name, tmp_path):
    handler = ModelHandler(f"zoo:{name}")
    images = np.random.default_rng(4).normal(size=(2, *handler.preprocessing.input_shape)).astype("float32")
    found = exported(handler.network, str(tmp_path / "net.onnx")).run(None, {"data": images})
    assert_close([found[0] / 10], [computed(handler.network, {"data": images})[0] / 10])


def test_inputs_that_are_rows_of_a_table(tmp_path):
    """MXNet takes row 0 for -1 and ONNX the last one: the comparison must not feed what no one feeds."""
    words = mx.sym.Embedding(mx.sym.slice_axis(DATA, axis=1, begin=0, end=3), input_dim=5, output_dim=4, name="words")
    network = with_values(mx.sym.FullyConnected(words, num_hidden=2, name="fc"), data=(4,))
    inputs = {"data": np.array([[0, 4, 2, 1], [3, 1, 0, 0]], "float32")}
    assert_close(exported(network, str(tmp_path / "net.onnx")).run(None, inputs), computed(network, inputs))


def in_order_of(scores, k=5):
    return mx.sym.topk(scores, k=k, axis=1, ret_typ="indices", name="best")


def test_scores_that_tie_are_no_disagreement(tmp_path):
    """MXNet and ONNX Runtime order equal scores each in its way; what the scores are, they agree on."""
    network = with_values(in_order_of(mx.sym.floor(mx.sym.FullyConnected(DATA, num_hidden=64, name="fc"))), data=(4,))
    inputs = {"data": np.random.default_rng(0).normal(size=(2, 4)).astype("float32")}
    found = exported(network, str(tmp_path / "net.onnx")).run(None, inputs)[0]
    assert found.shape == (2, 5)
    assert not np.array_equal(found, computed(network, inputs)[0])  # else the test shows nothing
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_what_is_put_in_order_is_compared(tmp_path):
    wrong = mx.sym.mean(DATA, axis=1, exclude=True, keepdims=True, name="wrong")
    network = with_values(in_order_of(mx.sym.broadcast_add(DATA, wrong, name="odd"), 2), data=(2,))
    with pytest.raises(ModelError, match=r"at the output 'odd' MXNet gives -?\d\S* and ONNX Runtime -?\d"):
        onnx_export.save_onnx(network, str(tmp_path / "net.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_the_file_says_the_opset_its_operators_are_of(tmp_path):
    path = str(tmp_path / "net.onnx")
    onnx_export.save_onnx(NETWORKS["chain"], path)
    model = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 13)]
    onnx.checker.check_model(model)
    assert onnx.checker.DEFAULT_CONTEXT.opset_imports == {"": onnx.defs.onnx_opset_version()}


# --- no file ------------------------------------------------------------------------------------------------------


def test_a_translation_that_gives_other_figures_is_refused_with_both(tmp_path):
    """MXNet's translation of a mean over all axes but some takes it over those."""
    network = with_values(mx.sym.mean(DATA, axis=1, exclude=True, name="odd"), data=(2,))
    with pytest.raises(ModelError, match=r"at the output 'odd' MXNet gives -?\d\S* and ONNX Runtime -?\d.*no file was writ"):
        onnx_export.save_onnx(network, str(tmp_path / "net.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_a_translation_that_gives_another_shape_is_refused_and_an_earlier_file_stays(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"earlier")
    network = with_values(mx.sym.mean(DATA, axis=(0, 1), exclude=True, name="odd"), data=MAPS)
    with pytest.raises(ModelError, match=r"MXNet gives shape \(2, 4\) and ONNX Runtime shape \(6, 5\)"):
        onnx_export.save_onnx(network, str(path))
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_mxnet_leaves_out_is_a_model_error(tmp_path):
    network = with_values(mx.sym.SliceChannel(DATA, num_outputs=12, name="parts"), data=(12,))
    with pytest.raises(ModelError, match=r"of its 12 outputs MXNet translates 10. Export each output alone"):
        onnx_export.save_onnx(network, str(tmp_path / "net.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_the_translation_knows_in_part_is_a_model_error(tmp_path):
    network = with_values(mx.sym.LeakyReLU(DATA, act_type="rrelu", name="odd"), data=(5,))
    with pytest.raises(ModelError, match=r"no ONNX form: 'rrelu'. Replace that layer, or export the part"):
        onnx_export.save_onnx(network, str(tmp_path / "net.onnx"))


def test_paths_and_shapes_that_cannot_be(tmp_path):
    handler = ModelHandler(NETWORKS["chain"])
    with pytest.raises(ModelError, match=r"Cannot export to '.*net.onnx': there is no folder '.*nowhere'. Make it first"):
        handler.export_onnx(str(tmp_path / "nowhere" / "net.onnx"))
    with pytest.raises(ModelError, match=r"it is a folder. Give the path of a file"):
        handler.export_onnx(str(tmp_path))
    with pytest.raises(ModelError, match=r"to '/proc/net.onnx': '/proc' cannot be written \(.*\). Choose a folder that"):
        handler.export_onnx("/proc/net.onnx")  # which nobody can write, root included
    with pytest.raises(ParameterError, match=r"export_onnx: the inputs must be among data; got 'dat'"):
        handler.export_onnx(str(tmp_path / "net.onnx"), dat=(3, 8, 8))
    with pytest.raises(DataError, match=r"got data \(n, 1, 8, 8\). The network expects data \(n, 3, 8, 8\)"):
        handler.export_onnx(str(tmp_path / "net.onnx"), data=(1, 8, 8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["chain", "residual", "inception"])
def test_onnx_agrees_with_mxnet(name, count, tmp_path):
    network = NETWORKS[name]
    path = str(tmp_path / "net.onnx")
    onnx_export.save_onnx(network, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["data"]
    inputs = inputs_for(network, count)
    found = session.run(None, inputs)
    np.testing.assert_allclose(found[0], computed(network, inputs)[0], rtol=1e-5, atol=1e-5)


def test_onnx_of_a_network_with_a_label_takes_data_only(tmp_path):
    network, path = with_values(chain_symbol(softmax=True), data=(3, 8, 8)), str(tmp_path / "net.onnx")
    ModelHandler(network).export_onnx(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = inputs_for(network, 2)
    np.testing.assert_allclose(session.run(None, inputs)[0], computed(network, inputs)[0], rtol=1e-5, atol=1e-6)


def test_onnx_needs_shapes_and_values(tmp_path):
    old = NETWORKS["chain"]
    with pytest.raises(ModelError, match=r"needs the shape of the input 'data'.*data=\(3, 224, 224\)"):
        onnx_export.save_onnx(Network(old.graph, old.arg_params, old.aux_params), str(tmp_path / "net.onnx"))
    with pytest.raises(MissingParametersError, match=r"export_onnx needs values"):
        onnx_export.save_onnx(sources.read(chain_symbol()), str(tmp_path / "net.onnx"))


def test_an_operator_without_a_translation_is_a_model_error_and_leaves_no_file(tmp_path):
    network = with_values(mx.sym.erfinv(mx.sym.var("data"), name="odd"), data=(3,))
    with pytest.raises(ModelError, match=r"The network has no ONNX form"):
        onnx_export.save_onnx(network, str(tmp_path / "net.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_an_export_prints_nothing(tmp_path, capsys):
    network = with_values(1 / (mx.sym.FullyConnected(DATA, num_hidden=2, name="fc") + 3), data=(3,))
    onnx_export.save_onnx(network, str(tmp_path / "net.onnx"))
    assert capsys.readouterr().out == ""
