"""ONNX files become networks that compute what ONNX Runtime computes with them, or are refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import small_networks
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import xfer2
from xfer2._mxnet import mx
from xfer2.exceptions import ModelError
from xfer2.features.engines.mxnet import MxnetEngine
from xfer2.model_handler import ModelHandler, onnx_operators, sources

RANDOM = np.random.default_rng(0)
F = nn.functional


# --- operators ----------------------------------------------------------------------------------------------------


def values(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def whole(*numbers):
    return np.array(numbers, np.int64)


MAPS, ROWS, STEPS = (3, 8, 8), (6,), (4, 6)
POSITIVE = np.abs(values(3)) + 0.5
# operator, shape of the input without the batch axis, constants that it reads after it, attributes, and the opset
CASES = [
    ("Conv", MAPS, [values(4, 3, 3, 3), values(4)], {"pads": [1, 1, 1, 1], "strides": [2, 2]}, 13),
    ("Conv", MAPS, [values(4, 3, 3, 3)], {"pads": [0, 1, 2, 1], "dilations": [2, 2]}, 13),
    ("Conv", MAPS, [values(6, 1, 3, 3)], {"group": 3, "auto_pad": "SAME_UPPER", "strides": [2, 2]}, 13),
    ("Conv", MAPS, [values(4, 3, 2, 2)], {"auto_pad": "SAME_LOWER"}, 13),
    ("Conv", MAPS, [values(4, 3, 2, 2)], {"auto_pad": "VALID"}, 13),
    ("Conv", (3, 9), [values(4, 3, 3)], {}, 13), ("Conv", (3, 9), [values(4, 3, 3), values(0)], {}, 13),
    ("ConvTranspose", MAPS, [values(3, 2, 3, 3), values(2)], {
        "group": 1, "strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, 13),
    ("Gemm", ROWS, [values(6, 4), values(4)], {"alpha": 0.5, "beta": 2.0}, 13),
    ("Gemm", ROWS, [values(4, 6), values(1)], {"transB": 1}, 13),
    ("MatMul", STEPS, [values(6, 5)], {}, 13), ("MatMul", STEPS, [values(1, 6, 5)], {}, 13),
    ("BatchNormalization", MAPS, [POSITIVE, values(3), values(3), POSITIVE], {"epsilon": 1e-3}, 13),
    ("InstanceNormalization", MAPS, [POSITIVE, values(3)], {}, 13),
    ("LayerNormalization", STEPS, [values(6), values(6)], {}, 17),
    ("PRelu", MAPS, [values(3, 1, 1)], {}, 13),
    ("Gather", STEPS, [np.array(-1)], {"axis": 1}, 13), ("Gather", STEPS, [np.array(2)], {"axis": 1}, 13),
    ("MaxPool", MAPS, [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, 13),
    ("MaxPool", MAPS, [], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1]}, 13),
    ("AveragePool", MAPS, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, 13),
    ("AveragePool", MAPS, [], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "count_include_pad": 1}, 13),
    ("GlobalMaxPool", MAPS, [], {}, 13), ("GlobalAveragePool", (3, 9), [], {}, 13),
    ("Pad", MAPS, [whole(0, 0, 1, 0, 0, 0, 2, 3), np.float32(0.5)], {}, 13),
    ("Pad", MAPS, [], {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "reflect"}, 9),
    ("Resize", MAPS, [np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)], {
        "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, 13),
    ("Upsample", MAPS, [np.array([1, 1, 2, 2], np.float32)], {}, 9),
    ("LRN", MAPS, [], {"size": 3, "alpha": 0.1}, 13),
    ("Clip", MAPS, [np.float32(-0.5), np.float32(0.5)], {}, 13), ("Clip", MAPS, [], {"max": 0.5}, 9),
    ("Dropout", MAPS, [np.float32(0.5)], {}, 13), ("Dropout", MAPS, [], {"ratio": 0.3}, 9),
    ("Cast", MAPS, [], {"to": TensorProto.FLOAT}, 13), ("Identity", MAPS, [], {}, 13),
    ("Softmax", STEPS, [], {"axis": 1}, 13), ("Softmax", ROWS, [], {}, 9), ("LogSoftmax", ROWS, [], {}, 13),
    ("LeakyRelu", MAPS, [], {"alpha": 0.2}, 13), ("Elu", MAPS, [], {}, 13), ("HardSigmoid", MAPS, [], {"alpha": 0.3}, 13),
    ("HardSwish", MAPS, [], {}, 14), ("Gelu", MAPS, [], {}, 20),
    *((op, MAPS, [], {}, 13) for op in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Selu")),
    *((op, MAPS, [], {}, 13) for op in ("Exp", "Neg", "Abs", "Erf")),
    ("Log", None, [], {}, 13), ("Sqrt", None, [], {}, 13),
    *((op, STEPS, [constant], {}, 13) for op in ("Add", "Sub", "Mul", "Div", "Pow")
      for constant in (np.float32(2), np.abs(values(6)) + 1) if op != "Pow" or constant.ndim == 0),
    *((op, STEPS, [values(6), np.float32(0.1)], {}, 13) for op in ("Max", "Min", "Sum")),
    ("Flatten", MAPS, [], {}, 13), ("Reshape", MAPS, [whole(0, -1, 8)], {}, 13), ("Reshape", MAPS, [whole(-1, 192)], {}, 13),
    ("Squeeze", (3, 1, 5), [whole(2)], {}, 13), ("Squeeze", (3, 1, 5), [], {"axes": [2]}, 9),
    ("Unsqueeze", STEPS, [whole(1, -1)], {}, 13), ("Transpose", STEPS, [], {"perm": [0, 2, 1]}, 13),
    ("Concat", STEPS, [], {"axis": 1}, 13), ("Slice", STEPS, [whole(-3), whole(2**40), whole(2)], {}, 13),
    ("Slice", STEPS, [whole(1, 0), whole(-1, 3), whole(1, 2)], {}, 13), ("Slice", STEPS, [], {
        "starts": [0, 0, 2], "ends": [2**40, 2, 9]}, 9),
    ("Slice", STEPS, [whole(-100), whole(3), whole(1)], {}, 13), ("Slice", STEPS, [whole(0), whole(2), whole(0)], {}, 13),
    ("Slice", STEPS, [whole(-(2**63)), whole(5), whole(-3)], {}, 13),
    ("Split", STEPS, [], {"axis": 2, "outputs": 3}, 13), ("Split", STEPS, [whole(1, 3)], {"axis": 1, "outputs": 2}, 13),
    ("Split", STEPS, [], {"axis": 1, "outputs": 1}, 13),
    *((f"Reduce{kind}", MAPS, [], {"axes": [2, 3], "keepdims": 0}, 11) for kind in ("Mean", "Sum", "Max", "Min", "L2")),
    ("ReduceMean", MAPS, [whole(1)], {}, 18),
]


def one_node(op, shape, constants, attrs, opset):
    """A model of one node; where its input must be above zero, of two."""
    outputs = [f"out{number}" for number in range(attrs.pop("outputs", 1))]
    names = [f"constant{number}" if constant.size else "" for number, constant in enumerate(map(np.asarray, constants))]
    before = [] if shape else [helper.make_node("Sigmoid", ["data"], ["inside"], "before")]
    first = "inside" if before else "data"
    read = [first, first] if op == "Concat" else [first, *names]
    nodes = [*before, helper.make_node(op, read, outputs, "node", **attrs)]
    return model_of(nodes, dict(zip(names, constants, strict=True)), shape or MAPS, outputs, opset)


def model_of(nodes, constants, shape, outputs=("out",), opset=13, kind=TensorProto.FLOAT, others=None):
    tensors = [numpy_helper.from_array(np.asarray(constant), name) for name, constant in constants.items() if name]
    inputs = [helper.make_tensor_value_info("data", kind, ("n", *shape)),
              *(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in (others or {}).items())]
    graph = helper.make_graph(
        nodes, "made", inputs, [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def single(op, reads=("data",), constants=(), shape=MAPS, opset=13, gives=("out",), **more):
    return model_of([helper.make_node(op, reads, gives, "node", **more)], dict(constants), shape, gives, opset)


def check(model, path, count=3):
    """Read what a model is written as, and compare all its outputs with ONNX Runtime's."""
    onnx.save(model, path)
    network = sources.read(str(path))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    data = {"data": values(count, *network.input_shapes["data"])}
    expected = session.run(None, data)
    if network.graph.layer_names:
        for one, two in zip(MxnetEngine(network)(data), expected, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    return network


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}-{number}" for number, case in enumerate(CASES)])
def test_every_operator(case, tmp_path):
    op, shape, constants, attrs, opset = case
    check(one_node(op, shape, constants, dict(attrs), opset), tmp_path / "net.onnx")


def test_every_operator_of_the_table_is_tested():
    assert {case[0] for case in CASES} == set(onnx_operators.OPERATORS)


# --- networks of PyTorch ------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 8, 7, 2, 3), nn.MaxPool2d(3, 2, 1)
        self.one, self.norm, self.two = nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, 1, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.pool(F.relu6(self.stem(x)))
        x = x + self.two(F.relu(self.norm(self.one(x))))
        return F.softmax(self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)), 1)


class Attention(nn.Module):
    """A small vision transformer; shapes are computed in the graph."""

    def __init__(self):
        super().__init__()
        self.patches, self.read, self.norm = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 24), nn.LayerNorm(8)
        self.out, self.head = nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        query, key, value = self.read(self.norm(x)).chunk(3, -1)
        x = x + self.out(F.softmax(query @ key.transpose(1, 2) / 8**0.5, -1) @ value)
        return self.head(F.gelu(x[:, 0]).view(x.size(0), -1))


class Excited(nn.Module):
    def __init__(self):
        super().__init__()
        self.deep, self.flat = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x):
        x = F.hardswish(self.flat(self.deep(x)))
        return (x * F.hardsigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))).mean([2, 3])


def exported(network, path, opset, dynamic):
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    torch.onnx.export(network.eval(), torch.randn(1, 3, 32, 32), str(path), opset_version=opset, dynamo=False,
                      input_names=["data"], dynamic_axes={"data": {0: "n"}} if dynamic else None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("opset", [9, 13, 18])
@pytest.mark.parametrize("make", [Residual, Attention, Excited])
def test_networks_of_pytorch(make, opset, dynamic, tmp_path):
    network, images = make(), values(3, 3, 32, 32)
    exported(network, tmp_path / "net.onnx", opset, dynamic)
    block = ModelHandler(tmp_path / "net.onnx").get_block()
    expected = network(torch.as_tensor(images)).detach().numpy()
    np.testing.assert_allclose(block(mx.nd.array(images)).asnumpy(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_network_of_pytorch_is_edited_and_repurposed(tmp_path):
    exported(Residual(), tmp_path / "net.onnx", 13, True)
    (tmp_path / "net-preprocessing.json").write_text('{"input_shape": [3, 32, 32], "scale": 0.01}')
    handler = ModelHandler(str(tmp_path / "net.onnx"))
    assert handler.get_layer_parameters("head/Gemm") == ["head.weight", "head.bias"]
    assert handler.preprocessing.scale == 0.01
    images = np.random.default_rng(0).integers(0, 100, (40, 32, 32, 3), dtype=np.uint8)
    images[::2, ..., 0] += 150
    labels = np.array(["red", "grey"] * 20)
    tuned = xfer2.NeuralNetworkFineTuneRepurposer(handler, handler.layer_names[-3], num_epochs=3, random_state=0)
    tuned.fit(images, labels)
    assert tuned.score(images, labels) > 0.9
    handler.replace_head(7, seed=0).freeze(until="Relu").save(str(tmp_path / "seven"))
    assert ModelHandler(str(tmp_path / "seven")).infer_shapes()["head/Gemm"] == (7,)


@pytest.mark.parametrize("name", ["chain", "residual", "inception"])
def test_what_was_exported_is_read_again(name, tmp_path):
    network = small_networks()[name]
    ModelHandler(network).export_onnx(str(tmp_path / "net.onnx"))
    data = {"data": values(3, *network.input_shapes["data"])}
    again = sources.read(str(tmp_path / "net.onnx"))
    np.testing.assert_allclose(MxnetEngine(again)(data)[0], MxnetEngine(network)(data)[0], rtol=1e-4, atol=1e-5)


def test_functions_are_written_out(tmp_path):
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("mine", 1)]
    twice = helper.make_function("mine", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["z"]),
                                                                 helper.make_node("Relu", ["z"], ["y"])], opsets[:1])
    made = single("Relu")
    node = helper.make_node("Twice", ["data"], ["out"], "node", domain="mine")
    graph = helper.make_graph([node], "made", made.graph.input, made.graph.output)
    model = helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=8)
    assert len(check(model, tmp_path / "net.onnx").graph.layer_names) == 2


def test_what_no_output_depends_on_is_left_out(tmp_path, caplog):
    nodes = [helper.make_node("Relu", ["data"], ["out"], "node"), helper.make_node("Det", ["data"], ["unread"], "unknown")]
    with caplog.at_level("INFO", "xfer2"):
        onnx.save(model_of(nodes, {}, (4, 4), others={"mask": ("n", 7), "whole": (1, "t")}), tmp_path / "net.onnx")
        network = sources.read(str(tmp_path / "net.onnx"))
    assert network.graph.layer_names == ("node",)
    assert dict(network.input_shapes) == {"data": (4, 4)}
    assert "no output depends on its input 'mask', which is left out" in caplog.text


def test_statistics_of_a_batch_norm_are_its_own(tmp_path):
    """Tools that write equal values once let a gamma, a mean and another layer's variance be one initializer."""
    nodes = [helper.make_node("BatchNormalization", [read, "one", "zero", "zero", "one"], [gives], gives)
             for read, gives in (("data", "first"), ("first", "out"))]
    network = check(model_of(nodes, {"one": np.ones(3, "f"), "zero": np.zeros(3, "f")}, MAPS), tmp_path / "net.onnx")
    assert set(network.arg_params) == {"one", "zero"}
    assert len(network.aux_params) == 4


def test_rows_of_a_table_are_counted_from_its_end_too(tmp_path):
    table, rows = values(4, 2), np.array([[0, -1, -2]])
    nodes = [helper.make_node("Gather", ["table", "data"], ["out"], "node")]
    onnx.save(model_of(nodes, {"table": table}, (3,), kind=TensorProto.INT64), tmp_path / "net.onnx")
    handler = ModelHandler(tmp_path / "net.onnx")
    np.testing.assert_array_equal(handler.get_block()(mx.nd.array(rows)).asnumpy(), table[rows])
    handler.export_onnx(str(tmp_path / "again.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "again.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"data": rows.astype("float32")})[0], table[rows])


@pytest.mark.parametrize("kind", ["INT32", "INT64", "BOOL", "UINT8", "FLOAT16", "DOUBLE"])
def test_inputs_of_every_type_get_values_of_it(kind, tmp_path):
    nodes = [helper.make_node("Cast", ["data"], ["number"], "cast", to=TensorProto.FLOAT),
             helper.make_node("Gemm", ["number", "weight"], ["out"], "dense")]
    made = model_of(nodes, {"weight": values(5, 4)}, (5,), kind=getattr(TensorProto, kind))
    onnx.save(made, tmp_path / "net.onnx")
    assert sources.read(str(tmp_path / "net.onnx")).graph.layer_names == ("dense",)


@pytest.mark.parametrize("turned", [False, True])
def test_a_dense_layer_whose_bias_is_a_node_of_its_own_has_one(turned, tmp_path):
    """Keras writes it so, and PyTorch where there are more than two axes; else no head could be replaced."""
    read = ["bias", "product"] if turned else ["product", "bias"]
    nodes = [helper.make_node("MatMul", ["data", "kernel"], ["product"], "dense/MatMul"),
             helper.make_node("Add", read, ["sum"], "dense/BiasAdd"),
             helper.make_node("Softmax", ["sum"], ["out"], "softmax")]
    network = check(model_of(nodes, {"kernel": values(6, 4), "bias": values(4)}, STEPS), tmp_path / "net.onnx")
    assert network.graph.layer_names == ("dense/MatMul", "softmax")
    handler = ModelHandler(network)
    assert handler.get_layer_parameters("dense/MatMul") == ["kernel", "bias"]
    assert handler.replace_head(7, seed=0).infer_shapes()["softmax"] == (4, 7)


def test_a_product_that_something_else_reads_keeps_its_values(tmp_path):
    nodes = [helper.make_node("MatMul", ["data", "kernel"], ["product"], "product"),
             helper.make_node("Add", ["product", "bias"], ["sum"], "sum"),
             helper.make_node("Mul", ["product", "sum"], ["out"], "node")]
    check(model_of(nodes, {"kernel": values(6, 4), "bias": values(4)}, ROWS), tmp_path / "net.onnx")


@pytest.mark.parametrize("opset", [13, 19])
def test_weights_of_eight_bits(opset, tmp_path):
    nodes = [helper.make_node("DequantizeLinear", ["whole", "scale", "zero"], ["weight"], "weight"),
             helper.make_node("Gemm", ["data", "weight"], ["out"], "dense")]
    stored = np.random.default_rng(0).integers(0, 255, (6, 4)).astype("uint8")
    onnx.save(model_of(nodes, {"whole": stored, "scale": np.float32(0.1), "zero": np.uint8(128)}, ROWS, opset=opset),
              tmp_path / "net.onnx")
    weight = sources.read(str(tmp_path / "net.onnx")).params["weight"].asnumpy()
    np.testing.assert_allclose(weight.T, 0.1 * (stored.astype("float32") - 128), rtol=1e-6)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "message"), [
    (single("Det"), r"'node' \(Det\) has no form in MXNet: it is none of the \d+ operators"),
    (single("Relu", domain="mine"), r"'node' \(Relu\) has no form"),
    (single("Relu", opset=6), r"written for opset 6 of ONNX; the oldest that is known is 7"),
    (single("Relu", ["nothing"]), r"it reads 'nothing', which no node before it gives"),
    (single("Flatten", axis=2), r"\(Flatten\) has no form in MXNet: its axis is not 1"),
    (single("Conv", ["data", "data"]), r"\(Conv\) has no form in MXNet: its input 'data' depends on the network's input"),
    (single("Conv", ["data", "weight"], {"weight": values(4, 5, 3, 3)}), r"contradict"),
    (single("MaxPool", kernel_shape=[2, 2], gives=("out", "index")), r"\(MaxPool\) .* its layer does not give 'index'"),
    (model_of([helper.make_node("Conv", ["data", "weight"], ["maps"], "node", group=0),
               helper.make_node("Add", ["maps", "maps"], ["out"])], {"weight": values(3, 3, 1, 1)}, MAPS), r"group must"),
    (single("MaxPool"), r"\(MaxPool\) has no form in MXNet: it has no attribute 'kernel_shape'"),
    (single("Relu", gives=("out", "nothing")), r"its layer does not give 'nothing'"),
    (single("Clip", ["data", "low"], {"low": values(3)}), r"\(Clip\) has no form in MXNet: its inputs or attributes are"),
    (single("Conv", ["data", "weight"], {"weight": np.float32(1)}), r"\(Conv\) has no form in MXNet: its inputs or attrib"),
    (single("Conv", ["data", "weight"], {"weight": values(2, 3, 3, 3)}, pads=[1, 1, 1]), r"\(Conv\) has no form in MXNet"),
    (single("Slice", ["data", *"sea"], {"s": whole(0), "e": whole(1), "a": whole(7)}), r"\(Slice\) has no form in MXNet"),
    (single("Gemm", ["data", *"wc"], {"w": values(6, 4), "c": values(4, 1)}, ROWS), r"has the shape \(4, 1\), and is"),
    (single("Add", ["data", "c"], {"c": np.array(["a", "b"], object)}, (2,)), r"'c' holds \w+; a parameter must hold num"),
    (single("BatchNormalization", ["data", *"gbmv"], dict.fromkeys("gbmv", POSITIVE), opset=15, training_mode=1),
     r"it takes the mean and variance of the batch. Export the network for inference"),
    (single("Mul", ["data", "c"], {"c": values(1, 1, 1)}, ROWS), r"'data' has fewer axes than what it is joined with"),
    (model_of([helper.make_node("InstanceNormalization", ["data", "gamma", "beta"], ["out"], "node")], {}, MAPS, others={
        "gamma": (3,), "beta": (3,)}), r"its input 'gamma' depends on the network's input; it must be a constant of the"),
    (single("Reshape", ["data", "to"], {"to": whole(-1, 7)}), r"Reshape\) is to give \(-1, 7\) of \(2, 3, 8, 8\)"),
])
def test_what_cannot_be_translated_says_which_node_and_why(model, message, tmp_path):
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=rf"net.onnx'.*{message}"):
        sources.read(str(tmp_path / "net.onnx"))


def test_files_that_are_no_models(tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(ModelError, match=r"There is no file '.*net.onnx'"):
        sources.read(str(path))
    ModelHandler(small_networks()["chain"]).export_onnx(str(path))
    content = path.read_bytes()
    for broken in (b"", b"no model", content[:len(content) // 2]):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match=r"net.onnx'"):
            sources.read(str(path))


def test_a_node_that_is_taken_for_another_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(onnx_operators.OPERATORS, "Relu", onnx_operators.OPERATORS["Sigmoid"])
    onnx.save(single("Relu"), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"was read as something else than it is: at the output 'node' MXNet gives"):
        sources.read(str(tmp_path / "net.onnx"))


@pytest.mark.parametrize("nodes", [
    [helper.make_node("Log", ["data"], ["inside"]), helper.make_node("Conv", ["inside", "weight"], ["filtered"]),
     helper.make_node("Selu", ["filtered"], ["out"], "odd", alpha=2.0)],
    [helper.make_node("Selu", ["data"], ["inside"], alpha=2.0),
     helper.make_node("Add", ["inside", "mask"], ["out"], "odd")]])
def test_a_difference_hides_behind_no_nan_and_no_huge_figure(nodes, tmp_path):
    """A Selu of other constants than MXNet's: above the logarithm of numbers below 0, or beside what a mask makes -1e9."""
    mask = np.array([0, 0, 0, 0, 0, 0, 0, -1e9], "float32")
    onnx.save(model_of(nodes, {"weight": values(4, 3, 3, 3), "mask": mask}, MAPS), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"at the output 'odd' MXNet gives -?\d\S* and ONNX Runtime -?\d"):
        sources.read(str(tmp_path / "net.onnx"))
