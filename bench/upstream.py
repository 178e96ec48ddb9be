"""A Flagsmith that costs next to nothing: one answer of 30 flags, about 3.5 kB, for whoever asks."""

import asyncio
import json
import sys

FLAGS = 30
VALUES: tuple[object, ...] = (None, "control", 42, True, "#0b7261", None)


def answer(identity: str) -> str:
    """What an Edge API answers for *identity*, in its slim shape."""
    flags = [
        {
            "feature": {"id": 1000 + number, "name": f"feature_number_{number}", "type": "STANDARD"},
            "enabled": number % 3 != 0,
            "feature_state_value": VALUES[number % len(VALUES)],
        }
        for number in range(FLAGS)
    ]
    return json.dumps({"identifier": identity, "traits": [], "flags": flags}, separators=(",", ":"))


class Answerer(asyncio.Protocol):
    """Reads requests without bodies and answers them, with the identity they ask for."""

    def __init__(self) -> None:
        self._head, self._tail = (part.encode() for part in answer("\0").split("\\u0000"))
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._unread = (self._unread + data).split(b"\r\n\r\n")
        for request in requests:
            identity = request.split(b" ", 2)[1].rpartition(b"identifier=")[2]
            body = self._head + identity + self._tail
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )


async def serve(port: int) -> None:
    """Answer on *port* for ever."""
    server = await asyncio.get_running_loop().create_server(Answerer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
