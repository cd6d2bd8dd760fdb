"""opcheck and torch.compile on the registered operators, in a process without the test run's type checks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bnrnn.ops import loading

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not loading.OBJECT.exists(), reason="the package was installed without CPU kernels")
def test_registered_operators() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ops/compiled_kernels.py"],
        cwd=ROOT,
        env={**os.environ, "BNRNN_TYPECHECK": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    assert "28 passed" in result.stdout


def test_compiling_loads_the_kernels() -> None:
    """A compiled function may be the first to need them: loading is not traced."""
    script = (
        "import torch, bnrnn\n"
        "layer = bnrnn.LSTM(3, 4, norm='recurrent', backend='cpu')\n"
        "x = torch.randn(5, 6, 3)\n"
        "out, _ = torch.compile(layer, fullgraph=True, backend='aot_eager')(x)\n"
        "out.sum().backward()\n"
    )
    if not loading.OBJECT.exists():
        pytest.skip("the package was installed without CPU kernels")
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


def test_import_loads_nothing() -> None:
    """The operators are defined, and nothing of the object is there."""
    script = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import bnrnn\n"
        "assert torch.ops.bnrnn.recurrence.default and bnrnn.ops.release_memory() == 0\n"
        "assert not hasattr(torch.ops.bnrnn, 'vector_bytes'), 'the object is loaded'\n"
        "heavy = {'torch._dynamo', 'torch._inductor', 'torch.utils.flop_counter'}\n"
        "assert not heavy & (set(sys.modules) - before)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
