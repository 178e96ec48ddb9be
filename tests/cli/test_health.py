"""relay health, as it is typed."""

import asyncio
import signal
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from click.testing import CliRunner, Result

from relay.cli import main
from relay.core.recognise import VIA
from tests.processes import RelayProcess
from tests.test_process import run


def health(address: str) -> Result:
    return CliRunner().invoke(main, ["health", "--address", address])


@pytest.mark.parametrize(
    "address",
    [
        *("", "relay", ":80", "[]:80", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:http", "127.0.0.1:²"),
        *(
            "127.0.0.1:٣",
            "::1:80",
            "[::1:80",
            "a..b:80",
            "a b:80",
            "a\nb:80",
            "a/b:80",
            "http://localhost:80",
            "u@a:80",
        ),
        *("a:80/readyz", "a:80?"),
    ],
)
def test_what_is_no_address_is_wrong_usage(address: str) -> None:
    done = health(address)

    assert done.exit_code == 2
    assert done.stderr.endswith(f"{address!r} is no HOST:PORT; write one like 127.0.0.1:19090\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_nobody_there_is_one_line_and_exit_1(host: str) -> None:
    with socket.socket() as unheard:  # its port is taken, and nobody listens
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]

        done = health(f"{host}:{port}")

    assert done.exit_code == 1
    assert done.stderr.startswith(f"no relay answers at {host.strip('[]')} port {port}: ")
    assert done.stderr.count("\n") == 1


def test_a_file_that_leaves_the_port_open_needs_an_address(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("admin: {port: 0}\n")

    done = CliRunner().invoke(main, ["health", "-c", str(path)])

    assert done.exit_code == 2
    assert "with --address" in done.stderr


def test_a_file_with_mistakes_is_exit_2(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["health", "-c", str(tmp_path / "none.yaml")])

    assert (done.exit_code, done.stderr) == (
        2,
        f"{tmp_path}/none.yaml: there is no such file; give the YAML's path with -c\n",
    )


async def test_something_else_that_says_ok_is_no_healthy_relay() -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(text="ok")

    async with RawTestServer(answer) as other:
        port = other.port
        done = await asyncio.to_thread(health, f"127.0.0.1:{port}")

    assert done.exit_code == 1
    assert done.stderr == f"no relay answers at 127.0.0.1 port {port}, but something else; see who listens there\n"


async def test_nothing_of_an_answer_controls_the_terminal() -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\x1b[2J\u202e", headers={"Server": VIA})

    async with RawTestServer(answer) as other:
        done = await asyncio.to_thread(health, f"127.0.0.1:{other.port}")

    assert (done.exit_code, done.stdout) == (0, "ok\\u001b[2J\\u202e\n")


async def test_an_answer_that_drips_is_given_up() -> None:
    """Each byte comes in time, and the whole never."""
    left = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.1)
        writer.close()
        left.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        done = await asyncio.to_thread(health, f"127.0.0.1:{port}")
        await left.wait()

    assert done.exit_code == 1
    assert done.stderr == f"no relay answers at 127.0.0.1 port {port}: timed out\n"


async def test_a_relay_whose_loop_does_not_turn_answers_no_probe(config: Path, relay: RelayProcess) -> None:
    relay.process.send_signal(signal.SIGSTOP)
    stuck = await asyncio.to_thread(run, "health", "-c", str(config))
    relay.process.send_signal(signal.SIGCONT)
    well = await asyncio.to_thread(run, "health", "-c", str(config))

    assert (stuck.returncode, stuck.stdout) == (1, "")
    assert stuck.stderr.endswith(": timed out\n")
    assert (well.returncode, well.stdout) == (0, "ok\n")
