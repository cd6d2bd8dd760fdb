"""Trains the toy task in the folder given, from its checkpoint where there is one. Made to be killed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from lightning_fabric import Fabric
from rich.console import Console
from toy import ToyTask

from bnrnn.training import Options, Plan, RunFolder, train
from bnrnn.training.display import Display

folder = RunFolder(Path(sys.argv[1]))
config = {"experiment": "toy", "label": "toy", "config": {}, "precision": "32-true"}
folder.open(config, resume=True)
fabric = Fabric(accelerator="cpu", devices=1)
task = ToyTask(Plan(updates=1200, log_every=3, population_every=70, clip=1.0))
folder.begin(config, task.sources)
print("training", flush=True)
display = Display(Console(file=io.StringIO()), "toy", quiet=True)
train(fabric, task, folder, Options(checkpoint_seconds=0.01), display)
