"""Whole layers as programs in a file, opened in a fresh process after ``import bnrnn`` alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bnrnn.ops import loading

WRITE = """
import sys, torch
import bnrnn
from bnrnn.ops import loading
from torch.export import Dim

class Net(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, lengths):
        return self.layer(x, lengths=lengths)

folder, kernels, compiled = sys.argv[1:]
if kernels == "without":
    loading.OBJECT = loading.OBJECT.with_name("missing.so")
torch.manual_seed(0)
steps, batch = Dim("steps", min=2), Dim("batch", min=2)
cells = (("LSTM", "recurrent"), ("LSTM", None), ("GRU", "sequence-input"), ("RNN", "layer"))
for place, (cell, norm) in enumerate(cells[:1] if compiled == "compiled" else cells):
    layer = getattr(bnrnn, cell)(3, 5, num_layers=2, bidirectional=True, batch_first=place > 1, norm=norm)
    layer(torch.randn(6, 6, 3))
    net = Net(layer).eval()
    x, lengths = torch.randn(6, 6, 3), torch.tensor([6, 2, 3, 4, 1, 6])
    free = {1: steps, 0: batch} if layer.batch_first else {0: steps, 1: batch}
    with torch.no_grad():
        program = torch.export.export(net, (x, lengths), dynamic_shapes=(free, {0: batch}))
        assert sum("bnrnn.recurrence" in str(node.target) for node in program.graph.nodes) == 4
        if compiled == "compiled":
            torch._inductor.aoti_compile_and_package(program, package_path=f"{folder}/{place}.pt2")
        else:
            torch.export.save(program, f"{folder}/{place}.pt2")
        given = []
        for t, b in ((9, 4), (3, 7)):  # beyond the table of statistics, and within it
            x = torch.randn(b, t, 3) if layer.batch_first else torch.randn(t, b, 3)
            lengths = torch.randint(1, t + 1, (b,))
            output, state = net(x, lengths)
            given.append(((x, lengths), (output, *(state if cell == "LSTM" else (state,)))))
        torch.save(given, f"{folder}/{place}.pt")
"""
OPEN = """
import sys, torch
import bnrnn
from bnrnn.ops import loading
from pathlib import Path

folder, kernels, compiled = sys.argv[1:]
if kernels == "without":
    loading.OBJECT = loading.OBJECT.with_name("missing.so")
count = 0
for file in sorted(Path(folder).glob("*.pt2")):
    if compiled == "compiled":
        program = torch._inductor.aoti_load_package(str(file))
    else:
        program = torch.export.load(file).module()
    for arguments, expected in torch.load(file.with_suffix(".pt")):
        with torch.no_grad():
            found = torch.utils._pytree.tree_leaves(program(*arguments))
        for ours, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
    count += 1
assert (loading.why_not() is None) == (kernels == "with")
print(count)
"""
needs_kernels = pytest.mark.skipif(not loading.OBJECT.exists(), reason="the package was installed without CPU kernels")


def in_a_process(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "BNRNN_TYPECHECK": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@needs_kernels
@pytest.mark.parametrize("kernels", ["with", "without"])
def test_a_program_of_torch_export(kernels: str, tmp_path: Path) -> None:
    """Written with kernels or for want of them without, it is the same: one operator a layer and direction."""
    in_a_process(WRITE, tmp_path, kernels, "exported")
    for here in ("with", "without"):
        assert in_a_process(OPEN, tmp_path, here, "exported") == "4\n"


@needs_kernels
@pytest.mark.skipif(shutil.which("c++") is None, reason="AOTInductor needs a C++ compiler")
def test_a_package_of_aotinductor(tmp_path: Path) -> None:
    in_a_process(WRITE, tmp_path, "with", "compiled")
    assert in_a_process(OPEN, tmp_path, "with", "compiled") == "1\n"
