"""The stand-in Flagsmith around its answers: redirects, headers, codings, the environment document, SDKs."""

import asyncio
import gzip
import json
import zlib
from typing import Any

import aiohttp
import brotli
import pytest
from flagsmith import Flagsmith

from relay.sandbox.flagsmith import (
    CLIENT_KEY,
    DEFAULT_FLAGS,
    SERVER_KEY,
    Coding,
    StandInFlag,
    StandInFlagsmith,
    Style,
    Variant,
)
from tests.sandbox.asking import FEW, IDENTITIES, ask, identify


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("style", "status", "location"),
    [("core", 301, "{base}/api/v1/identities/?a=%2F+b"), ("edge_proxy", 307, "{url}/api/v1/identities/?a=%2F+b")],
)
async def test_a_missing_slash_is_redirected(
    http: aiohttp.ClientSession, method: str, style: Style, status: int, location: str
) -> None:
    """Core's Location is relative, the Edge Proxy's is absolute and made from the caller's Host."""
    async with StandInFlagsmith(FEW, style=style, base="/flagsmith") as flagsmith:
        given, headers, _ = await ask(http, flagsmith, "/api/v1/identities?a=%2F+b", method=method)

    assert given == status
    assert headers["Location"] == location.format(base="/flagsmith", url=flagsmith.url)


async def test_the_edge_api_needs_no_slash(http: aiohttp.ClientSession) -> None:
    async with StandInFlagsmith(FEW, style="edge") as flagsmith:
        status, _, answer = await ask(http, flagsmith, "/api/v1/identities?identifier=a")

    assert (status, answer["identifier"]) == (200, "a")


async def test_below_a_base_path_nothing_else_is_served(http: aiohttp.ClientSession) -> None:
    async with StandInFlagsmith(FEW, base="/flagsmith") as flagsmith:
        inside = await ask(http, flagsmith, "/api/v1/flags/")
        async with http.get(flagsmith.url.removesuffix("/flagsmith") + "/api/v1/flags/") as outside:
            assert (inside[0], outside.status) == (200, 404)


@pytest.mark.parametrize(
    ("style", "key", "status"),
    [("core", SERVER_KEY, 200), ("core", CLIENT_KEY, 403), ("edge", SERVER_KEY, 200), ("edge_proxy", CLIENT_KEY, 200)],
)
async def test_the_environment_document_is_for_server_keys_but_at_the_edge_proxy(
    http: aiohttp.ClientSession, style: Style, key: str, status: int
) -> None:
    slash = "" if style == "edge_proxy" else "/"
    async with StandInFlagsmith(FEW, style=style) as flagsmith:
        assert (await ask(http, flagsmith, "/api/v1/environment-document" + slash, key=key))[0] == status


async def test_an_unchanged_environment_document_is_not_sent_again(http: aiohttp.ClientSession) -> None:
    target = "/api/v1/environment-document/"
    async with StandInFlagsmith(FEW) as flagsmith:
        _, headers, _ = await ask(http, flagsmith, target, key=SERVER_KEY)
        since = {"If-Modified-Since": headers["Last-Modified"]}
        status, _, answer = await ask(http, flagsmith, target, key=SERVER_KEY, headers=since)

    assert (status, answer) == (304, "")


async def test_core_sends_the_headers_that_sdks_and_caches_read(http: aiohttp.ClientSession) -> None:
    async with StandInFlagsmith(FEW) as flagsmith:
        _, headers, _ = await ask(
            http, flagsmith, IDENTITIES + "?identifier=a", headers={"Origin": "https://app.example"}
        )

    assert float(headers["X-Flagsmith-Document-Updated-At"]) > 1_700_000_000
    assert headers["Vary"] == "X_ENVIRONMENT_KEY, Accept, Origin"
    assert headers["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"
    assert headers["Flagsmith-Version"]
    assert headers["Content-Type"] == "application/json"
    assert (headers["Access-Control-Allow-Origin"], headers["Access-Control-Expose-Headers"]) == ("*", "Retry-After")


@pytest.mark.parametrize(
    ("style", "answer", "headers"),
    [
        ("core", "", {"Access-Control-Allow-Origin": "*", "Access-Control-Max-Age": "86400"}),
        (
            "edge_proxy",
            "OK",
            {
                "Access-Control-Allow-Origin": "https://app.example",
                "Access-Control-Allow-Headers": "x-environment-key",
                "Access-Control-Allow-Credentials": "true",
                "Access-Control-Max-Age": "600",
            },
        ),
    ],
)
async def test_a_preflight_needs_no_key(
    http: aiohttp.ClientSession, style: Style, answer: str, headers: dict[str, str]
) -> None:
    preflight = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "x-environment-key",
    }
    async with StandInFlagsmith(FEW, style=style) as flagsmith:
        status, given, text = await ask(http, flagsmith, IDENTITIES, method="OPTIONS", key=None, headers=preflight)

    assert (status, text) == (200, answer)
    assert headers.items() <= dict(given).items()


@pytest.mark.parametrize(
    ("coding", "decode"), [("gzip", gzip.decompress), ("deflate", zlib.decompress), ("br", brotli.decompress)]
)
@pytest.mark.parametrize(("accepted", "compressed"), [("{}", True), ("identity, {};q=0.5", True), ("{};q=0", False)])
async def test_an_answer_is_compressed_for_who_accepts_it(
    coding: Coding, decode: Any, accepted: str, compressed: bool
) -> None:
    headers = {"X-Environment-Key": CLIENT_KEY, "Accept-Encoding": accepted.format(coding)}
    async with (
        StandInFlagsmith(FEW, coding=coding) as flagsmith,
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.get(flagsmith.url + IDENTITIES + "?identifier=a", headers=headers) as answer,
    ):
        raw = await answer.read()
        named = answer.headers.get("Content-Encoding")

    assert named == (coding if compressed else None)
    assert json.loads(decode(raw) if compressed else raw)["identifier"] == "a"
    assert ("Accept-Encoding" in answer.headers["Vary"]) == compressed


async def test_zstd_is_spoken_too() -> None:
    headers = {"X-Environment-Key": CLIENT_KEY, "Accept-Encoding": "zstd"}
    async with (
        StandInFlagsmith(FEW, coding="zstd") as flagsmith,
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.get(flagsmith.url + IDENTITIES + "?identifier=a", headers=headers) as answer,
    ):
        assert (await answer.read())[:4] == b"\x28\xb5\x2f\xfd"


@pytest.mark.parametrize(("flags", "named"), [(DEFAULT_FLAGS, "gzip"), (FEW, None)])
async def test_the_edge_proxy_compresses_by_itself_from_a_thousand_bytes(
    http: aiohttp.ClientSession, flags: tuple[StandInFlag, ...], named: str | None
) -> None:
    async with StandInFlagsmith(flags, style="edge_proxy") as flagsmith:
        _, headers, answer = await ask(http, flagsmith, IDENTITIES + "?identifier=a")

    assert headers.get("Content-Encoding") == named
    assert answer["identifier"] == "a"


async def test_hidden_data_leaves_names_and_values(http: aiohttp.ClientSession) -> None:
    async with StandInFlagsmith(FEW, hide_sensitive=True) as flagsmith:
        traits = [{"trait_key": "plan", "trait_value": "pro"}]
        _, answer = await identify(http, flagsmith, {"identifier": "ada", "traits": traits})

    flag = answer["flags"][1]
    assert (answer["identifier"], answer["traits"]) == ("ada", [])
    assert (flag["id"], flag["environment"], flag["feature"]["created_date"]) == (None, None, None)
    assert (flag["feature"]["name"], flag["enabled"], flag["feature_state_value"]) == ("größe", True, "ü")


@pytest.mark.parametrize(
    ("style", "key", "left"),
    [("core", CLIENT_KEY, 1), ("core", SERVER_KEY, 1), ("edge_proxy", CLIENT_KEY, 1), ("edge_proxy", SERVER_KEY, 2)],
)
async def test_hidden_disabled_flags_are_left_out_but_for_a_server_key_at_the_edge_proxy(
    http: aiohttp.ClientSession, style: Style, key: str, left: int
) -> None:
    flags = (StandInFlag("on"), StandInFlag("off", enabled=False))
    async with StandInFlagsmith(flags, style=style, hide_disabled=True) as flagsmith:
        _, _, answer = await ask(http, flagsmith, IDENTITIES + "?identifier=a", key=key)

    assert len(answer["flags"]) == left


async def test_an_identity_keeps_its_variant_and_all_variants_are_given(http: aiohttp.ClientSession) -> None:
    flag = StandInFlag("copy", "control", variants=(Variant("a", "A", 30), Variant("b", "B", 30)))
    async with StandInFlagsmith([flag]) as flagsmith:
        given = [
            [
                (await ask(http, flagsmith, f"{IDENTITIES}?identifier=user-{number}"))[2]["flags"][0]
                for number in range(60)
            ]
            for _ in range(2)
        ]

    pairs = [[(one["variant"], one["feature_state_value"]) for one in flags] for flags in given]
    assert pairs[0] == pairs[1]
    assert set(pairs[0]) == {("a", "A"), ("b", "B"), ("control", "control")}


async def test_every_request_is_remembered_byte_for_byte(http: aiohttp.ClientSession) -> None:
    async with StandInFlagsmith(FEW, base="/f") as flagsmith:
        await ask(
            http, flagsmith, "/odd?", method="PATCH", key=None, data=b"\x1f\x8b\0", headers={"Content-Encoding": "gzip"}
        )

    [seen] = flagsmith.requests
    assert (seen.method, seen.target, seen.body) == ("PATCH", "/f/odd", b"\x1f\x8b\0")
    assert ("Content-Encoding", "gzip") in seen.headers


@pytest.mark.parametrize("style", ["core", "edge", "edge_proxy"])
async def test_an_sdk_decides_the_same_with_the_environment_document(style: Style) -> None:
    """The Python SDK in local evaluation: the document loads, and its variants are those of the remote answers."""
    people = [f"user-{number}" for number in range(20)]
    async with StandInFlagsmith(style=style) as flagsmith:
        local, remote = await asyncio.to_thread(_evaluate, flagsmith.url + "/api/v1/", people)

    assert local == remote
    assert len(set(map(str, remote))) > 1


def _evaluate(url: str, people: list[str]) -> tuple[list[Any], list[Any]]:
    local = Flagsmith(environment_key=SERVER_KEY, api_url=url, enable_local_evaluation=True)
    remote = Flagsmith(environment_key=SERVER_KEY, api_url=url)
    return [_decisions(local, who) for who in people], [_decisions(remote, who) for who in people]


def _decisions(sdk: Flagsmith, who: str) -> dict[str, Any]:
    return {flag.feature_name: (flag.enabled, flag.value) for flag in sdk.get_identity_flags(who).all_flags()}
