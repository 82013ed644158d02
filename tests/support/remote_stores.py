"""Stores that tests start themselves: S3 (moto's server), a web server that counts what it sends, fsspec's memory."""

from __future__ import annotations

import email.utils
import html
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import fsspec

_PIECE = 1 << 16


@dataclass
class Manners:
    """How the web server behaves, and what it was asked: method, path, first byte, bytes sent."""

    ranges: bool = True
    etags: bool = True
    listing: bool = True
    status: dict[str, int] = field(default_factory=dict)
    cut: int = 0
    asked: list[tuple[str, str, int, int]] = field(default_factory=list)
    before: Callable[[str], None] = lambda _: None

    def sent(self, ending: str = "") -> int:
        return sum(size for _, path, _, size in self.asked if path.endswith(ending))


@contextmanager
def web_server(root: Path) -> Iterator[tuple[str, Manners]]:
    """A server of a directory with ranges, ETags and lists of links; its URL and its manners, which may be changed."""
    manners = Manners()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            place = root / path.lstrip("/")
            manners.before(path)
            name = next((name for name in manners.status if path.endswith(name)), None)
            if name is not None:
                self._end(HTTPStatus(manners.status[name]))
            elif place.is_dir():
                self._directory(path, place)
            elif place.is_file():
                self._file(path, place)
            else:
                self._end(HTTPStatus.NOT_FOUND)

        def _end(self, status: HTTPStatus, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
            manners.asked.append((self.command, self.path, 0, len(body) if self.command == "GET" else 0))

        def _directory(self, path: str, place: Path) -> None:
            if not path.endswith("/"):
                self._end(HTTPStatus.MOVED_PERMANENTLY, {"Location": f"{self.path}/"})
            elif not manners.listing:
                self._end(HTTPStatus.FORBIDDEN)
            else:
                names = sorted(f"{each.name}/" if each.is_dir() else each.name for each in place.iterdir())
                links = "".join(f'<a href="{html.escape(name)}">{html.escape(name)}</a>' for name in ["../", *names])
                self._end(HTTPStatus.OK, {"Content-Type": "text/html"}, f"<html>{links}</html>".encode())

        def _file(self, path: str, place: Path) -> None:
            with place.open("rb") as file:
                status = os.fstat(file.fileno())
                etag = f'"{status.st_ino}-{status.st_mtime_ns}"'
                if manners.etags and self.headers.get("If-Match", etag) != etag:
                    self._end(HTTPStatus.PRECONDITION_FAILED)
                    return
                first, end, code = 0, status.st_size, HTTPStatus.OK
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if manners.ranges and asked:
                    first, end, code = int(asked[1]), min(int(asked[2]) + 1, end), HTTPStatus.PARTIAL_CONTENT
                self.send_response(code)
                self.send_header("Content-Length", str(end - first))
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Last-Modified", email.utils.formatdate(status.st_mtime, usegmt=True))
                if code == HTTPStatus.PARTIAL_CONTENT:
                    self.send_header("Content-Range", f"bytes {first}-{end - 1}/{status.st_size}")
                if manners.etags:
                    self.send_header("ETag", etag)
                self.end_headers()
                sent = 0
                if self.command == "GET":
                    file.seek(first)
                    stop = end - manners.cut
                    while first + sent < stop:
                        sent += self.wfile.write(file.read(min(_PIECE, stop - first - sent)))
                    if manners.cut:
                        self.close_connection = True
                manners.asked.append((self.command, path, first, sent))

        def log_message(self, *arguments: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True  # the client has seen enough

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", manners
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Store:
    """A place that directories can be put into. ``at`` is the URL of its top."""

    kind: str
    at: str
    put: Callable[[Path, str], None]

    def url(self, path: str) -> str:
        return f"{self.at}/{path}"


def uploading(url: str) -> Callable[[Path, str], None]:
    """Put a directory below a URL of a store that can be written to."""

    def put(source: Path, name: str) -> None:
        fs, place = fsspec.core.url_to_fs(url)
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.is_file():
                fs.pipe_file(f"{place}/{name}/{path.relative_to(source)}".removesuffix("/."), path.read_bytes())

    return put


def copying(root: Path) -> Callable[[Path, str], None]:
    def put(source: Path, name: str) -> None:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)

    return put
