"""Photographs in class folders, and the command line run in this process or in one of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from xfer2.cli import app

BIN = Path(sys.executable).parent


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Pieces of scikit-learn's two photographs, 64 pixels wide, 30 of each; the folders are the classes."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    random = np.random.default_rng(0)
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            top, left = random.integers(0, image.shape[0] - 64), random.integers(0, image.shape[1] - 64)
            Image.fromarray(image[top:top + 64, left:left + 64]).save(folder / name / f"{number:02d}.jpg")
    return folder


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command line in this process, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["xfer2", *map(str, arguments)])
        capsys.readouterr()
        code = app._run()
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def saved(photos, tmp_path_factory):
    """What `xfer2 repurpose` makes, with a posterior and with images held out."""
    folder = tmp_path_factory.mktemp("saved")
    subprocess.run([BIN / "xfer2", "repurpose", "zoo:cifar10-cnn", photos, "--method", "laplace", "--hold-out", "0.4",
                    "-o", folder / "out", "-q"], check=True, capture_output=True)
    return folder / "out"


@pytest.fixture
def start(tmp_path, environment):
    """Start the command line in a process that can be interrupted, also where the tests themselves run in the background."""
    def call(*arguments):
        return subprocess.Popen(["xfer2", *map(str, arguments)], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    return call


@pytest.fixture
def environment():
    """For processes: the program on the path, one thread."""
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}
