"""How the Flagsmith Edge Proxy answers SDKs: without slashes, without state (github.com/Flagsmith/edge-proxy)."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from relay.sandbox import shapes
from relay.sandbox.call import Call, encoded
from relay.sandbox.faults import Reply
from relay.sandbox.flags import Served, ServedEnvironment

MAX_TRAIT = 2_000
_HEALTH = frozenset({"/health", "/proxy/health", "/proxy/health/readiness", "/proxy/health/liveness"})

Route = Callable[["EdgeProxyDialect", Call], Reply]


class EdgeProxyDialect:
    """The Edge Proxy, release 2.23."""

    def __init__(self, environment: ServedEnvironment) -> None:
        self._environment = environment

    def answer(self, call: Call) -> Reply:
        reply = self._preflight(call) or self._route(call)
        headers: tuple[tuple[str, str], ...] = (("Server", "uvicorn"),)
        if "Origin" in call.headers:
            headers += (("Access-Control-Allow-Credentials", "true"),)
            headers += () if call.method == "OPTIONS" else (("Access-Control-Allow-Origin", "*"),)
        return Reply(reply.status, reply.body, reply.headers + headers)

    def _preflight(self, call: Call) -> Reply | None:
        method = call.headers.get("Access-Control-Request-Method")
        if call.method != "OPTIONS" or "Origin" not in call.headers or method is None:
            return None
        headers = (
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", call.headers["Origin"]),
            ("Access-Control-Allow-Methods", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
            ("Access-Control-Allow-Headers", call.headers.get("Access-Control-Request-Headers", "")),
            ("Access-Control-Max-Age", "600"),
        )
        return Reply(200, b"OK", headers)

    def _route(self, call: Call) -> Reply:
        if call.path in _HEALTH:
            return _json(200, {"status": "ok"})
        if call.path not in _ROUTES:
            return self._unknown(call)
        route = _ROUTES[call.path].get(call.method)
        return _json(405, {"detail": "Method Not Allowed"}) if route is None else route(self, call)

    def _unknown(self, call: Call) -> Reply:
        """One slash more or less is redirected, to the caller's own idea of this host."""
        other = call.raw_path.rstrip("/") if call.raw_path.endswith("/") else call.raw_path + "/"
        if other not in _ROUTES:
            return _json(404, {"detail": "Not Found"})
        return Reply(307, b"", (("Location", f"http://{call.headers.get('Host', '')}{call.location(other)}"),))

    def flags(self, call: Call) -> Reply:
        if refusal := self._guard(call):
            return refusal
        served = self._serve(call, None)
        name = call.query.get("feature")
        if name is None:
            return _json(200, list(map(shapes.slim_flag, served)))
        for flag in served:
            if flag.flag.name == name:
                return _json(200, shapes.slim_flag(flag))
        return _json(404, {"status": "not_found", "message": f"feature '{name}' not found"})

    def get_identity(self, call: Call) -> Reply:
        identifier = call.query.get("identifier")
        if identifier is None:
            return _invalid("missing", ["query", "identifier"], "Field required")
        return self._guard(call) or self._identity(call, identifier, [])

    def post_identity(self, call: Call) -> Reply:
        """Answers with the traits it was given and keeps none of them."""
        try:
            given: Any = json.loads(call.body) if call.media_type == "application/json" else None
        except (ValueError, RecursionError) as exc:
            return _invalid("json_invalid", ["body", 0], f"JSON decode error: {exc}")
        if refusal := _wrong_body(given) or self._guard(call):
            return refusal
        return self._identity(call, given["identifier"], given.get("traits", []))

    def _identity(self, call: Call, identifier: str, traits: list[dict[str, Any]]) -> Reply:
        shown = [{"trait_key": trait["trait_key"], "trait_value": trait["trait_value"]} for trait in traits]
        flags = list(map(shapes.slim_flag, self._serve(call, identifier)))
        return _json(200, {"identifier": identifier, "traits": shown, "flags": flags})

    def document(self, call: Call) -> Reply:
        """For a client key too."""
        return self._guard(call) or _json(200, shapes.document(self._environment))

    def _guard(self, call: Call) -> Reply | None:
        if "X-Environment-Key" not in call.headers:
            return _broken()
        if not self._environment.knows(call.key):
            return _json(401, {"status": "unauthorized", "message": f"unknown key '{call.key}'"})
        return None

    def _serve(self, call: Call, identifier: str | None) -> list[Served]:
        hide = self._environment.hide_disabled and call.key == self._environment.client_key
        return self._environment.serve(call.key, identifier, hide_disabled=hide)


_ROUTES: Mapping[str, Mapping[str, Route]] = {
    "/api/v1/flags/": {"GET": EdgeProxyDialect.flags},
    "/api/v1/identities/": {"GET": EdgeProxyDialect.get_identity, "POST": EdgeProxyDialect.post_identity},
    "/api/v1/environment-document": {"GET": EdgeProxyDialect.document},
}


def _wrong_body(given: object) -> Reply | None:
    if not isinstance(given, dict):
        return _invalid("model_attributes_type", ["body"], "Input should be a valid dictionary or object")
    if "identifier" not in given:
        return _invalid("missing", ["body", "identifier"], "Field required")
    if not isinstance(given["identifier"], str):
        return _invalid("string_type", ["body", "identifier"], "Input should be a valid string")
    traits = given.get("traits", [])
    if not isinstance(traits, list):
        return _invalid("list_type", ["body", "traits"], "Input should be a valid list")
    return next(filter(None, map(_wrong_trait, traits, range(len(traits)))), None)


def _wrong_trait(trait: object, index: int) -> Reply | None:
    where: list[str | int] = ["body", "traits", index]
    if not isinstance(trait, dict) or "trait_key" not in trait or "trait_value" not in trait:
        return _invalid("missing", [*where, "trait_key"], "Field required")
    value = trait["trait_value"]
    if isinstance(value, str) and len(value) > MAX_TRAIT:
        return _invalid("string_too_long", [*where, "trait_value"], "String should have at most 2000 characters")
    return None


def _invalid(kind: str, where: list[str | int], text: str) -> Reply:
    return _json(422, {"detail": [{"type": kind, "loc": where, "msg": text}]})


def _json(status: int, content: object) -> Reply:
    """Raw UTF-8, which a lone surrogate cannot be."""
    try:
        return encoded(status, content, ascii_only=False)
    except UnicodeEncodeError:
        return _broken()


def _broken() -> Reply:
    return Reply(500, b"Internal Server Error", (("Content-Type", "text/plain; charset=utf-8"),))
