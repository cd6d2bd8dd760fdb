"""How a character model does on longer sequences than it was trained on: Cooijmans et al. 2017, Figure 4b."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bnrnn.experiments.language.characters import CharacterConfig, CharacterTask, score_pieces
from bnrnn.experiments.opened import open_run
from bnrnn.training import RunError
from bnrnn.training.evaluation import evaluate_statistics, has_batch_statistics, with_population_statistics

LENGTHS = tuple(range(100, 1001, 100))


def measure(
    path: Path, lengths: Sequence[int] = LENGTHS, device: str = "auto", tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Scores the test part in pieces of each length, each from the initial state.

    Beyond the training length the last population statistics serve. What is found is returned and written to
    ``lengths.json`` in the run folder.

    Args:
        path: run folder of a character model.
        lengths: symbols in a piece.
        device: where to compute.
        tell: is called with a line for each number.

    Raises:
        RunError: no such run, or it is not one of a character model.
        ValueError: a length out of range.
    """
    run = open_run(path, device=device)
    if not isinstance(run.config, CharacterConfig):
        raise RunError(f"{path} is a run of {run.experiment.name}, which is no character model")
    task: CharacterTask = run.task
    test = task.corpus.test
    for length in lengths:
        if not 2 <= length <= len(test) // 2:
            raise ValueError(f"lengths must be 2 to {len(test) // 2:,}, half the test part; got {length:,}")
    model, rows = task.model, run.config.evaluation_batch_size
    found: dict[str, list[float]] = {}
    with run.fabric.autocast():
        kinds = ("population", "batch") if has_batch_statistics(model) else ("population",)
        for kind in kinds:
            judged = with_population_statistics(task, model, run.fabric.device) if kind == "population" else model
            found[kind] = []
            for length in lengths:
                with evaluate_statistics(judged, kind):
                    bits = score_pieces(judged, test, length, rows, task.seed).bits
                tell(f"{kind} statistics, length {length}: {bits:.4f} bits per character")
                found[kind].append(bits)
    record = {
        "update": run.update,
        "norm": run.config.norm,
        "rows": task.rows("test", "batch"),
        "text": task.corpus.name,
        "lengths": list(lengths),
        "bpc": found,
    }
    run.folder.write_json(path / "lengths.json", record)
    return record
