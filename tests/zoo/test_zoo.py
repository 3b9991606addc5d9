import io
import re
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from xfer2._mxnet import mx
from xfer2.data.batches import open_batches
from xfer2.exceptions import DataError
from xfer2.features.extractor import extract, extract_features
from xfer2.model_handler import ModelHandler, mxnet_files, params, sources, targets
from xfer2.model_handler.sources import ZOO_DIRECTORY, zoo_names
from xfer2.training.loop import Trainer
from xfer2.zoo import train

LEAST_ACCURACY = {"mnist-cnn": 0.988, "mnist-rnn": 0.96, "cifar10-cnn": 0.80, "cifar10-resnet28": 0.889}
QUICK = ("mnist-cnn", "mnist-rnn")
NETWORKS = sorted(train.RECIPES)


def card(name, folder=ZOO_DIRECTORY):
    return (folder / f"{name}-card.md").read_text(encoding="utf-8")


def stated_accuracy(text):
    return re.search(r"\| accuracy \| ([\d.]+)", text)[1]


def striped_images(name, count):
    """Easy images of a network's kind, uint8, and their labels: a bright row for each class."""
    channels, height, width = train.RECIPES[name].preprocessing.input_shape
    labels = np.arange(count) % 10
    images = np.random.default_rng(0).integers(0, 20, (count, height, width), dtype=np.uint8)
    images[np.arange(count), 2 * labels + 4] += 230
    return (images if channels == 1 else np.stack([images] * channels, axis=-1)), labels


def write_data(name, folder, count):
    """A data set of the kind that a network's recipe reads."""
    images, labels = striped_images(name, count)
    if name.startswith("mnist"):
        np.savez(folder / "mnist.npz", train_x=images, train_y=labels, test_x=images, test_y=labels)
        return
    for part in ("train", "test"):
        writer = mx.recordio.MXRecordIO(str(folder / f"cifar10_{part}.rec"), "w")
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
            writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, float(label), number, 0), file.getvalue()))
        writer.close()


def test_the_zoo_holds_what_there_are_recipes_for():
    assert sorted(zoo_names()) == NETWORKS
    assert sorted(LEAST_ACCURACY) == NETWORKS


@pytest.mark.parametrize("name", zoo_names())
def test_network_is_small_and_its_card_says_how_it_was_made_and_how_good_it_is(name):
    assert sum(path.stat().st_size for path in ZOO_DIRECTORY.glob(f"{name}-*")) < 3_000_000
    text = card(name)
    assert f"python -m xfer2.zoo.train {name}" in text
    assert LEAST_ACCURACY[name] <= float(stated_accuracy(text)) <= 1
    network = sources.read(f"zoo:{name}")
    assert f"| parameters | {sum(array.size for array in network.params.values()):,} |" in text
    assert set(network.graph.layer_names) <= set(re.findall(r"\w+", text))


@pytest.mark.parametrize("name", zoo_names())
def test_network_loads_offline_in_under_a_second(name):
    start = time.perf_counter()
    handler = ModelHandler(f"zoo:{name}")
    assert time.perf_counter() - start < 1
    assert handler.preprocessing == train.RECIPES[name].preprocessing
    assert {array.dtype for array in handler.arg_params.values()} == {np.float32}


@pytest.mark.parametrize("name", zoo_names())
def test_network_is_what_its_architecture_says_and_gives_ten_logits(name):
    network = sources.read(f"zoo:{name}")
    assert network.graph == sources.read(train.RECIPES[name].architecture()).graph
    last = network.graph.layer_names[-1]
    logits = extract_features(network, striped_images(name, 3)[0], last)[last]
    assert logits.shape == (3, 10)
    assert (logits < 0).any()


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                                  for name in zoo_names()])
def test_network_reaches_its_card_accuracy(name, shared):
    images, labels = train.RECIPES[name].read_data(shared / "data", "test")
    assert len(labels) == 10_000
    accuracy = train.measure(ZOO_DIRECTORY / name, images, labels)
    assert accuracy >= LEAST_ACCURACY[name]
    assert abs(accuracy - float(stated_accuracy(card(name)))) < 5e-4


def test_mnist_rnn_reads_rows_from_top_to_bottom_into_one_state():
    network = sources.read("zoo:mnist-rnn")
    images, _ = striped_images("mnist-rnn", 4)
    features = extract(network, open_batches(images, network), ("step0_tanh", "step27_tanh", "dense"))
    p = {name: array.asnumpy() for name, array in network.params.items()}
    assert set(p) == {"i2h_weight", "i2h_bias", "h2h_weight", "h2h_bias", "dense_weight", "dense_bias"}
    state = np.zeros((4, 128), np.float32)
    inputs = (images / 255 - 0.1307) / 0.3081
    for step in range(28):
        state = np.tanh(inputs[:, step] @ p["i2h_weight"].T + p["i2h_bias"] + state @ p["h2h_weight"].T + p["h2h_bias"])
        if step in (0, 27):
            np.testing.assert_allclose(features[f"step{step}_tanh"], state, atol=1e-4)
    np.testing.assert_allclose(features["dense"], state @ p["dense_weight"].T + p["dense_bias"], atol=1e-3)


def test_cifar10_resnet28_has_28_convolutions_in_three_stages():
    network = sources.read(train.RECIPES["cifar10-resnet28"].architecture())
    kinds = Counter(node.op for node in network.graph.nodes)
    assert kinds["Convolution"] == 28
    assert kinds["elemwise_add"] == 12
    handler = ModelHandler(network)
    shapes = handler.infer_shapes(data=(3, 32, 32))
    for stage, shape in enumerate([(16, 32, 32), (32, 16, 16), (64, 8, 8)], 1):
        assert shapes[f"stage{stage}_unit4_add"] == shape
    assert shapes["pool"] == (64, 1, 1)


def test_cifar10_cnn_drops_out_in_training_only():
    network = replace(sources.read(train.RECIPES["cifar10-cnn"].architecture()), input_shapes={"data": (3, 32, 32)})
    block, images = targets.to_block(params.initialize(network)), mx.nd.random.normal(shape=(2, 3, 32, 32))
    np.testing.assert_array_equal(block(images).asnumpy(), block(images).asnumpy())
    with mx.autograd.train_mode():
        assert (block(images).asnumpy() != block(images).asnumpy()).any()


@pytest.mark.parametrize("name", NETWORKS)
def test_train_writes_all_files_and_the_accuracy_it_measured(name, tmp_path):
    data, output = tmp_path / "data", tmp_path / "output"
    data.mkdir()
    output.mkdir()
    write_data(name, data, 200 if name == "mnist-cnn" else 10)
    assert train.main([name, "--data", str(data), "--output", str(output)]) == 0
    assert {path.name for path in output.iterdir()} == {
        f"{name}-{what}" for what in ("symbol.json", "0000.params", "preprocessing.json", "card.md")}
    assert f"{train.measure(output / name, *train.RECIPES[name].read_data(data, 'test')):.4f}" == stated_accuracy(
        card(name, output))
    assert {array.dtype for array in mxnet_files.load_params(str(output / f"{name}-0000.params")).values()} == {np.float16}


def test_a_run_that_is_kept_goes_on_where_it_was_and_ends_with_the_same_files(tmp_path, monkeypatch):
    write_data("mnist-rnn", tmp_path, 10)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parted").mkdir()
    monkeypatch.setitem(train.RECIPES["mnist-rnn"].settings, "epochs", 3)
    monkeypatch.setitem(train.RECIPES, "mnist-rnn", replace(train.RECIPES["mnist-rnn"], restart={"epochs": 2}))
    assert train.main(["mnist-rnn", "--data", str(tmp_path), "--output", str(tmp_path / "whole")]) == 0
    command = ["mnist-rnn", "--data", str(tmp_path), "--output", str(tmp_path / "parted"), "--checkpoints",
               str(tmp_path / "kept")]
    whole_epoch = Trainer.run_epoch

    def killed(self, epoch, *rest):
        if epoch == 3:
            raise SystemExit("killed")
        return whole_epoch(self, epoch, *rest)

    monkeypatch.setattr(Trainer, "run_epoch", killed)
    with pytest.raises(SystemExit, match="killed"):
        train.main(command)
    monkeypatch.setattr(Trainer, "run_epoch", whole_epoch)
    assert train.main(command) == 0
    whole, parted = (sources.read((str(tmp_path / part / "mnist-rnn"), 0)).params for part in ("whole", "parted"))
    for name, array in whole.items():
        np.testing.assert_array_equal(array.asnumpy(), parted[name].asnumpy())
    assert "restarted with epochs 2 |" in card("mnist-rnn", tmp_path / "parted")
    assert (tmp_path / "kept" / "restart" / "training.safetensors").exists()


@pytest.mark.parametrize(("name", "message"), [
    ("mnist-rnn", "must hold train_x, train_y, test_x and test_y"), ("cifar10-cnn", "cifar10_train.rec")])
def test_train_says_what_the_data_folder_lacks(name, message, tmp_path, capsys):
    assert train.main([name, "--data", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_a_record_file_that_holds_no_images_is_named(tmp_path):
    (tmp_path / "cifar10_train.rec").write_bytes(b"")
    with pytest.raises(DataError, match=r"cifar10_train\.rec"):
        train.RECIPES["cifar10-cnn"].read_data(tmp_path, "train")
