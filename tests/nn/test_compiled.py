"""torch.export and torch.compile, each in a process of its own, where no type checks stand in their way."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bnrnn.ops import loading

SCRIPT = Path(__file__).with_name("compiled.py")


def run(cell: str, functions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as cache:  # torch's own outlives a change of an operator's arguments
        done = subprocess.run(
            [sys.executable, str(SCRIPT), cell, *functions],
            capture_output=True,
            text=True,
            timeout=240,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": cache},
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("cell", "functions"),
    [
        ("LSTM", ["export", "export_after_loading", "compile_eval", "compile_training"]),
        ("GRU", ["export", "compile_training"]),
        ("RNN", ["export", "compile_training", "compile_inductor"]),
    ],
)
def test_numbers_are_those_of_the_layer(cell: str, functions: list[str]) -> None:
    run(cell, functions)


@pytest.mark.skipif(not loading.OBJECT.exists(), reason="the package was installed without CPU kernels")
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_kernels_are_one_operator(cell: str) -> None:
    run(cell, ["export_kernels", "compile_lengths", *(["compile_kernels", "compile_growth"] if cell == "LSTM" else [])])
