"""The benchmarks' machinery: rows survive a kill, runs do not mix, and the README shows the committed results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.__main__ import RESULTS
from benchmarks.plan import Measurement, plan
from benchmarks.plot import plot
from benchmarks.store import COLUMNS, KEY, ROOT, Results, key, machine
from benchmarks.subjects import SUBJECTS, SUITES, TASKS, Call, CompiledCell, Shape, make
from benchmarks.table import README, between, of_folders, tables

import bnrnn
from benchmarks import compare, measure, run

SMALL = Shape(3, 4, 2, 5, "small")
FACTS = {
    "code": "a", "budget": 0.1, "torch": "2", "python": "3", "processor": "p", "cores": 2, "system": "s",
    "kernels": {"instruction_set": "avx2"}, "sessions": [{"date": "2026-01-01", "load": 0.0}],
}  # fmt: skip


def measurement(**changes: Any) -> Measurement:
    return Measurement(**{"suite": "tasks", "shape": SMALL, "subject": "LSTM cpu", "mode": "train", "threads": 1,
                          "huge_pages": False, **changes})  # fmt: skip


def row(m: Measurement, ratio: float = 0.5) -> dict[str, Any]:
    values = dict(zip(KEY, m.key, strict=True))
    times = {column: 1.0 for column in COLUMNS if "milliseconds" in column}
    return {**values, "name": m.shape.name, "peer": m.peer, "rounds": 6, **times,
            "ratio": ratio, "ratio_25": ratio - 0.1, "ratio_75": ratio + 0.1}  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Results:
    found = Results(tmp_path / "results")
    found.start(FACTS)
    return found


def test_the_readmes_tables_are_those_of_the_results() -> None:
    _, inside, _ = between(README.read_text())
    assert inside.strip() == of_folders(RESULTS).strip()


def test_the_committed_rows_are_of_known_measurements_and_none_is_double() -> None:
    rows = Results(RESULTS).rows()
    assert len({key(r) for r in rows}) == len(rows) > 0
    assert list(rows[0]) == COLUMNS
    assert all(SUBJECTS[r["subject"]].peer == r["peer"] and r["suite"] in SUITES for r in rows)


def test_the_plan_has_every_measurement_once_and_the_important_ones_first() -> None:
    measurements = list(plan())
    keys = [m.key for m in measurements]
    assert len(set(keys)) == len(keys)
    assert {m.suite for m in measurements} == set(SUITES)
    assert {m.subject for m in measurements} == set(SUBJECTS)
    assert all(m.shape.batch > 1 for m in measurements if m.mode == "train")
    tasks = len(TASKS)
    first = [(m.suite, m.subject, m.mode, m.threads, m.huge_pages) for m in measurements[: 6 * tasks : tasks]]
    assert first == [
        (suite, "LSTM cpu", mode, 2, huge)
        for huge in (False, True)
        for suite, mode in (("tasks", "train"), ("tasks", "eval"), ("memory", "train"))
    ]
    assert sum(m.expected(5.0) for m in measurements) < 50 * 60


def test_subjects_take_turns_and_each_is_first_in_every_other_round() -> None:
    calls: list[str] = []
    ours, peers = measure.alternate(lambda: calls.append("a"), lambda: calls.append("b"), 0.0, 6)
    assert "".join(calls) == "abab" + "abba" * 3
    assert len(ours) == len(peers) == 6


def test_the_budget_bounds_the_rounds() -> None:
    ours, _ = measure.alternate(lambda: None, lambda: None, 60.0, 6)
    assert len(ours) == measure.MOST_ROUNDS


@pytest.mark.parametrize("huge_pages", [False, True])
def test_a_measurement_is_a_row(huge_pages: bool) -> None:
    found = run.take(measurement(huge_pages=huge_pages), 0.01)
    assert key({k: str(v) for k, v in found.items()}) == measurement(huge_pages=huge_pages).key
    assert found["rounds"] >= 6
    assert 0 < found["ratio_25"] <= found["ratio"] <= found["ratio_75"]
    assert 0 < found["peer_milliseconds_25"] <= found["peer_milliseconds_75"]
    assert set(found) <= set(COLUMNS)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("suite", ["plain", "packed", "projected"])
def test_plain_layers_are_timed_with_what_they_are_given(suite: str) -> None:
    call = make("LSTM plain", SMALL, "train", suite)
    assert isinstance(call, Call)
    output = call.output()
    rows = call.x.data.shape[0] if suite == "packed" else SMALL.steps
    assert output.shape[0] == rows <= SMALL.steps * SMALL.batch
    assert output.shape[-1] == (SMALL.units // 2 if suite == "projected" else SMALL.units)
    assert call.cotangent is not None
    assert call.cotangent.shape == output.shape
    found = run.take(measurement(suite=suite, subject="LSTM plain"), 0.01)
    assert found["rounds"] >= 6
    assert found["peer"] == "nn.LSTM"


def test_revisions_are_compared_in_turn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With itself as the other revision."""

    @contextmanager
    def revision(name: str) -> Iterator[Path]:
        yield ROOT / "src"

    monkeypatch.setattr(compare, "revision", revision)
    table = compare.compare([measurement(), measurement(suite="packed", subject="GRU plain")], "HEAD", 0.01)
    head, _, *rows = table.splitlines()
    assert "ms at HEAD" in head
    assert [row.split(" | ")[:4] for row in rows] == [
        ["| LSTM cpu", "3x4x2x5", "train", "1"],
        ["| GRU plain, packed", "3x4x2x5", "train", "1"],
    ]
    assert all(int(row.split(" | ")[4]) >= 6 for row in rows)  # rounds: as many as the time allows, but six
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_each_revision_has_its_own_package() -> None:
    other = run.process(measurement(), {}, Path("/elsewhere"))
    assert other["env"]["PYTHONPATH"] == "/elsewhere"
    assert other["cwd"] == ROOT


def test_a_process_that_ends_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bnrnn").mkdir()
    (tmp_path / "bnrnn" / "__init__.py").write_text("raise SystemExit(3)")
    with pytest.raises(subprocess.CalledProcessError):
        compare.paired(measurement(), (tmp_path, tmp_path), 0.01)


def test_an_unknown_revision_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="'none' cannot be checked out"),
        compare.revision("none"),
    ):
        pass


def test_memory_is_measured_in_processes_of_their_own() -> None:
    shape = Shape(64, 64, 64, 64)
    found = run.take(measurement(suite="memory", shape=shape), 0.01)
    output = 64**3 * 4 / 2**20
    assert 2 * output < found["megabytes"] < 100 * output  # it keeps at least the states
    assert 0 <= found["kept_megabytes"] <= found["megabytes"]
    assert found["ratio"] == pytest.approx(found["megabytes"] / found["peer_megabytes"])
    assert set(found) <= set(COLUMNS)


def test_memory_kept_from_step_to_step_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subject that keeps more with every step has its peak in the last; large pieces come from the system."""
    kept: list[torch.Tensor] = []

    class Keeping:
        def __init__(self, name: str, shape: Shape, mode: str) -> None: ...

        def __call__(self) -> None:
            kept.append(torch.ones(2**24))

    monkeypatch.setattr(measure, "Call", Keeping)
    found = measure.measure_memory("any", SMALL)
    assert found["megabytes"] == pytest.approx(64 * measure.MEMORY_STEPS, abs=4)
    assert found["kept_megabytes"] == pytest.approx(64 * measure.MEMORY_STEPS, abs=4)


def test_a_stream_and_a_single_row_can_be_timed() -> None:
    for name in ("LSTM stream", "nn.LSTMCell"):
        make(name, Shape(1, 1, 3, 5), "stream")()
    make("LSTM cpu", Shape(4, 1, 3, 5), "eval")()


def test_the_compiled_cell_computes_the_reference() -> None:
    layer, cell = bnrnn.LSTM(3, 5, norm="recurrent", backend="reference"), CompiledCell(3, 5, compiled=False)
    of_layer = layer.state_dict()
    weights = {name: of_layer[f"{name}_l0"] for name in ("weight_ih", "weight_hh")}
    cell.load_state_dict({**cell.state_dict(), **weights, "bias": of_layer["bias_ih_l0"]})
    x = torch.randn(7, 6, 3)
    torch.testing.assert_close(cell(x)[0], layer(x)[0], rtol=1e-4, atol=1e-5)


def test_a_new_run_replaces_the_rows_and_a_resumed_one_keeps_them(results: Results) -> None:
    results.append(row(measurement()))
    results.resume(FACTS)
    assert [key(r) for r in results.rows()] == [measurement().key]
    assert len(results.facts()["sessions"]) == 2
    results.start(FACTS)
    assert results.rows() == []


def test_a_half_written_row_is_dropped(results: Results) -> None:
    results.append(row(measurement()))
    whole = results.table.read_text()
    results.table.write_text(whole + "tasks,small,3,4")
    assert len(results.rows()) == 1
    results.resume(FACTS)
    assert results.table.read_text() == whole


@pytest.mark.parametrize(
    ("name", "value"), [("code", "b"), ("budget", 1.0), ("torch", "3"), ("processor", "q"), ("kernels", {})]
)
def test_a_run_of_another_configuration_is_not_gone_on_with(results: Results, name: str, value: Any) -> None:
    results.append(row(measurement()))
    before = results.table.read_text()
    with pytest.raises(ValueError, match=name):
        results.resume({**FACTS, name: value})
    assert results.table.read_text() == before
    assert len(results.facts()["sessions"]) == 1


def test_a_run_takes_only_what_is_lacking_and_goes_on_after_a_failure(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, broken, left = measurement(), measurement(mode="eval"), measurement(threads=2)
    results.append(row(done))
    taken = []

    def take(m: Measurement, budget: float) -> dict[str, Any]:
        taken.append(m)
        if m == broken:
            raise subprocess.CalledProcessError(1, "measure")
        return {**row(m), "huge_pages": 0}

    monkeypatch.setattr(run, "take", take)
    assert run.run([done, broken, left], results, 0.1) == [broken]
    assert taken == [broken, left]
    assert [key(r) for r in results.rows()] == [done.key, left.key]
    assert "load_at_end" in results.facts()["sessions"][-1]


def test_a_killed_run_keeps_its_rows(tmp_path: Path) -> None:
    """Killed without warning after the first row, then resumed."""
    code = (
        "import sys; from pathlib import Path; from benchmarks import run, store, subjects\n"
        "from benchmarks.plan import Measurement\n"
        "shape = subjects.Shape(3, 4, 2, 5)\n"
        "ms = [Measurement('tasks', shape, 'LSTM cpu', mode, 1, False) for mode in ('train', 'eval')]\n"
        "results = store.Results(Path(sys.argv[1])); results.resume(store.machine(0.01))\n"
        "run.run(ms, results, 0.01)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert "1/2" in process.stdout.readline()
        os.killpg(process.pid, signal.SIGKILL)
    results = Results(tmp_path)
    [first] = results.rows()
    again = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "1/1" in again.stdout
    assert results.rows()[0] == first
    assert [r["mode"] for r in results.rows()] == ["train", "eval"]


def test_the_facts_are_those_of_this_machine() -> None:
    facts = machine(1.0)
    assert facts["torch"] == torch.__version__
    assert facts == {**machine(1.0), "sessions": facts["sessions"]}


def test_tables_and_plot_leave_out_what_was_not_run(results: Results) -> None:
    assert "Nothing" in tables(results)
    results.append(row(measurement()))
    text = tables(results)
    assert "| task | 1 thread | ms, 1 thread |" in text
    assert "0.50 (0.40-0.60)" in text
    assert "GRU" not in text
    results.append(row(measurement(subject="LSTM reference"), ratio=9.0))
    for rows in (4, 8):
        results.append(row(measurement(suite="batch", shape=Shape(3, rows, 2, 5))))
    assert "BN-LSTM and `nn.LSTM` at 3 x ... x 2 x 5" in tables(results)
    plot(results)
    assert results.table.with_name("times.svg").stat().st_size > 10_000
