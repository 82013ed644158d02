"""Regular expressions of other people, on texts of other people: in a process of their own, which can be ended.

Python's engine backtracks: a pattern such as ``((a+)+)b`` takes longer than the universe on forty letters, and no
thread can stop it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from ckpt_tools.errors import UnsafeError, UsageError

SECONDS = 20.0
LONGEST_LINE = 65_536
_MOST = 100_000
_PROGRAM = """
import json, re, sys
pattern, limit, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
found = []
text = sys.stdin.buffer.read().decode("utf-8", "replace")
for number, line in enumerate(text.split("\\n")):
    for match in re.finditer(pattern, line[:limit]):
        groups = {name: text[:100] for name, text in match.groupdict().items() if text is not None}
        if "value" not in groups and match[1] is not None:
            groups["value"] = match[1][:100]
        if "value" in groups and len(found) < most:
            found.append([number, groups])
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True)
class Match:
    """One match: the number of its line, from 0, and its groups; ``value`` is the group of that name, or the first."""

    line: int
    groups: Mapping[str, str]

    @property
    def value(self) -> str:
        return self.groups["value"]


def find_all(pattern: str, lines: list[str], *, what: str = "the pattern", seconds: float | None = None) -> list[Match]:
    """Every match in lines (of a longer one in its first 65,536 letters), in order; at most 100,000.

    Raises UnsafeError when it does not end in time, UsageError when the pattern cannot be used.
    """
    seconds = SECONDS if seconds is None else seconds
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _PROGRAM, pattern, str(LONGEST_LINE), str(_MOST)],
            input="\n".join(line[:LONGEST_LINE] for line in lines).encode("utf-8", "replace"),
            capture_output=True,
            timeout=seconds,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise UnsafeError(f"{what} did not end within {seconds:g} seconds: nothing written") from error
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        raise UsageError(f"{what} cannot be used on this text") from error
    return [Match(number, groups) for number, groups in json.loads(done.stdout)]  # noqa: TID251 - of a process of ours
