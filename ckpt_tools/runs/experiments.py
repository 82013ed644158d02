"""Where a ComiRec experiment keeps its files.

ROOT/best_model/EXPERIMENT/model.ckpt.*           the original trainer: one prefix, overwritten
ROOT/best_model/EXPERIMENT/keras_ckpt/ckpt-N.*    the Keras port, and the best of this project's trainer
ROOT/best_model/EXPERIMENT/latest/ckpt-N.*        the newest of this project's trainer
ROOT/runs/EXPERIMENT/                             TensorBoard events, train.log, metrics.jsonl
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import Any

from ckpt_tools.errors import NotFoundError, StorageError
from ckpt_tools.format.filenames import STATE_FILE
from ckpt_tools.fs import local, paths
from ckpt_tools.fs.local import is_no_answer
from ckpt_tools.fs.nearby import did_you_mean
from ckpt_tools.lineages.comirec.experiment_name import parse_name
from ckpt_tools.readers import location
from ckpt_tools.readers.location import Located, find_latest, latest_in, prefixes_in
from ckpt_tools.runs.declared_run import DeclaredRun

BEST_ROOT = "best_model"
RUNS_ROOT = "runs"
BEST_LINE = "keras_ckpt"
LATEST_LINE = "latest"
ORIGINAL_PREFIX = "model.ckpt"


@dataclass(frozen=True)
class Experiment:
    """One experiment's folder, ``ROOT/best_model/NAME``."""

    path: str

    @property
    def name(self) -> str:
        return os.path.basename(paths.absolute(self.path))

    @property
    def root(self) -> str:
        """The directory that holds ``best_model`` and ``runs``."""
        return paths.normal(os.path.join(self.path, os.pardir, os.pardir))

    @property
    def runs(self) -> str:
        """The directory of its logs; it need not exist."""
        return paths.normal(os.path.join(self.root, RUNS_ROOT, self.name))

    @property
    def fields(self) -> dict[str, Any]:
        return parse_name(self.name)

    @property
    def best_line(self) -> str:
        return os.path.join(self.path, BEST_LINE)

    @property
    def latest_line(self) -> str:
        return os.path.join(self.path, LATEST_LINE)

    @property
    def best_directory(self) -> str:
        """Where its best is: a line of its own, or its folder itself."""
        return self.best_line if _holds_checkpoint(self.best_line) else self.path

    def best_prefix(self) -> str:
        """The prefix of its best checkpoint. Raises NotFoundError when there is none."""
        return latest_in(self.best_directory)

    @property
    def has_latest(self) -> bool:
        """Whether the trainer has saved a newest state."""
        return _holds_checkpoint(self.latest_line)

    def latest_prefix(self) -> str | None:
        """The prefix of the newest state of the trainer; None before its first save."""
        return latest_in(self.latest_line) if self.has_latest else None

    @staticmethod
    def containing(path: str | os.PathLike[str]) -> Experiment | None:
        """The experiment whose folder is ``path`` or lies above it (at most two levels), or None."""
        if paths.is_lone(path):
            return None
        here = paths.normal(os.fspath(path))
        for _ in range(3):
            try:
                if is_experiment(here):
                    return Experiment(here)
            except StorageError as error:
                # A store, or the owner of what lies above, may show a checkpoint alone. Anything else is no answer.
                if is_no_answer(error) and not paths.is_url(here):
                    raise
                return None
            here = paths.parent(here) or "."
        return None

    @staticmethod
    def at(path: str | os.PathLike[str]) -> Experiment:
        """The experiment at a path. Raises NotFoundError when there is none."""
        if not paths.exists(path) and not paths.is_directory(paths.parent(paths.absolute(path))):
            raise NotFoundError("no such experiment", path=path, hint=did_you_mean(path) or "ckpt audit .")
        found = Experiment.containing(path)
        if found is None:
            raise NotFoundError(
                "no experiment here: expected a folder best_model/EXPERIMENT with model.ckpt.index or keras_ckpt/",
                path=path,
                hint="pass the experiment's own folder, for example best_model/book_DNN_b128_lr0.005_d64_len20_test",
            )
        return found


def usual_data_directory(root: str, dataset: str) -> str:
    """Where the original trainer keeps a dataset, beside ``best_model`` and ``runs``."""
    return os.path.join(root, "data", f"{dataset}_data")


def data_directory(root: str, dataset: str) -> str | None:
    """Where the data of an experiment lies: the first place that holds the dataset's validation split; None if none."""
    places = (
        usual_data_directory(root, dataset),
        os.path.join(root, "data"),
        os.path.join(root, f"{dataset}_data"),
        root,
    )
    if paths.is_url(root):
        return None  # data is read from this machine
    name = f"{dataset}_valid.txt"
    return next((place for place in places if local.is_file(os.path.join(place, name), follow=True)), None)


def is_experiment(directory: str) -> bool:
    """Whether a directory is an experiment's folder: any in ``best_model``, elsewhere one that looks like it."""
    parent = paths.parent(paths.absolute(directory))
    return paths.is_directory(directory) and (os.path.basename(parent) == BEST_ROOT or _looks_like(directory))


def _holds_checkpoint(directory: str) -> bool:
    return paths.is_directory(directory) and (
        paths.has_file(os.path.join(directory, STATE_FILE)) or bool(prefixes_in(directory))
    )


def _looks_like(directory: str) -> bool:
    """A folder away from ``best_model`` counts when its name and its contents are those of an experiment."""
    if _holds_checkpoint(os.path.join(directory, BEST_LINE)):
        return True
    return bool(parse_name(os.path.basename(paths.absolute(directory)))) and _holds_checkpoint(directory)


def find_experiments(root: str | os.PathLike[str]) -> list[Experiment]:
    """All experiments of ``ROOT/best_model`` that hold a checkpoint, by name; empty when there is no such folder.

    Raises StorageError when the system does not say.
    """
    directory = os.path.join(os.fspath(root), BEST_ROOT)
    try:
        names = paths.list_directory(directory)
    except NotFoundError:
        return []
    folders = (os.path.join(directory, name) for name in names)
    lines = ("", BEST_LINE, LATEST_LINE)
    return [Experiment(path) for path in folders if any(_holds_checkpoint(os.path.join(path, line)) for line in lines)]


def resolve(path: str | os.PathLike[str]) -> str:
    """The prefix meant by a path, which may be an experiment's folder (then its best) or anything `locate` takes.

    Raises what `locate` raises.
    """
    found = find(path)
    found.close()
    return found.path


def find(path: str | os.PathLike[str]) -> Located:
    """The same as `resolve`, with the file that was opened on the way. Raises what `locate` raises."""
    path = os.fspath(path)
    try:
        return _resolved(path)
    except NotFoundError as error:
        from ckpt_tools.runs.pin_places import pins_directory
        from ckpt_tools.runs.pins import ranked

        pins = None if paths.is_url(path) else pins_directory(path)
        if pins is not None and ranked(pins):
            error.hint = f"ckpt guard {shlex.quote(path)} --restore"
        raise


def _resolved(path: str) -> Located:
    if not paths.is_lone(path) and paths.is_directory(path) and _holds_checkpoint(os.path.join(path, BEST_LINE)):
        return find_latest(Experiment(path).best_directory)
    if not paths.is_lone(path) and paths.is_directory(path) and (declared := _declared_best(path)):
        return location.find(declared)
    try:
        return location.find(path)
    except NotFoundError as error:
        newest = os.path.join(path, LATEST_LINE)
        if not paths.is_lone(path) and _holds_checkpoint(newest):
            # A run of this project's trainer before its first best, or one that has lost it.
            error.message = f"the run has no best: {error.message}"
            error.hint = f"trainer train {shlex.quote(path)} --resume --from latest"
        raise


def _declared_best(directory: str) -> str | None:
    """The best of a run whose own directory this is, where its ``ckpt.toml`` says what that is called."""
    run = DeclaredRun.above(directory)
    return run.best_prefix() if run is not None and run.directory == paths.absolute(directory) else None
