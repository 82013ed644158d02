"""Which experiment a command line means. Looks at names only."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from ckpt_tools.errors import NotFoundError, UsageError
from ckpt_tools.fs import local
from ckpt_tools.runs.experiments import BEST_ROOT, Experiment, find_experiments
from trainer.config import TrainConfig, experiment_name


def existing_experiment(path: str | None, root: str, name: str | None, given: Mapping[str, Any]) -> Experiment:
    """The experiment to resume: at ``path``, or the one below ``root`` called ``name``.

    ``name`` is a folder's full name or its last part. When several fit, hyper-parameters in ``given`` decide by the
    folders' names. Raises UsageError (neither given, both, or several fit), NotFoundError.
    """
    if (path is None) == (name is None):
        raise UsageError(
            f"a resume needs either the experiment's folder or --exp-name, not {'both' if path else 'neither'}",
            hint="trainer train EXPERIMENT --resume",
        )
    if path is not None:
        return Experiment.at(path)
    everything = find_experiments(root)
    exact = [found for found in everything if found.name == name]
    fitting = exact or [found for found in everything if found.fields.get("name") == name]
    if len(fitting) > 1:
        fitting = [found for found in fitting if _agrees(found, given)] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        paths = ", ".join(found.path for found in fitting)
        raise UsageError(f"{len(fitting)} experiments are called {name!r}: {paths}", hint="pass one of these folders")
    there = ", ".join(found.name for found in everything[:8]) or "none"
    raise NotFoundError(
        f"no experiment is called {name!r}; there are: {there}",
        path=os.path.join(root, BEST_ROOT),
        hint="name the directory that holds best_model with --root",
    )


def new_experiment(root: str, config: TrainConfig, name: str, data_dir: str | None = None) -> Experiment:
    """The folder of a new run. Raises UsageError when a run of that name is there already."""
    experiment = Experiment(os.path.join(root, BEST_ROOT, experiment_name(config, name)))
    require_unused(experiment, data_dir)
    return experiment


def require_unused(experiment: Experiment, data_dir: str | None = None) -> None:
    """Raise UsageError when there is a checkpoint or a log of this experiment. Asked again once it is locked: of two
    runs of one name that were started together, the second must not write over the first."""
    if any(found.name == experiment.name for found in find_experiments(experiment.root)):
        raise UsageError(
            "this experiment exists",
            path=experiment.path,
            hint=f"{resume_command(experiment.path, data_dir)}; or choose another --exp-name",
        )
    if local.is_directory(experiment.runs, follow=True) and os.listdir(experiment.runs):
        raise UsageError(
            "there are logs of this experiment, but no checkpoint",
            path=experiment.runs,
            hint="choose another --exp-name, or remove that directory",
        )


def resume_command(path: str, data_dir: str | None = None) -> str:
    """What resumes the experiment at ``path``. ``data_dir`` as it was given: without it the data would be looked for
    where it is not."""
    return f"trainer train {shlex.quote(path)} --resume{data_flag(data_dir)}"


def data_flag(data_dir: str | None) -> str:
    """The flag that names a directory of data, to go on a command line; empty without one."""
    return "" if data_dir is None else f" --data-dir {shlex.quote(data_dir)}"


def _agrees(experiment: Experiment, given: Mapping[str, Any]) -> bool:
    fields = experiment.fields
    return all(value is None or key not in fields or fields[key] == value for key, value in given.items())
