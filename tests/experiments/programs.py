"""Run folders as they are after a run, written without one: a model of random weights and statistics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tests.experiments.reading.questions import data
from torch import nn

from bnrnn.data.corpus import Vocabulary
from bnrnn.experiments.pixels.model import PixelClassifier
from bnrnn.experiments.reading.model import AttentiveReader
from bnrnn.experiments.registry import EXPERIMENTS
from bnrnn.experiments.speech.model import FrameClassifier
from bnrnn.training import RunFolder, checkpoint

LETTERS = Vocabulary((*"abcdeé ", "\ufffd"), unknown="\ufffd")
WORDS = Vocabulary(("<eos>", "<unk>", "a", "cat", "sat"), unknown="<unk>")
RESULT = {"valid": {"batch": {"error": 0.25}}, "test": {"population": {"error": 0.5}}}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "pixels": ("digits", {"units": 6}),
    "pixels of MNIST": ("pmnist", {"units": 6, "cell": "gru"}),
    "characters": ("char-lm", {"units": 6, "layers": 2, "zoneout": 0.1, "text": ("gone.txt",)}),
    "characters, embedded": ("h2h", {"units": 6}),
    "words": ("ptb-word-small", {"units": 6, "steps": 5}),
    "words, GRU": ("ptb-word-small", {"units": 6, "cell": "gru", "norm": "none"}),
    "reader": ("friends-cloze", {"units": 6, "sentences": 0}),
    "reader, one direction": ("babi", {"units": 6, "variant": "bn-everywhere"}),
    "speech": ("spoken-digits", {"units": 6, "layers": 2, "norm": "input-sequence"}),
}


def write(kind: str, folder: Path, finished: bool = True) -> Path:
    """A run folder of a kind."""
    name, options = KINDS[kind]
    experiment = EXPERIMENTS[name]
    config = replace(experiment.config, **options)
    torch.manual_seed(0)
    model = _model(name, config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for module in model.modules():
            if hasattr(module, "count"):
                module.mean.normal_()
                module.var.uniform_(0.5, 1.5)
                module.count[: 1 if len(module.count) == 1 else 8] = 3
    target = RunFolder(folder)
    folder.mkdir(parents=True)
    target.write_json(target.config, {**experiment.describe(config), "precision": "32-true", "matmul": "highest"})
    checkpoint.save(target.model, model.state_dict(), {"update": 12})
    if finished:
        target.result.write_text(json.dumps({"evaluation": RESULT, "updates": 12}))
    return folder


def _model(name: str, config: Any) -> nn.Module:
    if name in ("digits", "pmnist"):
        return PixelClassifier(config, 0.1, 10)
    if name in ("char-lm", "h2h"):
        return config.build_model(LETTERS)
    if name == "ptb-word-small":
        return config.build_model(WORDS)
    if name == "spoken-digits":
        return FrameClassifier(config, 5, 7)
    return AttentiveReader(config.architecture, data().words)


RAW: dict[str, tuple[Any, ...]] = {
    "pixels": (torch.arange(128).view(2, 8, 8) % 17,),
    "pixels of MNIST": (torch.arange(2 * 784).view(2, 784) % 256,),
    "characters": ("a bad café",),
    "characters, embedded": (["abc", "eea"],),
    "words": ("a cat\nsat a dog",),
    "words, GRU": ("a cat",),
    "reader": ("@entity1 runs well .\n@entity2 sings .", "@placeholder sings"),
    "reader, one direction": ("@entity1 runs well .\n@entity2 sings .", "@placeholder sings"),
    "speech": ([torch.ones(9, 5), torch.zeros(4, 5)],),
}
"""What people have, for each kind."""
