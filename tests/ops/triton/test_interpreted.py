"""Triton's kernels without a GPU: in its interpreter, which runs programs one after another and hides any race."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bnrnn.ops._triton import availability

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif("not installed" in str(availability.why_not()), reason="there is no Triton for this platform")
def test_in_the_interpreter() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ops/triton/interpreted.py"],
        cwd=ROOT,
        env={**os.environ, "BNRNN_TYPECHECK": "0", "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    assert re.search(r"\n\d+ passed(, \d+ warnings?)? in", result.stdout), result.stdout[-1000:]
