"""Features of files in one file, interrupted or not."""

import io

import numpy as np
import pandas
import pytest
from helpers import with_values
from PIL import Image

from xfer2 import Features, Preprocessing, extract_features
from xfer2._mxnet import mx
from xfer2.exceptions import DataError, ImageError, LayerNotFoundError, ParameterError
from xfer2.features import resumable
from xfer2.features.engines.mxnet import MxnetEngine
from xfer2.features.resumable import extract_to_file, kept
from xfer2.features.store import FolderStore

COUNT = 23
FILES = ["f.parquet", "f.npz", "f.csv", "folder"]


def image_network():
    x = mx.sym.Convolution(mx.sym.var("data"), num_filter=2, kernel=(3, 3), name="conv")
    network = with_values(mx.sym.FullyConnected(x, num_hidden=3, name="fc"), data=(3, 4, 4))
    return type(network)(network.graph, network.arg_params, preprocessing=Preprocessing((3, 4, 4)))


def write_images(folder, corrupt=()):
    random = np.random.default_rng(0)
    for number in range(COUNT):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).save(folder / "ab"[number % 2] / f"{number:02d}.png")
    for number in corrupt:
        (folder / "ab"[number % 2] / f"{number:02d}.png").write_bytes(b"no image")
    return str(folder)


@pytest.fixture
def photos(tmp_path):
    return write_images(tmp_path / "photos")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    """Parts of two batches of 3, so that these few images make several."""
    monkeypatch.setattr(resumable, "_PART_EXAMPLES", 6)


class Interrupting:
    """An engine that is interrupted at a call."""

    def __init__(self, after, error=KeyboardInterrupt):
        self.left, self.error = after, error

    def __call__(self, network):
        engine = MxnetEngine(network)

        def run(batch):
            self.left -= 1
            if self.left < 0:
                raise self.error("the power went")
            return engine(batch)

        return run


def content(path):
    return {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else path.read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_the_file_holds_what_the_library_gives(tmp_path, photos, name):
    written = extract_to_file(image_network(), photos, ["conv", "fc"], str(tmp_path / name), pool="avg", batch_size=3)
    expected = extract_features(image_network(), photos, ["conv", "fc"], pool="avg", batch_size=3)
    assert (written.examples, written.shapes, written.skipped) == (COUNT, {"conv": (2,), "fc": (3,)}, ())
    if name in ("f.npz", "folder"):
        found = Features.load(tmp_path / name)
        assert (found.ids, found.labels.tolist()) == (expected.ids, expected.labels.tolist())
        for layer in expected:
            np.testing.assert_array_equal(found[layer], expected[layer])
    else:
        frame = pandas.read_parquet(tmp_path / name) if name.endswith("parquet") else pandas.read_csv(tmp_path / name)
        pandas.testing.assert_frame_equal(frame, expected.to_frame(), check_dtype=name.endswith("parquet"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["photos", name])


def test_a_npy_file_is_the_array_of_one_layer(tmp_path, photos):
    extract_to_file(image_network(), photos, "conv", str(tmp_path / "f.npy"), batch_size=3)
    np.testing.assert_array_equal(np.load(tmp_path / "f.npy"), extract_features(image_network(), photos, "conv")["conv"])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("after", [0, 1, 5, 7])
def test_interrupted_and_resumed_is_the_same_to_the_byte(tmp_path, name, after):
    photos = write_images(tmp_path / "photos", corrupt=(0, 7, 8, 22))
    call = {"pool": "max", "batch_size": 3, "errors": "skip"}
    extract_to_file(image_network(), photos, ["conv", "fc"], str(tmp_path / f"whole-{name}"), **call)
    path = str(tmp_path / name)
    with pytest.raises(KeyboardInterrupt):
        extract_to_file(image_network(), photos, ["conv", "fc"], path, engine=Interrupting(after), **call)
    assert not (tmp_path / name).exists()
    folder, done = kept(path)
    assert done == {0: 0, 1: 0, 5: 9, 7: 18}[after]
    engine = Interrupting(8 - done // 3)  # no batch is computed twice
    written = extract_to_file(image_network(), photos, ["conv", "fc"], path, resume=True, engine=engine, **call)
    assert content(tmp_path / name) == content(tmp_path / f"whole-{name}")
    assert len(written.skipped) == 4
    assert kept(path) == (folder, 0)


@pytest.mark.parametrize("name", ["f.npz", "folder"])
def test_resumed_after_the_file_had_its_name_it_is_done(tmp_path, photos, monkeypatch, name):
    path = str(tmp_path / name)
    with monkeypatch.context() as patched:
        patched.setattr(resumable.shutil, "rmtree", lambda *args, **kw: None)
        first = extract_to_file(image_network(), photos, "fc", path, batch_size=3)
    assert kept(path)[1] == COUNT
    before = content(tmp_path / name)
    again = extract_to_file(image_network(), photos, "fc", path, batch_size=3, resume=True, engine=Interrupting(0))
    assert again == first
    assert content(tmp_path / name) == before
    assert kept(path)[1] == 0


def test_two_runs_do_not_write_the_same_file(tmp_path, photos):
    path = str(tmp_path / "f.npz")

    def start_another(network):
        for resume in (False, True):
            with pytest.raises(DataError, match="Another run is writing into"):
                extract_to_file(image_network(), photos, "fc", path, resume=resume)
        return MxnetEngine(network)

    assert extract_to_file(image_network(), photos, "fc", path, engine=start_another).examples == COUNT


def test_an_empty_folder_of_parts_is_nothing_to_resume(tmp_path, photos):
    (tmp_path / ".f.npz.partial").mkdir()
    assert extract_to_file(image_network(), photos, "fc", str(tmp_path / "f.npz"), resume=True).examples == COUNT


def test_a_folder_that_is_replaced_stays_until_the_new_one_is_whole(tmp_path, photos, monkeypatch):
    path = tmp_path / "folder"
    extract_to_file(image_network(), photos, "fc", str(path))
    before = content(path)
    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "finish", lambda *args: (_ for _ in ()).throw(OSError(28, "No space")))
        with pytest.raises(OSError, match="No space"):
            extract_to_file(image_network(), photos, "conv", str(path), overwrite=True)
    assert content(path) == before
    extract_to_file(image_network(), photos, "conv", str(path), overwrite=True, resume=True)
    assert Features.load(path).layers == ("conv",)


def test_an_image_that_cannot_be_read_keeps_what_was_done(tmp_path):
    photos = write_images(tmp_path / "photos", corrupt=(21,))
    with pytest.raises(ImageError, match=r"21\.png"):
        extract_to_file(image_network(), photos, "fc", str(tmp_path / "f.npz"), batch_size=3)
    assert kept(str(tmp_path / "f.npz"))[1] == 18
    assert not (tmp_path / "f.npz").exists()


@pytest.mark.parametrize("change", [{"pool": "avg"}, {"layers": ["fc"]}, {"batch_size": 4}, {"data": "others"}])
def test_what_another_call_left_is_not_taken_up(tmp_path, photos, change):
    call = {"data": photos, "layers": ["conv"], "batch_size": 3}
    path = str(tmp_path / "f.npz")
    with pytest.raises(KeyboardInterrupt):
        extract_to_file(image_network(), path=path, engine=Interrupting(3), **call)
    if "data" in change:
        change = {"data": write_images(tmp_path / "others", corrupt=(1,))}
    with pytest.raises(ParameterError, match="is of another call"):
        extract_to_file(image_network(), path=path, resume=True, **{**call, **change})
    assert extract_to_file(image_network(), path=path, **call).examples == COUNT


@pytest.mark.parametrize(("layers", "name", "error", "message"), [
    ("fc", "f.txt", ParameterError, r"a .parquet, .npz, .npy, .csv file, or a folder"),
    (["fc", "conv"], "f.npy", ParameterError, "where there are several layers"),
    ("fd", "f.npz", LayerNotFoundError, "Nearest of its 2 layers: fc"),
    ("fc", "nowhere/f.npz", DataError, "there is no folder")])
def test_bad_input_writes_nothing(tmp_path, photos, layers, name, error, message):
    with pytest.raises(error, match=message):
        extract_to_file(image_network(), photos, layers, str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_file_that_exists_stays_until_the_new_one_is_whole(tmp_path, photos):
    path = tmp_path / "f.npz"
    path.write_text("mine")
    with pytest.raises(ParameterError, match="path must be new, or overwrite=True"):
        extract_to_file(image_network(), photos, "fc", str(path))
    with pytest.raises(KeyboardInterrupt):
        extract_to_file(image_network(), photos, "fc", str(path), overwrite=True, engine=Interrupting(0))
    assert path.read_text() == "mine"
    extract_to_file(image_network(), photos, "fc", str(path), overwrite=True)
    assert len(Features.load(path)) == COUNT


def test_nothing_that_can_be_read_is_an_error(tmp_path):
    photos = write_images(tmp_path / "photos", corrupt=range(COUNT))
    with pytest.raises(DataError, match="None of the 23 images"):
        extract_to_file(image_network(), photos, "fc", str(tmp_path / "f.npz"), errors="skip")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_record_files_are_resumed_too(tmp_path):
    random = np.random.default_rng(0)
    record = mx.recordio.MXRecordIO(str(tmp_path / "images.rec"), "w")
    for number in range(COUNT):
        held = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).save(held, "PNG")
        record.write(mx.recordio.pack(mx.recordio.IRHeader(0, number % 3, number, 0), held.getvalue()))
    record.close()
    call = {"data": str(tmp_path / "images.rec"), "layers": "fc", "batch_size": 3}
    extract_to_file(image_network(), path=str(tmp_path / "whole.npz"), **call)
    with pytest.raises(KeyboardInterrupt):
        extract_to_file(image_network(), path=str(tmp_path / "f.npz"), engine=Interrupting(5), **call)
    extract_to_file(image_network(), path=str(tmp_path / "f.npz"), resume=True, **call)
    assert content(tmp_path / "f.npz") == content(tmp_path / "whole.npz")


def test_a_folder_of_features_that_holds_other_things_is_not_replaced(tmp_path, photos):
    extract_to_file(image_network(), photos, "fc", str(tmp_path / "folder"))
    extract_to_file(image_network(), photos, "fc", str(tmp_path / "folder"), overwrite=True)
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    with pytest.raises(ParameterError, match="a name that no folder of other things has"):
        extract_to_file(image_network(), photos, "fc", str(tmp_path / "folder"), overwrite=True)
    assert (tmp_path / "folder" / "mine.txt").read_text() == "mine"
