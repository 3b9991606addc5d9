"""A mistake is one line with the remedy and exit code 2; what fails underway is 1, and half files are never left."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
from PIL import Image

from xfer2._mxnet import mx

M = "zoo:mnist-cnn"


def cpu_seconds(process):
    """What a process has computed for, with all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shell(line, folder, environment):
    return subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def raising(error):
    def function(*_, **__):
        raise error

    return function


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("line", "said"), [
    ("inspect nowhere/net", "nowhere/net"),
    ("inspect zoo:mnist-cn", "mnist-cnn"),
    ("inspect {m} --graph g.txt", ".svg"),
    ("inspect {m} --graph there.svg", "--graph must be new"),
    ("repurpose {m} {p} -o out --set source_model=x", "no parameter 'source_model'. Nearest: "),
    ("inspect {m} --input-shape 3,a", "3,224,224"),
    ("extract nowhere {p} -o f.npz", "nowhere"),
    ("extract {m} nowhere -o f.npz", "'nowhere'"),
    ("extract {m} {p} -o f.txt", ".parquet"),
    ("extract {m} {p} -o nowhere/f.npz", "there is no folder 'nowhere'"),
    ("extract {m} {p} -o there.npz", "--overwrite"),
    ("extract {m} {p} -o f.npz --layers dens0", "dense0"),
    ("extract {m} {p} -o f.npz --layers dense0,dense0", "without repeated names"),
    ("extract {m} {p} -o f.npz --pool mean", "--pool must be one of avg, max, none"),
    ("extract {m} {p} -o f.npz --batch-size 0", "at least 1"),
    ("extract {m} {p} -o f.npz --errors ignore", "--errors must be one of skip, raise"),
    ("extract {m} {p} -o there.npz --resume", "--overwrite"),
    ("extract {m} {p} -o - --resume", "a name"),
    ("extract {m} big.csv -o -", "None of the 1 images"),
    ("extract {m} bad.rec -o -", "None of the 1 images"),
    ("extract {m} bad.rec -o - --json", "None of the 1 images"),
    ("extract {m} {p}", "--output"),
    ("extract {m} {p} -o f.npz --laers a", "--layers"),
    ("extract {m} empty -o f.npz", "holds no images"),
    ("extract {m} {p} -o f.npy --layers pool0,dense0", ".npz"),
    ("repurpose {m} loose -o out", "one folder a class"),
    ("repurpose {m} one -o out", "at least two classes"),
    ("repurpose {m} {p} -o there.npz", "--overwrite"),
    ("repurpose {m} {p} -o there --overwrite", "not overwritten"),
    ("repurpose {m} {p} -o out --method gpp", "gp"),
    ("repurpose {m} {p} -o out --method sklearn", "Python"),
    ("repurpose {m} {p} -o out --set cc=1", "Nearest: c"),
    ("repurpose {m} {p} -o out --set c", "NAME=VALUE"),
    ("repurpose {m} {p} -o out --set c=-1", "c must be"),
    ("repurpose {m} {p} -o out --hold-out 1.5", "below 1"),
    ("repurpose {m} {p} -o out --config nowhere.toml", "nowhere.toml"),
    ("repurpose {m} {p} -o out --config wrong.toml", "'methd'"),
    ("repurpose {m} {p} -o out --config broken.toml", "broken.toml"),
    ("repurpose {m} {p} -o out --layers dens0", "dense0"),
    ("repurpose {m} {p} -o out --method fine-tune --layers conv0,dense0", "one layer"),
    ("repurpose {m} {p} -o out --method random-freeze --layers conv0", "xfer2 methods random-freeze"),
    ("repurpose {m} {p} -o out --method fine-tune --pool max", "no --pool to choose; `xfer2 methods fine-tune` lists"),
    ("repurpose {m} {p} -o out --method lwf --pool avg", "no --pool to choose"),
    ("repurpose {m} {p} -o out --pool mean", "--pool must be one of avg, max, none"),
    ("repurpose {m} {p} -o out --layers pool0 --set feature_layer_names=dense0",
     "--layers and feature_layer_names are one parameter, said twice; leave one of them out"),
    ("repurpose {m} {p} -o out --method fine-tune --layers pool0 --set transfer_layer_name=dense0", "said twice"),
    ("repurpose {m} {p} -o out --pool avg --set pool=None", "--pool and pool are one parameter, said twice"),
    ("repurpose {m} {p} -o out --batch-size 3 --set batch_size=4", "--batch-size and batch_size are one parameter"),
    ("repurpose {m} {p} -o out --errors skip --set errors=raise", "said twice"),
    ("repurpose {m} {p} -o out --test loose", "no classes"),
    ("repurpose {m} {p} -o out --test other", "has the class 'dog'"),
    ("repurpose {m} {p} -o out --test {p}", "--test must be other images than those it learns from"),
    ("repurpose {m} gone -o out", "gone/flower' holds no images"),
    ("repurpose {m} {p} -o -", "cannot be printed"),
    ("repurpose {m} {p} -o out --config layers.toml", "layers must be a text"),
    ("repurpose {m} {p} -o out --config parameters.toml", "[parameters]"),
    ("repurpose {m} {p} -o out --config latin.toml", "latin.toml"),
    ("repurpose {m} {p} -o out --set c={{[]:1}}", "c must be"),
    ("predict nowhere {p}", "'nowhere'"),
    ("predict {p} {p}", "no saved repurposer"),
    ("predict {s} nowhere", "'nowhere'"),
    ("predict {s} {p} -o p.txt", ".csv"),
    ("predict {s} {p} -o there.csv", "--overwrite"),
    ("predict {s} {p} --coverage 1.5", "between 0 and 1"),
    ("predict {s} {p} --coverage 0.999", "at least 999 labelled rows"),
    ("predict {s} {p} --abstain-risk 0", "between 0 and 1"),
    ("report {s} {p} -o there.html", "--overwrite"),
    ("report nowhere {p}", "'nowhere'"),
    ("report {s} other -o r.html", "is not among the classes"),
    ("export nowhere -o net", "nowhere"),
    ("export {m} -o -", "cannot be printed"),
    ("export {m} -o there", "there-preprocessing.json"),
    ("methods gpp", "gp"),
    ("nonsense", "No such command"),
])
def test_one_line_with_the_remedy(run, photos, saved, tmp_path, line, said):
    for name in ("empty", "loose", "one/a", "other/dog", "other/china", "there", "gone/flower", "gone/china"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("loose/1.png", "loose/2.png", "one/a/1.png", "one/a/2.png", "other/dog/1.png", "other/china/1.png",
                 "gone/china/1.png"):
        Image.new("L", (28, 28)).save(tmp_path / name)
    for name in ("there.npz", "there.svg", "there.csv", "there.html", "there/mine.txt", "there-preprocessing.json"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "wrong.toml").write_text('methd = "lr"\n')
    (tmp_path / "broken.toml").write_text("method = \n")
    (tmp_path / "layers.toml").write_text("layers = [1, 2]\n")
    (tmp_path / "parameters.toml").write_text("parameters = 3\n")
    (tmp_path / "latin.toml").write_bytes(b'method = "\xff"\n')
    (tmp_path / "big.csv").write_text("nowhere.png,1\n")
    writer = mx.recordio.MXRecordIO(str(tmp_path / "bad.rec"), "w")
    writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, 1.0, 0, 0), b"no image"))
    writer.close()
    before = files_below(tmp_path)
    done = run(*line.format(m=M, p=photos, s=saved).split())
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith(("xfer2: ", f"xfer2 {line.split()[0]}: "))
    assert done.err.count("\n") == 1, done.err
    assert said in done.err
    assert files_below(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_named_before_any_work(run, photos, monkeypatch, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    monkeypatch.setattr("tempfile.TemporaryFile", raising(PermissionError(13, "Permission denied")))
    for line in (["extract", M, photos], ["repurpose", M, photos], ["inspect", M, "--graph"]):
        done = run(*line, *([] if "--graph" in line else ["-o"]), folder / "new.svg")
        assert done.code == 2
        assert "Permission denied" in done.err


def test_a_saved_folder_that_was_changed_is_refused_by_name(run, saved, photos, tmp_path):
    shutil.copytree(saved, tmp_path / "changed")
    (tmp_path / "changed" / "held-out.npz").write_bytes(b"other")
    done = run("predict", "changed", photos)
    assert done.code == 2
    assert "held-out.npz" in done.err


def test_no_held_out_images_is_said_with_the_remedy(run, photos):
    assert run("repurpose", M, photos, "-o", "out", "--hold-out", "0", "-q").code == 0
    done = run("predict", "out", photos, "--coverage", "0.9")
    assert done.code == 2
    assert "--hold-out" in done.err


def test_a_full_disk_underway_is_exit_code_1_and_leaves_nothing(run, saved, photos, monkeypatch, tmp_path):
    monkeypatch.setattr("os.replace", raising(OSError(28, "No space left on device")))
    done = run("predict", saved, photos, "-o", "p.csv")
    assert done.code == 1
    assert "No space left on device" in done.err
    assert files_below(tmp_path) == []


def test_a_training_that_is_interrupted_keeps_what_it_learned_and_says_so(photos, tmp_path, environment, start):
    call = ["repurpose", "zoo:cifar10-cnn", photos, "--method", "stitch", "-o", "out"]
    for one in ("num_epochs=100000", "patience=None", f"checkpoint_dir={tmp_path / 'run'}"):
        call += ["--set", one]
    process = start(*call)
    while not (tmp_path / "run").is_dir() or not any((tmp_path / "run").iterdir()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "was interrupted; what it had learned by then is in 'out'" in err
    assert "Traceback" not in err
    done = subprocess.run(["xfer2", "predict", "out", photos], cwd=tmp_path, env=environment, capture_output=True,
                          check=True)
    assert done.stdout.count(b"\n") == 61


@pytest.mark.slow
@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_before_there_is_anything_to_keep_leaves_nothing(photos, saved, tmp_path, start, name):
    (tmp_path / "list.csv").write_text("\n".join(str(path) for path in photos.rglob("*.jpg") for _ in range(400)))
    calls = [["extract", "zoo:cifar10-resnet28", "list.csv", "-o", "f.npz"], ["predict", saved, "list.csv", "-o", "p.csv"]]
    for call in calls:
        process = start(*call)
        while cpu_seconds(process.pid) < 4:  # imported, and at work
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(name)
        _, err = process.communicate()
        assert process.returncode == 1, err
        assert err.count("\n") == 1, err
        assert "interrupted" in err
        kept = "are kept in" in err  # where the first part was there already
        assert kept or files_below(tmp_path) == ["list.csv"]
        shutil.rmtree(tmp_path / ".f.npz.partial", ignore_errors=True)


@pytest.mark.slow
def test_closed_streams_are_no_tracebacks(photos, tmp_path, environment):
    lines = {f"xfer2 extract {M} {photos} -o f.npz -q 2>&-": 0, f"xfer2 extract {M} nowhere -o g.npz 2>&-": 2,
             "xfer2 methods >&-": 0, f"xfer2 extract {M} {photos} -o - -q >&-": 0}
    for line, code in lines.items():
        done = shell(line, tmp_path, environment)
        assert (done.returncode, done.stdout, done.stderr) == (code, "", ""), line
    assert files_below(tmp_path) == ["f.npz"]


@pytest.mark.slow
def test_names_and_labels_that_no_encoding_has_are_written_as_codes(photos, tmp_path, environment):
    for label in ("chína", "flower"):
        (tmp_path / "odd" / label).mkdir(parents=True)
        for number in range(6):
            name = os.fsencode(tmp_path / "odd" / label) + b"/\xff%d.png" % number
            with open(name, "wb") as file:
                Image.new("L", (28, 28), 40 * number).save(file, "PNG")
    ascii_only = {**environment, "PYTHONIOENCODING": "ascii"}
    for line in (f"xfer2 extract {M} odd -o f.parquet -q", f"xfer2 repurpose {M} odd -o out -q", "xfer2 predict out odd -q"):
        done = shell(line, tmp_path, ascii_only)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    assert "\\xff0.png" in done.stdout
    assert pandas.read_parquet(tmp_path / "f.parquet")["label"].tolist() == ["chína"] * 6 + ["flower"] * 6


def test_a_program_run_as_a_module_has_the_same_codes(tmp_path):
    done = subprocess.run([sys.executable, "-m", "xfer2.cli.app", "inspect", "nowhere"], capture_output=True, text=True,
                          check=False, cwd=tmp_path, env={**os.environ, "COLUMNS": "60"})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
