"""An update of the deep bidirectional LSTM of speech, with and without sequence-wise normalization: seconds and memory.

    python -m benchmarks.speech [--rounds 3] [--out benchmarks/results/speech.json]

Both are trained on a generated directory of WSJ's sizes: 41 features with both deltas, 3,546 targets, lengths to 1,600
frames of which those over 1,300 are left out, 500 utterances, 24 in an update. Before anything is timed, the
loss of a batch has to be the mean of its utterances' weighted by their frames, in evaluation.
Each model's peak memory is that of a process of its own. Updates alternate between the models on the same batches, with
one thread; seconds of the processor are less disturbed by what else runs than those of the clock. ``waiting`` is the
share of an update's time that waits for its batch, which another process builds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import bnrnn
from benchmarks.kaldi_data import WSJ, generate
from benchmarks.store import machine
from bnrnn.data.speech import tensors
from bnrnn.experiments.speech.config import KaldiConfig
from bnrnn.experiments.speech.task import SpeechTask
from bnrnn.experiments.speech.wsj import build

NORMS = ("none", "input-sequence")


def verify(task: SpeechTask) -> None:
    """Padding enters no loss.

    Raises:
        SystemExit: it does.
    """
    model, part = task.model, task.parts["valid"]
    if task.config.norm != "none":
        bnrnn.estimate_population_statistics(model, itertools.islice(task.population_batches(), 1))
    model.eval()
    indices = [0, 1, 2]
    with torch.no_grad():
        whole = model(**tensors(part.batch(indices)))[0].item()
        each = [model(**tensors(part.batch([index])))[0].item() for index in indices]
    frames = part.lengths[indices]
    alone = float((each * frames).sum() / frames.sum())
    if abs(whole - alone) > 1e-4 * alone:
        raise SystemExit(f"{task.config.norm}: a batch's loss is {whole}, its utterances' {alone}; nothing is timed")


def update(task: SpeechTask, optimizer: torch.optim.Optimizer, place: tuple[int, int]) -> dict[str, float]:
    started = time.perf_counter()
    batch = task.batch(*place)
    got, spent = time.perf_counter(), time.process_time()
    task.model.train()
    step = task.loss(task.model, batch, {})
    optimizer.zero_grad()
    step.loss.backward()
    optimizer.step()
    done, spent = time.perf_counter(), time.process_time() - spent
    frames = int(batch["lengths"].sum())
    return {
        "seconds": done - got,
        "processor_seconds": spent,
        "waiting": (got - started) / (done - started),
        "frames": frames,
    }


def peak(config: KaldiConfig, queue: Any) -> None:
    """Peak memory of a process that does the epoch's largest update, in MiB, beside that before it."""
    torch.set_num_threads(1)
    task = build(config)
    optimizer, before = task.optimizer(), _peak()
    lengths = task.parts["train"].lengths
    frames = [int(lengths[batch].max()) * len(batch) for batch in task._batches(0)]
    done = update(task, optimizer, (0, frames.index(max(frames))))
    queue.put({"frames": int(done["frames"]), "before": round(before), "peak": round(_peak())})
    task.loader.close()


def measured(config: KaldiConfig) -> dict[str, int]:
    """What :func:`peak` finds in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=peak, args=(config, queue))
    process.start()
    found = queue.get()
    process.join()
    return found


def _peak() -> float:
    """MiB; unlike getrusage's it does not begin with the parent's."""
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "speech.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts = machine(0)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        data, alignments = generate(Path(folder), **WSJ)
        print(f"generated in {time.perf_counter() - started:.0f} s", flush=True)
        configs = {
            norm: KaldiConfig(norm=norm, data=str(data), alignments=str(alignments), target_count=WSJ["classes"])
            for norm in NORMS
        }
        started = time.perf_counter()
        tasks = {norm: build(config) for norm, config in configs.items()}
        examined = (time.perf_counter() - started) / len(tasks)
        for task in tasks.values():
            verify(task)
        print("right; timing", flush=True)
        optimizers = {norm: task.optimizer() for norm, task in tasks.items()}
        rows: dict[str, list[dict[str, float]]] = {norm: [] for norm in NORMS}
        for position in range(options.rounds + 1):
            for norm in NORMS:
                row = update(tasks[norm], optimizers[norm], (0, position))
                print(norm, {name: round(value, 4) for name, value in row.items()}, flush=True)
                if position:  # the first starts the worker
                    rows[norm].append(row)
        for task in tasks.values():
            task.loader.close()
        memory = {norm: measured(config) for norm, config in configs.items()}
    found = {
        norm: {
            "seconds": round(statistics.median(row["seconds"] for row in rows[norm]), 3),
            "processor_seconds": round(statistics.median(row["processor_seconds"] for row in rows[norm]), 3),
            "frames": [int(row["frames"]) for row in rows[norm]],
            "frames_per_processor_second": round(
                statistics.median(row["frames"] / row["processor_seconds"] for row in rows[norm])
            ),
            "waiting": round(statistics.median(row["waiting"] for row in rows[norm]), 5),
            "memory_mib": memory[norm],
        }
        for norm in NORMS
    }
    ratio = statistics.median(
        b["processor_seconds"] / a["processor_seconds"]
        for a, b in zip(rows["none"], rows["input-sequence"], strict=True)
    )
    facts_of_data = tasks["none"].facts
    result = {
        **{name: facts[name] for name in facts if name not in ("sessions", "budget")},
        "data": {**WSJ, **facts_of_data, "seconds_to_examine": round(examined, 1)},
        "rounds": options.rounds,
        "threads": 1,
        "models": found,
        "ratio": round(ratio, 3),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
