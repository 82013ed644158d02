"""Checkpoints are read where they lie, in ranges, and hold what they hold on a disk."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoints import FIXTURES, build_bundle, pick
from remote_stores import Manners, Store

import ckpt_tools
from ckpt_tools.analysis.difference import diff
from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.resume_forecast import forecast
from ckpt_tools.analysis.run_audit import Audit, audit
from ckpt_tools.analysis.verification import verify
from ckpt_tools.format.bundle import Entry
from ckpt_tools.format.dtypes import BY_NAME
from ckpt_tools.format.ordered import encode_slice_key
from ckpt_tools.format.table import read_table, write_table
from ckpt_tools.format.wire import bytes_field, text_field, varint_field
from ckpt_tools.fs.remote import AHEAD, BLOCK
from ckpt_tools.operations.exporting import export
from ckpt_tools.runs.experiments import Experiment
from ckpt_tools.runs.logs import collect

SAMPLE = pick("tf2.21")
NUMBERS = np.arange(5000, dtype=np.float32)


def _bundle(directory: Path) -> str:
    build_bundle(directory / "model.ckpt", {"w": NUMBERS, "names": [b"one", b"two"]})
    return "model.ckpt"


def _saved_model(directory: Path) -> str:
    (directory / "variables").mkdir()
    (directory / "saved_model.pb").write_bytes(b"")
    build_bundle(directory / "variables" / "variables", {"w": NUMBERS})
    return ""


def _v1(directory: Path) -> str:
    whole = bytes_field(1, b"")
    shape = bytes_field(2, bytes_field(2, varint_field(1, len(NUMBERS))))
    tensor = text_field(1, "w") + shape + varint_field(3, 1) + bytes_field(4, whole)
    header = bytes_field(1, bytes_field(1, tensor) + bytes_field(2, varint_field(1, 1)))
    value = bytes_field(
        2, text_field(1, "w") + bytes_field(2, whole) + bytes_field(3, bytes_field(5, NUMBERS.tobytes()))
    )
    (directory / "old").write_bytes(write_table({b"": header, encode_slice_key("w", [(0, -1)]): value}))
    return "old"


def _h5(directory: Path, name: str = "weights.h5") -> str:
    with h5py.File(directory / name, "w") as file:
        file["layer/w"] = NUMBERS
        file.create_dataset("layer/packed", data=NUMBERS.reshape(50, 100), chunks=(10, 100), compression="gzip")
    return name


def _keras(directory: Path, kind: int = zipfile.ZIP_STORED) -> str:
    inner = directory / _h5(directory, "inner.h5")
    with zipfile.ZipFile(directory / "model.keras", "w", kind) as archive:
        archive.writestr("config.json", "{}")
        archive.write(inner, "model.weights.h5")
    inner.unlink()
    return "model.keras"


def _packed(directory: Path) -> str:
    return _keras(directory, zipfile.ZIP_DEFLATED)


def _shards(directory: Path) -> str:
    _h5(directory, "model_00000.weights.h5")
    weights = {"weight_map": {"/layer/vars": "model_00000.weights.h5"}}
    (directory / "model.weights.json").write_text(json.dumps(weights))
    return "model.weights.json"


def placeless(value: Any, root: str) -> Any:
    """A document without its place."""
    return json.loads(json.dumps(value).replace(root, ""))


@pytest.mark.parametrize("make", [_bundle, _saved_model, _v1, _h5, _keras, _packed, _shards])
def test_every_format(store: Store, tmp_path: Path, make: Callable[[Path], str]) -> None:
    local = tmp_path / "local"
    local.mkdir()
    name = make(local)
    store.put(local, "place")
    here, there = f"{local}/{name}".rstrip("/"), store.url(f"place/{name}").rstrip("/")
    expected = placeless(inspect(here, digest=True).to_json(), str(local))
    assert placeless(inspect(there, digest=True).to_json(), store.url("place")) == expected
    assert len(expected["tensors"]) >= 1
    assert placeless(verify(there).to_json(), store.url("place")) == placeless(verify(here).to_json(), str(local))
    with ckpt_tools.open(there) as remote, ckpt_tools.open(here) as own:
        for key in own:
            np.testing.assert_array_equal(remote[key].read(), own[key].read())


def test_an_experiment(store: Store, tmp_path: Path) -> None:
    """What is asked of a run is answered alike: its best, its logs, the resume, the difference from a copy."""
    source = FIXTURES / "experiments" / SAMPLE.root
    for folder in ("best_model", "runs"):
        store.put(source / folder / SAMPLE.experiment, f"lab/{folder}/{SAMPLE.experiment}")
    there, here = store.url(f"lab/best_model/{SAMPLE.experiment}"), str(SAMPLE.path)
    found = inspect(there)
    assert placeless(found.to_json(), store.url("lab")) == placeless(inspect(here).to_json(), str(source))
    assert found.experiment == Experiment(there)
    evidence = collect(Experiment(there))
    assert [e.recall for e in evidence.evaluations] == [e.recall for e in collect(Experiment(here)).evaluations]
    assert evidence.best is not None
    assert placeless(forecast(there).to_json(), store.url("lab")) == placeless(forecast(here).to_json(), str(source))
    same = diff(there, here)
    assert same.same, same
    written = tmp_path / "weights.npz"
    export(there, str(written))
    with np.load(written) as arrays, ckpt_tools.open(here) as own:
        assert len(arrays.files) == len(own)


def test_an_audit_of_a_shelf(store: Store) -> None:
    """One of the oldest producer and one of the newest."""
    shelf = FIXTURES / "experiments"
    for name in ("tf1.15", "tf2.21"):
        store.put(shelf / name, name)
        compare_audits(audit(store.url(name)), audit(str(shelf / name)))


def compare_audits(there: Audit, here: Audit) -> None:
    assert len(there.rows) == len(here.rows) > 4
    for remote, local in zip(there.rows, here.rows, strict=True):
        for name in ("path", "kind", "model", "step", "best_stored", "best_logged", "health", "verdict", "digest"):
            assert getattr(remote, name) == getattr(local, name), (remote.path, name)


def _huge(root: Path, size: int) -> str:
    """A checkpoint of a real trainer, grown by one tensor whose bytes are a hole in the file."""
    source = Path(SAMPLE.full_prefix)
    table = read_table(source.with_name(f"{source.name}.index").read_bytes())
    data = source.with_name(f"{source.name}.data-00000-of-00001").read_bytes()
    entry = Entry(BY_NAME["float32"], (size // 4,)).moved(shard=0, offset=len(data), size=size, crc=0)
    table[b"zz/huge"] = entry.encode()
    (root / "ckpt-1.index").write_bytes(write_table(dict(sorted(table.items()))))
    with (root / "ckpt-1.data-00000-of-00001").open("wb") as file:
        file.write(data)
        file.truncate(len(data) + size)
    return "ckpt-1"


def test_inspecting_ten_gigabytes_reads_the_index_and_the_graph(web: tuple[Path, str, Manners]) -> None:
    root, url, manners = web
    name = _huge(root, 10 << 30)
    found = inspect(f"{url}/{name}")
    assert found.totals["bytes"] > 10 << 30
    assert found.lineage is not None
    index = (root / f"{name}.index").stat().st_size
    # The object graph and a few scalars, with what lies around them.
    assert manners.sent(".data-00000-of-00001") < 16 * BLOCK
    assert manners.sent() < index * 4 + 16 * BLOCK + (1 << 16)
    assert len(manners.asked) < 25


def test_verifying_reads_ahead(web: tuple[Path, str, Manners]) -> None:
    root, url, manners = web
    size = 48 << 20
    build_bundle(root / "big", {"w": np.zeros(size // 4, np.float32)})
    assert verify(f"{url}/big").whole
    pieces = [sent for _, path, _, sent in manners.asked if ".data-" in path and sent]
    assert sum(pieces) <= size + 2 * BLOCK
    assert len(pieces) <= size // AHEAD + 4


def test_a_tensor_is_read_without_the_others(web: tuple[Path, str, Manners]) -> None:
    root, url, manners = web
    build_bundle(root / "two", {"a": np.zeros(4 << 20, np.float32), "b": NUMBERS})
    with ckpt_tools.open(f"{url}/two") as checkpoint:
        np.testing.assert_array_equal(checkpoint["b"].read(), NUMBERS)
    assert manners.sent(".data-00000-of-00001") < NUMBERS.nbytes + BLOCK


def test_commands(store: Store, run_ckpt: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    if store.kind == "memory":
        pytest.skip("the memory of another process")
    store.put(SAMPLE.path, f"best_model/{SAMPLE.experiment}")
    url = store.url(f"best_model/{SAMPLE.experiment}")
    code, out, _ = run_ckpt("inspect", url, "--json")
    assert code == 0
    assert json.loads(out)["prefix"].startswith(url)
    assert run_ckpt("verify", url)[0] == 0
    assert run_ckpt("diff", url, str(SAMPLE.path))[0] == 0
    assert run_ckpt("resume-check", url, "--json")[0] == run_ckpt("resume-check", str(SAMPLE.path), "--json")[0]
    assert run_ckpt("audit", store.url("best_model"), "--json")[0] == 0
    code, _, err = run_ckpt("report", url, "-o", str(tmp_path / "run.html"))
    assert code == 0, err
    code, _, err = run_ckpt("why", url, "model/item_embedding")
    assert "Traceback" not in err
