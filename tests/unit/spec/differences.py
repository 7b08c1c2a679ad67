"""Where `devenv config --format json` means to differ from docker compose on a case of the corpus, and why.

By case: the path of the value, and the reason. None so far: all cases are equal.
"""

from __future__ import annotations

DIFFERENCES: dict[str, dict[str, str]] = {}
