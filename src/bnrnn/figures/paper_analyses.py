"""The published curves of the analyses: Cooijmans et al. 2017, Figures 2a and 7."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from bnrnn.figures.paper import PaperCurve

PART = Literal["train", "valid"]


def paper_gradient_flow() -> dict[float, tuple[list[int], list[float]]]:
    """By initial gain: time steps, and the norm there. Where the figure leaves its axis, below 1e-26, there is none."""
    flows = _content()["gradient_flow"]
    return {float(g): (flow["steps"], [10.0**power for power in flow["log10"]]) for g, flow in flows.items()}


def paper_gamma_curves(task: str, part: PART) -> dict[float, PaperCurve]:
    """By initial gain: cross-entropy of permuted MNIST in nats, or of characters in bits, over true updates.

    The published panels of the Penn Treebank have the updates divided by ln 2 and nats under a label of bits; here both
    are put right. Empty for a task that the figure does not have.
    """
    curves = _content()["gamma_sensitivity"].get(task, {}).get(part, {})
    return {
        float(g): PaperCurve(f"gamma {g} (paper)", tuple(curve["updates"]), tuple(curve["values"]))
        for g, curve in curves.items()
    }


def source() -> str:
    """Where the curves come from."""
    return _content()["source"]


@cache
def _content() -> dict[str, Any]:
    return json.loads(files("bnrnn.figures").joinpath("paper_analyses.json").read_text())
