"""Text from files, made harmless for a terminal."""

from __future__ import annotations

from ckpt_tools.redaction import without_secrets


def safe(text: object) -> str:
    """Text from a file, control characters (terminal escapes among them) made visible, secrets in URLs left out."""
    return _visible(without_secrets(str(text)))


def safe_lines(text: str) -> str:
    """What is about to be printed, lines and all: whatever control character was overlooked before is visible."""
    return text if text.isprintable() else "\n".join(map(_visible, text.split("\n")))


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
