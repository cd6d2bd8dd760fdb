"""The test matrix, for a person and for the workflows alike: nox --list."""

from __future__ import annotations

import os

import nox

nox.options.sessions = ["lint", "tests", "docs"]
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
OLDEST, TESTED, NEWEST = "2.10.0", "2.13.0", "2.15.0"
SERVED = [OLDEST, TESTED, "2.14.1", NEWEST]
# the newest torch has no builds for Python 3.10
MATRIX = [
    (python, torch) for python in PYTHONS for torch in (OLDEST, TESTED, NEWEST) if (python, torch) != ("3.10", NEWEST)
]


def _install(session: nox.Session, torch: str, *extras: str) -> None:
    """torch first, at one version: a looser request takes the newest build with its GPU libraries."""
    session.install(f"torch=={torch}", "setuptools>=77", "wheel")
    pins = ("-c", "constraints.txt") if torch == TESTED else ()
    session.install("--no-build-isolation", "--editable", f".[{','.join(extras)}]", f"torch=={torch}", *pins)


@nox.session
@nox.parametrize(["python", "torch"], MATRIX)
def tests(session: nox.Session, torch: str) -> None:
    """The tests on one Python with one torch."""
    _install(session, torch, "speech", "onnx", "tensorboard", "wandb", "dev")
    data = [] if os.environ.get("BNRNN_DATA") else ["-m", "not real_data"]
    session.run("pytest", "-n", "2", "--dist", "loadfile", *data, *session.posargs)


@nox.session(python="3.12")
def lint(session: nox.Session) -> None:
    """Style, types, layering, declared dependencies."""
    _install(session, TESTED, "speech", "onnx", "tensorboard", "wandb", "dev")
    for command in (
        ("ruff", "check"),
        ("ruff", "format", "--check"),
        ("pyright",),
        ("lint-imports",),
        ("deptry", "src"),
    ):
        session.run(*command)


@nox.session(python="3.12")
def docs(session: nox.Session) -> None:
    """The site, warnings as errors."""
    _install(session, TESTED, "experiments", "docs")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session(python="3.12")
@nox.parametrize("torch", SERVED)
def wheel(session: nox.Session, torch: str) -> None:
    """One wheel, given as the argument, with each torch that it has to serve, in a fresh environment."""
    session.install(f"torch=={torch}", *session.posargs)
    session.run("python", "tests/wheel.py")


@nox.session(python="3.12")
def source(session: nox.Session) -> None:
    """The sources beside torch, by pip's default, which isolates the build: the kernels are there."""
    session.install(f"torch=={TESTED}")
    session.install(".")
    session.run("python", "tests/wheel.py")
