"""Triton's kernels compiled for GPUs that are not there: none spills, none takes more memory than a program has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bnrnn.ops._triton import availability

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif("not installed" in str(availability.why_not()), reason="there is no Triton for this platform")
def test_all_variants_compile_within_their_bounds(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.ops.triton.compiled"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    lines = result.stdout.splitlines()
    for kernel in ("forward", "backward", "dot_forward", "dot_backward", "scan_forward", "scan_backward"):
        assert sum(f": {kernel}, " in line for line in lines) >= 12, kernel
