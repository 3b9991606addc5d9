import json
import subprocess
import sys

import pytest

from xfer2.cli import demo


def test_repurposed_beats_raw_pixels_whatever_the_seed():
    for seed in (1, 2):
        raw, repurposed = demo.run(seed).rows
        assert repurposed.accuracy > raw.accuracy + 0.02
        assert repurposed.nll < raw.nll


def test_training_images_are_ten_a_class_and_not_among_the_test_images():
    outcome = demo.run(0)
    assert outcome.training_images == 100
    assert len(outcome.truth) == 1797 - 100


def test_table_and_least_certain_images_are_printed():
    done = subprocess.run([sys.executable, "-m", "xfer2.cli.app", "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "raw pixels" in done.stdout
    assert "repurposed zoo:mnist-cnn" in done.stdout
    assert "least certain" in done.stdout
    assert done.stdout.count("digits[") == 5


def test_json(run):
    rows = json.loads(run("demo", "--json").out)
    assert [set(row) for row in rows] == [{"method", "accuracy", "nll", "ece", "seconds"}] * 2


@pytest.mark.parametrize("arguments", [["dmo"], ["demo", "--seed", "-1"], ["demo", "--sed", "1"]])
def test_a_mistake_is_exit_code_2_without_traceback(run, arguments):
    done = run(*arguments)
    assert done.code == 2
    assert "Traceback" not in done.err


def test_version_and_help(run):
    assert run("--version").out.startswith("xfer2 ")
    assert "demo" in run("--help").out
