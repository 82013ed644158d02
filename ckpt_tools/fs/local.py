"""Bounded reads of files of this machine.

Reading never follows a device or a FIFO, and never returns fewer bytes than asked for: a short file is noticed here,
with its path and offset.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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
from ckpt_tools.fs import witness

PathLike = str | os.PathLike[str]

_PIECE = 1 << 22


# What to do about what the system refuses.
_NEXT = {
    (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
    ): "check the permissions, or work on a copy where you may write",
    (errno.ENOSPC, errno.EDQUOT): "free some space and run the same command again",
    (errno.EMFILE, errno.ENFILE): "raise the limit of open files (ulimit -n), then run the same command again",
    (errno.EFBIG,): "raise the limit of the size of files (ulimit -f), then run the same command again",
    (errno.EIO, errno.ESTALE, errno.ETIMEDOUT): "run the same command again when the disk, or the server, answers",
    (errno.ENAMETOOLONG, errno.ELOOP): "give another path",
}


@contextlib.contextmanager
def translated(path: PathLike, action: str) -> Iterator[None]:
    """The one door for the operating system's errors; nothing behind a URL gets through it.

    Raises:
        NotFoundError: nothing has this name, or can have it (a NUL byte in it, or what is no text).
        StorageError: any other refusal of the system, with what to do about it.
        UnsupportedError: the path is a URL.
    """
    if "://" in os.fspath(path):
        raise UnsupportedError(
            f"cannot {action} at a URL: stores have neither links nor renames, by which a change is made as a whole",
            path=path,
            hint="copy the directory down, change it there, copy it back: data files first, the .index last",
        )
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"cannot {action}: no such file or directory", path=path) from error
    except OSError as error:
        raise refusal(error, path, action) from error
    except ValueError as error:
        if is_possible(os.fspath(path)):
            raise
        raise NotFoundError(f"cannot {action}: no file can have this name", path=path) from error


def is_possible(name: str) -> bool:
    """Whether the system can be asked for a name, or be handed it as a word of a command."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def require_possible(command: Iterable[str]) -> None:
    """Raises UsageError for a command with a word that no system passes on."""
    for word in command:
        if not is_possible(word):
            raise UsageError(f"the command's word {word!r} cannot be passed on: a NUL byte, or what is no text")


def refusal(error: OSError, path: PathLike | None, action: str) -> StorageError:
    """What the system would not do, and what to do about it."""
    number = error.errno
    hint = next((todo for numbers, todo in _NEXT.items() if number in numbers), "mend that, then run it again")
    return StorageError(f"cannot {action}: {error.strerror or error}", path=path, hint=hint)


def is_no_answer(error: CkptError) -> bool:
    """Whether the system could not say what is there (EIO, ESTALE, too many files): neither "not there" nor "not
    allowed", which stay as they are. Who decides something must not take it for either."""
    answers = (FileNotFoundError, NotADirectoryError, PermissionError)
    cause = error.__cause__
    return isinstance(error, StorageError) and isinstance(cause, OSError) and not isinstance(cause, answers)


try:
    import fcntl

    _HAS_LEASES = hasattr(fcntl, "F_SETLEASE")
except ImportError:  # on Windows
    _HAS_LEASES = False

# How a file is opened for reading. Windows has only some of these flags, and O_BINARY instead.
READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_seeking = threading.Lock()


def _read_at(descriptor: int, size: int, offset: int) -> bytes:
    """``os.pread``; where there is none, as on Windows, one thread at a time seeks and reads."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    with _seeking:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)


# --------------------------------------------------------------------------------------- names that are held


class Folder:
    """A directory that is held open. ``folder / NAME`` is a name in it, which every function here takes as a path.

    Whatever becomes of the way to it meanwhile, such a name leads into this directory and nowhere else: no link is
    followed in its place. What is made in it belongs to whom the directory belongs.
    """

    def __init__(self, path: PathLike) -> None:
        """Raises UnsafeError for a link in the place of a held name; one in a path of the user's is followed."""
        self.path = os.fspath(path)
        where, at = _at(path)
        flags = READ | _DIRECTORY
        with translated(path, "open the directory"):
            try:
                self.descriptor = os.open(where, flags | (_NO_LINK if at else 0), **at)
            except OSError as error:
                if at and error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise _not_followed(path) from error
                raise

    def __truediv__(self, name: str) -> Held:
        return Held(self, name)

    def names(self) -> list[str]:
        """The names in it, sorted."""
        with translated(self.path, "list"):
            return sorted(os.listdir(self.descriptor))

    def inside(self, name: str) -> Folder | None:
        """A directory in it; None without one. Raises UnsafeError for anything else of that name, a link too."""
        return Folder(self / name) if is_there(self / name) else None

    def make(self, name: str) -> Folder:
        """A directory in it, made when it is not there yet."""
        with translated(self / name, "create the directory"), contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=self.descriptor)
        made = Folder(self / name)
        try:
            with translated(made.path, "give to its owner"):
                _keep_owner(made.descriptor, self)
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.descriptor)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass(frozen=True)
class Held(os.PathLike[str]):
    """A name in a directory that is held open; as a path only for messages."""

    folder: Folder
    name: str

    def __post_init__(self) -> None:
        if not is_plain(self.name):
            raise UnsafeError(f"{self.name!r} is not a plain file name", path=self.folder.path)

    def __fspath__(self) -> str:
        return os.path.join(self.folder.path, self.name)


def directory_of(path: PathLike) -> str:
    """The directory that a path lies in; that of a bare name is the current one."""
    return os.path.dirname(os.fspath(path)) or os.curdir


def is_plain(name: str) -> bool:
    """Whether a name is one of a directory's own: no path, not empty, neither ``.`` nor ``..``."""
    return name == os.path.basename(name) and name not in ("", os.curdir, os.pardir) and "\0" not in name


def _at(path: PathLike, key: str = "dir_fd") -> tuple[PathLike, dict[str, int]]:
    """What the system is asked for: a path, or a name in a directory that is held."""
    return (path.name, {key: path.folder.descriptor}) if isinstance(path, Held) else (path, {})


def _not_followed(path: PathLike) -> UnsafeError:
    message = "is a link, or something else that does not belong here: it is not followed"
    return UnsafeError(message, path=path, hint=_look_at(path))


def _look_at(path: PathLike) -> str:
    return f"see what it is, and move it somewhere else: ls -ld {shlex.quote(os.fspath(path))}"


@dataclass(frozen=True)
class Fingerprint:
    """What tells that a file is still the one that was looked at. ``version`` is a store's name of it (an ETag)."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    version: str = ""

    @staticmethod
    def of(status: os.stat_result) -> Fingerprint:
        return Fingerprint(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Status:
    """What a name stands for: a directory or something else, and its fingerprint."""

    directory: bool
    fingerprint: Fingerprint

    @staticmethod
    def of(status: os.stat_result) -> Status:
        return Status(stat.S_ISDIR(status.st_mode), Fingerprint.of(status))


class RandomAccessFile:
    """A regular file opened for bounded reads at any offset; its size in bytes is taken once, when opened.

    Raises:
        NotFoundError: nothing has this name.
        UnsafeError: it is a directory, a device, a pipe or a socket.
        StorageError: the system refuses to open it.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = os.fspath(path)
        try:
            with translated(path, "open"):
                where, at = _at(path)
                # O_NONBLOCK: opening a FIFO must not wait for a writer.
                flags = READ | _AT_ONCE | (_NO_LINK if at else 0)
                try:
                    self._descriptor = os.open(where, flags, **at)
                except OSError as error:
                    if at and error.errno == errno.ELOOP:
                        raise _not_followed(path) from error
                    raise
                status = os.fstat(self._descriptor)
        except NotFoundError:
            witness.saw(_fingerprint_now, self.path, None)
            raise
        if not stat.S_ISREG(status.st_mode):
            self.close()
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a device, a pipe or a socket"
            raise UnsafeError(f"expected a file, found {kind}", path=path)
        self.status = status
        self.fingerprint = Fingerprint.of(status)
        witness.saw(_fingerprint_now, self.path, self.fingerprint)

    @property
    def size(self) -> int:
        return self.fingerprint.size

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``offset``.

        Raises CorruptError when the file did not have them when it was opened, BusyError when it has not any more.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CorruptError(
                f"needs bytes {offset} to {offset + size}, but the file has {self.size}: it was cut off",
                path=self.path,
                offset=offset,
            )
        parts = []
        while size:
            with translated(self.path, f"read {size} bytes at {offset}"):
                part = _read_at(self._descriptor, size, offset)
            if not part:
                raise BusyError("the file became shorter while it was read", path=self.path, offset=offset)
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def copy_to(self, descriptor: int) -> None:
        """Write the whole file to another one; where the file system can, the kernel copies, or only shares blocks."""
        done = 0
        while done < self.size:
            try:
                count = os.copy_file_range(self._descriptor, descriptor, self.size - done, done)
            except (AttributeError, OSError):  # not on this system, or not between these two
                break
            if not count:
                break
            done += count
        while done < self.size:
            part = memoryview(self.read(done, min(_PIECE, self.size - done)))
            done += len(part)
            while part:
                part = part[os.write(descriptor, part) :]

    def close(self) -> None:
        if self._descriptor >= 0:
            # Forgotten first: interrupted in between, it is not closed twice, when another file may have the number.
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(OSError):  # what was read is read
                os.close(descriptor)

    def __enter__(self) -> RandomAccessFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A reader that failed half-way must not leave descriptors behind.
        if hasattr(self, "_descriptor"):
            self.close()


def read_file(path: PathLike, *, limit: int) -> bytes:
    """The whole file. Raises UnsafeError when it is larger than ``limit`` bytes, and what opening it raises."""
    with RandomAccessFile(path) as file:
        if file.size > limit:
            raise UnsafeError(f"{file.size} bytes are more than the limit of {limit}", path=path)
        return file.read(0, file.size)


def fingerprint(path: PathLike) -> Fingerprint:
    with translated(path, "look at"):
        found = Fingerprint.of(os.stat(path))
    witness.saw(_fingerprint_now, os.fspath(path), found)
    return found


def look(path: PathLike, *, follow: bool = False) -> os.stat_result | None:
    """What has a name, a link itself unless ``follow``; None when nothing has it, and only then.

    "Not there" is ENOENT or ENOTDIR. Anything else that the system answers (ESTALE and EIO of a network file system,
    EACCES) is no answer, and raises StorageError: what `os.path.exists` takes for "absent" may be the only copy.
    """
    with translated(path, "look at"):
        try:
            where, at = _at(path)
            return os.stat(where, follow_symlinks=follow and not at, **at)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            if is_possible(os.fspath(where)):
                raise
            return None
        except OSError as error:
            if follow and error.errno == errno.ELOOP:  # a link that leads nowhere
                return None
            raise


def is_there(path: PathLike) -> bool:
    """Whether something has this name, a link to nowhere too. Raises StorageError when the system does not say."""
    return look(path) is not None


def is_directory(path: PathLike, *, follow: bool = False) -> bool:
    """Whether a directory has this name; a link to one counts with ``follow`` only."""
    found = look(path, follow=follow)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_file(path: PathLike, *, follow: bool = False) -> bool:
    """Whether a regular file has this name; a link to one counts with ``follow`` only."""
    found = look(path, follow=follow)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_link(path: PathLike) -> bool:
    found = look(path)
    return found is not None and stat.S_ISLNK(found.st_mode)


def read_link(path: PathLike) -> str:
    with translated(path, "read the link"):
        where, at = _at(path)
        return os.readlink(where, **at)


def list_directory(path: PathLike) -> list[str]:
    """The names in a directory, sorted."""
    with translated(path, "list"):
        names = sorted(os.listdir(path))
    witness.saw(_names_now, os.fspath(path), hash(tuple(names)))
    return names


def _fingerprint_now(path: str) -> Fingerprint | None:
    try:
        return Fingerprint.of(os.stat(path))
    except (OSError, ValueError):
        return None


def _names_now(path: str) -> int | None:
    try:
        return hash(tuple(sorted(os.listdir(path))))
    except (OSError, ValueError):
        return None


def _keep_owner(descriptor: int, around: Folder) -> None:
    """Give what root has made to whom the directory around it belongs."""
    if os.geteuid() == 0 and (owner := os.fstat(around.descriptor)).st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def free_bytes(directory: PathLike) -> int:
    """How much may still be written where a directory is."""
    with translated(directory, "look at"):
        status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def being_written(path: PathLike) -> bool | None:
    """Whether some process has the file open for writing; None where the system does not tell (Linux tells the owner).

    A read lease is granted only when there is none, and is given back at once. Who opens the file for writing in that
    moment waits for it, and this process gets a SIGIO, for which it needs a handler.
    """
    if not _HAS_LEASES:
        return None
    with translated(path, "open"):
        descriptor = os.open(path, READ | _AT_ONCE)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(descriptor)
    return False
