"""Two towers, stitch, PTU: limits in which they are known networks, and what they leave alone."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tasks import bright_channels, digits, drawn, residual_network, two_input_network, values
from test_network import PLAIN

import xfer2
from xfer2._mxnet import gluoncv, mx
from xfer2.exceptions import ModelError, ParameterError
from xfer2.model_handler import ModelHandler, edits, params, sources, symbols
from xfer2.model_handler.graph import towers
from xfer2.model_handler.graph.model import Edge
from xfer2.model_handler.graph.pairs import find_pairs
from xfer2.repurposers._layers import up_to_features
from xfer2.repurposers._towers import as_frozen

METHODS = {"two-tower": xfer2.TwoTowerRepurposer, "stitch": xfer2.StitchRepurposer, "ptu": xfer2.PtuRepurposer}


def made(method, source=None, **settings):
    given = {"num_epochs": 3, "batch_size": 16, "random_state": 0, "refit": False, **settings}  # test_refit.py trains again
    return METHODS[method](residual_network() if source is None else source, **given)


def gated(source, layer="gap", **gates):
    """A PTU network without head, whose gates are where they are told to be."""
    network = as_frozen(up_to_features("test", ModelHandler(source), layer))
    pairs = find_pairs(network.graph, network.parameter_names)
    graph = towers.gated(network.graph, network.parameter_names, pairs, symbols.layer_shapes(network))
    network = params.initialize(edits.with_graph(network, graph), seed=3)
    told = {}
    for name, array in network.params.items():
        for gate, value in gates.items():
            if name.startswith("unit_") and f"_{gate}_" in name:
                told[name] = mx.nd.full(array.shape, value if name.endswith("bias") else 0)
    return params.with_params(network, told), pairs


def output(network, data, layer=None):
    layer = layer or network.graph.outputs[0].node
    return ModelHandler(network).features(data, layer)[layer]


@pytest.mark.parametrize(("source", "layer"), [("residual", "gap"), ("zoo:mnist-rnn", "step27_tanh"),
                                               ("zoo:mnist-cnn", "relu3")])
def test_closed_update_gates_leave_the_target_network_alone(source, layer):
    network, _ = gated(residual_network() if source == "residual" else source, layer, z=-1e4)
    data = bright_channels(6)[0] if source == "residual" else digits(6)[0]
    alone = ModelHandler(residual_network() if source == "residual" else source).truncate(layer)
    own = {name: network.params[f"target_{name}"] for name in alone.network.parameter_names}
    alone = params.with_params(alone.network, own)
    np.testing.assert_allclose(output(network, data), output(alone, data), atol=1e-5)


@pytest.mark.parametrize(("source", "layer"), [("residual", "b_conv"), ("zoo:mnist-rnn", "step27_tanh"),
                                               ("zoo:mnist-cnn", "relu3")])
def test_open_update_gates_and_closed_fine_tune_gates_pass_the_sources_activations(source, layer):
    source = residual_network() if source == "residual" else source
    network, pairs = gated(source, layer, z=1e4, r=-1e4)
    data = bright_channels(6)[0] if layer == "b_conv" else digits(6)[0]
    for pair in pairs:
        for end in pair.ends:
            unit = f"unit_{end if pair.is_recurrent else pair.name}"
            np.testing.assert_allclose(output(network, data, unit), output(network, data, end), atol=1e-5)
    np.testing.assert_allclose(output(network, data), ModelHandler(source).features(data, layer)[layer], atol=1e-5)


@pytest.mark.parametrize("start", ["source", "probe"])
@pytest.mark.parametrize("source", ["residual", "zoo:mnist-rnn"])
def test_a_target_that_starts_from_the_source_has_its_values_and_gates_nearly_closed(source, start):
    source = residual_network() if source == "residual" else source
    target = made("ptu", source, start=start)._make_target(ModelHandler(source), 2).network
    own = {name: array for name, array in target.params.items() if name.startswith("target_")}
    assert own
    for name, array in own.items():
        np.testing.assert_array_equal(array.asnumpy(), target.params[name.removeprefix("target_")].asnumpy())
    for gate in "zr":
        biases = [array for name, array in target.params.items()
                  if name.startswith("unit_") and name.endswith(f"_{gate}_bias")]
        assert biases
        assert all((array.asnumpy() == -2).all() for array in biases)


def test_open_gates_give_what_the_unit_makes_of_the_source():
    network, (pair, *_) = gated(residual_network(), z=1e4, r=1e4)
    data = bright_channels(4)[0]
    unit = f"unit_{pair.name}"
    np.testing.assert_allclose(output(network, data, unit), output(network, data, f"{unit}_h"), atol=1e-5)


def test_open_gates_are_what_the_equations_say():
    network, (pair, *_) = gated(residual_network(), z=0.3, r=-0.7)
    data = bright_channels(4)[0]
    source, target, h = (output(network, data, name)
                         for name in (pair.ends[0], f"target_{pair.ends[0]}", f"unit_{pair.name}_h"))
    z, r = 1 / (1 + np.exp(-0.3)), 1 / (1 + np.exp(0.7))
    expected = (1 - z) * target + z * ((1 - r) * source + r * h)
    np.testing.assert_allclose(output(network, data, f"unit_{pair.name}"), expected, atol=1e-5)
    assert np.abs(h).max() <= 1


@pytest.mark.parametrize("method", ["two-tower", "stitch"])
@pytest.mark.parametrize("below", ["stages", ()])
def test_before_training_the_target_is_logistic_regression_on_the_frozen_features(method, below):
    images, labels = bright_channels(90)
    start = made(method, intermediate_layers=below, learning_rate=1e-12, num_epochs=1, validation=0).fit(images, labels)
    source, layer = (start.network_, "target_source") if below else (residual_network(), "gap")
    regression = xfer2.LrRepurposer(source, layer, random_state=0).fit(images, labels)
    assert np.abs(start.predict_proba(images) - regression.predict_proba(images)).max() < 0.05
    np.testing.assert_array_equal(start.predict(images), regression.predict(images))


@pytest.mark.parametrize("below", ["stages", ()])
def test_a_target_that_starts_with_a_probe_is_logistic_regression_on_its_own_features(below):
    images, labels = bright_channels(90)
    still = {"intermediate_layers": below, "learning_rate": 1e-12, "num_epochs": 1, "validation": 0}
    start = made("ptu", start="probe", **still).fit(images, labels)
    drawn = made("ptu", start="source", **still).fit(images, labels)
    layer = "target_read" if below else "target_gap"
    regression = xfer2.LrRepurposer(start.network_, layer, random_state=0).fit(images, labels)
    assert np.abs(start.predict_proba(images) - regression.predict_proba(images)).max() < 0.05
    np.testing.assert_array_equal(start.predict(images), regression.predict(images))
    assert np.abs(start.predict_proba(images) - drawn.predict_proba(images)).max() > 0.05


@pytest.mark.parametrize("method", METHODS)
def test_the_source_inside_gives_what_it_gave_to_the_bit(method):
    source, (images, labels) = residual_network(), bright_channels(60)
    repurposer = made(method, source, learning_rate=0.05, weight_decay=0.1, mixup=0.3, validation=0).fit(images, labels)
    inside, before = values(repurposer.network_), values(source)
    for name in before.keys() - {"fc_weight", "fc_bias"}:
        np.testing.assert_array_equal(inside[name], before[name])
    for layer in ("stem", "a_conv", "add2", "gap"):
        np.testing.assert_array_equal(output(repurposer.network_, images, layer), output(source, images, layer))


@pytest.mark.parametrize("method", METHODS)
def test_exported_files_predict_the_same_in_plain_mxnet(method, tmp_path):
    images, labels = bright_channels(30)
    repurposer = made(method).fit(images, labels)
    repurposer.export(str(tmp_path / "exported"))
    np.savez(tmp_path / "inputs.npz", data=images)
    done = subprocess.run([sys.executable, "-c", PLAIN, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, ours = np.load(tmp_path / "said.npz"), repurposer.predict_proba(images)
    np.testing.assert_allclose(said["block"], ours, atol=1e-6)
    np.testing.assert_allclose(said["module"], ours, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_source_is_computed_once(method):
    repurposer = made(method).fit(*bright_channels(30))
    layers = set(repurposer.cached_layers_)
    assert layers
    assert not any(layer.startswith(("module_", "target_")) for layer in layers - {"target_source"})
    assert ("target_source" in layers) == (method != "ptu")


@pytest.mark.parametrize("method", METHODS)
def test_a_task_that_frozen_features_do_not_solve_is_learned(method):
    images, labels = bright_channels(240, noise=2.0)
    test = bright_channels(300, noise=2.0, seed=1)
    regression = xfer2.LrRepurposer(residual_network(), "gap", random_state=0).fit(images, labels).score(*test)
    epochs = 8 if method == "two-tower" else 40  # each of its batches counts five times
    repurposer = made(method, learning_rate=0.01, num_epochs=epochs, batch_size=30).fit(images, labels)
    assert repurposer.best_epoch_ > 0
    assert repurposer.score(*test) > regression


def test_a_stitched_module_is_a_quarter_as_wide_and_reads_both():
    shapes = ModelHandler(made("stitch", intermediate_layers=()).fit(*bright_channels(30)).network_).infer_shapes()
    assert shapes["module_stem"] == (2, 8, 8)
    assert shapes["stitch_a_conv"] == (8, 8, 8)
    assert shapes["target_features"] == (8,)
    narrow = made("stitch", width=0.5, paired_layers=["a_conv"]).fit(*bright_channels(30)).network_
    shapes = ModelHandler(narrow).infer_shapes()
    assert shapes["module_stem"] == (3, 8, 8)
    assert "stitch_a_conv" not in shapes
    assert shapes["stitch_b_conv"] == (9, 8, 8)


def test_a_tower_may_be_a_block_of_ones_own(tmp_path):
    tower = mx.gluon.nn.HybridSequential(prefix="own_")
    with tower.name_scope():
        tower.add(mx.gluon.nn.Conv2D(4, 3, activation="relu"), mx.gluon.nn.GlobalMaxPool2D())
    tower.initialize(mx.init.Xavier())
    images, labels = bright_channels(60)
    settings = {"module": tower, "hidden_units": (8, 5), "num_epochs": 5, "intermediate_layers": ()}
    repurposer = made("two-tower", **settings).fit(images, labels)
    shapes = ModelHandler(repurposer.network_).infer_shapes()
    assert shapes["target_features"] == (10,)
    assert shapes["target_dense1"] == (5,)
    repurposer.save(tmp_path / "saved")
    loaded = xfer2.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(images), repurposer.predict_proba(images))
    assert loaded.fit(images, labels).network_.graph == repurposer.network_.graph


def test_a_tower_may_be_a_classifier_in_half_precision():
    x = mx.sym.FullyConnected(mx.sym.Flatten(mx.sym.var("image")), num_hidden=4, name="dense")
    tower = params.cast(drawn(mx.sym.SoftmaxOutput(x, name="softmax"), image=(3, 8, 8)), "float16")
    images, labels = bright_channels(60)
    repurposer = made("two-tower", module=tower).fit(images, labels)
    assert repurposer.network_.labels == ()
    module = repurposer.get_module(mx.io.NDArrayIter(images, batch_size=20))
    np.testing.assert_allclose(module.predict(mx.io.NDArrayIter(images, batch_size=20)).asnumpy(),
                               repurposer.predict_proba(images), atol=1e-5)


def test_balanced_batches_are_not_weighted_once_more():
    random = np.random.default_rng(0)
    rare = (random.random(600) < 0.1).astype(int)
    points = (random.normal(size=(600, 2)) + rare[:, np.newaxis]).astype(np.float32)
    x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="dense")
    x = mx.sym.Activation(x, act_type="relu", name="relu")
    source = drawn(mx.sym.FullyConnected(x, num_hidden=3, name="top"), data=(2,))
    settings = {"batch_size": 100, "num_epochs": 10, "learning_rate": 0.01, "validation": 0}
    shares = [made("two-tower", source, class_weight=weight, **settings).fit(points, rare).predict(points).mean()
              for weight in (None, "balanced")]
    assert abs(shares[0] - shares[1]) < 0.1


def test_a_penalty_of_activity_makes_the_modules_features_small():
    sizes = []
    for weight in (0, 1.0):
        found = made("two-tower", activity_l2=weight, learning_rate=0.01, num_epochs=10, validation=0)
        found.fit(*bright_channels(60))
        sizes.append(float(np.square(output(found.network_, bright_channels(60)[0], "target_module")).sum()))
    assert sizes[1] < sizes[0] / 2


def unit_weights(**settings):
    """The sum of squares of the units' weights after a training."""
    found = made("ptu", num_epochs=10, learning_rate=0.01, validation=0, weight_decay=0, **settings)
    found.fit(*bright_channels(60))
    return sum(float(np.square(array).sum()) for name, array in values(found.network_).items()
               if name.startswith("unit_") and name.endswith("weight"))


@pytest.fixture(scope="module")
def free_weights():
    return unit_weights(penalty="l2", penalty_weight=0.0)


@pytest.mark.parametrize("penalty", ["l1", "l2", "filter", "channel"])
def test_penalties_make_the_units_weights_small(penalty, free_weights):
    assert unit_weights(penalty=penalty, penalty_weight=0.01) < 0.9 * free_weights


def test_both_halves_of_a_gates_output_are_one_group_of_the_filter_penalty():
    source = residual_network()
    ptu = made("ptu", source, penalty="filter", paired_layers=["stem", "b_conv"])
    penalty = ptu._make_penalty(params.initialize(ptu._make_target(ModelHandler(source), 3).network, seed=0))
    assert penalty.summed == {f"unit_{pair}_{gate}_target_weight": f"unit_{pair}_{gate}_source_weight"
                              for pair in ("stem", "b_conv") for gate in "rz"}


def test_transferability_is_what_the_gates_say_on_the_training_images():
    images, labels = bright_channels(30)
    repurposer = made("ptu").fit(images, labels)
    frame = repurposer.transferability()
    assert frame["layer"].tolist() == ["stem", "a_conv", "b_conv"]
    assert frame[["update", "fine_tune"]].to_numpy().min() > 0
    assert frame[["update", "fine_tune"]].to_numpy().max() < 1
    z = output(repurposer.network_, images, "unit_a_conv_z")
    assert frame["update"][1] == pytest.approx(z.mean(), abs=1e-5)
    channels = repurposer.transferability(per_channel=True)
    np.testing.assert_allclose(channels[channels["layer"] == "a_conv"]["update"], z.mean(axis=(0, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_made_may_be_its_source(method):
    images, labels = bright_channels(30)
    penalty = {"penalty": "l2"} if method == "ptu" else {}
    first = made(method).fit(images, labels)
    second = made(method, first.network_, **penalty).fit(images, labels == "bee")
    assert second.predict_proba(images).shape == (30, 2)
    for layer in ("gap", "target_logits"):
        np.testing.assert_array_equal(output(second.source_network_, images, layer), output(first.network_, images, layer))
    if method == "ptu":
        assert set(second.gates_) > set(first.gates_)


def test_a_layer_that_has_unit_in_its_name_is_none():
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=4, kernel=(3, 3), name="stage_unit_z_conv")
    x = mx.sym.Activation(x, act_type="sigmoid", name="unit_z")
    source = drawn(mx.sym.FullyConnected(x, num_hidden=3, name="top"), data=(3, 8, 8))
    ptu = made("ptu", source, penalty="l2", penalty_weight=0.5).fit(*bright_channels(30))
    assert list(ptu.gates_) == ["stage_unit_z_conv"]
    target = ptu._make_target(ModelHandler(source), 3).network
    units = ptu._make_penalty(params.initialize(target, seed=0)).names
    assert sorted(units) == sorted(name for name in target.parameter_names if name.startswith("unit__stage"))


def test_units_of_a_recurrent_source_are_shared_by_its_steps():
    images, labels = digits(40)
    repurposer = made("ptu", "zoo:mnist-rnn", num_epochs=2).fit(images, labels)
    assert repurposer.transferability()["layer"].tolist() == ["h2h_weight"]
    own = [name for name in repurposer.network_.params if name.startswith("unit_")]
    assert len(own) == 8
    assert len(repurposer.transferability(per_channel=True)) == 128


@pytest.mark.parametrize(("method", "source", "settings", "error", "message"), [
    ("stitch", "zoo:mnist-rnn", {}, ModelError, "'h2h_weight' of the source is recurrent. Use PtuRepurposer"),
    ("stitch", None, {"paired_layers": ["a_konv"]}, ModelError, "'a_konv' is no layer pair of the source. They are: stem"),
    ("ptu", None, {"paired_layers": ["fc"]}, ModelError, "'fc' is no layer pair of the source"),
    ("stitch", None, {"width": 0}, ParameterError, "width must be a positive number"),
    ("ptu", None, {"activation": "elu"}, ParameterError, "activation must be one of 'tanh', 'relu'"),
    ("ptu", None, {"start": "zero"}, ParameterError, "start must be one of 'probe', 'source'"),
    ("ptu", None, {"penalty": "l3"}, ParameterError, "penalty must be one of None, 'l1'"),
    ("two-tower", None, {"module": two_input_network()}, ModelError, "has 1 inputs .* the one beside it 2"),
    ("two-tower", None, {"module": drawn(mx.sym.sum(mx.sym.var("data"), axis=(1, 2, 3), name="total"), data=(3, 8, 8))},
     ModelError, r"the module must give features \(n, ...\); its output has the shape \(1,\)"),
    ("two-tower", None, {"module": drawn(mx.sym.Convolution(mx.sym.var("data"), num_filter=4, kernel=(3, 3), name="maps"),
                                         data=(3, 8, 8))},
     ModelError, r"the module must give features \(n, d\); its output has the shape \(1, 4, 6, 6\)"),
    ("two-tower", None, {"repeats": -1}, ParameterError, "TwoTowerRepurposer: repeats must be an integer of at least 1"),
    ("two-tower", None, {"hidden_units": 4}, ParameterError, "hidden_units must be a list of integers; got 4"),
    ("two-tower", None, {"hidden_units": np.array([4, 4])}, ParameterError, "hidden_units must be a list of integers"),
    ("stitch", None, {"intermediate_layers": ["a_konv"]}, ParameterError,
     r"intermediate_layers must be 'stages' or layers below the features, like 'a_conv'"),
    ("two-tower", None, {"intermediate_layers": ["gap"]}, ParameterError, "layers below the features, like .*; got 'gap'"),
    ("two-tower", None, {"intermediate_layers": "stages1"}, ParameterError, "layers below the features, like .*'stages1'"),
    ("two-tower", None, {"intermediate_layers": ["stem", "stem"]}, ParameterError, "a list without repeated names"),
    ("two-tower", None, {"intermediate_layers": 3}, ParameterError, "intermediate_layers must be a layer name or a list"),
    ("two-tower", None, {"repeats": 0}, ParameterError, "repeats must be an integer of at least 1"),
    *[(method, two_input_network(), {"transfer_layer_name": "softmax"}, ModelError,
       "must be a layer below the source's own answer.* The layer below is 'top'") for method in METHODS],
    ("ptu", drawn(mx.sym.FullyConnected(mx.sym.Pooling(mx.sym.var("data"), kernel=(2, 2), pool_type="max", name="pool"),
                                        num_hidden=3, name="fc"), data=(3, 8, 8)), {}, ModelError, "no layer pairs"),
])
def test_bad_input_is_told_before_training(method, source, settings, error, message):
    repurposer = made(method, source, **settings)
    with pytest.raises(error, match=message):
        repurposer.fit(*(digits(30) if source == "zoo:mnist-rnn" else bright_channels(30)))
    assert not [name for name in vars(repurposer) if name.endswith("_")]


@pytest.mark.parametrize("method", METHODS)
def test_a_source_that_does_not_know_its_inputs_shape_learns_it_from_the_data(method):
    images, labels = bright_channels(30)
    known = made(method).fit(images, labels)
    unknown = made(method, replace(residual_network(), input_shapes={})).fit(images, labels)
    np.testing.assert_array_equal(unknown.predict_proba(images), known.predict_proba(images))


def test_units_are_put_into_a_mobile_net():
    block = gluoncv().model_zoo.get_model("mobilenet1.0", pretrained=False)
    block.initialize()
    block(mx.nd.zeros((1, 3, 32, 32)))
    images = np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype("float32")
    repurposer = made("ptu", block, num_epochs=1, batch_size=4, validation=0).fit(images, [0, 1] * 4)
    frame = repurposer.transferability()
    assert len(frame) == 27  # 28 layers with weights, the last of them the source's head
    assert frame[["update", "fine_tune"]].to_numpy().min() > 0
    assert len(repurposer.cached_layers_) == 27


@pytest.mark.parametrize("method", METHODS)
def test_dropout_acts_in_the_part_that_is_trained_alone(method):
    x = mx.sym.FullyConnected(mx.sym.Flatten(mx.sym.var("data"), name="flat"), num_hidden=8, name="below")
    x = mx.sym.Dropout(mx.sym.Activation(x, act_type="relu", name="relu"), p=0.5, name="drop")
    source = drawn(mx.sym.FullyConnected(x, num_hidden=3, name="fc"), data=(3, 8, 8))
    target = made(method, source)._make_target(ModelHandler(source), 3).network
    dropouts = [node.name for node in target.graph.nodes if node.op == "Dropout"]
    assert len(dropouts) == 1
    assert dropouts[0].startswith(("module_", "target_"))


@pytest.mark.parametrize("shape", [(-1, 12), (0, 12), (0, -1)])
def test_a_module_flattens_what_its_source_flattens_by_a_number(shape):
    x = mx.sym.Embedding(mx.sym.var("data"), input_dim=20, output_dim=4, name="words")
    x = mx.sym.Reshape(x, shape=(-1, 1, 6, 4), name="page")
    read = [mx.sym.Convolution(x, kernel=(size, 4), num_filter=6, name=f"conv{size}") for size in (2, 3)]
    x = mx.sym.Concat(*[mx.sym.Pooling(one, kernel=(1, 1), global_pool=True, pool_type="max") for one in read], name="both")
    x = mx.sym.Reshape(x, shape=shape, name="flat")
    source = drawn(mx.sym.FullyConnected(x, num_hidden=3, name="fc"), data=(6,))
    words = np.random.default_rng(0).integers(0, 20, (40, 6)).astype("float32")
    labels = words[:, 2] > 9
    target = made("stitch", source, width=0.5, num_epochs=30, learning_rate=0.03, validation=0).fit(words, labels)
    _, shapes = symbols.infer_shapes(target.network_, batch_size=5, outputs=[Edge("module_flat")])
    assert shapes == [(5, 6)]
    assert target.score(words, labels) > 0.9


@pytest.mark.parametrize("merged", [True, False])
def test_the_last_state_has_a_unit_wherever_it_is_read(merged):
    cell = mx.rnn.LSTMCell(6, prefix="cell_")
    rows = mx.sym.SliceChannel(mx.sym.var("data"), num_outputs=4, axis=1, squeeze_axis=True)
    outputs, _ = cell.unroll(4, [rows[step] for step in range(4)], merge_outputs=merged,
                             begin_state=[mx.sym.zeros((0, 6)) for _ in range(2)])
    last = mx.sym.Reshape(mx.sym.slice_axis(outputs, axis=1, begin=-1, end=None), shape=(0, -1)) if merged else outputs[-1]
    graph = sources.read(last).graph
    pair = next(pair for pair in find_pairs(graph, [name for name in graph.variable_names if name.startswith("cell_")])
                if pair.is_recurrent)
    assert pair.ends == tuple(f"cell_t{step}_out" for step in range(4))


class Scaled(mx.gluon.HybridBlock):
    """Features times a learned scale."""

    def __init__(self, **given):
        super().__init__(**given)
        with self.name_scope():
            self.gamma = self.params.get("gamma", shape=(1, 4, 1, 1), init=mx.init.One())

    def hybrid_forward(self, F, x, gamma):
        return F.broadcast_mul(x, gamma)


def scaled_source():
    nn = mx.gluon.nn
    block = nn.HybridSequential()
    block.add(nn.Conv2D(4, 3, in_channels=3), Scaled(), nn.Activation("relu"), nn.Conv2D(4, 3), nn.GlobalAvgPool2D(),
              nn.Flatten(), nn.Dense(3))
    block.initialize(mx.init.Xavier())
    block(mx.nd.zeros((1, 3, 8, 8)))
    return block


@pytest.mark.parametrize("settings", [{"method": "ptu"}, {"method": "ptu", "start": "source"},
                                      {"method": "stitch", "width": 1.0}, {"method": "two-tower"}])
def test_a_source_may_have_parameters_that_are_no_weight_of_a_layer(settings):
    images, labels = bright_channels(60)
    target = made(source=scaled_source(), **settings).fit(images, labels)
    assert target.network_.inputs == ("data",)
    assert target.predict_proba(images).shape == (60, 3)


def test_of_such_a_parameter_no_narrower_one_is_known():
    with pytest.raises(ModelError, match=r"nothing says what size .*gamma' has in a narrower module"):
        made("stitch", scaled_source()).fit(*bright_channels(30))


@pytest.mark.parametrize("method", ["stitch", "ptu"])
def test_recurrent_layers_inside_one_operator_have_no_pairs(method):
    block = mx.gluon.nn.HybridSequential()
    block.add(mx.gluon.rnn.GRU(5, input_size=3, layout="NTC"), mx.gluon.nn.Dense(2))
    block.initialize()
    block(mx.nd.zeros((1, 4, 3)))
    with pytest.raises(ModelError, match=r"are inside one operator \(RNN\), which has no layer pairs"):
        made(method, block).fit(np.zeros((12, 4, 3), np.float32), [0, 1] * 6)


def stitched(source, **settings):
    """The layers in front of which a stitch network reads source and module."""
    target = made("stitch", source, **settings)._make_target(ModelHandler(source), 3)
    return [name.removeprefix("stitch_") for name in target.network.graph.layer_names if name.startswith("stitch_")]


def chained(*layers):
    """Images 3x8x8 through convolutions, of which some have as many groups as channels, pooling and a dense layer."""
    x = mx.sym.var("data")
    for name, filters, groups in layers:
        x = mx.sym.Convolution(x, num_filter=filters, num_group=groups, kernel=(3, 3), pad=(1, 1), name=name)
    x = mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg", name="gap")
    return drawn(mx.sym.FullyConnected(x, num_hidden=5, name="fc"), data=(3, 8, 8))


@pytest.mark.parametrize(("named", "joined"), [
    (None, ["two", "wide"]), (["one"], ["two"]), (["deep"], ["wide"]), (["one", "deep"], ["two", "wide"]), (["wide"], [])])
def test_a_stitched_module_reads_both_behind_the_layers_that_are_named(named, joined):
    source = chained(("one", 4, 1), ("two", 4, 1), ("deep", 4, 4), ("wide", 8, 1))
    assert stitched(source, paired_layers=named) == joined


def test_a_layer_behind_which_nothing_can_be_stitched_is_told():
    with pytest.raises(ModelError, match="is the next behind 'two'; grouped convolutions read the module's only"):
        stitched(chained(("two", 4, 1), ("deep", 4, 4), ("wide", 8, 1)), paired_layers=["two", "deep"])


def test_a_module_as_wide_as_its_source_may_have_groups():
    source = chained(("one", 4, 1), ("grouped", 8, 2), ("two", 4, 1))
    assert stitched(source, width=1.0) == ["two"]
    with pytest.raises(ModelError, match=r"'grouped' has 2 groups for 8 outputs.* Say width=1.0, or"):
        stitched(source)


def test_a_source_of_one_layer_is_stitched_at_its_features():
    source = chained(("only", 8, 1))
    assert stitched(source) == []
    images, labels = bright_channels(30)
    fitted = made("stitch", source).fit(images, labels)
    assert ModelHandler(fitted.network_).infer_shapes()["target_module"] == (2,)


def test_no_module_that_fits_is_told_with_the_remedy():
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=8, kernel=(3, 3), name="conv")
    x = mx.sym.slice_axis(x, axis=1, begin=0, end=8, name="part")
    source = drawn(mx.sym.FullyConnected(x, num_hidden=3, name="fc"), data=(3, 8, 8))
    with pytest.raises(ModelError, match=r"no module of width 0.25 fits the source: .* To go on, say width=1.0, or"):
        made("stitch", source).fit(*bright_channels(30))
    made("stitch", source, width=1.0, num_epochs=1).fit(*bright_channels(30))


def test_a_recurrent_source_is_not_stitched_whatever_is_named():
    cell = mx.rnn.RNNCell(4, prefix="cell_")
    outputs, _ = cell.unroll(3, mx.sym.var("data"), merge_outputs=False)
    x = mx.sym.FullyConnected(outputs[-1], num_hidden=4, name="dense")
    source = drawn(mx.sym.FullyConnected(mx.sym.relu(x), num_hidden=3, name="fc"), data=(3, 5))
    with pytest.raises(ModelError, match=r"'cell_h2h_weight' of the source is recurrent. Use PtuRepurposer"):
        made("stitch", source, paired_layers=["dense"]).fit(np.zeros((12, 3, 5), np.float32), [0, 1] * 6)


def two_vectors(first, second):
    """A network that uses its first input twice."""
    x = mx.sym.Concat(mx.sym.var(first) * 2, mx.sym.var(second), dim=1, name="features")
    return sources.read(x)


@pytest.mark.parametrize(("module", "expected"), [
    (two_vectors("right", "left"), "2 1"), (two_vectors("left", "right"), "1 2"), (two_vectors("a", "b"), "1 2")])
def test_a_module_reads_the_sources_inputs_by_name_or_in_order(module, expected):
    source = two_vectors("left", "right")
    both = edits.beside(replace(source, input_shapes={"left": (2,), "right": (2,)}), module, "module_")
    arrays = {"left": np.full((1, 2), 1, np.float32), "right": np.full((1, 2), 2, np.float32)}
    found = output(both, arrays, both.graph.outputs[1].node)[0]
    assert found.tolist() == {"1 2": [2, 2, 2, 2], "2 1": [4, 4, 1, 1]}[expected]


def test_a_module_that_saw_images_otherwise_scaled_sees_them_so():
    source, module = (replace(residual_network(), preprocessing=xfer2.Preprocessing((3, 8, 8), **record)) for record in (
        {"scale": 1 / 255, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}, {"mean": (127.0,)}))
    module = ModelHandler(module).truncate("gap").network
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    both = made("two-tower", source, module=module)._make_target(ModelHandler(source), 3).network
    np.testing.assert_allclose(output(both, images, "module_gap"), output(module, images), rtol=1e-3, atol=1e-3)
    trained = made("two-tower", source, module=module, learning_rate=0.1).fit(images, [0, 1] * 2).network_
    for name in ("module_prepared_scaled_weight", "module_prepared_shifted_bias"):
        np.testing.assert_array_equal(trained.params[name].asnumpy(), both.params[name].asnumpy())


def test_a_module_that_saw_other_images_is_refused():
    source = replace(residual_network(), preprocessing=xfer2.Preprocessing((3, 8, 8)))
    module = replace(residual_network(), preprocessing=xfer2.Preprocessing((3, 8, 8), color="BGR"))
    with pytest.raises(ModelError, match="color is 'RGB' of one and 'BGR' of the other"):
        made("two-tower", source, module=module).fit(*bright_channels(30))


def test_what_is_saved_is_the_module_as_it_was_trained_on(tmp_path):
    images, labels = bright_channels(30)
    ModelHandler(residual_network()).truncate("gap").save(str(tmp_path / "module"))
    fitted = made("two-tower", module=str(tmp_path / "module")).fit(images, labels)
    for path in tmp_path.glob("module*"):
        path.unlink()
    fitted.save(tmp_path / "saved")
    again = xfer2.load(tmp_path / "saved").fit(images, labels)
    np.testing.assert_array_equal(again.predict_proba(images), fitted.predict_proba(images))


@pytest.mark.parametrize("method", METHODS)
def test_where_examples_are_mixed_the_source_reads_the_mixture(method):
    mixed = [made(method, mixup=0.5, cache=cache).fit(*bright_channels(30)) for cache in ("auto", False)]
    assert mixed[0].cached_layers_ == ()
    losses = [[line["loss"] for line in one.history_] for one in mixed]
    assert losses[0] == losses[1]


def test_a_module_has_one_output():
    x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="own")
    with pytest.raises(ModelError, match="the module must have one output, its features; it has 2"):
        made("two-tower", module=mx.sym.Group([x, mx.sym.relu(x)])).fit(*bright_channels(30))


def test_dense_layers_over_steps_are_joined_along_their_features():
    x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=6, flatten=False, name="first")
    x = mx.sym.FullyConnected(mx.sym.Activation(x, act_type="relu"), num_hidden=6, flatten=False, name="second")
    source = drawn(mx.sym.FullyConnected(mx.sym.mean(x, axis=1), num_hidden=3, name="fc"), data=(4, 5))
    rows = np.random.default_rng(0).normal(size=(20, 4, 5)).astype("float32")
    target = made("stitch", source, width=0.5).fit(rows, [0, 1] * 10)
    assert target.network_.params["module_second_weight"].shape == (3, 9)


@pytest.mark.parametrize("name", ["gradual_unfreezing", "depth_decay"])
def test_what_has_no_effect_on_new_parameters_is_refused(name):
    with pytest.raises(ParameterError, match=rf"{name} must be . where nothing that is trained comes from the source"):
        made("two-tower", **{name: 2}).fit(*bright_channels(30))


def test_files_of_a_target_have_no_parameters_that_the_graph_lost(tmp_path):
    handler = ModelHandler(residual_network())
    handler.insert_after("add2", mx.sym.BatchNorm(mx.sym.var("data"), name="final_bn")).reinitialize("final_bn")
    made("ptu", handler, num_epochs=1).fit(*bright_channels(30)).export(str(tmp_path / "net"))  # no unit reads the source's
    symbol = mx.sym.load(str(tmp_path / "net-symbol.json"))
    named = {name.partition(":")[2] for name in mx.nd.load(str(tmp_path / "net-0000.params"))}
    assert named == set(symbol.list_inputs()) - {"data"}
