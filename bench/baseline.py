"""The least that a streaming proxy does with aiohttp: what the relay's cost is measured against."""

import sys

from aiohttp import ClientSession, TCPConnector, web
from yarl import URL

UPSTREAM, SESSION = sys.argv[-1], web.AppKey("session", ClientSession)


async def forward(request: web.Request) -> web.StreamResponse:
    url = URL(UPSTREAM + request.raw_path, encoded=True)
    body = request.content if request.body_exists else None
    async with request.app[SESSION].request(request.method, url, headers=request.headers, data=body) as answer:
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        return response


async def proxy() -> web.Application:
    app = web.Application()
    app[SESSION] = ClientSession(connector=TCPConnector(limit=0), auto_decompress=False)
    app.on_cleanup.append(lambda app: app[SESSION].close())
    app.router.add_route("*", "/{path:.*}", forward)
    return app


if __name__ == "__main__":
    web.run_app(proxy(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
