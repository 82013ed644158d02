"""A terminal that a test looks at: what programs draw in it, as somebody sees it."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
import termios
import threading
from types import TracebackType

_PART = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b.|([^\x1b]+)", re.DOTALL)


class Screen:
    """Stdout and stderr are this terminal in the block. ``lines`` are all that was ever shown and not drawn over."""

    def __init__(self, columns: int = 80, rows: int = 40) -> None:
        self._columns = columns
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._slave = slave
        self._received: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._master, 1 << 16):
                self._received.append(part)
        except OSError:
            pass

    @property
    def received(self) -> str:
        return b"".join(self._received).decode()

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, and above it, in the end."""
        cells: list[list[str]] = [[]]
        row = column = 0
        for numbers, command, text in _PART.findall(self.received):
            count = int(numbers) if numbers.isdigit() else 0
            if command == "A":
                row -= max(1, count)
            elif command == "K":
                cells[row] = [] if count == 2 else cells[row][:column]
            for letter in text:
                if letter == "\r":
                    column = 0
                elif letter == "\n":
                    row += 1
                else:
                    if column == self._columns:
                        row, column = row + 1, 0
                    cells += [[] for _ in range(row + 1 - len(cells))]
                    line = cells[row]
                    line += [" "] * (column + 1 - len(line))
                    line[column] = letter
                    column += 1
                cells += [[] for _ in range(row + 1 - len(cells))]
        return ["".join(line).rstrip() for line in cells]

    def __enter__(self) -> Screen:
        self._streams = sys.stdout, sys.stderr
        sys.stdout = os.fdopen(os.dup(self._slave), "w", encoding="utf-8", buffering=1)
        sys.stderr = os.fdopen(os.dup(self._slave), "w", encoding="utf-8", buffering=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.close()
        sys.stdout, sys.stderr = self._streams
        os.close(self._slave)
        self._reader.join(timeout=10)
        os.close(self._master)
