"""The way to a server: every step that can fail on it, with what to do."""

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay.cli.live import limits
from relay.cli.live.clocks import compare
from relay.cli.live.finding import Result
from relay.cli.live.reach import Destination, reach
from relay.sandbox.faults import Reply
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.cli.live.conftest import check_live
from tests.conftest import CLIENT_KEY, settings, write
from tests.proxy.raw import RawFlagsmith, say

SOON = timedelta(days=5, hours=1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def certified(authority: trustme.CA, name: str = "127.0.0.1", valid: timedelta = timedelta(days=90)) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate that is *valid* for so long, or ended so long ago."""
    now = datetime.now(UTC)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name, not_before=now - timedelta(days=200), not_after=now + valid).configure_cert(context)
    return context


@asynccontextmanager
async def flagsmith_with(tls: ssl.SSLContext) -> AsyncIterator[StandInFlagsmith]:
    async with StandInFlagsmith(client_key=CLIENT_KEY, ssl_context=tls) as flagsmith:
        yield flagsmith


async def probe(tmp_path: Path, flagsmith: StandInFlagsmith, heap: StandInHeap, **upstream: Any) -> Any:
    return await check_live(write(tmp_path, settings(flagsmith, heap, upstream={"url": flagsmith.url, **upstream})))


@pytest.fixture
def unheard() -> Iterator[int]:
    """A port that is taken, and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def test_a_name_without_an_address_is_told_and_nothing_behind_it_is_tried(
    tmp_path: Path, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    given = settings(flagsmith, heap, upstream={"url": "https://flagsmith.invalid"})
    given["environments"][0]["heap"]["url"] = "https://heap.invalid"

    told = await check_live(write(tmp_path, given))

    assert told.exit_code == 1
    assert [name for name in told.probes if name.startswith(("flagsmith", "heap"))] == [
        *("flagsmith.dns", "heap.dns", "heap.clock")
    ]
    for name in ("flagsmith", "heap"):
        assert told[f"{name}.dns"]["result"] == "failed"
        assert told[f"{name}.dns"]["detail"].startswith(f"{name}.invalid has no address: ")
        assert "DNS" in told[f"{name}.dns"]["advice"]


async def test_every_address_of_a_name_is_told() -> None:
    addresses = {found[4][0] for found in socket.getaddrinfo("localhost", 80)}

    dns, *_ = await reach(Destination("flagsmith", "localhost", 80, None))

    assert all(str(address) in dns.detail for address in addresses)


async def test_a_port_where_nobody_listens_is_told(unheard: int) -> None:
    dns, tcp = await reach(Destination("heap", "127.0.0.1", unheard, True))

    assert (dns.result, tcp.result) == (Result.OK, Result.FAILED)
    assert tcp.detail == f"127.0.0.1 port {unheard}: Connection refused"
    assert tcp.advice == f"let this machine connect to 127.0.0.1 port {unheard}, and see that a server listens there"


async def test_a_private_authority_is_trusted_where_it_is_named(
    authority: trustme.CA, ca_file: Path, tmp_path: Path, heap: StandInHeap
) -> None:
    async with flagsmith_with(certified(authority)) as flagsmith:
        told = await probe(tmp_path, flagsmith, heap, ca_file=str(ca_file))

    assert told.exit_code == 0
    assert told["flagsmith.tls"]["result"] == "ok"
    assert told["flagsmith.tls"]["detail"].startswith("TLSv1.3 in ")
    assert told["flagsmith.tls"]["detail"].endswith("the certificate ends in 89 days")


@pytest.mark.parametrize(
    ("name", "valid", "reason", "advice"),
    [
        ("127.0.0.1", -timedelta(days=1), "certificate has expired", "renew it"),
        ("other.example", SOON, "IP address mismatch", "write the name that it is for in the address"),
    ],
)
async def test_a_certificate_that_is_refused_is_told_with_what_to_do(
    authority: trustme.CA,
    ca_file: Path,
    tmp_path: Path,
    heap: StandInHeap,
    name: str,
    valid: timedelta,
    reason: str,
    advice: str,
) -> None:
    async with flagsmith_with(certified(authority, name, valid)) as flagsmith:
        told = await probe(tmp_path, flagsmith, heap, ca_file=str(ca_file))

    assert told.exit_code == 1
    assert told["flagsmith.tls"]["result"] == "failed"
    assert reason in told["flagsmith.tls"]["detail"]
    assert advice in told["flagsmith.tls"]["advice"]
    assert flagsmith.requests == []


async def test_an_unknown_authority_is_told_for_both_servers(authority: trustme.CA, tmp_path: Path) -> None:
    async with (
        flagsmith_with(certified(authority)) as flagsmith,
        StandInHeap(ssl_context=certified(authority)) as heap,
    ):
        told = await probe(tmp_path, flagsmith, heap)

    for name in ("flagsmith", "heap"):
        assert told[f"{name}.tls"]["result"] == "failed"
        assert "issuer certificate" in told[f"{name}.tls"]["detail"]
        assert "upstream.ca_file" in told[f"{name}.tls"]["advice"]


async def test_a_certificate_that_ends_soon_is_a_warning(
    authority: trustme.CA, ca_file: Path, tmp_path: Path, heap: StandInHeap
) -> None:
    async with flagsmith_with(certified(authority, valid=SOON)) as flagsmith:
        told = await probe(tmp_path, flagsmith, heap, ca_file=str(ca_file))

    assert told.exit_code == 0
    assert told["flagsmith.tls"]["result"] == "warning"
    assert told["flagsmith.tls"]["detail"].endswith("the certificate ends in 5 days")
    assert told["flagsmith.tls"]["advice"].startswith("renew it")


async def test_a_server_that_speaks_no_tls_is_told(heap: StandInHeap) -> None:
    port = int(heap.url.rpartition(":")[2])

    *_, tls = await reach(Destination("heap", "127.0.0.1", port, True))

    assert (tls.probe, tls.result) == ("heap.tls", Result.FAILED)
    assert tls.detail.startswith("no TLS with 127.0.0.1: ")
    assert tls.advice == f"see that 127.0.0.1 port {port} speaks TLS, and what stands before it"


async def test_a_handshake_that_hangs_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIMIT", 0.3)
    async with RawFlagsmith() as silent:
        *_, tls = await reach(Destination("heap", "127.0.0.1", silent.port, True))

    assert (tls.result, tls.detail) == (Result.FAILED, "no answer within 0.3 s")


async def test_a_ca_file_that_cannot_be_used_is_told(
    tmp_path: Path, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    told = await probe(tmp_path, flagsmith, heap, ca_file=str(tmp_path / "missing.pem"))

    assert told.exit_code == 1
    assert "upstream.ca_file" in told["flagsmith.settings"]["detail"]
    assert told["flagsmith.settings"]["advice"] != ""


async def test_where_requests_go_through_a_proxy_so_do_the_probes(
    tmp_path: Path, heap: StandInHeap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with RawFlagsmith() as proxy, StandInFlagsmith() as flagsmith:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        proxy.script.extend([say(b"[]", b"Content-Type: application/json")] * 2)
        told = await probe(tmp_path, flagsmith, heap, url="http://flagsmith.invalid", trust_env=True)

    assert told["proxy.tcp"]["detail"].startswith(f"127.0.0.1 port {proxy.port} in ")
    assert "flagsmith.dns" not in told.probes
    assert [call.target for call in proxy.requests] == [b"http://flagsmith.invalid/api/v1/flags/"] * 2


# Clocks.


@pytest.mark.parametrize(
    ("skew", "result", "detail"),
    [
        (0, "ok", "agrees with this machine's to 2 s"),
        (30, "ok", "this machine's is 30 s ahead of it"),
        (-90, "warning", "this machine's is 90 s behind it"),
        (3600, "failed", "this machine's is 3,600 s ahead of it"),
    ],
)
def test_a_clock_is_graded_by_how_far_it_is_off(skew: float, result: str, detail: str) -> None:
    found = compare("heap.clock", 1_000_000.0, 1_000_000.5 + skew)

    assert (found.result, found.detail) == (result, detail)
    assert bool(found.advice) == (result != "ok")


async def test_flagsmiths_date_is_compared_with_this_machines_clock(path: Path, flagsmith: StandInFlagsmith) -> None:
    date = formatdate(datetime.now(UTC).timestamp() - 7200, usegmt=True)
    answer = Reply(200, b"[]", (("Content-Type", "application/json"), ("Date", date)))
    flagsmith.replies.extend([answer, answer])

    told = await check_live(path)

    assert told.exit_code == 1
    assert told["flagsmith.clock"]["result"] == "failed"
    assert "s ahead of it" in told["flagsmith.clock"]["detail"]
    assert "set this machine's clock" in told["flagsmith.clock"]["advice"]


async def test_a_cached_answers_age_is_no_skew(path: Path, flagsmith: StandInFlagsmith) -> None:
    date = formatdate(datetime.now(UTC).timestamp() - 7200, usegmt=True)
    answer = Reply(200, b"[]", (("Content-Type", "application/json"), ("Date", date), ("Age", "7200")))
    flagsmith.replies.extend([answer, answer])

    told = await check_live(path)

    assert told["flagsmith.clock"]["result"] == "ok"


async def test_an_answer_without_a_date_is_a_warning(tmp_path: Path, heap: StandInHeap) -> None:
    async with RawFlagsmith() as raw, StandInFlagsmith() as flagsmith:
        raw.script.extend([say(b"[]", b"Content-Type: application/json")] * 2)
        told = await probe(tmp_path, flagsmith, heap, url=raw.url)

    assert told["flagsmith.clock"]["result"] == "warning"
    assert told["flagsmith.clock"]["detail"] == "the answer has no Date"
