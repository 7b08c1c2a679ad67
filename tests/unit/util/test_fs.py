from __future__ import annotations

import os
import pathlib

from devenv.util import fs


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: pathlib.Path) -> None:
    for name in ("state.json", "state.json.tmp.0a", "state.json.tmp.0b", "health.json.tmp.0a", "xstate.json.tmp.0a"):
        (tmp_path / name).touch()
    fs.remove_temporaries(str(tmp_path / "state.json"))
    assert sorted(os.listdir(tmp_path)) == ["health.json.tmp.0a", "state.json", "xstate.json.tmp.0a"]
    fs.remove_temporaries(str(tmp_path / "none" / "state.json"))
