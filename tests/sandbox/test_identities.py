"""How core, the Edge API and the Edge Proxy answer who asks for an identity's flags."""

from typing import Any

import aiohttp
import pytest

from relay.sandbox.flagsmith import CLIENT_KEY, SERVER_KEY, StandInFlagsmith, Style
from tests.sandbox.asking import FEW, IDENTITIES, ask, identify

CORE_FLAG = {
    "id": 101,
    "feature": {
        "id": 1,
        "name": "dark_mode",
        "created_date": "2026-01-05T10:00:00.000000Z",
        "description": None,
        "initial_value": None,
        "default_enabled": True,
        "type": "STANDARD",
    },
    "feature_state_value": None,
    "environment": 1,
    "identity": None,
    "feature_segment": None,
    "enabled": True,
}
SLIM_FLAG = {
    "feature": {"id": 1, "name": "dark_mode", "type": "STANDARD"},
    "enabled": True,
    "feature_state_value": None,
}


@pytest.mark.parametrize(
    ("style", "answer"),
    [
        ("core", {"identifier": "ada", "traits": [], "flags": [{**CORE_FLAG, "variant": None}]}),
        ("old_core", {"traits": [], "flags": [CORE_FLAG]}),
        ("edge", {"identifier": "ada", "traits": [], "flags": [{**SLIM_FLAG, "variant": None}]}),
        ("edge_proxy", {"identifier": "ada", "traits": [], "flags": [SLIM_FLAG]}),
    ],
)
async def test_each_style_has_its_own_shape(http: aiohttp.ClientSession, style: Style, answer: dict[str, Any]) -> None:
    async with StandInFlagsmith(FEW[:1], style=style) as flagsmith:
        for method, data in (("GET", None), ("POST", b'{"identifier": "ada"}')):
            status, _, given = await ask(
                http,
                flagsmith,
                IDENTITIES + "?identifier=ada",
                method=method,
                data=data,
                headers={"Content-Type": "application/json"},
            )

            assert (status, given) == (200, answer)
            assert list(given) == list(answer)


@pytest.mark.parametrize("style", ["core", "edge_proxy"])
async def test_core_escapes_what_is_not_ascii_and_the_edge_proxy_does_not(
    http: aiohttp.ClientSession, style: Style
) -> None:
    async with (
        StandInFlagsmith(FEW, style=style) as flagsmith,
        http.get(flagsmith.url + IDENTITIES + "?identifier=a", headers={"X-Environment-Key": CLIENT_KEY}) as answer,
    ):
        assert (await answer.read()).isascii() == (style == "core")


@pytest.mark.parametrize("style", ["core", "edge", "edge_proxy"])
@pytest.mark.parametrize(("key", "flags"), [(CLIENT_KEY, 2), (SERVER_KEY, 3)])
async def test_a_feature_for_server_keys_only_is_left_out_for_a_client_key(
    http: aiohttp.ClientSession, style: Style, key: str, flags: int
) -> None:
    async with StandInFlagsmith(FEW, style=style) as flagsmith:
        _, _, identity = await ask(http, flagsmith, IDENTITIES + "?identifier=a", key=key)
        _, _, environment = await ask(http, flagsmith, "/api/v1/flags/", key=key)

    assert (len(identity["flags"]), len(environment)) == (flags, flags)


@pytest.mark.parametrize(
    ("style", "method", "target", "key", "status", "answer"),
    [
        ("core", "GET", IDENTITIES, CLIENT_KEY, 200, {"detail": "Missing identifier"}),
        ("core", "GET", IDENTITIES + "?identifier=", CLIENT_KEY, 200, {"detail": "Missing identifier"}),
        ("core", "GET", IDENTITIES + "?identifier=a", None, 403, {"detail": "Invalid or missing Environment key"}),
        ("core", "GET", IDENTITIES + "?identifier=a", "nope", 403, {"detail": "Invalid or missing Environment Key"}),
        ("core", "GET", IDENTITIES + "?identifier=a&feature=x", CLIENT_KEY, 404, {"detail": "Given feature not found"}),
        ("core", "GET", "/api/v1/flags/?feature=x", CLIENT_KEY, 404, {"detail": "Given feature not found"}),
        ("core", "PUT", IDENTITIES, CLIENT_KEY, 405, {"detail": 'Method "PUT" not allowed.'}),
        ("core", "OPTIONS", IDENTITIES, None, 403, {"detail": "Invalid or missing Environment key"}),
        ("core", "HEAD", IDENTITIES + "?identifier=a", CLIENT_KEY, 200, ""),
        ("core", "POST", "/api/v1/analytics/flags/", CLIENT_KEY, 200, ""),
        ("core", "POST", "/api/v2/analytics/flags/", CLIENT_KEY, 204, ""),
        ("edge", "GET", "/nowhere", CLIENT_KEY, 404, {"detail": "Not found."}),
        ("edge_proxy", "GET", "/nowhere", CLIENT_KEY, 404, {"detail": "Not Found"}),
        ("edge_proxy", "POST", "/api/v1/analytics/flags/", CLIENT_KEY, 404, {"detail": "Not Found"}),
        ("edge_proxy", "GET", IDENTITIES + "?identifier=a", None, 500, "Internal Server Error"),
        (
            "edge_proxy",
            "GET",
            IDENTITIES + "?identifier=a",
            "nope",
            401,
            {"status": "unauthorized", "message": "unknown key 'nope'"},
        ),
        (
            "edge_proxy",
            "GET",
            "/api/v1/flags/?feature=x",
            CLIENT_KEY,
            404,
            {"status": "not_found", "message": "feature 'x' not found"},
        ),
        ("edge_proxy", "HEAD", IDENTITIES + "?identifier=a", CLIENT_KEY, 405, ""),
        ("edge_proxy", "DELETE", IDENTITIES, CLIENT_KEY, 405, {"detail": "Method Not Allowed"}),
    ],
)
async def test_each_style_has_its_own_errors(
    http: aiohttp.ClientSession, style: Style, method: str, target: str, key: str | None, status: int, answer: Any
) -> None:
    async with StandInFlagsmith(FEW, style=style) as flagsmith:
        given = await ask(http, flagsmith, target, method=method, key=key)

    assert (given[0], given[2]) == (status, answer)


@pytest.mark.parametrize(
    "target", ["/nowhere", IDENTITIES + "?identifier=%00", IDENTITIES + "?identifier=" + "a" * 2001]
)
async def test_core_answers_html_where_it_knows_no_better(
    http: aiohttp.ClientSession, flagsmith: StandInFlagsmith, target: str
) -> None:
    status, _, answer = await ask(http, flagsmith, target, key=flagsmith.client_key)

    assert status == (404 if target == "/nowhere" else 500)
    assert answer.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("style", "query", "identifier"),
    [
        ("core", "identifier=one&identifier=two", "two"),
        ("core", "identifier=a+b", "a b"),
        ("core", "identifier=%20u1%20", " u1 "),
        ("core", "identifier=%C3%A9%F0%9F%91%8B", "é👋"),
        ("edge_proxy", "identifier=", ""),
        ("edge_proxy", "identifier=one&identifier=two", "two"),
    ],
)
async def test_a_query_names_an_identity(
    http: aiohttp.ClientSession, style: Style, query: str, identifier: str
) -> None:
    async with StandInFlagsmith(FEW, style=style) as flagsmith:
        _, _, answer = await ask(http, flagsmith, f"{IDENTITIES}?{query}")

    assert answer["identifier"] == identifier


@pytest.mark.parametrize(
    ("given", "identifier"),
    [
        ({"identifier": "  sp  "}, "sp"),
        ({"identifier": 123}, "123"),
        ({"identifier": 1.5}, "1.5"),
        ({"identifier": "é"}, "é"),
    ],
)
async def test_core_trims_what_is_posted_and_makes_text_of_numbers(
    http: aiohttp.ClientSession, given: dict[str, Any], identifier: str
) -> None:
    async with StandInFlagsmith(FEW) as flagsmith:
        status, answer = await identify(http, flagsmith, given)

    assert (status, answer["identifier"]) == (200, identifier)


@pytest.mark.parametrize("given", [{}, {"identifier": None}, {"identifier": ""}, {"identifier": " "}])
async def test_core_makes_up_an_identity_for_who_names_none(http: aiohttp.ClientSession, given: dict[str, Any]) -> None:
    """A new one each time, or the same one for the same traits."""
    traits = {"traits": [{"trait_key": "plan", "trait_value": "pro"}]}
    async with StandInFlagsmith(FEW) as flagsmith:
        bare = [(await identify(http, flagsmith, given))[1]["identifier"] for _ in range(2)]
        with_traits = [(await identify(http, flagsmith, given | traits))[1]["identifier"] for _ in range(2)]

    assert (len(bare[0]), bare[0] != bare[1]) == (32, True)
    assert (len(with_traits[0]), with_traits[0] == with_traits[1]) == (64, True)


@pytest.mark.parametrize(
    ("given", "media_type", "status", "answer"),
    [
        (b"{", "application/json", 400, None),
        (b'{"identifier": NaN}', "application/json", 400, None),
        (b'{"identifier": "\xff"}', "application/json", 400, None),
        ([], "application/json", 400, {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}),
        ({"identifier": True}, "application/json", 400, {"identifier": ["Not a valid string."]}),
        ({"identifier": "a", "traits": None}, "application/json", 400, {"traits": ["This field may not be null."]}),
        (
            {"identifier": "a", "traits": [{"trait_value": 1}]},
            "application/json",
            400,
            {"traits": [{"trait_key": ["This field is required."]}]},
        ),
        ({"identifier": "a"}, "text/plain", 415, {"detail": 'Unsupported media type "text/plain" in request.'}),
    ],
)
async def test_core_refuses_a_wrong_body(
    http: aiohttp.ClientSession, given: Any, media_type: str, status: int, answer: Any
) -> None:
    async with StandInFlagsmith(FEW) as flagsmith:
        refused = await identify(http, flagsmith, given, media_type)

    assert refused[0] == status
    assert answer is None or refused[1] == answer


async def test_core_takes_a_form(http: aiohttp.ClientSession) -> None:
    async with StandInFlagsmith(FEW) as flagsmith:
        _, answer = await identify(http, flagsmith, b"identifier=a+b", "application/x-www-form-urlencoded")

    assert answer["identifier"] == "a b"


@pytest.mark.parametrize(
    ("given", "media_type"),
    [
        (b"{", "application/json"),
        ([], "application/json"),
        ({}, "application/json"),
        ({"identifier": None}, "application/json"),
        ({"identifier": 1}, "application/json"),
        ({"identifier": "a", "traits": None}, "application/json"),
        ({"identifier": "a", "traits": [{"trait_value": 1}]}, "application/json"),
        ({"identifier": "a", "traits": [{"trait_key": "k", "trait_value": "v" * 2001}]}, "application/json"),
        (b"identifier=a", "application/x-www-form-urlencoded"),
    ],
)
async def test_the_edge_proxy_refuses_a_wrong_body(http: aiohttp.ClientSession, given: Any, media_type: str) -> None:
    async with StandInFlagsmith(FEW, style="edge_proxy") as flagsmith:
        status, answer = await identify(http, flagsmith, given, media_type)

    assert (status, list(answer)) == (422, ["detail"])


async def test_core_remembers_traits_that_are_not_transient(http: aiohttp.ClientSession) -> None:
    traits = [{"trait_key": "plan", "trait_value": "pro"}, {"trait_key": "tmp", "trait_value": 3, "transient": True}]
    async with StandInFlagsmith(FEW) as flagsmith:
        _, posted = await identify(http, flagsmith, {"identifier": "ada", "traits": traits})
        await identify(http, flagsmith, {"identifier": "bob", "traits": traits, "transient": True})
        _, _, ada = await ask(http, flagsmith, IDENTITIES + "?identifier=ada")
        _, _, bob = await ask(http, flagsmith, IDENTITIES + "?identifier=bob")

    assert posted["traits"] == [
        {"id": None, "trait_key": "plan", "trait_value": "pro", "transient": False},
        {"id": None, "trait_key": "tmp", "trait_value": 3, "transient": True},
    ]
    assert ada["traits"] == [{"id": 1, "trait_key": "plan", "trait_value": "pro", "transient": False}]
    assert bob["traits"] == []


async def test_the_edge_proxy_echoes_traits_and_forgets_them(http: aiohttp.ClientSession) -> None:
    traits = [{"trait_key": "plan", "trait_value": "pro"}, {"trait_key": "gone", "trait_value": None}]
    async with StandInFlagsmith(FEW, style="edge_proxy") as flagsmith:
        _, posted = await identify(http, flagsmith, {"identifier": "ada", "traits": traits})
        _, _, later = await ask(http, flagsmith, IDENTITIES + "?identifier=ada")

    assert (posted["traits"], later["traits"]) == (traits, [])


@pytest.mark.parametrize(
    ("style", "feature"), [("core", True), ("old_core", True), ("edge", True), ("edge_proxy", False)]
)
async def test_asked_for_one_feature_only_the_edge_proxy_answers_all(
    http: aiohttp.ClientSession, style: Style, feature: bool
) -> None:
    async with StandInFlagsmith(FEW, style=style) as flagsmith:
        _, _, answer = await ask(http, flagsmith, IDENTITIES + "?identifier=a&feature=dark_mode")

    assert ("flags" not in answer and answer["feature"]["name"] == "dark_mode") == feature


async def test_core_renders_a_page_for_a_browser(http: aiohttp.ClientSession) -> None:
    async with StandInFlagsmith(FEW) as flagsmith:
        status, headers, _ = await ask(
            http, flagsmith, IDENTITIES + "?identifier=a", headers={"Accept": "text/html,application/json;q=0.9"}
        )

    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")


TRAIT = b'{"identity": {"identifier": "ada"}, "trait_key": "visits", "trait_value": 1}'
STEP = b'{"identifier": "ada", "trait_key": "visits", "increment_by": 2}'


@pytest.mark.parametrize(
    ("method", "target", "data", "visits"),
    [
        ("POST", "/api/v1/traits/", TRAIT, 1),
        ("PUT", "/api/v1/traits/bulk/", b"[" + TRAIT + b"]", 1),
        ("POST", "/api/v1/traits/increment-value/", STEP, 2),
    ],
)
async def test_the_traits_routes_write_and_answer_no_flags(
    http: aiohttp.ClientSession, method: str, target: str, data: bytes, visits: int
) -> None:
    async with StandInFlagsmith(FEW) as flagsmith:
        json_type = {"Content-Type": "application/json"}
        status, _, answer = await ask(http, flagsmith, target, method=method, data=data, headers=json_type)
        refused, _, _ = await ask(http, flagsmith, target, method=method, data=b"{}", headers=json_type)
        _, _, identity = await ask(http, flagsmith, IDENTITIES + "?identifier=ada")

    assert (status, "flags" in answer, refused) == (200, False, 400)
    assert [(trait["trait_key"], trait["trait_value"]) for trait in identity["traits"]] == [("visits", visits)]


@pytest.mark.parametrize(
    ("method", "target", "kind"),
    [
        ("GET", "/api/v1/identities/ada/", dict),
        ("GET", "/api/v1/flags/ada", list),
        ("POST", "/api/v1/identities/ada/traits/plan", dict),
    ],
)
async def test_core_still_serves_its_deprecated_routes_and_the_edge_proxy_does_not(
    http: aiohttp.ClientSession, method: str, target: str, kind: type
) -> None:
    async with StandInFlagsmith(FEW) as core, StandInFlagsmith(FEW, style="edge_proxy") as edge_proxy:
        status, _, answer = await ask(http, core, target, method=method)
        missing, _, _ = await ask(http, edge_proxy, target, method=method)

    assert (status, type(answer), missing) == (200, kind, 404)
