from __future__ import annotations

import json
import os
import pathlib
import threading

import pytest

from devenv.runtime import logs, logwriter

BASE = 1_700_000_000.0


def record(second: float, text: str, stream: str = "stdout", flag: str = "F") -> bytes:
    return f"{logs.stamp(BASE + second)} {stream} {flag} {text}\n".encode()


class Box:
    """A container's folder, written by hand."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        (folder / "logs").mkdir(parents=True)

    def put(self, *records: bytes, name: str = "container.log") -> None:
        with open(self.folder / "logs" / name, "ab") as file:
            file.write(b"".join(records))

    def rotate(self) -> None:
        logfile = self.folder / "logs" / "container.log"
        for number in (2, 1):
            older = self.folder / "logs" / f"container.log.{number}"
            if older.exists():
                older.rename(self.folder / "logs" / f"container.log.{number + 1}")
        logfile.rename(self.folder / "logs" / "container.log.1")

    def state(self, status: str) -> None:
        (self.folder / "state.new").write_text(json.dumps({"status": status, "pid": os.getpid(), "start_time": 0}))
        (self.folder / "state.new").rename(self.folder / "state.json")

    def read(self, **wanted: float) -> list[str]:
        return [line.data.decode() for line in logs.read(str(self.folder), **wanted)]  # type: ignore[arg-type]


@pytest.fixture
def box(tmp_path: pathlib.Path) -> Box:
    return Box(tmp_path / "one")


def test_line(box: Box) -> None:
    box.put(record(0.5, "a b  c", "stderr"))
    (line,) = logs.read(str(box.folder))
    assert line == (logs.stamp(BASE + 0.5), "stderr", b"a b  c", False)
    assert logs.epoch(line.time) == pytest.approx(BASE + 0.5, abs=1e-6)


def test_nothing_there(tmp_path: pathlib.Path, box: Box) -> None:
    assert list(logs.read(str(tmp_path / "none"))) == []
    assert box.read() == []
    assert box.read(tail=3) == []


def test_fragments_are_joined_by_stream(box: Box) -> None:
    box.put(record(1, "one ", flag="P"), record(2, "x", "stderr"), record(3, "two ", flag="P"), record(4, "three"))
    assert box.read() == ["x", "one two three"]
    box.put(record(5, "unended", flag="P"))
    assert [(line.data, line.partial) for line in logs.read(str(box.folder))][-1] == (b"unended", True)


def test_endless_line_comes_in_pieces(box: Box) -> None:
    for _ in range(80):
        box.put(record(1, "x" * logwriter.RECORD_LIMIT, flag="P"))
    box.put(record(1, "end"))
    found = list(logs.read(str(box.folder)))
    assert [line.partial for line in found] == [True, False]
    assert sum(len(line.data) for line in found) == 80 * logwriter.RECORD_LIMIT + 3


def test_damage_costs_only_itself(box: Box) -> None:
    box.put(record(1, "one"), b"rubbish\n\n\0\0\0\n", record(2, "two"), b"2026-11-24T02:1")
    assert box.read() == ["one", "two"]


def test_since_and_until(box: Box) -> None:
    for name, start in (("container.log.2", 0), ("container.log.1", 10), ("container.log", 20)):
        box.put(*[record(start + step, str(start + step)) for step in range(10)], name=name)
    assert box.read(since=BASE + 18) == [str(number) for number in range(18, 30)]
    assert box.read(until=BASE + 1) == ["0", "1"]
    assert box.read(since=BASE + 9, until=BASE + 10) == ["9", "10"]
    assert box.read(since=BASE + 99) == []


def test_since_in_a_large_file(box: Box) -> None:
    box.put(*[record(number / 100, f"{number:0100d}") for number in range(10_000)])
    assert [int(text) for text in box.read(since=BASE + 50)] == list(range(5000, 10_000))
    assert [int(text) for text in box.read(since=BASE - 5)] == list(range(10_000))


@pytest.mark.parametrize("tail", [0, 1, 5, 10, 11, 25, 30, 99])
def test_tail_over_rotated_files(box: Box, tail: int) -> None:
    for name, start in (("container.log.2", 0), ("container.log.1", 10), ("container.log", 20)):
        box.put(*[record(start + step, str(start + step)) for step in range(10)], name=name)
    assert box.read(tail=tail) == [str(number) for number in range(30)][30 - min(30, tail) :]


def test_tail_counts_lines_not_records(box: Box) -> None:
    box.put(record(1, "zero"))
    for _ in range(9):
        box.put(record(2, "x" * 16384, flag="P"))
    box.put(record(3, "end"), record(4, "last"))
    assert [len(text) for text in box.read(tail=2)] == [9 * 16384 + 3, 4]
    assert box.read(tail=3)[0] == "zero"


def test_tail_within_times(box: Box) -> None:
    box.put(*[record(number, str(number)) for number in range(100)])
    assert box.read(tail=2, until=BASE + 50) == ["49", "50"]
    assert box.read(tail=50, since=BASE + 97) == ["97", "98", "99"]


def test_tail_reads_only_the_end(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.put(*[record(1, f"{number:0100d}") for number in range(50_000)])
    total = [0]
    real = os.pread

    def counted(descriptor: int, count: int, offset: int) -> bytes:
        data = real(descriptor, count, offset)
        total[0] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    assert box.read(tail=1) == [f"{49_999:0100d}"]
    assert total[0] < 300_000


def test_merge_is_in_the_order_of_time(tmp_path: pathlib.Path) -> None:
    one, two = Box(tmp_path / "one"), Box(tmp_path / "two")
    one.put(record(1, "a"), record(4, "d"))
    two.put(record(2, "b"), record(3, "c"), record(5, "e"))
    merged = logs.merge({"one": str(one.folder), "two": str(two.folder)})
    assert [(key, line.data) for key, line in merged] == [
        ("one", b"a"),
        ("two", b"b"),
        ("two", b"c"),
        ("one", b"d"),
        ("two", b"e"),
    ]
    tails = logs.merge({"one": str(one.folder), "two": str(two.folder)}, tail=1)
    assert [line.data for _, line in tails] == [b"d", b"e"]


def test_follower_goes_across_rotations(box: Box) -> None:
    box.put(record(1, "1"))
    follower = logs.Follower()
    follower.add("k", str(box.folder))
    assert [line.data for _, line in follower.read()] == [b"1"]
    box.put(record(2, "2"))
    box.rotate()
    box.put(record(3, "3"))
    box.rotate()
    box.put(record(4, "4"), b"2026")
    assert follower.wait(5)
    assert [line.data for _, line in follower.read()] == [b"2", b"3", b"4"]
    box.put(record(5, "5")[4:])
    assert len(list(follower.read())) == 1
    assert list(follower.read()) == []
    follower.close()


def test_follower_catches_up_when_its_file_was_rotated_away(box: Box) -> None:
    box.put(record(1, "1"))
    follower = logs.Follower(tail=0)
    follower.add("k", str(box.folder))
    assert list(follower.read()) == []
    os.unlink(box.folder / "logs" / "container.log")
    box.put(record(2, "2"), name="container.log.1")
    box.put(record(3, "3"))
    assert [line.data for _, line in follower.read()] == [b"2", b"3"]
    follower.close()


def test_follow_ends_with_the_container(box: Box) -> None:
    box.put(record(1, "1"))
    box.state("created")
    found: list[bytes] = []
    began = threading.Event()

    def reading() -> None:
        for line in logs.follow(str(box.folder)):
            found.append(line.data)
            began.set()

    thread = threading.Thread(target=reading)
    thread.start()
    assert began.wait(5)
    box.put(record(2, "2"), record(3, "unended", flag="P"))
    box.state("stopped")
    thread.join(5)
    assert not thread.is_alive()
    assert found == [b"1", b"2", b"unended"]


def test_follow_of_a_container_whose_monitor_was_killed(box: Box) -> None:
    """It says "running", but that process is gone: start_time 0 is nobody's."""
    box.put(record(1, "1"))
    box.state("running")
    assert [line.data for line in logs.follow(str(box.folder))] == [b"1"]


def test_without_inotify_it_polls(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(logs.inotify, "inotify_init1", fail)
    box.put(record(1, "1"))
    box.state("stopped")
    assert [line.data for line in logs.follow(str(box.folder))] == [b"1"]


def test_reader_sees_what_a_writer_does(tmp_path: pathlib.Path) -> None:
    writer = logwriter.Writer(f"{tmp_path}/logs", f"{tmp_path}/journal", logwriter.Limits(max_size=3000, max_files=50))
    follower = logs.Follower()
    follower.add("k", str(tmp_path))
    expected, found = [], []
    for number in range(500):
        text = b"%d " % number * (number % 40)
        expected.append(text)
        writer.write(b"stdout", text + b"\n")
        if number % 7 == 0:
            found += [line.data for _, line in follower.read()]
    found += [line.data for _, line in follower.read()]
    assert found == expected
    follower.close()
    writer.close()
