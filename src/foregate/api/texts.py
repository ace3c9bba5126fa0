"""Texts that people read: names of things. One line, without control characters, 1 to 255 characters."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def _one_line(text: str) -> str:
    if not text.strip():
        raise ValueError("should hold more than blanks")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("should be one line without control characters")
    return text


DisplayName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_one_line)]
"""A name as its owner writes it: kept and shown as it is, in logs and tables too, so no line breaks."""
