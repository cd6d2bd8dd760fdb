"""The numbers behind the analysis figures, against values computed another way."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bnrnn.cli import figure
from bnrnn.experiments.analyses.gradient_flow import at_initialization, gradient_norms
from bnrnn.experiments.analyses.population_statistics import population_tables
from bnrnn.experiments.analyses.tanh_derivative import tanh_derivative
from bnrnn.experiments.pixels.config import PixelConfig
from bnrnn.experiments.pixels.model import PixelClassifier
from bnrnn.figures.gamma_sensitivity import GammaCurve, gamma_sensitivity_figure
from bnrnn.figures.gradient_flow import gradient_flow_figure
from bnrnn.figures.paper_analyses import paper_gamma_curves, paper_gradient_flow
from bnrnn.report.gammas import gamma_panels
from bnrnn.report.runs import read_run
from bnrnn.training import RunError, checkpoint

GAMMA, EPS = 0.4, 1e-5


def loss_from(model: PixelClassifier, h: np.ndarray, pixels: np.ndarray, labels: np.ndarray, start: int) -> float:
    """The paper's tanh RNN from one step on, in NumPy: cross-entropy at the end."""
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    for t in range(start, pixels.shape[1]):
        summed = h @ weights["rnn.weight_hh_l0"].T + pixels[:, t, None] @ weights["rnn.weight_ih_l0"].T
        mean, var = summed.mean(0), summed.var(0)
        h = np.tanh(GAMMA * (summed - mean) / np.sqrt(var + EPS) + weights["rnn.bias_ih_l0"])
    logits = h @ weights["readout.weight"].T + weights["readout.bias"]
    shifted = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean())


def test_gradient_norms_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    config = PixelConfig(cell="rnn", norm="summed", gamma=GAMMA, units=3, recurrent_init="identity-all")
    model = PixelClassifier(config, 0.0, 10).double()
    pixels, labels = torch.rand(5, 4, dtype=torch.float64), torch.tensor([1, 0, 7, 9, 2])
    start = torch.randn(5, 3, dtype=torch.float64)
    model.initial_state = lambda _: start.unsqueeze(0)  # pyright: ignore[reportAttributeAccessIssue]
    found = gradient_norms(model, pixels, labels)

    states = [start.numpy()]
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    for t in range(4):
        summed = states[-1] @ weights["rnn.weight_hh_l0"].T + pixels[:, t, None].numpy() @ weights["rnn.weight_ih_l0"].T
        states.append(np.tanh(GAMMA * (summed - summed.mean(0)) / np.sqrt(summed.var(0) + EPS)))
    step = 1e-6
    for t in range(4):
        gradient = np.zeros((5, 3))
        for row in range(5):
            for unit in range(3):
                sides = []
                for sign in (1, -1):
                    h = states[t + 1].copy()
                    h[row, unit] += sign * step
                    sides.append(loss_from(model, h, pixels.numpy(), labels.numpy(), t + 1))
                gradient[row, unit] = (sides[0] - sides[1]) / (2 * step)
        assert found[t] == pytest.approx(np.linalg.norm(gradient, axis=1).mean(), rel=1e-6)


@pytest.mark.parametrize("net", ["bn-rnn", "rnn", "bn-lstm", "lstm", "bn-gru", "gru"])
def test_every_net_has_a_curve(net: str) -> None:
    flows = at_initialization(net, (0.1, 1.0), units=8, batch_size=20, data="digits")  # pyright: ignore[reportArgumentType]
    assert [flow.gamma for flow in flows] == ([0.1, 1.0] if net.startswith("bn-") else [None])
    for flow in flows:
        assert len(flow.norms) == 64
        assert all(math.isfinite(norm) and norm > 0 for norm in flow.norms)


@pytest.mark.real_data
def test_gradient_flow_keeps_the_papers_rule() -> None:
    flows = {flow.gamma: np.log10(flow.norms) for flow in at_initialization(gammas=(0.1, 0.2, 0.3, 0.7, 1.0))}
    for gamma in (0.1, 0.2, 0.3):
        assert flows[gamma][10:].min() > -3.2
        assert flows[gamma][10:].max() < -1.0
    for gamma in (0.7, 1.0):
        assert flows[gamma][783] - flows[gamma][483] > 10
    assert flows[0.1][783] == pytest.approx(-2.02, abs=0.02)


def test_tanh_derivative_has_the_tabulated_values() -> None:
    found = tanh_derivative(deviations=11, samples=200_000)
    assert np.allclose(found.deviations, np.linspace(0, 1, 11))
    mean = [1, 0.990, 0.963, 0.923, 0.876, 0.827, 0.777, 0.730, 0.685, 0.644, 0.606]
    lower = [1, 0.987, 0.949, 0.890, 0.815, 0.730, 0.642, 0.555, 0.473, 0.398, 0.331]
    upper = [1, 0.999, 0.996, 0.991, 0.984, 0.975, 0.964, 0.952, 0.938, 0.922, 0.905]
    for exact, drawn, expected in (
        (found.mean, found.sampled_mean, mean),
        (found.lower, found.sampled_lower, lower),
        (found.upper, found.sampled_upper, upper),
    ):
        assert np.allclose(exact, expected, atol=6e-4)
        assert np.allclose(drawn, exact, atol=5e-3)


@pytest.mark.parametrize("wrong", [{"deviations": 1}, {"samples": 1}, {"largest": 0.0}])
def test_tanh_derivative_refuses(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        tanh_derivative(**wrong)  # pyright: ignore[reportArgumentType]


def model_file(folder: Path, tensors: dict[str, Tensor]) -> Path:
    checkpoint.save(folder / "model.safetensors", tensors, {"update": 1, "planned": 1})
    return folder


def test_population_tables_are_the_rows_in_use(tmp_path: Path) -> None:
    mean, var = torch.randn(8, 12), torch.rand(8, 12)
    count = torch.tensor([3, 3, 3, 2, 2, 0, 0, 0])
    tensors = {}
    for site in ("input", "recurrent", "cell"):
        tensors |= {f"rnn.norm_l0.{site}.{name}": t for name, t in (("mean", mean), ("var", var), ("count", count))}
    tables = population_tables(model_file(tmp_path, tensors), units=5)
    assert [table.site for table in tables] == ["recurrent", "cell"]
    for table in tables:
        assert len(set(table.units)) == 5
        assert torch.equal(table.mean, mean[:5, list(table.units)])
        assert torch.equal(table.var, var[:5, list(table.units)])
    assert population_tables(tmp_path, units=100)[0].units == tuple(range(12))
    with pytest.raises(RunError, match="no statistics for each time step"):
        population_tables(tmp_path, layer="l1")
    with pytest.raises(ValueError, match="units must be at least 1"):
        population_tables(tmp_path, units=0)
    with pytest.raises(RunError, match=r"no model\.safetensors"):
        population_tables(tmp_path / "none")


def test_the_papers_gamma_curves_are_bits_over_true_updates() -> None:
    pixels, characters = paper_gamma_curves("pmnist", "valid"), paper_gamma_curves("ptb-char", "valid")
    assert sorted(pixels) == sorted(characters) == [0.1, 0.3, 0.5, 0.7, 1.0]
    assert pixels[1.0].at(20_000) == pytest.approx(2.123, abs=2e-3)
    assert characters[0.1].at(791) == pytest.approx(1.675, abs=1e-3)
    assert characters[1.0].at(9492) == pytest.approx(1.4655, abs=1e-3)
    assert paper_gamma_curves("ptb-char", "train")[0.1].at(30_849) == pytest.approx(1.092, abs=2e-3)
    assert paper_gamma_curves("smnist", "train") == {}
    assert paper_gradient_flow()[0.1][1][0] == pytest.approx(10**0.227, rel=1e-3)
    assert min(paper_gradient_flow()[1.0][1]) > 1e-26


def test_the_published_axes_stretch_updates_and_show_nats() -> None:
    panels = {("ptb-char", "valid"): [GammaCurve(0.1, [791, 1582], [1.7, 1.6])]}
    true, published = (gamma_sensitivity_figure(panels, as_published=flag).axes[1] for flag in (False, True))
    assert true.lines[0].get_xdata()[0] == 791
    assert published.lines[0].get_xdata()[0] == pytest.approx(791 / math.log(2))
    assert published.lines[0].get_ydata()[0] == pytest.approx(1.7 * math.log(2))
    paper = next(line for line in true.lines if line.get_linestyle() == "--" and len(line.get_xdata()) > 1)
    assert max(paper.get_xdata()) <= 1582 * 1.05


def test_the_flow_is_drawn_over_the_papers_of_the_same_gain() -> None:
    axes = gradient_flow_figure([("gamma 0.1", 0.1, [1e-3] * 784), ("plain", None, [1e-4] * 784)]).axes[0]
    lengths = [len(line.get_xdata()) for line in axes.lines]
    assert lengths[0] == 784
    assert lengths[1] == len(paper_gradient_flow()[0.1][0])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_commands_write_the_picture_and_its_numbers(tmp_path: Path) -> None:
    flow, tanh, statistics = (tmp_path / name for name in ("a/flow.svg", "tanh.png", "statistics.png"))
    assert figure.run(["gradient-flow", "--data", "digits", "--gammas", "0.2", "--units", "6", "--out", str(flow)]) == 0
    (expected,) = at_initialization(gammas=(0.2,), units=6, data="digits")
    found = [float(row["BN-RNN, gamma 0.2"]) for row in rows_of(flow.with_suffix(".csv"))]
    assert found == pytest.approx(expected.norms)

    assert figure.run(["tanh-derivative", "--deviations", "3", "--samples", "9", "--out", str(tanh)]) == 0
    assert [float(row["mean"]) for row in rows_of(tanh.with_suffix(".csv"))] == pytest.approx(
        [1, 0.827, 0.606], abs=1e-3
    )

    mean = torch.randn(4, 2)
    tensors = {
        "rnn.norm_l0.cell.mean": mean,
        "rnn.norm_l0.cell.var": mean.exp(),
        "rnn.norm_l0.cell.count": torch.ones(4),
    }
    model_file(tmp_path, tensors)
    assert figure.run(["population-statistics", str(tmp_path), "--out", str(statistics)]) == 0
    rows = rows_of(statistics.with_suffix(".csv"))
    assert [float(row["mean"]) for row in rows if row["unit"] == "1"] == pytest.approx(mean[:, 1].tolist())
    assert all(path.stat().st_size > 1000 for path in (flow, tanh, statistics))
    with pytest.raises(ValueError, match=r"out must end in \.png or \.svg"):
        figure.run(["tanh-derivative", "--out", str(tmp_path / "tanh.gif")])


def run_folder(path: Path, experiment: str, norm: str, gamma: float | None) -> Path:
    path.mkdir()
    config = {"experiment": experiment, "label": path.name, "config": {"norm": norm, "gamma": gamma}}
    (path / "config.json").write_text(json.dumps(config))
    train = [{"kind": "train", "update": u, "loss": 2.0 / u, "bpc": 3.0 / u} for u in (50, 100)]
    valid = {"kind": "evaluation", "update": 100, "split": "valid", "statistics": "batch", "loss": 1.5, "bpc": 2.5}
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*train, valid]))
    return path


def test_gamma_panels_sort_by_gain_and_take_the_tasks_metric(tmp_path: Path) -> None:
    runs = [
        run_folder(tmp_path / "b", "pmnist", "recurrent", 0.5),
        run_folder(tmp_path / "a", "pmnist", "recurrent", None),
        run_folder(tmp_path / "c", "ptb-char", "recurrent", 1.0),
    ]
    panels = gamma_panels([read_run(path) for path in runs])
    assert [curve.gamma for curve in panels["pmnist", "train"]] == [0.1, 0.5]
    assert panels["pmnist", "valid"][0] == GammaCurve(0.1, [100], [1.5])
    assert panels["ptb-char", "train"][0] == GammaCurve(1.0, [50, 100], [0.06, 0.03])
    out = tmp_path / "gammas.png"
    assert figure.run(["gamma-sensitivity", *map(str, runs), "--out", str(out)]) == 0
    assert len(rows_of(out.with_suffix(".csv"))) == 9
    with pytest.raises(ValueError, match="norm none; the figure takes"):
        gamma_panels([read_run(run_folder(tmp_path / "d", "pmnist", "none", None))])
