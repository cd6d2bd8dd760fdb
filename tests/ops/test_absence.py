"""Without kernels ``auto`` says so: once a process, where kernels would have taken the call, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys, warnings
import torch
import bnrnn
from bnrnn.ops import loading
{absent}
found = []
warnings.showwarning = lambda message, *_: found.append(str(message))
warnings.simplefilter("always")
x = torch.randn(5, 4, 3)
layer = lambda backend, **options: bnrnn.LSTM(3, 6, norm="recurrent", backend=backend, **options)
layer("reference")(x)
bnrnn.LSTM(3, 6)(x)
layer("auto", dtype=torch.float16)(x.half())
still = layer("auto").eval()
torch.func.vmap(lambda own: still(own)[0])(torch.randn(2, 5, 4, 3))
own = [text for text in found if "kernels" in text]
assert not own, own
{call}
layer("auto")(x)
bnrnn.GRU(3, 6, norm="recurrent")(x)
own = [text for text in found if "kernels" in text]
print(len(own), *own)
"""
MISSING = 'loading.OBJECT = loading.OBJECT.with_name("missing.so")'
STALE = """
import pathlib, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "csrc").mkdir()
loading.OBJECT = folder / "stale.so"
loading.OBJECT.write_bytes(b"bnrnn sources 0")
"""
CALLS = {
    "eager": "layer('auto')(x)",
    "compiled": "torch.compile(layer('auto').eval(), backend='eager')(x)",
    "an exported program's": """
own = [torch.randn(*shape) for shape in ((5, 4, 3), (4, 6), (4, 6), (24, 3), (24, 6))]
torch.ops.bnrnn.recurrence(0, *own, None, None, None, [], [0] * 12, [0.0] * 4, None, None, None, None, False, False)
""",
}


def answer(absent: str, call: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(absent=absent, call=call)],
        env={**os.environ, "BNRNN_TYPECHECK": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("call", CALLS)
def test_once_a_process_and_how_to_get_them(call: str) -> None:
    found = answer(MISSING, CALLS[call])
    assert found.startswith("1 bnrnn computes by torch's own operations, several times slower"), found
    for word in ("installed without CPU kernels", "--no-build-isolation", "wheel", "backend='reference'"):
        assert word in found


def test_an_object_of_other_sources() -> None:
    found = answer(STALE, CALLS["eager"])
    assert found.startswith("1 ")
    assert "built from other sources than these" in found
