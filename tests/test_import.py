"""``import bnrnn`` needs torch alone and does no work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import bnrnn

ABSENT = """
class Absent:
    # Every package but torch, its own needs and the standard library is as good as not installed.
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {"numpy", "scipy", "jaxtyping", "beartype", "lightning", "lightning_fabric", "matplotlib", "pooch",
                   "rich", "safetensors", "sklearn", "tyro", "tensorboard", "triton"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""
PROGRAM = (
    """
import sys, warnings
warnings.simplefilter("error")
import torch
before = set(sys.modules)

import subprocess, socket
def forbidden(*args, **kwargs):
    raise AssertionError(f"import started {args}")
subprocess.Popen.__init__ = forbidden
socket.socket.connect = forbidden
import os
os.system = os.popen = forbidden

"""
    + ABSENT
    + """
import bnrnn

new = set(sys.modules) - before
tops = {name.partition(".")[0] for name in new}
foreign = tops - {"bnrnn", "torch"} - set(sys.stdlib_module_names)
assert not foreign, foreign
own = {name for name in new if name.startswith("bnrnn.")}
assert not [name for name in own if name.startswith(("bnrnn.data", "bnrnn.training", "bnrnn.experiments",
                                                     "bnrnn.report", "bnrnn.figures", "bnrnn.cli"))], own
assert "torch._inductor" not in sys.modules
assert not [name for name in new if name.startswith("torch._dynamo")], "the compiler was imported"
assert not torch.cuda.is_initialized()
layer = bnrnn.LSTM(3, 4, norm="recurrent")
output, (h, c) = layer(torch.randn(5, 6, 3))
assert output.shape == (5, 6, 4) and output.isfinite().all()
output.square().sum().backward()
assert layer.norm_l0["recurrent"].gamma.grad.abs().max() > 0
print("works")
"""
)

NO_KERNEL = """
import sys
import bnrnn
loaded = open("/proc/self/maps").read() if sys.platform == "linux" else ""
assert "_kernels" not in loaded, "import loaded the kernels"
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


def test_import_needs_torch_alone_and_starts_nothing() -> None:
    assert run(PROGRAM) == "works\n"


def test_import_loads_no_kernel() -> None:
    assert run(NO_KERNEL) == ""


COMMAND = (
    """
import contextlib, io, sys
import torch
"""
    + ABSENT
    + """
import bnrnn, bnrnn_command
for name in ("--version", "--help", "list", "evaluate", "report", "data", "sample"):
    sys.argv = ["bnrnn", name]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            bnrnn_command.main()
    except SystemExit as stop:
        print(name, stop.code, said.getvalue().strip())
"""
)


def test_the_command_without_its_extra() -> None:
    version, done, *others = run(COMMAND).splitlines()
    assert version == f"bnrnn {bnrnn.__version__}"
    assert done == "--version 0 "
    assert len(others) == 6
    for line in others:
        assert re.fullmatch(r"\S+ 2 bnrnn: the package \w+ is missing; this needs pip install 'bnrnn\[\w+\]'", line)


def test_the_version_is_the_packages() -> None:
    """The metadata's is taken from the source when the package is built."""
    described = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in described
    assert 'version = { attr = "bnrnn.__version__" }' in described
    assert re.fullmatch(r"\d+\.\d+\.\d+\w*", bnrnn.__version__)
