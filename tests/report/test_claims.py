"""The claims' rules, on records made to hold and made to fail."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bnrnn.cli import figure
from bnrnn.experiments.registry import EXPERIMENTS
from bnrnn.report.claims import RULES, Claim, claims
from bnrnn.report.groups import group
from bnrnn.report.page import write_report
from bnrnn.report.runs import find_runs, read_run
from bnrnn.report.search import paired, search_pairs


def folder(
    root: Path,
    experiment: str,
    name: str,
    options: Mapping[str, Any],
    validation: Mapping[int, Mapping[str, float]] = {},
    training: Mapping[int, float] = {},
    test: Mapping[str, Mapping[str, float]] | None = None,
    status: str = "complete",
    more: Mapping[str, Any] = {},
) -> Path:
    """A run folder with given numbers; of a run without ``test`` there is no result."""
    path = root / name
    path.mkdir(parents=True)
    found = EXPERIMENTS[experiment]
    config = type(found.config)(**{**vars(found.config), **options})
    (path / "config.json").write_text(json.dumps({**found.describe(config), "precision": "32-true"}))
    rows: list[dict[str, Any]] = [{"kind": "train", "update": u, "loss": v} for u, v in training.items()]
    facts = {"kind": "evaluation", "split": "valid", "statistics": "batch"}
    rows += [{**facts, "update": update, **metrics} for update, metrics in validation.items()]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if test is not None:
        last = max([*validation, *training, 0])
        result = {"status": status, "updates": last, "planned_updates": last, "selected": {"update": last}}
        (path / "result.json").write_text(json.dumps({**result, "evaluation": {"test": test}}))
    for file, content in more.items():
        (path / file).write_text(json.dumps(content))
    return path


def verdict(root: Path, statement: str, figures: Path | None = None) -> Claim:
    found = claims(group(find_runs([root])), figures or root / "figures")
    return next(claim for claim in found if statement in claim.statement)


def test_without_records_every_claim_is_open(tmp_path: Path) -> None:
    found = claims([], tmp_path)
    assert len(found) == len(RULES) >= 10
    assert {claim.verdict for claim in found} == {"open"}
    assert all(claim.evidence for claim in found)


def draw(root: Path, rate: float, losses: Sequence[float | None]) -> None:
    for norm, loss in zip(("none", "summed"), losses, strict=True):
        more = {"divergence.json": {"update": 3, "diagnosis": "loss inf"}} if loss is None else {}
        test = None if loss is None else {"batch": {"loss": loss}}
        options = {"norm": norm, "learning_rate": rate}
        folder(root, "h2h", f"{norm}-{rate}", options, training={50: loss or 9.0}, test=test, more=more)


def test_hidden_to_hidden_counts_pairs_in_which_both_converge(tmp_path: Path) -> None:
    for i in range(9):
        draw(tmp_path, 0.01 * (i + 1), (2.0, 2.1 if i else 1.9))
    draw(tmp_path, 1.0, (None, 3.0))
    folder(tmp_path, "h2h", "at work", {"norm": "none", "learning_rate": 0.5}, training={50: 1.0})
    claim = verdict(tmp_path, "hidden to hidden")
    assert claim.verdict == "reproduced"
    assert claim.evidence.startswith(
        "10 pairs of 50 updates: of 9 in which both converged the normalized net ends lower in 1"
    )
    assert "median difference +0.100" in claim.evidence
    assert "converged in 1 in which the baseline diverged" in claim.evidence
    pairs = paired(find_runs([tmp_path]))
    assert [plain.norm for plain, _ in pairs] == ["none"] * 10
    assert [pair.baseline for pair in search_pairs(find_runs([tmp_path]))] == [2.0] * 9 + [None]
    out = tmp_path / "h2h.svg"
    assert figure.run(["h2h", str(tmp_path), "--out", str(out)]) == 0
    with out.with_suffix(".csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["baseline loss"] for row in rows] == ["2"] * 9 + [""]


def test_hidden_to_hidden_may_turn_out_useful_or_open(tmp_path: Path) -> None:
    for i in range(7):
        draw(tmp_path, 0.01 * (i + 1), (2.0, 1.5))
    assert verdict(tmp_path, "hidden to hidden").verdict == "open"
    draw(tmp_path, 0.9, (2.0, 1.5))
    assert verdict(tmp_path, "hidden to hidden").verdict == "not reproduced"


@pytest.mark.parametrize(
    ("loss", "best", "expected"), [(3.0, 130.0, ("reproduced",) * 2), (3.6, 100.0, ("not reproduced",) * 2)]
)
def test_input_normalization(tmp_path: Path, loss: float, best: float, expected: tuple[str, str]) -> None:
    for norm, train, valid in (("none", 3.5, 120.0), ("input-frame", loss, best)):
        rows = {100: {"batch_perplexity": valid}, 200: {"batch_perplexity": valid + 5}}
        folder(tmp_path, "ptb-word-small", norm, {"norm": norm}, rows, {150: train, 200: train})
    assert verdict(tmp_path, "training loss fall faster").verdict == expected[0]
    assert verdict(tmp_path, "generalise better").verdict == expected[1]


def pixels(root: Path, norm: str, curve: Mapping[int, float], test: float, **options: Any) -> None:
    rows = {update: {"accuracy": value, "loss": 1 - value} for update, value in curve.items()}
    tests = {"batch": {"accuracy": test}, "population": {"accuracy": test}}
    name = f"{norm}-{options}".replace("/", "")
    folder(root, "pmnist", name, {"norm": norm, **options}, rows, test=tests)


def test_convergence_and_generalisation(tmp_path: Path) -> None:
    pixels(tmp_path, "none", {500: 0.3, 1000: 0.6, 1500: 0.5}, 0.6)
    pixels(tmp_path, "recurrent", {500: 0.5, 1000: 0.61, 1500: 0.9}, 0.9)
    fast = verdict(tmp_path, "converges faster")
    assert fast.verdict == "reproduced"
    assert "best of 0.6 at 1,000, the normalized net's at update 1,000" in fast.evidence
    claim = next(c for c in claims(group(find_runs([tmp_path])), tmp_path) if c.statement == "It generalises better")
    assert claim.verdict == "reproduced"
    assert "0.9 against 0.6" in claim.evidence


def test_slower_convergence_is_not_reproduced(tmp_path: Path) -> None:
    pixels(tmp_path, "none", {500: 0.6, 1000: 0.7}, 0.6)
    pixels(tmp_path, "recurrent", {500: 0.5, 1000: 0.65}, 0.5)
    assert verdict(tmp_path, "converges faster").verdict == "not reproduced"
    assert "not within 1,000 updates" in verdict(tmp_path, "converges faster").evidence


def test_gains_are_compared_at_the_last_common_update(tmp_path: Path) -> None:
    for gamma, end in ((None, 0.9), (0.5, 0.6), (1.0, 0.2)):
        pixels(tmp_path, "recurrent", {500: 0.1, 1000: end} | ({1500: 0.0} if gamma is None else {}), end, gamma=gamma)
    claim = verdict(tmp_path, "feedback comes at the end")
    assert claim.verdict == "reproduced"
    assert claim.evidence == (
        "validation loss at update 1,000 by gain: 0.1: 0.100, 0.5: 0.400, 1: 0.800; the paper's 0.1: 1.029, 0.5: 1.925,"
        " 1: 2.311"
    )
    pixels(tmp_path, "recurrent", {500: 0.1, 1000: 0.3}, 0.3, gamma=0.3)
    assert verdict(tmp_path, "feedback comes at the end").verdict == "not reproduced"


def test_longer_sequences(tmp_path: Path) -> None:
    bits = {
        "lengths": [100, 1000],
        "update": 7,
        "norm": "recurrent",
        "bpc": {"population": [1.4, 1.3], "batch": [1.5, 1.4]},
    }
    folder(tmp_path, "ptb-char", "a", {}, more={"lengths.json": bits})
    claim = verdict(tmp_path, "longer than any in training")
    assert claim.verdict == "reproduced"
    assert "1.400 at length 100 to 1.300 at 1,000" in claim.evidence
    worse = {**bits, "bpc": {"population": [1.4, 1.3], "batch": [1.3, 1.4]}}
    folder(tmp_path, "ptb-char", "b", {"seed": 2}, more={"lengths.json": worse})
    assert verdict(tmp_path, "longer than any in training").verdict == "not reproduced"


@pytest.mark.parametrize(("last", "expected"), [(1e-14, "reproduced"), (1e-9, "not reproduced")])
def test_gradients(tmp_path: Path, last: float, expected: str) -> None:
    small = [1e-2] * 784
    large = [last] * 484 + [last] * 299 + [1e-2]
    with (tmp_path / "gradient-flow.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["step", "BN-RNN, gamma 0.1", "BN-RNN, gamma 1"])
        writer.writerows(zip(range(784), small, large, strict=True))
    assert verdict(tmp_path, "gradients vanish", tmp_path).verdict == expected


def test_the_page_has_claims_and_analyses_when_it_is_given_figures(tmp_path: Path) -> None:
    path = folder(tmp_path, "pmnist", "run", {}, {500: {"accuracy": 0.5, "loss": 1.0}})
    figures = tmp_path / "figures"
    assert (
        figure.run(["tanh-derivative", "--deviations", "5", "--samples", "5", "--out", str(figures / "tanh.svg")]) == 0
    )
    page = write_report([read_run(path)], tmp_path / "report", "command", figures).read_text()
    assert page.count('class="verdict open"') == len(RULES)
    assert 'id="picture-tanh"' in page
    without = write_report([read_run(path)], tmp_path / "report", "command").read_text()
    assert "verdict open" not in without
