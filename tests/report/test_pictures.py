"""The pictures: which curves are drawn, and how."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from tests.report.folders import BITS, FACTS, evaluated, single, trained, write_run

from bnrnn.figures.files import save, svg
from bnrnn.report.groups import group
from bnrnn.report.pictures import curve_picture, lengths_picture, pictures, rows_picture
from bnrnn.report.runs import read_run

WIDTH = {"ours": 1.9, "training": 1.5, "other rows": 1.0, "paper": 1.1}


def lines(figure: Figure) -> list[tuple[str, str, list[float]]]:
    """Colour, style and values of every line."""
    return [(str(line.get_color()), str(line.get_linestyle()), list(np.asarray(line.get_ydata(), float)))
            for line in figure.axes[0].lines]  # fmt: skip


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_ours_lies_over_the_papers_in_its_colour(tmp_path: Path) -> None:
    picture = curve_picture([single(tmp_path / norm, norm=norm) for norm in ("none", "recurrent")])
    drawn = lines(picture.figure)
    assert [(style, len(values)) for _, style, values in drawn] == [("--", 3), ("--", 3), ("-", 3), ("-", 3)]
    assert drawn[0][0] == drawn[2][0] != drawn[1][0] == drawn[3][0]
    assert drawn[3][2] == [0.1, 0.5, 0.7]
    assert drawn[1][2] == [0.1091, 0.5448, 0.656]
    assert picture.notes == ()
    assert legend(picture.figure) == [
        "lstm-none-seed1",
        "lstm-recurrent-seed1",
        "ours, validation",
        "paper, validation",
    ]


def test_the_papers_curve_is_not_drawn_beside_other_rows(tmp_path: Path) -> None:
    picture = curve_picture([single(tmp_path / "a", rows=[evaluated(500, 1000, accuracy=0.9)])])
    assert [style for _, style, _ in lines(picture.figure)] == ["-"]
    (note,) = picture.notes
    assert note.endswith("not comparable with the paper's curve: statistics of 1,000 rows, the paper's of 100.")


def test_a_run_that_changed_its_rows_has_two_parts(tmp_path: Path) -> None:
    rows = [evaluated(500, 1000, accuracy=0.9), evaluated(1000, 100, accuracy=0.7), evaluated(1500, 100, accuracy=0.8)]
    picture = curve_picture([single(tmp_path / "a", rows=rows)])
    drawn = [(line.get_linewidth(), list(np.asarray(line.get_xdata(), float))) for line in picture.figure.axes[0].lines]
    assert (WIDTH["ours"], [1000, 1500]) in drawn
    assert (WIDTH["other rows"], [500]) in drawn
    assert WIDTH["paper"] in [width for width, _ in drawn]
    assert picture.notes == (
        "lstm-recurrent-seed1: the thin part has statistics of 1,000 rows, the thick one of 100 rows.",
    )


def test_training_stands_beside_the_papers(tmp_path: Path) -> None:
    validation, training = pictures("pmnist", [single(tmp_path / "a")])
    assert (validation.name, training.name) == ("pmnist", "pmnist-training")
    paper, ours = lines(training.figure)
    assert paper[1] == "-."
    assert (ours[1], ours[2]) == (":", [1.95, 1.45])


def test_training_lies_in_the_same_picture_where_it_has_the_same_metric(tmp_path: Path) -> None:
    rows = [evaluated(791, 64, bpc=2.3), *(trained(update, loss=1.0, bpc=2.0) for update in (50, 100))]
    (picture,) = pictures("ptb-char", [single(tmp_path / "a", "ptb-char", rows=rows, report=BITS, batch_size=64)])
    assert sorted(style for _, style, _ in lines(picture.figure)) == ["-", "--", "-.", ":"]


def test_a_curve_over_epochs_is_put_over_updates(tmp_path: Path) -> None:
    report = {**FACTS, "headline": "loss", "better": "lower", "figure": "h2h", "training": "loss"}
    rows = [evaluated(400, 64, loss=2.0), trained(50, loss=3.0), trained(400, loss=2.5)]
    found = single(tmp_path / "a", "h2h", "summed", rows, report, epochs=2, batch_size=64)
    (picture,) = pictures("h2h", [found])
    (paper,) = [line for line in picture.figure.axes[0].lines if line.get_linestyle() == "-."]
    assert list(np.asarray(paper.get_xdata(), float)) == [0, 200, 400]
    assert list(np.asarray(paper.get_ydata(), float)) == [4.28, 3.12, 2.74]


def test_figure_five_needs_a_config_only(tmp_path: Path) -> None:
    """Five readers in one picture: solid validation, dotted training, ours thick and the paper's thin."""
    names = ["LSTM", "BN-LSTM", "BN-everywhere", "BN-e*", "BN-e**"]
    groups = []
    for index, name in enumerate(names):
        report = {**FACTS, "headline": "error", "better": "lower", "figure": "cnn-top4", "variant": name,
                  "training": "error", "options": ["reader"]}  # fmt: skip
        count = 64 if index < 3 else 40
        rows = [evaluated(x, count, error=0.9) for x in (1000, 50_000)] + [trained(x, error=0.8) for x in (500, 900)]
        groups.append(
            single(tmp_path / str(index), "cnn-top4", rows=rows, report=report, batch_size=count, reader=name)
        )
    (picture,) = pictures("cnn-top4", groups)
    drawn = lines(picture.figure)
    assert sorted(style for _, style, _ in drawn) == sorted(["-", "--", ":", "-."] * 5)
    assert len({colour for colour, _, _ in drawn}) == 5


def test_two_groups_of_one_norm_have_two_colours(tmp_path: Path) -> None:
    report = {**FACTS, "options": ["schedule"]}
    groups = [
        single(tmp_path / "a", report=report, schedule="released"),
        single(tmp_path / "b"),
    ]
    drawn = [colour for colour, style, _ in lines(curve_picture(groups).figure) if style == "-"]
    assert len(set(drawn)) == 2
    paper = [colour for colour, style, _ in lines(curve_picture(groups).figure) if style == "--"]
    assert paper == [drawn[1]]


def test_groups_of_one_label_are_told_apart(tmp_path: Path) -> None:
    for name, rho in (("first", 0.5), ("second", 0.9)):
        write_run(tmp_path / name, rho=rho)
    figure = curve_picture(group(read_run(tmp_path / name) for name in ("first", "second"))).figure
    assert legend(figure)[:2] == ["lstm-recurrent-seed1 [first]", "lstm-recurrent-seed1 [second]"]


def test_seeds_are_one_curve_with_a_band(tmp_path: Path) -> None:
    for seed, value in ((1, 0.5), (2, 0.6)):
        rows = [evaluated(x, 100, accuracy=value + x / 10_000) for x in (500, 1000)]
        write_run(tmp_path / str(seed), rows=rows, seed=seed)
    figure = curve_picture(group(read_run(tmp_path / name) for name in "12")).figure
    (ours,) = [values for _, style, values in lines(figure) if style == "-"]
    assert ours == pytest.approx([0.6, 0.65])
    (band,) = figure.axes[0].collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert (heights.min(), heights.max()) == (
        pytest.approx(0.6 - 0.0707, abs=1e-4),
        pytest.approx(0.65 + 0.0707, abs=1e-4),
    )


def test_a_legend_lies_over_no_curve(tmp_path: Path) -> None:
    figure = curve_picture([single(tmp_path / norm, norm=norm) for norm in ("none", "recurrent")]).figure
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().y1 <= figure.axes[0].xaxis.label.get_window_extent().y0


def test_a_long_legend_leaves_the_axes_their_height(tmp_path: Path) -> None:
    heights = []
    for count in (1, 9):
        report = {**FACTS, "options": ["rho"]}
        groups = [single(tmp_path / f"{count}-{i}", report=report, rho=i / 10) for i in range(count)]
        figure = curve_picture(groups).figure
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height)
    assert heights[1] == pytest.approx(heights[0], rel=0.1)


def test_a_long_name_does_not_leave_the_picture(tmp_path: Path) -> None:
    report = {**FACTS, "options": ["evaluation_batch_size", "population_every", "gamma", "initial_state"]}
    told = {"evaluation_batch_size": 100, "population_every": 0, "gamma": 1.0, "initial_state": "noise-in-training"}
    figure = curve_picture([single(tmp_path / "a", report=report, **told)]).figure
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1


def test_the_axis_shows_what_trained_models_reach(tmp_path: Path) -> None:
    rows = [
        evaluated(x, None, batch_perplexity=y) for x, y in ((0, 9000.0), (100, 800.0), (5000, 130.0), (9000, 120.0))
    ]
    report = {**FACTS, "headline": "batch_perplexity", "better": "lower", "figure": "ptb-word-small"}
    low, high = curve_picture([single(tmp_path / "a", norm="none", rows=rows, report=report)]).figure.axes[0].get_ylim()
    assert 110 < low < 120 < 130 < high < 140


def test_a_diverged_run_is_drawn(tmp_path: Path) -> None:
    rows = [evaluated(10, bpc=2.0), evaluated(20, bpc=float("nan")), trained(15, loss=float("inf"))]
    report = {**BITS, "figure": None, "comparable": "it is not in the papers"}
    for picture in pictures("char-lm", [single(tmp_path / "a", "char-lm", "none", rows, report)]):
        assert svg(picture.figure, picture.name).startswith("<svg")


def measured(tmp_path: Path, file: str, record: dict[str, Any], report: dict[str, Any], experiment: str) -> Path:
    folder = write_run(tmp_path / "a", experiment, rows=[evaluated(1000, 100, accuracy=0.7, bpc=2.0)], report=report)
    (folder / file).write_text(json.dumps(record))
    return folder


def test_rows_have_a_limit_and_the_papers_value(tmp_path: Path) -> None:
    record = {
        "update": 1000,
        "norm": "recurrent",
        "rows": [25, 100, 1000],
        "metrics": {"accuracy": [0.6, 0.7, 0.75], "loss": [1.2, 1.1, 1.0]},
        "population": {"accuracy": 0.76, "loss": 0.9},
        "population_rows": 5000,
    }
    run = read_run(measured(tmp_path, "rows.json", record, FACTS, "pmnist"))
    figure = rows_picture([run])
    ours, limit, paper, mark = lines(figure)
    assert ours[2] == [0.6, 0.7, 0.75]
    assert limit[2] == [0.76, 0.76]
    assert paper[2] == [0.656, 0.656]
    assert list(np.asarray(figure.axes[0].lines[3].get_xdata(), float)) == [100]
    assert mark[2] == [0.656]
    assert lines(rows_picture([run], "loss"))[0][2] == [1.2, 1.1, 1.0]
    with pytest.raises(ValueError, match="no bpc by rows; there are accuracy, loss"):
        rows_picture([run], "bpc")
    assert [picture.name for picture in pictures("pmnist", group([run]))][-1] == "pmnist-rows"


def test_lengths_have_the_papers_curves_of_the_same_model(tmp_path: Path) -> None:
    record = {"update": 791, "norm": "recurrent", "lengths": [100, 200],
              "bpc": {"population": [1.5, 1.4], "batch": [1.6, 1.5]}}  # fmt: skip
    run = read_run(measured(tmp_path, "lengths.json", record, BITS, "ptb-char"))
    drawn = lines(lengths_picture([run]))
    assert [(style, values[0]) for _, style, values in drawn] == [("-", 1.5), ("-", 1.6), ("--", 1.398), ("--", 1.4201)]
    other = {**BITS, "figure": None, "comparable": "it is not in the papers"}
    run = read_run(measured(tmp_path / "other", "lengths.json", record, other, "char-lm"))
    assert len(lines(lengths_picture([run]))) == 2


def test_files_are_what_their_names_say(tmp_path: Path) -> None:
    figure = curve_picture([single(tmp_path / "a")]).figure
    save(figure, tmp_path / "new" / "a.png")
    save(figure, tmp_path / "a.svg")
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    with pytest.raises(ValueError, match=r"must end in \.png or \.svg"):
        save(figure, tmp_path / "a.gif")


def test_an_svg_is_the_same_each_time_small_and_on_its_own(tmp_path: Path) -> None:
    groups = [single(tmp_path / norm, norm=norm) for norm in ("none", "recurrent")]
    first, second = (svg(curve_picture(groups).figure, "a") for _ in range(2))
    assert first == second
    other = svg(curve_picture(groups).figure, "b")
    ids, others = (set(re.findall(r'id="([^"]+)"', text)) for text in (first, other))
    assert ids
    assert not ids & others
    assert {
        reference for reference in re.findall(r"#(\w{6,})", first) if not re.fullmatch("[0-9a-f]{6}", reference)
    } <= ids
    assert "lstm-none-seed1</text>" in first
    assert set(re.findall(r'https?://[^"]+', first)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert len(first) < 30_000


def test_dollars_in_a_name_are_no_equation(tmp_path: Path) -> None:
    found = single(tmp_path / "a", report={**FACTS, "options": ["text"]}, text="a$\\frac$.txt <b>")
    drawn = svg(curve_picture([found]).figure, "a")
    assert "a$\\frac$.txt &lt;b&gt;" in drawn
