"""What it costs to take batch statistics over two processes: one update of an LSTM, forward and back, with gloo.

    python -m benchmarks.processes

The same rows are computed by one process with the kernels, by one with the reference, and by two that have half of them
each, alone and synchronized. First the synchronized output is compared with that of one process. Updates alternate; a
median is over the rounds, and so is the ratio to the reference of the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import bnrnn
from benchmarks import store

STEPS, ROWS, INPUTS, UNITS = 50, 32, 64, 128
NORMS = ("input-frame", "recurrent")
OUT = Path(__file__).parent / "results" / "processes.json"


def layer(norm: str, backend: str, synchronized: bool) -> bnrnn.LSTM:
    torch.manual_seed(0)
    made = bnrnn.LSTM(INPUTS, UNITS, norm=norm, backend=backend)  # pyright: ignore[reportArgumentType]
    return bnrnn.synchronize(made) if synchronized else made


def update(made: bnrnn.LSTM, x: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Its output, and the milliseconds it took."""
    started = time.perf_counter()
    output, _ = made(x)
    output.square().mean().backward()
    return output.detach(), 1000 * (time.perf_counter() - started)


def exchange() -> float:
    """Microseconds of one exchange of a step's means and variances."""
    own = torch.randn(2, 4 * UNITS)
    parts = list(torch.empty(2, *own.shape).unbind(0))
    started = time.perf_counter()
    for _ in range(200):
        dist.all_gather(parts, own)
    return 1e6 * (time.perf_counter() - started) / 200


def work(rank: int, folder: str, rounds: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    whole = torch.randn(STEPS, ROWS, INPUTS, generator=torch.Generator().manual_seed(1))
    half = whole[:, rank * ROWS // 2 : (rank + 1) * ROWS // 2]
    found: dict[str, Any] = {}
    for norm in NORMS:
        kinds = {
            "kernels, all rows": (layer(norm, "auto", False), whole),
            "reference, all rows": (layer(norm, "reference", False), whole),
            "kernels, half of the rows": (layer(norm, "auto", False), half),
            "reference, half of the rows": (layer(norm, "reference", False), half),
            "synchronized, half of the rows": (layer(norm, "auto", True), half),
        }
        outputs = {kind: update(*case)[0] for kind, case in kinds.items()}
        expected = outputs["kernels, all rows"][:, rank * ROWS // 2 : (rank + 1) * ROWS // 2]
        torch.testing.assert_close(outputs["synchronized, half of the rows"], expected, rtol=1e-4, atol=1e-5)
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind, case in kinds.items():
                dist.barrier()
                times[kind].append(update(*case)[1])
        base = times["reference, half of the rows"]
        found[norm] = {
            kind: {
                "milliseconds": round(statistics.median(own), 2),
                "ratio": round(statistics.median(a / b for a, b in zip(own, base, strict=True)), 2),
            }
            for kind, own in times.items()
        }
    microseconds = [exchange() for _ in range(5)]
    if rank == 0:
        result = {"microseconds_of_an_exchange": round(statistics.median(microseconds)), "updates": found}
        Path(folder, "result.json").write_text(json.dumps(result))
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (folder, options.rounds), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
        found = json.loads(Path(folder, "result.json").read_text())
    sizes = {"steps": STEPS, "rows": ROWS, "inputs": INPUTS, "units": UNITS, "processes": 2, "threads": 1}
    result = {**store.host(), **store.session(), **sizes, "rounds": options.rounds, **found}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
