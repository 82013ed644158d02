"""A small server that speaks as much S3 as reading objects by range takes, so that a measurement is of the reader.

    python benchmarks/s3_server.py DIRECTORY [DELAY_MS]

It prints its port. Every object of bucket B and key K is the file DIRECTORY/B/K, read from the file system for each
request. DELAY_MS is what a real store takes before it answers; requests do not wait for one another.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import sys
from urllib.parse import unquote

_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d+)", re.IGNORECASE)


class Answering(asyncio.Protocol):
    def __init__(self, root: str, delay: float) -> None:
        self.root, self.delay = root, delay
        self.waiting = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            answer = self.answer(head)
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.send, answer)
            else:
                self.send(answer)

    def send(self, answer: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer)

    def answer(self, head: bytes) -> bytes:
        method, target, _ = head.partition(b"\r\n")[0].split(b" ")
        path = os.path.join(self.root, unquote(target.partition(b"?")[0].decode()).lstrip("/"))
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            body = b"<Error><Code>NoSuchKey</Code></Error>"
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        size, status, extra = len(content), b"200 OK", b""
        asked = _RANGE.search(head)
        if asked:
            first, last = int(asked[1]), min(int(asked[2]), size - 1)
            content, status = content[first : last + 1], b"206 Partial Content"
            extra = b"Content-Range: bytes %d-%d/%d\r\n" % (first, last, size)
        etag = hashlib.md5(content).hexdigest().encode()
        headers = b'ETag: "%b"\r\nLast-Modified: Fri, 02 Jan 2026 03:04:05 GMT\r\nAccept-Ranges: bytes\r\n' % etag
        body = b"" if method == b"HEAD" else content
        return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b%b\r\n%b" % (status, len(content), headers, extra, body)


async def serve(root: str, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(root, delay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(os.path.abspath(sys.argv[1]), float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.0))
