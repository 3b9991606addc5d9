"""What Xfer's users write: its names, the order of its arguments, and what happens where xfer2 has it otherwise."""

import numpy as np
import pytest

import xfer2
from xfer2._mxnet import mx
from xfer2.exceptions import ModelError, ParameterError, PersistenceError

IMAGES = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
LABELS = ["odd", "even"] * 10


def repurposed():
    repurposer = xfer2.LrRepurposer("zoo:mnist-cnn", ["dense0"], mx.cpu, 1, 1e-4, 0.1, 1)
    return repurposer.repurpose(train_iterator=IMAGES, labels=LABELS)


def test_modules_are_reached_through_the_package():
    assert xfer2.model_handler.ModelHandler is xfer2.ModelHandler
    assert xfer2.model_handler.exceptions.ModelArchitectureError is ModelError
    assert xfer2.uncertainty.ood.auroc([0], [1]) == 1
    assert issubclass(xfer2.LrRepurposer, xfer2.Repurposer)
    with pytest.raises(AttributeError, match=r"module 'xfer2.model_handler' has no attribute 'layer_factory'"):
        _ = xfer2.model_handler.layer_factory


def test_data_by_xfers_names():
    repurposer = repurposed()
    assert (repurposer.predict_label(test_iterator=IMAGES) == repurposer.predict(IMAGES)).all()
    np.testing.assert_array_equal(repurposer.predict_probability(test_iterator=IMAGES), repurposer.predict_proba(IMAGES))
    assert repurposer.get_features_from_source_model(data_iterator=IMAGES).matrix().shape == (20, 128)


def test_save_repurposer_and_load_take_a_name_and_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    repurposer = repurposed()
    repurposer.save_repurposer("rep", tmp_path)
    for loaded in (xfer2.load("rep", tmp_path), xfer2.load(model_name="rep", model_directory="."), xfer2.load("rep")):
        np.testing.assert_array_equal(loaded.predict_proba(IMAGES), repurposer.predict_proba(IMAGES))
    with pytest.raises(PersistenceError, match="overwrite=True"):
        repurposer.save_repurposer("rep")
    repurposer.save_repurposer("rep", overwrite=True)
    handler = xfer2.ModelHandler("zoo:mnist-cnn")
    assert xfer2.load("rep", source_model=handler).source_model is handler
    with pytest.raises(ParameterError, match=r"load: model_directory must be a folder's path; a source is source_model="):
        xfer2.load("rep", handler)


def test_files_that_xfer_wrote_are_told(tmp_path):
    (tmp_path / "old.json").write_text("{}")
    with pytest.raises(PersistenceError, match=r"old\.json was written by another program, Xfer perhaps.*repurpose anew"):
        xfer2.load("old", tmp_path)


def test_arguments_in_xfers_order():
    tuned = xfer2.NeuralNetworkFineTuneRepurposer("zoo:mnist-cnn", "dense0", 2, mx.cpu, 1, 8, 2, "sgd", {"momentum": 0.9})
    assert (tuned.optimizer, tuned.optimizer_params, tuned.fixed_layers) == ("sgd", {"momentum": 0.9}, ())
    frozen = xfer2.NeuralNetworkRandomFreezeRepurposer("zoo:mnist-cnn", 2, ["conv0"], ["dense0"], 1, mx.cpu, 1, 8, 2, "sgd")
    assert (frozen.num_layers_to_drop, frozen.batch_size, frozen.num_epochs, frozen.optimizer) == (1, 8, 2, "sgd")

    class Own(xfer2.NeuralNetworkRepurposer):
        def __init__(self, source_model, context_function=mx.cpu, num_devices=1, batch_size=64, num_epochs=5):
            super().__init__(source_model, context_function, num_devices, batch_size, num_epochs)

        def _make_target(self, source, class_count):
            return source.replace_head(class_count)

    own = Own("zoo:mnist-cnn", batch_size=8, num_epochs=2)
    assert (own.context_function, own.num_devices, own.batch_size, own.num_epochs) == (mx.cpu, 1, 8, 2)
    with pytest.raises(TypeError, match="positional argument"):  # another order than Xfer's
        xfer2.BnnRepurposer("zoo:mnist-cnn", ["dense0"], mx.cpu, 1, mx.cpu, 100.0)


def test_parameters_of_layers_by_pattern():
    handler = xfer2.ModelHandler("zoo:mnist-cnn")
    assert handler.get_layer_parameters("conv*") == handler.get_layer_parameters(["conv0", "conv1", "conv2"])
