"""What an experiment writes into a run's config.json, and reads from one of an earlier version."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from bnrnn.experiments.language.ptb_word import PTB_WORD_SMALL
from bnrnn.experiments.language.text8 import TEXT8
from bnrnn.experiments.opened import evaluate_run, open_run
from bnrnn.experiments.pixels.digits import DIGITS
from bnrnn.experiments.pixels.pmnist import PMNIST
from bnrnn.experiments.registry import EXPERIMENTS
from bnrnn.training import RunError, RunFolder
from bnrnn.training.session import Session, run

EARLIER_PMNIST = {  # as version 0.1.0 wrote it, before reports asked for more
    "experiment": "pmnist",
    "label": "lstm-recurrent-seed1",
    "summary": "MNIST pixel by pixel in a fixed random permutation, 784 steps",
    "paper": "Cooijmans et al. 2017, 5.1",
    "target": "Table 1; Figure 3, right",
    "changed": {},
    "config": {
        "cell": "lstm",
        "norm": "recurrent",
        "seed": 1,
        "units": 100,
        "gamma": None,
        "epochs": 200,
        "batch_size": 100,
        "learning_rate": 0.001,
        "rho": 0.9,
        "clip": 1.0,
        "recurrent_init": "identity-candidate",
        "forget_bias": 1.0,
        "cell_shift": True,
        "initial_state": "paper",
        "noise": 0.1,
        "selection": "error",
        "selection_statistics": "batch",
        "population_batch_size": 5000,
        "evaluation_batch_size": 1000,
        "evaluate_every": 0,
        "population_every": 5000,
        "backend": "auto",
    },
    "precision": "32-true",
    "matmul": "highest",
}


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_a_config_is_restored_from_its_json(name: str) -> None:
    experiment = EXPERIMENTS[name]
    config = dataclasses.replace(experiment.config, seed=7, units=3)
    described = json.loads(json.dumps(experiment.describe(config)))
    assert experiment.restore(described) == config
    assert experiment.upgrade(described) == described
    assert {"seed": 7, "units": 3}.items() <= described["changed"].items()
    assert set(described["evaluation_options"]) <= set(described["config"])
    assert {"learning_rate", "seed", "norm", "batch_size"}.isdisjoint(described["evaluation_options"])
    assert set(described["report"]) - {"also", "variant", "group", "training"} == {
        "headline", "better", "axis", "statistics", "comparable", "figure", "options",
    }  # fmt: skip


def test_a_config_of_an_earlier_version_is_brought_to_this_one() -> None:
    upgraded = PMNIST.upgrade(EARLIER_PMNIST)
    assert upgraded["precision"] == "32-true"
    assert upgraded["config"]["evaluation_batch_size"] == 1000
    assert upgraded["config"].items() >= EARLIER_PMNIST["config"].items()  # type: ignore[attr-defined]
    assert upgraded["report"] == {
        "headline": "accuracy",
        "better": "higher",
        "axis": "validation accuracy",
        "statistics": "batch",
        "comparable": True,
        "figure": "pmnist",
        "options": [],
    }


def test_what_a_report_is_told() -> None:
    word = PTB_WORD_SMALL.describe(PTB_WORD_SMALL.config)["report"]
    assert (word["headline"], word["better"], word["figure"]) == ("batch_perplexity", "lower", "ptb-word-small")
    assert word["comparable"] is True
    part = TEXT8.describe(dataclasses.replace(TEXT8.config, slice=1_000_000, units=400, evaluate_every=9))["report"]
    assert part["comparable"] == "units is 400, in the paper 2000; the first 1,000,000 characters only"
    assert part["options"] == ["units"]  # the label tells of the slice, and when it is evaluated touches no training
    digits = DIGITS.describe(DIGITS.config)["report"]
    assert (digits["comparable"], digits["figure"]) == ("it is not in the papers", None)


@pytest.mark.parametrize(
    "described",
    [[], {}, {"config": []}, {"config": {"unheard_of": 1}}, {"config": {"units": 0}}, {"config": {"units": "many"}}],
)
def test_a_config_that_does_not_fit_is_refused(described: object) -> None:
    with pytest.raises(RunError, match="does not fit experiment digits of this version"):
        DIGITS.restore(described)  # type: ignore[arg-type]


def test_an_opened_run_is_the_run(tmp_path: Path) -> None:
    config = dataclasses.replace(DIGITS.config, units=4, epochs=1)
    folder = RunFolder(tmp_path / "run")
    session = Session(max_updates=24, quiet=True, device="cpu")
    result = run(DIGITS.describe(config), lambda: DIGITS.build(config), session, folder, "test")
    opened = open_run(folder.path, device="cpu")
    assert (opened.experiment, opened.config, opened.update) == (DIGITS, config, 24)
    assert not opened.model.training
    assert all((opened.model.state_dict()[name] == value).all() for name, value in opened.parameters.items())
    _, record = evaluate_run(folder.path, device="cpu")
    for split in ("valid", "test"):
        for kind in ("batch", "population"):
            assert record["evaluation"][split][kind] == pytest.approx(result["evaluation"][split][kind])
    final = open_run(folder.path, "final", device="cpu")
    assert final.parameters["rnn.norm_l0.recurrent.count"].tolist() == [4] * 64  # 1,204 images by 400


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        open_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**EARLIER_PMNIST, "experiment": "unheard-of"}))
    with pytest.raises(RunError, match="unknown experiment 'unheard-of'"):
        open_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(EARLIER_PMNIST))
    with pytest.raises(RunError, match="no checkpoint yet"):
        open_run(tmp_path)
