"""The command as a whole: what it asks, tells and returns."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from relay.cli import main
from relay.cli.live import limits
from relay.cli.live.finding import Result
from relay.config.addresses import fingerprint
from relay.sandbox.faults import Fault, Reply
from relay.sandbox.flagsmith import SERVER_KEY, StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.cli.live.conftest import check_live, in_shell
from tests.conftest import CLIENT_KEY, settings, write

# What may be a warning on the machine of the tests.
OF_THE_MACHINE = {"machine.open_files", "outbox.file_system", "outbox.disk", "outbox.space"}


def keys(*named: str) -> list[str]:
    return [f"flagsmith.key tests {fingerprint(SecretStr(key))}" for key in named]


async def test_where_all_is_well_every_probe_is_ok_in_the_order_of_an_events_way(path: Path) -> None:
    told = await check_live(path)

    assert told.exit_code == 0
    assert [probe for probe in told.probes if probe not in OF_THE_MACHINE] == [
        *("machine.versions", "machine.c_parser"),
        *("flagsmith.dns", "flagsmith.tcp", *keys(CLIENT_KEY), "flagsmith.clock"),
        *("outbox.file", "outbox.owner"),
        *("heap.dns", "heap.tcp", "heap.clock"),
    ]
    assert {told[probe]["result"] for probe in told.probes if probe not in OF_THE_MACHINE} == {"ok"}
    assert set(told["heap.tcp"]) == {"probe", "result", "detail", "advice", "seconds"}
    assert told["heap.tcp"]["seconds"] > 0


async def test_flagsmith_is_asked_for_nothing_that_makes_an_identity_or_is_captured(
    path: Path, flagsmith: StandInFlagsmith
) -> None:
    await check_live(path)

    assert {(call.method, call.target) for call in flagsmith.requests} == {("GET", "/api/v1/flags/")}
    for call in flagsmith.requests:
        assert ("Via", "1.1 flagsmith-heap-relay-check") in call.headers


async def test_nothing_is_asked_of_heap(path: Path, heap: StandInHeap) -> None:
    told = await check_live(path)

    assert heap.requests == []
    assert "nothing is sent without --send-test" in told["heap.clock"]["detail"]


async def test_for_a_person_each_probe_is_a_line_in_place_of_the_merged_result(path: Path) -> None:
    done = await asyncio.to_thread(CliRunner().invoke, main, ["check", "-c", str(path), "--live"])

    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok      machine.versions: relay ")
    assert all(line.partition(" ")[0] in list(Result) for line in lines)
    assert done.stderr.startswith("reminder: ")


async def test_a_file_with_mistakes_is_not_probed(tmp_path: Path, flagsmith: StandInFlagsmith) -> None:
    path = write(tmp_path, {"upstream": {"url": flagsmith.url}, "nonsense": True})

    told = await check_live(path)

    assert (told.exit_code, told.probes) == (2, {})
    assert flagsmith.requests == []


async def test_strict_probes_no_file_with_warnings(
    tmp_path: Path, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    path = write(tmp_path, {**settings(flagsmith, heap), "environments": []})

    assert (await check_live(path, "--strict")).exit_code == 2
    assert (await check_live(path)).exit_code == 0


async def test_without_environments_there_is_a_way_to_flagsmith_and_none_to_heap(
    tmp_path: Path, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    told = await check_live(write(tmp_path, {**settings(flagsmith, heap), "environments": []}))

    assert [probe for probe in told.probes if probe.startswith(("flagsmith", "heap"))] == [
        "flagsmith.dns",
        "flagsmith.tcp",
    ]


@pytest.mark.parametrize("options", [[], ["--json"], ["--send-test", "tests", "--yes"]])
async def test_no_key_is_ever_shown(path: Path, flagsmith: StandInFlagsmith, options: list[str]) -> None:
    """Not even where Flagsmith repeats it, as an Edge Proxy does."""
    echo = Reply(401, f'{{"message":"unknown key {CLIENT_KEY!r}"}}'.encode(), (("X-Key", CLIENT_KEY),))
    flagsmith.replies.extend([echo, echo])

    done = await asyncio.to_thread(CliRunner().invoke, main, ["check", "-c", str(path), "--live", *options])

    assert done.exit_code == 1
    assert "answered 401" in done.output
    assert CLIENT_KEY not in done.output
    assert CLIENT_KEY[:12] not in done.output


async def test_one_that_hangs_delays_no_other_and_has_an_end(
    path: Path, flagsmith: StandInFlagsmith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LIMIT", 0.5)
    flagsmith.replies.extend([Fault.HANG, Fault.HANG])

    told = await check_live(path)

    (key,) = keys(CLIENT_KEY)
    assert told.exit_code == 1
    for probe in (key, "flagsmith.clock"):
        assert (told[probe]["result"], told[probe]["detail"]) == ("failed", "no answer within 0.5 s")
        assert "see whether Flagsmith" in told[probe]["advice"]
    assert told["heap.tcp"]["result"] == "ok"


def test_a_disk_that_hangs_does_not_keep_the_process() -> None:
    script = (
        "import asyncio, threading; from relay.cli.live import limits; limits.LIMIT = 0.1\n"
        "print(asyncio.run(limits.limited('outbox.disk', limits.in_thread(threading.Event().wait), 'look')))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)

    assert done.stdout == "failed  outbox.disk: no answer within 0.1 s; look\n"


# The keys.


async def test_a_key_that_flagsmith_refuses_fails_alone(
    tmp_path: Path, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    given = settings(flagsmith, heap)
    given["environments"][0]["keys"] = [CLIENT_KEY, SERVER_KEY, "wrong-key"]

    told = await check_live(write(tmp_path, given))

    *good, bad = keys(CLIENT_KEY, SERVER_KEY, "wrong-key")
    assert told.exit_code == 1
    assert [told[key]["result"] for key in good] == ["ok", "ok"]
    assert (told[bad]["result"], told[bad]["detail"]) == ("failed", "Flagsmith answered 403")
    assert told[bad]["advice"] == "see in Flagsmith that the key belongs to it, and is not disabled"


async def test_an_edge_proxy_is_asked_as_well(tmp_path: Path, heap: StandInHeap) -> None:
    async with StandInFlagsmith(client_key=CLIENT_KEY, style="edge_proxy") as edge_proxy:
        given = settings(edge_proxy, heap)
        given["environments"][0]["keys"] = [CLIENT_KEY, "wrong-key"]

        told = await check_live(write(tmp_path, given))

    good, bad = keys(CLIENT_KEY, "wrong-key")
    assert told[good]["result"] == "ok"
    assert told[bad]["detail"] == "Flagsmith answered 401"


async def test_all_keys_are_asked_about_however_few_requests_the_relay_may_have_in_flight(
    tmp_path: Path, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    flagsmith.delay = 0.05
    given = settings(flagsmith, heap)
    given["upstream"]["max_in_flight"] = 1
    given["environments"][0]["keys"] = [CLIENT_KEY, SERVER_KEY]

    told = await check_live(write(tmp_path, given))

    assert [told[key]["result"] for key in keys(CLIENT_KEY, SERVER_KEY)] == ["ok", "ok"]


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, b"<!doctype html>", (("Content-Type", "text/html"),)),
        Reply(200, b'{"message":"ok"}', (("Content-Type", "application/json"),)),
        Reply(200, b"broken", (("Content-Encoding", "gzip"),)),
        Reply(200, b" " * 5_000_000),
    ],
)
async def test_a_server_that_is_no_flagsmith_is_told(path: Path, flagsmith: StandInFlagsmith, answer: Reply) -> None:
    """Flagsmith's dashboard answers any path with 200 and a page."""
    flagsmith.replies.extend([answer, answer])

    told = await check_live(path)

    (key,) = keys(CLIENT_KEY)
    assert told[key]["result"] == "failed"
    assert told[key]["detail"] == "what answered 200 sent no flags"
    assert told[key]["advice"].startswith("see that upstream.url is Flagsmith's address, without /api/v1")


async def test_a_refusal_that_is_not_about_the_key_leads_to_the_address(
    path: Path, flagsmith: StandInFlagsmith
) -> None:
    """nginx answers 400 where http is spoken to its port for https."""
    flagsmith.replies.extend([400, 400])

    told = await check_live(path)

    (key,) = keys(CLIENT_KEY)
    assert told[key]["detail"] == "Flagsmith answered 400"
    assert "http or https" in told[key]["advice"]


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.RESET, Fault.TRUNCATE])
async def test_an_answer_that_breaks_off_is_told(path: Path, flagsmith: StandInFlagsmith, fault: Fault) -> None:
    flagsmith.replies.extend([fault, fault])

    told = await check_live(path)

    (key,) = keys(CLIENT_KEY)
    assert told[key]["detail"].startswith("Flagsmith could not be asked: ")
    assert told[key]["advice"] == "see whether Flagsmith, and what stands before it, is well"


# This machine.


async def test_a_low_limit_of_open_files_is_a_warning_with_the_number_to_set(path: Path) -> None:
    done = await asyncio.to_thread(in_shell, "ulimit -n 256; check", path)

    (line,) = [line for line in done.stdout.splitlines() if "machine.open_files" in line]
    assert line.startswith(
        "warning machine.open_files: 256 are allowed here, and upstream.max_in_flight: 1000 may need 2100; "
    )
    assert "ulimit -n 2100" in line
    assert done.returncode == 0
