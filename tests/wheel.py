"""What an installed package must do: python tests/wheel.py, in an environment that has it and torch alone."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import bnrnn


def main() -> None:
    """Compares the kernels with the reference recurrence, outputs, statistics and gradients.

    Raises:
        SystemExit: the package is the source tree's, has no kernels, or they compute something else.
    """
    source = Path(__file__).resolve().parent.parent / "src"
    if source in Path(bnrnn.__file__).resolve().parents:
        sys.exit("bnrnn is imported from the source tree")
    kernels = bnrnn.backends()["cpu"]
    if not kernels["available"]:
        sys.exit(f"the package has no kernels: {kernels['reason']}")
    for cell in (bnrnn.LSTM, bnrnn.GRU, bnrnn.RNN):
        results = []
        for backend in ("cpu", "reference"):
            torch.manual_seed(0)
            layer = cell(5, 19, num_layers=2, norm="recurrent", backend=backend, dtype=torch.float64)
            x = torch.randn(7, 6, 5, dtype=torch.float64, requires_grad=True)
            output, _ = layer(x, lengths=[7, 7, 5, 4, 3, 2])
            output.square().sum().backward()
            gradients = [p.grad for p in (x, *layer.parameters()) if p.grad is not None]
            results.append([output.detach(), *gradients, *layer.buffers()])
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)
    versions = f"torch {torch.__version__}, Python {sys.version.split()[0]}, {kernels['instruction_set']}"
    print(f"the installed kernels compute as the reference ({versions})")


if __name__ == "__main__":
    main()
