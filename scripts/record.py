"""Record the first minute as a picture that plays: ``docs/assets/first-minute.svg``.

    python scripts/record.py           renew
    python scripts/record.py --check   exit 1 when the commands print something else now

The commands are run for real, in an empty directory. The picture is rich's, its lines shown one after the other by
style alone: it loads nothing and runs no script, and stands still where the reader wants no motion.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text
from warm import environment

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "assets" / "first-minute.svg"
EXPERIMENT = "best_model/book_ComiRec-DR_b128_lr0.005_d8_len20_k3_ComiRec-DR"
COMMANDS = (
    "ckpt demo .",
    f"ckpt resume-check {EXPERIMENT}",
    f"ckpt backfill {EXPERIMENT} --data data",
    f"ckpt inspect {EXPERIMENT} --filter best_metric",
)
WIDTH = 100
# Seconds: to type a command, before its answer, between two lines of that, and to read it.
TYPING, WAIT, LINE, READ = 1.2, 0.4, 0.08, 2.0
_FONTS = re.compile(r"\s*@font-face \{\{.*?\}\}", re.DOTALL)


def lines_of(command: str, directory: Path) -> list[Text]:
    """What the command prints, in its colours, folded at the width of the picture."""
    variables = environment(FORCE_COLOR="1", COLUMNS=str(WIDTH), TERM="xterm-256color")
    variables.pop("NO_COLOR", None)
    done = subprocess.run(
        command.split(),
        cwd=directory,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    console = Console(width=WIDTH, file=io.StringIO())
    shown = (Text.from_ansi(line) for line in done.stdout.decode().splitlines())
    return [part for line in shown for part in (line.wrap(console, WIDTH) or [Text()])]


def picture() -> str:
    """The SVG: each line has the moment at which it is shown."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    moments: list[float] = []
    moment = 0.0
    with tempfile.TemporaryDirectory() as place:
        for command in COMMANDS:
            moment += TYPING
            prompt = Text.assemble(("$ ", "bold green"), (command, "bold")).wrap(console, WIDTH)
            for number, line in enumerate([*prompt, *lines_of(command, Path(place)), Text()]):
                moment += 0 if number < len(prompt) else WAIT if number == len(prompt) else LINE
                moments.append(moment)
                console.print(line)
            moment += READ
    style = "".join(
        f'[clip-path="url(#first-minute-line-{number})"] {{{{ animation-delay: {moment:.2f}s }}}}\n'
        for number, moment in enumerate(moments)
    )
    motion = (
        "@keyframes shown {{ from {{ visibility: hidden }} to {{ visibility: visible }} }}\n"
        "@media (prefers-reduced-motion: no-preference) {{\n"
        f'[clip-path^="url(#first-minute-line-"] {{{{ animation: shown 0.01s both }}}}\n{style}}}}}\n'
    )
    template = _FONTS.sub("", CONSOLE_SVG_FORMAT).replace("</style>", f"{motion}</style>", 1)
    svg = console.export_svg(title="ckpt: the first minute", code_format=template, unique_id="first-minute")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def main() -> int:
    new = picture()
    if PICTURE.is_file() and PICTURE.read_text() == new:
        return 0
    if "--check" in sys.argv:
        print(f"stale: {PICTURE.relative_to(ROOT)}: renew it with: python scripts/record.py")
        return 1
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(new)
    print(f"renewed: {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
