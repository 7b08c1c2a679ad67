from __future__ import annotations

import os
import pathlib
import re

import pytest

from devenv.runtime import logs, logwriter

STAMP = b"2026-11-24T02:12:20.123456789Z"
LIMIT = logwriter.RECORD_LIMIT


@pytest.fixture
def place(tmp_path: pathlib.Path):
    os.mkfifo(tmp_path / "stdout")
    ends = os.open(tmp_path / "stdout", os.O_RDWR), os.open(tmp_path / "stdout", os.O_RDONLY | os.O_NONBLOCK)
    yield Place(tmp_path, *ends)
    for end in ends:
        os.close(end)


class Place:
    def __init__(self, folder: pathlib.Path, sink: int, source: int) -> None:
        self.folder, self.sink, self.source = folder, sink, source
        self.writers: list[logwriter.Writer] = []

    def writer(self, **limits: int) -> logwriter.Writer:
        return logwriter.Writer(f"{self.folder}/logs", f"{self.folder}/journal", logwriter.Limits(**limits))

    def log(self, name: str = "container.log") -> bytes:
        return (self.folder / "logs" / name).read_bytes()

    def lines(self) -> list[bytes]:
        return [line.data for line in logs.read(str(self.folder))]

    def total(self) -> list[bytes]:
        return self.lines()


def payload(text: bytes, stream: bytes = b"stdout") -> bytes:
    """What went in, from records alone: F ends a line."""
    found = b""
    for record in text.splitlines(keepends=True):
        assert re.match(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] ", record), record
        if record[31:37] == stream:
            found += record[40:] if record[38:39] == b"F" else record[40:-1]
    return found


@pytest.mark.parametrize(
    "data",
    [
        b"one\n",
        b"one\ntwo\n",
        b"\n\n\n",
        b"no end",
        b"one\nno end",
        b"\0\xff\x1b[0m\r\n",
        b"x" * LIMIT + b"\n",
        b"x" * (LIMIT + 1) + b"\n",
        b"x" * (3 * LIMIT) + b"\n" + b"y" * (2 * LIMIT),
        b"short\n" + b"x" * (LIMIT * 2 + 5) + b"\nshort\n",
        (b"a" * 99 + b"\n") * 1000,
        b"\n" * 40_000,
    ],
)
def test_records_keep_every_byte_and_the_limit(data: bytes) -> None:
    text = logwriter.records(STAMP, b"stdout", data)
    assert payload(text) == data
    assert text.endswith(b"\n")
    assert max(len(record) - 40 for record in text.split(b"\n")) <= LIMIT


def test_record_form() -> None:
    assert logwriter.records(STAMP, b"stderr", b"a b\nc") == STAMP + b" stderr F a b\n" + STAMP + b" stderr P c\n"


def test_pump_moves_until_empty_and_tells_the_end(place: Place) -> None:
    writer = place.writer()
    os.write(place.sink, b"one\ntwo")
    assert writer.pump(place.source, b"stdout") == b"one\ntwo"
    assert writer.pump(place.source, b"stdout") is None
    os.write(place.sink, b" and more\n")
    writer.pump(place.source, b"stdout")
    assert place.lines() == [b"one", b"two and more"]
    writer.close()


def test_unended_line_is_not_joined_to_the_next_run(place: Place) -> None:
    writer = place.writer()
    writer.write(b"stdout", b"no end")
    writer.end_line(b"stdout")
    writer.end_line(b"stdout")
    writer.close()
    writer = place.writer()
    writer.write(b"stdout", b"next\n")
    writer.close()
    assert place.lines() == [b"no end", b"next"]


def test_unended_line_of_a_killed_writer_is_found_again(place: Place) -> None:
    place.writer().write(b"stdout", b"before ")  # never closed: killed
    writer = place.writer()
    writer.write(b"stdout", b"after\n")
    writer.end_line(b"stdout")
    assert place.lines() == [b"before after"]


@pytest.mark.parametrize("files", [1, 2, 3])
def test_rotation_bounds_the_disk_and_keeps_the_newest(place: Place, files: int) -> None:
    writer = place.writer(max_size=2000, max_files=files)
    numbers = [b"%06d" % number for number in range(500)]
    for at in range(0, 500, 50):
        writer.write(b"stdout", b"\n".join(numbers[at : at + 50]) + b"\n")
    names = sorted(os.listdir(place.folder / "logs"))
    assert names == ["container.log", "container.log.1", "container.log.2"][:files]
    assert all(len(place.log(name)) <= 2000 for name in names)
    kept = place.lines()
    assert kept == numbers[-len(kept) :]
    assert len(kept) > 30 * files
    writer.close()


def test_record_larger_than_a_file(place: Place) -> None:
    writer = place.writer(max_size=100, max_files=2)
    writer.write(b"stdout", b"x" * 300 + b"\n" + b"y" * 10 + b"\n")
    assert place.lines() == [b"x" * 300, b"y" * 10]
    writer.close()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("max_size", [10_000_000, 700])
@pytest.mark.parametrize("step", range(1, 40))
def test_killed_before_any_system_call(place: Place, monkeypatch: pytest.MonkeyPatch, step: int, max_size: int) -> None:
    """Dies before its n-th system call that changes something; the next one goes on; nothing is lost or doubled."""
    writer = place.writer(max_size=max_size, max_files=100)
    left = [step]

    def counted(call):
        def wrapper(*args, **keywords):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return call(*args, **keywords)

        return wrapper

    names = ("pwrite", "splice", "ftruncate", "rename", "open", "unlink")
    lines = [b"line %d" % number for number in range(60)]
    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(os, name, counted(getattr(os, name)))
        # os.ftruncate in an exception handler would not run in a process that is dead.
        patch.setattr(logwriter.Writer, "_append", _append_plainly)
        real_write = os.write
        try:
            for at in (0, 20, 40):
                real_write(place.sink, b"\n".join(lines[at : at + 20]) + b"\n")
                writer.pump(place.source, b"stdout")
        except Killed:
            pass
    done = 60 if left[0] > 0 else None
    writer = place.writer(max_size=max_size, max_files=100)
    while writer.pump(place.source, b"stdout"):
        pass
    found = place.lines()
    assert found == lines[: len(found)]
    assert len(found) in ({20, 40, 60} if done is None else {60})
    assert payload(b"".join(place.log(name) for name in reversed_names(place))).count(b"\n") == len(found)
    writer.close()


def reversed_names(place: Place) -> list[str]:
    return sorted(os.listdir(place.folder / "logs"), key=lambda name: -int(name[14:] or 0))


def _append_plainly(self: logwriter.Writer, text: bytes) -> None:
    """In two writes, so that a kill may come between them."""
    half = len(text) // 2
    os.pwrite(self._log, text[:half], self._size)
    os.pwrite(self._log, text[half:], self._size + half)
    self._size += len(text)


def test_full_disk_costs_records_and_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = place.writer()
    writer.write(b"stdout", b"before\n")
    log, real = writer._log, os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if descriptor != log:
            return real(descriptor, data, offset)
        if len(data) < 10:
            raise OSError(28, "No space left on device")
        return real(descriptor, bytes(data)[: len(data) - 9], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        for _ in range(10):
            os.write(place.sink, b"lost\n")
            assert writer.pump(place.source, b"stdout") == b"lost\n"
    assert place.log().count(b"\n") == 1
    writer.write(b"stdout", b"after\n")
    first, gap, last = place.lines()
    assert (first, last) == (b"before", b"after")
    assert b"50 bytes of output are missing" in gap
    writer.close()


def test_driver_none_keeps_nothing_but_drains(place: Place) -> None:
    limits = logwriter.Limits.from_logging({"driver": "none"})
    writer = logwriter.Writer(f"{place.folder}/logs", f"{place.folder}/journal", limits)
    os.write(place.sink, b"x\n")
    assert writer.pump(place.source, b"stdout") == b"x\n"
    assert os.listdir(place.folder / "logs") == []
    writer.close()


@pytest.mark.parametrize(
    ("logging", "size", "files"),
    [
        ({}, 10 << 20, 3),
        (None, 10 << 20, 3),
        ({"max-size": "1k", "max-file": "5"}, 1024, 5),
        ({"driver": "json-file", "options": {"max-size": "2MB"}}, 2 << 20, 3),
        ({"max-size": "-1", "max-file": "0"}, 10 << 20, 1),
        ({"max-size": "huge", "max-file": "many"}, 10 << 20, 3),
        ({"max-size": 4096, "max-file": 2}, 4096, 2),
    ],
)
def test_limits(logging: object, size: int, files: int) -> None:
    limits = logwriter.Limits.from_logging(logging)
    assert (limits.max_size, max(1, limits.max_files)) == (size, files) or files == 1
