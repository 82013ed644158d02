"""What a command costs grows at most as the bytes that it is given; so does what it keeps, and what it prints."""

from __future__ import annotations

import itertools
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import build_bundle
from growing import Cost, cost, entry, growth, size_of, write_bundle

from ckpt_tools.format import checksum
from ckpt_tools.format.wire import bytes_field, text_field, varint_field

# Two sizes; a power above this between them is more than linear (sorting and caches have their share).
SMALL, LARGE = 1, 4
MOST_GROWTH = 1.5
# What takes less than this at the larger size is believed to cost nothing.
SECONDS, CHARACTERS = 0.2, 1 << 20
# What may be kept at once: so many times the bytes, and some for the program itself.
MOST_MEMORY, MEMORY_FREE = 10, 64 << 20

Family = Callable[[Path, int], object]


def prefixes(folder: Path, n: int) -> None:
    """Keys that share all but their last characters."""
    write_bundle(folder, {b"k" * (300 * n) + b"%07d" % number: entry((0,)) for number in range(100 * n)})


def long_prefixes(folder: Path, n: int) -> None:
    """Keys of a hundred thousand characters, which stand for a thousand times their bytes."""
    write_bundle(folder, {b"k" * 100_000 + b"%07d" % number: entry((0,)) for number in range(500 * n)})


def unknown_fields(folder: Path, n: int) -> None:
    write_bundle(folder, {b"a": entry((0,)) + b"\x40\x01" * (30_000 * n)})


def dimensions(folder: Path, n: int) -> None:
    write_bundle(folder, {b"a": entry([(1 << 62)] * (3_000 * n))})


def many_tensors(folder: Path, n: int) -> None:
    write_bundle(folder, {b"%07d" % number: entry((0,)) for number in range(1_000 * n)})


def one_long_name(folder: Path, n: int) -> None:
    others = {b"%07d" % number: entry((0,)) for number in range(500 * n)}
    write_bundle(folder, {b"x" * (30_000 * n): entry((0,)), **others})


def url_in_a_name(folder: Path, n: int) -> None:
    write_bundle(folder, {b"a" * (40_000 * n) + b"\n://" + b"b@" * 500: entry((0,))})


def many_urls(folder: Path, n: int) -> None:
    write_bundle(folder, {b"s3://u:p@h/p?q " * (2_000 * n): entry((0,))})


def deep_name(folder: Path, n: int) -> None:
    write_bundle(folder, {b"a/" * (10_000 * n) + b"z": entry((0,))})


def deep_names(folder: Path, n: int) -> None:
    """A leaf at each depth."""
    write_bundle(folder, {b"a/" * depth + b"z": entry((0,)) for depth in range(150 * n)})


def chain(folder: Path, n: int) -> None:
    """Objects nested as deep as there are objects, each with a value."""
    count = 500 * n
    nodes = [
        (bytes_field(1, varint_field(1, number + 1) + text_field(2, "x" * 60)) if number + 1 < count else b"")
        + bytes_field(2, text_field(1, "VARIABLE_VALUE") + text_field(3, str(number)))
        for number in range(count)
    ]
    entries = {b"%d" % number: entry((0,)) for number in range(count)}
    write_bundle(folder, entries, graph=b"".join(bytes_field(1, node) for node in nodes))


def long_path(folder: Path, n: int) -> None:
    """One long way to many objects."""
    count = 500 * n
    leaves = (bytes_field(1, varint_field(1, number + 2) + text_field(2, str(number))) for number in range(count))
    values = [bytes_field(2, text_field(1, "VARIABLE_VALUE") + text_field(3, str(number))) for number in range(count)]
    nodes = [bytes_field(1, varint_field(1, 1) + text_field(2, "x" * (20_000 * n))), b"".join(leaves), *values]
    entries = {b"%d" % number: entry((0,)) for number in range(count)}
    write_bundle(folder, entries, graph=b"".join(bytes_field(1, node) for node in nodes))


def empty_objects(folder: Path, n: int) -> None:
    write_bundle(folder, {}, graph=bytes_field(1, b"") * (10_000 * n))


def empty_shards(folder: Path, n: int) -> None:
    """Each tensor in a file of its own, all of them cut off."""
    count = 120 * n
    entries = {b"t%06d" % number: entry((1,), size=4, crc=1) + varint_field(3, number) for number in range(1, count)}
    prefix = write_bundle(folder, {**entries, b"": varint_field(1, count) + bytes_field(3, varint_field(1, 1))})
    for number in range(count):
        Path(f"{prefix}.data-{number:05d}-of-{count:05d}").touch()


def lost_shards(folder: Path, n: int) -> None:
    """Each tensor in a file of its own, none of them there."""
    count = 700 * n
    entries = {b"t%06d" % number: entry((1,), size=4, crc=1) + varint_field(3, number) for number in range(1, count)}
    write_bundle(folder, {**entries, b"": varint_field(1, count) + bytes_field(3, varint_field(1, 1))})


def strings(folder: Path, n: int) -> None:
    elements = [b""] * (60_000 * n)
    raw = b"\0" * len(elements)
    crc = checksum.extend(0, struct.pack(f"<{len(elements)}I", *map(len, elements)))
    stored = struct.pack("<I", checksum.mask(crc))
    whole = entry((len(elements),), dtype=7, size=len(raw) + 4, crc=checksum.mask(checksum.extend(crc, stored)))
    write_bundle(folder, {b"s": whole}, data=raw + stored)


def state_of_gone_names(folder: Path, n: int) -> None:
    build_bundle(folder / "m", {"a": np.float32(1)})
    lines = [f'all_model_checkpoint_paths: "gone-{number}"' for number in range(300 * n)]
    (folder / "checkpoint").write_text("\n".join(['model_checkpoint_path: "gone-0"', *lines]))


def empty_indexes(folder: Path, n: int) -> None:
    build_bundle(folder / "m", {"a": np.float32(1)})
    for number in range(100 * n):
        (folder / f"m-{number}.index").touch()


def checkpoints_beside_each_other(folder: Path, n: int) -> None:
    build_bundle(folder / "m", {"a": np.float32(1)})
    for number in range(25 * n):
        for name in ("index", "data-00000-of-00001"):
            os.link(folder / f"m.{name}", folder / f"m-{number}.{name}")


def left_overs(folder: Path, n: int) -> None:
    build_bundle(folder / "m", {"a": np.float32(1)})
    for number in range(150 * n):
        (folder / f"checkpoint.tmp{number:032x}").touch()
        (folder / f"gone-{number}.data-00000-of-00001").touch()


def long_ledger(folder: Path, n: int) -> None:
    build_bundle(folder / "m", {"a": np.float32(1)})
    (folder / ".ckpt-tools").mkdir()
    lists: dict[str, object] = {name: [] for name in ("moved", "created", "displaced", "changes")}
    known = {"checkpoint": "m", "action": "x", "time": "", "tool": "", "index_before": "", "index_after": ""}
    lines = (json.dumps({"id": str(number), "evidence": {}, **known, **lists}) for number in range(100 * n))
    (folder / ".ckpt-tools" / "ledger.jsonl").write_text("".join(f"{line}\n" for line in lines))


def log_of_numbers(folder: Path, n: int) -> None:
    _run(folder, "train.log", b"iter: " + b"1" * (100_000 * n) + b", train loss: 1, valid recall: 0.5\n")


def log_of_beginnings(folder: Path, n: int) -> None:
    _run(folder, "train.log", b"iter: 1, train loss: " * (5_000 * n))


def log_of_evaluations(folder: Path, n: int) -> None:
    rows = (b"iter: %d, train loss: 1.0, valid recall: 0.%d\n" % (number, number + 1) for number in range(1_500 * n))
    _run(folder, "train.log", b"".join(rows))


def metrics_nested(folder: Path, n: int) -> None:
    _run(folder, "metrics.jsonl", b"[" * (50_000 * n))


def csv_of_one_field(folder: Path, n: int) -> None:
    _run(folder, "history.csv", b"epoch,val_recall\n1," + b"9" * (100_000 * n))


def _run(folder: Path, log: str, content: bytes) -> None:
    name = "book_DNN_b128_lr0.005_d8_len20_x"
    for place in (folder / "best_model" / name / "keras_ckpt", folder / "runs" / name):
        place.mkdir(parents=True)
    build_bundle(folder / "best_model" / name / "keras_ckpt" / "m", {"a": np.float32(1)})
    (folder / "runs" / name / log).write_bytes(content)


FAMILIES: dict[Family, tuple[str, ...]] = {
    prefixes: ("inspect", "verify"),
    long_prefixes: ("inspect",),
    unknown_fields: ("inspect",),
    dimensions: ("inspect",),
    many_tensors: ("inspect", "inspect --json", "diff", "export"),
    one_long_name: ("inspect",),
    url_in_a_name: ("inspect", "inspect --json"),
    many_urls: ("inspect",),
    deep_name: ("inspect --tree",),
    deep_names: ("inspect --tree",),
    chain: ("inspect", "diff"),
    long_path: ("inspect", "diff"),
    empty_objects: ("inspect",),
    empty_shards: ("verify", "inspect"),
    lost_shards: ("verify", "inspect"),
    strings: ("verify",),
    state_of_gone_names: ("repair", "audit"),
    empty_indexes: ("repair", "audit"),
    checkpoints_beside_each_other: ("repair", "audit"),
    left_overs: ("repair", "audit"),
    long_ledger: ("why", "undo --list"),
    log_of_numbers: ("audit",),
    log_of_beginnings: ("audit",),
    log_of_evaluations: ("audit",),
    metrics_nested: ("audit",),
    csv_of_one_field: ("audit",),
}
CASES = [(family, command) for family, commands in FAMILIES.items() for command in commands]
# These take seconds each: as many others do the same, they are left to `make test-slow`.
LONG = {
    *((family, "diff") for family in (many_tensors, chain, long_path)),
    *((family, "inspect") for family in (prefixes, chain, long_path, empty_objects, empty_shards, lost_shards)),
    *((state_of_gone_names, command) for command in ("repair", "audit")),
    (checkpoints_beside_each_other, "audit"),
}


def words(command: str, folder: Path) -> list[str]:
    name, *options = command.split()
    path = str(folder) if name in ("repair", "audit") else str(folder / "m")
    more = {
        "diff": [path],
        "export": [str(folder / f"out-{next(_numbers)}.npz")],
        "repair": ["--dry-run"],
    }
    return [name, path, *more.get(name, ()), *options]


_numbers = itertools.count()


def warm(command: str, folder: Path) -> None:
    """What is imported or compiled when a command is used first is nobody's growth."""
    build_bundle(folder / "m", {"a": np.float32(1)})
    cost(words(command, folder), 1)


def costs(family: Family, command: str, tmp_path: Path) -> tuple[Cost, Cost]:
    """At both sizes; what seems to grow is measured again, for somebody else may have used the processor."""
    found = []
    for step in (SMALL, LARGE):
        folder = tmp_path / str(step)
        folder.mkdir()
        family(folder, step)
        found.append(cost(words(command, folder), size_of(str(folder))))
    small, large = found
    if large.seconds > SECONDS and growth(small.seconds, large.seconds, large.given / small.given) > MOST_GROWTH:
        again = [cost(words(command, tmp_path / str(LARGE)), large.given) for _ in range(2)]
        large = min(large, *again, key=lambda each: each.seconds)
    return small, large


@pytest.mark.parametrize(
    ("family", "command"),
    [pytest.param(*case, marks=pytest.mark.slow if case in LONG else ()) for case in CASES],
    ids=[f"{family.__name__}: {command}" for family, command in CASES],
)
def test_the_cost_grows_no_faster_than_the_bytes(
    family: Family, command: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    warm(command, tmp_path_factory.mktemp("warm"))
    small, large = costs(family, command, tmp_path)
    ratio = large.given / small.given
    assert large.code != 70
    assert large.seconds < SECONDS or growth(small.seconds, large.seconds, ratio) < MOST_GROWTH, (small, large)
    assert large.printed < CHARACTERS or growth(small.printed, large.printed, ratio) < MOST_GROWTH, (small, large)
    kept = cost(words(command, tmp_path / str(LARGE)), large.given, memory=True)
    assert kept.memory < MOST_MEMORY * large.given + MEMORY_FREE, kept
