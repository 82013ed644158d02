"""Files behind a URL, through fsspec: what is there, the names in a directory, bounded reads.

Only imported for a path that is a URL. A file is read in ranges, all of one version of it: where the store can be
told which version is meant (S3, a web server with strong ETags) it is told, elsewhere the file is looked at again
behind each range. Credentials come from where the store's own tools take them; nothing here keeps any.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import unquote

from ckpt_tools.errors import (
    BusyError,
    CkptError,
    CorruptError,
    NotFoundError,
    StorageError,
    UnsafeError,
    UnsupportedError,
    UsageError,
)
from ckpt_tools.fs.limits import limits
from ckpt_tools.fs.local import Fingerprint, Status

INSTALL = "pip install 'ckpt-tools[remote]'"
# What is read around a small piece (headers, trees of HDF5), and how much of it is kept.
BLOCK = 1 << 16
_BLOCKS = 256
# What is read ahead when one piece follows the other.
AHEAD = 8 << 20
# The largest file that is taken as a whole from a web server that gives no ranges.
MAX_WHOLE = 64 << 20
_TRIES = 3
_IMPOSSIBLE = 1 << 60

_WEB = ("http", "https")
_CREDENTIALS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket FSSPEC_S3_ANON=true",
    "gs": "run: gcloud auth application-default login; or for a public bucket set FSSPEC_GS_TOKEN=anon",
}
_AGAIN = "run the same command again"
_RETURN = TypeVar("_RETURN")


class RemoteFile:
    """A file behind a URL opened for bounded reads at any offset, all of the version that was there when opened.

    Raises NotFoundError when there is none, UnsafeError for a directory, UnsupportedError when the store cannot give
    a part of it, StorageError for what the network or the store refuses.
    """

    def __init__(self, url: str) -> None:
        from fsspec.caching import BlockCache, ReadAheadCache

        self.path = url
        self._store, self._place = _store(url)
        self._whole: bytes | None = None
        self._file: Any = None
        with _translated(url, "open"):
            self._open()
        self._blocks = BlockCache(BLOCK, self._fetch, self.size, _BLOCKS)
        self._ahead = ReadAheadCache(AHEAD, self._fetch, self.size)
        self._end = -1
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return self.fingerprint.size

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``offset``.

        Raises CorruptError when the file does not have them, BusyError when it was replaced since it was opened.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CorruptError(
                f"needs bytes {offset} to {offset + size}, but the file has {self.size}: it was cut off",
                path=self.path,
                offset=offset,
            )
        if not size:
            return b""
        # A reader may read ahead in a thread of its own.
        with self._lock:
            follows, self._end = offset == self._end, offset + size
            if follows:
                return bytes(self._ahead._fetch(offset, offset + size))
            if size < BLOCK:
                return bytes(self._blocks._fetch(offset, offset + size))
            return self._fetch(offset, offset + size)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> None:
        self._pinned = False
        self._headers: dict[str, str] = {}
        if _scheme(self.path) in _WEB:
            info = self._store.info(self._place)
            etag = info.get("ETag", "")
            if info.get("size") is None or not 0 <= info["size"] < _IMPOSSIBLE:
                raise UnsupportedError("the server does not say how large it is", path=self.path, hint=_copy_hint())
            self._pinned = etag.startswith('"')
            self._headers = {"If-Match": etag} if self._pinned else {}
        elif _scheme(self.path) == "s3":
            self._file = self._store.open(self._place, "rb", cache_type="none")
            info, self._pinned = self._file.details, True
        else:
            info = self._store.info(self._place)
        status = _status(info, self.path)
        if status.directory:
            raise UnsafeError("expected a file, found a directory", path=self.path)
        self.fingerprint = status.fingerprint

    def _fetch(self, start: int, end: int) -> bytes:
        """The bytes of one range, from the store."""
        end = min(end, self.size)
        if self._whole is None:
            with _translated(self.path, f"read {end - start} bytes at {start}"):
                data = _tried(lambda: self._range(start, end))
        else:
            data = self._whole[start:end]
        changed = None if self._pinned else look(self.path)
        if len(data) != end - start or not (self._pinned or (changed and changed.fingerprint == self.fingerprint)):
            raise BusyError("was replaced while it was read", path=self.path, offset=start, hint=_AGAIN)
        return data

    def _range(self, start: int, end: int) -> bytes:
        if _scheme(self.path) in _WEB:
            return self._web_range(start, end)
        if self._file is None:
            return bytes(self._store.cat_file(self._place, start=start, end=end))
        self._file.seek(start)
        return bytes(self._file.read(end - start))

    def _web_range(self, start: int, end: int) -> bytes:
        from fsspec.asyn import sync

        from ckpt_tools.fs import web

        loop = self._store.loop
        data = sync(loop, web.fetch_range, self._store, self._place, start, end, self._headers)
        if data is not None:
            return bytes(data)
        # It answered with everything instead of a range.
        if self.size > MAX_WHOLE:
            raise UnsupportedError(
                "this web server gives whole files only, no ranges of them", path=self.path, hint=_copy_hint()
            )
        self._whole = bytes(sync(loop, web.fetch_beginning, self._store, self._place, self.size, self._headers))
        return self._whole[start:end]


def read_many(files: Sequence[tuple[str, int]], at_once: int) -> Iterator[bytes | CkptError]:
    """The bytes of many files of one store, each with the size that is expected, ``at_once`` of them in flight.

    A file of another size is a BusyError: it was replaced since it was listed. Raises what reaching the store raises.
    """
    for start in range(0, len(files), 16 * at_once):
        part = files[start : start + 16 * at_once]
        store, _ = _store(part[0][0])
        places = [url.partition("://")[2] if _scheme(url) not in _WEB else url for url, _ in part]
        # One byte more than is listed: a file that has grown must not be taken for the one that was listed.
        ends = [size + 1 for _, size in part]
        found = store.cat_ranges(places, [0] * len(part), ends, batch_size=at_once, on_error="return")
        for (url, size), content in zip(part, found, strict=True):
            if isinstance(content, Exception):
                yield _explained(url, "read", content)
            elif len(content) != size:
                yield BusyError(f"has not the {size} bytes that are listed", path=url)
            else:
                yield bytes(content)


def look(url: str) -> Status | None:
    """What is there now, a file or a directory; None when nothing is."""
    store, place = _store(url)
    try:
        with _translated(url, "look at"):
            store.invalidate_cache()
            return _status(_tried(lambda: store.info(place)), url)
    except NotFoundError:
        return None


def scan(url: str) -> dict[str, Status]:
    """The names in a directory, sorted, and what they are. A web server must list its files as links on a page.

    Raises NotFoundError where there is no such directory, StorageError where the store does not say.
    """
    store, place = _store(url)
    web = _scheme(url) in _WEB
    if web:
        found = look(url if url.endswith("/") else f"{url}/")
        if found is None or not found.directory:
            raise NotFoundError("cannot list: the web server shows no directory here", path=url, hint=_WEB_HINT)
        place = place.rstrip("/") + "/"
    with _translated(url, "list"):
        store.invalidate_cache()
        listed = _tried(lambda: _links(store, place) if web else store.ls(place, detail=True))
    names: dict[str, Status] = {}
    for info in listed:
        parent, _, name = info["name"].rstrip("/").rpartition("/")
        own = parent.strip("/") == place.strip("/")
        if own and name not in ("", os.curdir, os.pardir) and not (web and re.search("[?#]", name)):
            names[name] = _status(info, url)
    return dict(sorted(names.items()))


def _links(store: Any, place: str) -> list[dict[str, Any]]:
    """What a page links to, as fsspec describes what it lists."""
    from fsspec.asyn import sync

    from ckpt_tools.fs import web

    links = sync(store.loop, web.fetch_links, store, place)
    return [{"name": link, "type": "directory" if link.endswith("/") else "file"} for link in links]


_WEB_HINT = "pass the checkpoint's own URL, without .index: https://HOST/DIRECTORY/model.ckpt"


def _copy_hint() -> str:
    return "download the checkpoint, then pass the local path"


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _store(url: str) -> tuple[Any, str]:
    """The file system of a URL, and its name of the place."""
    scheme = _scheme(url)
    if scheme in ("file", "local"):
        raise UsageError("this is a local file", path=url, hint=f"pass its path: {url.partition('://')[2]}")
    try:
        import fsspec

        if "::" in url:
            raise UnsupportedError("URLs in URLs are not followed", path=url, hint=_copy_hint())
        # Libraries and servers undo the escapes: what looks like a name may lead out of its directory.
        if scheme in _WEB and os.pardir in re.split(r"[/\\]", unquote(url.partition("?")[0])):
            raise UnsafeError("leads out of its directory", path=url)
        store, place = fsspec.core.url_to_fs(url, **_options(scheme))
    except ImportError as error:
        message = f"reading {scheme}:// needs packages that are not installed ({error})"
        raise UnsupportedError(message, path=url, hint=INSTALL) from error
    except ValueError as error:
        raise UnsupportedError(f"no store is known for {scheme}://", path=url, hint=_copy_hint()) from error
    except CkptError:
        raise
    except Exception as error:
        raise _explained(url, "reach the store", error) from error
    return store, place


def _options(scheme: str) -> dict[str, Any]:
    """How long each kind of store may take."""
    if scheme in _WEB:
        from ckpt_tools.fs import web

        return web.options()
    if scheme == "s3":
        return {"config_kwargs": {"connect_timeout": limits.seconds, "read_timeout": limits.seconds}}
    if scheme in ("gs", "gcs"):
        return {"requests_timeout": limits.seconds}
    return {}


def _status(info: Mapping[str, Any], url: str) -> Status:
    """fsspec's description of a place, which each store gives in words of its own."""
    directory = info.get("type") == "directory"
    if _scheme(url) in _WEB and info.get("mimetype") == "text/html":
        directory = str(info.get("url", "")).partition("?")[0].endswith("/")
    versions = (info.get(name) for name in ("ETag", "etag", "generation", "md5Hash", "checksum", "Content-MD5"))
    times = (info.get(name) for name in ("LastModified", "Last-Modified", "last_modified", "updated", "mtime"))
    time = next(filter(None, times), None) or info.get("created")
    return Status(
        directory,
        Fingerprint(0, 0, int(info.get("size") or 0), _nanoseconds(time), str(next(filter(None, versions), ""))),
    )


def _nanoseconds(time: Any) -> int:
    """A time as a number, a date or its text; 0 when it is none."""
    if isinstance(time, str):
        with contextlib.suppress(ValueError):
            time = datetime.fromisoformat(time.replace("Z", "+00:00")) if time[:1].isdigit() else _http_date(time)
    if isinstance(time, datetime):
        time = time.timestamp()
    return int(time * 1e9) if isinstance(time, (int, float)) else 0


def _http_date(text: str) -> datetime:
    return parsedate_to_datetime(text)


# --------------------------------------------------------------------------------------------- errors


def _tried(request: Callable[[], _RETURN]) -> _RETURN:
    """The answer to a request, which is made again when the connection broke."""
    for left in reversed(range(_TRIES)):
        try:
            return request()
        except Exception as error:
            if not left or not _is_transient(error):
                raise
    raise AssertionError


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_transient(error: BaseException) -> bool:
    names = {type(each).__name__ for each in _chain(error)}
    return bool(names & {"ClientPayloadError", "ServerDisconnectedError", "ClientOSError", "IncompleteReadError"})


def _http_status(error: BaseException) -> int | None:
    """The status of the answer that an error of any of the libraries stands for."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            status = getattr(each, "status", None)
            if status is None:  # aiohttp's errors have both, and the second one is deprecated
                status = getattr(each, "code", None)
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return None


@contextlib.contextmanager
def _translated(url: str, action: str) -> Iterator[None]:
    """The one door for the errors of stores and networks: each library has a family of its own."""
    try:
        yield
    except CkptError:
        raise
    except Exception as error:
        raise _explained(url, action, error) from error


def _explained(url: str, action: str, error: Exception) -> CkptError:
    status = _http_status(error)
    chain = list(_chain(error))
    refused = next((each for each in chain if isinstance(each, CkptError)), None)
    if refused is not None:
        return refused
    names = {type(each).__name__ for each in chain}
    credentials = _CREDENTIALS.get(_scheme(url), "give the credentials that the store asks for")
    if status in (404, 410) or (status is None and len(chain) == 1 and isinstance(error, FileNotFoundError)):
        return NotFoundError(f"cannot {action}: nothing is there", path=url)
    if "TooManyRedirects" in names:
        return StorageError(f"cannot {action}: the server redirects round and round", path=url, hint=_copy_hint())
    if status == 412 or "FileExpired" in names:
        return BusyError("was replaced while it was read", path=url, hint=_AGAIN)
    if any("Credential" in name or name in ("ProfileNotFound", "RefreshError") for name in names):
        return StorageError(f"cannot {action}: no credentials for {_scheme(url)}://", path=url, hint=credentials)
    if status in (401, 403) or any(isinstance(each, PermissionError) for each in chain):
        return StorageError(f"cannot {action}: access denied{_numbered(status)}", path=url, hint=credentials)
    if isinstance(error, FileNotFoundError) and status is None and _is_missing(chain):
        return NotFoundError(f"cannot {action}: nothing is there", path=url)
    if any(isinstance(each, TimeoutError) or "Timeout" in type(each).__name__ for each in chain):
        return StorageError(
            f"cannot {action}: no answer in time",
            path=url,
            hint=f"check the network, then {_AGAIN}; --timeout SECONDS gives it longer",
        )
    cause = chain[1] if isinstance(error, FileNotFoundError) and len(chain) > 1 else error
    text = str(cause) or type(cause).__name__
    hint = f"check the address and the network, then {_AGAIN}"
    return StorageError(f"cannot {action}: {text}{_numbered(status)}", path=url, hint=hint)


def _is_missing(chain: list[BaseException]) -> bool:
    """Whether "no such file" is meant as such: fsspec says it of every failure of a web server, too."""
    return all(isinstance(each, (FileNotFoundError, KeyError)) or hasattr(each, "response") for each in chain)


def _numbered(status: int | None) -> str:
    return f" (HTTP {status})" if status else ""
