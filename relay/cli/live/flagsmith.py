"""Flagsmith: the way there, whether it takes the keys, and what time it has."""

import asyncio
import time
from contextlib import closing
from dataclasses import dataclass

import msgspec
from pydantic import SecretStr

from relay.cli.live.clocks import compare
from relay.cli.live.finding import Finding, Result, failure, milliseconds
from relay.cli.live.limits import limited
from relay.cli.live.reach import Destination, reach
from relay.cli.preview import advice, fields, read
from relay.config import CaptureConfig, Config, UpstreamConfig
from relay.config.addresses import fingerprint
from relay.connection import UpstreamAnswer
from relay.core.body import decode
from relay.core.date import read_date
from relay.errors import CaptureRefused, RelayError, StartError, UpstreamError
from relay.route import tls
from relay.upstream import Outgoing, Upstream

# Takes a key like the calls that are captured, and neither makes an identity nor sends anything to Heap.
HARMLESS = b"/api/v1/flags/"
ELSEWHERE = "see that upstream.url is Flagsmith's address, without /api/v1, and http or https as it is spoken there"
SILENT = "see whether Flagsmith, and what stands before it, is well"


@dataclass(frozen=True, slots=True)
class Answered:
    """What there is to know of one answer."""

    status: int
    # Whether it is a list, as flags are.
    is_list: bool
    # Its Date, and when it came by our clock; seconds since 1970.
    sent_at: float | None
    at: float
    # Until its headers were there.
    seconds: float


async def probe_flagsmith(settings: Config) -> list[Finding]:
    """The way there; and where there is one, what is said to each key."""
    keys = {f"flagsmith.key {each.name} {fingerprint(key)}": key for each in settings.environments for key in each.keys}
    # All keys at once are no traffic to protect Flagsmith from.
    patient = settings.upstream.model_copy(update={"max_in_flight": len(keys) + 1})
    try:
        async with Upstream(patient) as upstream:
            found = await reach(_first_hop(upstream, patient))
            if keys and found[-1].result is not Result.FAILED:
                asking = [limited(probe, _key(probe, upstream, key, settings), SILENT) for probe, key in keys.items()]
                clock = limited("flagsmith.clock", _clock(upstream, next(iter(keys.values())), settings), SILENT)
                found += await asyncio.gather(*asking, clock)
    except StartError as unusable:
        return [failure("flagsmith.settings", unusable)]
    return found


def _first_hop(upstream: Upstream, config: UpstreamConfig) -> Destination:
    """Flagsmith, or the proxy that stands on the way out: it leads to the rest, and requests tell how well."""
    if (proxy := upstream.forward_proxy.url) is not None:
        return Destination("proxy", proxy.host or "", proxy.port or 0, None)
    origin = upstream.origin
    return Destination("flagsmith", origin.host, origin.port, tls(config) if origin.scheme == "https" else None)


async def _key(probe: str, upstream: Upstream, key: SecretStr, settings: Config) -> Finding:
    answered = await _ask(upstream, key, settings.capture)
    if answered.status != 200:
        return Finding(
            probe, Result.FAILED, f"Flagsmith answered {answered.status}", advice(answered.status, ELSEWHERE)
        )
    if not answered.is_list:
        return Finding(probe, Result.FAILED, "what answered 200 sent no flags", ELSEWHERE)
    return Finding(probe, Result.OK, f"accepted in {milliseconds(answered.seconds)}", seconds=answered.seconds)


async def _clock(upstream: Upstream, key: SecretStr, settings: Config) -> Finding:
    answered = await _ask(upstream, key, settings.capture)
    return compare("flagsmith.clock", answered.sent_at, answered.at)


async def _ask(upstream: Upstream, key: SecretStr, limits: CaptureConfig) -> Answered:
    """Raises RelayError where there is no answer."""
    asked = Outgoing("GET", HARMLESS, fields(upstream, key.get_secret_value(), "check"))
    began = time.monotonic()
    try:
        answer = await upstream.send(asked)
        with closing(answer):
            seconds, at = time.monotonic() - began, time.time()
            body = await read(answer, limits.max_answer)
    except UpstreamError as error:
        raise RelayError(f"Flagsmith could not be asked: {error.reason}; {SILENT}") from error
    # at: in the middle of what it took, as the Date is from there.
    return Answered(
        status=answer.status,
        is_list=_is_list(body, answer.text(b"content-encoding"), limits.max_decoded),
        sent_at=_sent_at(answer),
        at=at - seconds / 2,
        seconds=seconds,
    )


def _is_list(body: bytes | None, coding: str, max_decoded: int) -> bool:
    try:
        return isinstance(msgspec.json.decode(decode(body or b"", coding, max_decoded)), list)
    except (CaptureRefused, msgspec.DecodeError):
        return False


def _sent_at(answer: UpstreamAnswer) -> float | None:
    """The server's time; a cache on the way says how old an answer is (RFC 9111, 5.1)."""
    date, age = read_date(answer.text(b"date")), answer.text(b"age")
    return date if date is None or not age.isdecimal() else date + int(age)
