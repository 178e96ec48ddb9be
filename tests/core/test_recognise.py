import pytest

from relay.core.recognise import VIA, endpoint_class, is_identity_call, is_json, names_a_relay


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/identities",
        "/api/v1/identities/",
        "/flagsmith/api/v1/identities/",
        "/gateway/api/v1/flags/api/v1/identities/",
        "//api/v1/identities/",
        "/team/../api/v1/identities/",
        "/a%2Fb/api/v1/identities/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_identities_are_recognised_behind_any_prefix_with_or_without_the_last_slash(method: str, path: str) -> None:
    assert is_identity_call(method, path)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "get"])
def test_other_methods_are_no_identity_call(method: str) -> None:
    assert not is_identity_call(method, "/api/v1/identities/")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1/identities//",
        "/api/v1/identities/ada/",
        "/api/v1/identities/ada/traits/plan",
        "/api/v1/identities/api/v1/identities/",
        "/api/v1/bulk-identities/",
        "/api/v1/environments/8KzETdDeMY7xkqkSkY3Gsg/identities/",
        "/api/v1/environments/8KzETdDeMY7xkqkSkY3Gsg/edge-identities/",
        "/api/v1/environments/api/v1/identities/",
        "/api/v2/identities/",
        "/api/v1/Identities/",
        "/xapi/v1/identities/",
        "api/v1/identities/",
    ],
)
def test_admin_deprecated_and_foreign_routes_are_no_identity_call(path: str) -> None:
    assert not is_identity_call("GET", path)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/%69dentities/",
        "/api/v1//identities/",
        "/api/v1/./identities/",
        "/api/v1/flags/../identities/",
        "/api/v1%2Fidentities/",
        "/api/v1/identities/%2e%2e/flags/api/v1/identities/",
        "/api/v1/environments/%2e%2e/api/v1/identities/../flags/",
        "/x%2Fapi%2Fv1%2Fenvironments%2Fkey/api/v1/identities/",
    ],
)
def test_a_path_that_reads_differently_once_normalised_is_not_captured(path: str) -> None:
    assert endpoint_class("GET", path) == "other"


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/api/v1/identities/", "identities"),
        ("GET", "/api/v1/flags/", "flags"),
        ("GET", "/api/v1/flags", "flags"),
        ("GET", "/api/v1/environment-document/", "environment_document"),
        ("GET", "/api/v1/environment-document", "environment_document"),
        ("POST", "/api/v1/analytics/flags/", "analytics"),
        ("POST", "/api/v2/analytics/flags/", "analytics"),
        ("POST", "/api/v1/analytics/telemetry/", "analytics"),
        ("POST", "/api/v1/traits/", "traits"),
        ("PUT", "/api/v1/traits/bulk/", "traits"),
        ("POST", "/api/v1/traits/increment-value/", "traits"),
        ("OPTIONS", "/api/v1/flags/", "other"),
        ("GET", "/api/v1/flags/12/multivariate-options/", "other"),
        ("GET", "/health", "other"),
        ("GET", "", "other"),
    ],
)
def test_a_request_belongs_to_one_of_six_endpoint_classes(method: str, path: str, route: str) -> None:
    assert endpoint_class(method, path) == route


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", " application/json;q=1", "application/problem+json"],
)
def test_json_is_told_by_its_media_type_whatever_the_parameters(content_type: str) -> None:
    assert is_json(content_type)


@pytest.mark.parametrize("content_type", ["", "text/html", "application/jsonp", "text/json+x", "x; application/json"])
def test_other_media_types_are_not_json(content_type: str) -> None:
    assert not is_json(content_type)


@pytest.mark.parametrize(
    "via",
    [
        [f"1.1 {VIA}"],
        [f"1.1 {VIA}-7f3a"],
        ["1.1 varnish", f"1.0 fred, HTTP/1.1 {VIA} (in the next room)"],
        [f"1.1 proxy (a, (nested), comment), 1.1 {VIA.upper()}"],
        [f"1.1 proxy (a \\) in it), 1.1 {VIA}"],
    ],
)
def test_another_relay_is_found_in_any_via_header(via: list[str]) -> None:
    assert names_a_relay(via)


@pytest.mark.parametrize(
    "via",
    [
        [],
        [""],
        ["1.1"],
        ["1.1 varnish, 1.1 cache.example.com:3128"],
        [f"1.1 proxy (not, 1.1 {VIA})"],
        [f"1.1 proxy (a (nested), 1.1 {VIA})"],
        [f"1.1 proxy (never closed, 1.1 {VIA}"],
        [f"1.1 my-{VIA}"],
    ],
)
def test_a_name_elsewhere_than_in_the_place_of_the_proxy_is_no_relay(via: list[str]) -> None:
    assert not names_a_relay(via)


def test_a_hostile_via_header_is_read_in_linear_time() -> None:
    assert not names_a_relay(["(" * 100_000 + ")" * 100_000])
