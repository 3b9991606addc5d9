"""``xfer2 extract``: the library's features, in a file or a pipe, whatever interrupts it."""

import json
import os
import pty
import signal
import subprocess
import time

import numpy as np
import pandas
import pytest
from PIL import Image

from xfer2 import Features, extract_features
from xfer2._mxnet import mx

MODEL = "zoo:cifar10-resnet28"


@pytest.mark.parametrize("file", ["f.parquet", "f.npz", "f.csv"])
def test_the_file_holds_the_librarys_features(run, photos, tmp_path, file):
    done = run("extract", "zoo:cifar10-cnn", photos, "--layers", "conv3,dense0", "--pool", "avg", "-o", file)
    assert (done.code, done.out) == (0, "")
    assert "60 examples; conv3 64, dense0 512" in done.err
    expected = extract_features("zoo:cifar10-cnn", photos, ["conv3", "dense0"], pool="avg").to_frame()
    read = {"f.parquet": pandas.read_parquet, "f.csv": pandas.read_csv, "f.npz": lambda path: Features.load(path).to_frame()}
    pandas.testing.assert_frame_equal(read[file](tmp_path / file), expected, check_dtype=file != "f.csv")


def test_a_pipe_gets_lines_of_csv_or_json(run, photos):
    expected = extract_features("zoo:mnist-cnn", photos, "dense0")
    lines = run("extract", "zoo:mnist-cnn", photos, "--layers", "dense0", "-o", "-").out.splitlines()
    assert lines[0].split(",")[:3] == ["id", "label", "dense0_0"]
    assert len(lines) == 61
    lines = run("extract", "zoo:mnist-cnn", photos, "--layers", "dense0", "-o", "-", "--json").out.splitlines()
    last = json.loads(lines[-1])
    assert (len(lines), last["id"], last["label"]) == (60, "flower/29.jpg", "flower")
    np.testing.assert_allclose(last["dense0"], expected["dense0"][-1], rtol=1e-6)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_pipe_counts_records_that_no_index_counts(run, tmp_path, photos, options):
    writer = mx.recordio.MXRecordIO(str(tmp_path / "one.rec"), "w")
    for number in range(10):
        content = b"no image" if number == 3 else (photos / "china" / f"{number:02d}.jpg").read_bytes()
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, float(number % 2), number, 0), content))
    writer.close()
    done = run("extract", "zoo:mnist-cnn", "one.rec", "--layers", "dense0", "-o", "-", *options)
    assert (done.code, len(done.out.splitlines())) == (0, 9 if options else 10)
    assert "xfer2: 1 of 10 images could not be read" in done.err


def test_the_default_layer_is_what_the_head_reads(run, photos):
    done = run("extract", "zoo:cifar10-cnn", photos, "-o", "f.npy", "--json")
    assert json.loads(done.out)["shapes"] == {"dropout": [512]}


def test_all_stages_go_into_a_file_or_a_pipe(run, photos, tmp_path):
    expected = extract_features("zoo:cifar10-cnn", photos, "stages")
    assert expected.layers == ("dropout", "relu1_means", "relu3_means")
    done = run("extract", "zoo:cifar10-cnn", photos, "--layers", "stages", "-o", "f.npz", "--json")
    assert json.loads(done.out)["shapes"] == {name: list(expected[name].shape[1:]) for name in expected.layers}
    read = Features.load(tmp_path / "f.npz")
    lines = run("extract", "zoo:cifar10-cnn", photos, "--layers", "stages", "-o", "-", "--json").out.splitlines()
    for name in expected.layers:
        np.testing.assert_array_equal(read[name], expected[name])
        np.testing.assert_allclose([json.loads(line)[name] for line in lines], expected[name], rtol=1e-5, atol=1e-6)


def test_a_head_is_put_on_all_stages(run, photos):
    assert run("repurpose", "zoo:cifar10-cnn", photos, "--layers", "stages", "-o", "out").code == 0
    done = run("inspect", "out", "--json")
    assert {"dropout", "relu1_means", "relu3_means"} <= {layer["name"] for layer in json.loads(done.out)["layers"]}
    assert run("predict", "out", photos, "-q").code == 0


def test_three_images_of_a_thousand_that_cannot_be_read_are_left_out_and_named(run, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(1000):
        Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(folder / f"{number:03d}.png")
    for number in (17, 500, 999):
        (folder / f"{number}.png".zfill(7)).write_bytes(b"no image")
    done = run("extract", "zoo:mnist-cnn", folder, "-o", "f.parquet", "-q")
    assert done.code == 0
    assert done.err.count("\n") == 1
    assert "3 of 1000 images could not be read and were left out" in done.err
    assert "017.png" in done.err
    assert len(pandas.read_parquet(tmp_path / "f.parquet")) == 997
    done = run("extract", "zoo:mnist-cnn", folder, "-o", "g.parquet", "-q", "--errors", "raise", "--batch-size", "16")
    assert done.code == 1
    assert "017.png" in done.err
    assert not (tmp_path / "g.parquet").exists()


@pytest.fixture
def long_list(tmp_path, photos):
    """2,200 lines of the same few photographs, the last of each hundred no photograph at all."""
    paths = [str(path) for path in sorted(photos.rglob("*.jpg"))]
    rows = [f"{paths[n % 60] if n % 100 != 99 else 'gone.jpg'},{n % 7}" for n in range(2200)]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(rows))
    return "list.csv"


@pytest.mark.parametrize("name", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_interrupted_and_resumed_is_the_same_to_the_byte(tmp_path, long_list, environment, start, name):
    call = ["xfer2", "extract", MODEL, long_list, "--layers", "pool", "-o"]
    subprocess.run([*call, "whole.parquet", "-q"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    process = start(*call[1:], "f.parquet")
    while not list(tmp_path.glob(".f.parquet.partial/part-*")):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(float(np.random.default_rng().random()))
    process.send_signal(name)
    _, err = process.communicate()
    assert not (tmp_path / "f.parquet").exists()
    if name != signal.SIGKILL:
        assert process.returncode == 1
        assert err.count("\n") == 1
        assert "examples are kept in '.f.parquet.partial': go on with --resume" in err
    done = subprocess.run([*call, "f.parquet", "--resume"], cwd=tmp_path, env=environment, capture_output=True, text=True,
                          check=True)
    assert "22 of 2200 images could not be read" in done.stderr
    assert (tmp_path / "f.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not list(tmp_path.glob(".f*"))


def test_a_reader_that_has_read_enough_ends_it_silently(tmp_path, long_list, environment):
    line = f"xfer2 extract {MODEL} {long_list} --layers pool -o - | head -n 2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("id,label,pool_0")
    assert done.stdout.endswith("\n1\n")
    assert done.stderr == ""


@pytest.mark.slow
def test_a_terminal_of_60_columns_shows_progress_with_the_time_left(tmp_path, long_list, environment):
    def shown(*more):
        parent, child = pty.openpty()
        call = ["xfer2", "extract", MODEL, long_list, "--layers", "pool", "-o", "f.npz", "--overwrite", *more]
        process = subprocess.Popen(call, cwd=tmp_path, env={**environment, "COLUMNS": "60", "TERM": "xterm"}, stderr=child)
        os.close(child)
        content = b""
        while True:
            try:
                content += (read := os.read(parent, 4096))
            except OSError:
                break
            if not read:
                break
        assert process.wait() == 0
        os.close(parent)
        return content.decode()

    text = shown()
    assert "extracting" in text
    assert "/2200" in text
    assert ":00:" in text  # hours, minutes, seconds left
    assert "extracting" not in shown("--quiet")
