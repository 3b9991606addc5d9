"""Networks of MXNet's NumPy interface (mx.np, mx.npx): read by the classic operators, the same figures."""

import numpy as np
import pytest

import xfer2
from xfer2._mxnet import mx, numpy_interface
from xfer2.exceptions import ModelError
from xfer2.features.engines.mxnet import MxnetEngine
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import numpy_operators


class Lambda(mx.gluon.HybridBlock):
    def __init__(self, function):
        super().__init__()
        self._function = function
        self.one = self.params.get("one", shape=(1,), init="ones")

    def hybrid_forward(self, F, x, one):
        return self._function(F, x * one)


class Residual(mx.gluon.HybridBlock):
    """Two convolutions around a sum, a learned scale, and two dense layers."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first = mx.gluon.nn.Conv2D(4, 3, padding=1)
            self.norm = mx.gluon.nn.BatchNorm()
            self.second = mx.gluon.nn.Conv2D(4, 3, padding=1)
            self.hidden = mx.gluon.nn.Dense(6)
            self.answer = mx.gluon.nn.Dense(3)
            self.scale = self.params.get("scale", shape=(1,), init=mx.init.Constant(0.5))

    def hybrid_forward(self, F, x, scale):
        below = F.npx.relu(self.norm(self.first(x)))
        maps = F.npx.relu(self.second(below) + below) * scale
        pooled = F.np.concatenate([F.np.mean(maps, axis=(2, 3)), F.np.max(maps, axis=(2, 3))], axis=1)
        return self.answer(F.np.tanh(self.hidden(pooled)))


def by_numpy(make, *arguments):
    """A block of MXNet's NumPy interface, random data, and what it makes of them."""
    data = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype("float32")
    with numpy_interface():
        block = make(*arguments)
        block.initialize()
        return block, data, block(mx.np.array(data)).asnumpy()


FUNCTIONS = {
    "arithmetic": (lambda F, x: 2 * x + 1 - x / 3 + 1 / (x * x + 1) - (1 - x) + 2 ** x, {"broadcast_add", "_mul_scalar"}),
    "powers": (lambda F, x: F.np.power(F.np.abs(x) + 1, x) - x ** 2 + F.np.sqrt(F.np.square(x)), {"broadcast_power", "abs"}),
    "functions": (lambda F, x: F.np.exp(F.np.tanh(x)) + F.np.log1p(F.np.square(x)) - F.np.sign(x) * F.np.floor(x),
                  {"exp", "tanh", "log1p", "floor"}),
    "activations": (lambda F, x: F.npx.relu(x) - F.npx.sigmoid(x) + F.npx.softmax(x, axis=1), {"relu", "sigmoid"}),
    "other ranks": (lambda F, x: x + F.np.mean(x, axis=1, keepdims=True), {"mean", "broadcast_add"}),
    "reductions": (lambda F, x: F.np.sum(x, axis=-1) - F.np.max(x, axis=3) * F.np.min(x, axis=(3,)), {"sum", "max", "min"}),
    "concatenate": (lambda F, x: F.np.concatenate([x, F.np.transpose(x, (0, 1, 3, 2)).reshape((-1, 3, 4, 6))], axis=2),
                    {"Concat", "transpose", "Reshape"}),
    "squeeze": (lambda F, x: F.np.squeeze(F.np.expand_dims(x, 1), 1), {"squeeze"}),
    "copy and merge axes": (lambda F, x: F.npx.reshape(x, (-2, -5, -1)), {"Reshape"}),
    "split an axis, copy the rest": (lambda F, x: F.npx.reshape(x, (-2, -6, 1, 3, -4)), {"Reshape"}),
    "over all axes": (lambda F, x: x / F.np.mean(x) - F.np.max(x) * F.np.min(x, keepdims=True), {"mean", "max", "min"}),
    "axes from the end": (lambda F, x: F.np.transpose(x, (0, -1, 1, 2)), {"transpose"}),
    "over no axis": (lambda F, x: F.np.sum(x, axis=()), {"_np_sum"}),
    "booleans count": (lambda F, x: F.np.sum(x > 0, axis=1) / 5 + F.np.mean(x > 1, axis=1), {"_np_sum", "_npi_add"}),
    "a gate": (lambda F, x: x * (x > 0) + F.np.isnan(x), {"_npi_multiply", "_npi_add"}),
    "whole numbers": (lambda F, x: F.np.argmax(x, axis=1) / 5 + (x * 4).astype("int8").sum(axis=1) / 4, {"_npi_add"}),
    "back from whole numbers": (lambda F, x: (x * 4).astype("int8").astype("float32") / 4, {"_div_scalar"}),
    "drop an axis of 1": (lambda F, x: F.npx.reshape(x[:, :1], (-2, -3, -4)), {"_npx_reshape"}),
    "no classic counterpart": (lambda F, x: F.np.where(x > 0, F.np.std(x, axis=(1,), keepdims=True), F.np.flip(x, 2)),
                               {"_npi_where", "_npi_std"})}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_figures_are_those_of_the_numpy_interface(case):
    function, expected_operators = FUNCTIONS[case]
    block, data, expected = by_numpy(Lambda, function)
    handler = xfer2.ModelHandler(block)
    last = handler.network.graph.outputs[0].node
    np.testing.assert_array_equal(xfer2.extract_features(handler, data, last)[last], expected)
    found = {handler.get_layer_type(name) for name in handler.layer_names}
    assert expected_operators <= found
    kept = {op for op in found if op.startswith("_np")}
    assert bool(kept) == any(op.startswith("_np") for op in expected_operators)


@pytest.mark.parametrize("source", ["block", "hybridized", "checkpoint", "symbol"])
def test_a_network_is_read_and_trained_and_written_for_the_classic_interface(source, tmp_path):
    block, data, expected = by_numpy(Residual)
    with numpy_interface():
        if source != "block":
            block.hybridize()
            block(mx.np.array(data))
        block.export(str(tmp_path / "net")) if source == "checkpoint" else None
        arrays = {name: parameter.data() for name, parameter in block.collect_params().items()}
    model = {"checkpoint": str(tmp_path / "net")}.get(source, block)
    if source == "symbol":
        model = (block._cached_graph[1], arrays, {})
    handler = xfer2.ModelHandler(model)
    answer = handler.layer_names[-1]
    np.testing.assert_array_equal(xfer2.extract_features(handler, data, answer)[answer], expected)
    assert not any(handler.get_layer_type(name).startswith("_np") for name in handler.layer_names)

    many = np.random.default_rng(1).normal(size=(20, 3, 4, 6)).astype("float32")
    repurposer = xfer2.NeuralNetworkFineTuneRepurposer(handler, handler.layer_names[-2], num_epochs=1, validation=None)
    repurposer.fit(many, [0, 1] * 10).export(str(tmp_path / "new"))
    symbol, arguments, states = mx.model.load_checkpoint(str(tmp_path / "new"), 0)
    plain = mx.mod.Module(symbol, label_names=None)
    plain.bind([("data", many.shape)], for_training=False)
    plain.set_params(arguments, states)
    plain.forward(mx.io.DataBatch([mx.nd.array(many)]), is_train=False)
    np.testing.assert_allclose(plain.get_outputs()[0].asnumpy(), repurposer.predict_proba(many), atol=1e-6)


def test_what_was_read_does_not_follow_the_block():
    block, data, expected = by_numpy(Residual)
    handler = xfer2.ModelHandler(block)
    with numpy_interface():
        block.answer.weight.set_data(mx.np.zeros((3, 6)))
    answer = handler.layer_names[-1]
    np.testing.assert_array_equal(xfer2.extract_features(handler, data, answer)[answer], expected)


def test_while_the_numpy_interface_is_switched_on_the_remedy_is_said():
    block, data, expected = by_numpy(Residual)
    handler = xfer2.ModelHandler(block)
    answer, engine = handler.layer_names[-1], MxnetEngine(handler.network)
    with numpy_interface():
        for act in (lambda: xfer2.ModelHandler(block), lambda: handler.get_layer_output(mx.io.NDArrayIter(data), answer),
                    lambda: engine({"data": data})):
            with pytest.raises(ModelError, match=r"Call mx.npx.reset_np\(\) first"):
                act()
    np.testing.assert_array_equal(engine({"data": data})[0], expected)


def test_a_block_that_neither_interface_can_trace_is_told_by_the_classic_error():
    with pytest.raises(ModelError, match=r"cannot be traced .*'no_such_operator'"):
        xfer2.ModelHandler(Lambda(lambda F, x: F.no_such_operator(x)))


def test_data_in_arrays_of_the_numpy_interface():
    with numpy_interface():
        data, labels = mx.np.arange(20 * 784, dtype="uint8").reshape((20, 28, 28)), mx.np.arange(20) % 2
    found = xfer2.LrRepurposer("zoo:mnist-cnn", "dense0").fit(data, labels)
    assert found.classes_.tolist() == [0, 1]
    assert found.predict(data).shape == (20,)


def test_graphs_of_the_classic_interface_come_back_as_they_are():
    graph = symbols.from_symbol(mx.sym.relu(mx.sym.var("data", shape=(0, 3)), name="act"))
    assert numpy_operators.to_classic(graph) is graph
