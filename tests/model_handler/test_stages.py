"""The last layer of each size of maps."""

from dataclasses import replace

import pytest

from xfer2._mxnet import gluoncv, mx
from xfer2.model_handler import ModelHandler, sources, symbols
from xfer2.model_handler.graph import stages


def ends(network):
    shapes = symbols.layer_shapes(network)
    return [(name, shapes[name][1:]) for name in stages.stage_ends(network.graph, shapes)]


@pytest.mark.parametrize(("source", "expected"), [
    ("zoo:cifar10-cnn", [("relu1", (30, 30)), ("relu3", (13, 13))]),
    ("zoo:cifar10-resnet28", [("stage2_unit1_relu1", (32, 32)), ("stage3_unit1_relu1", (16, 16)), ("final_relu", (8, 8))]),
    ("zoo:mnist-rnn", []),
])
def test_of_the_zoo(source, expected):
    assert ends(ModelHandler(source).network) == expected


def test_the_output_itself_is_none():
    assert ends(ModelHandler("zoo:cifar10-cnn").truncate("relu3").network) == [("relu1", (30, 30))]


def test_of_a_residual_network_they_are_the_stages():
    block = gluoncv().model_zoo.get_model("resnet18_v1", pretrained=False)
    block.initialize()
    block(mx.nd.zeros((1, 3, 64, 64)))
    network = replace(ModelHandler(block).network, input_shapes={"data": (3, 64, 64)})
    found = ends(network)
    assert [size for _, size in found] == [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]
    by_name = network.graph.by_name
    assert all(by_name[name].op == "Activation" for name, _ in found)
    assert by_name[by_name[found[-1][0]].inputs[0].node].op == "elemwise_add"


def test_channels_that_come_last_and_maps_of_one_place_have_none():
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=4, kernel=(3, 3), layout="NHWC", name="conv")
    network = sources.read(mx.sym.Activation(x, act_type="relu", name="relu"))
    assert stages.stage_ends(network.graph, {"conv": (8, 8, 4), "relu": (8, 8, 4)}) == []
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=4, kernel=(8, 8), name="conv")
    network = sources.read(mx.sym.Flatten(x))
    assert stages.stage_ends(network.graph, {"conv": (4, 1, 1)}) == []
    assert stages.stage_ends(network.graph, {"conv": None}) == []


@pytest.mark.parametrize(("channels", "expected"), [(300, []), (6, ["relu"])])
@pytest.mark.parametrize("averages", [dict(global_pool=True, kernel=(1, 1)), dict(kernel=(8, 8))])
def test_maps_whose_mean_is_the_features_are_not_read_again(channels, expected, averages):
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=channels, kernel=(3, 3), pad=(1, 1), name="conv")
    x = mx.sym.Dropout(mx.sym.Activation(x, act_type="relu", name="relu"), name="drop")
    x = mx.sym.Flatten(mx.sym.Pooling(x, pool_type="avg", name="gap", **averages))
    network = replace(sources.read(x), input_shapes={"data": (3, 8, 8)})
    assert [name for name, _ in ends(network)] == expected  # 3 by 3 means say more than one


def test_the_steps_of_every_recurrent_layer_come_in_three_parts():
    cell = mx.rnn.SequentialRNNCell()
    cell.add(mx.rnn.LSTMCell(4, prefix="low_"))
    cell.add(mx.rnn.GRUCell(3, prefix="high_"))
    outputs, _ = cell.unroll(7, mx.sym.var("data"), layout="NTC")
    network = replace(sources.read(outputs[-1]), input_shapes={"data": (7, 2)})
    shapes = symbols.layer_shapes(network)
    found = stages.stages(network.graph, network.parameter_names, shapes)
    assert [len(part) for part in found] == [2, 3, 2] * 2
    assert [{shapes[name] for name in part} for part in found] == [{(4,)}] * 3 + [{(3,)}] * 3
    assert len({name for part in found for name in part}) == 14
