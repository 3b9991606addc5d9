"""inspect, repurpose, predict, report, export, methods: what they print and write."""

import io
import json
import shutil
import subprocess
import warnings

import numpy as np
import onnxruntime
import pandas
import pytest

import xfer2
from xfer2._mxnet import mx
from xfer2.repurposers._examples import held_out_rows
from xfer2.repurposers._registry import METHODS
from xfer2.uncertainty.selective import threshold_at_risk


def frame_of(text):
    return pandas.read_csv(io.StringIO(text), keep_default_na=False)


def test_inspect_tells_layers_as_a_table_and_as_json(run, tmp_path):
    done = run("inspect", "zoo:mnist-cnn", "--graph", "graph.svg")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "inputs: data 1x28x28"
    assert lines[1].split() == ["layer", "type", "output", "shape", "parameters", "FLOPs", "frozen"]
    assert any(line.split()[:3] == ["dense0", "FullyConnected", "128"] for line in lines)
    assert "<svg" in (tmp_path / "graph.svg").read_text()
    told = json.loads(run("inspect", "zoo:mnist-cnn", "--json").out)
    summary = xfer2.ModelHandler("zoo:mnist-cnn").summary()
    assert [layer["name"] for layer in told["layers"]] == [row.name for row in summary.rows]
    assert told["parameters"] == summary.parameters
    assert told["inputs"] == {"data": [1, 28, 28]}


def test_inspect_reads_what_repurpose_made(run, saved):
    assert "dropout" in run("inspect", saved).out


def test_what_repurpose_made_is_a_model_too(run, photos, saved, tmp_path):
    assert json.loads(run("extract", saved, photos, "-o", "f.npz", "--json").out)["shapes"] == {
        "dropout": [512], "relu1_means": [288], "relu3_means": [576]}
    assert run("repurpose", saved, photos, "-o", "again", "--hold-out", "0", "-q").code == 0
    again = xfer2.load(tmp_path / "again")
    assert list(again.feature_indices_per_layer_) == ["dropout", "relu1_means", "relu3_means"]
    assert again.trained_on_["source"] == str(saved)


def test_images_that_cannot_be_read_are_named_once_and_what_was_learned_is_kept(run, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "mine")
    (tmp_path / "mine" / "rare").mkdir()
    for number in range(3):
        (tmp_path / "mine" / "rare" / f"{number}.jpg").write_bytes(b"no image")
    done = run("repurpose", "zoo:mnist-cnn", "mine", "-o", "out", "-q")
    assert done.code == 0
    assert done.err.count("\n") == 1
    assert "3 of 63 images could not be read and were left out" in done.err
    held_out = {seed: held_out_rows(np.repeat([0, 1, 2], [30, 30, 3]), 0.4, seed)[-1] - 60 for seed in range(30)}
    seed, readable = next((seed, row) for seed, row in held_out.items() if row >= 0)
    shutil.copy(photos / "china" / "00.jpg", tmp_path / "mine" / "rare" / f"{readable}.jpg")
    done = run("repurpose", "zoo:mnist-cnn", "mine", "-o", "out", "-q", "--hold-out", "0.4", "--seed", seed, "--overwrite")
    assert done.code == 1
    assert "the label 'rare' is not among the classes" in done.err
    assert "saved in 'out'" in done.err
    assert xfer2.load(tmp_path / "out").classes_.tolist() == ["china", "flower"]


def test_repurpose_prints_figures_of_images_that_were_held_out(run, photos, tmp_path):
    done = run("repurpose", "zoo:cifar10-cnn", photos, "-o", "out", "--hold-out", "0.5", "--seed", "3", "--json")
    assert done.code == 0
    told = json.loads(done.out)
    assert (told["method"], told["held_out"], told["trained_on"]["class_counts"]) == ("lr", 30, [15, 15])
    repurposer = xfer2.load(tmp_path / "out")
    assert repurposer.score(str(photos)) > 0.9
    held_out = repurposer.held_out_
    assert told["figures"]["accuracy"]["value"] == np.mean(held_out.prediction.labels == held_out.labels)
    assert len(set(held_out.prediction.ids)) == 30
    again = run("repurpose", "zoo:cifar10-cnn", photos, "-o", "again", "--hold-out", "0.5", "--seed", "3")
    assert again.out.splitlines()[0] == "lr on 30 images it has not seen, of 2 classes:"
    assert f"accuracy                    {told['figures']['accuracy']['value']:.3f}" in again.out
    assert xfer2.load(tmp_path / "again").held_out_.to_bytes() == held_out.to_bytes()


def test_parameters_come_from_a_file_and_from_the_line_which_has_the_last_word(run, photos, tmp_path):
    (tmp_path / "photos.toml").write_text('method = "laplace"\nlayers = ["conv3", "dense0"]\nhold_out = 0\n'
                                          "[parameters]\nc = 0.5\nnum_samples_mc_prediction = 32\n")
    done = run("repurpose", "zoo:cifar10-cnn", photos, "-o", "out", "--config", "photos.toml", "--set", "c=0.25")
    assert done.code == 0, done.err
    repurposer = xfer2.load(tmp_path / "out")
    assert (repurposer.method, repurposer.c, repurposer.num_samples_mc_prediction) == ("laplace", 0.25, 32)
    assert list(repurposer.feature_indices_per_layer_) == ["conv3", "dense0"]
    assert repurposer.held_out_ is None
    assert done.out == ""


def test_other_data_may_be_measured_on(run, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "others")
    done = run("repurpose", "zoo:cifar10-cnn", photos, "-o", "out", "--test", "others", "--json")
    assert json.loads(done.out)["held_out"] == json.loads(done.out)["trained_on"]["examples"] == 60


def test_a_network_method_trains_and_exports(run, photos, tmp_path):
    done = run("repurpose", "zoo:mnist-cnn", photos, "--method", "fine-tune", "--layers", "dense0", "-o", "out",
               "--set", "num_epochs=2")
    assert done.code == 0
    repurposer = xfer2.load(tmp_path / "out")
    assert repurposer.outcome_ in done.err
    done = run("export", "out", "-o", "plain")
    assert sorted(done.out.split()) == ["plain-0000.params", "plain-preprocessing.json", "plain-symbol.json"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MXNet's, on the type of the input
        block = mx.gluon.SymbolBlock.imports("plain-symbol.json", ["data"], "plain-0000.params")
    given = np.random.default_rng(0).random((3, 1, 28, 28), np.float32)
    np.testing.assert_allclose(block(mx.nd.array(given)).asnumpy(), repurposer.predict_proba(given), atol=1e-6)
    assert run("export", "out", "-o", "net.onnx").out == "net.onnx\n"
    session = onnxruntime.InferenceSession("net.onnx")
    np.testing.assert_allclose(session.run(None, {"data": given})[0], repurposer.predict_proba(given), atol=1e-5)


def test_a_head_that_is_no_network_exports_its_features_where_asked(run, saved, tmp_path):
    done = run("export", saved, "-o", "plain")
    assert done.code == 2
    assert "With --features" in done.err
    assert run("export", saved, "-o", "plain", "--features").code == 0
    assert (tmp_path / "plain-symbol.json").is_file()


def test_predictions_are_those_of_the_library(run, photos, saved, tmp_path):
    repurposer = xfer2.load(saved)
    expected = repurposer.predict_uncertainty(str(photos))
    done = run("predict", saved, photos)
    frame = frame_of(done.out)
    assert list(frame.columns) == ["file", "label", "probability"]
    assert frame["file"].tolist() == expected.ids
    assert frame["label"].tolist() == expected.labels.tolist()
    np.testing.assert_allclose(frame["probability"], expected.confidence)
    run("predict", saved, photos, "-o", "p.csv")
    assert (tmp_path / "p.csv").read_text() == done.out


def test_uncertainty_sets_and_abstaining_are_calibrated_on_what_was_held_out(run, photos, saved):
    repurposer = xfer2.load(saved)
    expected, known = repurposer.predict_uncertainty(str(photos)), repurposer.held_out_
    arguments = ["predict", saved, photos, "--uncertainty", "--coverage", "0.9", "--abstain-risk", "0.3"]
    done = run(*arguments)
    frame = frame_of(done.out)
    assert list(frame.columns) == ["file", "label", "probability", "entropy", "aleatoric", "epistemic", "prediction_set",
                                   "abstained", "out_of_distribution"]
    for name in ("entropy", "aleatoric", "epistemic"):
        np.testing.assert_allclose(frame[name], getattr(expected, name), atol=1e-12)
    np.testing.assert_allclose(frame["out_of_distribution"], expected.distances["nearest_neighbour"])
    sets = xfer2.ConformalSets(0.9, random_state=0).fit(known.prediction, known.labels).label_sets(expected)
    assert frame["prediction_set"].tolist() == ["|".join(one) for one in sets]
    limit = threshold_at_risk(known.prediction.entropy, known.wrong, 0.3)
    assert frame["abstained"].tolist() == (expected.entropy > limit).tolist()
    assert f"abstains from {int((expected.entropy > limit).sum())} of 60" in done.err
    rows = json.loads(run(*arguments, "--json").out)
    assert [row["prediction_set"] for row in rows] == [one.tolist() for one in sets]
    assert rows[0]["abstained"] == bool(frame["abstained"][0])


def test_a_risk_that_cannot_be_promised_abstains_from_all_and_says_so(run, photos, saved):
    done = run("predict", saved, photos, "--abstain-risk", "0.001")
    assert frame_of(done.out)["abstained"].all()
    assert "with 24 held-out images no threshold promises a risk of 0.001" in done.err


def test_the_report_is_of_these_predictions(run, photos, saved, tmp_path):
    done = run("report", saved, photos, "-o", "r.html", "--title", "China & flowers")
    assert (done.code, done.out) == (0, "")
    page = (tmp_path / "r.html").read_text()
    assert "<h1>China &amp; flowers</h1>" in page
    assert page.count("<td>china/") == 30
    assert "laplace" in page.lower()
    assert "36 of the 60 examples of" in page  # what it was trained on
    assert f"xfer2 repurpose zoo:cifar10-cnn {photos} --method laplace --hold-out 0.4" in page  # how to reproduce it
    assert run("report", saved, photos, "-o", "-", "--title", "China & flowers").out == page
    assert "Most uncertain" in page
    assert "It learned from data of this name" in page
    (tmp_path / "others").symlink_to(photos)
    assert "It learned from" not in run("report", saved, "others", "-o", "-").out


@pytest.mark.parametrize("name", METHODS)
def test_methods_come_from_the_registry_with_their_parameters(run, name):
    listed = run("methods").out
    assert METHODS[name].summary in " ".join(listed.split())
    told, = json.loads(run("methods", name, "--json").out)
    cls = METHODS[name].load_class()
    assert {one["name"] for one in told["parameters"]} == {*cls._get_param_names()} - {"source_model"}
    assert all(one["description"] for one in told["parameters"])
    text = run("methods", name).out
    assert all(one["name"] in text for one in told["parameters"])


@pytest.mark.parametrize(("words", "expected"), [("xfer2 rep", ["report", "repurpose"]), ("xfer2 methods st", ["stitch"]),
                                                 ("xfer2 repurpose m d --method two", ["two-tower"])])
def test_the_shell_completes_commands_and_methods(environment, words, expected):
    asked = {"_XFER2_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(["xfer2"], env={**environment, **asked}, capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == expected


def test_without_a_command_it_lists_them(run):
    done = run()
    assert done.code == 0
    assert all(name in done.out for name in ("inspect", "extract", "repurpose", "predict", "report", "export", "methods"))
