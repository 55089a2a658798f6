"""Log records: their forms, their context, what is masked, and that no fault of a record reaches who logs it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.kit.secret import MASK, Secret
from reconciler.secrets.redact import Redactor
from reconciler.telemetry import logs
from reconciler.telemetry.records import VALUE_LIMIT

SECRET = 'hunter2"\\secret'
log = logs.get("reconciler.test")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    chatty = {name: logging.getLogger(name).level for name in logs.CHATTY}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in chatty.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(capture=False)


def started(form: logs.Format = "json", level: str = "info", **options: Any) -> io.StringIO:
    logging.getLogger().handlers[:] = []  # pytest's own raise what a record does
    stream = io.StringIO()
    logs.configure(form, level, stream, **options)
    return stream


def only(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


def test_a_record_is_one_json_object_with_its_time_in_utc() -> None:
    stream = started()
    log.info("a server is in sync", server="web1", seconds=0.25, changed=False, steps=["a", 1], none=None)
    value = only(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value.pop("time"))
    assert value == {
        "level": "info",
        "logger": "reconciler.test",
        "message": "a server is in sync",
        "server": "web1",
        "seconds": 0.25,
        "changed": False,
        "steps": ["a", 1],
        "none": None,
    }


def test_the_text_form_is_for_reading() -> None:
    stream = started("text")
    log.warning("no answer", server="web1", reason="time-out after 5 s")
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\dT[\d:.]{12}Z warning reconciler.test: no answer server=web1 reason="time-out after 5 s"\n',
        stream.getvalue(),
    )


def test_what_is_bound_is_in_every_record_of_the_block_and_of_tasks_started_in_it() -> None:
    stream = started()

    async def work() -> None:
        logging.getLogger("asyncssh").warning("a library speaks")
        log.info("we speak", revision="override")

    async def run() -> None:
        with logs.bound(fleet="main", server=None), logs.bound(server="web1", revision="abc"):
            task = asyncio.create_task(work())
        log.info("outside")
        await task

    asyncio.run(run())
    outside, library, ours = (json.loads(line) for line in stream.getvalue().splitlines())
    assert "fleet" not in outside
    assert (library["fleet"], library["server"], library["revision"]) == ("main", "web1", "abc")
    assert ours["revision"] == "override"


def test_a_block_that_is_left_in_another_task_does_not_fail() -> None:
    def block() -> Generator[None]:
        with logs.bound(server="web1"):
            yield

    async def run() -> None:
        generator = block()
        next(generator)
        await asyncio.create_task(close(generator))

    async def close(generator: Generator[None]) -> None:
        generator.close()

    asyncio.run(run())


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_are_masked_wherever_they_stand(form: logs.Format) -> None:
    redactor = Redactor([SECRET, "12345678"])
    stream = started(form, redact=redactor)
    log.info(f"the password is {SECRET}", value=SECRET, nested={"a": [SECRET], SECRET: 1}, pin=12345678)
    log.info("wrapped", value=Secret(SECRET), raw=SECRET.encode())
    logging.getLogger("asyncssh").warning("sent %s", SECRET)
    try:
        int(SECRET)
    except ValueError:
        log.exception("it failed")
    with logs.bound(server=SECRET):
        log.info("bound")
    said = stream.getvalue()
    assert "hunter2" not in said
    assert "12345678" not in said
    assert said.count(MASK) >= 10
    if form == "json":
        assert [json.loads(line)["level"] for line in said.splitlines()] == [
            "info",
            "info",
            "warning",
            "error",
            "info",
        ]


def test_a_secret_at_the_place_where_a_long_value_is_cut_is_not_shown_in_half() -> None:
    stream = started(redact=Redactor(["S3CRETWORD"]))
    for shift in range(11):
        log.info("long", value="x" * (VALUE_LIMIT // 2 - shift) + "S3CRETWORD" + "x" * 3 * VALUE_LIMIT)
    for line in stream.getvalue().splitlines():
        value = json.loads(line)["value"]
        assert len(value) < VALUE_LIMIT + 100
        assert "S3" not in value
        assert "characters left out" in value


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no")


class Hostile(dict[str, object]):
    def items(self) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_fault_of_a_record_never_reaches_the_caller(
    form: logs.Format, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(text: str) -> str:
        raise KeyError("redactor")

    stream = started(form)
    log.info("too few %s %s", 1)  # noqa: PLE1206 - that is the point
    log.info("broken", value=Broken(), many={Broken(): 1}, hostile=Hostile(a=1))
    log.info("%s", Broken())
    logging.getLogger("asyncssh").warning("%d", "text")
    loop: list[object] = []
    loop.append(loop)
    log.info("circular", value=loop)
    assert "too few %s %s" in stream.getvalue()
    assert "circular" in stream.getvalue()
    masked = started(form, redact=fails)
    log.info("not masked, so not shown")
    assert masked.getvalue() == "a record of reconciler.test could not be written (KeyError)\n"
    assert capsys.readouterr() == ("", "")


def test_a_stream_that_is_gone_is_no_fault_of_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    stream = started()
    stream.close()
    log.info("nobody hears this")
    read, write = os.pipe()
    os.close(read)
    with contextlib.suppress(BrokenPipeError), os.fdopen(write, "w") as pipe:
        logs.configure("text", "info", pipe)
        log.error("nor this")
    assert capsys.readouterr() == ("", "")


def test_nothing_can_forge_a_line() -> None:
    stream = started("text")
    log.info("a\nERROR forged", value="b\x1b[31m\r\nc", other="d\u2028e")
    (line,) = stream.getvalue().splitlines()
    assert "\x1b" not in line
    assert r"a\nERROR forged" in line


def test_fields_do_not_take_the_place_of_our_own() -> None:
    stream = started()
    log.info("said", level=3, message="other", time="now", logger="x", exception="none")
    value = only(stream)
    assert (value["level"], value["message"], value["logger"]) == ("info", "said", "reconciler.test")
    assert (value["level_"], value["message_"]) == (3, "other")


def test_libraries_are_heard_from_warning_on_and_never_at_debug() -> None:
    stream = started(level="info")
    for name in logs.CHATTY:
        logging.getLogger(name).info("chatter")
    logging.getLogger("uvicorn.error").error("it matters")
    assert only(stream)["logger"] == "uvicorn.error"
    stream = started(level="debug")
    logging.getLogger("asyncssh.sftp").debug("bytes on the wire")
    logging.getLogger("httpx").info("a request")
    log.debug("our own")
    assert [json.loads(line)["logger"] for line in stream.getvalue().splitlines()] == [
        "httpx",
        "reconciler.test",
    ]
    stream = started(level="error")
    logging.getLogger("httpx").warning("not at this level")
    assert stream.getvalue() == ""


def test_warnings_of_python_take_the_same_way() -> None:
    stream = started()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)  # catch_warnings has put its own in place
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert only(stream)["logger"] == "py.warnings"


def test_configuring_again_replaces_what_was_set_before() -> None:
    first = started()
    second = started("text")
    log.info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="loud"):
        logs.configure("text", "loud")
    with pytest.raises(ValueError, match="xml"):
        logs.configure("xml")  # type: ignore[arg-type]


def test_the_journal_gets_priorities_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w") as stream:
        facts = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{facts.st_dev}:{facts.st_ino}")
        logs.configure("text", "debug", stream)
        log.debug("d")
        log.info("i")
        log.warning("w")
        try:
            int("e")
        except ValueError:
            log.exception("failed")
    lines = (tmp_path / "journal").read_text().splitlines()
    assert lines[:3] == [
        "<7>debug   reconciler.test: d",
        "<6>info    reconciler.test: i",
        "<4>warning reconciler.test: w",
    ]
    assert lines[3] == "<3>error   reconciler.test: failed"
    assert all(line.startswith("<3>    ") for line in lines[4:])
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with (tmp_path / "file").open("w") as stream:
        logs.configure("text", "info", stream)
        log.info("i")
    assert (tmp_path / "file").read_text().startswith("20")


def test_an_exception_is_told_with_its_traceback() -> None:
    stream = started()
    fault = ValueError("the cause")
    fault.__cause__ = KeyError("deeper")
    log.error("failed", exc_info=fault)
    value = only(stream)
    assert value["exception"].startswith("KeyError: 'deeper'")
    assert value["exception"].endswith("ValueError: the cause")


def test_nothing_is_printed_before_it_is_configured(capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().handlers[:] = []
    logs.get("reconciler.other").warning("too early")
    assert capfd.readouterr() == ("", "")
