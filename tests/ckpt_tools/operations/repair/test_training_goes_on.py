"""After a repair the program that made the run goes on with it: it restores what it should, and its rotation deletes
what it saved itself, and nothing else.

A run of TensorFlow 1 and one of ``tf.train.CheckpointManager`` have a best model and a model of somebody else beside
what they save again and again. Each way in which the file ``checkpoint`` can be wrong is mended, then the run saves.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tensorflow]

import tensorflow as tf  # noqa: E402

from ckpt_tools.format.state import State, decode_state  # noqa: E402
from ckpt_tools.operations.repairing import REWRITE_STATE, repair  # noqa: E402

v1 = tf.compat.v1
KEEP = 3
OTHERS = ("best_model", "pretrained.ckpt-1000000")


# --------------------------------------------------------------------------------------------- the two programs


def make_with_saver(directory: Path) -> None:
    """Five saves of which three are kept, and two others, which have state files of their own."""
    with tf.Graph().as_default(), v1.Session() as session:
        step = v1.train.get_or_create_global_step()
        v1.get_variable("w", [3])
        more = v1.assign_add(step, 100)
        rotating, best = v1.train.Saver(max_to_keep=KEEP), v1.train.Saver()
        session.run(v1.global_variables_initializer())
        for number in range(5):
            rotating.save(session, str(directory / "model.ckpt"), global_step=session.run(more))
            if number == 1:
                for name, state in zip(OTHERS, ("best_checkpoint", "other"), strict=True):
                    best.save(session, str(directory / name), latest_filename=state)


def go_on_with_saver(directory: Path) -> int:
    """One more save by a monitored session; returns the step that it restored."""
    with tf.Graph().as_default():
        step = v1.train.get_or_create_global_step()
        v1.get_variable("w", [3])
        more = v1.assign_add(step, 100)
        scaffold = v1.train.Scaffold(saver=v1.train.Saver(max_to_keep=KEEP))
        with v1.train.MonitoredTrainingSession(
            checkpoint_dir=str(directory),
            save_checkpoint_steps=100,
            scaffold=scaffold,
            log_step_count_steps=None,
            save_summaries_steps=None,
            save_summaries_secs=None,
        ) as session:
            return int(session.run(more)) - 100


def make_with_manager(directory: Path) -> None:
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step)
    manager = tf.train.CheckpointManager(checkpoint, str(directory), KEEP, checkpoint_name="model.ckpt")
    for number in range(1, 6):
        step.assign(100 * number)
        manager.save(checkpoint_number=100 * number)
        if number == 2:
            for name in OTHERS:
                checkpoint.write(str(directory / name))
    # As a program that keeps the best in a state file of its own writes it.
    for name, state in zip(OTHERS, ("best_checkpoint", "other"), strict=True):
        (directory / state).write_text(f'model_checkpoint_path: "{name}"\n')


def go_on_with_manager(directory: Path) -> int:
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(step=step)
    manager = tf.train.CheckpointManager(checkpoint, str(directory), KEEP, checkpoint_name="model.ckpt")
    assert manager.latest_checkpoint is not None
    checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    restored = int(step.numpy())
    step.assign_add(100)
    manager.save(checkpoint_number=restored + 100)
    return restored


PROGRAMS = {"saver": (make_with_saver, go_on_with_saver), "manager": (make_with_manager, go_on_with_manager)}


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    directory = tmp_path_factory.mktemp(request.param)
    PROGRAMS[request.param][0](directory)
    # Savers write absolute paths where they were given one: here the directory is copied for each test.
    for name in ("checkpoint", "best_checkpoint", "other"):
        (directory / name).write_text((directory / name).read_text().replace(f"{directory}/", ""))
    return request.param, directory


# ------------------------------------------------------------------------------------------------ what is wrong


def named(prefix: str) -> Callable[[Path], None]:
    """Every path as another machine would write it."""

    def damage(directory: Path) -> None:
        state = directory / "checkpoint"
        state.write_text(state.read_text().replace('"model', '"' + prefix.replace("\\", "\\\\") + "model"))

    return damage


def gone(*steps: int) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        for step in steps:
            for path in directory.glob(f"model.ckpt-{step}.*"):
                path.unlink()

    return damage


def content(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        state = directory / "checkpoint"
        state.write_bytes(change(state.read_bytes()))

    return damage


def without(data: bytes, pattern: bytes) -> bytes:
    return re.sub(rb"(?m)^" + pattern + rb".*\n", b"", data)


def both(*damages: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda directory: [damage(directory) for damage in damages] and None


MOVED = named("/mnt/old/run/")
ALL = (300, 400, 500)
# What is wrong; the steps that the file lists after the repair, the newest last.
WAYS: dict[str, tuple[Callable[[Path], None], tuple[int, ...]]] = {
    "moved": (MOVED, ALL),
    "windows drive": (named("D:\\run\\"), ALL),
    "windows, slashes": (named("D:/run/"), ALL),
    "windows, mixed": (named("D:\\a/run\\"), ALL),
    "UNC": (named("\\\\server\\share\\"), ALL),
    "long UNC": (named("\\\\?\\UNC\\server\\share\\run\\"), ALL),
    "windows, relative": (named(".\\"), ALL),
    "windows, a folder": (named("run\\"), ALL),
    "a folder": (named("run/"), ALL),
    "a bucket": (named("gs://bucket/run/"), ALL),
    "a URL of a file": (named("file:///mnt/old/run/"), ALL),
    "the oldest gone": (gone(300), (400, 500)),
    "the newest gone": (gone(500), (300, 400)),
    "moved, and one gone": (both(MOVED, gone(400)), (300, 500)),
    "the whole list gone": (
        both(content(lambda data: data.replace(b"-3", b"-7").replace(b"-4", b"-8")), gone(500)),
        (400,),
    ),
    "absent": (lambda directory: (directory / "checkpoint").unlink(), (500,)),
    "empty": (content(lambda _: b""), (500,)),
    "garbage": (content(lambda _: b"\x00\x01 garbage"), (500,)),
    "zeros": (content(lambda data: bytes(len(data))), (500,)),
    "not UTF-8": (content(lambda _: b'model_checkpoint_path: "\xff\xfe"\n'), (500,)),
    "one line not UTF-8": (content(lambda data: data + b'all_model_checkpoint_paths: "\xff"\n'), ALL),
    "torn in the list": (content(lambda data: data[: data.index(b"500", data.index(b"all_"))]), (300, 400)),
    "torn in the first line": (content(lambda data: data[:20]), (500,)),
    "the newest twice": (content(lambda data: data.split(b"\n")[0] + b"\n" + data), ALL),
    "written twice": (content(lambda data: data + data), ALL),
    "names itself": (content(lambda _: b'model_checkpoint_path: "checkpoint"\n'), (500,)),
    "no newest": (content(lambda data: without(data, b"model_")), ALL),
    "moved, no times": (both(MOVED, content(lambda data: without(data, b"(all_model_checkpoint_time|last)"))), ALL),
    "moved, a time too few": (
        both(MOVED, content(lambda data: re.sub(rb"(?m)^all_model_checkpoint_time.*\n(?!all_)", b"", data))),
        ALL,
    ),
    "moved, a time too many": (both(MOVED, content(lambda d: d + b"all_model_checkpoint_timestamps: 1.5\n")), ALL),
}


def listed(directory: Path) -> State:
    return decode_state((directory / "checkpoint").read_bytes())


def steps_of(state: State) -> tuple[int, ...]:
    return tuple(int(path.rpartition("-")[2]) for path in state.all)


def whole_steps(directory: Path) -> set[int]:
    return {int(path.stem.rpartition("-")[2]) for path in directory.glob("model.ckpt-*.index")}


@pytest.mark.parametrize("way", WAYS)
def test_the_run_goes_on(program: tuple[str, Path], way: str, tmp_path: Path) -> None:
    name, source = program
    directory = tmp_path / "run"
    shutil.copytree(source, directory)
    before = listed(directory)
    times = dict(zip(before.all, before.timestamps, strict=False))
    damage, steps = WAYS[way]
    damage(directory)
    damaged = (directory / "checkpoint").read_bytes() if (directory / "checkpoint").exists() else b""
    here = whole_steps(directory)

    done = repair(str(directory))

    assert [action.kind for action in done.actions] == [REWRITE_STATE]
    after = listed(directory)
    assert steps_of(after) == steps
    assert repair(str(directory)).actions == ()
    if b"all_model_checkpoint_timestamps" in damaged and not re.search("too|twice|whole list", way):
        assert [times[path] for path in after.all] == list(after.timestamps)
        assert after.preserved == before.preserved

    newest = int(after.latest.rpartition("-")[2])
    assert PROGRAMS[name][1](directory) == newest
    for other in OTHERS:
        assert (directory / f"{other}.index").exists(), "the rotation took what the run did not save"
        assert (directory / f"{other}.data-00000-of-00001").exists()
    # Each deletes the oldest of its own list, and nothing that the repaired file did not list.
    deleted = here - whole_steps(directory)
    if name == "saver":
        # A monitored session saves what it has restored once more, before its first step.
        owned = [*(step for step in steps if step not in (newest, newest + 100)), newest, newest + 100]
        assert deleted == set(owned[:-KEEP])
        assert steps_of(listed(directory)) == tuple(owned[-KEEP:])
    else:
        owned = [step for step, _ in zip(steps, after.timestamps, strict=False) if step != newest + 100]
        assert deleted == set(owned[: 1 - KEEP])
        assert steps_of(listed(directory)) == (*owned[1 - KEEP :], newest + 100)
