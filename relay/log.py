"""Logging: one line per outcome, JSON or console, redacted by a processor."""

import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# Keys whose values could name a person or open a door. No call site should use them; this is the second lock.
PRIVATE = frozenset(
    {
        *("app_id", "authorization", "body", "cookie", "environment_key", "headers", "identifier", "identity", "key"),
        *("password", "path_qs", "properties", "query", "secret", "target", "token", "traits", "x_environment_key"),
    }
)

# Where in asyncio's words the words end: what follows shows arguments, tasks and the texts of their exceptions.
SHOWN = re.compile(r"(\((?!\))|[<\n]).*", re.DOTALL)


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace values that could name a person or open a door, however deep they are."""
    return {name: _redacted(name, value) for name, value in event.items()}


def _redacted(name: object, value: Any) -> Any:
    if str(name).lower() in PRIVATE:
        return "[redacted]"
    match value:
        case Mapping():
            return {inner: _redacted(inner, each) for inner, each in value.items()}
        case list() | tuple():
            return [_redacted("", each) for each in value]
        case _:
            return value


def keep_asyncio_private(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Of what the event loop says ("Task exception was never retrieved"), keep what it says of every task."""
    record = event.get("_record")
    if isinstance(record, logging.LogRecord) and record.name == "asyncio":
        event["event"] = SHOWN.sub("", str(record.msg))
    return event


def trace_privately(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Say of an exception what it is and where it was raised. Its text and its variables may hold what passed by."""
    info = event.pop("exc_info", None)
    raised = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(raised, BaseException):
        event["exception"] = "; from ".join(_chain(raised))
    return event


def _chain(raised: BaseException | None) -> Iterator[str]:
    """*raised* and what it came from, the nearest first: "KeyError at capture.py:71 _decide, capture.py:60 run"."""
    while raised is not None:
        frames = reversed(traceback.extract_tb(raised.__traceback__))
        places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
        yield f"{type(raised).__name__} at {places}"
        if isinstance(raised, BaseExceptionGroup):
            for inner in raised.exceptions:
                yield from _chain(inner)
        raised = raised.__cause__ or raised.__context__


def wants_console(log_format: str) -> bool:
    """Whether log lines are for a person: said so, or "auto" on a terminal."""
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def configure(level: str, *, console: bool) -> None:
    """Send every log line of the process, of the libraries too, to standard error at *level* ("info")."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        keep_asyncio_private,
        trace_privately,
        redact,
    ]
    renderer: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if console
        else [structlog.processors.JSONRenderer()]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
