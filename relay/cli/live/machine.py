"""This machine: what is installed, and how many files a relay may have open."""

import platform
import resource
import sqlite3
import ssl

import aiohttp

from relay import __version__
from relay.app import require_c_parser
from relay.cli.live.finding import Finding, Result, failure
from relay.config import Config
from relay.errors import StartError

# A request in flight is two connections. So many files are enough for all else: Heap, the outbox, probes, libraries.
RESERVE = 100


def probe_machine(settings: Config) -> list[Finding]:
    """Look at what needs no waiting."""
    return [_versions(), _c_parser(), _open_files(settings.upstream.max_in_flight)]


def _versions() -> Finding:
    python = f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}"
    detail = f"relay {__version__}, {python}, SQLite {sqlite3.sqlite_version}, {ssl.OPENSSL_VERSION}"
    return Finding("machine.versions", Result.OK, detail)


def _c_parser() -> Finding:
    try:
        require_c_parser()
    except StartError as missing:
        return failure("machine.c_parser", missing)
    return Finding("machine.c_parser", Result.OK, "aiohttp has its C parser")


def _open_files(in_flight: int) -> Finding:
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)  # `relay run` takes all it may
    needed = 2 * in_flight + RESERVE
    if allowed == resource.RLIM_INFINITY:
        return Finding("machine.open_files", Result.OK, "without a limit")
    detail = f"{allowed} are allowed here, and upstream.max_in_flight: {in_flight} may need {needed}"
    if allowed < needed:
        advice = f"allow {needed} (ulimit -n {needed}; LimitNOFILE={needed} in systemd), or lower max_in_flight"
        return Finding("machine.open_files", Result.WARNING, detail, advice)
    return Finding("machine.open_files", Result.OK, detail)
