"""Names of tensors that are harmless, and different, in the files of other programs.

A name in a checkpoint is any text. In an archive it is a path that other programs unpack to, in HDF5 a path of groups:
``../../x`` leads out of the directory, ``a//b`` and ``/a`` are the same as ``a/b`` and ``a``, ``.`` is no name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

# An entry of an archive has 65,535 bytes for its name; the ending comes to it.
_LONGEST = 60_000
_KEPT = 200
_DRIVE = re.compile(r"[A-Za-z]:")
# No text of a name in HDF5 or an archive may hold these.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\\]")


def harmless(names: Iterable[str]) -> dict[str, str]:
    """For each name one that can be a path below any directory; the same for most. All are different.

    What is not harmless is written with ``%`` and two digits for each of its bytes, as in URLs.
    """
    found = {name: _harmless(name) for name in names}
    taken = {name for name, new in found.items() if new == name}
    for name, new in found.items():
        if new != name:
            if new in taken:
                new = f"{new}-{_digest(name)}"
            taken.add(new)
            found[name] = new
    return found


def _harmless(name: str) -> str:
    parts = [_part(part) for part in name.split("/")]
    if _DRIVE.match(parts[0]):
        parts[0] = parts[0].replace(":", "%3A", 1)
    new = "/".join(parts)
    if len(new.encode()) > _LONGEST:
        return f"{new[:_KEPT].rstrip('/')}-{_digest(name)}"
    return new


def _part(part: str) -> str:
    if not part:
        return "%"
    if not part.strip("."):
        return "%2E" * len(part)
    return _CONTROL.sub(
        lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass")), part
    )


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
