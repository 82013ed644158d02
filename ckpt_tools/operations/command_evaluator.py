"""Measuring a checkpoint with somebody's own program, or a function: ``ckpt backfill RUN --evaluate ...``.

The program sees a copy of the checkpoint in a directory of its own, with a ``checkpoint`` file that names it, never the
original. There is no shell: the command is split into arguments, then ``{prefix}``, ``{dir}`` and ``{step}`` are filled
in. It has a time limit, its output a limit of size. A failure, no match, or two matches that differ end in an error.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ckpt_tools.analysis.repeated import Repeated
from ckpt_tools.errors import CkptError, LostWorkerError, MismatchError, UnsafeError, UsageError
from ckpt_tools.format.filenames import STATE_FILE, index_name, meta_name
from ckpt_tools.format.state import encode_state
from ckpt_tools.fs import durable, local
from ckpt_tools.readers import Bundle, Checkpoint
from ckpt_tools.runs.bounded_match import find_all

MAX_OUTPUT_BYTES = 1 << 26
# A pattern that would go on for ever is given up after so many seconds.
_MATCH_SECONDS = 20.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]{0,32}[ -/]{0,4}[@-~]")


@dataclass(frozen=True)
class CommandEvaluation:
    """``command`` is a line with its placeholders, or ``package.module:function``; ``seconds`` its time limit.

    It is run, or its module looked for, in ``directory``: the one where it was asked for, on workers elsewhere too.
    """

    command: str
    pattern: str | None = None
    repeat: int = 1
    seconds: float = 3600.0
    directory: str = field(default_factory=os.getcwd)

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise UsageError(f"--repeat {self.repeat}: it must be measured at least once")
        if self.seconds <= 0:
            raise UsageError(f"--timeout {self.seconds:g}: must be more than 0 seconds")
        if self.is_function:
            return
        if not self.pattern:
            raise UsageError(
                "--evaluate COMMAND needs --pattern: which part of its output is the value?",
                hint="for example --pattern 'auc: ([0-9.]+)'",
            )
        try:
            compiled = re.compile(self.pattern)
        except re.error as error:
            raise UsageError(f"--pattern is no regular expression: {error}") from error
        if not compiled.groups:
            raise UsageError("--pattern has no group: which part is the value?", hint="for example 'auc: ([0-9.]+)'")
        if not arguments_of(self.command):
            raise UsageError("--evaluate is empty")

    @property
    def is_function(self) -> bool:
        return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.command) is not None


@dataclass(frozen=True)
class CommandMeasurement(Repeated):
    """What was measured: the mean of all runs, and the digest of what the program printed (SHA-256)."""

    arguments: tuple[str, ...]
    output_sha256: str | None

    def to_json(self) -> dict[str, Any]:
        return {
            **super().to_json(),
            "arguments": list(self.arguments),
            "output_sha256": self.output_sha256,
        }


def measure(checkpoint: Checkpoint, evaluation: CommandEvaluation, step: int | None) -> CommandMeasurement:
    """Measure a checkpoint as often as asked for.

    Raises:
        MismatchError: the program failed, printed no value, several that differ, or one that is no finite number.
        LostWorkerError: it did not end in time.
        UnsafeError: it printed more than is read, or the pattern does not end.
    """
    if evaluation.is_function:
        values = tuple(_called(checkpoint, evaluation) for _ in range(evaluation.repeat))
        return CommandMeasurement(values, (evaluation.command,), None)
    digest = hashlib.sha256()
    found = []
    with staged(checkpoint) as prefix:
        arguments = _filled(evaluation.command, prefix, step)
        for _ in range(evaluation.repeat):
            output = _output_of(arguments, evaluation)
            digest.update(output)
            found.append(_value_in(output, evaluation.pattern or ""))
    shown = tuple(_filled(evaluation.command, "{prefix}", step))
    return CommandMeasurement(tuple(found), shown, digest.hexdigest())


def arguments_of(command: str) -> list[str]:
    """The arguments of a command line. Raises UsageError for a quote that is not closed."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--evaluate cannot be split into arguments: {error}") from error


def _filled(command: str, prefix: str, step: int | None) -> list[str]:
    """Split first, then filled in: a path with blanks stays one argument."""
    values = {"{prefix}": prefix, "{dir}": os.path.dirname(prefix), "{step}": "" if step is None else str(step)}
    filled = []
    for argument in arguments_of(command):
        filled.append(re.sub(r"\{(?:prefix|dir|step)\}", lambda match: values[match[0]], argument))
    return filled


@contextmanager
def staged(checkpoint: Checkpoint) -> Iterator[str]:
    """A read-only copy of a checkpoint's files in a directory of its own; its prefix. It is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ckpt-evaluate-") as directory:
        name = os.path.basename(checkpoint.prefix) or "ckpt"
        files = _files_of(checkpoint)
        for source, target in files.items():
            copy = os.path.join(directory, target)
            durable.copy(source, copy)
            os.chmod(copy, 0o444)
        if isinstance(checkpoint, Bundle):
            durable.create_file(os.path.join(directory, STATE_FILE), encode_state(name, [name]))
        os.chmod(directory, 0o555)
        try:
            yield os.path.join(directory, name)
        finally:
            os.chmod(directory, 0o755)


def _files_of(checkpoint: Checkpoint) -> dict[str, str]:
    prefix = checkpoint.prefix
    if isinstance(checkpoint, Bundle):
        name = os.path.basename(prefix) or "ckpt"
        own = {checkpoint.path: index_name(name)}
        own |= {
            path: name + os.path.basename(path).removeprefix(os.path.basename(prefix))
            for path in checkpoint.shard_paths
        }
        meta = meta_name(prefix)
        return own | ({meta: meta_name(name)} if local.is_file(meta, follow=True) else {})
    return {prefix: os.path.basename(prefix)}


def _output_of(arguments: list[str], evaluation: CommandEvaluation) -> bytes:
    """What a program prints, on both streams. It is ended with all that it started when its time is over."""
    local.require_possible(arguments)
    try:
        process = subprocess.Popen(
            arguments,
            cwd=evaluation.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise UsageError(f"--evaluate: cannot start {arguments[0]!r}: {error.strerror or error}") from error
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(evaluation.seconds, end)
    timer.start()
    parts: list[bytes] = []
    size = 0
    try:
        assert process.stdout is not None
        while part := process.stdout.read1(1 << 16):  # type: ignore[attr-defined]
            parts.append(part)
            size += len(part)
            if size > MAX_OUTPUT_BYTES:
                raise UnsafeError(f"the evaluation printed more than {MAX_OUTPUT_BYTES >> 20} MB: it was ended")
        code = process.wait()
    finally:
        timer.cancel()
        _kill(process)
        process.wait()
    if late.is_set():
        raise LostWorkerError(
            f"the evaluation did not end within {evaluation.seconds:g} seconds: nothing written",
            hint="allow more with --timeout SECONDS",
        )
    output = b"".join(parts)
    if code:
        last = output.decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
        raise MismatchError(
            f"the evaluation failed with exit code {code}: nothing written; its last line: {last or 'none'}"
        )
    return output


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _value_in(output: bytes, pattern: str) -> float:
    text = _ESCAPES.sub("", output.decode("utf-8", "replace"))
    lines = re.split(r"[\r\n]+", text)
    texts = [match.value for match in find_all(pattern, lines, what="--pattern", seconds=_MATCH_SECONDS)]
    values = set()
    for text in texts:
        try:
            values.add(float(text.strip().rstrip("%")))
        except ValueError as error:
            raise MismatchError(f"--pattern found {text!r}, which is no number: nothing written") from error
    if not values:
        raise MismatchError("--pattern matches nothing in the output of the evaluation: nothing written")
    if len(values) > 1:
        few = ", ".join(f"{value:g}" for value in sorted(values)[:5])
        raise MismatchError(
            f"--pattern matches {len(values)} different values ({few}): nothing written",
            hint="make the pattern match only the final one",
        )
    return _finite(values.pop())


def _called(checkpoint: Checkpoint, evaluation: CommandEvaluation) -> float:
    name = evaluation.command
    module, _, function = name.partition(":")
    if evaluation.directory not in sys.path:
        sys.path.insert(0, evaluation.directory)
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--evaluate {name}: {error}") from error
    try:
        value = found(checkpoint)
    except CkptError:
        raise
    except Exception as error:
        raise MismatchError(f"{name} failed: {type(error).__name__}: {error}: nothing written") from error
    number = getattr(value, "value", value)
    try:
        return _finite(float(number))
    except (TypeError, ValueError, OverflowError) as error:
        raise MismatchError(f"{name} returned {number!r}, which is no number: nothing written") from error


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise MismatchError(f"the evaluation gave {value}: no best metric is NaN or infinite; nothing written")
    return value
