"""The one place that takes secrets out of what is shown or written: passwords and signatures in URLs.

    https://USER:PASSWORD@host/path?SIGNATURE      ->      https://host/path?...

A URL is taken apart as RFC 3986 does it, but where a text does not tell where one ends, more is taken out rather than
less: a password may hold ``'``, ``@`` and whatever else people type. Those that were given to a program are known from
their beginning to their end, and are then found whatever is in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

# The end of a scheme is enough: looking for its beginning from each letter of a long name costs its square.
_SCHEME = re.compile(r"[A-Za-z0-9+.-]://")
_WHITE = re.compile(r"\s")
_END_OF_HOST = re.compile(r"[/?#]")
_PORT = re.compile(r"\d{0,5}\W*")
# Behind a URL in a sentence, and kept.
_AROUND = "\"'`)]}>,;:.!"

# A single quote as the shell wants it within single quotes.
_QUOTED = "'\"'\"'"
# The secrets of URLs that were given to this process, in each way in which they may be written; what stands for them.
_known: dict[str, str] = {}


def remember(argument: str) -> None:
    """Note the secrets of a URL that was given as such: it ends where the argument ends, whatever is in it."""
    match = _SCHEME.search(argument)
    if match is None:
        return
    before, rest = match[0], argument[match.end() :]
    user, place = _split(rest)
    query = place.partition("?")[2]
    secrets = {f"{before}{user}": before} if user else {}
    secrets |= {f"?{query}": "?..."} if query else {}
    for secret, instead in secrets.items():
        # An argument may hold what is no text: a byte of no character, as the system hands it on.
        quoted = quote(secret, safe=":/?&=@%+", errors="surrogatepass")
        for written in (secret, quoted, secret.replace("'", _QUOTED), repr(secret)[1:-1]):
            _known[written] = instead


def without_secrets(text: str) -> str:
    """A text whose URLs have lost their passwords and signatures."""
    if "://" not in text and not any(secret in text for secret in _known):
        return text
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, _known[secret])
    parts = []
    at, end = 0, -1
    while (match := _SCHEME.search(text, at)) is not None:
        parts.append(text[at : match.end()])
        if end < match.end():
            white = _WHITE.search(text, match.end())
            end = white.start() if white else len(text)
        at = end
        following = _SCHEME.search(text, match.end())
        if following is not None and following.start() < at and "?" not in text[match.end() : following.start()]:
            # One URL behind the other, as "a://b::c://d": each is looked at.
            at = following.start()
        parts.append(_shown(text[match.end() : at]))
    return "".join([*parts, text[at:]])


def redacted(value: Any) -> Any:
    """The same for all texts in lists and mappings, their keys too."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {redacted(key): redacted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item) for item in value]
    return value


def _shown(url: str) -> str:
    """What is left of a URL behind its scheme."""
    place, question, query = _split(url)[1].partition("?")
    if not question or query.startswith("..."):
        return place + question + query
    return f"{place}?...{query[len(query.rstrip(_AROUND)) :]}"


def _split(url: str) -> tuple[str, str]:
    """Who may read, up to the ``@``, and what: of a URL behind its scheme."""
    end = _END_OF_HOST.search(url)
    authority = url[: end.start()] if end else url
    if "@" in authority:
        at = authority.rindex("@") + 1
    elif "@" in url and _is_no_port(authority):
        # A slash or a question mark in a password, which has no business there.
        at = url.rindex("@") + 1
    else:
        at = 0
    return url[:at], url[at:]


def _is_no_port(authority: str) -> bool:
    """Whether something stands behind the colon that is no port."""
    if authority.startswith("["):
        return False
    colons = authority.count(":")
    return colons > 1 or (colons == 1 and not _PORT.fullmatch(unquote(authority.partition(":")[2])))
