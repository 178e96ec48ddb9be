"""Ports for servers that are away now and then, and must find theirs free when they come back."""

import random
import socket
from itertools import count

# Below those that the system gives to who connects (net.ipv4.ip_local_port_range, 32768 on Linux).
_PORTS = count(random.randrange(10_000, 30_000))


def reserve_port() -> int:
    """A port of this machine that nobody holds, and that nobody else is given."""
    for port in _PORTS:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError("no port is free")
