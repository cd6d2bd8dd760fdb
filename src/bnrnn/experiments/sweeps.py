"""Sweeps: many runs of one experiment, shared out among workers by an Optuna study.

Every trial is known before the first one runs, so a study has no order in which its numbers would depend on chance, and
a worker is whoever asks the study for the next trial, on this machine or another. A trial's run is an ordinary run
folder whose name follows from its options. A worker that works on a trial says so again and again; where one has fallen
silent, the next one that has nothing else to do takes the trial over and resumes its run from the last checkpoint.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from bnrnn.training import DivergenceError, InterruptionError, RunError

SILENCE = 60.0  # seconds after which a worker counts as gone
_SETTINGS = "bnrnn"
_HEARTBEAT = "heartbeat"


@dataclass(frozen=True)
class Plan:
    """What a sweep runs.

    Args:
        experiment: its name.
        options: option names, each with the values of the trials: one value a trial.
        fixed: the options that all trials share.
        metric: the experiment's headline metric.
        better: ``"lower"`` or ``"higher"``.
    """

    experiment: str
    options: tuple[Mapping[str, str], ...]
    fixed: Mapping[str, Any]
    metric: str
    better: str


@dataclass(frozen=True)
class Outcome:
    """A trial as :func:`outcomes` finds it.

    Args:
        options: its own.
        state: ``"waiting"``, ``"running"``, ``"silent"`` (running, but its worker has gone), ``"complete"``,
            ``"diverged"`` or ``"failed"``.
        value: the headline metric on the validation part, with batch statistics; None while there is none.
        folder: of its run, relative to the sweep's.
        message: why it diverged or failed.
    """

    options: dict[str, str]
    state: str
    value: float | None
    folder: str
    message: str


def grid(axes: Sequence[str], seeds: str | None = None) -> list[dict[str, str]]:
    """Every combination of the values of some options.

    Args:
        axes: ``NAME=VALUE,VALUE,...`` each.
        seeds: ``1-3``, or ``1,2,5``; an axis of its own.

    Raises:
        ValueError: an axis of another form, or an option named twice.
    """
    values: dict[str, list[str]] = {}
    for axis in [*axes, *([f"seed={_seeds(seeds)}"] if seeds else [])]:
        name, equals, listed = axis.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        found = [value.strip() for value in listed.split(",") if value.strip()]
        if not equals or not name or not found:
            raise ValueError(f"grid must be NAME=VALUE,VALUE,..., as gamma=.1,.3; got {axis!r}")
        if name in values:
            raise ValueError(f"grid names {name} twice")
        values[name] = list(dict.fromkeys(found))
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def _seeds(given: str) -> str:
    span = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", given)
    if span is None:
        if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", given):
            raise ValueError(f"seeds must be as 1-3 or 1,2,5; got {given!r}")
        return given
    first, last = map(int, span.groups())
    if last < first:
        raise ValueError(f"seeds must rise, got {given!r}")
    return ",".join(map(str, range(first, last + 1)))


def draws(count: int, axes: Sequence[str], seed: int = 1) -> list[dict[str, str]]:
    """Random combinations, the same for the same seed.

    Args:
        count: how many.
        axes: each ``NAME=log:LOW:HIGH`` (log-uniform), ``NAME=uniform:LOW:HIGH`` or ``NAME=VALUE,VALUE,...`` (one of
            them).
        seed: of the draws.

    Raises:
        ValueError: an axis of another form, or a range that is none.
    """
    if count < 1:
        raise ValueError(f"random must be at least 1, got {count}")
    if not axes:
        raise ValueError("random draws need --space NAME=log:LOW:HIGH or NAME=VALUE,VALUE,...")
    source = random.Random(seed)
    laws = [_law(axis) for axis in axes]
    return [{name: draw(source) for name, draw in laws} for _ in range(count)]


def _law(axis: str) -> tuple[str, Callable[[random.Random], str]]:
    name, _, law = axis.partition("=")
    span = re.fullmatch(r"(log|uniform):([^:]+):([^:]+)", law.strip())
    if span is None:
        (first, *_) = points = grid([axis])
        (key,) = first
        return key, lambda source: source.choice(points)[key]
    try:
        low, high = float(span[2]), float(span[3])
    except ValueError:
        raise ValueError(f"space must be NAME=log:LOW:HIGH with numbers, got {axis!r}") from None
    if not low < high or (span[1] == "log" and not low > 0):
        raise ValueError(f"space must have LOW below HIGH, and above 0 for log; got {axis!r}")
    key = name.strip().lstrip("-").replace("-", "_")
    if span[1] == "log":
        return key, lambda source: f"{math.exp(source.uniform(math.log(low), math.log(high))):.6g}"
    return key, lambda source: f"{source.uniform(low, high):.6g}"


def combine(drawn: Sequence[dict[str, str]], points: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Every draw with every point of a grid, so that the points are compared at the same draws.

    Raises:
        ValueError: an option that both name.
    """
    both = {name for draw in drawn[:1] for name in draw} & {name for point in points[:1] for name in point}
    if both:
        raise ValueError(f"both space and grid name {', '.join(sorted(both))}")
    return [{**draw, **point} for draw in drawn for point in points]


def folder_name(options: Mapping[str, str]) -> str:
    """A trial's run folder: its options, as ``gamma=0.1,seed=2``."""
    return ",".join(f"{name}={re.sub(r'[^A-Za-z0-9_.+-]', '_', value)}" for name, value in sorted(options.items()))


def storage(where: str) -> optuna.storages.BaseStorage:
    """A database's, for a URL; otherwise a journal file's, for one machine or a disk that several share.

    Raises:
        RunError: the database cannot be reached.
    """
    if "://" in where:
        try:
            return optuna.storages.RDBStorage(where, engine_kwargs={"pool_pre_ping": True})
        except Exception as error:  # of the database's own driver
            raise RunError(f"the study's database cannot be used ({' '.join(str(error).split())})") from error
    path = Path(where)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileOpenLock(str(path))
    return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def open_study(where: str, name: str, plan: Plan | None) -> tuple[Study, Plan]:
    """The study of a sweep: made with all its trials where it is not there yet, joined where it is.

    Args:
        where: file or URL.
        name: of the study.
        plan: what to run; None to join whatever is there.

    Raises:
        RunError: there is nothing to join, or another plan is under way.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kept = storage(where)
    if plan is None:
        try:
            study = optuna.load_study(study_name=name, storage=kept)
        except KeyError:
            raise RunError(f"{where} has no sweep of the name {name}") from None
        return study, _plan_of(study)
    direction = "minimize" if plan.better == "lower" else "maximize"
    study = optuna.create_study(study_name=name, storage=kept, direction=direction, load_if_exists=True)
    settings = _encode(plan)
    held = study.user_attrs.get(_SETTINGS)
    if held is not None and held != settings:
        raise RunError(
            f"{where} holds another sweep of the name {name}; name another folder with --out, or join it as it is by"
            " the command that began it"
        )
    if held is None:
        study.set_user_attr(_SETTINGS, settings)
    known = {json.dumps(trial.user_attrs.get("options"), sort_keys=True) for trial in study.get_trials(deepcopy=False)}
    for options in plan.options:  # also those that a process killed here has not come to
        if json.dumps(dict(options), sort_keys=True) not in known:
            study.enqueue_trial(dict(options), user_attrs={"options": dict(options)})
    return study, plan


def _encode(plan: Plan) -> dict[str, Any]:
    return json.loads(json.dumps({**vars(plan), "options": [dict(o) for o in plan.options], "fixed": dict(plan.fixed)}))


def _plan_of(study: Study) -> Plan:
    held = study.user_attrs[_SETTINGS]
    return Plan(held["experiment"], tuple(held["options"]), held["fixed"], held["metric"], held["better"])


def work(
    study: Study,
    plan: Plan,
    execute: Callable[[dict[str, str], Path], dict[str, Any]],
    folder: Path,
    tell: Callable[[str], None] = print,
    silence: float = SILENCE,
) -> None:
    """Runs trials until none is left, those of other workers that fall silent meanwhile among them.

    Args:
        study, plan: of :func:`open_study`.
        execute: runs a trial, with its options, in a run folder, from its checkpoint where there is one, and returns
            the result as ``result.json`` has it. It may raise :class:`DivergenceError`, which is a result, or
            :class:`RunError`, which is the end of that trial; :class:`InterruptionError` queues the trial again and
            ends the work.
        folder: where the run folders are.
        tell: is called with a line for each trial.
        silence: seconds after which a worker counts as gone.
    """
    space: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(list(dict.fromkeys(str(options[name]) for options in plan.options)))
        for name in (plan.options[0] if plan.options else ())
    }
    while True:
        if not _waiting(study):
            if not _revive(study, silence):
                if not any(t.state == TrialState.RUNNING for t in study.get_trials(deepcopy=False)):
                    return
                time.sleep(min(2.0, silence / 4))
            continue
        trial = study.ask(space)
        if "options" not in trial.user_attrs:  # another worker took the last one meanwhile, and this is a new draw
            study.tell(trial, state=TrialState.PRUNED)
            continue
        options: dict[str, str] = trial.user_attrs["options"]
        name = folder_name(options)
        with _heartbeat(trial, silence / 4):
            try:
                value, state, message = _attempt(execute, options, folder / name, plan)
            except InterruptionError:
                _queue_again(study, trial.number, options)
                raise
        if message:
            trial.set_user_attr("message", message)
        trial.set_user_attr("outcome", state)
        try:
            if state == "failed":
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, value)
        except (UpdateFinishedTrialError, ValueError):  # taken for silent, and taken over
            continue
        tell(f"{name}: {state}" + (f", {plan.metric} {value:.4f}" if state == "complete" else ""))


def _attempt(
    execute: Callable[[dict[str, str], Path], dict[str, Any]], options: dict[str, str], folder: Path, plan: Plan
) -> tuple[float, str, str]:
    worst = math.inf if plan.better == "lower" else -math.inf
    try:
        result = execute(options, folder)
    except DivergenceError as error:
        return worst, "diverged", str(error)
    except (RunError, ValueError, OSError) as error:
        return worst, "failed", " ".join(str(error).split())
    return result["evaluation"]["valid"]["batch"][plan.metric], "complete", ""


def outcomes(study: Study, silence: float = SILENCE) -> list[Outcome]:
    """All trials as they stand, in the order of the plan; of one that was taken over, the last attempt."""
    latest: dict[str, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if "options" in trial.user_attrs:
            latest[folder_name(trial.user_attrs["options"])] = trial
    found = []
    for name, trial in latest.items():
        state = {TrialState.WAITING: "waiting", TrialState.RUNNING: "running"}.get(trial.state)
        if state == "running" and _silent(trial, silence):
            state = "silent"
        state = state or trial.user_attrs.get("outcome", "failed")
        value = trial.value if state == "complete" else None
        message = trial.user_attrs.get("message", "")
        found.append(Outcome(dict(trial.user_attrs["options"]), state, value, name, message))
    return found


def _waiting(study: Study) -> bool:
    return any(trial.state == TrialState.WAITING for trial in study.get_trials(deepcopy=False))


def _silent(trial: FrozenTrial, silence: float) -> bool:
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return time.time() - max(started, trial.user_attrs.get(_HEARTBEAT, 0.0)) > silence


def _revive(study: Study, silence: float) -> bool:
    """Ends the attempts whose workers are silent and queues their trials again; whether there was any."""
    revived = False
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.RUNNING and _silent(trial, silence):
            revived |= _queue_again(study, trial.number, trial.user_attrs.get("options"))
    return revived


def _queue_again(study: Study, number: int, options: dict[str, str] | None) -> bool:
    """Ends an attempt and queues its trial once more; False where another worker was quicker."""
    try:
        study.tell(number, state=TrialState.FAIL)
    except (UpdateFinishedTrialError, ValueError):
        return False
    if options is not None:
        study.enqueue_trial(options, user_attrs={"options": options})
    return True


@contextmanager
def _heartbeat(trial: optuna.Trial, every: float) -> Iterator[None]:
    """Says again and again that somebody works on a trial."""
    done = threading.Event()

    def beat() -> None:
        while True:
            trial.set_user_attr(_HEARTBEAT, time.time())
            if done.wait(every):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
