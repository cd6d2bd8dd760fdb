"""The choice between the reference recurrence and a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args, runtime_checkable

Backend = Literal["auto", "reference", "cpu"]
BACKENDS: tuple[str, ...] = get_args(Backend)


@runtime_checkable
class Kernel(Protocol):
    """A compiled implementation of one cell."""

    def unsupported(self, *args: Any, **kwargs: Any) -> str | None:
        """Why the kernel cannot take this call; None if it can."""
        ...

    def cpu(self, *args: Any, **kwargs: Any) -> Any:
        """The call itself, with the reference's arguments and results."""
        ...


def dispatch(backend: Backend, reference: Callable[..., Any], kernel: Kernel | None, *args: Any, **kwargs: Any) -> Any:
    """Run the kernel where it covers the call, and the reference where not.

    Raises:
        ValueError: ``backend="cpu"`` was asked for and does not cover the call.
    """
    if backend == "reference":
        return reference(*args, **kwargs)
    reason = "it is not built" if kernel is None else kernel.unsupported(*args, **kwargs)
    if kernel is not None and reason is None:
        return kernel.cpu(*args, **kwargs)
    if backend == "cpu":
        raise ValueError(
            f"backend='cpu' cannot take this call: {reason}; use backend='auto' or backend='reference' instead"
        )
    return reference(*args, **kwargs)
