"""The Attentive Reader's updates at the paper's sizes, and the preparation of a corpus of the CNN's form.

python -m benchmarks.reading updates     time and memory of an update, each variant against the LSTM in one run
python -m benchmarks.reading corpus      memory and time of bnrnn data prepare cnn on a made-up corpus
python -m benchmarks.reading table       what results/reading.json holds, in Markdown
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.made_up_cnn import members, write_archive
from bnrnn.data.cloze import RESERVED, Words
from bnrnn.data.corpus import Vocabulary
from bnrnn.experiments.reading.model import VARIANTS, Architecture, AttentiveReader, Variant, negative_log_likelihood
from bnrnn.training import Adam, clip_gradients

RESULTS = Path(__file__).parent / "results" / "reading.json"
LENGTHS = {"top4": 90, "full": 780}
VOCABULARY, BATCH, UNITS, QUESTION = 65_829, 64, 240, 13


def update(variant: Variant, words: int) -> Callable[[], None]:
    """A training update on passages of about so many words: forward, backward, clipping, Adam."""
    vocabulary = Words(Vocabulary((*RESERVED, *(f"w{k}" for k in range(VOCABULARY - 4))), unknown=RESERVED[2]))
    architecture = Architecture(variant=variant, units=UNITS, bidirectional=variant == "bn-e-star-star")
    model = AttentiveReader(architecture, vocabulary)
    optimizer = Adam(model.parameters(), lr=8e-5)
    random = torch.Generator().manual_seed(1)
    lengths = torch.randint(words * 2 // 3, words * 4 // 3, (BATCH,), generator=random)
    passage = torch.randint(4, VOCABULARY, (int(lengths.max()), BATCH), generator=random)
    question = torch.randint(4, VOCABULARY, (QUESTION, BATCH), generator=random)
    asked = torch.randint(QUESTION // 2, QUESTION + 1, (BATCH,), generator=random)
    answers = torch.randint(4, VOCABULARY, (BATCH,), generator=random)

    def run() -> None:
        logits, _ = model(passage, lengths, question, asked)
        loss = negative_log_likelihood(logits, answers)
        optimizer.zero_grad()
        loss.backward()
        clip_gradients(model.parameters(), 10.0)
        optimizer.step()

    return run


def peak() -> float:
    """The most memory that this process has had, in MiB."""
    return _high_water(Path("/proc/self/status"))


def measure(variant: Variant, words: int, pairs: int) -> dict[str, Any]:
    """Medians over alternating updates of the variant and of the LSTM, in one process."""
    torch.set_num_threads(1)
    runs = {"lstm": update("lstm", words), variant: update(variant, words)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(pairs + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if number:  # the first of each warms up
                times[name].append(time.perf_counter() - start)
    ratios = [own / other for own, other in zip(times[variant], times["lstm"], strict=True)]
    return {
        "seconds": statistics.median(times[variant]),
        "lstm_seconds": statistics.median(times["lstm"]),
        "ratio": statistics.median(ratios),
        "pairs": pairs,
    }


def memory(variant: Variant, words: int) -> float:
    """The peak of a process that makes two updates."""
    torch.set_num_threads(1)
    run = update(variant, words)
    run()
    run()
    return peak()


def _child(*arguments: str) -> Any:
    command = [sys.executable, "-m", "benchmarks.reading", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def updates(pairs: int, tasks: list[str], variants: list[Variant]) -> list[dict[str, Any]]:
    found = []
    for task in tasks:
        words = LENGTHS[task]
        base = _child("memory", "lstm", str(words))
        for variant in variants:
            row = {"task": task, "words": words, "variant": variant}
            row |= _child("measure", variant, str(words), "--pairs", str(pairs))
            row |= {"mib": _child("memory", variant, str(words)), "lstm_mib": base}
            row["memory_ratio"] = row["mib"] / base
            print(row, flush=True)
            found.append(row)
    return found


# A process leaves what the system says of its own memory; ru_maxrss has that of the process it came from as well.
_PREPARE = """
import sys, pathlib
from bnrnn.cli import main
try:
    main(sys.argv[2:])
finally:
    pathlib.Path(sys.argv[1]).write_text(pathlib.Path("/proc/self/status").read_text())
"""


def _high_water(status: Path) -> float:
    """The most memory that a process has had in MiB, from its ``/proc/.../status``."""
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def corpus(count: int) -> dict[str, Any]:
    """Prepares a made-up corpus in a process of its own, from an archive in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = write_archive(folder / "cnn.tgz", members(count))
        environment = {**os.environ, "BNRNN_CACHE": str(folder / "cache")}
        start = time.perf_counter()
        told = folder / "status"
        process = subprocess.Popen(
            [sys.executable, "-c", _PREPARE, str(told), "data", "prepare", "cnn", "--from", str(archive)],
            env=environment,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(f"the preparation failed with {status}")
        cache = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
        return {
            "questions": count,
            "archive_bytes": archive.stat().st_size,
            "cache_bytes": cache,
            "seconds": seconds,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_mib": _high_water(told),
        }


def table() -> str:
    held = json.loads(RESULTS.read_text())
    lines = [
        "| passage | variant | update (s) | LSTM (s) | time, ratio | memory (MiB) | LSTM (MiB) | memory, ratio |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in held["updates"]:
        lines.append(
            f"| {row['words']} words | {row['variant']} | {row['seconds']:.2f} | {row['lstm_seconds']:.2f}"
            f" | {row['ratio']:.2f} | {row['mib']:.0f} | {row['lstm_mib']:.0f} | {row['memory_ratio']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    timing = commands.add_parser("updates")
    timing.add_argument("--pairs", type=int, default=3)
    timing.add_argument("--tasks", nargs="+", choices=list(LENGTHS), default=list(LENGTHS))
    timing.add_argument("--variants", nargs="+", choices=VARIANTS[1:], default=list(VARIANTS[1:]))
    commands.add_parser("corpus").add_argument("--questions", type=int, default=100_000)
    commands.add_parser("table")
    for name in ("measure", "memory"):
        one = commands.add_parser(name)
        one.add_argument("variant", choices=VARIANTS)
        one.add_argument("words", type=int)
        one.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    if options.command == "measure":
        print(json.dumps(measure(options.variant, options.words, options.pairs)))
    elif options.command == "memory":
        print(json.dumps(memory(options.variant, options.words)))
    elif options.command == "table":
        print(table())
    else:
        held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        if options.command == "updates":
            found: Any = updates(options.pairs, options.tasks, options.variants)
            kept = [row for row in held.get("updates", []) if row["task"] not in options.tasks]
            held["updates"] = [*kept, *found]
        else:
            held["corpus"] = corpus(options.questions)
        RESULTS.write_text(json.dumps({**held, "torch": torch.__version__, "threads": 1}, indent=1) + "\n")


if __name__ == "__main__":
    main()
