"""Trained runs on the Hugging Face hub, and in folders of its form.

Needs the extra ``bnrnn[hub]``. Weights are safetensors; nothing that is read from the hub can run code.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

try:
    from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, snapshot_download

    from bnrnn.experiments.opened import load_run
    from bnrnn.training import RunFolder, checkpoint
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"the package {missing.name} is missing; bnrnn.hub needs pip install 'bnrnn[hub]'", name=missing.name
    ) from missing

__all__ = ["PretrainedRun"]

_FILES = ("config.json", "model.safetensors", "result.json")
_PAPERS = {
    "Cooijmans": "[Recurrent Batch Normalization](https://arxiv.org/abs/1603.09025)",
    "Laurent": "[Batch Normalized Recurrent Neural Networks](https://arxiv.org/abs/1510.01378)",
}


class PretrainedRun(
    ModelHubMixin,
    library_name="bnrnn",
    repo_url="https://github.com/bnrnn/bnrnn",
    docs_url="https://bnrnn.readthedocs.io",
):
    """A trained run, to be pushed to the hub and loaded from it.

    ``PretrainedRun("runs/...").push_to_hub("me/name")`` publishes one, with a model card made of its record;
    ``PretrainedRun.from_pretrained("me/name")`` has it elsewhere; ``save_pretrained`` and ``from_pretrained`` take a
    folder as well. Such a folder is a small run folder: :func:`bnrnn.load_run` opens it too. Of paths in the config
    the last part alone is published.

    Args:
        path: run folder.
        device: where to compute.

    Attributes:
        run: what :func:`bnrnn.load_run` gives.

    Call:
        that of ``run``.

    Raises:
        RunError: see :func:`bnrnn.load_run`.
    """

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        self.run = load_run(path, device=device)

    def __call__(self, *args: Any) -> Any:
        return self.run(*args)

    def _save_pretrained(self, save_directory: Path) -> None:
        folder = RunFolder(save_directory)
        folder.write_json(folder.config, _without_folders(self.run.described))
        checkpoint.save(folder.model, self.run.parameters, {"update": self.run.update})
        if self.run.folder.result.exists() and self.run.folder.path.resolve() != save_directory.resolve():
            folder.write_json(folder.result, self.run.folder.read_json(self.run.folder.result))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: str = "cpu",
        **model_kwargs: Any,
    ) -> PretrainedRun:
        folder = model_id
        if not os.path.isdir(folder):
            folder = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=[*_FILES],
            )
        return cls(folder, device, **model_kwargs)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The run's record: what was trained, its numbers and options, and how to load it."""
        described = _without_folders(self.run.described)
        config = described["config"]
        names = [str(config[name]) for name in ("cell", "norm", "variant") if config.get(name)]
        tags = [*dict.fromkeys(["batch-normalization", "recurrent", *names])]
        data = ModelCardData(library_name="bnrnn", tags=tags)
        paper = described["paper"]
        links = ", ".join(link for author, link in _PAPERS.items() if author in paper)
        parts = [
            f"---\n{data.to_yaml()}\n---",
            f"# {described['experiment']} {described['label']}",
            f"{described['summary']}. {paper}: {described['target']}. {links}",
            f"The model of update {self.run.update:,}, trained with [bnrnn]({self._hub_mixin_info.repo_url}).",
            _usage(kwargs.get("repo_id") or f"me/{described['experiment']}"),
            *([f"## Results\n\n{_results(self.run.metrics)}"] if self.run.metrics else []),
            "## Options\n\n"
            + _table(["option", "value"], [[name, json.dumps(value)] for name, value in config.items()]),
        ]
        return ModelCard("\n\n".join(parts) + "\n")


def _usage(name: str) -> str:
    return (
        "```python\n"
        "from bnrnn.hub import PretrainedRun  # pip install 'bnrnn[hub]'\n\n"
        f'run = PretrainedRun.from_pretrained("{name}").run\n'
        "run.model  # in eval(), with its population statistics; run.encode, run.vocabulary, run.config, run.metrics\n"
        "```"
    )


def _results(metrics: dict[str, dict[str, dict[str, float]]]) -> str:
    rows = [
        [part, statistics, name, f"{value:g}"]
        for part, kinds in metrics.items()
        for statistics, values in kinds.items()
        for name, value in values.items()
        if value is not None
    ]
    return _table(["part", "statistics", "metric", "value"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _without_folders(value: Any) -> Any:
    """The same, with the last part alone of every absolute path."""
    if isinstance(value, dict):
        return {name: _without_folders(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value
