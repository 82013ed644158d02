"""What the kernel tells of changes in directories: inotify of Linux, where the files are this machine's own.

A network file system tells what this machine writes and not what others do, and some that live in a process tell
nothing: there, and on other systems, nobody is told, and one has to look.

Source: inotify(7), and the numbers in ``linux/inotify.h``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from typing import Any

from ckpt_tools.fs.durable import file_system

_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "tmpfs", "ramfs", "overlay"}
_MODIFY, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _IGNORED, _ONLY_DIRECTORIES = 0x400, 0x800, 0x8000, 0x01000000
_ASKED = _MODIFY | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_EVENT = struct.Struct("iIII")
_MOST_BYTES = 1 << 18


class Notices:
    """The changes in some directories; `fileno` becomes readable when there are some."""

    def __init__(self, descriptor: int, library: Any) -> None:
        self._descriptor = descriptor
        self._library = library
        self._numbers: dict[str, tuple[int, int]] = {}
        self._paths: dict[int, str] = {}

    def fileno(self) -> int:
        return self._descriptor

    def watch(self, directory: str, inode: int) -> bool:
        """Be told of what changes in a directory from now on; True when it was not watched before.

        ``inode`` tells whether it still is the one that has this path. Raises OSError when the system watches no more.
        """
        known = self._numbers.get(directory)
        if known is not None and known[1] == inode:
            return False
        number = self._library.inotify_add_watch(self._descriptor, os.fsencode(directory), _ASKED | _ONLY_DIRECTORIES)
        if number < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", directory)
        self._numbers[directory] = number, inode
        self._paths[number] = directory
        return True

    def watches(self, directory: str) -> bool:
        return directory in self._numbers

    def take(self) -> bool:
        """Whether anything changed since the last call; waits for nothing."""
        told = False
        while True:
            try:
                data = os.read(self._descriptor, _MOST_BYTES)
            except BlockingIOError:
                return told
            told = True
            place = 0
            while place < len(data):
                number, what, _, size = _EVENT.unpack_from(data, place)
                place += _EVENT.size + size
                path = self._paths.get(number)
                if what & _IGNORED and path is not None:  # it is gone
                    del self._paths[number]
                    if self._numbers.get(path, (0, 0))[0] == number:
                        del self._numbers[path]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def notices_of(directory: str) -> Notices | None:
    """What is told of a directory and of those below it, when they are asked for; None where nobody tells it all."""
    if file_system(directory) not in _LOCAL:
        return None
    try:
        library = ctypes.CDLL(None, use_errno=True)
        descriptor = library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, AttributeError):
        return None
    return None if descriptor < 0 else Notices(descriptor, library)
