"""What a command costs, on files that chance makes and makes larger: more than linear in the bytes given is a fault.

    make cost CASES=1000

A case is a thing that can be repeated (tensors of a pattern of names, objects that refer to each other, lines of a log,
files of a directory, entries of a ledger, datasets, words of a message) and a command that reads it. It is made in
three sizes, each twice the one before; the seconds of the processor, of the process that reads HDF5 too, must not grow
faster than the bytes in both steps. What seems to is measured again, for somebody else may have used the caches.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fuzz_commands
import h5py
import numpy as np
from fuzz_commands import EXPERIMENT, NAMES, prepare, ran
from fuzz_runner import Suite, main, write
from growing import entry, growth, size_of, table

from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.strings import encode_strings
from ckpt_tools.format.wire import bytes_field, text_field, varint_field

Files = dict[str, bytes]
# Sizes to measure at, the smallest first; and how often a piece is repeated at the first.
SIZES: tuple[float, ...] = (1, 2, 4)
# A power above this in both steps is more than linear.
MOST_GROWTH = 1.45
# What takes less than this at the largest size is believed to cost nothing.
SECONDS = 0.25


@dataclass(frozen=True)
class Growing:
    """Files by how large they shall be, and the words of the command that reads them."""

    files: Callable[[float], Files]
    command: list[str]

    def kept(self) -> Files:
        return {**self.files(SIZES[0]), "command.json": json.dumps(self.command).encode()}


# -------------------------------------------------------------------------------------------- what can be repeated


def bundle(entries: dict[bytes, bytes], graph: bytes | None = None, prefix: str = "m") -> Files:
    rows = {b"": varint_field(1, 1) + bytes_field(3, varint_field(1, 1)), **entries}
    data = b""
    if graph is not None:
        data, crc = encode_strings([graph])
        rows[OBJECT_GRAPH_KEY.encode()] = entry((), dtype=7, size=len(data), crc=crc)
    return {f"{prefix}.index": table(rows), f"{prefix}.data-00000-of-00001": data}


def word(chance: random.Random) -> str:
    """A short part of a name or a line, sometimes an odd one."""
    made = "".join(chance.choices("abk/._-: 019=({[\\", k=chance.randrange(1, 9)))
    return chance.choice(
        [made, chance.choice(NAMES), chance.choice(["Adam", "kernel", "layer", "step", "loss", "best"])]
    )


def name_maker(chance: random.Random) -> Callable[[int, int], bytes]:
    """A pattern of names: of a number, and of how many there are."""
    before, between = word(chance) * chance.choice([1, 1, 20]), word(chance)
    kind = chance.randrange(4)
    after = chance.choice(["", "/Adam", "/Adam_1", "/m", "/.ATTRIBUTES/VARIABLE_VALUE", "/ExponentialMovingAverage"])

    def name(number: int, count: int) -> bytes:
        if kind == 0:
            text = f"{before}{number}{after}"
        elif kind == 1:
            text = f"{before}{number // 2}{after if number % 2 else ''}"  # a variable, and its slot
        elif kind == 2:
            text = f"{number % 7}{between}{number}{after}"
        else:
            text = before + (between + "/") * (number % (1 + count // 40)) + str(number) + after
        return text.encode("utf-8", "surrogatepass")

    return name


def tensors(chance: random.Random) -> Callable[[float], Files]:
    name, count = name_maker(chance), chance.choice([250, 500])
    dtype, shape = chance.choice([1, 7, 9]), chance.choice([(0,), (0, 3), (2, 0)])
    extra = chance.choice([b"", b"\x40\x01" * 20])
    empty = encode_strings([])
    row = entry(shape, dtype=dtype, size=len(empty[0]) if dtype == 7 else 0, crc=empty[1] if dtype == 7 else 0) + extra

    def files(size: float) -> Files:
        return bundle({name(number, int(count * size)): row for number in range(int(count * size))})

    return files


def objects(chance: random.Random) -> Callable[[float], Files]:
    """A graph: a chain, a star, a tree, a circle, or everything pointing everywhere, with values here and there."""
    kind, count, long = chance.randrange(5), chance.choice([300, 600]), chance.choice([1, 40])
    part = (word(chance) or "x").encode("utf-8", "replace").decode() * long
    valued = chance.choice([1, 2, 10])
    full, slots = chance.random() < 0.5, chance.random() < 0.5

    def files(size: float) -> Files:
        total = int(count * size)
        nodes, entries = [], {}
        for number in range(total):
            below = {
                0: [number + 1],
                1: [*range(1, total)] if number == 0 else [],
                2: [2 * number + 1, 2 * number + 2],
                3: [(number + 1) % total],
                4: [(number * 7 + step) % total for step in range(4)],
            }[kind]
            names = (f"{part}{child % 5 if kind in (0, 3) else child}" for child in below)
            node = b"".join(
                bytes_field(1, varint_field(1, child) + text_field(2, name))
                for child, name in zip(below, names, strict=True)
                if child < total
            )
            if number % valued == 0:
                key = f"k/{number}"
                entries[key.encode()] = entry((0,))
                value = text_field(1, "VARIABLE_VALUE") + text_field(2, f"{part}/{number}" if full else "")
                node += bytes_field(2, value + text_field(3, key))
            if slots and number and number % 3 == 0:
                node += bytes_field(3, varint_field(1, number - 1) + text_field(2, "m") + varint_field(3, number))
            nodes.append(bytes_field(1, node))
        return bundle(entries, b"".join(nodes))

    return files


def lines(chance: random.Random) -> Callable[[float], Files]:
    """A log of one pattern of lines, or of one long line."""
    odd = fuzz_commands.ODD_JSON[:16]
    cell = lambda: chance.choice(["{n}", "0.5", "0.{n}", word(chance), chance.choice(odd)])  # noqa: E731
    known = chance.choice(["iter: {n}, train loss: 0.5, valid recall: 0.{n}", "step {n} val_auc: 0.{n}", ""])
    made = "".join(f"{word(chance)}{chance.choice([': ', '=', ' ', ', '])}{cell()}" for _ in range(4))
    pattern = (known + made if known else made).replace("\n", " ")
    named = chance.choice(["train.log", "log.txt", "metrics.jsonl", "history.csv", "info.json", "eval_results.txt"])
    if named == "metrics.jsonl" or (named == "train.log" and chance.random() < 0.3):
        event = chance.choice(["eval", "resume", "start"])
        pattern = f'{{{{"event": "{event}", "step": {{n}}, "recall": 0.{{n}}, "loss": {chance.choice(odd[:8])}}}}}'
    end, count = chance.choice(["\n", "\n", "\n", " ", "\r"]), chance.choice([400, 1500])
    where = chance.choice([f"runs/{EXPERIMENT}/", f"best_model/{EXPERIMENT}/keras_ckpt/"])
    small = bundle({b"a": entry((0,)), b"global_step": entry((0,), dtype=9)}, prefix="m")

    def files(size: float) -> Files:
        rows = [_filled(pattern, number) for number in range(int(count * size))]
        head = "epoch,val_recall,loss\n" if named == "history.csv" else ""
        log = (head + end.join(rows)).encode("utf-8", "surrogatepass")
        line = f"best_model/{EXPERIMENT}/keras_ckpt/"
        return {where + named: log, **{line + path: data for path, data in small.items()}}

    return files


def _filled(pattern: str, number: int) -> str:
    return pattern.replace("{{", "{").replace("}}", "}").replace("{n}", str(number))


def directory(chance: random.Random) -> Callable[[float], Files]:
    """Many files of one kind beside a checkpoint, and a state file that names some of them."""
    pattern = chance.choice(
        [
            *(
                "m-{n}.index",
                "m-{n}.data-00000-of-00001",
                "m.data-{n:05d}-of-{c:05d}",
                "checkpoint.tmp{n:032x}",
                "m-{n}.h5",
            ),
            *(
                "m (n).index",
                "{n}/checkpoint",
                "best_model/{n}/checkpoint",
                "m_temp_{n}/part-0",
                "m-{n}.keras",
                "m-{n}.meta",
            ),
            *("train-{n}.log", "events.out.tfevents.{n}.h", "{n}_checkpoint", "m-{n}-val_loss=0.{n}.h5", "x{n}.txt"),
        ]
    )
    count = chance.choice([100, 300])
    content = chance.choice([b"", b"x", b'model_checkpoint_path: "m"\n', bundle({b"a": entry((0,))})["m.index"]])
    named, all_named = chance.random() < 0.5, chance.random() < 0.5

    def files(size: float) -> Files:
        total = int(count * size)
        made = {pattern.format(n=number, c=total): content for number in range(total)}
        if named:
            rows = [f'all_model_checkpoint_paths: "m-{n}"' for n in range(total)] if all_named else []
            made["checkpoint"] = "\n".join(['model_checkpoint_path: "m"', *rows]).encode()
        return {**bundle({b"a": entry((0,))}), **made}

    return files


def ledger(chance: random.Random) -> Callable[[float], Files]:
    """Many entries of what was changed, each with what tells of it."""
    rows = [json.loads(line) for line in fuzz_commands.small_run()[".ckpt-tools/ledger.jsonl"].splitlines()]
    row, count = chance.choice(rows), chance.choice([50, 150])
    long = chance.choice([1, 30])

    def files(size: float) -> Files:
        made = []
        for number in range(int(count * size)):
            new = {**row, "id": f"20260101T{number % 240000:06d}-{number:08x}"}
            new["evidence"] = {
                f"{key}{n}": value for key, value in (row.get("evidence") or {"a": 1}).items() for n in range(long)
            }
            made.append(json.dumps(new))
        return {**fuzz_commands.small_run(), ".ckpt-tools/ledger.jsonl": "\n".join(made).encode() + b"\n"}

    return files


def keras(chance: random.Random) -> Callable[[float], Files]:
    """HDF5 with many datasets, links to one, groups in groups, attributes; as a file or in an archive."""
    kind, count, part = (
        chance.randrange(5),
        chance.choice([60, 150]),
        chance.choice(["a", "layers/dense/vars/", "g" * 50]),
    )
    listed = chance.random() < 0.5

    def files(size: float) -> Files:
        out, total = io.BytesIO(), int(count * size)
        with h5py.File(out, "w") as file:
            first = file.create_dataset("x/0", data=np.zeros(4, np.float32))
            place = file
            for number in range(total):
                if kind == 0:
                    file[f"{part}{number}"] = np.float32(number)
                elif kind == 1:
                    file[f"{part}{number}"] = first  # another name of it
                elif kind == 2:
                    place = place.create_group("d") if number < 400 else place
                    place.attrs[f"a{number}"] = number
                elif kind == 3:
                    file[f"{part}{number}"] = h5py.SoftLink("/x/0")
                else:
                    file[f"{part}{number}/vars/0"] = np.zeros(2, np.float32)
            if listed and total < 2000:
                file.attrs["layer_names"] = [f"{part}{number}".encode()[:60] for number in range(total)]
        return {"m.h5" if listed else "m.weights.h5": out.getvalue()}

    return files


def message(chance: random.Random) -> Callable[[float], Files]:
    """No file is large, but what is asked: made by `words`."""
    del chance
    return lambda size: bundle({b"dense/kernel": entry((0,))}) | {"size": b"x" * (int(10_000 * size))}


KINDS: dict[str, Callable[[random.Random], Callable[[float], Files]]] = {
    "tensors": tensors,
    "objects": objects,
    "lines": lines,
    "directories": directory,
    "ledgers": ledger,
    "datasets": keras,
    "messages": message,
}
ROOTS = [["repair", ".", "--dry-run"], ["audit", "."], ["audit", ".", "--json"], ["keep", ".", "--last", "1"]]
ROOTS += [["audit", ".", "--csv"], ["inspect", "."], ["verify", "."], ["audit", ".", "--verify"]]
ONES = [["inspect"], ["inspect", "--json"], ["inspect", "--tree"], ["inspect", "--stats"], ["inspect", "--digest"]]
ONES += [
    ["verify"],
    ["verify", "--quick"],
    ["resume-check"],
    ["why"],
    ["lineage", "test"],
    ["slim", "out", "--dry-run"],
]
ONES += [["explain", "Key dense/kernel not found in checkpoint"], ["migrate", "--to", "trainer", "--dry-run"]]


def words(kind: str, chance: random.Random) -> list[str]:
    """A command that reads what was made; ``@`` is where, ``#`` a message that grows."""
    if kind == "messages":
        part = f"{word(chance)}{chance.choice(['', ' ', chr(10), ': ', ' not found in checkpoint '])}"
        start = chance.choice([*fuzz_commands.MESSAGES, ""]).replace("{name}", "a").replace("{n}", "3")
        return ["explain", f"#{start}\0{part}", *(["m"] if chance.random() < 0.5 else [])]
    if kind == "directories":
        return chance.choice(ROOTS)
    place = "m.h5" if kind == "datasets" else f"best_model/{EXPERIMENT}" if kind == "lines" else "m"
    if kind == "lines":
        some = [
            ["inspect"],
            ["resume-check"],
            ["why"],
            ["lineage", "init", "--dry-run"],
            ["backfill", "--from-logs", "--dry-run"],
        ]
        chosen = chance.choice([*some, *(None for _ in range(3))])
        if chosen is None:
            return chance.choice(ROOTS)
    elif kind == "ledgers":
        chosen = chance.choice([["why"], ["undo", "--list"], ["inspect"], ["verify"], ["repair", "--dry-run"]])
    else:
        chosen = chance.choice(
            [*ONES, ["diff", place], ["export", "o.npz", "--force"], ["export", "o.safetensors", "--force"]]
        )
        if kind == "datasets" and chance.random() < 0.2:
            chosen = ["export", "o.weights.h5", "--force"]
    at = 2 if chosen[0] in ("lineage", "explain") else 1
    return [*chosen[:at], place, *chosen[at:]]


def case(kind: str, number: int) -> Growing:
    chance = random.Random(f"{kind}-{number}")
    return Growing(KINDS[kind](chance), words(kind, chance))


# --------------------------------------------------------------------------------------------------- what holds


def exercise(directory: Path, given: Growing) -> None:
    """Run the command at each size; raises AssertionError when what it costs grows faster than what it is given."""
    prepare()
    costs: list[tuple[int, float]] = []
    for size in SIZES:
        place = directory / str(size)
        shutil.rmtree(place, ignore_errors=True)
        files = given.files(size)
        if "m.weights.h5" in files:
            files = {**files, "m.h5": files["m.weights.h5"]}
        write(place, files)
        costs.append((size_of(str(place)), seconds(place, given.command, size)))
    if _grows(costs):
        again = [
            (given_bytes, min(took, *(seconds(directory / str(size), given.command, size) for _ in range(3))))
            for size, (given_bytes, took) in zip(SIZES, costs, strict=True)
        ]
        assert not _grows(again), f"{_shown(given.command)}: {[(size, round(took, 3)) for size, took in again]}"


def _grows(costs: list[tuple[int, float]]) -> bool:
    """Whether both steps are more than linear, and the last one is long enough to tell."""
    if costs[-1][1] < SECONDS:
        return False
    steps = itertools.pairwise(costs)
    return all(growth(before[1], after[1], max(after[0] / before[0], 1.01)) > MOST_GROWTH for before, after in steps)


def seconds(place: Path, command: list[str], size: float) -> float:
    """The seconds of the processor that a command takes, in a directory."""
    before, start = os.getcwd(), _used()
    os.chdir(place)
    try:
        code, _, err = ran([_message(each, size) if each.startswith("#") else each for each in command])
    finally:
        os.chdir(before)
    assert code in range(8), f"{_shown(command)}: {code}\n{err[-2000:].decode(errors='replace')}"
    return _used() - start


def _message(pattern: str, size: float) -> str:
    start, _, part = pattern[1:].partition("\0")
    return (start + part * (1 + int(30_000 * size) // max(1, len(part)))).replace("\0", " ")


def _shown(command: list[str]) -> list[str]:
    return [each[:200] for each in command]


def _used() -> float:
    """Seconds of the processor of this process, and of the ones that it has."""
    total = time.process_time()
    ticks = os.sysconf("SC_CLK_TCK")
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            try:
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


SUITE = Suite(tuple(KINDS), case, exercise, Growing.kept, seconds=60.0)

if __name__ == "__main__":
    prepare()
    sys.exit(main(SUITE, (__doc__ or "").split("\n")[0]))
