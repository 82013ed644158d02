"""Files of this machine: bounded reads, locks, links, durable writes. Nothing else in this project writes a file.

Reading never follows a device or a FIFO, and never returns fewer bytes than asked for: a short file is
noticed here, with its path and offset. Writing is split into the steps a commit protocol is made of
(create and fsync, link, rename, fsync the directory), so that the caller decides their order.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import fcntl
import os
import re
import shutil
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from ckpt_tools import witness
from ckpt_tools.errors import (
    BusyError,
    CorruptError,
    DurabilityWarning,
    NotFoundError,
    StorageError,
    UnlockedWarning,
    UnsafeError,
    UnsupportedError,
)
from ckpt_tools.format import filenames

PathLike = str | os.PathLike[str]

_PIECE = 1 << 22

# What a directory fsync may answer on network file systems that have no such call.
_SYNC_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
# What link() may answer where hard links do not exist (FAT, some FUSE and network file systems).
_LINK_UNSUPPORTED = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES, errno.EXDEV}
# FS_IOC_GETFLAGS of Linux (linux/fs.h), and two of what it tells: such a file cannot be renamed or removed.
_GET_FLAGS, _IMMUTABLE, _APPEND_ONLY = 0x80086601, 0x10, 0x20
# Where Linux lists what is mounted, and how object stores are called there that rename by copying.
_MOUNTS = "/proc/self/mounts"
_NOT_ATOMIC = {
    f"fuse.{name}" for name in ("s3fs", "gcsfuse", "goofys", "rclone", "mount-s3", "mountpoint-s3", "blobfuse", "ossfs")
} | {"fuse.blobfuse2", "fuse.cosfs", "fuse.obsfs", "fuse.tosfs"}


@contextlib.contextmanager
def _translated(path: PathLike, action: str) -> Iterator[None]:
    """The one door for the operating system's errors; nothing behind a URL gets through it."""
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
        hint = None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "check the permissions, or work on a copy in a directory that you may write"
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space and run the same command again"
        message = f"cannot {action}: {error.strerror or error}"
        raise StorageError(message, path=path, hint=hint) from error


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
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        with _translated(path, "open the directory"):
            try:
                self.descriptor = os.open(where, flags | (os.O_NOFOLLOW if at else 0), **at)
            except OSError as error:
                if at and error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise _not_followed(path) from error
                raise

    def __truediv__(self, name: str) -> Held:
        return Held(self, name)

    def names(self) -> list[str]:
        """The names in it, sorted."""
        with _translated(self.path, "list"):
            return sorted(os.listdir(self.descriptor))

    def inside(self, name: str) -> Folder | None:
        """A directory in it; None without one. Raises UnsafeError for anything else of that name, a link too."""
        return Folder(self / name) if is_there(self / name) else None

    def make(self, name: str) -> Folder:
        """A directory in it, made when it is not there yet."""
        with _translated(self / name, "create the directory"), contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=self.descriptor)
        made = Folder(self / name)
        try:
            with _translated(made.path, "give to its owner"):
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


def is_plain(name: str) -> bool:
    """Whether a name is one of a directory's own: no path, not empty, neither ``.`` nor ``..``."""
    return name == os.path.basename(name) and name not in ("", os.curdir, os.pardir) and "\0" not in name


def _at(path: PathLike, key: str = "dir_fd") -> tuple[PathLike, dict[str, int]]:
    """What the system is asked for: a path, or a name in a directory that is held."""
    return (path.name, {key: path.folder.descriptor}) if isinstance(path, Held) else (path, {})


def _not_followed(path: PathLike) -> UnsafeError:
    return UnsafeError("is a link, or something else that does not belong here: it is not followed", path=path)


# --------------------------------------------------------------------------------------- reading


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
    """A regular file opened for bounded reads at any offset; its size is taken once, when opened."""

    def __init__(self, path: PathLike) -> None:
        self.path = os.fspath(path)
        try:
            with _translated(path, "open"):
                where, at = _at(path)
                # O_NONBLOCK: opening a FIFO must not wait for a writer.
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if at else 0)
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
        """Exactly ``size`` bytes from ``offset``. Raises CorruptError when the file does not have them."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CorruptError(
                f"needs bytes {offset} to {offset + size}, but the file has {self.size}: it was cut off",
                path=self.path,
                offset=offset,
            )
        parts = []
        while size:
            with _translated(self.path, f"read {size} bytes at {offset}"):
                part = os.pread(self._descriptor, size, offset)
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
            with contextlib.suppress(OSError):  # what was read is read
                os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> RandomAccessFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A reader that failed half-way must not leave descriptors behind.
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)


def read_file(path: PathLike, *, limit: int) -> bytes:
    """The whole file; UnsafeError when it is larger than ``limit`` bytes."""
    with RandomAccessFile(path) as file:
        if file.size > limit:
            raise UnsafeError(f"{file.size} bytes are more than the limit of {limit}", path=path)
        return file.read(0, file.size)


def fingerprint(path: PathLike) -> Fingerprint:
    with _translated(path, "look at"):
        found = Fingerprint.of(os.stat(path))
    witness.saw(_fingerprint_now, os.fspath(path), found)
    return found


def look(path: PathLike, *, follow: bool = False) -> os.stat_result | None:
    """What has a name, a link itself unless ``follow``; None when nothing has it, and only then.

    "Not there" is ENOENT or ENOTDIR. Anything else that the system answers (ESTALE and EIO of a network file system,
    EACCES) is no answer, and raises StorageError: what `os.path.exists` takes for "absent" may be the only copy.
    """
    with _translated(path, "look at"):
        try:
            where, at = _at(path)
            return os.stat(where, follow_symlinks=follow and not at, **at)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:  # a name that no file can have
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
    with _translated(path, "read the link"):
        where, at = _at(path)
        return os.readlink(where, **at)


def list_directory(path: PathLike) -> list[str]:
    """The names in a directory, sorted."""
    with _translated(path, "list"):
        names = sorted(os.listdir(path))
    witness.saw(_names_now, os.fspath(path), hash(tuple(names)))
    return names


def _fingerprint_now(path: str) -> Fingerprint | None:
    try:
        return Fingerprint.of(os.stat(path))
    except OSError:
        return None


def _names_now(path: str) -> int | None:
    try:
        return hash(tuple(sorted(os.listdir(path))))
    except OSError:
        return None


# --------------------------------------------------------------------------------------- writing


_locking: contextvars.ContextVar[bool] = contextvars.ContextVar("locking", default=True)


@contextlib.contextmanager
def locking(wanted: bool) -> Iterator[None]:
    """Whether directories are locked in this block. Where a file system cannot, somebody has to answer for it."""
    token = _locking.set(wanted)
    try:
        yield
    finally:
        _locking.reset(token)


@contextlib.contextmanager
def locked(directory: PathLike) -> Iterator[None]:
    """Hold the directory's lock, or raise BusyError at once. Raises StorageError where the file system has no locks.

    The lock is ``flock`` on the directory itself: it leaves no file behind and ends with its process. Within
    ``locking(False)`` there is none, and a warning (UnlockedWarning) says so.
    """
    if not _locking.get():
        message = f"{os.fspath(directory)}: changed without a lock: nothing else may change it meanwhile"
        warnings.warn(UnlockedWarning(message), stacklevel=3)
        yield
        return
    with _translated(directory, "open"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                "another program is changing this directory",
                path=directory,
                hint="wait for it to finish, then run the same command again",
            ) from error
        except OSError as error:
            raise StorageError(
                f"this file system cannot lock the directory: {error.strerror or error}",
                path=directory,
                hint="work on a copy on a local disk; or, when nothing else changes it meanwhile, add --no-lock",
            ) from error
        yield
    finally:
        with contextlib.suppress(OSError):  # the lock ends all the same
            os.close(descriptor)


def make_directory(path: PathLike) -> None:
    """Create a directory with its parents; fine when it is there."""
    with _translated(path, "create the directory"):
        os.makedirs(path, exist_ok=True)


def require_writable(directory: PathLike) -> None:
    """Raise StorageError before any work is done where the result could not be written."""
    with _translated(directory, "write into the directory"):
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def require_removable(path: PathLike) -> None:
    """Raise StorageError when a file could not be moved away though its directory can be written: it is another
    user's in a sticky directory, or it is immutable."""
    found, around = look(path), look(os.path.dirname(os.fspath(path)) or ".", follow=True)
    if found is None or around is None:
        return
    with _translated(path, "move it away"):
        owners = (found.st_uid, around.st_uid)
        if around.st_mode & stat.S_ISVTX and os.geteuid() not in (0, *owners):
            raise PermissionError(errno.EPERM, "it is another user's, and the directory is sticky")
        if stat.S_ISREG(found.st_mode) and _flags(path) & (_IMMUTABLE | _APPEND_ONLY):
            raise PermissionError(errno.EPERM, "it is immutable")


def _flags(path: PathLike) -> int:
    """The attributes of a file (``lsattr``); 0 where the file system has none, or does not tell."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        found: int = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8)))[0]
        return found
    except (OSError, struct.error):
        return 0
    finally:
        os.close(descriptor)


def require_atomic_rename(directory: PathLike) -> None:
    """Raise UnsupportedError where a rename is a copy and a removal: an object store that is mounted as a directory.

    A change that was killed within it would leave neither the old nor the new. Only Linux tells; elsewhere nothing is
    refused.
    """
    kind = _file_system(directory)
    if kind in _NOT_ATOMIC:
        raise UnsupportedError(
            f"this is a {kind} file system, where a rename is not atomic: a kill could lose the old state and the new",
            path=directory,
            hint="copy the directory to a disk, change it there, copy it back: data files first, the .index last",
        )


def _file_system(directory: PathLike) -> str | None:
    """The type of the file system that a directory is on, as the list of mounts has it; None when that is not known."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split(" ") for line in file]
    except OSError:
        return None
    place = os.path.realpath(directory)
    found, longest = None, -1
    for row in rows:
        if len(row) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), row[1])  # blanks are written \040
        # Of two mounts at one point the later covers the earlier.
        if f"{place}/".startswith(f"{point.rstrip('/')}/") and len(point) >= longest:
            found, longest = row[2], len(point)
    return found


def create_file(path: PathLike, data: bytes, *, like: PathLike | None = None) -> None:
    """Write a file that is not there yet, and fsync it; ``like`` gives its mode and owner.

    On any failure the file is removed again.
    """
    with _translated(path, "write"):
        descriptor = _create(path, 0o666)
        try:
            try:
                if like is not None:
                    _give_owner(_status(like), descriptor)
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            _unlink(path)
            raise


def _create(path: PathLike, mode: int) -> int:
    """Open a file that is not there yet; a link in its place is one that is there."""
    where, at = _at(path)
    descriptor = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, **at)
    if isinstance(path, Held):
        try:
            _keep_owner(descriptor, path.folder)
        except BaseException:
            os.close(descriptor)
            _unlink(path)
            raise
    return descriptor


def _keep_owner(descriptor: int, around: Folder) -> None:
    """Give what root has made to whom the directory around it belongs."""
    if os.geteuid() == 0 and (owner := os.fstat(around.descriptor)).st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _status(path: PathLike) -> os.stat_result:
    where, at = _at(path)
    return os.stat(where, follow_symlinks=not at, **at)


def _unlink(path: PathLike) -> None:
    where, at = _at(path)
    os.unlink(where, **at)


def _give_owner(status: os.stat_result, descriptor: int) -> None:
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o777)
    # Only root may give files away; for everyone else the new file is simply theirs.
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, status.st_uid, status.st_gid)


def link_or_copy(source: PathLike, target: PathLike) -> Literal["link", "copy"]:
    """Give a file a second name, one that is not there yet, without moving bytes where the file system can; else copy
    and fsync. A link gets another link with the same text."""
    with _translated(target, "link"):
        try:
            _link(source, target)
            return "link"
        except OSError as error:
            if error.errno not in _LINK_UNSUPPORTED:
                raise
    copy_file(source, target)
    return "copy"


def _link(source: PathLike, target: PathLike) -> None:
    (old, old_at), (new, new_at) = _at(source, "src_dir_fd"), _at(target, "dst_dir_fd")
    if old_at or new_at:
        os.link(old, new, **old_at, **new_at, follow_symlinks=False)
    else:
        os.link(old, new)


def copy(source: PathLike, target: PathLike) -> None:
    """Give the bytes of a file another holder: a reflink where the file system has them, else a copy. Not synced."""
    with _translated(target, "copy"):
        try:
            with open(source, "rb", buffering=0) as old, open(target, "xb", buffering=0) as new:
                if not _cloned(old.fileno(), new.fileno(), os.fstat(old.fileno()).st_size):
                    shutil.copyfileobj(old, new, 1 << 20)
            shutil.copystat(source, target)
        except FileExistsError:
            raise
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
            raise


def _cloned(source: int, target: int, size: int) -> bool:
    """Whether the kernel copied it all; it shares the blocks where it can."""
    if not hasattr(os, "copy_file_range"):
        return False
    while size > 0:
        try:
            count = os.copy_file_range(source, target, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
                raise
            return False  # copyfileobj goes on where this stopped: both offsets have moved
        if count == 0:
            return False
        size -= count
    return True


def free_bytes(directory: PathLike) -> int:
    """How much may still be written where a directory is."""
    with _translated(directory, "look at"):
        status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def being_written(path: PathLike) -> bool | None:
    """Whether some process has the file open for writing; None where the system does not tell (Linux tells the owner).

    A read lease is granted only when there is none, and is given back at once. Who opens the file for writing in that
    moment waits for it, and this process gets a SIGIO, for which it needs a handler.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    with _translated(path, "open"):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(descriptor)
    return False


def copy_file(source: PathLike, target: PathLike) -> None:
    """Copy a file with its mode, owner and times to a name that is not there yet, and fsync it.

    It is made under the `unfinished_name` of the target, so that what has the target's name is whole. On any failure
    nothing of it is left, and what was there before stays.
    """
    if is_link(source):
        where, at = _at(target)
        with _translated(target, "copy the link"):
            os.symlink(read_link(source), where, dir_fd=at.get("dir_fd"))
        return
    unfinished = unfinished_name(target)
    remove(unfinished)  # of a run that was killed
    with RandomAccessFile(source) as file, _translated(target, "copy"):
        descriptor = _create(unfinished, 0o600)
        try:
            try:
                file.copy_to(descriptor)
                _give_owner(file.status, descriptor)
                os.utime(descriptor, ns=(file.status.st_atime_ns, file.status.st_mtime_ns))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            name_finished(target)
        except BaseException:
            remove(unfinished)
            raise


def create_whole(path: PathLike, data: bytes, *, like: PathLike | None = None) -> None:
    """Write a file that is not there yet, so that what has its name is whole; as `create_file` otherwise."""
    remove(unfinished_name(path))  # of a run that was killed
    create_file(unfinished_name(path), data, like=like)
    try:
        name_finished(path)
    except BaseException:
        remove(unfinished_name(path))
        raise


def unfinished_name(path: PathLike) -> PathLike:
    """What a file is called until it is whole; nobody else gives such names."""
    if isinstance(path, Held):
        return path.folder / filenames.unfinished_name(path.name)
    return filenames.unfinished_name(os.fspath(path))


def name_finished(path: PathLike) -> None:
    """Give an unfinished file its name. Raises StorageError (of FileExistsError) when that is taken: a rename would
    replace what is there."""
    unfinished = unfinished_name(path)
    with _translated(path, "name"):
        try:
            _link(unfinished, path)
        except OSError as error:
            if error.errno not in _LINK_UNSUPPORTED:
                raise
            if look(path) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
            rename(unfinished, path)
    remove(unfinished)


def rename(source: PathLike, target: PathLike) -> None:
    """Atomically give ``source`` the name ``target``, replacing what was there."""
    (old, old_at), (new, new_at) = _at(source, "src_dir_fd"), _at(target, "dst_dir_fd")
    with _translated(target, "rename into place"):
        os.replace(old, new, **old_at, **new_at)


def sync_file(path: PathLike) -> None:
    """Make the file's bytes durable."""
    with _translated(path, "fsync"):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_directory(path: PathLike | Folder) -> None:
    """Make the directory's names durable. Warns (DurabilityWarning) where the file system has no such call."""
    if not isinstance(path, Folder):
        with Folder(path) as folder:
            sync_directory(folder)
        return
    with _translated(path.path, "fsync the directory"):
        try:
            os.fsync(path.descriptor)
        except OSError as error:
            if error.errno not in _SYNC_UNSUPPORTED:
                raise
            message = f"{path.path}: this file system cannot sync a directory: a power loss may undo what is done"
            warnings.warn(DurabilityWarning(message), stacklevel=2)


def remove(path: PathLike) -> None:
    """Remove a file; fine when it is gone already."""
    with _translated(path, "remove"), contextlib.suppress(FileNotFoundError):
        _unlink(path)


def remove_directory(path: PathLike) -> None:
    """Remove a directory that is empty; fine when it is gone, left alone when it is not empty."""
    with _translated(path, "remove the directory"):
        where, at = _at(path)
        try:
            os.rmdir(where, **at)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def remove_below(directory: PathLike) -> None:
    """Remove a directory of this project's own with what is in it; links are removed, never followed."""
    directory = os.fspath(directory)
    if is_link(directory):
        raise UnsafeError("is a link: what it leads to is not removed", path=directory)
    for folder, below, names in os.walk(directory, topdown=False):
        for name in (*names, *(name for name in below if is_link(os.path.join(folder, name)))):
            remove(os.path.join(folder, name))
        remove_directory(folder)


def temporary_name(path: PathLike) -> str:
    """A name beside ``path`` that nobody else has."""
    return filenames.temporary_name(os.fspath(path), os.urandom(4).hex())


def write_atomic(
    path: PathLike, data: bytes, *, last_look: Callable[[], None] = lambda: None, durable: bool = True
) -> None:
    """Replace a small file as a whole, durably: temporary file, fsync, rename, fsync the directory.

    ``last_look`` is called just before the rename; what it raises leaves the file as it is. Without ``durable`` the
    directory is left to be synced by the caller.
    """
    temporary: PathLike = temporary_name(path)
    directory: PathLike | Folder = os.path.dirname(os.fspath(path)) or "."
    if isinstance(path, Held):
        temporary, directory = path.folder / os.path.basename(temporary), path.folder
    create_file(temporary, data, like=None if look(path, follow=True) is None else path)
    try:
        last_look()
        rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    if durable:
        sync_directory(directory)


@contextlib.contextmanager
def created(path: PathLike, *, replace: bool = False) -> Iterator[BinaryIO]:
    """A new file to write into, readable too; it gets its name, durably, only when the block ends well.

    Raises StorageError when there is such a file and it shall not be replaced.
    """
    path = os.fspath(path)
    temporary = temporary_name(path)
    with _translated(path, "write"):
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with _translated(path, "write"), os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            rename(temporary, path)
        else:
            # link() does not replace, so that a file made in the meantime is not lost.
            link_or_copy(temporary, path)
    finally:
        remove(temporary)
    sync_directory(os.path.dirname(path) or ".")


def append_line(path: PathLike, line: str, *, durable: bool = True) -> None:
    """Append one line to a log. A last line that was cut off is taken away first: it never was one.

    A file with several names is copied first: the other names are logs of other directories (``cp -al``). Without
    ``durable`` it survives the death of the process, but not of the machine.
    """
    found = look(path)
    if found is not None and found.st_nlink > 1:
        with RandomAccessFile(path) as file:
            content = file.read(0, file.size)
        write_atomic(path, content)
    if found is None and isinstance(path, Held):
        create_file(path, b"")
    with _translated(path, "append to"):
        descriptor = _open_to_append(path)
        try:
            whole = _end_of_last_line(descriptor)
            if whole < os.fstat(descriptor).st_size:
                os.ftruncate(descriptor, whole)
            data = memoryview((line + "\n").encode())
            while data:
                data = data[os.write(descriptor, data) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def require_appendable(path: PathLike) -> None:
    """Raise StorageError when a log that is there could not be appended to, UnsafeError when it is none."""
    if look(path) is not None:
        with _translated(path, "append to"):
            os.close(_open_to_append(path))


def _open_to_append(path: PathLike) -> int:
    where, at = _at(path)
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if at else os.O_CREAT)
    try:
        descriptor = os.open(where, flags, 0o666, **at)
    except OSError as error:
        if at and error.errno == errno.ELOOP:
            raise _not_followed(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafeError("expected a file, found something else", path=path)
    return descriptor


def _end_of_last_line(descriptor: int) -> int:
    """Where the last whole line of a file ends."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - 4096)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
