"""Write the address of the repository that is released into the metadata: ``pyproject.toml`` and ``CITATION.cff``.

    python scripts/set_urls.py https://HOST/OWNER/NAME [DIRECTORY]

The release workflow does it, for a copy of the project that somebody releases has another address than the one that it
was copied from. Nothing is written when there are addresses already.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def urls(address: str) -> str:
    """The table ``[project.urls]``."""
    pages = {
        "Homepage": address,
        "Documentation": f"{address}/tree/main/docs",
        "中文文档": f"{address}/tree/main/docs/zh",
        "Changelog": f"{address}/blob/main/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }
    return "\n[project.urls]\n" + "".join(f'"{name}" = "{url}"\n' for name, url in pages.items())


def main() -> None:
    address = sys.argv[1].rstrip("/")
    if not address.startswith("https://") or '"' in address:
        sys.exit(f"not the address of a repository: {address}")
    root = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT
    for name, text in (("pyproject.toml", urls(address)), ("CITATION.cff", f'repository-code: "{address}"\n')):
        path = root / name
        if text.split()[0] not in path.read_text():
            path.write_text(path.read_text().rstrip("\n") + "\n" + text)


if __name__ == "__main__":
    main()
