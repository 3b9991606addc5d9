"""A run that is killed at any moment and started again ends with the same weights, to the bit."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

RUN = """
import logging
import sys
from pathlib import Path
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
logging.getLogger("xfer2").addFilter(lambda record: "goes on" in record.msg)
sys.path.insert(0, sys.argv[1])
import numpy as np
import xfer2
from tasks import bright_channels, residual_network, values
from xfer2.data.augmentation import Augmentation
folder, checkpoints = Path(sys.argv[2]), sys.argv[3] or None
repurposer = xfer2.NeuralNetworkFineTuneRepurposer(
    residual_network(), "gap", fixed_layers="stem", num_epochs=24, batch_size=8, mixup=0.2, gradual_unfreezing=1,
    augment=Augmentation(flip=True, shift=1), cache=3, patience=None, checkpoint_dir=checkpoints, random_state=0)
print("begun", flush=True)
repurposer.fit(*bright_channels(240, noise=2))
np.savez(folder / "weights.npz", **values(repurposer.network_))
print("done", flush=True)
"""
MOMENTS = np.random.default_rng(2026).uniform(0.05, 0.95, 5)


def start(folder, checkpoints):
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", RUN, str(Path(__file__).parent), str(folder), str(checkpoints or "")],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of a run that nothing disturbed, and its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    with start(folder, None) as process:
        begun = time.perf_counter()
        assert process.stdout.readline() == "done\n"
        return dict(np.load(folder / "weights.npz")), time.perf_counter() - begun


def killed_after(delay, folder):
    """Start a run and kill it; where it was done before, leave nothing of it."""
    with start(folder, folder / "run") as process:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        ended = process.wait()
    if ended == 0:
        (folder / "weights.npz").unlink()
        shutil.rmtree(folder / "run")
    return ended == -signal.SIGKILL


@pytest.mark.parametrize("moment", [*MOMENTS[:2], *(pytest.param(moment, marks=pytest.mark.slow) for moment in MOMENTS[2:])])
def test_a_killed_run_that_is_started_again_ends_with_the_same_weights(moment, whole, tmp_path):
    weights, seconds = whole
    delay = moment * seconds
    while not killed_after(delay, tmp_path):  # it was done before: the machine has less else to do than it had
        delay /= 2
    assert not (tmp_path / "weights.npz").exists()
    kept = list((tmp_path / "run").rglob("training.safetensors"))
    assert kept or moment < 0.3
    with start(tmp_path, tmp_path / "run") as process:
        said = process.stdout.read()
        assert process.wait() == 0
    assert ("goes on after epoch" in said) == bool(kept)
    again = dict(np.load(tmp_path / "weights.npz"))
    assert weights.keys() == again.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)
