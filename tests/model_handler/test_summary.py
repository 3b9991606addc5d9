"""The table: counts against numbers worked out by hand, columns, what is unknown; and the differences of two networks."""

from dataclasses import replace

import pytest
from helpers import chain_symbol, small_networks, with_values

from xfer2 import Preprocessing
from xfer2._mxnet import mx
from xfer2.model_handler import ModelHandler, params, sources, summary

NETWORKS = small_networks()

# of the chain on (3, 8, 8): weights of every layer, and operations (two for every multiplication with a weight)
PARAMETERS = {"conv1": 4 * 3 * 9 + 4, "bn1": 4 * 4, "relu1": 0, "pool1": 0, "conv10": 4 * 4 * 9 + 4, "flat": 0,
              "fc1": 6 * 64 + 6, "fc2": 3 * 6 + 3}
FLOPS = {"conv1": 2 * (4 * 3 * 9) * 64, "bn1": 256, "relu1": 256, "pool1": 64, "conv10": 2 * (4 * 4 * 9) * 16, "flat": 64,
         "fc1": 2 * 6 * 64, "fc2": 2 * 3 * 6}


def rows(network, **shapes):
    return {row.name: row for row in summary.summarize(network, shapes).rows}


def test_parameters_and_operations_of_the_chain():
    table = summary.summarize(NETWORKS["chain"])
    assert {row.name: row.parameters for row in table.rows} == PARAMETERS
    assert {row.name: row.flops for row in table.rows} == FLOPS
    assert table.parameters == 687
    assert table.flops == 19_876


def test_operations_of_grouped_and_transposed_convolutions():
    grouped = mx.sym.Convolution(mx.sym.var("data"), num_filter=4, num_group=2, kernel=(3, 3), no_bias=True, name="conv")
    assert rows(with_values(grouped, data=(4, 6, 6)))["conv"].flops == 2 * (4 * 2 * 9) * 16
    wide = mx.sym.Deconvolution(mx.sym.var("data"), num_filter=3, kernel=(2, 2), stride=(2, 2), name="up")
    assert rows(with_values(wide, data=(2, 5, 5)))["up"].flops == 2 * (2 * 3 * 4) * 25


def test_a_dense_layer_on_every_position_of_a_sequence():
    dense = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=6, flatten=False, name="fc")
    assert rows(with_values(dense, data=(10, 4)))["fc"].flops == 2 * 6 * 4 * 10


def test_a_shared_weight_is_counted_once_in_the_total():
    weight = mx.sym.var("w")
    first = mx.sym.FullyConnected(mx.sym.var("data"), weight=weight, no_bias=True, num_hidden=3, name="a")
    network = with_values(mx.sym.FullyConnected(first, weight=weight, no_bias=True, num_hidden=3, name="b"), data=(3,))
    table = summary.summarize(network)
    assert [row.parameters for row in table.rows] == [9, 9]
    assert table.parameters == 9


def test_frozen_layers_are_marked_and_counted():
    table = ModelHandler(NETWORKS["chain"]).freeze(until="bn1").summary()
    assert [row.name for row in table.rows if row.frozen] == ["conv1", "bn1"]
    assert table.frozen_parameters == 112 + 16
    assert "687 parameters (128 frozen)" in str(table)


def test_the_printed_columns_stand_under_their_titles():
    lines = str(ModelHandler(NETWORKS["chain"]).freeze("conv1").summary()).splitlines()
    title, body = lines[1], lines[3:-2]
    assert lines[0] == "inputs: data 3x8x8"
    assert set(lines[2]) == set(lines[-2]) == {"-"}
    assert len(body) == 8
    for column in ("type", "output shape", "frozen"):
        start = title.index(column)
        assert all(line[start - 2:start].strip() == "" for line in body), column
        assert any(line[start:start + 1].strip() for line in body), column
    for column in ("parameters", "FLOPs"):
        end = title.index(column) + len(column)
        assert all(line[end:end + 2].strip() == "" for line in body), column
        assert any(line[end - 1:end].strip() for line in body), column
    first = body[0].split()
    assert first == ["conv1", "Convolution", "4x8x8", "112", "13.82", "k", "yes"]
    assert lines[-1] == "8 layers, 687 parameters (112 frozen), 19.88 k FLOPs an example"


def test_unknown_shapes_show_a_question_mark():
    table = summary.summarize(sources.read(chain_symbol()))
    assert table.flops is None
    assert {row.output_shape for row in table.rows} == {None}
    lines = str(table).splitlines()
    assert lines[0] == "inputs: data ?"
    assert all(line.split().count("?") >= 2 for line in lines[3:-2])
    assert lines[-1].endswith("? FLOPs an example")


def test_a_shape_given_for_once_fills_the_table_and_is_not_remembered():
    handler = ModelHandler(chain_symbol())
    assert handler.summary(data=(3, 8, 8)).flops == 19_876
    assert handler.summary().flops is None
    handler.infer_shapes(data=(3, 8, 8))
    assert handler.summary().flops == 19_876


def test_the_table_as_a_frame():
    frame = summary.summarize(NETWORKS["chain"]).to_frame()
    assert list(frame.columns) == ["name", "type", "output_shape", "parameters", "flops", "frozen"]
    assert frame.set_index("name")["parameters"].to_dict() == PARAMETERS


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_does_not_differ_from_itself(name):
    assert summary.differences(NETWORKS[name], NETWORKS[name]) == ""


def test_differences_are_told_line_by_line():
    old = NETWORKS["chain"]
    handler = ModelHandler(old).remove("relu1").rename("fc2", "scores").freeze("conv1")
    assert handler.copy().diff(handler) == ""
    lines = summary.differences(old, handler.network).splitlines()
    assert lines == ["- relu1 (Activation)", "- fc2 (FullyConnected)", "+ scores (FullyConnected)",
                     "~ pool1: reads relu1 -> bn1", "~ outputs: fc2 -> scores", "~ frozen: none -> conv1"]


def test_differences_of_values_shapes_and_attributes():
    old = NETWORKS["chain"]
    moved = params.with_params(old, {"fc1_bias": old.params["fc1_bias"] + 1})
    assert summary.differences(old, moved) == "~ fc1_bias: values"
    lines = ModelHandler(old).diff(ModelHandler(old).replace_head(5, seed=0)).splitlines()
    assert lines[0] == "~ fc2: num_hidden 3 -> 5"
    assert "~ fc2_weight: shape (3, 6) -> (5, 6)" in lines


def test_differences_of_how_images_are_seen():
    bare = NETWORKS["chain"]
    one = replace(bare, preprocessing=Preprocessing((3, 8, 8), mean=(1.0, 2.0, 3.0)))
    two = replace(bare, preprocessing=Preprocessing((3, 8, 8), color="BGR", mean=(3.0, 2.0, 1.0)))
    assert summary.differences(bare, one) == "~ preprocessing: none -> given"
    assert summary.differences(one, bare) == "~ preprocessing: given -> none"
    assert ModelHandler(one).diff(two) == "~ preprocessing: color RGB -> BGR; mean (1.0, 2.0, 3.0) -> (3.0, 2.0, 1.0)"
    assert ModelHandler(one).diff(one) == ""
