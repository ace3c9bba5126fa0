"""Words of a configuration line. Every value of a record passes here, so that none can end its line or its argument."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,300}")
# A part of a map's value: no blank, no pipe.
VALUE = re.compile(r"[!-{}~]{0,400}")
KEY = re.compile(r"[!-~]{1,2000}")
NETWORK = re.compile(r"[0-9a-fA-F.:]+(?:/[0-9]{1,3})?")
HEADER = re.compile(r"[a-z0-9!#$&'*+.^_`~-]+")

_PLAIN = re.compile(r"[A-Za-z0-9/._:@=-]+")
_QUOTABLE = re.compile(r"[ -~]*")
# Longer lists become files: HAProxy takes at most 64 words in a line.
_MOST_WORDS = 16


def quote(text: str) -> str:
    """One word of a line. ValueError for line breaks, other controls and what is not ASCII."""
    if not _QUOTABLE.fullmatch(text):
        raise ValueError("not a text for a configuration line")
    if _PLAIN.fullmatch(text):
        return text
    inner = text.replace("'", "'\\''")
    return f"'{inner}'"


def literal(text: str) -> str:
    """A text where HAProxy reads a log-format."""
    return text.replace("%", "%%")


def checked(form: re.Pattern[str], text: str) -> str:
    """The text, if it is of the form; else ValueError."""
    if not form.fullmatch(text):
        raise ValueError(f"not of the form {form.pattern}: {text[:40]!r}")
    return text


class Lists:
    """Long lists of ids or networks, kept as files beside the configuration."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}

    @property
    def files(self) -> Mapping[str, str]:
        """The files by name."""
        return self._files

    def words(self, values: Iterable[str], form: re.Pattern[str]) -> str:
        """The values as words of a line, or `-f` and a file that holds them."""
        found = sorted({checked(form, value) for value in values})
        if len(found) <= _MOST_WORDS:
            return " ".join(found)
        text = "".join(f"{value}\n" for value in found)
        name = f"list-{hashlib.sha256(text.encode()).hexdigest()[:16]}.lst"
        self._files[name] = text
        return f"-f {name}"
