from __future__ import annotations

import pathlib
from xml.etree import ElementTree as etree

from devenv.cli import junit


def test_a_report_that_any_reader_takes(tmp_path: pathlib.Path) -> None:
    suite = junit.Suite("ci")
    suite.add("up", seconds=1.5, output="\x1b[32mgood\x1b[0m & <well>")
    suite.add("make", seconds=0.25, failure="exit code 2", output="a\0b\x08\ud800\n")
    suite.write(f"{tmp_path}/r.xml")
    root = etree.parse(tmp_path / "r.xml").getroot()
    assert root.attrib | {"time": ""} == {
        "name": "ci", "tests": "2", "failures": "1", "errors": "0", "skipped": "0", "time": ""
    }  # fmt: skip
    up, make = root
    assert up.findtext("system-out") == "good & <well>"
    failure = make.find("failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("exit code 2", "ab\n")
