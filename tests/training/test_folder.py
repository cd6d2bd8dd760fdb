"""A run's folder: what it refuses, what it notices, and what there is to go back to."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import CONFIG, PLAN, assert_same_run, assert_same_tensors, rows, run, training
from toy import ToyTask

from bnrnn.training import Plan, RunError, RunFolder, checkpoint
from bnrnn.training.session import Session
from bnrnn.training.session import run as start


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "a")
    first.open(CONFIG, resume=False)
    with pytest.raises(RunError, match="another process"):
        second.open(CONFIG, resume=True)
    first.close()
    second.open(CONFIG, resume=True)
    second.close()


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a")
    folder.open(CONFIG, resume=False)
    folder.begin(CONFIG, {})
    folder.close()
    with pytest.raises(RunError, match="--resume"):
        RunFolder(tmp_path / "a").open(CONFIG, resume=False)
    with pytest.raises(RunError, match="seed 1, not 2"):
        RunFolder(tmp_path / "a").open({**CONFIG, "config": {"seed": 2}}, resume=True)
    with pytest.raises(RunError, match="precision 32-true, not 64-true"):
        RunFolder(tmp_path / "a").open({**CONFIG, "precision": "64-true"}, resume=True)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write the run folder.*--run-dir"):
        RunFolder(tmp_path / "file" / "run").open(CONFIG, resume=False)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "a", ToyTask(PLAN), max_updates=3)
    with pytest.raises(RunError, match="does not fit this experiment"):
        run(tmp_path / "a", ToyTask(PLAN, norm=None), resume=True)


@pytest.mark.parametrize(
    "content", [b"[]", b"7", b'{"experiment": "toy"}', b'{"experiment": 1, "config": [], "precision": 2}', b"{"]
)
def test_a_config_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    for call in (lambda f: f.read_config(), lambda f: f.open(CONFIG, resume=True)):
        with pytest.raises(RunError, match=r"config\.json is damaged"):
            call(RunFolder(tmp_path))


def test_an_environment_that_is_no_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(RunError, match=r"environment\.json is damaged .it holds a dict, not a list"):
        RunFolder(tmp_path).add_environment({})


@pytest.mark.parametrize("gone", [["config.json"], ["checkpoint.safetensors", "previous.safetensors"]])
@pytest.mark.parametrize("resume", [True, False])
def test_results_without_config_or_checkpoint_are_not_replaced(tmp_path: Path, gone: list[str], resume: bool) -> None:
    run(tmp_path / "a", ToyTask(PLAN), max_updates=9)
    for name in gone:
        (tmp_path / "a" / name).unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.name != ".lock"}
    words = "no config.json" if "config.json" in gone else "its checkpoint is gone" if resume else "holds a run already"
    with pytest.raises(RunError, match=words):
        run(tmp_path / "a", ToyTask(PLAN), resume=resume)
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.name != ".lock"} == before


def test_a_run_killed_before_its_first_update_starts_afresh(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a")
    folder.open(CONFIG, resume=False)
    folder.begin(CONFIG, {"toy": "0" * 64})
    folder.close()
    run(tmp_path / "a", ToyTask(PLAN), resume=True)
    run(tmp_path / "b", ToyTask(PLAN))
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_a_folder_made_in_vain_goes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a")
    folder.open(CONFIG, resume=False)
    assert (tmp_path / "a").is_dir()
    folder.close()
    assert not (tmp_path / "a").exists()


def test_metrics_that_were_shortened_are_refused_and_left_alone(tmp_path: Path) -> None:
    run(tmp_path / "a", ToyTask(PLAN), max_updates=20)
    path = tmp_path / "a" / "metrics.jsonl"
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:100], b""):
        path.write_bytes(content)
        with pytest.raises(RunError, match=rf"metrics.jsonl was shortened: it has {len(content):,} bytes, and had"):
            run(tmp_path / "a", ToyTask(PLAN), resume=True)
        assert path.read_bytes() == content
    path.unlink()
    with pytest.raises(RunError, match="was shortened: it has 0 bytes"):
        run(tmp_path / "a", ToyTask(PLAN), resume=True)
    path.write_bytes(whole + b'{"kind": "train", "upd')  # as a killed process leaves it
    run(tmp_path / "a", ToyTask(PLAN), resume=True)
    run(tmp_path / "b", ToyTask(PLAN))
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_other_data_are_noticed(tmp_path: Path) -> None:
    run(tmp_path / "a", ToyTask(PLAN), max_updates=9)
    assert json.loads((tmp_path / "a" / "sources.json").read_text()) == {"toy": "0" * 64}
    changed, moved = ToyTask(PLAN), ToyTask(PLAN)
    changed.sources, moved.sources = {"toy": "1" * 64}, {"elsewhere": "0" * 64}
    with pytest.raises(RunError, match=r"toy: not the data that the run in .* was trained on"):
        run(tmp_path / "a", changed, resume=True)
    run(tmp_path / "a", moved, resume=True)
    (tmp_path / "a" / "sources.json").unlink()  # a run of a version that kept none
    run(tmp_path / "a", changed, resume=True)
    with pytest.raises(RunError, match="not the data"):
        RunFolder(tmp_path / "a").check_sources({"toy": "0" * 64})


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("how", [damage, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    tmp_path: Path, how: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "a", ToyTask(PLAN), max_updates=9)
    how(tmp_path / "a" / "checkpoint.safetensors")
    run(tmp_path / "a", ToyTask(PLAN), resume=True)
    assert "going on from the checkpoint before it, of update 7" in capsys.readouterr().err
    run(tmp_path / "b", ToyTask(PLAN))
    assert_same_run(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("length", [0, 5, 100, 2000])
def test_damaged_checkpoints_are_refused(tmp_path: Path, length: int) -> None:
    run(tmp_path / "a", ToyTask(PLAN), max_updates=3)
    for name in ("checkpoint.safetensors", "previous.safetensors"):
        path = tmp_path / "a" / name
        path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RunError, match="not a whole checkpoint"):
        run(tmp_path / "a", ToyTask(PLAN), resume=True)


def test_every_flipped_bit_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(
        path, {"a": torch.randn(3), "b": torch.ones(1, dtype=torch.long)}, {"update": 5, "sha256": "0" * 64}
    )
    good = path.read_bytes()
    assert checkpoint.load(path)[1] == {"update": 5, "sha256": "0" * 64}
    for place in range(len(good)):
        for bit in (1, 128):
            content = bytearray(good)
            content[place] ^= bit
            path.write_bytes(content)
            with pytest.raises(RunError, match="not a whole checkpoint"):
                checkpoint.load(path)


def test_a_checkpoint_of_a_version_without_digests_is_read(tmp_path: Path) -> None:
    import safetensors.torch

    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors.torch.save({"a": torch.arange(3.0)}, metadata={"facts": json.dumps({"update": 5})}))
    tensors, facts = checkpoint.load(path)
    assert tensors["a"].tolist() == [0, 1, 2]
    assert facts == {"update": 5}


def test_what_reads_back_as_something_else_does_not_replace_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, previous = tmp_path / "a.safetensors", tmp_path / "previous.safetensors"
    checkpoint.save(path, {"a": torch.zeros(3)}, {"update": 1}, previous)
    before = path.read_bytes()
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: real(path)[:-1] + b"!")  # a disk that fails
    with pytest.raises(RunError, match=r"a\.safetensors does not read back"):
        checkpoint.save(path, {"a": torch.ones(3)}, {"update": 2}, previous)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file can grow beyond ``room`` bytes: a write beyond fails as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_names_the_file_and_leaves_no_part(tmp_path: Path) -> None:
    run(tmp_path / "a", ToyTask(PLAN), max_updates=9)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    size = (tmp_path / "a" / "checkpoint.safetensors").stat().st_size
    with full_disk(size - 10), pytest.raises(RunError, match=r"cannot write .*checkpoint\.safetensors .File too large"):
        run(tmp_path / "a", ToyTask(PLAN), resume=True)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == files
    metrics = checkpoint.load(tmp_path / "a" / "checkpoint.safetensors")[1]["metrics_bytes"]
    with full_disk(metrics + 10), pytest.raises(RunError, match=r"cannot write .*metrics\.jsonl .File too large"):
        run(tmp_path / "a", ToyTask(PLAN), resume=True)
    run(tmp_path / "a", ToyTask(PLAN), resume=True)
    run(tmp_path / "b", ToyTask(PLAN))
    assert_same_run(tmp_path / "a", tmp_path / "b")


def described(**options: Any) -> dict[str, Any]:
    return {**CONFIG, "config": {"seed": 1, "evaluate_every": 0, **options}}


def session(
    path: Path, every: int, task: ToyTask | None = None, config: dict[str, Any] | None = None, **how: Any
) -> Any:
    plan = Plan(updates=40, log_every=3, evaluate_every=every, selection="loss", clip=1.0)
    options = Session(device="cpu", quiet=True, resume=True, **how)
    config = config or described(evaluate_every=every)
    return start(config, lambda: task or ToyTask(plan), options, RunFolder(path), "a command")


def test_other_evaluation_options_go_on_with_the_same_training(tmp_path: Path) -> None:
    session(tmp_path / "a", 0, max_updates=16)
    held = checkpoint.load(tmp_path / "a" / "checkpoint.safetensors")[1]["best"]
    assert held["update"] in (7, 14)
    result = session(tmp_path / "a", 5)
    session(tmp_path / "same", 0)
    first, second = (checkpoint.load(tmp_path / name / "checkpoint.safetensors") for name in ("a", "same"))
    assert_same_tensors(training(first[0]), training(second[0]))
    assert [row["update"] for row in rows(tmp_path / "a") if row["kind"] == "evaluation"] == [
        0,
        7,
        14,
        20,
        25,
        30,
        35,
        40,
    ]
    assert [row for row in rows(tmp_path / "a") if row["kind"] == "train"] == [
        row for row in rows(tmp_path / "same") if row["kind"] == "train"
    ]
    assert result["selected"]["update"] >= 20  # what was chosen by other rules is forgotten
    environment = json.loads((tmp_path / "a" / "environment.json").read_text())
    assert [entry.get("changed") for entry in environment] == [None, {"evaluate_every": [0, 5]}]
    assert json.loads((tmp_path / "a" / "config.json").read_text())["config"]["evaluate_every"] == 5


def test_the_best_model_is_forgotten_at_once(tmp_path: Path) -> None:
    """A process that is killed right after the change must not leave a best model of other rules behind."""

    class Killed(ToyTask):
        def batch(self, epoch: int, position: int) -> Any:
            raise KeyboardInterrupt

    session(tmp_path / "a", 0, max_updates=16)
    with pytest.raises(KeyboardInterrupt):
        session(tmp_path / "a", 5, Killed(Plan(updates=40, evaluate_every=5, selection="loss")))
    tensors, facts = checkpoint.load(tmp_path / "a" / "checkpoint.safetensors")
    assert (facts["update"], facts["best"], facts["waited"]) == (16, None, 0)
    assert not any(name.startswith("best/") for name in tensors)


def test_options_that_change_training_are_refused(tmp_path: Path) -> None:
    session(tmp_path / "a", 0, max_updates=3)
    with pytest.raises(RunError, match=r"another config .seed 1, not 2.;"):
        session(tmp_path / "a", 5, config=described(evaluate_every=5, seed=2))
    before = json.loads((tmp_path / "a" / "config.json").read_text())
    assert before["config"] == {"seed": 1, "evaluate_every": 0}


def test_a_config_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    session(tmp_path / "a", 0, max_updates=9)
    path = tmp_path / "a" / "config.json"
    held = json.loads(path.read_text())
    del held["config"]["evaluate_every"], held["evaluation_options"]
    path.write_text(json.dumps(held))
    folder = RunFolder(tmp_path / "a")
    with pytest.raises(RunError, match="seed 1, not 2"):
        folder.check(described(seed=2), True, lambda held: {**held, "config": {"evaluate_every": 0, **held["config"]}})
    changes = folder.check(described(), True, lambda held: {**held, "config": {"evaluate_every": 0, **held["config"]}})
    assert changes == {}


def test_a_run_starts_from_the_selected_weights_of_another(tmp_path: Path) -> None:
    session(tmp_path / "first", 0, max_updates=20)
    tensors, facts = checkpoint.load(tmp_path / "first" / "checkpoint.safetensors")
    weights, update = checkpoint.model_of(tensors, facts, "best")
    first = ToyTask(Plan(updates=40, selection="loss"), seed=2)
    session(tmp_path / "second", 0, first, described(seed=2), init_from=tmp_path / "first", max_updates=1)
    start_of_second = checkpoint.load(tmp_path / "second" / "previous.safetensors")
    assert start_of_second[1]["update"] == 0
    assert_same_tensors(checkpoint.below("model", start_of_second[0]), weights)
    config = json.loads((tmp_path / "second" / "config.json").read_text())
    assert config["init_from"] == {"experiment": "toy", "run": "first", "update": update}

    def again(**how: Any) -> Any:
        task = ToyTask(Plan(updates=40, selection="loss"), seed=2)
        return session(tmp_path / "second", 0, task, described(seed=2), **how)

    shutil.rmtree(tmp_path / "first")  # it is needed no more
    again(init_from=tmp_path / "first", max_updates=3)
    assert again()["updates"] == 40
    with pytest.raises(RunError, match="started from first; name another folder"):
        again(init_from=tmp_path / "third")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    session(tmp_path / "first", 0, max_updates=3)
    with pytest.raises(RunError, match="first does not fit this experiment's"):
        session(tmp_path / "b", 0, ToyTask(PLAN, norm=None), init_from=tmp_path / "first")
    assert not (tmp_path / "b").exists()
    with pytest.raises(RunError, match="nowhere is not a run folder"):
        session(tmp_path / "b", 0, init_from=tmp_path / "nowhere")
    session(tmp_path / "c", 0, max_updates=3)
    with pytest.raises(RunError, match="started from random weights"):
        session(tmp_path / "c", 0, init_from=tmp_path / "first")
