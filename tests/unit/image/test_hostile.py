"""Archives that mean harm: each is refused, or stays inside; what lies outside never changes."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import pytest

from devenv.image import tar, unpack
from tests import ocilayout
from tests.ocilayout import entry, file, folder, hardlink, header, link, node, padded, pax_header
from tests.unit.image import unpacking

END = b"\0" * 1024
OWN = {"uid": os.geteuid(), "gid": os.getegid()}


def pax(records: dict[str, bytes], name: str = "f", content: str = "x") -> bytes:
    return pax_header(records) + entry(name, file(content)) + END


def raw(**fields: object) -> bytes:
    return header(b"f", **fields) + END  # type: ignore[arg-type]


# What is refused, by what the error says.
REFUSED: dict[str, tuple[ocilayout.Layer, str]] = {
    "up": ({"../canary/f": "x"}, "leads out"),
    "up inside": ({"a/../../canary/f": "x"}, "leads out"),
    "up to itself": ({"a/..": folder()}, "leads out"),
    "only up": ({"..": folder()}, "leads out"),
    "absolute up": ({"/../canary/f": "x"}, "leads out"),
    "sibling prefix": ({"../root-evil/f": "x"}, "leads out"),
    "pax path": (pax({"path": b"../canary/f"}), "leads out"),
    "pax path nul": (pax({"path": b"a\0b"}), "NUL"),
    "long path": (pax({"path": b"a/" * 3000}), "a path of"),
    "long link": (pax({"linkpath": b"a" * 5000}), "a path of"),
    "folder with content": (header(b"d/", size=5) + padded(b"x" * 5) + END, "a folder with content"),
    "attribute too large": (pax({"SCHILY.xattr.user.a": b"x" * 70_000}), "Argument list too long|No space left"),
    "long component": ({"n" * 300: "x"}, "too long"),
    "root as link": ({".": link("../canary")}, "the root of a layer"),
    "root as file": ({".": file("x"), "f": "x"}, "the root of a layer"),
    "empty link": ({"l": link("")}, "No such file"),
    "link loop": ({"a": link("b"), "b": link("a"), "a/f": "x"}, "too many symbolic links"),
    "link to itself": ({"a": link("a"), "a/f": "x"}, "too many symbolic links"),
    "through a file": ({"a": "x", "a/b": "y"}, "no folder"),
    "through a fifo": ({"a": node("p", **OWN), "a/b": "y"}, "no folder"),
    "link to a file": ({"a": "x", "l": link("a"), "l/b": "y"}, "no folder"),
    "hard link up": ({"h": hardlink("../canary/secret")}, "leads out"),
    "hard link absolute": ({"h": hardlink("/etc/hostname")}, "isn't there"),
    "hard link missing": ({"h": hardlink("nothing")}, "isn't there"),
    "hard link to itself": ({"f": "x", "./f": hardlink("f")}, "to itself"),
    "hard link to a folder": ({"d": folder(), "h": hardlink("d")}, "to a folder"),
    "hard link to the root": ({"h": hardlink(".")}, "to a folder"),
    "whiteout of nothing": ({".wh.": file()}, "whiteout of nothing"),
    "whiteout of .": ({".wh..": file()}, "whiteout of nothing"),
    "whiteout of ..": ({".wh...": file()}, "whiteout of nothing"),
    "whiteout deep of ..": ({"d": folder(), "d/.wh...": file()}, "whiteout of nothing"),
    "whiteout folder": ({".wh.d": folder()}, "whiteout of nothing"),
    "in a whiteout": ({".wh.d/f": "x"}, "in a whiteout"),
    "whiteout up": ({"../.wh.canary": file()}, "leads out"),
    "opaque up": ({"../canary/.wh..wh..opq": file()}, "leads out"),
    "negative size": (raw(size=b"-1"), "malformed size"),
    "negative size, base 256": (raw(size=b"\xff" * 12), "size -1 is out of range"),
    "8 EiB": (raw(size=b"\x80\0\0\0" + b"\xff" * 8), "out of range"),
    "size lies": (header(b"f", size=5000) + b"x" * 512, "in the middle of a file"),
    "pax size": (pax({"size": b"-5"}), "malformed size"),
    "pax size huge": (pax({"size": b"9" * 19}), "out of range"),
    "pax size long": (pax({"size": b"9" * 100}), "malformed size"),
    "uid negative": (raw(uid=b"\xff" * 8), "user id -1"),
    "uid overflow": (pax({"uid": b"4294967296"}), "user id 4294967296"),
    "uid is leave it": (pax({"uid": b"4294967295"}), "user id 4294967295"),
    "gid overflow": (raw(gid=b"\x80" + b"\xff" * 7), "group id"),
    "mtime nan": (pax({"mtime": b"nan"}), "malformed mtime"),
    "mtime inf": (pax({"mtime": b"inf"}), "malformed mtime"),
    "mtime exponent": (pax({"mtime": b"1e300"}), "malformed mtime"),
    "octal sign": (raw(size=b"+7"), "malformed size"),
    "octal underscore": (raw(size=b"1_0"), "malformed size"),
    "octal nine": (raw(mode=b"0009"), "malformed mode"),
    "bad checksum": (header(b"f", checksum=b"000001\0 ") + END, "wrong checksum"),
    "not tar": (b"x" * 2048, "malformed|checksum"),
    "cut header": (header(b"f")[:300], "middle of a header"),
    "cut content": (header(b"f", size=10) + b"abc", "middle of a file"),
    "cut padding": (header(b"f", size=10) + b"x" * 100, "middle of a file"),
    "cut pax": (pax_header({"path": b"f"})[:600], "middle of an extended header|middle of a file"),
    "nothing after pax": (pax_header({"path": b"f"}), "middle of a header"),
    "end after pax": (pax_header({"path": b"f"}) + END, "after an extended header"),
    "trailing data": (entry("f", file()) + END + entry("g", file()) + END, "behind its end"),
    "second archive": (entry("f", file()) + b"\0" * 512 + entry("g", file()), "behind its end"),
    "long name bomb": (header(b"L", b"L", size=b"\x80" + (1 << 40).to_bytes(11, "big")), "an extended header of"),
    "pax bomb": (header(b"x", b"x", size=2 << 20) + b"\0" * (2 << 20), "an extended header of"),
    "pax length zero": (header(b"x", b"x", size=8) + padded(b"0 a=b\n"), "malformed PAX"),
    "pax length lies": (header(b"x", b"x", size=8) + padded(b"99 a=b\n"), "malformed PAX"),
    "pax length huge": (header(b"x", b"x", size=30) + padded(b"9" * 30), "malformed PAX"),
    "pax no key": (header(b"x", b"x", size=5) + padded(b"5 =b\n"), "malformed PAX"),
    "pax no newline": (header(b"x", b"x", size=6) + padded(b"6 a=bc"), "malformed PAX"),
    "xattr name": (pax({"SCHILY.xattr.user.a\0b": b"x"}), "malformed PAX"),
    "sparse": (header(b"f", b"S") + END, "a sparse file"),
    "pax sparse": (pax({"GNU.sparse.major": b"1"}), "a sparse file"),
    "multi-volume": (header(b"f", b"M") + END, "multi-volume"),
    "unknown type": (header(b"f", b"Z") + END, "unknown type"),
    "device number": (header(b"f", b"3", major=0o7777777) + END, "out of range"),
}  # fmt: skip


@pytest.fixture
def canary(tmp_path: pathlib.Path) -> Callable[[], dict[str, str]]:
    outside = tmp_path / "canary"
    outside.mkdir(0o755)
    (outside / "secret").write_text("secret")
    os.chmod(outside / "secret", 0o640)

    def picture() -> dict[str, str]:
        return {
            **unpacking.listing(outside),
            "mode": oct((outside / "secret").stat().st_mode),
            "links": str((outside / "secret").stat().st_nlink),
            "beside": str(sorted(set(os.listdir(tmp_path)) - {"r", "1"})),
        }

    return picture


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: pathlib.Path, canary: Callable[[], dict[str, str]], name: str) -> None:
    given, message = REFUSED[name]
    before = canary()
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises((tar.TarError, unpack.UnpackError), match=message):
        unpacking.apply(tmp_path / "r", given)
    assert canary() == before
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)


# What looks like an escape and stays inside: links are resolved in the layer, as in the container that will run.
INSIDE: dict[str, tuple[ocilayout.Layer, dict[str, str]]] = {
    "absolute name": ({"/canary/f": "x"}, {"canary/f": "x"}),
    "absolute link": ({"l": link("/canary"), "l/f": "x"}, {"canary/f": "x"}),
    "link up": ({"l": link("../../../canary"), "l/f": "x"}, {"canary/f": "x"}),
    "link chain": ({"a": link("b"), "b": link("c"), "c": link("../canary"), "a/f": "x"}, {"canary/f": "x"}),
    "link by proc": ({"l": link("/proc/self/root/canary"), "l/f": "x"}, {"proc/self/root/canary/f": "x"}),
    "link by cwd": ({"l": link("/proc/self/cwd"), "l/f": "x"}, {"proc/self/cwd/f": "x"}),
    "link replaced": ({"l": link("../canary"), "./l": folder(**OWN), "l/f": "x"}, {"l/f": "x"}),
    "file over link": ({"l": link("../canary/secret"), "./l": "x"}, {"l": "x"}),
    "hard link to link": ({"l": link("../canary/secret"), "h": hardlink("l"), "./h": "x"}, {"h": "x"}),
    "hard link absolute": ({"f": "x", "h": hardlink("/f")}, {"h": "x"}),
    "hard link changes mode": (
        {"l": link("../canary/secret"), "h": hardlink("l")._replace(mode=0o777)},
        {"h": "-> ../canary/secret"},
    ),
    "hard link through link": (
        {"c": link("../canary"), "canary": folder(**OWN), "canary/secret": "mine", "h": hardlink("c/secret")},
        {"h": "mine"},
    ),
    "whiteout through link": ({"l": link("../canary"), "canary": folder(**OWN), "l/.wh.secret": file()}, {}),
    "opaque through link": (
        {"l": link("../canary"), "canary": folder(**OWN), "l/.wh..wh..opq": file()},
        {"canary": "opaque"},
    ),
    "global path": (pax_header({"path": b"../canary/f"}, kind=b"g") + entry("f", file("x")) + END, {"f": "x"}),
    "fifo, then written": ({"p": node("p", **OWN), "./p": "x"}, {"p": "x"}),
    "mtime huge": (pax({"mtime": b"9" * 19}), {"f": "x"}),
    "mtime before time": (pax({"mtime": b"-99999999999.5"}), {"f": "x"}),
    "overlay attributes": (pax({"SCHILY.xattr.trusted.overlay.redirect": b"/canary"}), {"f": "x"}),
    "odd names": ({"a\nb": "x", "-rf": "y", "*": "z", "\x1b[2J": "e"}, {"a\nb": "x", "-rf": "y"}),
}


@pytest.mark.parametrize("name", INSIDE)
def test_stays_inside(tmp_path: pathlib.Path, canary: Callable[[], dict[str, str]], name: str) -> None:
    given, expected = INSIDE[name]
    before = canary()
    unpacking.apply(tmp_path / "r", given)
    found = unpacking.listing(tmp_path / "r")
    assert {path: found.get(path) for path in expected} == expected
    assert canary() == before


def test_a_name_with_an_escape_is_shown_harmlessly(tmp_path: pathlib.Path) -> None:
    with pytest.raises(unpack.UnpackError) as caught:
        unpacking.apply(tmp_path / "r", {"\x1b[2J/../x": "x"})
    assert "\x1b" not in str(caught.value)


def test_a_character_device_zero_is_a_whiteout_and_said(tmp_path: pathlib.Path) -> None:
    unpacking.apply(tmp_path / "1", {"f": "x"})
    made = unpacking.apply(tmp_path / "r", {"f": node("c"), "g": node("c")}, tmp_path / "1")
    assert unpacking.listing(tmp_path / "r") == {"f": "whiteout"}
    assert sum(made.notes.values()) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="needs an ordinary user")
def test_owners_that_are_not_ours(tmp_path: pathlib.Path) -> None:
    made = unpacking.apply(tmp_path / "r", {"f": file("x", mode=0o4755)})
    assert (tmp_path / "r/f").stat().st_mode & 0o7777 == 0o755
    assert made.notes
