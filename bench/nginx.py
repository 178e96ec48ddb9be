"""nginx, where it is installed: as the fastest Flagsmith there is, and as a proxy to compare with."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import upstream
from bench.process import Process, free_port, started

# One process: a worker of root's nginx would be nobody, who can write to no folder of root's.
CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream flagsmith {{ server {origin}; keepalive 64; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ {location} }}
    }}
}}
"""
FORWARD = 'proxy_pass http://flagsmith; proxy_http_version 1.1; proxy_set_header Connection "";'


def installed() -> bool:
    """Whether this machine has nginx."""
    return shutil.which("nginx") is not None


@contextmanager
def flagsmith(folder: Path) -> Iterator[Process]:
    """Answers every request with the 30 flags, and the identity it asks for."""
    answer = upstream.answer("$arg_identifier")
    with _nginx(folder / "nginx-flagsmith", "127.0.0.1:1", f"return 200 '{answer}';") as process:
        yield process


@contextmanager
def proxy(folder: Path, origin: str) -> Iterator[Process]:
    """Forwards every request to *origin*."""
    with _nginx(folder / "nginx-proxy", origin.removeprefix("http://"), FORWARD) as process:
        yield process


@contextmanager
def _nginx(folder: Path, origin: str, location: str) -> Iterator[Process]:
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, origin=origin, port=port, location=location))
    with started(["nginx", "-p", str(folder), "-c", str(config)], port) as process:
        yield process
