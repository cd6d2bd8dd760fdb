"""Runs in the form of the Hugging Face hub, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from tests.experiments.programs import KINDS, RAW, write

import bnrnn
import bnrnn.hub
from bnrnn.hub import PretrainedRun
from bnrnn.training import RunError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub.utils, "get_session", forbidden)
    monkeypatch.setattr(huggingface_hub.utils._http, "get_session", forbidden)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_run_is_the_run(kind: str, tmp_path: Path) -> None:
    run = bnrnn.load_run(write(kind, tmp_path / "run"))
    PretrainedRun(tmp_path / "run").save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        "README.md", "config.json", "model.safetensors", "result.json",
    }  # fmt: skip
    found = PretrainedRun.from_pretrained(str(tmp_path / "saved"))
    expected, ours = run(*RAW[kind]), found(*RAW[kind])
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    assert (found.run.update, found.run.metrics) == (run.update, run.metrics)
    assert found.run.vocabulary == run.vocabulary
    assert type(found.run.config) is type(run.config)
    again = bnrnn.load_run(tmp_path / "saved")
    torch.testing.assert_close(again(*RAW[kind]), expected, rtol=0, atol=0)
    held = load_file(tmp_path / "saved" / "model.safetensors")
    assert all(torch.equal(held[name], value) for name, value in run.model.state_dict().items())


def test_the_card_is_the_record(tmp_path: Path) -> None:
    PretrainedRun(write("pixels", tmp_path / "run")).save_pretrained(tmp_path / "saved")
    card = ModelCard.load(tmp_path / "saved" / "README.md")
    assert card.data.library_name == "bnrnn"
    assert card.data.tags == ["batch-normalization", "recurrent", "lstm"]
    for words in (
        "# digits lstm-recurrent-seed1",
        "after Cooijmans et al. 2017, 5.1",
        "https://arxiv.org/abs/1603.09025",
        "The model of update 12",
        "| test | population | error | 0.5 |",
        "| units | 6 |",
        'PretrainedRun.from_pretrained("me/digits")',
    ):
        assert words in card.text


def test_no_path_of_the_machine_is_published(tmp_path: Path) -> None:
    PretrainedRun(write("characters", tmp_path / "run", finished=False)).save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["config"]["text"] == ["gone.txt"]
    assert not (tmp_path / "saved" / "result.json").exists()
    for name in ("README.md", "config.json"):
        assert str(Path.cwd()) not in (tmp_path / "saved" / name).read_text()


def test_a_name_on_the_hub_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PretrainedRun(write("words", tmp_path / "run")).save_pretrained(tmp_path / "saved")
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(name=name, **options)
        return str(tmp_path / "saved")

    monkeypatch.setattr(bnrnn.hub, "snapshot_download", download)
    found = PretrainedRun._from_pretrained(
        model_id="me/words", revision="v1", cache_dir=None, force_download=False, local_files_only=True, token=None
    )
    assert found.run.update == 12
    assert (asked["name"], asked["revision"], asked["local_files_only"]) == ("me/words", "v1", True)
    assert asked["allow_patterns"] == ["config.json", "model.safetensors", "result.json"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        PretrainedRun.from_pretrained(str(tmp_path))
