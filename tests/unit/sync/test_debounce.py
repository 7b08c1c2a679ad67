"""When a change is acted upon, by a clock of the test's own."""

from __future__ import annotations

import pytest

from devenv.sync import debounce


def test_nothing_is_due_without_an_event() -> None:
    made = debounce.Debounce()
    assert made.due() is None
    assert not made.waits


def test_a_lone_event_is_due_at_once() -> None:
    made = debounce.Debounce()
    made.event(10.0)
    assert made.due() == pytest.approx(10.0 + debounce.SETTLE)
    made.event(10.001)  # the rename that belongs to it
    assert made.due() == pytest.approx(10.0 + debounce.SETTLE)


def test_a_burst_waits_until_it_is_quiet() -> None:
    made = debounce.Debounce()
    for moment in (10.0, 10.01, 10.02):
        made.event(moment)
    assert made.due() == pytest.approx(10.02 + debounce.QUIET)


def test_what_follows_a_batch_closely_belongs_to_the_burst() -> None:
    made = debounce.Debounce()
    made.event(10.0)
    made.taken()
    made.event(10.01)
    assert made.due() == pytest.approx(10.01 + debounce.QUIET)
    made.taken()
    made.event(11.0)
    assert made.due() == pytest.approx(11.0 + debounce.SETTLE)


def test_a_burst_without_an_end_is_acted_upon_all_the_same() -> None:
    made = debounce.Debounce()
    for step in range(100):
        made.event(10.0 + step * 0.01)
    assert made.due() == pytest.approx(10.0 + debounce.LONGEST)


def test_a_file_that_is_being_written_is_waited_for() -> None:
    made = debounce.Debounce()
    made.event(10.0, weak=True)
    made.event(10.05, weak=True)
    assert made.due() == pytest.approx(10.05 + debounce.OPEN)
    made.event(10.06)  # closed
    due = made.due()
    assert due is not None
    assert due < 10.1


def test_calm_counts_from_the_last_event_of_all() -> None:
    made = debounce.Debounce()
    made.event(10.0)
    made.taken()
    made.event(10.2)
    made.taken()
    assert made.calm() == pytest.approx(10.2 + debounce.CALM)
