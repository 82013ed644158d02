"""Web servers that lie: bodies without end, answers that never come, ways that lead elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
from checkpoints import build_bundle

from ckpt_tools.analysis.inspection import inspect
from ckpt_tools.analysis.verification import verify
from ckpt_tools.cli import run
from ckpt_tools.errors import CkptError, StorageError, UnsafeError
from ckpt_tools.fs import web
from ckpt_tools.fs.limits import Limits, limits


class Liar(BaseHTTPRequestHandler):
    """Serves the files that it is given, in the manner that it is told."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    manner: str
    elsewhere: str
    asked: list[tuple[str, str | None]]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET(head=True)

    def do_GET(self, *, head: bool = False) -> None:
        type(self).asked.append((self.path, self.headers.get("Authorization")))
        content = self.files.get(self.path)
        if self.manner == "page" and self.path.endswith("/"):
            self.start(200, {"Content-Type": "text/html", "Transfer-Encoding": "chunked"})
            if not head:
                self.for_ever(b"<a href='m.index'>m</a>" + b" " * 65_000)
            return
        if self.manner.startswith("redirect"):
            target = {"redirect-file": "file:///etc/passwd", "redirect-loop": self.path}.get(
                self.manner, f"{self.elsewhere}{self.path}"
            )
            self.start(302, {"Location": target, "Content-Length": "0"})
            return
        if content is None:
            self.start(404, {"Content-Length": "0"})
            return
        first, last = 0, len(content) - 1
        if "Range" in self.headers:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}", "ETag": '"1"'}
        if self.manner == "endless" and not head:
            self.start(206, headers | {"Transfer-Encoding": "chunked"})
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.for_ever(bytes(65_536))
            return
        self.start(206 if "Range" in self.headers else 200, headers | {"Content-Length": str(len(part))})
        if head:
            return
        if self.manner == "drip":
            for byte in part[:400]:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)
        self.wfile.write(part)

    def start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def for_ever(self, piece: bytes) -> None:
        try:
            while True:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        except OSError:
            self.close_connection = True


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[tuple[type[Liar], str]]:
    """A handler whose manner may be set, and the URL of a checkpoint that it serves."""
    prefix = build_bundle(tmp_path / "m", {"v": np.arange(50_000, dtype=np.float32)})
    files = {f"/m{part}": Path(f"{prefix}{part}").read_bytes() for part in (".index", ".data-00000-of-00001")}
    handler = type("OneLiar", (Liar,), {"files": files, "manner": "", "elsewhere": "", "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    limits.seconds, limits.redirects = Limits.seconds, Limits.redirects
    fsspec.get_filesystem_class("http").clear_instance_cache()


def test_a_body_without_end_stops_at_the_end_of_the_range(liar: tuple[type[Liar], str]) -> None:
    handler, url = liar
    handler.manner = "endless"
    found = verify(f"{url}/m")
    assert found.whole
    assert found.bytes_checked == 200_000


def test_a_list_without_end_is_refused(liar: tuple[type[Liar], str], monkeypatch: pytest.MonkeyPatch) -> None:
    handler, url = liar
    handler.manner = "page"
    monkeypatch.setattr(web, "MAX_PAGE", 1 << 20)
    with pytest.raises(UnsafeError, match="over the limit"):
        inspect(f"{url}/")


def test_there_is_a_deadline(liar: tuple[type[Liar], str], capsys: pytest.CaptureFixture[str]) -> None:
    handler, url = liar
    handler.manner = "drip"
    begin = time.monotonic()
    assert run(["verify", f"{url}/m", "--timeout", "1"]) == StorageError.exit_code
    assert time.monotonic() - begin < 10
    said = capsys.readouterr().err
    assert "no answer in time" in said
    assert "--timeout" in said
    handler.manner = ""
    assert run(["verify", f"{url}/m"]) == 0
    assert limits.seconds == Limits.seconds
    assert run(["verify", f"{url}/m", "--timeout", "0"]) == 2


def test_redirects_elsewhere_are_asked_for(liar: tuple[type[Liar], str], capsys: pytest.CaptureFixture[str]) -> None:
    handler, url = liar
    handler.manner = "redirect"
    port = url.rpartition(":")[2]
    handler.elsewhere = f"http://localhost:{port}/other"
    secret = url.replace("://", "://user:hunter2@")
    assert run(["inspect", f"{secret}/m"]) == UnsafeError.exit_code
    said = "".join(capsys.readouterr())
    assert f"http://localhost:{port}" in said
    assert "--allow-redirects" in said
    assert not any(path.startswith("/other") for path, _ in handler.asked)
    # Once it is allowed, it is followed, and the password stays here.
    run(["inspect", f"{secret}/m", "--allow-redirects"])
    capsys.readouterr()
    assert all(password is None for path, password in handler.asked if path.startswith("/other"))
    assert any(path.startswith("/other") for path, _ in handler.asked)
    for manner in ("redirect-file", "redirect-loop"):
        handler.manner = manner
        with pytest.raises(CkptError, match=r"never followed|round and round"):
            inspect(f"{url}/m")


def test_where_a_redirect_may_lead() -> None:
    for source, target in [
        ("http://h/a", "http://h/b"),
        ("http://h/a", "http://h:80/b"),
        ("http://h/a", "https://h/a"),
        ("https://h/a", "https://h/b"),
    ]:
        web.refuse_redirect(source, target)
    for source, target in [
        ("https://h/a", "http://h/a"),
        ("http://h/a", "ftp://h/a"),
        ("http://h/a", "http://h.evil/a"),
        ("http://h/a", "http://h@evil/a"),
        ("http://h:8080/a", "http://h:22/a"),
        ("http://h/a", "http://h:99999999/a"),
    ]:
        with pytest.raises(UnsafeError):
            web.refuse_redirect(source, target)
