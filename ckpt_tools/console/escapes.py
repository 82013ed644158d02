"""Text from files, made harmless for a terminal."""

from __future__ import annotations

from ckpt_tools.redaction import without_secrets


def safe(text: object) -> str:
    """Text from a file, control characters (terminal escapes among them) made visible, secrets in URLs left out."""
    text = without_secrets(str(text))
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
