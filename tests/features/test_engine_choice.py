"""ONNX Runtime gives what MXNet gives, and is chosen where that is so and there is enough to compute."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import chain_symbol, inputs_for, residual_symbol, two_input_symbol, with_values

import xfer2
from xfer2._mxnet import mx
from xfer2.data.batches import open_batches
from xfer2.exceptions import DataError, ModelError, ParameterError
from xfer2.features.engines.automatic import AutomaticEngine, engine_factory, engine_on
from xfer2.features.engines.mxnet import MxnetEngine
from xfer2.features.engines.onnxruntime import OnnxRuntimeEngine
from xfer2.features.extractor import extract_parts, pruned

ENOUGH = 10**12


def image_network():
    return with_values(chain_symbol(), data=(3, 8, 8))


def untranslated():
    """MXNet's translation to ONNX knows no broadcast_maximum."""
    data = mx.sym.var("data")
    return with_values(mx.sym.broadcast_maximum(data, 2 * data, name="most"), data=(6,))


@pytest.mark.parametrize(("network", "layers"), [
    (image_network(), ("conv1", "relu1", "fc2")), (with_values(residual_symbol(), data=(3, 8, 8)), ("add1", "gap", "fc")),
    (with_values(two_input_symbol(), left=(5,), right=(3,)), ("fc_left", "top"))], ids=["chain", "residual", "two inputs"])
def test_onnx_runtime_gives_what_mxnet_gives(network, layers):
    data = inputs_for(network, count=11)
    one, two = (xfer2.extract_features(network, data, layers, engine=engine, batch_size=4, pool="avg")
                for engine in ("mxnet", "onnxruntime"))
    for layer in layers:
        assert two[layer].dtype == one[layer].dtype
        np.testing.assert_allclose(two[layer], one[layer], rtol=1e-4, atol=1e-5)


def test_what_was_answered_stays_until_the_call_after_the_next():
    network = image_network()
    engine, reference = OnnxRuntimeEngine(network), MxnetEngine(network)
    batches = [inputs_for(network, count, seed) for seed, count in enumerate((4, 2, 5))]
    answers = [engine(batch)[0] for batch in batches[:2]]
    for answer, batch in zip(answers, batches, strict=False):
        np.testing.assert_allclose(answer, reference(batch)[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(engine(batches[2])[0], reference(batches[2])[0], rtol=1e-4, atol=1e-6)


def test_batches_of_other_shapes_are_left_to_mxnet():
    convolved = mx.sym.Convolution(mx.sym.var("data"), num_filter=2, kernel=(3, 3), name="conv")
    network = with_values(convolved, data=(3, 8, 8))
    engine, reference = OnnxRuntimeEngine(network), MxnetEngine(network)
    engine(inputs_for(network, count=2))
    wider = {"data": np.random.default_rng(0).normal(size=(2, 3, 8, 12)).astype("float32")}
    np.testing.assert_array_equal(engine(wider)[0], reference(wider)[0])


def test_what_the_engine_checks_of_a_batch_is_checked_for_onnx_runtime_too():
    steps = mx.sym.SequenceMask(mx.sym.var("data"), mx.sym.var("long"), use_sequence_length=True, axis=1, name="masked")
    network = with_values(mx.sym.sum(steps, axis=1, name="total"), data=(4, 3), long=())
    engine = OnnxRuntimeEngine(network)
    batch = {"data": np.ones((2, 4, 3), np.float32), "long": np.array([1, 4], np.float32)}
    np.testing.assert_allclose(engine(batch)[0], [[1] * 3, [4] * 3])
    with pytest.raises(DataError, match="whole numbers from 0 to 4"):
        engine({**batch, "long": np.array([1, 5], np.float32)})
    with pytest.raises(DataError, match="do not fit the network"):
        OnnxRuntimeEngine(image_network())({"data": np.ones((2, 5, 8, 8), np.float32)})


def test_a_network_that_has_no_onnx_form_is_an_error_where_onnx_runtime_was_asked_for():
    with pytest.raises(ModelError, match=r"no ONNX form: No conversion .* for op type broadcast_maximum"):
        xfer2.extract_features(untranslated(), np.ones((2, 6), np.float32), "most", engine="onnxruntime")


def chosen(engine):
    return engine._chosen.name


def test_the_choice_follows_from_the_work_and_from_what_onnx_runtime_can(caplog):
    caplog.set_level(logging.INFO, logger="xfer2")
    network, batch = image_network(), inputs_for(image_network())
    for examples, expected in ((ENOUGH, "onnxruntime"), (100, "mxnet"), (None, "mxnet")):
        engine = AutomaticEngine(network, examples)
        np.testing.assert_allclose(engine(batch)[0], MxnetEngine(network)(batch)[0], rtol=1e-4, atol=1e-6)
        assert chosen(engine) == expected
    assert not caplog.records
    engine, values = AutomaticEngine(untranslated(), ENOUGH), np.array([[1, -1, 2, 0, 5, -3]], np.float32)
    np.testing.assert_array_equal(engine({"data": values})[0], np.maximum(values, 2 * values))
    assert chosen(engine) == "mxnet"
    assert "No conversion function registered for op type broadcast_maximum" in caplog.records[0].getMessage()


def test_onnx_runtime_that_fails_later_is_replaced(caplog):
    caplog.set_level(logging.INFO, logger="xfer2")
    network = image_network()
    engine, batch = AutomaticEngine(network, ENOUGH), inputs_for(network, count=4)
    engine(batch)
    engine._chosen._session = Broken(engine._chosen._session)
    np.testing.assert_array_equal(engine(batch)[0], MxnetEngine(network)(batch)[0])
    assert (chosen(engine), "out of memory" in caplog.records[0].getMessage()) == ("mxnet", True)


class Broken:
    """A session that no longer runs."""

    def __init__(self, session):
        self.get_inputs, self.get_outputs, self.io_binding = session.get_inputs, session.get_outputs, session.io_binding

    def run_with_iobinding(self, binding):
        raise RuntimeError("out of memory")


def test_errors_of_data_are_the_datas_with_every_choice():
    with pytest.raises(DataError, match="do not fit the network"):
        AutomaticEngine(image_network(), ENOUGH)({"data": np.ones((2, 5, 8, 8), np.float32)})


def test_parts_are_computed_by_the_engine_for_all_examples():
    network = pruned(image_network(), ("fc2",))
    data = inputs_for(network, count=10)["data"]
    by_name = {name: xfer2.extract_features(network, data, "fc2", engine=name)["fc2"] for name in ("mxnet", "onnxruntime")}
    assert not np.array_equal(*by_name.values())
    for examples, expected in ((None, "mxnet"), (ENOUGH, "onnxruntime")):
        parts = extract_parts(network, open_batches(data, network, batch_size=5), ("fc2",), examples=examples, most=5)
        np.testing.assert_allclose(np.concatenate([part["fc2"] for part in parts]), by_name[expected], atol=1e-7)


def test_processes_that_print_meanwhile_are_heard(capfd):
    networks = [image_network() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda network: OnnxRuntimeEngine(network)(inputs_for(network)), networks))
        print("heard")
    assert capfd.readouterr().out == "heard\n"


def test_an_output_layer_with_a_label_warns_of_nothing(capfd):
    network = with_values(chain_symbol(softmax=True), data=(3, 8, 8))
    found = OnnxRuntimeEngine(network)(inputs_for(network, count=3))[0]
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert capfd.readouterr().err == ""


def test_names_of_engines_and_devices():
    assert engine_factory("mxnet", None) is MxnetEngine
    assert engine_factory(engine_on([mx.cpu()]), 5)(image_network()).name == "auto"
    assert engine_factory(engine_on([mx.cpu(0), mx.cpu(1)]), ENOUGH)(image_network()).name == "mxnet"
    for wrong in ("fast", 3, None):
        with pytest.raises(ParameterError, match="engine must be 'auto', 'mxnet', 'onnxruntime', or a callable"):
            engine_factory(wrong, None)
