from __future__ import annotations

import os
import time
from pathlib import Path

from devenv.build import keeping


def test_what_nobody_used_goes(tmp_path: Path) -> None:
    for name in ("old", "used", "kept"):
        (tmp_path / name / "deep").mkdir(parents=True)
        os.utime(tmp_path / name, (1, 1))
    keeping.used(str(tmp_path / "used"))
    keeping.drop_unused(str(tmp_path), lambda name: name != "kept")
    assert sorted(os.listdir(tmp_path)) == ["kept", "used"]
    keeping.drop_unused(str(tmp_path), lambda name: name != "kept", now=time.time() + keeping.FORGOTTEN + 60)
    assert os.listdir(tmp_path) == ["kept"]
