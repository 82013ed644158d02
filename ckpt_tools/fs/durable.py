"""Every write, lock, link, fsync and rename of this project. Nothing else in it writes a file.

Writing is split into the steps a commit protocol is made of (create and fsync, link, rename, fsync the directory), so
that the caller decides their order.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import re
import shutil
import stat
import struct
import time
import warnings
from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal

from ckpt_tools.errors import (
    BusyError,
    DurabilityWarning,
    StorageError,
    UnlockedWarning,
    UnsafeError,
    UnsupportedError,
)
from ckpt_tools.format import filenames
from ckpt_tools.fs.local import (
    Folder,
    Held,
    PathLike,
    RandomAccessFile,
    _at,
    _keep_owner,
    _look_at,
    _not_followed,
    directory_of,
    is_link,
    look,
    read_link,
    translated,
)

try:  # at once: a process that gives up its rights may not find it later
    import fcntl

    _POSIX = True
except ImportError:  # on Windows
    _POSIX = False

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


_locking: contextvars.ContextVar[bool] = contextvars.ContextVar("locking", default=True)


@contextlib.contextmanager
def locking(wanted: bool) -> Iterator[None]:
    """Whether directories are locked in this block. Where a file system cannot, somebody has to answer for it."""
    token = _locking.set(wanted)
    try:
        yield
    finally:
        _locking.reset(token)


_patience: contextvars.ContextVar[float] = contextvars.ContextVar("patience", default=0.0)
# Between two attempts at a lock that somebody holds.
_NAP_SECONDS = 0.02


@contextlib.contextmanager
def patient(seconds: float) -> Iterator[None]:
    """How long a lock that somebody else holds is waited for in this block: for the others of one's own, who hold it
    for one change only."""
    token = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(token)


@contextlib.contextmanager
def locked(directory: PathLike) -> Iterator[None]:
    """Hold the directory's lock, or raise BusyError: at once, or after as long as `patient` says.

    Raises StorageError where the file system has no locks.

    The lock is ``flock`` on the directory itself: it leaves no file behind and ends with its process. Within
    ``locking(False)`` there is none, and a warning (UnlockedWarning) says so.
    """
    if not _locking.get():
        message = f"{os.fspath(directory)}: changed without a lock: nothing else may change it meanwhile"
        warnings.warn(UnlockedWarning(message), stacklevel=3)
        yield
        return
    _require_posix(directory)
    with translated(directory, "open"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            _lock(descriptor)
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


def _lock(descriptor: int) -> None:
    end = time.monotonic() + _patience.get()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(_NAP_SECONDS)
        else:
            return


def make_directory(path: PathLike) -> None:
    """Create a directory with its parents; fine when it is there."""
    with translated(path, "create the directory"):
        os.makedirs(path, exist_ok=True)


def _require_posix(path: PathLike) -> None:
    """Raise UnsupportedError on systems whose locks and renames are others than those that a change relies on."""
    if not _POSIX:
        message = "this system lacks the locks and names of Linux and macOS: checkpoints are read here, and not changed"
        raise UnsupportedError(message, path=path, hint="do this on Linux or macOS")


def require_writable(directory: PathLike) -> None:
    """Raise StorageError before any work is done where the result could not be written."""
    _require_posix(directory)
    with translated(directory, "write into the directory"):
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def require_changeable(folder: Folder) -> None:
    """Raise StorageError when files could not be made in, or removed from, a directory that is held open."""
    with translated(folder.path, "change the directory"):
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder.descriptor):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def require_removable(path: PathLike) -> None:
    """Raise StorageError when a file could not be moved away though its directory can be written: it is another
    user's in a sticky directory, or it is immutable."""
    found, around = look(path), look(directory_of(path), follow=True)
    if found is None or around is None:
        return
    with translated(path, "move it away"):
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
    kind = file_system(directory)
    if kind in _NOT_ATOMIC:
        raise UnsupportedError(
            f"this is a {kind} file system, where a rename is not atomic: a kill could lose the old state and the new",
            path=directory,
            hint="copy the directory to a disk, change it there, copy it back: data files first, the .index last",
        )


def file_system(directory: PathLike) -> str | None:
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


def create_file(path: PathLike, data: bytes, *, like: PathLike | None = None, synced: bool = True) -> None:
    """Write a file that is not there yet, and fsync it; ``like`` gives its mode and owner.

    Without ``synced`` it survives the death of the process, but not of the machine.

    On any failure the file is removed again.
    """
    with translated(path, "write"):
        descriptor = _create(path, 0o666)
        try:
            try:
                if like is not None:
                    _give_owner(_status(like), descriptor)
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                if synced:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            _unlink(path)
            raise


def write_file(path: PathLike, write: Callable[[BinaryIO], object], *, like: PathLike) -> None:
    """Let ``write`` fill a file that is not there yet, with the mode and owner of ``like``, and fsync it.

    On any failure the file is removed again.
    """
    with translated(path, "write"):
        descriptor = _create(path, 0o600)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                _give_owner(_status(like), descriptor)
                write(file)
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            _unlink(path)
            raise


def _create(path: PathLike, mode: int) -> int:
    """Open a file that is not there yet; a link in its place is one that is there."""
    _require_posix(path)
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
    with translated(target, "link"):
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
    with translated(target, "copy"):
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


def copy_file(source: PathLike, target: PathLike) -> None:
    """Copy a file with its mode, owner and times to a name that is not there yet, and fsync it.

    It is made under the `unfinished_name` of the target, so that what has the target's name is whole. On any failure
    nothing of it is left, and what was there before stays.
    """
    if is_link(source):
        where, at = _at(target)
        with translated(target, "copy the link"):
            os.symlink(read_link(source), where, dir_fd=at.get("dir_fd"))
        return
    unfinished = unfinished_name(target)
    remove(unfinished)  # of a run that was killed
    with RandomAccessFile(source) as file, translated(target, "copy"):
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
    with translated(path, "name"):
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
    with translated(target, "rename into place"):
        os.replace(old, new, **old_at, **new_at)


def sync_file(path: PathLike) -> None:
    """Make the file's bytes durable."""
    with translated(path, "fsync"):
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
    with translated(path.path, "fsync the directory"):
        try:
            os.fsync(path.descriptor)
        except OSError as error:
            if error.errno not in _SYNC_UNSUPPORTED:
                raise
            message = f"{path.path}: this file system cannot sync a directory: a power loss may undo what is done"
            warnings.warn(DurabilityWarning(message), stacklevel=2)


def remove(path: PathLike) -> None:
    """Remove a file; fine when it is gone already."""
    with translated(path, "remove"), contextlib.suppress(FileNotFoundError):
        _unlink(path)


def remove_directory(path: PathLike) -> None:
    """Remove a directory that is empty; fine when it is gone, left alone when it is not empty."""
    with translated(path, "remove the directory"):
        where, at = _at(path)
        try:
            os.rmdir(where, **at)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def remove_below(directory: PathLike) -> None:
    """Remove a directory of this project's own with what is in it; links are removed, never followed.

    Raises UnsafeError where the directory itself is a link, StorageError for what the system refuses.
    """
    directory = os.fspath(directory)
    if is_link(directory):
        raise UnsafeError("is a link: what it leads to is not removed", path=directory, hint=_look_at(directory))
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
    directory: PathLike | Folder = directory_of(path)
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
    _require_posix(path)
    temporary = temporary_name(path)
    with translated(path, "write"):
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with translated(path, "write"), os.fdopen(descriptor, "w+b") as file:
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
    sync_directory(directory_of(path))


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
    with translated(path, "append to"):
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
        with translated(path, "append to"):
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
        raise UnsafeError("expected a file, found something else", path=path, hint=_look_at(path))
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
