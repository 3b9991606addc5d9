"""The one door to mxnet and gluoncv, each time in a process of its own."""

import os
import subprocess
import sys

import pytest

from xfer2._mxnet import available_cores


def run(program, **environment):
    """What a program prints, in a new process without the settings of this one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MXNET_", "PYTHONWARNINGS"))}
    done = subprocess.run([sys.executable, "-c", program], env={**kept, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


THREADS = """
import os, xfer2
from xfer2._mxnet import available_cores
print(os.environ["OMP_NUM_THREADS"], available_cores())
"""


def test_threads_are_the_physical_cores_where_the_user_said_nothing():
    threads, cores = run(THREADS)[-1].split()
    assert threads == cores
    assert 1 <= int(cores) <= len(os.sched_getaffinity(0))


def test_threads_are_the_users_where_he_said_so():
    assert run(THREADS, OMP_NUM_THREADS="3")[-1].split()[0] == "3"


def test_a_list_of_threads_is_refused_where_mxnet_ends_the_process():
    tried = "try:\n    import xfer2\nexcept ImportError as error:\n    print(error)"
    assert "one whole number for OMP_NUM_THREADS; it is '2,1'" in run(tried, OMP_NUM_THREADS="2,1")[-1]
    assert run(THREADS, OMP_NUM_THREADS="")[-1].split()[0] == str(available_cores())


def test_threads_follow_the_affinity():
    assert run("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})" + THREADS)[-1] == "1 1"


def test_cores_here_are_at_least_one():
    assert 1 <= available_cores() <= os.cpu_count()


def test_mxnet_computes_on_this_numpy_and_its_import_warns_of_nothing():
    program = """
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("error")
    import xfer2
from xfer2._mxnet import mx
import numpy as np
assert np.bool is bool and np.int is int and np.float is float and np.object is object
assert np.bool_ is not bool
print(mx.nd.array(np.arange(3)).sum().asscalar(), mx.__version__)
"""
    assert run(program)[-1] == "3.0 1.9.1"


def test_gluoncv_leaves_pillow_strict_about_truncated_images():
    program = """
from PIL import ImageFile
from xfer2._mxnet import gluoncv
gluoncv()
print(ImageFile.LOAD_TRUNCATED_IMAGES)
"""
    assert run(program)[-1] == "False"


def test_import_of_xfer2_loads_nothing_heavy():
    program = """
import importlib.util, sys
folder = importlib.util.find_spec("xfer2").submodule_search_locations[0]
spec = importlib.util.spec_from_file_location("door", folder + "/_mxnet.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))  # what mxnet itself loads is not xfer2's doing
by_mxnet = set(sys.modules)
assert "mxnet" in by_mxnet and "xfer2" not in by_mxnet
import xfer2
heavy = ["onnx", "pandas", "skops", "PIL", "safetensors", "pyarrow"]
print([name for name in heavy if name in sys.modules and name not in by_mxnet])
print([name for name in ("torch", "sklearn", "matplotlib", "gluoncv", "onnxruntime", "gpytorch") if name in sys.modules])
print(sorted(set(xfer2.__all__) - set(dir(xfer2))))
"""
    assert run(program)[-3:] == ["[]", "[]", "[]"]


@pytest.mark.parametrize("when", ["before", "after", "never"])
def test_torch_and_gluoncv_live_together(when):
    program = f"""
when = {when!r}
if when == "before":
    import torch
from xfer2._mxnet import gluoncv
module = gluoncv()
assert gluoncv() is module
import sys
assert when == "before" or "torch" not in sys.modules
import torch
assert sys.modules["torch"] is torch
assert torch.ones(3).sum().item() == 3
if when != "never":
    import gpytorch
    gpytorch.kernels.RBFKernel()(torch.ones(2, 1)).to_dense()
network = module.model_zoo.get_model("cifar_resnet20_v1")
print(type(network).__name__)
"""
    assert run(program)[-1] == "CIFARResNetV1"


def test_a_failing_import_of_gluoncv_leaves_torch_as_it_was(tmp_path):
    (tmp_path / "gluoncv.py").write_text("import torch")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("from torch import nn\nclass Tensor: pass")
    (tmp_path / "torch" / "nn.py").write_text("")
    program = """
import sys, torch
from xfer2._mxnet import gluoncv
try:
    gluoncv()
except ImportError as error:
    print("torch" in str(error), sys.modules["torch"] is torch, sys.modules["torch.nn"] is torch.nn)
"""
    assert run(program, PYTHONPATH=str(tmp_path))[-1] == "True True True"
