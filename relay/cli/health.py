"""relay health: ask a running relay how it is, for exec probes in images without a shell."""

import os
import socket
import sys
import time
from pathlib import Path

import click

from relay.cli.options import visible
from relay.config.hosts import split_authority
from relay.core.recognise import VIA
from relay.last_good import open_file

# A probe that hangs is an answer, too, and so is one that drips.
TIMEOUT_SECONDS = 3.0
PIECE = 2**16
# What a relay may listen on, not what we ask.
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nosec B104


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="The YAML file, for admin's address.")
@click.option("--address", default="127.0.0.1:19090", show_default=True, help="Admin's HOST:PORT, without a file.")
@click.option("--ready", is_flag=True, help="Ask whether traffic is welcome, not only whether it lives.")
def health(path: Path | None, address: str, ready: bool) -> None:
    """Exit 0 where a running relay says that it is well, 1 where it does not."""
    host, port = _admin_of(path) if path else _split(address)
    healthy, said = ask(host, port, "/readyz" if ready else "/healthz")
    click.echo(said, err=not healthy)
    sys.exit(0 if healthy else 1)


def ask(host: str, port: int, path: str, *, most: int = 10_000) -> tuple[bool, str]:
    """What a relay's admin server answers at *path*: whether all is well, and its words, fit for a terminal.

    At most *most* bytes are read.
    """
    host = ANY_ADDRESS.get(host, host)
    try:
        head, _, body = _get(host, port, path, most).partition(b"\r\n\r\n")
    except OSError as failure:
        return False, f"no relay answers at {host} port {port}: {failure}"
    status, *headers = head.split(b"\r\n")
    if f"Server: {VIA}".encode() not in headers:
        return False, f"no relay answers at {host} port {port}, but something else; see who listens there"
    return status.split(b" ")[1:2] == [b"200"], visible(body.decode(errors="replace").strip())


def _get(host: str, port: int, path: str, most: int) -> bytes:
    """An answer as it came, up to *most* bytes. Raises OSError, also where the whole of it takes too long."""
    ends = time.monotonic() + TIMEOUT_SECONDS
    answer = bytearray()
    with socket.create_connection((host, port), TIMEOUT_SECONDS) as connection:
        name = f"[{host}]" if ":" in host else host
        # HTTP/1.0: the answer is not chunked, and ends with the connection.
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {name}:{port}\r\n\r\n".encode())
        while len(answer) < most:
            if (left := ends - time.monotonic()) <= 0:
                raise TimeoutError("timed out")
            connection.settimeout(left)
            if not (piece := connection.recv(PIECE)):
                break
            answer += piece
    return bytes(answer)


def _admin_of(path: Path) -> tuple[str, int]:
    """Where a relay that was started on the file listens, or one that goes on without heeding the mistakes in it."""
    admin = open_file(path, os.environ).loaded.config.admin
    if admin.port == 0:
        raise click.UsageError("admin.port is 0, any free port; give the one that the relay's log names with --address")
    return admin.host, admin.port


def _split(address: str) -> tuple[str, int]:
    match split_authority(address):
        case host, int(port) if port:
            return host, port
    raise click.BadParameter(f"{address!r} is no HOST:PORT; write one like 127.0.0.1:19090", param_hint="'--address'")
