"""What `logging` comes to, what of it is said, and what is refused."""

from __future__ import annotations

import pytest

from devenv import errors
from devenv.reconcile import convert_logging


def logging(driver: str = "", **options: str) -> dict[str, object]:
    return {"logging": {"driver": driver, "options": {key.replace("_", "-"): value for key, value in options.items()}}}


def test_what_is_kept() -> None:
    assert convert_logging.options({}) == {}
    assert convert_logging.options(logging("json-file", max_size="1m", tag="x")) == {"max-size": "1m"}
    assert convert_logging.options(logging("none")) == {"driver": "none"}
    found = convert_logging.options(logging("syslog", syslog_address="udp://127.0.0.1", max_file="2", env="A"))
    assert found == {"driver": "syslog", "syslog-address": "udp://[127.0.0.1]:514", "max-file": "2"}
    with pytest.raises(errors.NetworkError, match="is not found"):
        convert_logging.options(logging("syslog", syslog_address="tcp://a..b:1"))


def test_what_has_no_effect_is_said() -> None:
    assert convert_logging.notes(logging("journald", tag="x", labels="a", mode="non-blocking")) == []
    (note,) = convert_logging.notes(logging("local", compress="true"))
    assert note == "`logging: options: compress` has no effect with the driver `local`"
    (note,) = convert_logging.notes(logging("fluentd", fluentd_address="x:1"))
    assert "`devenv logs` reads" in note
    (note,) = convert_logging.missing(logging("syslog", syslog_address="unix:///no/such/log"))
    assert "nothing listens on `/no/such/log`" in note
    assert convert_logging.missing(logging("syslog", syslog_address="udp://127.0.0.1:1")) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"syslog_address": "udp://"}, "not of the form"),
        ({"syslog_address": "tcp+tls://h:1"}, "not of the form"),
        ({"syslog_address": "udp://h:99999"}, "not of the form"),
        ({"syslog_address": "unix://log"}, "not of the form"),
        ({"syslog_facility": "nothing"}, "is not one of kern,"),
        ({"syslog_format": "rfc1"}, "is not one of rfc3164,"),
        ({"tag": "{{.Nome}}"}, "`{{.Nome}}`: known are DaemonName"),
        ({"max_size": "big"}, "is not a size"),
        ({"max_file": "0"}, "not a number from 1 up"),
    ],
)
def test_what_is_refused(options: dict[str, str], problem: str) -> None:
    (found,) = convert_logging.problems(logging("syslog", **options))
    assert problem in found
    assert not list(convert_logging.problems(logging("syslog", syslog_address="tcp://[::1]:514", tag="{{.Name}}")))
