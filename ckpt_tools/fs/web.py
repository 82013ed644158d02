"""Requests to a web server that may lie: no more is read than was asked for, in a time of ours, from the host named.

A session of aiohttp as fsspec uses it, and the two requests that fsspec would leave without bounds: the bytes of a
range, and the page that lists a directory.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from ckpt_tools.errors import UnsafeError
from ckpt_tools.fs.limits import limits

# The largest page that is read as the list of a directory.
MAX_PAGE = 8 << 20
_PIECE = 1 << 20
_LINK = re.compile(r"""<a\s[^>]*href=(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.IGNORECASE)


def options() -> dict[str, Any]:
    """What fsspec's file system for the web is made with; another one for other limits."""
    return {"get_client": client, "client_kwargs": {"seconds": limits.seconds}}


async def client(loop: asyncio.AbstractEventLoop | None = None, *, seconds: float, **more: Any) -> Any:
    """A session that leaves bodies packed (they may be bombs) and asks before it follows a redirect."""
    import aiohttp

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_ask_for_redirect)
    return aiohttp.ClientSession(
        loop=loop,
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=seconds),
        trace_configs=[trace],
        **more,
    )


async def _ask_for_redirect(session: Any, context: Any, asked: Any) -> None:  # noqa: ARG001 (aiohttp's signature)
    location = asked.response.headers.get("Location") or asked.response.headers.get("URI") or ""
    refuse_redirect(str(asked.url), urljoin(str(asked.url), location))


def refuse_redirect(source: str, target: str) -> None:
    """Raise UnsafeError for a redirect that leads elsewhere and was not allowed."""
    before, after = urlsplit(source), urlsplit(target)
    if after.scheme not in ("http", "https") or (before.scheme, after.scheme) == ("https", "http"):
        raise UnsafeError(
            f"the server redirects to {after.scheme or 'nowhere'}://, which is never followed", path=source
        )
    same = (before.hostname, _port(before)) == (after.hostname, _port(after))
    upgraded = before.hostname == after.hostname and after.scheme == "https"
    if not (same or upgraded or limits.redirects):
        place = f"{after.scheme}://{after.netloc.rpartition('@')[2]}"
        raise UnsafeError(
            f"the server redirects to another one, {place}",
            path=source,
            hint="if you trust it, run the same command again with --allow-redirects",
        )


def _port(parts: Any) -> int | None:
    try:
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


async def fetch_range(store: Any, url: str, start: int, end: int, headers: Mapping[str, str]) -> bytes | None:
    """The bytes of a range, at most; None when the server answers with something else than a range."""
    import aiohttp

    session = await store.set_session()
    timeout = aiohttp.ClientTimeout(total=limits.deadline(end - start))
    asked = {**headers, "Range": f"bytes={start}-{end - 1}"}
    async with session.get(store.encode_url(url), headers=asked, timeout=timeout) as response:
        if response.status == 416:
            return b""
        response.raise_for_status()
        if response.status != 206 or _starts_at(response.headers.get("Content-Range")) not in (None, start):
            return None
        return await _first(response, end - start)


async def fetch_beginning(store: Any, url: str, size: int, headers: Mapping[str, str]) -> bytes:
    """So many bytes from the beginning, at most, of a server that gives no ranges."""
    import aiohttp

    session = await store.set_session()
    timeout = aiohttp.ClientTimeout(total=limits.deadline(size))
    async with session.get(store.encode_url(url), headers=dict(headers), timeout=timeout) as response:
        response.raise_for_status()
        return await _first(response, size)


async def fetch_links(store: Any, url: str) -> list[str]:
    """The places that a page links to, absolute, in order. Raises UnsafeError for a page that does not end."""
    page = await fetch_beginning(store, url, MAX_PAGE + 1, {})
    if len(page) > MAX_PAGE:
        raise UnsafeError(f"the list of this directory is over the limit of {MAX_PAGE} bytes", path=url)
    found = (first or second or third for first, second, third in _LINK.findall(page.decode("utf-8", "replace")))
    return list(dict.fromkeys(urljoin(url, link) for link in found))


def _starts_at(header: str | None) -> int | None:
    match = re.match(r"bytes (\d{1,19})-", header or "")
    return int(match[1]) if match else None


async def _first(response: Any, size: int) -> bytes:
    """The beginning of a body; whatever follows is not read, and the connection is given up."""
    pieces = []
    left = size
    while left > 0:
        piece = await response.content.read(min(left, _PIECE))
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    if not response.content.at_eof():
        response.close()
    return b"".join(pieces)
