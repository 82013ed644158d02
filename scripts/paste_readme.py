"""Paste every block of a README into a shell, from nothing: an empty HOME, a fresh clone, a new environment.

    python scripts/paste_readme.py [README.md] [--constraints FILE]

The blocks are typed one after the other, as somebody would who reads from top to bottom; the first one that fails ends
it. What installs for training is typed where the text says so, before the first command of ``trainer``. ``make demo``
and ``make test`` are tried by themselves.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^<!-- run: (?P<run>.*?) -->\n|^```sh\n(?P<typed>.*?)^```\n", re.MULTILINE | re.DOTALL)


def commands(page: str) -> Iterator[str]:
    """Each line that is typed, in the order of the page."""
    for match in _BLOCK.finditer(page):
        for line in (match["run"] or match["typed"]).splitlines():
            if line and not line.startswith("make "):
                yield line


def script(page: str, constraints: Path) -> Iterator[str]:
    """The lines of a shell script: each command is shown, and says how long it took."""
    trained = False
    install = f"pip install --quiet --disable-pip-version-check -c '{constraints}'"
    yield "set -e"
    for line in commands(page):
        command = line.partition("  #")[0].strip()
        if command.startswith("trainer ") and not trained:
            trained = True
            yield f"(cd \"$CLONE\" && {install} '.[trainer]')"
        command = command.replace("pip install", install, 1)
        yield f'echo; echo {_quoted("$ " + command)}; SECONDS=0; {command}; echo "($SECONDS s)"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", nargs="?", default="README.md")
    parser.add_argument("--constraints", default=str(ROOT / "constraints.txt"))
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        home, clone, environment = (Path(place, name) for name in ("home", "clone", "environment"))
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        lines = script((clone / given.page).read_text(), Path(given.constraints).resolve())
        done = subprocess.run(
            ["bash", "-c", "\n".join(lines)],
            cwd=clone,
            env={
                "HOME": str(home),
                "CLONE": str(clone),
                "PATH": f"{environment / 'bin'}:{os.defpath}",
                "LC_ALL": "C.UTF-8",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                **{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))},
            },
            check=False,
        )
    words = "every block works" if done.returncode == 0 else "the last command failed"
    print(f"\n{given.page}: {words} ({time.monotonic() - begun:.0f} s)")
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
