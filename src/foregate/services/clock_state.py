"""What the kernel says about its clock: adjtimex(2)."""

from __future__ import annotations

import ctypes

_TIME_ERROR = 5
# struct timex is 208 bytes on 64-bit Linux; modes 0 (its first member) only reads.
_TIMEX_BYTES = 256


def is_synchronised() -> bool:
    """Whether something disciplines the clock. False also where the kernel does not let itself be asked."""
    libc = ctypes.CDLL(None, use_errno=True)
    state: int = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return 0 <= state < _TIME_ERROR
