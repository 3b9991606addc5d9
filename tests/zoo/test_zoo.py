import re
import time

import numpy as np

from xfer2._mxnet import mx
from xfer2.model_handler import ModelHandler
from xfer2.model_handler.sources import ZOO_DIRECTORY, zoo_names
from xfer2.training.loop import Trainer
from xfer2.zoo import train


def test_every_network_is_small_has_a_card_and_loads_offline_in_under_a_second():
    assert "mnist-cnn" in zoo_names()
    for name in zoo_names():
        assert (ZOO_DIRECTORY / f"{name}-0000.params").stat().st_size < 1_000_000
        card = (ZOO_DIRECTORY / f"{name}-card.md").read_text()
        assert f"python -m xfer2.zoo.train {name}" in card
        start = time.perf_counter()
        handler = ModelHandler(f"zoo:{name}")
        assert time.perf_counter() - start < 1
        assert handler.preprocessing is not None
        assert {array.dtype for array in handler.arg_params.values()} == {np.float32}


def test_mnist_cnn_reaches_its_card_accuracy(shared):
    stated = float(re.search(r"\| accuracy \| ([\d.]+)", (ZOO_DIRECTORY / "mnist-cnn-card.md").read_text())[1])
    with np.load(shared / "data" / "mnist.npz") as data:
        images, labels = data["test_x"], data["test_y"]
    accuracy = train.measure(ZOO_DIRECTORY / "mnist-cnn", images, labels)
    assert accuracy >= 0.988
    assert abs(accuracy - stated) < 1e-4


def test_train_writes_all_files_and_the_accuracy_it_measured(tmp_path):
    random = np.random.default_rng(0)
    labels = np.tile(np.arange(10), 20)
    images = np.zeros((200, 28, 28), np.uint8)
    images[np.arange(200), 2 * labels + 4] = 255
    images += random.integers(0, 20, images.shape, dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", train_x=images, train_y=labels, test_x=images, test_y=labels)
    assert train.main(["mnist-cnn", "--data", str(tmp_path), "--output", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"mnist.npz", "mnist-cnn-symbol.json", "mnist-cnn-0000.params", "mnist-cnn-preprocessing.json",
                     "mnist-cnn-card.md"}
    stated = re.search(r"\| accuracy \| ([\d.]+)", (tmp_path / "mnist-cnn-card.md").read_text())[1]
    assert f"{train.measure(tmp_path / 'mnist-cnn', images, labels):.4f}" == stated


def test_train_says_what_the_data_folder_lacks(tmp_path, capsys):
    assert train.main(["mnist-cnn", "--data", str(tmp_path)]) == 1
    assert "must hold train_x, train_y, test_x and test_y" in capsys.readouterr().err


def test_shifting_moves_images_whole_and_by_at_most_two_pixels():
    block = mx.gluon.nn.Dense(2)
    block.initialize()
    trainer = train.ShiftingTrainer(block, epochs=1, random_state=0)
    assert isinstance(trainer, Trainer)
    trainer.order_ = np.random.default_rng(0)
    images = np.zeros((50, 1, 9, 9), np.float32)
    images[:, 0, 4, 4] = 1
    moved = trainer.prepare(images)
    rows, columns = zip(*(np.argwhere(image[0])[0] for image in moved), strict=True)
    assert (moved.sum(axis=(1, 2, 3)) == 1).all()
    assert set(rows) == set(columns) == {2, 3, 4, 5, 6}
