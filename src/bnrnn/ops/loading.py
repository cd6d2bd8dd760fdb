"""The compiled CPU kernels: found and loaded at the first call that asks for them, never at import."""

from __future__ import annotations

import hashlib
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from bnrnn.ops._triton import availability

OBJECT = Path(__file__).parent.parent / "_kernels.so"


@cache
def _load() -> str | None:
    if availability.INTERPRETED:
        return "TRITON_INTERPRET=1 has Triton's interpreter in the place of the CPU kernels"
    if not OBJECT.exists():
        return (
            "the package was installed without CPU kernels (it needs a C++ compiler, and "
            "pip install --no-build-isolation in an environment that has torch; its option -v shows what failed)"
        )
    sources = OBJECT.parent / "csrc"
    if sources.is_dir():  # an editable install; a wheel has none
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources.glob("*.[ch]*")))).hexdigest()
        # Seen before it is loaded: an object of other sources may define what is defined already, and end the process.
        if f"bnrnn sources {digest}".encode() not in OBJECT.read_bytes():
            return "the CPU kernels were built from other sources than these: install the package again"
    try:
        torch.ops.load_library(OBJECT)
    except OSError as error:
        return f"the CPU kernels could not be loaded: {error}"
    return None


def vector_bytes() -> int:
    """The length of the kernels' vectors. While a program is traced, the question is no part of it."""
    with _disable_current_modes():
        return torch.ops.bnrnn.vector_bytes()


def why_not() -> str | None:
    """Load the kernels at the first call; the reason if there are none."""
    return _load()


@cache
def _warn() -> None:
    if sys.platform == "win32":  # for which there are no kernels
        return
    warnings.warn(
        f"bnrnn computes by torch's own operations, several times slower than by its CPU kernels: {_load()}. A wheel "
        "brings the kernels. backend='reference' takes torch's operations without this warning",
        UserWarning,
        stacklevel=4,
    )


def warn_of_absence() -> None:
    """Say once a process that there are no kernels, and how to get them."""
    _warn()


# torch.compile takes the answers as constants and does not look inside: loading cannot be traced. This is what
# torch.compiler.assume_constant_result does, without the import of the whole compiler.
for _function in (why_not, warn_of_absence):
    _function._dynamo_marked_constant = True  # type: ignore[attr-defined]


def facts() -> dict[str, Any]:
    """What :func:`bnrnn.backends` tells of the CPU kernels."""
    reason = why_not()
    if reason is not None:
        return {"available": False, "reason": reason}
    return {
        "available": True,
        "instruction_set": torch.ops.bnrnn.instruction_set(),
        "instruction_sets": torch.ops.bnrnn.instruction_sets().split(),
    }


def release_memory() -> int:
    """Give the memory that the CPU kernels keep from call to call back to the system.

    What a forward pass has kept for its backward pass is in use and stays.

    Returns:
        How many bytes were given back: 0 where no kernel has run yet.
    """
    operator = getattr(torch.ops.bnrnn, "release_memory", None)  # defined by the object when it is loaded
    return 0 if operator is None else operator()
