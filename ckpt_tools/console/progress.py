"""How work goes on, drawn on a terminal's stderr; all of it vanishes when the work is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ckpt_tools.console.escapes import safe
from ckpt_tools.console.terminal import console
from ckpt_tools.console.widths import NAME_WIDTH, middle

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.progress import Progress, TaskID

# Drawing more often than people can see would be the main work.
_FRAME_SECONDS = 0.1


class Drawing:
    """A place that is drawn again and again. It begins with the first picture, and may begin anew after its end."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._last = 0.0

    @property
    def is_shown(self) -> bool:
        return self._live is not None

    def show(self, draw: Callable[[int], RenderableType]) -> None:
        """Draw the newest state; ``draw`` takes the number of rows that there are for it."""
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=console(stderr=True), transient=True, auto_refresh=False)
            self._live.start()
            self._last = 0.0
        if (now := time.monotonic()) - self._last > _FRAME_SECONDS:
            self._last = now
            self._live.update(draw(max(1, self._live.console.height - 6)), refresh=True)

    def end(self) -> None:
        """Take the picture away."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class Bars:
    """One bar for all, and one for each thing that is under way. Its methods may be called from any thread."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[int, TaskID] = {}
        self._finished: set[int] = set()

    def begin(self, total: int) -> None:
        if self._progress is not None:
            self._tasks[-1] = self._progress.add_task("all", total=total)

    def show(self, number: int, name: str, done: int, total: int) -> None:
        # A report may come behind the end of what it is about.
        if self._progress is not None and number not in self._finished:
            if number not in self._tasks:
                self._tasks[number] = self._progress.add_task(middle(safe(name), NAME_WIDTH))
            self._progress.update(self._tasks[number], completed=done, total=total)

    def finish(self, number: int) -> None:
        self._finished.add(number)
        if self._progress is not None:
            self._progress.advance(self._tasks[-1])
            if number in self._tasks:
                self._progress.remove_task(self._tasks.pop(number))
