"""Every command, on directories and words that chance puts together: none ends in a bug, none prints what harms.

    make property CASES=1000000

A case is a small directory (checkpoints of each format with odd names, shapes and values; logs, state files, ledgers
that are not as they should be) and one to three commands, run in it one behind the other in this process. Each must end
with one of the exit codes of the documents, never with 70; with ``--json`` stdout is one object, finite and escaped;
nothing that is printed holds a control character, a change of direction or a byte that is no text.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import io
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from unittest import mock

import fuzz_formats
import h5py
import numpy as np
import typer.main
from checkpoints import FIXTURES, build_bundle, pick, rewrite
from fuzz_formats import good_h5, mutate
from fuzz_runner import Suite, main, write
from growing import entry, table

from ckpt_tools.analysis import stability
from ckpt_tools.cli import COMMANDS, app, run
from ckpt_tools.format import checksum
from ckpt_tools.format.bundle import OBJECT_GRAPH_KEY
from ckpt_tools.format.wire import bytes_field, text_field, varint_field

Files = dict[str, bytes]
EXPERIMENT = "book_DNN_b128_lr0.005_d8_len20_x"
CODES = range(8)
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True)
class Case:
    """Files by their paths, and the words of the commands that are run where they lie."""

    files: Files
    commands: list[list[str]]

    def kept(self) -> Files:
        return {**self.files, "commands.json": json.dumps(self.commands, indent=1).encode()}


# ------------------------------------------------------------------------------------------------- odd things

NAMES = [
    *(
        "a",
        "a/b",
        "a//b",
        "/a",
        "a/",
        "/",
        ".",
        "..",
        "../../x",
        "./a",
        "a/.",
        "a:0",
        "a:0:0",
        "a b",
        " ",
        "a\tb",
        "a\nb",
    ),
    *(
        "\x1b[31mred\x1b]0;t\x07",
        "\u009b31m",
        "\u202ecba",
        "\u2066x",
        "a\x7fb",
        "\u2028",
        "a\x01\x0bb",
        "\ufffe",
        "\ufeff",
    ),
    *(
        "__metadata__",
        "best_metric",
        "global_step",
        "step",
        "best_acc",
        "recall",
        "save_counter",
        "epoch",
        "beta1_power",
    ),
    *("[red]x[", "[link=http:x]y[/]", "<script>x</script>", "{y}", "{}", "%s", "%d%n", "=1+1", "-x", "--json", "@x"),
    *("http://u:p@h/x?sig=1", "://", "a" * 300, "a/" * 60 + "z", "\U0001f998", "é", "e\u0301"),
    *(
        "model/.ATTRIBUTES/VARIABLE_VALUE",
        "best_metric/.ATTRIBUTES/VARIABLE_VALUE",
        "Adam/m/dense/kernel",
        "dense/Adam_1",
    ),
    *("mid/embedding", "item_emb", "layer-0/kernel", "optimizer/_variables/3/.ATTRIBUTES/VARIABLE_VALUE", "vars/0"),
    *("_CHECKPOINTABLE_OBJECT_GRAPH/x", "model.1", "a.b", "a\\b", "a'b", 'a"b', "$(x)", "`x`", "a;b", "\ud800"),
]
TYPES = [*range(0, 33), 101, 102, 110, 999]
SHAPES: list[tuple[int, ...]] = [
    *(
        (),
        (1,),
        (0,),
        (2, 3),
        (1,) * 33,
        (1,) * 64,
        (1,) * 65,
        (1,) * 254,
        (1,) * 255,
        (0, 1 << 61),
        (1 << 40, 0, 1 << 20),
    ),
    *((1 << 61,), (1 << 62, 4), (3, 0), (2, 2), (4,)),
]
FLOATS = [0.0, -0.0, 1.0, 0.5, 27.5, 1e308, -1e308, 5e-324, 1e-45, float("nan"), float("inf"), -float("inf"), 3.4e38]
STEPS = [0, 1, 3, -1, 10**6, _LEAST, _MOST, 1 << 31]
# What JSON may hold where a number belongs.
ODD_JSON = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 400,
    "5e-324",
    "1e308",
    "null",
    "[]",
    "{}",
    '"x"',
    '"1_0"',
    "true",
]
ODD_JSON += ['"\\ud800"', '"\\u202e"', "-0.0", "0.5", "3", "[" * 3000, '"' + "9" * 5000 + '"', "-1"]
DECLARED = {
    "layout": {"best": '"m-3"', "latest": '"m-*"', "logs": '"*.jsonl"'},
    "metric": {"name": '"recall"', "mode": '"max"', "scale": "1", "line": "'recall: ([0-9.]+)'"},
    "variables": {"model": '["*"]', "optimizer": '["*/Adam*"]', "step": '"global_step"', "best": '"best_metric"'},
    "evaluate": {"command": '"true {prefix}"', "pattern": "'([0-9.]+)'"},
    "experiment": {"name": '"{data}_{model}"'},
    "resume": {"restores": '"best"', "best": '"memory"', "overwrites": "true"},
    "recognise": {"tensors": '["*"]', "files": '["*"]', "general": "true"},
}
ODD_TOML = [
    "1",
    "-1",
    "nan",
    "inf",
    "1e999",
    "[]",
    "[[]]",
    "{}",
    '""',
    "true",
    "1979-05-27",
    '"("',
    '"(a+)+$"',
    '"../*"',
]
ODD_TOML += ['"/*"', '"{"', '"{x}{x}"', '"\\u202e"', '"**/*"', '["a", 1]', '"' + "a" * 5000 + '"', "9" * 400]
AGES = ["1d", "0h", "9" * 30 + "w", "-1d", "x", "1e308d"]
MESSAGES = [
    "Key {name} not found in checkpoint",
    "Data loss: not an sstable (bad magic number)",
    "Unable to open file (file signature not found)",
    "A total of {n} objects could not be loaded. Example error message for object <Dense name={name}, built=True>",
    "Layer '{name}' expected {n} variables, but received {n} variables during loading. Expected: []",
    "ValueError: Shapes ({n}, {n}) and ({n},) are incompatible",
    "Assign requires shapes of both tensors to match. lhs shape= [{n},{n}] rhs shape= [{n}]",
    "Unsuccessful TensorSliceReader constructor: Failed to find any matching files for {name}",
    "KeyError: {name}",
    "{y} {0} {} {name!r:>{n}}",
    "Restoring from {name} failed: " * 5,
]


def name(chance: random.Random) -> str:
    """A name that is odd, or two, or a few letters of any kind."""
    kind = chance.randrange(5)
    if kind == 0:
        return "".join(chr(chance.choice([chance.randrange(0x20, 0x7F), chance.randrange(0xD800)])) for _ in range(4))
    if kind == 1:
        return chance.choice(NAMES) + chance.choice(["", "/", ".", ":0"]) + chance.choice(NAMES)
    return chance.choice(NAMES)


def file_name(chance: random.Random) -> str:
    """A name that a file can have."""
    made = name(chance).replace("/", "_").replace("\0", "_").encode("utf-8", "replace").decode()[:60]
    return "x" if made in ("", ".", "..") else made


def scalar(chance: random.Random) -> tuple[int, tuple[int, ...], bytes]:
    """Type, shape and bytes of a value such as a step or a best one."""
    kind = chance.randrange(6)
    if kind == 0:
        return 9, (), struct.pack("<q", chance.choice(STEPS))
    if kind == 1:
        return 2, (), struct.pack("<d", chance.choice(FLOATS))
    if kind == 2:
        return 10, (), b"\1"
    if kind == 3:
        return 8, (), struct.pack("<2f", *[float("nan"), 1.0])
    if kind == 4:
        return 1, (2,), struct.pack("<2f", 1, 2)
    with np.errstate(over="ignore"):
        return 1, (), np.float32(chance.choice(FLOATS)).tobytes()


def tensor(chance: random.Random, data: bytearray) -> bytes:
    """The entry of a tensor, most often one that its bytes fit."""
    kind = chance.randrange(4)
    if kind == 0:
        dtype, shape, raw = scalar(chance)
    elif kind == 1:
        dtype, shape = 1, chance.choice(SHAPES)
        raw = bytes(4) if all(size == 1 for size in shape) else b""
    elif kind == 2:
        dtype, shape, raw = chance.choice(TYPES), (1,), chance.randbytes(chance.choice([1, 2, 4, 8, 16]))
    else:
        values = np.array([chance.choice(FLOATS) for _ in range(6)])
        with np.errstate(over="ignore"):
            dtype, shape, raw = 1, (2, 3), values.astype(np.float32).tobytes()
    crc = checksum.masked(raw) if chance.randrange(12) else 5
    row = entry(shape, dtype=dtype, offset=len(data), size=len(raw), crc=crc)
    data += raw
    return row


def bundle(chance: random.Random, prefix: str) -> Files:
    data = bytearray()
    rows: dict[bytes, bytes] = {b"": fuzz_formats.header()}
    for _ in range(chance.choice([0, 1, 2, 5])):
        rows[name(chance).encode("utf-8", "surrogatepass") or b"e"] = tensor(chance, data)
    if chance.randrange(2):
        key = chance.choice(["global_step", "best_metric", "step", "best_step", "best_acc"])
        dtype, shape, raw = scalar(chance)
        rows[key.encode()] = entry(shape, dtype=dtype, offset=len(data), size=len(raw), crc=checksum.masked(raw))
        data += raw
    if chance.randrange(3) == 0:
        nodes = []
        for key in [*rows][1:]:
            child = varint_field(1, chance.randrange(len(rows))) + bytes_field(
                2, name(chance).encode("utf-8", "replace")
            )
            nodes.append(bytes_field(1, child) + bytes_field(2, text_field(1, "VARIABLE_VALUE") + bytes_field(3, key)))
        graph = b"".join(bytes_field(1, node) for node in nodes)
        raw, crc = fuzz_formats.encode_strings([graph])
        rows[OBJECT_GRAPH_KEY.encode()] = entry((), dtype=7, offset=len(data), size=len(raw), crc=crc)
        data += raw
    return {f"{prefix}.index": table(rows), f"{prefix}.data-00000-of-00001": bytes(data)}


def state(chance: random.Random) -> bytes:
    """A file called checkpoint."""
    lines = []
    for _ in range(chance.choice([0, 1, 1, 3])):
        field = chance.choice(["model_checkpoint_path", "all_model_checkpoint_paths", "x", "last_preserved_timestamp"])
        value = chance.choice(["m", "m-3", "../m", "/etc/passwd", "C:\\\\x\\\\m", name(chance), "m" * 5000])
        value = value.replace('"', '\\"') if chance.randrange(4) else value
        lines.append(f'{field}: "{value}"' if chance.randrange(4) else f"{field}: {value}")
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    return mutate(text, chance) if text and chance.randrange(4) == 0 else text


def log(chance: random.Random) -> Files:
    """A log of a run: its file's name and what is in it."""
    odd = lambda: chance.choice(ODD_JSON)  # noqa: E731
    kind = chance.randrange(8)
    if kind <= 2:
        event = lambda: chance.choice(['"eval"', '"resume"', '"start"', '"stop"', odd()])  # noqa: E731
        keys = ["step", "recall", "loss", "ndcg", "hitrate", "best_metric", "best_step", "trials", "time"]
        rows = (
            ", ".join([f'"event": {event()}', *(f'"{key}": {odd()}' for key in chance.sample(keys, 4))])
            for _ in range(chance.choice([1, 2, 5]))
        )
        return {"metrics.jsonl": "".join(f"{{{row}}}\n" for row in rows).encode()}
    if kind == 3:
        rows = ["epoch,val_recall,loss", *(f"{odd()},{odd()},{odd()}" for _ in range(3))]
        return {"history.csv": chance.choice(["\n", "\r", "\r\n"]).join(rows).encode()}
    if kind == 4:
        rows = [f"iter: {odd()}, train loss: {odd()}, valid recall: {odd()}, ndcg: {name(chance)}" for _ in range(3)]
        return {"train.log": "\n".join(rows).encode("utf-8", "surrogatepass")}
    if kind == 5:
        return {
            "trainer_state.json": f'{{"log_history": [{{"step": {odd()}, "eval_recall": {odd()}}}, {odd()}]}}'.encode()
        }
    if kind == 6:
        return {"info.json": f'{{"best_ckpt_global_step": {odd()}, "recall": {odd()}, "x": {odd()}}}'.encode()}
    return {"events.out.tfevents.1.h": events(chance)}


def events(chance: random.Random) -> bytes:
    out = b""
    for _ in range(3):
        value = text_field(1, "eval/recall") + b"\x15" + np.float32(chance.choice([0.5, 1.0, np.nan, np.inf])).tobytes()
        body = varint_field(2, chance.choice([0, 1, 3, 1 << 62])) + bytes_field(5, bytes_field(1, value))
        length = struct.pack("<Q", len(body))
        masked = [struct.pack("<I", checksum.masked(each)) for each in (length, body)]
        out += length + masked[0] + body + masked[1]
    return mutate(out, chance) if chance.randrange(3) == 0 else out


@functools.cache
def real_run() -> Files:
    """A small experiment of the fixtures, its best value written: with a ledger and a backup."""
    sample = pick("tf2.10")
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(sample.path, Path(place) / "best_model" / sample.experiment)
        runs = FIXTURES / "experiments" / sample.root / "runs" / sample.experiment
        shutil.copytree(runs, Path(place) / "runs" / sample.experiment)
        rewrite(sample.prefix_in(Path(place) / "best_model" / sample.experiment), 0.25)
        return {
            str(path.relative_to(place)): path.read_bytes() for path in sorted(Path(place).rglob("*")) if path.is_file()
        }


@functools.cache
def small_run() -> Files:
    """A checkpoint of one variable with a ledger of two changes, and its backups."""
    with tempfile.TemporaryDirectory() as place:
        prefix = build_bundle(Path(place) / "m", {"a": np.ones(3, np.float32), "global_step": np.int64(3)})
        for value in (0.25, 0.5):
            rewrite(prefix, value)
        return {
            str(path.relative_to(place)): path.read_bytes() for path in sorted(Path(place).rglob("*")) if path.is_file()
        }


# ------------------------------------------------------------------------------------------------------ cases


def ledger_case(chance: random.Random) -> tuple[Files, list[str]]:
    """Lines of a ledger or a journal that lost a field, got another value, or were damaged."""
    files = dict(small_run())
    path = ".ckpt-tools/ledger.jsonl"
    rows = [json.loads(line) for line in files[path].splitlines()]
    for _ in range(chance.choice([1, 1, 2])):
        row = chance.choice(rows)
        nested = [row.get("evidence"), *(row["changes"] if isinstance(row.get("changes"), list) else ())]
        inner = chance.choice([row, *(each for each in nested if isinstance(each, dict))])
        key = chance.choice([*inner]) if inner else "x"
        if chance.randrange(2):
            inner.pop(key, None)
        else:
            inner[key] = chance.choice(
                [None, 3, "", "x", [], {}, [1], ["../x"], 1e308, name(chance), {"a": [None]}, True]
            )
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    files[path] = mutate(text, chance) if chance.randrange(5) == 0 else text
    if chance.randrange(3) == 0:
        files[".ckpt-tools/pending.json"] = files[path].splitlines()[-1] if files[path].strip() else b""
    if chance.randrange(6) == 0:
        for lost in chance.sample(sorted(files), 1):
            del files[lost]
    return files, ["m", ".", "m.index"]


def bundle_case(chance: random.Random) -> tuple[Files, list[str]]:
    prefix = chance.choice(["m", "m", "m-3", "model.ckpt-3", "best/m", file_name(chance)])
    files = bundle(chance, prefix)
    if chance.randrange(2):
        files |= bundle(chance, "n")
    if chance.randrange(3) == 0:
        files[os.path.join(os.path.dirname(prefix), "checkpoint")] = state(chance)
    if chance.randrange(8) == 0:
        files[chance.choice([f"{prefix}.index", f"{prefix}.data-00000-of-00001"])] = b""
    return files, [prefix, prefix, f"{prefix}.index", ".", "n"]


def run_case(chance: random.Random) -> tuple[Files, list[str]]:
    where = f"best_model/{EXPERIMENT}/keras_ckpt"
    files = bundle(chance, f"{where}/m-3") | {f"{where}/checkpoint": state(chance)}
    for _ in range(chance.choice([1, 1, 2])):
        files |= {f"runs/{EXPERIMENT}/{key}": value for key, value in log(chance).items()}
    if chance.randrange(4) == 0:
        files |= bundle(chance, f"best_model/another/{file_name(chance)}")
    return files, [f"best_model/{EXPERIMENT}", f"{where}/m-3", ".", "best_model"]


def real_case(chance: random.Random) -> tuple[Files, list[str]]:
    """An experiment of the fixtures with one file damaged, lost, or with an odd log beside the others."""
    files = dict(real_run())
    experiment = next(path for path in files if path.startswith("best_model")).split("/")[1]
    key = chance.choice(sorted(files))
    kind = chance.randrange(4)
    if kind == 0:
        del files[key]
    elif kind == 1:
        files[key] = mutate(files[key], chance)
    elif kind == 2:
        files |= {f"runs/{experiment}/{key}": value for key, value in log(chance).items()}
    where = f"best_model/{experiment}"
    prefix = next(path for path in real_run() if path.startswith(where) and path.endswith(".index"))
    return files, [where, where, prefix, "."]


def keras_case(chance: random.Random) -> tuple[Files, list[str]]:
    """HDF5 files and archives, with odd names in them or damaged."""
    if chance.randrange(3) == 0:
        data = good_h5(chance.randrange(4))
    else:
        out = io.BytesIO()
        with h5py.File(out, "w") as file:
            for _ in range(3):
                with contextlib.suppress(ValueError, OSError, RuntimeError, TypeError):
                    file[name(chance)] = np.frombuffer(scalar(chance)[2], np.uint8)
            with contextlib.suppress(ValueError, TypeError):
                file.attrs["layer_names"] = [name(chance).encode("utf-8", "replace") for _ in range(2)]
                file.attrs["keras_version"] = name(chance)
        data = out.getvalue()
    if chance.randrange(2):
        data = mutate(data, chance)
    if chance.randrange(2):
        ending = chance.choice([".h5", ".weights.h5", ".hdf5"])
        return {f"m{ending}": data}, [f"m{ending}", "."]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(
            "config.json", chance.choice(["{}", "[", '{"class_name": NaN}', f'{{"config": {chance.choice(ODD_JSON)}}}'])
        )
        archive.writestr("metadata.json", chance.choice(['{"keras_version": "3.0"}', "[]", '{"keras_version": 3}', ""]))
        member = chance.choice(["model.weights.h5", "../../x", "a//b", name(chance)])
        archive.writestr(member.encode("utf-8", "replace").decode(), data)
    archived = out.getvalue()
    return {"m.keras": mutate(archived, chance) if chance.randrange(3) == 0 else archived}, ["m.keras", "."]


def other_case(chance: random.Random) -> tuple[Files, list[str]]:
    """safetensors, npz, V1 files, and what only begins like something."""
    kind = chance.randrange(4)
    if kind == 0:
        rows = {name(chance): {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i in range(3)}
        rows |= {"__metadata__": {"a": "b"}} if chance.randrange(2) else {}
        head = json.dumps(rows, ensure_ascii=chance.randrange(2) == 0).encode("utf-8", "surrogatepass")
        data = struct.pack("<Q", len(head)) + head + bytes(12)
        return {"m.safetensors": mutate(data, chance) if chance.randrange(2) else data}, ["m.safetensors", "."]
    if kind == 1:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for _ in range(2):
                array = io.BytesIO()
                np.save(array, np.array([chance.choice(FLOATS)]))
                with contextlib.suppress(UnicodeError):
                    archive.writestr(name(chance).replace("\0", "") + ".npy", array.getvalue())
        data = out.getvalue()
        return {"m.npz": mutate(data, chance) if chance.randrange(2) else data}, ["m.npz", "."]
    made = fuzz_formats.v1_case(chance) if kind == 2 else fuzz_formats.any_case(chance)
    return made, ["m", "."]


def declared_case(chance: random.Random) -> tuple[Files, list[str]]:
    """A run with a ``ckpt.toml`` whose values are not as they should be, and a log that it may describe."""
    odd = lambda: chance.choice([*ODD_TOML, json.dumps(name(chance).encode("utf-8", "replace").decode())])  # noqa: E731
    lines = []
    for section, keys in DECLARED.items():
        if chance.randrange(3):
            lines.append(f"[{section}]")
            for key, usual in keys.items():
                if chance.randrange(3):
                    lines.append(f"{key} = {odd() if chance.randrange(3) == 0 else usual}")
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    files = bundle(chance, "run/m-3") | {"run/ckpt.toml": mutate(text, chance) if chance.randrange(6) == 0 else text}
    if chance.randrange(2):
        files |= bundle(chance, "run/m-7") | {"run/checkpoint": state(chance)}
    files |= {f"run/{key}": value for key, value in log(chance).items()}
    return files, ["run", "run/m-3", ".", "run/ckpt.toml"]


def with_maps(made: tuple[Files, list[str]], chance: random.Random) -> tuple[Files, list[str]]:
    """The same, and the ids of items in an old and a new catalogue."""
    files, places = made
    for which in ("old.txt", "new.txt"):
        rows = [f"i{number},{number + 1}" for number in range(chance.choice([0, 1, 3, 49, 60]))]
        for _ in range(chance.choice([0, 0, 1])):
            rows.append(f"{name(chance)},{chance.choice(['1', '-1', '0', 'x', '9' * 30, ODD_JSON[0]])}")
        files = {**files, which: "\n".join(rows).encode("utf-8", "surrogatepass")}
    return files, places


KINDS: dict[str, Callable[[random.Random], tuple[Files, list[str]]]] = {
    "bundles": bundle_case,
    "runs": run_case,
    "ledgers": ledger_case,
    "fixtures": real_case,
    "keras": keras_case,
    "others": other_case,
    "declared": declared_case,
}


def words(chance: random.Random, places: list[str]) -> list[str]:
    """One command, most of its options, and where."""
    place = lambda: chance.choice(places) if chance.randrange(20) else file_name(chance)  # noqa: E731
    maybe = lambda *options: [*options] if chance.randrange(2) else []  # noqa: E731
    path, out = place(), f"out-{chance.randrange(3)}"
    message = chance.choice(MESSAGES).replace("{name}", name(chance)).replace("{n}", str(chance.choice(STEPS)))
    value = repr(chance.choice([*FLOATS, *STEPS]))
    asked = chance.choice(
        [
            [
                "inspect",
                path,
                *chance.choice([[], ["--stats"], ["--digest"], ["--tree"], [f"--filter={name(chance)}"]]),
            ],
            ["inspect", path, *maybe("--stats"), *maybe("--digest")],
            [
                "verify",
                path,
                *chance.choice([[], ["--quick"], ["--sample", "50%"], ["--part", "1/2"], ["--part", "x"]]),
            ],
            ["verify", path, *maybe("--sarif", "s.json"), *maybe("--junit", "j.xml"), *maybe("--manifest", "m.sha256")],
            ["diff", path, place()],
            ["resume-check", path, *maybe("--with", chance.choice(["trainer", "comirec-keras", "x"]))],
            ["backfill", path, f"--value={value}", *maybe(f"--metric={chance.choice(['auc', 'loss', name(chance)])}")],
            [
                "backfill",
                path,
                "--from-logs",
                *maybe("--dry-run"),
                *maybe("--metric", "recall"),
                *maybe("--mode", "max"),
            ],
            ["backfill", path, f"--value={value}", "--force", *maybe(f"--into={name(chance)}"), *maybe("--unit", "%")],
            ["migrate", path, "--to", "trainer", *maybe("--output", out), *maybe("--dry-run")],
            ["repair", path, *maybe("--dry-run")],
            ["undo", path, *chance.choice([[], ["--list"], ["--drop-backups"], [f"--to={name(chance)}"]])],
            ["why", path],
            ["export", path, out + chance.choice([".npz", ".safetensors", ".weights.h5", ".h5"]), "--force"],
            ["export", path, out + ".npz", "--names", chance.choice(["canonical", "stored", "keras", "x"])],
            ["slim", path, *chance.choice([[out], ["--in-place"], [out, "--dry-run"]])],
            ["average", path, place(), out],
            ["explain", message, *maybe(path)],
            ["audit", path, *chance.choice([[], ["--verify"], ["--sort", "path"], ["--filter", "best_logged>0.1"]])],
            ["audit", ".", *maybe("--csv"), *maybe("--sarif", "a.json")],
            ["guard", path, "--status"],
            [
                "grow",
                path,
                out,
                "--map",
                "old.txt",
                chance.choice(["new.txt", "old.txt", place()]),
                *maybe("--dry-run"),
            ],
            ["keep", path, "--last", chance.choice(["0", "1", "x"]), *maybe("--unknown-best"), *maybe("--script")],
            ["keep", ".", *maybe("--best=1"), *maybe("--every=3"), *maybe("--younger-than", chance.choice(AGES))],
            ["keep", path, "--last", "1", "--unknown-best", "--delete", "a" * 12],
            ["lineage", chance.choice(["list", "init", "test", "trust"]), path],
            ["lineage", "init", path, chance.choice(["--dry-run", "--force"])],
            ["browse", path],
        ]
    )
    # What takes ten times as long as any other.
    rare = chance.randrange(450)
    if rare < 3:
        asked = ["report", path, "-o", "page.html"]
    elif rare == 3:
        asked = ["demo", chance.choice([path, out])]
    elif rare == 4:
        return [
            "guard",
            path,
            *maybe("--metric", name(chance)),
            "--",
            "sh",
            "-c",
            'echo "$0" >&2',
            f"recall: {name(chance)}",
        ]
    if "--script" in asked:
        return asked
    return [*asked, *([] if "--csv" in asked else maybe("--json")), *(["--quiet"] if chance.randrange(9) == 0 else [])]


def case(kind: str, number: int) -> Case:
    chance = random.Random(f"{kind}-{number}")
    files, places = KINDS[kind](chance)
    if chance.randrange(6) == 0:
        files, places = with_maps((files, places), chance)
    return Case(files, [words(chance, places) for _ in range(chance.choice([1, 2, 3]))])


# --------------------------------------------------------------------------------------------------- what holds


def exercise(directory: Path, given: Case) -> None:
    """Run the commands of a case in an empty directory; raises AssertionError for a wrong end or output."""
    shutil.rmtree(directory / "case", ignore_errors=True)
    (directory / "case").mkdir()
    write(directory / "case", given.files)
    prepare()
    before = os.getcwd()
    os.chdir(directory / "case")
    # Whom a user trusts is written there.
    home = dict.fromkeys(("HOME", "XDG_CONFIG_HOME"), str(directory / "home"))
    try:
        with mock.patch.dict(os.environ, home):
            for command in given.commands:
                require_sound(command, *ran(command))
    finally:
        os.chdir(before)


@functools.cache
def prepare() -> None:
    """Make the options of all commands once: typer does it anew for each call, which takes longer than most answers."""
    for each in COMMANDS:
        importlib.import_module(f"ckpt_tools.cli.commands.{each.replace('-', '_')}")
    made = typer.main.get_command(app)
    typer.main.get_command = lambda _: made
    # Nobody writes here meanwhile; and a nap lasts long where others are busy.
    stability.let_rest = lambda: None
    gc.freeze()


def ran(command: list[str]) -> tuple[int, bytes, bytes]:
    """A command's exit code, and what it printed on stdout and stderr."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        code = run(command)
    out, err = (stream.buffer.getvalue() for stream in streams)
    return code, out, err


def require_sound(command: list[str], code: int, out: bytes, err: bytes) -> None:
    told = f"{command}: {code}\n{err[-3000:].decode(errors='replace')}"
    assert code in CODES, told
    for printed in (out, err):
        text = printed.decode("utf-8")
        odd = {c for c in text if not c.isprintable() and c != "\n"}
        assert not odd, f"{command}: {odd!r} in the output"
    if asks_for_json(command) and not (code == 2 and not out):
        document = json.loads(out, parse_constant=_not_json)
        assert document["schema_version"] == 1, told
        assert isinstance(document["findings"], list), told


def asks_for_json(command: list[str]) -> bool:
    """Whether an option does; a file may be called so too, behind ``--map``, which takes two words as they are."""
    at = command.index("--map") + 1 if "--map" in command else len(command)
    return "--json" in [*command[:at], *command[at + 2 :]]


def _not_json(text: str) -> NoReturn:
    raise AssertionError(f"{text} is no JSON")


SUITE = Suite(tuple(KINDS), case, exercise, Case.kept, seconds=4.0)

if __name__ == "__main__":
    prepare()
    sys.exit(main(SUITE, (__doc__ or "").split("\n")[0]))
