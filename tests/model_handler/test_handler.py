"""The facade: edits that chain, happen wholly or not at all, and what it hands out."""

import numpy as np
import pytest
from helpers import chain_symbol, inputs_for, small_networks, two_output_symbol, with_values
from model_handler.running import assert_same, block_outputs, computed

from xfer2._mxnet import mx
from xfer2.exceptions import LayerNotFoundError, MissingParametersError, ModelError, ParameterError
from xfer2.model_handler import ModelHandler

NETWORKS = small_networks()


def handler_of(name="chain", **options):
    return ModelHandler(NETWORKS[name], **options)


def dense(units, name, source="x"):
    return mx.sym.FullyConnected(mx.sym.var(source), num_hidden=units, name=name)


# --- what the network is ------------------------------------------------------------------------------------------


def test_names_types_and_parameters():
    handler = handler_of()
    assert handler.layer_names == ["conv1", "bn1", "relu1", "pool1", "conv10", "flat", "fc1", "fc2"]
    assert handler.layer_type_dict["bn1"] == handler.get_layer_type("bn1") == "BatchNorm"
    assert handler.get_layer_names_matching_type("convolution") == ["conv1", "conv10"]
    assert handler.get_layer_names_matching_type("Dropout") == []
    assert handler.get_layer_parameters("conv1") == ["conv1_weight", "conv1_bias"]
    assert handler.get_layer_parameters(["conv10", "fc2"]) == ["conv10_weight", "conv10_bias", "fc2_weight", "fc2_bias"]
    assert set(handler.aux_params) == {"bn1_moving_mean", "bn1_moving_var"}
    assert "bn1_gamma" in handler.arg_params
    assert repr(handler) == "ModelHandler(8 layers, inputs data, outputs fc2)"


def test_the_mappings_handed_out_are_copies():
    handler = handler_of()
    handler.arg_params.clear()
    handler.layer_names.clear()
    assert handler.arg_params
    assert handler.layer_names


def test_an_unknown_layer_lists_the_nearest_names():
    handler = handler_of()
    for ask in (handler.get_layer_type, handler.get_layer_parameters, handler.truncate, handler.remove, handler.freeze,
                handler.extract, lambda name: handler.freeze(until=name), lambda name: handler.rename(name, "x"),
                lambda name: handler.reinitialize(name)):
        with pytest.raises(LayerNotFoundError, match=r"'conv_1' is not in the network. Nearest of its 8 layers: conv1"):
            ask("conv_1")


def test_shapes_are_inferred_and_remembered():
    handler = ModelHandler(chain_symbol())
    assert handler.infer_shapes()["fc1"] is None
    assert handler.infer_shapes(data=(3, 8, 8))["pool1"] == (4, 4, 4)
    assert handler.infer_shapes()["pool1"] == (4, 4, 4)
    with pytest.raises(ParameterError, match=r"infer_shapes: the inputs must be among data; got 'image'"):
        handler.infer_shapes(image=(3, 8, 8))


def test_the_input_at_the_bottom():
    assert handler_of().data_name == handler_of(data_name="image").data_name == "data"
    assert handler_of("two inputs", data_name="right").data_name == "right"
    with pytest.raises(ModelError, match=r"has the inputs left, right, none of them 'data'; choose one with"):
        handler_of("two inputs").drop_layer_bottom()


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_numbers_of_layers_and_devices_are_checked(count):
    for call in (lambda: handler_of(num_devices=count), lambda: handler_of().drop_layer_top(count),
                 lambda: handler_of().drop_layer_bottom(count)):
        with pytest.raises(ParameterError, match=r"must be an integer of at least 1"):
            call()


def test_preprocessing_is_assigned_checked_and_taken_back():
    handler = handler_of()
    handler.preprocessing = {"input_shape": (3, 8, 8)}
    assert handler.preprocessing.color == "RGB"
    before = handler.network
    for wrong, error in (({"input_shape": (3, 16, 16)}, ModelError), ("record", ParameterError),
                         ({"input_shape": (3, 8, 8), "input_name": "image"}, ParameterError)):
        with pytest.raises(error):
            handler.preprocessing = wrong
        assert handler.network is before
    handler.preprocessing = None
    assert handler.preprocessing is None


# --- edits --------------------------------------------------------------------------------------------------------


def test_edits_chain_and_leave_the_source_alone():
    source = NETWORKS["chain"]
    handler = ModelHandler(source).drop_layer_top(2).add_layer_top(dense(5, "new"))
    handler.freeze("conv1").rename("flat", "flattened")
    assert handler.layer_names[-2:] == ["flattened", "new"]
    assert source.graph.layer_names[-1] == "fc2"
    assert source.frozen == frozenset()


FAILING = {
    "drop past a join": ("residual", lambda h: h.drop_layer_top(4)),
    "drop of two outputs": ("two outputs", lambda h: h.drop_layer_top()),
    "drop of all": ("chain", lambda h: h.drop_layer_top(8)),
    "drop below a branch": ("inception", lambda h: h.drop_layer_bottom()),
    "remove a join": ("residual", lambda h: h.remove("add1")),
    "remove against the shapes": ("chain", lambda h: h.remove("conv1")),
    "remove the projection": ("residual", lambda h: h.remove("projection")),
    "remove several outputs": ("two outputs", lambda h: h.remove("halves")),
    "add what clashes": ("chain", lambda h: h.add_layer_top(dense(3, "fc1"))),
    "add what does not fit": ("chain", lambda h: h.add_layer_top(with_values(dense(2, "new"), x=(9,)))),
    "add a second that fails": ("chain", lambda h: h.add_layer_top([dense(3, "new"), dense(3, "new")])),
    "add below what does not fit": ("chain", lambda h: h.add_layer_bottom(with_values(dense(9, "new"), x=(5,)))),
    "insert two inputs": ("chain", lambda h: h.insert_after("conv1", NETWORKS["two inputs"])),
    "insert against the shapes": ("chain", lambda h: h.insert_after("pool1", mx.sym.Flatten(mx.sym.var("x"), name="new"))),
    "replace by other inputs": ("two inputs", lambda h: h.replace("add", dense(4, "new"))),
    "replace against the shapes": ("chain", lambda h: h.replace("fc1", dense(9, "new"))),
    "extract with an open input": ("residual", lambda h: h.extract("add1", "a_relu")),
    "rename to a taken name": ("chain", lambda h: h.rename("fc1", "fc2")),
    "head behind a join": ("two outputs", lambda h: h.replace_head(4)),
    "compose without a prefix": ("chain", lambda h: h.compose(NETWORKS["chain"])),
    "compose against the shapes": ("chain", lambda h: h.compose(NETWORKS["chain"], prefix="again_")),
    "symbol against the shapes": ("chain", lambda h: h.update_sym(dense(7, "fc1", "data"))),
    "reinitialize unknown": ("chain", lambda h: h.reinitialize(["fc1", "fc9"])),
    "freeze unknown": ("chain", lambda h: h.freeze(["fc1", "fc9"])),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_failing_edit_leaves_the_very_same_network(case):
    name, change = FAILING[case]
    handler = handler_of(name)
    with pytest.raises(ModelError):
        change(handler)
    assert handler.network is NETWORKS[name]


def test_what_is_ambiguous_names_the_choices():
    for name, change, choices in (
            ("residual", lambda h: h.drop_layer_top(4), "'projection', 'b_relu'"),
            ("residual", lambda h: h.remove("add2"), "'projection', 'b_relu'"),
            ("inception", lambda h: h.drop_layer_bottom(), "'branch1', 'branch3', 'branch5'"),
            ("inception", lambda h: h.remove("concat"), "'branch1', 'branch3', 'branch5'"),
            ("two inputs", lambda h: h.remove("add"), "'fc_left', 'fc_right'"),
            ("two outputs", lambda h: h.drop_layer_top(), "'head_a', 'head_b'"),
            ("two outputs", lambda h: h.truncate("halves"), "'halves_output0', 'halves_output1'")):
        with pytest.raises(ModelError, match=choices):
            change(handler_of(name))


def test_drop_and_truncate_compute_what_the_layer_computed():
    expected = computed(handler_of().extract("fc1").network)
    assert_same(computed(handler_of().drop_layer_top().network), expected)
    assert_same(computed(handler_of().truncate("fc1").network), expected)
    assert_same(computed(handler_of().truncate("fc1_output").network), expected)


def test_drop_at_the_bottom_of_one_of_two_inputs():
    handler = handler_of("two inputs", data_name="left").drop_layer_bottom()
    assert handler.layer_names == ["fc_right", "add", "top"]
    assert handler.infer_shapes()["add"] == (4,)
    inputs = inputs_for(NETWORKS["two inputs"])
    inputs["left"] = computed(handler_of("two inputs").extract("fc_left").network, {"left": inputs["left"]})[0]
    assert_same(computed(handler.network, inputs), computed(NETWORKS["two inputs"]))


def test_add_several_layers_first_lowest():
    handler = handler_of().add_layer_top([dense(5, "a"), mx.sym.relu(mx.sym.var("x"), name="b"), dense(2, "c")])
    assert handler.layer_names[-3:] == ["a", "b", "c"]
    assert handler.infer_shapes()["c"] == (2,)
    below = handler_of().add_layer_bottom([mx.sym.relu(mx.sym.var("x"), name="a"), mx.sym.tanh(mx.sym.var("x"), name="b")])
    assert below.layer_names[:3] == ["a", "b", "conv1"]


def test_a_gluon_block_as_a_layer():
    block = mx.gluon.nn.Dense(4, in_units=3, prefix="gluon_")
    block.initialize(mx.init.One())
    handler = handler_of().add_layer_top(block)
    sums = computed(NETWORKS["chain"])[0].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(computed(handler.network)[0], np.repeat(sums, 4, axis=1), rtol=1e-5)


def test_remove_with_keep_leaves_the_other_branch_out():
    handler = handler_of("residual").remove("add1", keep="stem_relu")
    assert "a_conv" not in handler.truncate("fc").layer_names
    assert computed(handler.network)[0].shape == (3, 5)


def test_replace_and_insert():
    handler = handler_of().replace("relu1", mx.sym.tanh(mx.sym.var("x"), name="tanh1"))
    assert handler.get_layer_type("tanh1") == "tanh"
    assert "relu1" not in handler.layer_names
    assert_same(computed(handler.truncate("tanh1").network),
                [mx.nd.tanh(mx.nd.array(computed(handler_of().truncate("bn1").network)[0])).asnumpy()])
    longer = handler_of("two outputs").insert_after("head_b", mx.sym.relu(mx.sym.var("x"), name="last"))
    assert [edge.node for edge in longer.network.graph.outputs] == ["head_a", "last"]


def test_extract_several_outputs_and_between_layers():
    handler = handler_of("two outputs").extract(["head_b", "trunk"])
    assert [array.shape for array in computed(handler.network)] == [(3, 2), (3, 6)]
    upper = handler_of("inception").extract("fc", "concat")
    assert upper.network.inputs == ("concat",)
    assert upper.infer_shapes()["fc"] == (4,)
    for names in ([], ["fc", "fc"], 3, [3]):
        with pytest.raises(ParameterError, match=r"extract: outputs must be a"):
            handler_of().extract(names)


def test_parameters_without_values_stop_what_computes():
    handler = ModelHandler(chain_symbol())
    handler.truncate("conv1")
    assert handler.network.missing == ("conv1_weight", "conv1_bias")
    data = np.zeros((2, 3, 8, 8), "float32")
    with pytest.raises(MissingParametersError, match=r"2 of 2 have none: conv1_weight, conv1_bias"):
        handler.features(data, "conv1")


def test_compose_and_undo():
    handler = handler_of().compose(with_values(dense(2, "upper"), x=(3,)))
    assert computed(handler.network)[0].shape == (3, 2)
    assert handler.drop_layer_top().diff(NETWORKS["chain"]) == ""


def test_a_copy_goes_its_own_way():
    handler = handler_of()
    other = handler.copy().drop_layer_top().freeze()
    assert handler.network is NETWORKS["chain"]
    assert other.layer_names[-1] == "fc1"
    assert handler.diff(other).splitlines()[0] == "- fc2 (FullyConnected)"


def test_freeze_and_unfreeze():
    handler = handler_of("residual").freeze(until="add1")
    assert handler.network.frozen == {"stem_conv", "stem_bn", "stem_relu", "a_conv", "a_bn", "a_relu", "add1"}
    assert handler.unfreeze(until="stem_relu").network.frozen == {"a_conv", "a_bn", "a_relu", "add1"}
    assert handler.unfreeze(["a_conv", "a_bn"]).network.frozen == {"a_relu", "add1"}
    assert handler.unfreeze().network.frozen == set()
    assert handler.freeze(["b_*", "stem_conv"]).network.frozen == {"stem_conv", "b_conv", "b_bn", "b_relu"}
    assert handler.unfreeze("b_?*").network.frozen == {"stem_conv"}
    before = handler.copy()
    handler.reinitialize("b_c*", seed=0)
    assert handler.diff(before).count("\n") == before.diff(handler).count("\n")
    assert "b_conv_weight" in handler.diff(before)
    assert "stem" not in handler.diff(before)
    assert handler.freeze().network.frozen == set(handler.layer_names)
    with pytest.raises(ParameterError, match=r"freeze: layers must be left out where until is given"):
        handler.freeze("fc", until="fc")


def test_reinitialize_draws_the_named_layers_reproducibly():
    first, second = (handler_of().reinitialize(["fc1", "conv1"], seed=4) for _ in range(2))
    assert first.diff(second) == ""
    changed = {line.split(":")[0].removeprefix("~ ") for line in handler_of().diff(first).splitlines()}
    assert changed == {"conv1_weight", "conv1_bias", "fc1_weight", "fc1_bias"}
    assert "fc1_weight: values" in first.diff(handler_of().reinitialize("fc1", seed=5))


def test_reinitialize_fills_what_is_missing():
    handler = handler_of().add_layer_top(dense(2, "new"))
    assert handler.network.missing == ("new_weight", "new_bias")
    kept = handler.arg_params["fc1_weight"]
    assert handler.reinitialize(seed=0).network.missing == ()
    assert handler.arg_params["fc1_weight"] is kept


@pytest.mark.parametrize("count", [1, 0, "3", 2.0])
def test_a_head_has_at_least_two_classes(count):
    with pytest.raises(ParameterError, match=r"replace_head: num_classes must be an integer of at least 2"):
        handler_of().replace_head(count)


def test_another_symbol_keeps_parameters_of_the_same_name():
    handler = handler_of().update_sym(mx.sym.softmax(chain_symbol(), name="probabilities"))
    np.testing.assert_allclose(computed(handler.network)[0].sum(axis=1), 1, rtol=1e-6)
    assert handler.arg_params["fc1_weight"] is NETWORKS["chain"].params["fc1_weight"]


# --- what can be made of it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_the_block_computes_the_network_bit_for_bit(name):
    network = NETWORKS[name]
    assert_same(block_outputs(handler_of(name).get_block(), network, inputs_for(network)), computed(network))


def iterator(count=12):
    random = np.random.default_rng(0)
    return mx.io.NDArrayIter(random.normal(size=(count, 3, 8, 8)).astype("float32"), np.arange(count) % 3, batch_size=4,
                             label_name="softmax_label")


def trained(handler, **options):
    data = iterator()
    module = handler.get_module(data, **options)
    module.init_optimizer(optimizer="sgd", optimizer_params={"learning_rate": 0.1})
    for batch in data:
        module.forward_backward(batch)
        module.update()
    return {name: array.asnumpy() for name, array in module.get_params()[0].items()}


def test_a_module_trains_all_but_the_fixed():
    handler = handler_of().add_layer_top(mx.sym.SoftmaxOutput(mx.sym.var("x"), name="softmax"))
    fixed = handler.get_layer_parameters(["conv1", "fc1"])
    after = trained(handler, fixed_layer_parameters=fixed)
    still = {name for name, value in after.items() if np.array_equal(value, handler.arg_params[name].asnumpy())}
    assert still == set(fixed)


def test_a_module_draws_the_random_and_the_missing():
    handler = handler_of().drop_layer_top().add_layer_top([dense(3, "new"), mx.sym.SoftmaxOutput(mx.sym.var("x"),
                                                                                                name="softmax")])
    module = handler.get_module(iterator(), random_layer_parameters=["fc1_weight"], for_training=False)
    found = module.get_params()[0]
    assert found["new_weight"].shape == (3, 6)
    assert found["new_weight"].asnumpy().any()
    assert (found["fc1_weight"] != handler.arg_params["fc1_weight"]).asnumpy().any()
    assert (found["fc1_bias"] == handler.arg_params["fc1_bias"]).asnumpy().all()


def test_a_module_draws_by_what_a_parameter_is_to_its_layer_whatever_it_is_called():
    names = {"gamma": mx.sym.var("bn.weight"), "beta": mx.sym.var("bn.bias")}
    normed = mx.sym.BatchNorm(mx.sym.var("data"), **names, fix_gamma=False, name="bn")
    answer = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(mx.sym.Flatten(normed), num_hidden=3, name="fc"), name="softmax")
    handler = ModelHandler(answer)
    arguments, states = handler.get_module(iterator()).get_params()
    assert (arguments["bn.weight"].asnumpy() == 1).all()
    assert (arguments["bn.bias"].asnumpy() == 0).all()
    assert (states["bn_moving_var"].asnumpy() == 1).all()
    assert arguments["fc_weight"].asnumpy().std() == pytest.approx(np.sqrt(2 / 192), rel=0.2)  # He et al. 2015


def test_a_module_of_unknown_parameters_is_refused():
    with pytest.raises(ParameterError, match="get_module: iterator must be"):
        handler_of().get_module(np.zeros((4, 3, 8, 8)))
    with pytest.raises(ParameterError, match=r"fixed_layer_parameters must be names of parameters.*got 'conv1'"):
        handler_of().get_module(iterator(), fixed_layer_parameters=["conv1"])


def test_layer_outputs_are_flat_and_come_with_labels():
    features, labels = handler_of().get_layer_output(iterator(10), ["pool1", "fc2"])
    assert features["pool1"].shape == (10, 64)
    assert labels.tolist() == (np.arange(10) % 3).tolist()
    data = iterator(10).data[0][1].asnumpy()
    np.testing.assert_allclose(features["fc2"], computed(NETWORKS["chain"], {"data": data})[0], rtol=1e-5)


def test_the_symbol_alone_is_written(tmp_path):
    handler_of("two outputs").save_symbol(str(tmp_path / "net"))
    assert mx.sym.load(str(tmp_path / "net-symbol.json")).tojson() == two_output_symbol().tojson()


def test_the_picture_has_every_layer_and_marks_the_frozen():
    source = handler_of("residual").freeze("stem_conv").visualize_net().source
    assert all(f"{name}\\n" in source for name in NETWORKS["residual"].graph.layer_names)
    assert source.count("lightblue") == 1
    assert "4x8x8" in source


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda h: h.add_layer_bottom([]), ParameterError, "add_layer_bottom: layer_list must be a layer, or a list of layers"),
    (lambda h: h.add_layer_top(3), ParameterError, "add_layer_top: layer_list must be a Module"),
    (lambda h: h.rename("conv1", 3), ParameterError, "rename: new must be a name; got 3"),
    (lambda h: h.update_sym("x"), ParameterError, "update_sym: new_symbol must be a symbol; got 'x'"),
    (lambda h: h.summary(dat=(3, 8, 8)), ParameterError, "summary: the inputs must be among data; got 'dat'"),
    (lambda h: h.export_onnx("x.onnx", dat=(3, 8, 8)), ParameterError, "export_onnx: the inputs must be among data"),
    (lambda h: h.truncate(["conv1"]), LayerNotFoundError, r"A layer is said by its name, a text; got \['conv1'\]"),
    (lambda h: h.save_symbol("no/such/folder/x"), ModelError, "save_symbol: 'no/such/folder/x-symbol.json' cannot be"),
])
def test_what_makes_no_sense_is_told_and_changes_nothing(call, error, message):
    handler = handler_of("chain")
    before = handler.network
    with pytest.raises(error, match=message):
        call(handler)
    assert handler.network is before
