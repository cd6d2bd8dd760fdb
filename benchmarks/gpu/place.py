"""Where the measurements run: on the GPU, or, to know that the command works, on the CPU at toy sizes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from benchmarks.measure import seconds

Precision = Literal["tf32", "float32", "bfloat16"]


class Place(Protocol):
    """A device and how time and memory are taken there."""

    device: str
    toy: bool

    @property
    def multiprocessors(self) -> int: ...

    def facts(self) -> dict[str, Any]:
        """What the numbers depend on."""
        ...

    def seconds(self, call: Callable[[], object]) -> float:
        """Of the device, for one call."""
        ...

    def graph(self, call: Callable[[], object]) -> Callable[[], object]:
        """The call as one captured graph, to be played again."""
        ...

    @contextmanager
    def memory(self, found: dict[str, float]) -> Iterator[None]:
        """Puts ``megabytes``: the peak in the block above what is there at its start."""
        ...


@dataclass(frozen=True)
class Played:
    """A captured call, kept with the tensors that the graph reads."""

    call: Callable[[], object]
    graph: torch.cuda.CUDAGraph

    def __call__(self) -> None:
        self.graph.replay()


class Cuda:
    device = "cuda"
    toy = False

    @property
    def multiprocessors(self) -> int:
        return torch.cuda.get_device_properties(0).multi_processor_count

    def facts(self) -> dict[str, Any]:
        properties = torch.cuda.get_device_properties(0)
        return {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": self.multiprocessors,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": self._query("driver_version"),
        }

    @staticmethod
    def _query(what: str) -> str | None:
        """What the driver's own tool says, where there is one."""
        if shutil.which("nvidia-smi") is None:
            return None
        command = ["nvidia-smi", "--id=0", f"--query-gpu={what}", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None

    def seconds(self, call: Callable[[], object]) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def graph(self, call: Callable[[], object]) -> Callable[[], object]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what first calls allocate and tune must not be captured
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return Played(call, graph)

    @contextmanager
    def memory(self, found: dict[str, float]) -> Iterator[None]:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield
        torch.cuda.synchronize()
        found["megabytes"] = (torch.cuda.max_memory_allocated() - before) / 2**20


class Interpreter:
    """Triton's interpreter on the CPU. Nothing is captured, and neither its seconds nor its memory mean anything."""

    device = "cpu"
    toy = True
    multiprocessors = 1

    def facts(self) -> dict[str, Any]:
        return {"device": "none; Triton's interpreter"}

    def seconds(self, call: Callable[[], object]) -> float:
        return seconds(call)

    def graph(self, call: Callable[[], object]) -> Callable[[], object]:
        return call

    @contextmanager
    def memory(self, found: dict[str, float]) -> Iterator[None]:
        yield
        found["megabytes"] = 0.0


def here() -> Place:
    return Cuda() if torch.cuda.is_available() else Interpreter()


def compute_sanitizer() -> str | None:
    """The tool's path; it comes with CUDA's toolkit, not with torch."""
    toolkit = Path("/usr/local/cuda/bin/compute-sanitizer")
    return shutil.which("compute-sanitizer") or (str(toolkit) if toolkit.exists() else None)


@contextmanager
def precision(name: Precision) -> Iterator[torch.dtype]:
    """The dtype of layers and data; products of float32 as they are, or in TF32, ours and cuDNN's alike."""
    matmul: Any = torch.backends.cuda.matmul
    rnn: Any = torch.backends.cudnn.rnn
    before = matmul.fp32_precision, rnn.fp32_precision
    matmul.fp32_precision = rnn.fp32_precision = "tf32" if name == "tf32" else "ieee"
    try:
        yield torch.bfloat16 if name == "bfloat16" else torch.float32
    finally:
        matmul.fp32_precision, rnn.fp32_precision = before
