"""The bench's own reading and asking, which its figures rest on."""

from aiohttp import web
from aiohttp.test_utils import RawTestServer

from bench.load import Demand, Load, ask, client_key, read_wrk
from bench.upstream import answer

WRK_REPORT = """Running 2s test @ http://127.0.0.1:8080
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     9.86ms    2.07ms  27.02ms   89.91%
    Req/Sec     3.25k   241.43     3.63k    71.43%
  Latency Distribution
     50%  950.00us
     75%   10.11ms
     90%   11.59ms
     99%    1.05s
  6792 requests in 2.10s, 24.23MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 4
Requests/sec:   3234.04
Transfer/sec:     11.54MB
"""


def test_a_report_of_wrk_is_read_in_microseconds_with_all_its_failures() -> None:
    assert read_wrk(WRK_REPORT) == Load(requests=6792, per_second=3234.04, p50=950, p99=1.05e6, failures=7)


async def test_our_own_load_goes_round_the_environments_and_counts_what_is_not_answered_200() -> None:
    keys: list[str] = []

    async def respond(request: web.BaseRequest) -> web.Response:
        keys.append(request.headers["X-Environment-Key"])
        return web.Response(text=answer("ada"), status=500 if len(keys) == 1 else 200)

    async with RawTestServer(respond) as server:
        seen = await ask(f"http://127.0.0.1:{server.port}", Demand(connections=1, seconds=1, environments=2))

    assert keys[:3] == [client_key(0), client_key(1), client_key(0)]
    assert (seen.requests, seen.failures) == (len(keys), 1)
    assert 0 < seen.p50 <= seen.p99


async def test_one_of_so_many_requests_is_about_somebody_new() -> None:
    asked: list[str] = []

    async def respond(request: web.BaseRequest) -> web.Response:
        asked.append(request.query["identifier"])
        return web.Response(text=answer("ada"))

    async with RawTestServer(respond) as server:
        await ask(f"http://127.0.0.1:{server.port}", Demand(connections=2, seconds=1, newcomers=10))

    new = {identity for identity in asked if len(identity.removeprefix("user-")) > 4}
    assert len(asked) // 10 <= len(new) <= len(asked) // 10 + 1
