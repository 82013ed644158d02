"""`ckpt keep`: the only holder of a best is never listed, what is promised is freed, nothing else is touched."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import faulty
import numpy as np
import pytest
import rewrite_worker
from checkpoints import FIXTURES, build_bundle, contents, rewrite, snapshot
from strace import Traced

from ckpt_tools import transactions
from ckpt_tools.analysis.retention import Decision, Policies, decide, seconds_of
from ckpt_tools.analysis.shelf import Holding, ShelfFile, Value, line_of
from ckpt_tools.cli import run
from ckpt_tools.errors import BusyError, MismatchError, UsageError
from ckpt_tools.fs.local import Fingerprint
from ckpt_tools.operations import keeping
from ckpt_tools.operations.keeping import keep
from ckpt_tools.operations.slimming import slim
from ckpt_tools.readers import Bundle
from ckpt_tools.runs.ledger import RemovalEntry, read_ledger
from ckpt_tools.transactions import drop_backups, removal, undo


def shelf(directory: Path, steps: int = 6, best: int = 3, *, state: bool = True) -> list[str]:
    """A line of checkpoints of TensorFlow 1 with a log, of which number ``best`` (from 1) is the best."""
    directory.mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(1, steps + 1):
        tensors = {"w": np.full(64, number, "f"), "global_step": np.int64(number * 100)}
        names.append(os.path.basename(build_bundle(directory / f"model.ckpt-{number * 100}", tensors)))
    if state:
        lines = [f'model_checkpoint_path: "{names[-1]}"', *(f'all_model_checkpoint_paths: "{name}"' for name in names)]
        (directory / "checkpoint").write_text("\n".join(lines) + "\n")
    rows = [f"step {n * 100} val_auc: {0.9 - 0.01 * abs(n - best):.4f}" for n in range(1, steps + 1)]
    (directory / "train.log").write_text("\n".join(rows) + "\n")
    return names


def names(found: keeping.Shelved, what: str) -> list[str]:
    holdings = found.may_go if what == "may_go" else [kept.holding for kept in found.keep]
    return [os.path.basename(holding.path) for holding in holdings]


def space(directory: Path) -> int:
    """The bytes of all files below a directory, each file once."""
    found = {}
    for folder, _, files in os.walk(directory):
        for name in files:
            status = os.lstat(os.path.join(folder, name))
            found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())


# ------------------------------------------------------------------------------------- what is decided


def made_up(random: np.random.Generator) -> tuple[list[Holding], set[str], Policies]:
    """A shelf of one to three lines, what of it is whole, and policies: everything by chance."""
    holdings, whole = [], set()
    for line in range(random.integers(1, 4)):
        source, mode = random.choice(["log", "name", "stored"]), random.choice(["max", "min", ""]) or None
        told = random.random() < 0.9
        for number in range(random.integers(1, 9)):
            path = f"d{line}/ckpt-{number}"
            values = [Value("log", "auc", float(random.integers(0, 5)), "max")] if random.random() < 0.3 else []
            if told and random.random() < 0.8:
                values.append(Value(source, "metric", float(random.choice([0, 1, 2, np.nan])), mode))
            size = int(random.integers(1, 100))
            file = ShelfFile(f"{path}.index", Fingerprint(1, len(holdings), size, 0), int(random.integers(1, 3)))
            bound = ("needed",) if random.random() < 0.1 else ()
            step = int(random.integers(0, 50)) * 100 if random.random() < 0.8 else None
            written = float(random.integers(0, 1000))
            holdings.append(Holding(path, f"d{line}/ckpt-#", number, step, written, tuple(values), (file,), bound))
            if random.random() < 0.8:
                whole.add(path)
    pick = {"last": (1, 4), "best": (1, 4), "every": (100, 2000), "younger_than": (1, 900)}
    chosen = random.choice(list(pick), size=random.integers(1, 4), replace=False)
    given = {name: int(random.integers(*pick[name])) for name in chosen}
    return holdings, whole, Policies(**given, unknown_best=bool(random.random() < 0.3))  # type: ignore[arg-type]


def require_safe(holdings: list[Holding], whole: set[str], policies: Policies, found: Decision) -> None:
    gone = {holding.path for holding in found.may_go}
    assert {kept.holding.path for kept in found.keep} | gone == {holding.path for holding in holdings}
    assert len(found.keep) + len(gone) == len(holdings)
    for line in {holding.line for holding in holdings}:
        members = [holding for holding in holdings if holding.line == line]
        left = [holding for holding in members if holding.path not in gone]
        assert not any(holding.bound for holding in members if holding.path in gone)
        if any(holding.path in whole for holding in members):
            assert any(holding.path in whole for holding in left), "the only whole one"
        keys = {(v.source, v.metric, v.mode) for h in members for v in h.values if np.isfinite(v.value)}
        if not keys and len(members) > len(left):
            assert policies.unknown_best
        for source, metric, mode in keys:
            for direction in (mode,) if mode else ("max", "min"):
                rows = [
                    (v.value, h.path) for h in members for v in h.values if (v.source, v.metric) == (source, metric)
                ]
                rows = [row for row in rows if np.isfinite(row[0])]
                pick = max if direction == "max" else min
                sound = [row for row in rows if row[1] in whole]
                for group in (rows, sound):
                    if group:
                        best = pick(value for value, _ in group)
                        # What is better than all that is whole stays, damaged or not; so does a whole one of the best.
                        assert any(path not in gone for value, path in group if value == best), (
                            line,
                            metric,
                            direction,
                        )
        ordered = sorted(members, key=lambda holding: holding.order)
        if policies.last:
            assert gone.isdisjoint(holding.path for holding in ordered[-policies.last :])


def test_of_a_thousand_made_up_shelves_no_only_holder_of_a_best_is_listed() -> None:
    random = np.random.default_rng(18)
    listed = 0
    for _ in range(1000):
        holdings, whole, policies = made_up(random)
        asked: set[str] = set()

        def is_whole(holding: Holding, whole: set[str] = whole, asked: set[str] = asked) -> bool:
            assert holding.path not in asked, "every byte is read once"
            asked.add(holding.path)
            return holding.path in whole

        found = decide(holdings, policies, is_whole=is_whole, now=1000.0)
        require_safe(holdings, whole, policies, found)
        listed += len(found.may_go)
        assert found.nbytes == sum(h.nbytes for h in found.may_go if h.files[0].names == 1)
    assert listed > 1000


@pytest.mark.parametrize(
    ("name", "line", "number"),
    [
        ("model.ckpt-100", "model.ckpt-#", 100),
        ("model.ckpt", "model.ckpt", None),
        ("fold-1", "fold-1", None),
        ("gen_1-100", "gen_1-#", 100),
        ("weights.03-0.42.h5", "weights-#.h5", 3),
        ("w.03-val_loss-0.42.weights.h5", "w-#.weights.h5", 3),
        ("fold_2-epoch_3.keras", "fold_2-epoch-#.keras", 3),
        ("cp-0005.ckpt", "cp-#.ckpt", 5),
        ("model-v2", "model-v2", None),
    ],
)
def test_what_differs_in_more_than_its_number_is_another_line(name: str, line: str, number: int | None) -> None:
    assert line_of(f"d/{name}") == (f"d/{line}", number)


def test_policies_add_up(tmp_path: Path) -> None:
    shelf(tmp_path / "run")
    assert names(keep(str(tmp_path), Policies(last=1)), "keep") == ["model.ckpt-300", "model.ckpt-600"]
    assert names(keep(str(tmp_path), Policies(best=2)), "keep") == [f"model.ckpt-{n}00" for n in (2, 3, 6)]
    assert names(keep(str(tmp_path), Policies(every=250)), "keep") == [f"model.ckpt-{n}00" for n in (1, 3, 5, 6)]
    old = tmp_path / "run" / "model.ckpt-400.index"
    for path in (tmp_path / "run").iterdir():
        os.utime(path, (0, 0))
    os.utime(old)
    assert names(keep(str(tmp_path), Policies(younger_than=60)), "keep") == [f"model.ckpt-{n}00" for n in (3, 4, 6)]
    for wrong in (Policies(), Policies(last=0), Policies(younger_than=-1)):
        with pytest.raises(UsageError):
            keep(str(tmp_path), wrong)
    assert seconds_of("1.5h") == 5400
    for text in ("", "5", "h", "1e9d", "-3d"):
        with pytest.raises(UsageError):
            seconds_of(text)


def test_a_damaged_best_stays_and_so_does_the_best_that_is_whole(tmp_path: Path) -> None:
    shelf(tmp_path)
    data = tmp_path / "model.ckpt-300.data-00000-of-00001"
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    found = keep(str(tmp_path), Policies(last=1))
    assert names(found, "keep") == ["model.ckpt-200", "model.ckpt-300", "model.ckpt-600"]
    assert "the best val_auc by its log, damaged" in found.keep[1].reasons


def test_without_a_value_nothing_goes_unless_that_does_not_matter(tmp_path: Path) -> None:
    shelf(tmp_path, state=False)
    (tmp_path / "train.log").unlink()
    found = keep(str(tmp_path), Policies(last=1))
    assert (found.may_go, [finding.id for finding in found.findings]) == ((), ["best-unknown"])
    assert len(keep(str(tmp_path), Policies(last=1, unknown_best=True)).may_go) == 5


def test_what_an_undo_needs_stays(tmp_path: Path) -> None:
    prefix = tmp_path / "model.ckpt-100"
    shelf(tmp_path)
    rewrite(str(prefix), 0.5)
    slim_source = str(tmp_path / "model.ckpt-200")
    with pytest.raises(UsageError):
        slim(slim_source, str(tmp_path / "slim-200"))
    assert "its originals are kept for an undo" in keep(str(tmp_path), Policies(last=1)).keep[0].reasons
    drop_backups(str(prefix))
    assert "model.ckpt-100" not in names(keep(str(tmp_path), Policies(best=1)), "may_go"), "it stores the only best"
    rewrite(str(tmp_path / "model.ckpt-600"), 0.5)
    rewrite(str(tmp_path / "model.ckpt-200"), 0.25)
    (tmp_path / ".ckpt-tools" / "pending.json").write_text("{}")
    assert keep(str(tmp_path), Policies(best=1)).may_go == ()


def test_the_source_of_a_checkpoint_made_by_links_stays_until_that_cannot_be_undone(tmp_path: Path) -> None:
    from ckpt_tools.transactions import apply, plan_values

    shelf(tmp_path)
    with Bundle(str(tmp_path / "model.ckpt-200")) as bundle:
        apply(plan_values(bundle, {}, reason="copy", evidence={}, target=str(tmp_path / "copy")))
    found = keep(str(tmp_path), Policies(last=1))
    assert "model.ckpt-200" in names(found, "keep")
    undo(str(tmp_path / "copy"))
    assert "model.ckpt-200" in names(keep(str(tmp_path), Policies(last=1)), "may_go")


def test_old_experiments_and_keras_files(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "experiments", tmp_path / "experiments")
    before = contents(tmp_path)
    found = keep(str(tmp_path), Policies(last=1, unknown_best=True))
    assert contents(tmp_path) == before
    assert not any(os.path.basename(path.path) == "model.ckpt" for path in found.may_go)
    import h5py

    for epoch, loss in enumerate((0.5, 0.3, 0.4), start=1):
        with h5py.File(tmp_path / f"weights.{epoch:02d}-val_loss-{loss}.weights.h5", "w") as file:
            file.create_group("layers/dense/vars").create_dataset("0", data=np.ones(3))
    (found,) = keep(str(tmp_path), Policies(last=1)).may_go[-1:]
    assert os.path.basename(found.path) == "weights.01-val_loss-0.5.weights.h5"


# --------------------------------------------------------------------------------------- what is deleted


def test_what_is_promised_is_freed_and_nothing_else_is_touched(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shelf(run_dir)
    (run_dir / "model.ckpt-200.meta").write_bytes(b"graph")
    (run_dir / "model.ckpt-200.data-00000-of-00003").write_bytes(b"of another save")
    os.link(run_dir / "model.ckpt-100.data-00000-of-00001", tmp_path / "elsewhere")
    os.link(run_dir / "model.ckpt-400.index", run_dir / "second-name")
    before, room = snapshot(tmp_path), space(tmp_path)
    listed = keep(str(tmp_path), Policies(last=1))
    assert snapshot(tmp_path) == before
    for digest in ("", "0" * 64, listed.digest[:12]):
        with pytest.raises(MismatchError):
            keep(str(tmp_path), Policies(last=1), delete=digest)
    assert snapshot(tmp_path) == before
    done = keep(str(tmp_path), Policies(last=1), delete=listed.digest)
    assert sorted(done.deleted) == sorted(holding.path for holding in listed.may_go)
    after = snapshot(tmp_path)
    ours = {"run/.ckpt-tools/ledger.jsonl", "run/checkpoint"}
    gone = {os.path.relpath(file.path, tmp_path) for holding in listed.may_go for file in holding.files}
    assert set(before) - set(after) == gone
    assert {name: row for name, row in after.items() if name not in ours} == {
        name: row for name, row in before.items() if name not in gone | ours
    }
    written = sum(after[name][1] for name in ours) - before["run/checkpoint"][1]
    assert room - space(tmp_path) + written == listed.nbytes > 0
    assert (run_dir / "checkpoint").read_text().count("all_model") == 2
    (entry,) = read_ledger(str(run_dir))
    assert isinstance(entry, RemovalEntry)
    assert entry.digest == listed.digest
    assert keep(str(tmp_path), Policies(last=1)).may_go == ()


def test_what_changed_since_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf(tmp_path)
    listed = keep(str(tmp_path), Policies(last=1))
    decided = keeping._decided
    for name in ("model.ckpt-300.index", "model.ckpt-400.data-00000-of-00001"):  # one that stays, one that goes

        def meanwhile(root: str, policies: Policies, name: str = name) -> object:
            found = decided(root, policies)
            os.utime(tmp_path / name, (1, 1))
            return found

        digest = keep(str(tmp_path), Policies(last=1)).digest
        monkeypatch.setattr(keeping, "_decided", meanwhile)
        before = contents(tmp_path)
        with pytest.raises(BusyError):
            keep(str(tmp_path), Policies(last=1), delete=digest)
        assert contents(tmp_path) == before
        monkeypatch.setattr(keeping, "_decided", decided)
    with pytest.raises(MismatchError):
        keep(str(tmp_path), Policies(last=1), delete=listed.digest)


def test_killed_or_refused_at_each_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was to stay is there, bit for bit, wherever it ends; then the same command ends it."""
    original, folder = tmp_path / "original", tmp_path / "work"
    shelf(original, steps=4, best=2)
    prefix = str(folder / "model.ckpt-400")

    def fresh() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)

    def left() -> dict[str, str]:
        return {name: row for name, row in contents(folder).items() if "ledger" not in name}

    fresh()
    calls = faulty.run(lambda: rewrite_worker.main("keep", prefix), monkeypatch).calls
    expected = left()
    kept = {name: row for name, row in expected.items() if "model" in name}
    assert len(kept) == 6
    changing = [number for number, name in enumerate(calls) if name in faulty.CHANGING and name != "open"]
    outcomes = set()
    for number in changing:
        for kind in ("killed", "half", "late", "EIO"):
            fresh()
            faulty.run(lambda: rewrite_worker.main("keep", prefix), monkeypatch, faulty.Fault(number, kind))
            assert kept.items() <= contents(folder).items(), (number, kind)
            outcomes.add(sum("model.ckpt-100" in name for name in contents(folder)))
            assert rewrite_worker.main("keep", prefix) == 0
            assert left() == expected, (number, kind)
    assert outcomes == {0, 1, 2}


@pytest.mark.slow
def test_killed_before_each_of_its_calls(tmp_path: Path) -> None:
    """What was to stay is there, bit for bit, at each of them; the same command again ends it."""
    (tmp_path / "original").mkdir()
    members = shelf(tmp_path / "original" / "run", steps=4, best=2)
    stay = {name for name in members if name != "model.ckpt-100"}
    traced = Traced(tmp_path / "original", str(tmp_path / "original" / "run" / "model.ckpt-400"), "keep")
    calls = traced.calls(tmp_path / "log")
    expected = {name: row for name, row in contents(traced.folder).items() if "ledger" not in name}
    kept = {name: row for name, row in expected.items() if any(f"{member}." in name for member in stay)}
    assert len(kept) == 6
    assert not any("model.ckpt-100" in name for name in expected)
    outcomes = set()
    for call, number in calls:
        assert traced.disturbed(call, number, "signal=KILL").returncode == -signal.SIGKILL
        found = contents(traced.folder)
        assert kept.items() <= found.items(), (call, number)
        outcomes.add(sum("model.ckpt-100" in name for name in found))
        traced.again()
        ended = {name: row for name, row in contents(traced.folder).items() if "ledger" not in name}
        assert ended == expected, (call, number)
    assert outcomes == {0, 1, 2}


def test_the_script_deletes_what_the_list_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a run's"
    shelf(folder)
    listed = keep(str(folder), Policies(last=1))
    assert run(["keep", str(folder), "--last", "1", "--script"]) == 0
    script = capsys.readouterr().out
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    subprocess.run(["sh"], input=script, text=True, check=True)
    assert not any(os.path.exists(file.path) for holding in listed.may_go for file in holding.files)
    assert keep(str(folder), Policies(last=1)).may_go == ()


def test_the_command_that_is_shown_deletes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shelf(tmp_path)
    assert run(["keep", str(tmp_path), "--last", "1", "--younger-than", "0.001s"]) == 0
    command = capsys.readouterr().out.splitlines()[-1].partition("next: ")[2].split()
    assert run([*command[1:], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["deleted"]) == len(found["may_go"]) == 4
    assert run(["keep", str(tmp_path), "--last", "1", "--script", "--json"]) == 2


def test_two_lists_that_left_the_same_are_ended_by_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command that is printed does what it says: the second would not find its list any more."""
    policies = Policies(last=1, unknown_best=True)
    for place in (tmp_path / "a", tmp_path / "b"):
        shelf(place, steps=3)
    for disturbed in ("remove", "_delete"):

        def refused(*_: object) -> list[str]:
            raise BusyError("refused")

        def half(place: object, files: list[str]) -> None:
            for name in files:
                if name.endswith(".index"):
                    os.unlink(place.path(name))  # type: ignore[attr-defined]

        with monkeypatch.context() as patch:
            target = transactions if disturbed == "remove" else removal
            patch.setattr(target, disturbed, refused if disturbed == "remove" else half)
            with contextlib.suppress(BusyError):
                keep(str(tmp_path), policies, delete=keep(str(tmp_path), policies).digest)
        shelf(tmp_path / "c", steps=1)  # another list
    told = [finding for finding in keep(str(tmp_path), policies).findings if finding.id == "deletion-interrupted"]
    assert len(told) == 1
    assert run(shlex.split(str(told[0].fix))[1:]) == 0
    assert not list(tmp_path.glob("[ab]/model.ckpt-100.data*"))
    assert not [finding for finding in keep(str(tmp_path), policies).findings if finding.id == "deletion-interrupted"]
