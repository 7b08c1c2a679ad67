from __future__ import annotations

import os
import pathlib
import resource
import stat

import pytest

from devenv.image import layer, tar, unpack
from tests import ocilayout
from tests.ocilayout import file, folder, hardlink, link, node
from tests.unit.image import unpacking

ME = {"uid": os.geteuid(), "gid": os.getegid()}


def test_every_kind(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "r"
    long = "d/" + "n" * 150
    unpacking.apply(
        root,
        {
            "./": folder(0o711, mtime=1_500_000_000, **ME),
            "d/": folder(0o2750, mtime=1_400_000_000.5, **ME),
            "d/file": file("x" * 5000, mode=0o4755, mtime=1_300_000_000.123456789, **ME),
            "d/empty": file(**ME),
            "d/link": link("../elsewhere", mtime=1_200_000_000, **ME),
            "d/hard": hardlink("d/file"),
            "d/fifo": node("p", mode=0o600, **ME),
            long: file("long", **ME),
            "d/lang": link("t" * 200, **ME),
            "/absolute": file("inside", **ME),
            b"caf\xe9".decode("utf-8", "surrogateescape"): file("bytes", **ME),
        },
    )
    assert stat.S_IMODE(root.stat().st_mode) == 0o711
    assert root.stat().st_mtime == 1_500_000_000
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o2750
    assert (root / "d").stat().st_mtime_ns == 1_400_000_000_500_000_000
    made = (root / "d/file").stat()
    assert (stat.S_IMODE(made.st_mode), made.st_size, made.st_nlink) == (0o4755, 5000, 2)
    assert made.st_mtime_ns // 1000 == 1_300_000_000_123_456
    assert made.st_ino == (root / "d/hard").stat().st_ino
    assert (root / "d/link").lstat().st_mtime == 1_200_000_000
    assert os.readlink(root / "d/lang") == "t" * 200
    assert (root / long).read_text() == "long"
    assert (root / "absolute").read_text() == "inside"
    assert os.listdir(os.fsencode(root)).count(b"caf\xe9") == 1


@pytest.mark.parametrize("size", [1, 7, 512, 1 << 18])
def test_chunks_of_any_size(tmp_path: pathlib.Path, size: int) -> None:
    given = {"a": file("x" * 1500, **ME), "b" * 120: file("y", **ME), "c": folder(**ME)}
    unpacking.apply(tmp_path / "r", given, size=size)
    assert sorted(unpacking.listing(tmp_path / "r")) == ["a", "b" * 120, "c"]


def test_gnu_names_and_numbers(tmp_path: pathlib.Path) -> None:
    name, target = b"l/" + b"n" * 200, b"t" * 180
    data = (
        ocilayout.header(b"l/", b"5")
        + ocilayout.header(b"././@LongLink", b"L", size=len(name) + 1, magic=b"ustar  \0")
        + ocilayout.padded(name + b"\0")
        + ocilayout.header(name[:100], size=b"\x80" + (3).to_bytes(11, "big"), magic=b"ustar  \0")
        + ocilayout.padded(b"abc")
        + ocilayout.header(b"././@LongLink", b"K", size=len(target) + 1, magic=b"ustar  \0")
        + ocilayout.padded(target + b"\0")
        + ocilayout.header(b"link", b"2", link=target[:100], magic=b"ustar  \0", mtime=b"\xff" * 12)
        + b"\0" * 1024
    )
    unpacking.apply(tmp_path / "r", data)
    found = unpacking.listing(tmp_path / "r")
    assert found[name.decode()] == "abc"
    assert found["link"] == "-> " + target.decode()
    assert (tmp_path / "r/link").lstat().st_mtime == -1


def test_the_first_tars_had_no_folders_but_names(tmp_path: pathlib.Path) -> None:
    data = ocilayout.header(b"d/", b"\0", magic=b"") + ocilayout.header(b"d/f", b"\0", magic=b"") + b"\0" * 1024
    unpacking.apply(tmp_path / "r", data)
    assert unpacking.listing(tmp_path / "r") == {"d": "folder", "d/f": ""}


def test_the_end_may_be_missing_but_not_cut(tmp_path: pathlib.Path) -> None:
    whole = ocilayout.entry("a", file("x"))
    unpacking.apply(tmp_path / "r", whole)
    unpacking.apply(tmp_path / "s", whole + b"\0" * 512)
    unpacking.apply(tmp_path / "t", b"")
    assert unpacking.listing(tmp_path / "s") == {"a": "x"}


def test_implied_folders_look_as_below(tmp_path: pathlib.Path) -> None:
    base = {"a": folder(0o700, mtime=1_000_000_000, **ME), "a/b": folder(0o1777, mtime=1_100_000_000, **ME)}
    unpacking.apply(tmp_path / "1", base)
    unpacking.apply(tmp_path / "2", {"a/b/c/d": "x"}, tmp_path / "1")
    assert stat.S_IMODE((tmp_path / "2/a").stat().st_mode) == 0o700
    assert (tmp_path / "2/a").stat().st_mtime == 1_000_000_000
    assert stat.S_IMODE((tmp_path / "2/a/b").stat().st_mode) == 0o1777
    assert stat.S_IMODE((tmp_path / "2/a/b/c").stat().st_mode) == 0o755


def test_links_of_lower_layers_are_followed_inside(tmp_path: pathlib.Path) -> None:
    base = {"usr": folder(**ME), "usr/lib": folder(**ME), "lib": link("usr/lib"), "abs": link("/usr/../../../usr/lib")}
    unpacking.apply(tmp_path / "1", base)
    unpacking.apply(tmp_path / "2", {"lib/x": "1", "abs/y": "2"}, tmp_path / "1")
    assert unpacking.listing(tmp_path / "2") == {
        "usr": "folder",
        "usr/lib": "folder",
        "usr/lib/x": "1",
        "usr/lib/y": "2",
    }


def test_links_of_the_same_layer_too(tmp_path: pathlib.Path) -> None:
    given = {
        "a": folder(**ME),
        "to": link("a"),
        "to/x": "1",
        "up": link("../../../.."),
        "up/y": "2",
        "self": link("."),
        "self/z": "3",
    }
    unpacking.apply(tmp_path / "r", given)
    found = unpacking.listing(tmp_path / "r")
    assert {name: found[name] for name in ("a/x", "y", "z")} == {"a/x": "1", "y": "2", "z": "3"}


def test_a_hard_link_to_a_lower_file_brings_it_up(tmp_path: pathlib.Path) -> None:
    unpacking.apply(tmp_path / "1", {"d": folder(0o700, **ME), "d/f": file("x", mode=0o640, mtime=1_000_000_000, **ME)})
    unpacking.apply(tmp_path / "2", {"e": hardlink("d/f")}, tmp_path / "1")
    made = (tmp_path / "2/e").stat()
    assert made.st_ino == (tmp_path / "2/d/f").stat().st_ino
    assert (stat.S_IMODE(made.st_mode), made.st_mtime) == (0o640, 1_000_000_000)


def test_attributes(tmp_path: pathlib.Path) -> None:
    kept = {"user.a": b"b\0c\n=", "user.empty": b"x"}
    dropped = {"user.overlay.opaque": b"y", "trusted.overlay.redirect": b"/etc", "security.selinux": b"x"}
    unpacking.apply(tmp_path / "r", {"f": file("x", xattrs={**kept, **dropped}, **ME), "d": folder(xattrs=kept, **ME)})
    for name in ("f", "d"):
        found = {key: os.getxattr(tmp_path / "r" / name, key) for key in os.listxattr(tmp_path / "r" / name)}
        assert {key: value for key, value in found.items() if not key.startswith("security.")} == kept


def test_later_entries_win(tmp_path: pathlib.Path) -> None:
    unpacking.apply(
        tmp_path / "r",
        {
            "1": file("old", **ME), "./1": file("new", **ME),
            "2": folder(**ME), "2/in": "x", "./2": file("file", **ME),
            "3": file("file", **ME), "./3": folder(**ME), "3/in": "x",
            "4": link("/etc"), "./4": file("not in /etc", **ME),
            "5": link("1"), "./5": folder(**ME), "5/in": "x",
            "6": node("p", **ME), "./6": file("no wait", **ME),
            "7": folder(**ME), "7/kept": "x", "./7": folder(0o700, **ME),
            "8": file("shared", **ME), "8b": hardlink("8"), "./8": file("alone", **ME),
        },
    )  # fmt: skip
    assert unpacking.listing(tmp_path / "r") == {
        "1": "new", "2": "file", "3": "folder", "3/in": "x", "4": "not in /etc", "5": "folder", "5/in": "x",
        "6": "no wait", "7": "folder", "7/kept": "x", "8": "alone", "8b": "shared",
    }  # fmt: skip


BASE = {
    "f": "f", "g": "g", "d": folder(0o755, **ME), "d/x": "x", "d/y": "y", "d/e": folder(0o755, **ME), "d/e/z": "z",
}  # fmt: skip


@pytest.mark.parametrize(
    ("upper", "expected"),
    [
        ({"f": None}, {"f": "whiteout"}),
        ({"d": None}, {"d": "whiteout"}),
        ({"d/x": None}, {"d": "folder", "d/x": "whiteout"}),
        ({"nothing": None}, {}),
        ({"d/.wh..wh..opq": file()}, {"d": "opaque"}),
        ({"d/.wh..wh..opq": file(), "d/n": "n"}, {"d": "opaque", "d/n": "n"}),
        ({"d/n": "n", "d/.wh..wh..opq": file()}, {"d": "opaque", "d/n": "n"}),
        # A whiteout hides what is below, not what the layer brings, in either order.
        ({"f": "new", ".wh.f": file()}, {"f": "new"}),
        ({".wh.f": file(), "f": "new"}, {"f": "new"}),
        ({".wh.d": file(), "d": folder(**ME), "d/n": "n"}, {"d": "opaque", "d/n": "n"}),
        ({"d": folder(**ME), "d/n": "n", ".wh.d": file()}, {"d": "opaque", "d/n": "n"}),
        ({".wh.d": file(), "d/n": "n"}, {"d": "opaque", "d/n": "n"}),
        # Nothing merges into an opaque folder, so whiteouts in it would be seen.
        ({"d/x": None, "d/e/z": None, "d/.wh..wh..opq": file()}, {"d": "opaque", "d/e": "folder"}),
        # aufs's own files
        ({".wh..wh.plnk": folder(), ".wh..wh.plnk/1.2": "x", ".wh..wh.aufs": file(), "f": None}, {"f": "whiteout"}),
    ],
)
def test_whiteouts(tmp_path: pathlib.Path, upper: ocilayout.Layer, expected: dict[str, str]) -> None:
    unpacking.apply(tmp_path / "1", BASE)
    unpacking.apply(tmp_path / "2", upper, tmp_path / "1")
    assert unpacking.listing(tmp_path / "2") == expected


def test_whiteouts_see_through_layers(tmp_path: pathlib.Path) -> None:
    unpacking.apply(tmp_path / "1", BASE)
    unpacking.apply(tmp_path / "2", {"d": None, "g": "g2"}, tmp_path / "1")
    layers = (tmp_path / "2", tmp_path / "1")
    # d is gone already; g is hidden whichever layer has it; a new d shows nothing of the old one.
    unpacking.apply(tmp_path / "3", {"d": None, "g": None}, *layers)
    assert unpacking.listing(tmp_path / "3") == {"g": "whiteout"}
    unpacking.apply(tmp_path / "4", {"d/n": "n", "d/x": None}, *layers)
    assert unpacking.listing(tmp_path / "4") == {"d": "folder", "d/n": "n"}


def test_an_opaque_root_hides_all(tmp_path: pathlib.Path) -> None:
    unpacking.apply(tmp_path / "1", BASE)
    made = unpacking.apply(tmp_path / "2", {".wh..wh..opq": file(), "n": "n", "f": None}, tmp_path / "1")
    assert made.hides_all
    assert unpacking.listing(tmp_path / "2") == {"n": "n"}


def test_limits(tmp_path: pathlib.Path) -> None:
    with pytest.raises(unpack.UnpackError, match="more than 10 entries"):
        unpacking.apply(tmp_path / "r", {str(n): "" for n in range(20)}, limits=layer.Limits(entries=10))


def test_twenty_thousand_files_and_deep_folders(tmp_path: pathlib.Path) -> None:
    deep = "/".join("d" * 3 for _ in range(900))
    given = {f"{number % 300}/{number}": "x" for number in range(5000)}
    unpacking.apply(tmp_path / "r", {**given, deep: "deep"})
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "r")) == 5001


def test_more_folders_than_may_be_open_at_once(tmp_path: pathlib.Path) -> None:
    given: ocilayout.Layer = {f"top/{number % 50}/{number}/file": "x" for number in range(1500)}
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
    try:
        unpacking.apply(tmp_path / "a", given)
        unpacking.apply(tmp_path / "b", {f"top/{number}/.wh..wh..opq": "" for number in range(50)}, tmp_path / "a")
        hidden = {name.replace("/file", "/.wh.file"): "" for name in given}
        unpacking.apply(tmp_path / "c", hidden | {"top/.wh..wh..opq": ""}, tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(unpacking.listing(tmp_path / "a")) == 1500 * 2 + 51
    assert sum(shown == "opaque" for shown in unpacking.listing(tmp_path / "b").values()) == 50


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_modes_are_those_of_the_entries_whatever_the_umask(tmp_path: pathlib.Path, umask: int) -> None:
    modes = [0o644, 0o644, 0o600, 0o777, 0o777, 0, 0, 0o4755, 0o4755, 0o2755, 0o1644, 0o444]
    before = os.umask(umask)
    try:
        unpacking.apply(tmp_path / "r", {f"{n}": file("x", mode=mode, **ME) for n, mode in enumerate(modes)})
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / f"r/{n}").stat().st_mode) for n in range(len(modes))] == modes


def test_modes_where_a_folder_passes_its_acl_on(tmp_path: pathlib.Path) -> None:
    # Version 2: u::rwx, g::r-x, o::---; acl(5) as the kernel keeps it.
    acl = b"\x02\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + b"\xff" * 4 for tag, perm in ((1, 7), (4, 5), (32, 0))
    )
    before = os.umask(0)
    try:
        made = unpacking.apply(
            tmp_path / "r",
            {
                "a": file(mode=0o666, **ME),
                "d": folder(xattrs={"system.posix_acl_default": acl}, **ME),
                "d/a": file(mode=0o666, **ME),
                "d/b": file(mode=0o666, **ME),
            },
        )
    finally:
        os.umask(before)
    if made.notes:
        pytest.skip(f"no ACLs here: {dict(made.notes)}")
    for name in ("a", "d/a", "d/b"):
        assert stat.S_IMODE((tmp_path / "r" / name).stat().st_mode) == 0o666


def test_what_headers_have_in_common_is_not_taken_for_more(tmp_path: pathlib.Path) -> None:
    unpacking.apply(
        tmp_path / "r",
        {
            "d/a": file("1", mode=0o640, mtime=1000, **ME),
            "d/b": file("2", mode=0o600, mtime=1000, **ME),
            "d/c": file("3", mode=0o600, mtime=2000.5, **ME),
            "d/e": file("4", mode=0o600, mtime=1000, **ME),
            "d/l": link("a", **ME),
            "d/m": link("b", **ME),
            "e/l": link("b", **ME),
            "e/a": file("5", **ME),
            "d/./f": file("6", **ME),
        },
    )
    assert unpacking.listing(tmp_path / "r") == {
        "d": "folder", "d/a": "1", "d/b": "2", "d/c": "3", "d/e": "4", "d/f": "6", "d/l": "-> a", "d/m": "-> b",
        "e": "folder", "e/a": "5", "e/l": "-> b",
    }  # fmt: skip
    found = [(tmp_path / "r/d" / name).stat() for name in "abce"]
    assert [stat.S_IMODE(each.st_mode) for each in found] == [0o640, 0o600, 0o600, 0o600]
    assert [each.st_mtime for each in found] == [1000, 1000, 2000.5, 1000]


@pytest.mark.parametrize("name", ["d/../f", "d/..", "d/.wh..", "d/.wh..wh.x/f"])
def test_a_name_in_a_folder_that_is_open_is_checked_like_any(tmp_path: pathlib.Path, name: str) -> None:
    given = {"d": folder(**ME), "d/a": file(**ME), name: file("x", **ME)}
    if ".wh..wh." in name:
        unpacking.apply(tmp_path / "r", given)
        assert unpacking.listing(tmp_path / "r") == {"d": "folder", "d/a": ""}
        return
    with pytest.raises(unpack.UnpackError):
        unpacking.apply(tmp_path / "r", given)


@pytest.mark.parametrize("offset", [0, 100, 108, 116, 124, 136, 148, 156, 157, 257, 265, 329, 345])
def test_a_broken_header_is_found_after_a_good_one_of_the_kind(offset: int) -> None:
    good = ocilayout.header(b"a")
    bad = bytearray(ocilayout.header(b"b"))
    bad[offset] ^= 1
    reader = iter(tar.Reader(tar.Source(iter([good + bytes(bad)]))))
    assert next(reader).name == b"a"
    with pytest.raises(tar.TarError):
        next(reader)
