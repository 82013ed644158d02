"""HDF5 is read in a process of its own: when it crashes or hangs, the file is damaged, and nothing else."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.analysis.run_audit import audit
from ckpt_tools.cli import run
from ckpt_tools.errors import BusyError, CorruptError, StorageError
from ckpt_tools.fs.local import is_no_answer
from ckpt_tools.hdf5 import client
from ckpt_tools.readers import open_checkpoint
from ckpt_tools.readers.hdf5 import Hdf5File
from ckpt_tools.readers.window import Memory

posix = pytest.mark.skipif(os.name != "posix", reason="signals")


def pid() -> int:
    return client.child()._process.pid


class Deadly(Memory):
    """Bytes of a file; who asks for those at ``place`` gets a signal instead."""

    def __init__(self, data: bytes, number: int, times: int = 99) -> None:
        super().__init__(data, "deadly.h5")
        self.number = number
        self.times = times

    def read(self, offset: int, size: int) -> bytes:
        if self.times:
            self.times -= 1
            os.kill(pid(), self.number)
        return super().read(offset, size)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["straight"] = np.arange(6, dtype=np.float32)
        file["turned"] = np.arange(6, dtype=">f8")
        file.create_dataset("packed", data=np.arange(5000.0), compression="gzip")
        file["text"] = ["a", "bc"]
    return tmp_path / "whole.h5"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """No test sees the child of another."""
    client.child().stop()
    yield
    client.child().stop()


@posix
def test_a_crash_is_damage_of_the_file(whole: Path) -> None:
    with pytest.raises(CorruptError, match=r"the HDF5 library crashed on this file \(SIGSEGV\)") as caught:
        Hdf5File(Deadly(whole.read_bytes(), signal.SIGSEGV))
    assert caught.value.path == "deadly.h5"
    with open_checkpoint(whole) as checkpoint:
        assert checkpoint.read("packed").sum() == np.arange(5000.0).sum()


@posix
def test_a_crash_that_another_file_may_have_caused_is_tried_again(whole: Path) -> None:
    with open_checkpoint(whole) as other:
        before = pid()
        file = Hdf5File(Deadly(whole.read_bytes(), signal.SIGSEGV, times=1))
        assert pid() != before
        assert file.read("packed").shape == (5000,)
        # The other file was open in the child that is gone.
        assert other.read("packed").shape == (5000,)
        assert other.read("text").tolist() == [b"a", b"bc"]
        file.close()


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_child_that_somebody_killed_says_nothing_of_the_file(whole: Path, number: int) -> None:
    """As the system does where memory is short: another child is asked, and if that is killed too, it is said."""
    assert Hdf5File(Deadly(whole.read_bytes(), number, times=1)).read("packed").shape == (5000,)
    with pytest.raises(StorageError, match=rf"was killed \({signal.Signals(number).name}\)") as caught:
        Hdf5File(Deadly(whole.read_bytes(), number))
    assert is_no_answer(caught.value)
    with open_checkpoint(whole) as checkpoint:
        os.kill(pid(), number)
        assert checkpoint.read("packed").sum() == np.arange(5000.0).sum()


@posix
def test_a_library_that_hangs_is_ended(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SILENT_SECONDS", 0.3)
    begin = time.monotonic()
    with pytest.raises(CorruptError, match="hung on this file"):
        Hdf5File(Deadly(whole.read_bytes(), signal.SIGSTOP))
    assert time.monotonic() - begin < 10


def test_a_library_that_goes_round_in_the_file_is_ended(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MOST_ASKED", 0)
    monkeypatch.setattr(client, "_MOST_ASKED_FREE", 100)
    with pytest.raises(CorruptError, match="again and again"):
        Hdf5File(Memory(whole.read_bytes(), "round.h5"))


@posix
@pytest.mark.parametrize("bound", ["resource.RLIM_INFINITY", "4 << 30"])
def test_a_library_that_goes_round_in_itself_is_ended_whatever_bounds_the_memory(bound: str) -> None:
    """Nobody may be there any more who would end it; a bound that stands already must not keep the timer away."""
    lines = f"""import resource, signal
resource.setrlimit(resource.RLIMIT_AS, ({bound}, {bound}))
signal.signal(signal.SIGPROF, signal.SIG_IGN)
from ckpt_tools.hdf5 import server
server.own_signals()
server.limit(0, 0.1)
print(*resource.getrlimit(resource.RLIMIT_AS), flush=True)
while True:
    pass"""
    ended = subprocess.run([sys.executable, "-c", lines], timeout=30, check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGPROF
    soft, hard = map(int, ended.stdout.split())
    assert 0 < soft <= 4 << 30
    assert hard in (-1, 4 << 30)


@posix
def test_a_crash_in_a_shelf_is_one_row(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole.rename(tmp_path / "b.h5")
    (tmp_path / "a.h5").write_bytes((tmp_path / "b.h5").read_bytes())
    (tmp_path / "a.h5").open("ab").write(b"another digest")
    build_bundle(tmp_path / "ckpt-1", {"v": np.ones(3)})
    ask = client.Child.ask

    def deadly(self: client.Child, question: str, number: int, *rest: object, **more: object) -> object:
        if self._files[number].path.endswith("a.h5") and question == "open":
            os.kill(self._process.pid, signal.SIGSEGV)
        return ask(self, question, number, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(client.Child, "ask", deadly)
    rows = {row.path: row for row in audit(str(tmp_path)).rows}
    assert {path: row.health for path, row in rows.items()} == {"a.h5": "damaged", "b.h5": "whole", "ckpt-1": "whole"}
    assert "crashed on this file (SIGSEGV)" in str(rows["a.h5"].problem)


@posix
def test_crashed_files_are_findings_of_every_command(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client.Child, "_part", lambda self, *_: os.kill(self._process.pid, signal.SIGSEGV) or b"")
    for arguments in (["inspect"], ["verify"], ["export", str(whole.with_name("out.npz"))], ["diff", str(whole)]):
        assert run([arguments[0], str(whole), *arguments[1:], "--json"]) == 1
        out = json.loads(capsys.readouterr().out)
        assert "crashed on this file" in json.dumps(out)
    assert not whole.with_name("out.npz").exists()


def test_what_the_bytes_say_wrong_is_no_crash(whole: Path) -> None:
    class Busy(Memory):
        def read(self, *_: int) -> bytes:
            raise BusyError("was replaced while it was read", path=self.path)

    with pytest.raises(BusyError):
        Hdf5File(Busy(whole.read_bytes(), "busy.h5"))
    assert client.child().usable


def test_a_child_that_answers_nonsense(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_END_SECONDS", 0.1)
    for answer in (b"", b"A", b"A" + b"\xff" * 8, b"A\2\0\0\0\0\0\0\0{]", b"A\2\0\0\0\0\0\0\0{}", b"Z\0\0\0\0\0\0\0\0"):
        stream = io.BytesIO(answer)
        with monkeypatch.context() as patch:
            patch.setattr(client.Child, "_part", lambda _, size, __, stream=stream: stream.read(size))
            with pytest.raises(CorruptError):
                Hdf5File(Memory(whole.read_bytes(), "odd.h5"))
        client.child().stop()


def test_values_are_read_where_they_lie(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_checkpoint(whole) as checkpoint:
        client.child().stop()
        monkeypatch.setattr(client, "open_file", lambda _: pytest.fail("the library is not needed for these"))
        assert checkpoint.read("straight").tolist() == list(range(6))
        assert checkpoint.read("turned").tolist() == list(range(6))
        assert checkpoint.read("turned").dtype == np.dtype("<f8")
        checkpoint.read("straight")[0] = 7  # an array of one's own


def test_threads_share_the_child(whole: Path) -> None:
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(5):
                with open_checkpoint(whole) as checkpoint:
                    assert checkpoint.read("packed")[-1] == 4999
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_was_forked_has_a_child_of_its_own(whole: Path) -> None:
    code = f"""
import os
from ckpt_tools.readers import open_checkpoint
checkpoint = open_checkpoint({str(whole)!r})
forked = os.fork()
assert checkpoint.read("packed")[-1] == 4999
if not forked:
    os._exit(0)
assert os.waitpid(forked, 0)[1] == 0
assert checkpoint.read("packed")[-1] == 4999
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@posix
def test_the_child_ends_with_its_parent_and_not_by_ctrl_c(whole: Path) -> None:
    code = f"""
import os, signal, sys, time
from ckpt_tools.hdf5 import client
from ckpt_tools.readers import open_checkpoint
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background may ignore it
checkpoint = open_checkpoint({str(whole)!r})
try:
    print(client.child()._process.pid, flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    assert checkpoint.read("packed")[-1] == 4999
    print("read", flush=True)
    time.sleep(30)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.stdout.readline() == "read\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child lives on")


def test_it_loads_little(whole: Path) -> None:
    code = f"""
import sys
from ckpt_tools.readers import open_checkpoint
with open_checkpoint({str(whole)!r}) as checkpoint:
    assert len(checkpoint.tensors) == 4
assert not {{"h5py", "numpy"}} & set(sys.modules), "what only the child needs"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
