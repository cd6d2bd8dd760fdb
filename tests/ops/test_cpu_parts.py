"""Threads and memory of the CPU kernels: the team, the pool, and what a forked process does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.cpp_extension import include_paths

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "src" / "bnrnn"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))

# As OpenMP cuts a range where it has two threads, the second thread first.
PARALLEL_FOR = """
#pragma once
#include <chrono>
#include <cstdint>
#include <thread>
namespace torch::stable {
template <typename Work>
void parallel_for(std::int64_t begin, std::int64_t end, std::int64_t, const Work& work) {
    const std::int64_t middle = begin + (end - begin + 1) / 2;
    std::thread second([&] { work(middle, end); });
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    work(begin, middle);
    second.join();
}
}  // namespace torch::stable
"""


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
def test_the_team_and_the_pool(tmp_path: Path) -> None:
    header = tmp_path / "torch" / "csrc" / "stable" / "ops.h"
    header.parent.mkdir(parents=True)
    header.write_text(PARALLEL_FOR)
    includes = [f"-I{path}" for path in (tmp_path, KERNELS / "csrc", *include_paths())]
    source, program = Path(__file__).with_name("parts.cpp"), tmp_path / "parts"
    command = [str(COMPILER), "-std=c++17", "-O1", "-pthread", *includes, str(source), "-o", str(program)]
    subprocess.run(command, check=True)
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


SCRIPT = """
import os, torch
from bnrnn import ops
torch.set_num_threads(2)
x, state = torch.randn(20, 8, 64), torch.zeros(8, 64)
weights = torch.randn(256, 64) * .1, torch.randn(256, 64) * .1
def call():
    return ops.lstm(x, state, state, *weights, None, backend="cpu")[0]
before = call()
if (child := os.fork()) == 0:
    os._exit(0 if torch.equal(call(), before) else 3)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
torch.ops.bnrnn.release_memory()
call()
kept = torch.ops.bnrnn.release_memory()
assert kept > 0, kept
assert torch.ops.bnrnn.release_memory() == 0
assert torch.equal(call(), before)
"""


@pytest.mark.skipif(not (KERNELS / "_kernels.so").exists(), reason="the package was installed without CPU kernels")
def test_a_forked_process_has_its_own_team_and_memory_can_be_released() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], timeout=120, check=True)
