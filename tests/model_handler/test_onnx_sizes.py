"""Sizes that an ONNX file leaves free, and numbers of examples: what is read is right for any of them, or is refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from xfer2._mxnet import mx
from xfer2.exceptions import ModelError
from xfer2.model_handler import ModelHandler, sources, symbols

RANDOM = np.random.default_rng(0)
node = helper.make_node


def values(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def whole(*numbers):
    return np.array(numbers, np.int64)


def written(path, nodes, inputs, constants=(), opset=13):
    """The path of a file with the output 'out'; inputs are shapes, axes with a name are free."""
    graph = helper.make_graph(
        nodes, "made", [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path / "net.onnx")
    return str(path / "net.onnx")


def assert_agrees(path, *shapes):
    handler = ModelHandler(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {name: values(*shape) for name, shape in zip(handler.network.inputs, shapes, strict=True)}
    found = handler.get_block()(*[mx.nd.array(array) for array in inputs.values()]).asnumpy()
    np.testing.assert_allclose(found, session.run(None, inputs)[0], rtol=1e-4, atol=1e-5)
    return handler


# --- sizes that the file leaves free ------------------------------------------------------------------------------


IMAGES = {"data": ("n", 3, "height", "width")}
RESIDUAL = [node("Conv", ["data", "first"], ["a"], pads=[1] * 4), node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "second"], ["c"], pads=[1] * 4), node("Add", ["b", "c"], ["d"], "sum"),
            node("GlobalAveragePool", ["d"], ["e"]), node("Flatten", ["e"], ["f"]), node("Gemm", ["f", "head"], ["out"])]
KERNELS = {"first": values(8, 3, 3, 3), "second": values(8, 8, 3, 3), "head": values(8, 5)}


@pytest.mark.parametrize("size", [(9, 14), (64, 64)])
def test_a_convolutional_network_for_images_of_any_size(size, tmp_path):
    handler = assert_agrees(written(tmp_path, RESIDUAL, IMAGES, KERNELS), (2, 3, *size))
    assert dict(handler.network.input_shapes) == {}
    assert handler.infer_shapes(data=(3, *size))["sum"] == (8, *size)


def test_sizes_of_a_stride_of_32_are_not_taken_for_the_number_of_examples(tmp_path):
    nodes = [node("MaxPool", ["data"], ["a"], kernel_shape=[32, 32], strides=[32, 32]), node("Shape", ["a"], ["sizes"]),
             node("Gather", ["sizes", "last"], ["width"]), node("Concat", ["width", "rest"], ["to"], axis=0),
             node("Reshape", ["a", "to"], ["out"])]
    assert_agrees(written(tmp_path, nodes, {"data": ("n", 1, 32, "width")}, {"last": whole(3), "rest": whole(2)}),
                  (2, 1, 32, 160))


def test_inputs_that_each_have_a_free_size_are_broadcast(tmp_path):
    path = written(tmp_path, [node("Add", ["one", "two"], ["out"])], {"one": ("n", 3, "t"), "two": ("n", 3, "s")})
    assert_agrees(path, (2, 3, 4), (2, 3, 1))


def test_steps_are_cut_and_joined_whatever_their_number(tmp_path):
    """As of attention: the batch and the steps are read from the shape, and go into a Reshape."""
    nodes = [node("Shape", ["data"], ["sizes"]), node("Slice", ["sizes", "zero", "two"], ["both"]),
             node("Concat", ["both", "heads"], ["to"], axis=0), node("Reshape", ["data", "to"], ["a"]),
             node("Slice", ["a", "zero", "seven", "one"], ["out"])]
    constants = {"zero": whole(0), "one": whole(1), "two": whole(2), "seven": whole(7), "heads": whole(2, 3)}
    path = written(tmp_path, nodes, {"data": ("n", "steps", 6)}, constants)
    assert_agrees(path, (2, 5, 6))
    assert_agrees(path, (3, 11, 6))


def test_padding_that_keeps_a_free_size_needs_not_know_it(tmp_path):
    nodes = [node("Conv", ["data", "w"], ["out"], auto_pad="SAME_UPPER")]
    assert_agrees(written(tmp_path, nodes, IMAGES, {"w": values(4, 3, 4, 3)}), (2, 3, 7, 9))


def test_sizes_are_tried_until_they_fit(tmp_path):
    path = written(tmp_path, [node("Conv", ["data", "w"], ["out"])], {"data": ("n", 6, "t")}, {"w": values(8, 6, 100)})
    assert_agrees(path, (2, 6, 120))  # by 224 and 256
    path = written(tmp_path, [node("Add", ["data", "table"], ["a"]), node("ReduceMean", ["a"], ["out"], axes=[1])],
                   {"data": ("n", "t", 6)}, {"table": values(1, 8, 6)})
    with pytest.raises(ModelError, match=r"None of the sizes tried"):  # 8 fits, but no other
        ModelHandler(path)


@pytest.mark.parametrize(("nodes", "constants", "message"), [
    ([node("Shape", ["data"], ["s"]), node("Gather", ["s", "i"], ["h"]), node("Cast", ["h"], ["f"], "size", to=1),
      node("Div", ["data", "f"], ["out"])], {"i": whole(2)},
     r"'size' \(Cast\) .* computes with 'h', which holds .* a size that the file leaves free"),
    ([node("Shape", ["data"], ["s"]), node("Mul", ["s", "s"], ["m"], "area"), node("Reshape", ["data", "m"], ["out"])], {},
     r"'area' \(Mul\) .* computes with 's'"),
    ([node("Shape", ["data"], ["s"]), node("Slice", ["s", "i", "j"], ["h"]), node("Slice", ["t", "z", "h"], ["p"], "cut"),
      node("Add", ["data", "p"], ["out"])], {"i": whole(2), "j": whole(3), "z": whole(0), "t": values(400)},
     r"'cut' \(Slice\) .* computes with 'h'"),
    ([node("Selu", ["data"], ["a"], alpha=2.0), node("GlobalAveragePool", ["a"], ["out"], "odd")], {},
     r"at the output 'odd' MXNet gives .* None of the sizes tried for the axes that the file leaves free fits: 64 and 96"),
    ([node("Flatten", ["data"], ["f"]), node("Gemm", ["f", "w"], ["out"])], {"w": values(75, 2)}, r"None of the sizes"),
])
def test_what_depends_on_a_free_size_is_refused(nodes, constants, message, tmp_path):
    with pytest.raises(ModelError, match=message):
        sources.read(written(tmp_path, nodes, IMAGES, constants))


def blocks(path, count):
    nodes = [one for number in range(count) for one in (
        node("Conv", [f"x{number}", "w"], [f"c{number}"], f"conv{number}"),
        node("Add", [f"x{number}", f"c{number}"], [f"x{number + 1}"], f"add{number}"))]
    nodes.append(node("Identity", [f"x{count}"], ["out"]))
    return written(path, nodes, {"x0": ("n", 2, 4, 4)}, {"w": values(2, 2, 1, 1)})


def test_reading_takes_time_in_proportion_to_the_nodes(tmp_path, monkeypatch):
    """Layers whose shapes MXNet is asked for, each time that it is asked."""
    asked = []
    one, many = symbols.output_shapes, symbols.infer_shapes
    monkeypatch.setattr(symbols, "output_shapes", lambda *given: asked.append(1) or one(*given))
    monkeypatch.setattr(symbols, "infer_shapes", lambda network, *more: asked.append(len(network.graph.nodes)) or many(
        network, *more))
    counts = []
    for count in (10, 20):
        sources.read(blocks(tmp_path, count))
        counts.append(sum(asked))
        asked.clear()
    assert counts[1] < 2.5 * counts[0]


# --- numbers of examples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "nodes", "constants"), [
    ((1, 3, 4, 4), [node("Transpose", ["data"], ["a"], perm=[0, 2, 3, 1]), node("Reshape", ["a", "rows"], ["b"]),
                    node("MatMul", ["b", "w"], ["c"]), node("Reshape", ["c", "back"], ["out"])],
     {"rows": whole(-1, 3), "w": values(3, 5), "back": whole(1, 4, 4, 5)}),
    ((1, 48), [node("Reshape", ["data", "flat"], ["a"]), node("Reshape", ["a", "back"], ["out"])],
     {"flat": whole(-1), "back": whole(1, 48)}),
    ((4, 6), [node("Reshape", ["data", "pairs"], ["a"]), node("Reshape", ["a", "back"], ["out"])],
     {"pairs": whole(-1, 3), "back": whole(4, 6)})])
def test_rows_go_back_to_examples_in_a_file_for_a_number_of_them(inputs, nodes, constants, tmp_path):
    path = written(tmp_path, nodes, {"data": inputs}, constants)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    data = values(3 * inputs[0], *inputs[1:])
    expected = [session.run(None, {"data": part})[0] for part in np.split(data, 3)]
    found = ModelHandler(path).get_block()(mx.nd.array(data)).asnumpy()
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("nodes", "constants"), [
    ([node("ReduceMean", ["data"], ["a"], axes=[0, 1]), node("Sub", ["data", "a"], ["out"])], {}),
    ([node("Reshape", ["data", "flat"], ["a"]), node("Softmax", ["a"], ["b"], axis=0),
      node("Reshape", ["b", "to"], ["out"])], {"flat": whole(-1), "to": whole(-1, 6)}),
    ([node("Gather", ["data", "first"], ["a"]), node("Unsqueeze", ["a", "axes"], ["out"])],
     {"first": np.int64(0), "axes": whole(0)})])
def test_a_file_for_one_example_that_mixes_several_is_refused(nodes, constants, tmp_path):
    path = written(tmp_path, nodes, {"data": (1, 6)}, constants)
    with pytest.raises(ModelError, match=r"mixes the examples of a batch.* It was written for 1 only; export it with"):
        sources.read(path)


def test_a_network_that_takes_one_example_only_is_refused_where_the_file_takes_any(tmp_path):
    path = written(tmp_path, [node("Reshape", ["data", "to"], ["out"], "flat")], {"data": ("n", 2, 3)}, {"to": whole(1, 6)})
    with pytest.raises(ModelError, match=r"'flat' \(Reshape\) is to give \(1, 6\) of \(2, 2, 3\), for a batch of 2"):
        sources.read(path)


def test_an_output_that_depends_on_no_input_mixes_no_examples(tmp_path):
    """As the anchor boxes of a detector."""
    path = written(tmp_path, [node("Mul", ["data", "zero"], ["a"]), node("ReduceSum", ["a", "axis"], ["b"]),
                              node("Add", ["b", "boxes"], ["out"])],
                   {"data": (1, 6)}, {"zero": np.float32(0), "axis": whole(0), "boxes": values(1, 6)})
    assert ModelHandler(path).infer_shapes()
