"""Logging: one line per outcome, JSON or console, redacted by a processor."""

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# Keys whose values could name a person or open a door. No call site should use them; this is the second lock.
PRIVATE = frozenset(
    {
        *("app_id", "authorization", "body", "cookie", "environment_key", "headers", "identifier", "identity", "key"),
        *("password", "path_qs", "properties", "query", "secret", "target", "token", "traits", "x_environment_key"),
    }
)


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace values that could name a person or open a door."""
    return {name: "[redacted]" if name.lower() in PRIVATE else value for name, value in event.items()}


def configure(level: str, *, console: bool) -> None:
    """Send every log line of the process, of the libraries too, to standard error at *level* ("info")."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    renderer: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
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
