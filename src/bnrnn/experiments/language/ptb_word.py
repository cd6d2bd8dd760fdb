"""Word-level Penn Treebank in three sizes: Laurent et al. 2015, Table 2 and Figure 3."""

from __future__ import annotations

from dataclasses import replace

from bnrnn.data import ptb
from bnrnn.experiments.experiment import Experiment, Judgement
from bnrnn.experiments.language.trained import trained
from bnrnn.experiments.language.words import WordConfig, WordTask

_SMALL = WordConfig()
_MEDIUM = replace(_SMALL, size="medium", units=650, dropout=0.5, init=0.05, steps=35)
_LARGE = replace(_SMALL, size="large", units=1500, dropout=0.65, init=0.04, steps=35, clip=10.0)


def _label(config: WordConfig) -> str:
    schedule = "" if config.schedule == "released" else f"-{config.schedule}"
    return f"{config.cell}-{config.norm}{schedule}-seed{config.seed}"


def _experiment(name: str, config: WordConfig, cost: str) -> Experiment:
    return Experiment(
        name=f"ptb-word-{name}",
        summary=f"Penn Treebank by words, two layers of {config.units} units, state carried over",
        paper="Laurent et al. 2015, 5.2",
        target="Table 2" + ("; Figure 3" if name == "large" else ""),
        data="ptb",
        cost=cost,
        config=config,
        build=lambda config: WordTask(config, ptb.words()),
        trained=trained,
        judgement=Judgement(
            "batch_perplexity",
            "lower",
            "validation perplexity, mean over batches",
            also=("perplexity",),
            figure=f"ptb-word-{name}",
            defaults=("cell", "units", "batch_size", "steps", "dropout", "init"),
        ),
        label=_label,
        named=("cell", "norm", "seed", "schedule"),
    )


PTB_WORD_SMALL = _experiment("small", _SMALL, "7,260 updates; 15 to 25 minutes on 2 cores")
PTB_WORD_MEDIUM = _experiment("medium", _MEDIUM, "32,331 updates; 8 h on 2 cores")
PTB_WORD_LARGE = _experiment("large", _LARGE, "45,595 updates; 2 days on 2 cores")
