"""The way to a server: its name, a connection, its certificate. Nothing is asked of it."""

import asyncio
import math
import os
import socket
import ssl
import time
from dataclasses import dataclass
from functools import partial

from relay.cli.live.finding import Finding, Result, milliseconds
from relay.cli.live.limits import in_thread, limited

# As aiohttp does: so long, in seconds, one address has before the next is tried as well (RFC 8305).
NEXT_ADDRESS = 0.25
# A certificate that ends within so many days should have been renewed by itself.
DAYS_LEFT = 14

# Why a certificate is refused (X509_V_ERR_… in OpenSSL's x509_vfy.h), and what to do. All else is about who issued it.
CLOCK_OR_AGE = "renew it, or set this machine's clock if that is wrong"
OTHER_NAME = "write the name that it is for in the address"
REFUSALS = {9: CLOCK_OR_AGE, 10: CLOCK_OR_AGE, 62: OTHER_NAME, 64: OTHER_NAME}
UNKNOWN_AUTHORITY = "name who issued it in upstream.ca_file if this is Flagsmith, else in this machine's store"


@dataclass(frozen=True, slots=True)
class Destination:
    """Whom to reach."""

    # What the findings call it: "flagsmith".
    name: str
    host: str
    port: int
    # How its certificate is verified, as asyncio takes it; None where there is none.
    tls: ssl.SSLContext | bool | None

    @property
    def advice(self) -> str:
        return f"let this machine connect to {self.host} port {self.port}, and see that a server listens there"


async def reach(destination: Destination) -> list[Finding]:
    """What is found at each step of the way, up to the first that fails."""
    steps = {"dns": _look_up, "tcp": _connect}
    if destination.tls is not None:
        steps["tls"] = _verify
    found: list[Finding] = []
    for step, take in steps.items():
        probe = f"{destination.name}.{step}"
        found.append(await limited(probe, take(probe, destination), destination.advice))
        if found[-1].result is Result.FAILED:
            break
    return found


async def _look_up(probe: str, destination: Destination) -> Finding:
    began = time.monotonic()
    try:
        found = await in_thread(
            partial(socket.getaddrinfo, destination.host, destination.port, type=socket.SOCK_STREAM)
        )
    except OSError as failure:
        detail = f"{destination.host} has no address: {failure.strerror}"
        return Finding(probe, Result.FAILED, detail, "see that the name is right, and that this machine's DNS works")
    seconds = time.monotonic() - began
    addresses = ", ".join(dict.fromkeys(str(address[0]) for *_, address in found))
    return Finding(probe, Result.OK, f"{destination.host} is {addresses} ({milliseconds(seconds)})", seconds=seconds)


async def _connect(probe: str, destination: Destination) -> Finding:
    began = time.monotonic()
    try:
        _, writer = await asyncio.open_connection(destination.host, destination.port, happy_eyeballs_delay=NEXT_ADDRESS)
    except OSError as failure:
        return Finding(
            probe, Result.FAILED, f"{destination.host} port {destination.port}: {_words(failure)}", destination.advice
        )
    seconds = time.monotonic() - began
    address = writer.get_extra_info("peername")[0]
    writer.transport.abort()
    return Finding(probe, Result.OK, f"{address} port {destination.port} in {milliseconds(seconds)}", seconds=seconds)


async def _verify(probe: str, destination: Destination) -> Finding:
    began = time.monotonic()
    try:
        _, writer = await asyncio.open_connection(
            destination.host,
            destination.port,
            ssl=destination.tls,
            server_hostname=destination.host.rstrip("."),
            happy_eyeballs_delay=NEXT_ADDRESS,
        )
    except ssl.SSLCertVerificationError as refused:
        advice = REFUSALS.get(refused.verify_code, UNKNOWN_AUTHORITY)
        detail = f"the certificate of {destination.host} is refused: {refused.verify_message}"
        return Finding(probe, Result.FAILED, detail, advice)
    except OSError as failure:
        reason = getattr(failure, "reason", None) or _words(failure)
        advice = f"see that {destination.host} port {destination.port} speaks TLS, and what stands before it"
        return Finding(probe, Result.FAILED, f"no TLS with {destination.host}: {reason}", advice)
    seconds = time.monotonic() - began
    session = writer.get_extra_info("ssl_object")
    writer.transport.abort()
    return _certificate(probe, session, seconds)


def _certificate(probe: str, session: ssl.SSLObject, seconds: float) -> Finding:
    ends = ssl.cert_time_to_seconds(str((session.getpeercert() or {})["notAfter"]))
    days = math.floor((ends - time.time()) / 86_400)
    detail = f"{session.version()} in {milliseconds(seconds)}, the certificate ends in {days} days"
    if days < DAYS_LEFT:
        return Finding(probe, Result.WARNING, detail, "renew it, and see why it was not renewed by itself", seconds)
    return Finding(probe, Result.OK, detail, seconds=seconds)


def _words(failure: OSError) -> str:
    """asyncio wraps the system's words into its own."""
    return os.strerror(failure.errno) if failure.errno else str(failure)
