"""Logs of the daemon: ours and those of the libraries, in one form, redacted, with what is being worked on in each line.

`log = get("reconciler.loop")` may run at import; nothing is printed before `configure`. A record's context comes from
`bound(server="web1", deployment=…)`, which flows into the tasks that are started inside it. Each record is masked by
the callable given to `configure` before it is formatted, and a record that cannot be formatted is told in one line of
its own: writing a log line never raises into the caller.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TextIO

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter

from reconciler.telemetry.records import Formatter, JsonForm, TextForm, to_journal

Format = Literal["json", "text"]
Redact = Callable[[str], str]

CHATTY = (
    "alembic", "asyncio", "asyncssh", "git", "httpcore", "httpx", "sqlalchemy", "uvicorn", "uvicorn.access",
    "uvicorn.error", "watchfiles",
)  # fmt: skip
"""Loggers of libraries that tell at `info` what is ours to tell, or (httpx) whole addresses."""

_context: contextvars.ContextVar[Mapping[str, object]] = contextvars.ContextVar("log_context", default={})  # noqa: B039 - never changed in place


def get(name: str) -> BoundLogger:
    """The logger called `name`: `log.info("a sentence", key=value)`, `log.exception(...)`, `log.bind(key=value)`."""
    logger: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return logger


@contextlib.contextmanager
def bound(**context: object) -> Iterator[None]:
    """Adds `context` (deployment, server, fleet, revision …) to every record made inside the block; None adds nothing."""
    merged = {**_context.get(), **{name: value for name, value in context.items() if value is not None}}
    token = _context.set(merged)
    try:
        yield
    finally:
        # a generator that is closed by another task leaves in a context that this token does not belong to
        with contextlib.suppress(ValueError):
            _context.reset(token)


def context() -> Mapping[str, object]:
    """What `bound` has added around here."""
    return _context.get()


def configure(
    format: Format = "text",  # noqa: A002 - the settings' word
    level: str = "info",
    stream: TextIO | None = None,
    *,
    redact: Redact = str,
) -> None:
    """Sends every record of `level` (debug, info, warning, error) and above to `stream` (standard error).

    `redact` replaces secrets in a text. Text is for people: it has no time and has priorities where `stream` is the
    journal, which adds the first and reads the second. Called again, it replaces what was set before. ValueError for
    an unknown format or level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None or format not in ("json", "text"):
        raise ValueError(f"no such log level or format: {level!r}, {format!r}")
    out = stream if stream is not None else sys.stderr
    journal = to_journal(out)
    form: Formatter = (
        JsonForm(redact, context) if format == "json" else TextForm(redact, context, journal=journal)
    )
    root = logging.getLogger()
    for known in [h for h in root.handlers if isinstance(h, Writer)]:
        root.removeHandler(known)
    root.addHandler(Writer(out, form, priorities=journal))
    root.setLevel(number)
    for name in CHATTY:
        # at debug their info is worth reading; their own debug records hold what goes over the wire
        logging.getLogger(name).setLevel(
            logging.INFO if number <= logging.DEBUG else max(number, logging.WARNING)
        )
    logging.captureWarnings(capture=True)


class Writer(logging.Handler):
    """Writes each record to a stream as one piece, and takes any fault of that upon itself."""

    def __init__(self, stream: TextIO, form: Formatter, *, priorities: bool) -> None:
        super().__init__()
        self._stream = stream
        self._priorities = priorities
        self.setFormatter(form)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes `record`; a stream that is gone swallows it."""
        try:
            text = self.format(record)
        except Exception as fault:  # noqa: BLE001 - whatever a record holds must not reach who logs it
            text = f"a record of {record.name} could not be written ({type(fault).__name__})"
        if self._priorities:
            mark = _priority(record.levelno)
            text = "\n".join(mark + line for line in text.split("\n"))
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # a closed pipe, a closed file: nobody is left to tell
            pass


def _priority(level: int) -> str:
    """What journald reads at the beginning of a line (sd-daemon(3), SyslogLevelPrefix=)."""
    if level >= logging.ERROR:
        return "<3>"
    if level >= logging.WARNING:
        return "<4>"
    return "<6>" if level >= logging.INFO else "<7>"


logging.getLogger("reconciler").addHandler(logging.NullHandler())
