"""crypt(3) with bcrypt, as registries know it from htpasswd(1). Python's own module is gone since 3.13."""

from __future__ import annotations

import ctypes
import secrets

COST = 10
_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2", None)  # glibc's old name, libxcrypt's, and musl, which has it in libc
_DIGITS = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# 128 bits are 21 digits and the upper two bits of another.
_LAST = ".Oeu"


def bcrypt(password: str) -> str | None:
    """As in a line of a htpasswd file; None where the C library can't."""
    salt = "".join(secrets.choice(_DIGITS) for _ in range(21)) + secrets.choice(_LAST)
    for name in _LIBRARIES:
        try:
            function = ctypes.CDLL(name).crypt
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_char_p
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        made: bytes | None = function(password.encode(), f"$2y${COST}${salt}".encode())
        if made is not None and made.startswith(b"$2y$"):
            return made.decode("ascii")
    return None
