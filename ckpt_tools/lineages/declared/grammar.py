"""The grammar of a ``ckpt.toml``: from text to a `Declaration`, or an error that names the line.

    preset = "estimator"            # optional: what is not said here is taken from it
    [layout]                        # patterns below the run's directory; a list may be given
    best = "best/model.ckpt"        # a prefix, a file of Keras, or a directory of checkpoints
    latest = "checkpoints"
    logs = ["train.log", "events/*"]
    [metric]
    name = "val_auc"
    mode = "max"                    # or "min"
    scale = 0.01                    # what a printed value is multiplied by
    line = 'AUC of step (?P<step>\\d+): (?P<value>[0-9.]+)'
    [variables]
    model = "tower/*"               # patterns of names
    optimizer = "*/Adam*"
    step = "global_step"            # names
    best = "best_auc"
    [evaluate]
    command = "python eval.py --ckpt {prefix}"
    pattern = 'auc: ([0-9.]+)'
    [graph]                         # how the graph beside a checkpoint (its .meta) is evaluated
    scores = "score/Softmax"        # with targets and measure; or fetch = "accuracy/Mean", one number
    targets = "valid.npz:labels"    # an array, below the directory of this file or of --data
    measure = "accuracy"            # auc, mae, mse, rmse, recall@20, hitrate@20, ndcg@20
    batch = 256                     # rows at a time; without it all at once
    [graph.feeds]                   # arrays with a row for each target, numbers, lists of numbers
    input_x = "valid.npz:x"
    keep_prob = 1.0
    [experiment]
    name = "{dataset}_{model}_lr{rate}"     # the directories of runs below this file
    [resume]                        # how the trainer goes on: see the words below
    restores = "latest"             # or "best", "nothing"
    best = "memory"                 # where it keeps the best value: or "checkpoint", "file" (named by record)
    overwrites = true               # whether a new best takes the place of the old one

Everything that is unknown is an error: a word that is misspelt would else be a rule that is silently not kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from ckpt_tools.errors import UnsafeError, UsageError
from ckpt_tools.format.filenames import DECLARATION

if TYPE_CHECKING:
    from typing import NoReturn

MAX_BYTES = 64 << 10
_LONGEST = 1000
_MOST_PATTERNS = 64
# A pattern may lead as far above its run as an experiment lies below the file.
_PARTS = 16
_MEASURES = re.compile(r"accuracy|auc|mae|mse|rmse|(recall|hitrate|ndcg)@[1-9][0-9]{0,5}")

Restores = Literal["nothing", "best", "latest"]
Memory = Literal["memory", "checkpoint", "file"]


@dataclass(frozen=True)
class Layout:
    """Patterns of paths, relative to the run's directory, with ``/`` and the wildcards of a shell in each part."""

    best: tuple[str, ...] = ()
    latest: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricRule:
    """``line`` finds the value in a line of a log: its group ``value`` (else its first), and ``step`` and ``epoch``."""

    name: str | None = None
    mode: Literal["min", "max"] | None = None
    scale: float = 1.0
    unit: str | None = None
    line: str | None = None


@dataclass(frozen=True)
class Variables:
    """Patterns of the names of model and optimizer, the names of step and best."""

    model: tuple[str, ...] = ()
    optimizer: tuple[str, ...] = ()
    step: str | None = None
    best: str | None = None


@dataclass(frozen=True)
class EvaluateRule:
    command: str
    pattern: str | None = None


@dataclass(frozen=True)
class ArrayFile:
    """An array in a file of NumPy; ``member`` of a ``.npz``, None for a ``.npy``."""

    path: str
    member: str | None = None


Value = float | int | bool | tuple[float | int | bool, ...] | ArrayFile


@dataclass(frozen=True)
class GraphRule:
    """What a graph is fed, and which output is the metric itself (``fetch``), or the ``scores`` that the ``measure`` is
    taken of, with ``targets``, ``batch`` rows at a time."""

    fetch: str | None = None
    scores: str | None = None
    targets: ArrayFile | None = None
    measure: str | None = None
    batch: int | None = None
    feeds: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True)
class ResumeRule:
    """How a trainer goes on: which of its checkpoints it ``restores``, where it keeps the ``best`` value (None: not
    said; ``record`` is its file), and whether a new best ``overwrites`` the old."""

    restores: Restores | None = None
    best: Memory | None = None
    record: str | None = None
    overwrites: bool = True


@dataclass(frozen=True)
class Recognition:
    """How a preset is told: every pattern of ``tensors`` fits a stored name, and one of ``files`` a checkpoint's path
    or what lies beside it. A ``general`` one is only asked when no other is."""

    tensors: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    general: bool = False


@dataclass(frozen=True)
class Declaration:
    """What one file says. ``digest`` is its SHA-256; ``path`` None for a preset, whose ``id`` is its name."""

    id: str
    title: str
    path: str | None
    digest: str
    layout: Layout = field(default_factory=Layout)
    metric: MetricRule = field(default_factory=MetricRule)
    variables: Variables = field(default_factory=Variables)
    evaluate: EvaluateRule | None = None
    graph: GraphRule | None = None
    experiment: str | None = None
    resume: ResumeRule = field(default_factory=ResumeRule)
    recognition: Recognition = field(default_factory=Recognition)

    @property
    def directory(self) -> str | None:
        """Where the file lies: nothing that it names lies above."""
        return None if self.path is None else os.path.dirname(self.path)

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "producer": self.title, "declared": self.path, "preset": self.path is None}


def parse(
    data: bytes, path: str, *, preset: str | None = None, presets: Callable[[str], Declaration] | None = None
) -> Declaration:
    """The declaration in a file.

    Args:
        data: the bytes of the file.
        path: where it lies, for messages and as the directory that nothing leaves.
        preset: the id when it is one of ours: then it may say how it is recognised.
        presets: gives the preset of a name; without it none may be named.

    Raises:
        UnsafeError: too large, or a path that leaves the directory.
        UsageError: everything else that is not of the grammar, with its line.
    """
    if len(data) > MAX_BYTES:
        raise UnsafeError(f"{len(data)} bytes are more than the limit of {MAX_BYTES}", path=path)
    return _Parser(data, path, preset).declaration(presets)


# The directories of runs: literal text and fields, no wildcards and no regular expression.
_FIELD = re.compile(r"\{([A-Za-z_]\w{0,31})\}")


def fields_in(template: str, path: str) -> dict[str, str] | None:
    """The fields of a run's path by the template of ``[experiment] name``; None when it is not of that form.

    Each field takes as little as it can, and never a ``/``: time is linear in the length for each field.
    """
    parts = _FIELD.split(template)
    literals, names = parts[::2], parts[1::2]
    if not path.startswith(literals[0]):
        return None
    found: dict[str, str] = {}
    at = len(literals[0])
    for number, (name, literal) in enumerate(zip(names, literals[1:], strict=True)):
        last = number == len(names) - 1
        if last:
            end = len(path) - len(literal) if path.endswith(literal) else -1
        else:
            end = path.find(literal, at + 1) if literal else at + 1
        if end <= at or "/" in path[at:end] or found.setdefault(name, path[at:end]) != path[at:end]:
            return None
        at = end + len(literal)
    return found if at == len(path) else None


class _Parser:
    """One file; ``depth`` is how far below it its runs lie."""

    def __init__(self, data: bytes, path: str, preset: str | None) -> None:
        self.data, self.path, self.preset = data, path, preset
        self.depth = 0
        self.text = self._decoded()

    def _decoded(self) -> str:
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = self.data.count(b"\n", 0, error.start) + 1
            raise UsageError("is not UTF-8, as TOML is", path=f"{self.path}:{line}") from error

    def declaration(self, presets: Callable[[str], Declaration] | None) -> Declaration:
        document = self._document()
        experiment = document.get("experiment")
        template = experiment.get("name") if isinstance(experiment, dict) else None
        # How deep below the file its runs lie; a preset knows nothing of what is above its run.
        self.depth = template.count("/") + 1 if isinstance(template, str) and not self.preset else 0
        known = {"preset", "title", *_SECTIONS} | ({"recognise"} if self.preset else set())
        for name, value in document.items():
            if name not in known:
                self._unknown("", name, known)
            if name in _SECTIONS and not isinstance(value, dict):
                self._refuse("", name, f"{name} is a section: write [{name}]")
        base = self._base(document.get("preset"), presets)
        title = self._text("", "title", document.get("title", ""))
        values = {name: self._section(name, document.get(name, {})) for name in _SECTIONS}
        recognise = self._section("recognise", document.get("recognise", {}), _RECOGNISE) if self.preset else {}
        evaluate = values["evaluate"]
        if evaluate and "command" not in evaluate:
            self._refuse("evaluate", "pattern", "[evaluate] needs a command")
        graph = self._graph_rule(values["graph"])
        identity = self.preset or (base.id if base else "declared")
        return Declaration(
            id=identity,
            title=title or (base.title if base else f"declared in {DECLARATION}"),
            path=None if self.preset else self.path,
            digest=hashlib.sha256(self.data).hexdigest(),
            layout=Layout(**{**(vars(base.layout) if base else {}), **values["layout"]}),
            metric=MetricRule(**{**(vars(base.metric) if base else {}), **values["metric"]}),
            variables=Variables(**{**(vars(base.variables) if base else {}), **values["variables"]}),
            evaluate=EvaluateRule(**evaluate) if evaluate else None,
            graph=graph,
            experiment=values["experiment"].get("name"),
            resume=ResumeRule(**{**(vars(base.resume) if base else {}), **values["resume"]}),
            recognition=Recognition(**recognise),
        )

    def _graph_rule(self, said: dict[str, Any]) -> GraphRule | None:
        if not said:
            return None
        if ("fetch" in said) == ("scores" in said):
            self._refuse("graph", "fetch", "[graph] names a fetch, or scores with targets and a measure: one of both")
        beside = [key for key in ("targets", "measure", "batch") if key in said]
        if "fetch" in said and beside:
            self._refuse("graph", beside[0], f"{beside[0]} goes with scores: a fetch is the metric itself")
        if "scores" in said and not {"targets", "measure"} <= said.keys():
            self._refuse("graph", "scores", "scores need targets and a measure, such as accuracy")
        return GraphRule(**said)

    def _document(self) -> dict[str, Any]:
        toml = _toml()
        try:
            return cast("dict[str, Any]", toml.loads(self.text))
        except toml.TOMLDecodeError as error:
            match = re.search(r"line (\d+)", str(error))
            place = f"{self.path}:{match[1]}" if match else self.path
            raise UsageError(f"is not TOML: {error}", path=place) from error
        except RecursionError as error:
            raise UnsafeError("is nested deeper than anything that is declared", path=self.path) from error

    def _base(self, name: object, presets: Callable[[str], Declaration] | None) -> Declaration | None:
        if name is None:
            return None
        if presets is None or not isinstance(name, str):
            self._refuse("", "preset", "preset is the name of one: ckpt lineage list")
        try:
            return presets(name)
        except UsageError as error:
            self._refuse("", "preset", error.message, error.hint)

    def _section(
        self, section: str, said: Mapping[str, Any], grammar: Mapping[str, _Check] | None = None
    ) -> dict[str, Any]:
        grammar = _SECTIONS[section] if grammar is None else grammar
        found = {}
        for key, value in said.items():
            if key not in grammar:
                self._unknown(section, key, set(grammar))
            found[key] = grammar[key](self, section, key, value)
        return found

    # ------------------------------------------------------------------------------------ what a value may be

    def _text(self, section: str, key: str, value: object) -> str:
        if not isinstance(value, str) or len(value) > _LONGEST or "\0" in value:
            self._refuse(section, key, f"{key} is a text of at most {_LONGEST} letters")
        return value

    def _texts(self, section: str, key: str, value: object) -> tuple[str, ...]:
        values = value if isinstance(value, list) else [value]
        if len(values) > _MOST_PATTERNS:
            self._refuse(section, key, f"{key} has more than {_MOST_PATTERNS} patterns")
        return tuple(self._text(section, key, each) for each in values)

    def _paths(self, section: str, key: str, value: object) -> tuple[str, ...]:
        return tuple(self._inside(section, key, each) for each in self._texts(section, key, value))

    def _inside(self, section: str, key: str, value: object) -> str:
        path = self._text(section, key, value)
        parts = path.split("/")
        ups = parts.count("..")
        out = os.path.isabs(path) or path.startswith("~") or "\\" in path or len(parts) > _PARTS
        # What an experiment is below the file, its patterns may go up; that it stays inside is asked again there.
        out = out or "://" in path or ups > self.depth or ".." in parts[ups:]
        if out or not path:
            line = self._line(section, key)
            raise UnsafeError(
                f"{key} = {path!r} leaves the directory of this file: only what lies in it is looked at",
                path=f"{self.path}:{line}",
                hint="write a path relative to the run's directory, with /",
            )
        return path.rstrip("/")

    def _mode(self, section: str, key: str, value: object) -> str:
        return self._one_of(section, key, value, ("min", "max"))

    def _one_of(self, section: str, key: str, value: object, words: tuple[str, ...]) -> str:
        if value not in words:
            self._refuse(section, key, f"{key} is one of {', '.join(words)}, not {value!r:.60}", _nearest(value, words))
        return str(value)

    def _scale(self, section: str, key: str, value: object) -> float:
        # An integer may be larger than any float: it is compared, not converted.
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < abs(value) <= sys.float_info.max
        if not good:
            self._refuse(section, key, "scale is a number that printed values are multiplied by, such as 0.01")
        return float(cast("float", value))

    def _truth(self, section: str, key: str, value: object) -> bool:
        if not isinstance(value, bool):
            self._refuse(section, key, f"{key} is true or false")
        return value

    def _pattern(self, section: str, key: str, value: object) -> str:
        text = self._text(section, key, value)
        try:
            compiled = re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            self._refuse(section, key, f"{key} is no regular expression: {error}")
        if not compiled.groups:
            self._refuse(section, key, f"{key} has no group: which part is the value?", "for example 'auc: ([0-9.]+)'")
        return text

    def _array(self, section: str, key: str, value: object) -> ArrayFile:
        text = self._text(section, key, value)
        path, colon, member = text.partition(":")
        if not path.endswith(".npz" if colon else ".npy") or (colon and not member):
            self._refuse(section, key, f"{text!r:.80} is no array: write FILE.npy or FILE.npz:NAME")
        depth, self.depth = self.depth, 0
        try:
            return ArrayFile(self._inside(section, key, path), member or None)
        finally:
            self.depth = depth

    def _feeds(self, section: str, key: str, value: object) -> tuple[tuple[str, Value], ...]:
        if not isinstance(value, dict) or len(value) > _MOST_PATTERNS:
            self._refuse(section, key, f"feeds is a section of at most {_MOST_PATTERNS} values: write [graph.feeds]")
        return tuple((self._text(section, key, name), self._fed(section, key, said)) for name, said in value.items())

    def _fed(self, section: str, key: str, value: object) -> Value:
        if isinstance(value, str):
            return self._array(section, key, value)
        several: list[Any] = value if isinstance(value, list) else [value]
        if len(several) > _LONGEST or not all(isinstance(each, (bool, int, float)) for each in several):
            self._refuse(section, key, "what is fed is a file of an array, a number, or a list of numbers")
        if any(isinstance(each, int) and not -(2**63) <= each < 2**63 for each in several):
            self._refuse(section, key, "a whole number has at most 64 bits here")
        return tuple(several) if isinstance(value, list) else cast("Value", value)

    def _measure(self, section: str, key: str, value: object) -> str:
        if not isinstance(value, str) or _MEASURES.fullmatch(value) is None:
            words = ("accuracy", "auc", "mae", "mse", "rmse", "recall@N", "hitrate@N", "ndcg@N")
            self._refuse(section, key, f"measure is one of {', '.join(words)}", _nearest(value, words))
        return value

    def _rows(self, section: str, key: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            self._refuse(section, key, f"{key} is a number of rows")
        return value

    def _template(self, section: str, key: str, value: object) -> str:
        self.depth = 0
        text = self._inside(section, key, value)
        self.depth = text.count("/") + 1
        rest = _FIELD.sub("", text)
        if any(letter in rest for letter in "{}*?[]()") or not _FIELD.search(text):
            self._refuse(section, key, "name is text with fields, such as '{dataset}_{model}_lr{rate}'")
        return text

    # ------------------------------------------------------------------------------------ messages

    def _unknown(self, section: str, key: str, known: set[str]) -> NoReturn:
        what = f"[{section}] has no {key!r}" if section else f"there is no {key!r} here"
        self._refuse(section, key, what, _nearest(key, known) or f"known are {', '.join(sorted(known))}")

    def _refuse(self, section: str, key: str, message: str, hint: str | None = None) -> NoReturn:
        raise UsageError(message, path=f"{self.path}:{self._line(section, key)}", hint=hint)

    def _line(self, section: str, key: str) -> int:
        """The line where a key is given a value; that of its section where it cannot be told (an inline table)."""
        here, of_section = "", 1
        for number, line in enumerate(self.text.splitlines(), start=1):
            text = line.strip()
            if text.startswith("["):
                here = text.strip("[] \t").partition("#")[0].strip(" ]")
                of_section = number if here == (section or key) else of_section
                if not section and here == key:
                    return number
            first = re.split(r"[\s=.]", text, maxsplit=1)[0].strip("\"'")
            if here == section and first == key:
                return number
        return of_section


def _nearest(said: object, known: Collection[str]) -> str | None:
    from difflib import get_close_matches  # most files need no advice

    near = get_close_matches(str(said), known, n=1)
    return f"did you mean {near[0]!r}?" if near else None


_Check = Callable[[_Parser, str, str, object], Any]


def _one(*words: str) -> _Check:
    return lambda parser, section, key, value: parser._one_of(section, key, value, words)


_RECOGNISE: Mapping[str, _Check] = {"tensors": _Parser._texts, "files": _Parser._texts, "general": _Parser._truth}
_SECTIONS: Mapping[str, Mapping[str, _Check]] = {
    "layout": {"best": _Parser._paths, "latest": _Parser._paths, "logs": _Parser._paths},
    "metric": {
        "name": _Parser._text,
        "mode": _Parser._mode,
        "scale": _Parser._scale,
        "unit": _Parser._text,
        "line": _Parser._pattern,
    },
    "variables": {"model": _Parser._texts, "optimizer": _Parser._texts, "step": _Parser._text, "best": _Parser._text},
    "evaluate": {"command": _Parser._text, "pattern": _Parser._pattern},
    "graph": {
        "fetch": _Parser._text,
        "scores": _Parser._text,
        "targets": _Parser._array,
        "measure": _Parser._measure,
        "batch": _Parser._rows,
        "feeds": _Parser._feeds,
    },
    "experiment": {"name": _Parser._template},
    "resume": {
        "restores": _one("nothing", "best", "latest"),
        "best": _one("memory", "checkpoint", "file"),
        "record": _Parser._inside,
        "overwrites": _Parser._truth,
    },
}


def _toml() -> Any:
    """The standard library's reader from Python 3.11 on, its twin below."""
    import importlib

    try:
        return importlib.import_module("tomllib")
    except ModuleNotFoundError:
        return importlib.import_module("tomli")
