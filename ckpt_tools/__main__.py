"""Where the program begins: the console script ``ckpt``, and ``python -m ckpt_tools``."""

from __future__ import annotations

import gc


def main() -> None:
    # Importing makes many objects that live until the end, and hardly any garbage to look for.
    gc.disable()
    from ckpt_tools.cli import main as ckpt

    ckpt()


if __name__ == "__main__":
    main()
