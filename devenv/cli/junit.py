"""A report in the form that CI systems read: JUnit's XML, one suite."""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.etree import ElementTree as etree

from devenv.util import fs

# What XML 1.0 has no place for.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COLOUR = re.compile(r"\x1b\[[0-9;:]*[A-Za-z]")


class _Case(NamedTuple):
    name: str
    seconds: float
    failure: str
    output: str


class Suite:
    def __init__(self, name: str) -> None:
        self._name = name
        self._cases: list[_Case] = []

    def add(self, name: str, *, seconds: float, failure: str = "", output: str = "") -> None:
        """``failure`` says why it is one, in a few words."""
        self._cases.append(_Case(name, seconds, failure, output))

    def write(self, path: str) -> None:
        suite = etree.Element(
            "testsuite",
            name=self._name,
            tests=str(len(self._cases)),
            failures=str(sum(bool(case.failure) for case in self._cases)),
            errors="0",
            skipped="0",
            time=f"{sum(case.seconds for case in self._cases):.3f}",
        )
        for case in self._cases:
            element = etree.SubElement(
                suite, "testcase", classname=self._name, name=_clean(case.name), time=f"{case.seconds:.3f}"
            )
            if case.failure:
                etree.SubElement(element, "failure", message=case.failure).text = _clean(case.output)
            elif case.output:
                etree.SubElement(element, "system-out").text = _clean(case.output)
        fs.write_whole(path, etree.tostring(suite, encoding="utf-8", xml_declaration=True), mode=0o644)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("", _COLOUR.sub("", text))
