"""Every kernel against the float64 reference: outputs, states, statistics, all gradients; odd sizes, lengths, masks."""

from __future__ import annotations

import torch
from tests.ops.cpu_cases import Case, variants, worst

from bnrnn import ops

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}
FRAME = (("input", "frame"), ("recurrent", "frame"))
LAYER = (("input", "layer"), ("recurrent", "layer"))
SITES = {
    "lstm": [
        (),
        (*FRAME, ("cell", "frame")),
        (("input", "sequence"), ("recurrent", "frame"), ("cell", "frame")),
        (*LAYER, ("cell", "layer")),
    ],
    "gru": [(), FRAME, (("summed", "frame"),), LAYER],
    "rnn": [(), FRAME, (("summed", "frame"),), LAYER],
}


def cases() -> list[Case]:
    found = []
    for cell, all_sites in SITES.items():
        for sites in all_sites:
            base = Case(cell, sites=sites, batch=6)
            found += [
                base,
                *variants(base, units=[1, 15, 16, 17, 33, 100], inputs=[1, 63], batch=[31, 64], steps=[1, 20]),
                *variants(base, lengths=[True], population=[True], one_hot=[True], mask=[True], zoneout=["mask"]),
                Case(cell, sites=sites, steps=9, batch=20, inputs=300, units=301),
            ]
            if cell == "lstm":
                found += variants(base, projection=[1, 16, 33])
    return found


def verify() -> bool:
    """Whether all agree; prints those that do not."""
    checked, wrong = 0, 0
    for case in cases():
        for dtype, tolerance in TOLERANCE.items():
            for threads in (1, 2):
                torch.set_num_threads(threads)
                name, error = worst(getattr(ops, case.cell), case, dtype)
                checked += 1
                if not error < tolerance:
                    wrong += 1
                    print(f"WRONG {case.cell} {case.name} {dtype} {threads} threads: {name} off by {error:.1e}")
    print(f"verify: {checked} comparisons with the float64 reference, {wrong} wrong")
    return wrong == 0
