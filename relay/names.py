"""Where a host is: whoever asks at the same time, or within seconds, asks the name servers once."""

import asyncio
import socket

from aiohappyeyeballs import AddrInfoType

from relay.config.hosts import is_ip

# A name's addresses are used for so long.
RESOLVED_SECONDS = 10.0


class Names:
    """The addresses of one host and port."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lookup: asyncio.Task[list[AddrInfoType]] | None = None
        self._looked_up = 0.0

    def close(self) -> None:
        """Ask no more."""
        if self._lookup is not None:
            self._lookup.cancel()

    async def addresses(self) -> list[AddrInfoType]:
        """All of them; each time another one comes first. Raises OSError."""
        now = asyncio.get_running_loop().time()
        lookup = self._lookup
        if lookup is None or (lookup.done() and (now - self._looked_up > RESOLVED_SECONDS or _failed(lookup))):
            self._looked_up = now
            lookup = self._lookup = asyncio.create_task(self._look_up(), name="lookup")
            lookup.add_done_callback(_failed)  # so that asyncio does not report what nobody waited for
        await asyncio.wait({lookup})  # whoever stops to wait does not stop it for the others
        addresses = lookup.result()
        addresses.append(addresses.pop(0))
        return [*addresses]

    async def _look_up(self) -> list[AddrInfoType]:
        loop = asyncio.get_running_loop()
        # Of a machine without IPv6, the name servers need not be asked for its addresses.
        flags = 0 if is_ip(self._host) else socket.AI_ADDRCONFIG
        return [*await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=flags)]


def _failed(lookup: "asyncio.Task[list[AddrInfoType]]") -> bool:
    return lookup.cancelled() or lookup.exception() is not None
