"""What must survive an edit, and what must not: frozen marks, records, branches, and values of one's own."""

import numpy as np
import pytest
from helpers import chain_symbol, residual_symbol, two_input_symbol, with_values

from xfer2._mxnet import mx
from xfer2.exceptions import DataError, LayerNotFoundError, ModelError, ParameterError
from xfer2.model_handler import ModelHandler, Preprocessing


def chain():
    return ModelHandler(with_values(chain_symbol(), data=(3, 8, 8)))


def test_a_new_head_on_a_frozen_network_is_not_frozen():
    handler = chain().freeze().replace_head(5, seed=0)
    requests = {name: p.grad_req for name, p in handler.get_block().collect_params().items()}
    assert {name for name, request in requests.items() if request == "write"} == {"fc2_weight", "fc2_bias"}


def test_what_an_added_network_has_frozen_stays_frozen():
    top = mx.sym.FullyConnected(mx.sym.var("x"), num_hidden=2, name="extra")
    frozen = ModelHandler(with_values(top, x=(3,))).freeze()
    assert chain().add_layer_top(frozen).network.frozen == {"extra"}
    assert chain().insert_after("fc2", frozen).network.frozen == {"extra"}
    assert chain().replace("fc2", ModelHandler(with_values(mx.sym.FullyConnected(
        mx.sym.var("x"), num_hidden=2, name="other"), x=(6,))).freeze()).network.frozen == {"other"}


def test_removing_with_keep_drops_the_branch_that_nothing_reads():
    two = ModelHandler(with_values(two_input_symbol(), left=(5,), right=(3,))).remove("add", keep="fc_left")
    assert two.network.inputs == ("left",)
    assert two.layer_names == ["fc_left", "top"]
    residual = ModelHandler(with_values(residual_symbol(), data=(3, 8, 8))).remove("add1", keep="stem_relu")
    assert not [name for name in residual.layer_names if name.startswith("a_")]


def test_an_edit_at_one_input_keeps_the_record_of_another():
    left = mx.sym.Activation(mx.sym.var("data"), act_type="relu", name="gate")
    image = mx.sym.FullyConnected(mx.sym.var("image"), num_hidden=3, name="dense")
    handler = ModelHandler(with_values(mx.sym.elemwise_add(left, image, name="sum"), data=(3,), image=(3, 2, 2)))
    handler.preprocessing = Preprocessing((3, 2, 2), input_name="image")
    assert handler.copy().drop_layer_bottom().preprocessing == handler.preprocessing
    extra = mx.sym.Activation(mx.sym.var("x"), act_type="tanh", name="squash")
    assert handler.copy().add_layer_bottom(extra).preprocessing == handler.preprocessing


def test_truncate_wants_a_layer():
    with pytest.raises(LayerNotFoundError, match="is a parameter of the network"):
        chain().truncate("fc1_weight")
    with pytest.raises(LayerNotFoundError, match="is an input"):
        chain().truncate("data")


def test_training_the_source_on_does_not_change_what_was_read_from_it():
    block = mx.gluon.nn.Dense(2, in_units=3)
    block.initialize()
    handler = ModelHandler(block)
    before = {name: array.asnumpy() for name, array in handler.arg_params.items()}
    for parameter in block.collect_params().values():
        parameter.set_data(parameter.data() * 5 + 1)
    for name, array in handler.arg_params.items():
        np.testing.assert_array_equal(array.asnumpy(), before[name])
    values = {"fc_weight": mx.nd.ones((2, 3)), "fc_bias": mx.nd.ones((2,))}
    given = ModelHandler((mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc"), values, None))
    values["fc_weight"][:] = 7
    assert (given.arg_params["fc_weight"].asnumpy() == 1).all()


def test_examples_of_different_sizes_are_refused_or_pooled():
    symbol = mx.sym.Convolution(mx.sym.var("data"), kernel=(1, 1), num_filter=5, name="conv")
    handler = ModelHandler(with_values(symbol, data=(2, 3, 3)))
    data = mx.gluon.data.DataLoader(mx.gluon.data.SimpleDataset([np.ones((2, s, s), "f") for s in (3, 1)]), batch_size=1)
    with pytest.raises(DataError, match=r"shape \(5, 1, 1\) .* \(5, 3, 3\) for the first; .*pool='avg'"):
        handler.features(data, "conv")
    assert handler.features(data, "conv", pool="avg")["conv"].shape == (2, 5)


def test_shapes_epochs_and_devices_are_checked_by_name(tmp_path):
    with pytest.raises(ParameterError, match=r"infer_shapes: data must be a shape without the batch axis"):
        chain().infer_shapes(data=4)
    with pytest.raises(ParameterError, match=r"summary: data must be a shape"):
        chain().summary(data=("4",))
    with pytest.raises(ParameterError, match="save: epoch must be an integer"):
        chain().save(str(tmp_path / "x"), epoch="1")
    with pytest.raises(ParameterError, match=r"context_function must be mx\.cpu or mx\.gpu"):
        ModelHandler(chain(), context_function=mx.cpu(0))
    if not mx.context.num_gpus():
        with pytest.raises(ModelError, match="cannot be used"):
            ModelHandler(chain(), context_function=mx.gpu).features(np.ones((1, 3, 8, 8), "f"), "fc1")
