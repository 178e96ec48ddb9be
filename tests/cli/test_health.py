"""relay health, as it is typed."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli import main


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
