"""How Flagsmith's core and the hosted Edge API answer SDKs: paths, checks, errors (github.com/Flagsmith/flagsmith)."""

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping
from email.utils import formatdate, parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import parse_qsl

from relay.sandbox import shapes
from relay.sandbox.call import Call, encoded, page
from relay.sandbox.faults import Reply
from relay.sandbox.flags import Served, ServedEnvironment

MAX_IDENTIFIER = 2_000
# What PostgreSQL cannot store; core answers 500.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_ALWAYS = (
    ("Flagsmith-Version", "2.265.0"),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Server", "gunicorn"),
)
_NEVER_CACHE = (
    ("Expires", formatdate(0, usegmt=True)),
    ("Cache-Control", "max-age=0, no-cache, no-store, must-revalidate, private"),
    ("Pragma", "no-cache"),
)
_PREFLIGHT = (
    ("Access-Control-Allow-Origin", "*"),
    (
        "Access-Control-Allow-Headers",
        "accept, authorization, baggage, content-type, flagsmith-application-name, flagsmith-application-version, "
        "flagsmith-sdk-user-agent, sentry-trace, traceparent, tracestate, user-agent, x-csrftoken, x-environment-key, "
        "x-requested-with",
    ),
    ("Access-Control-Allow-Methods", "DELETE, GET, OPTIONS, PATCH, POST, PUT"),
    ("Access-Control-Max-Age", "86400"),
    ("Content-Length", "0"),
    ("Vary", "origin"),
)
_HEALTH = frozenset({"/health", "/healthcheck", "/health/liveness/", "/health/readiness/", "/version/"})

Trait = dict[str, Any]
Route = Callable[["CoreDialect", Call], Reply]


class CoreDialect:
    """Core, an older core whose answers name neither identifier nor variant, or the Edge API with its slim answers."""

    def __init__(self, environment: ServedEnvironment, style: Literal["core", "old_core", "edge"]) -> None:
        self._environment = environment
        self._style = style
        # Traits that were stored, per identity: name → (number, value).
        self._traits: dict[str, dict[str, tuple[int, Any]]] = {}

    def answer(self, call: Call) -> Reply:
        reply = self._preflight(call) or self._route(call)
        return Reply(reply.status, reply.body, reply.headers + self._headers(call))

    def _preflight(self, call: Call) -> Reply | None:
        if call.method == "OPTIONS" and "Origin" in call.headers and "Access-Control-Request-Method" in call.headers:
            return Reply(200, b"", _PREFLIGHT)
        return None

    def _route(self, call: Call) -> Reply:
        path = call.path
        if path in _HEALTH:
            return encoded(200, {"status": "ok"}, ascii_only=True)
        if self._style == "edge" and path + "/" in _ROUTES:
            path += "/"
        methods = _ROUTES.get(path) or _deprecated(path)
        if methods is None:
            return self._unknown(call)
        return self._guard(call) or self._run(call, methods)

    def _unknown(self, call: Call) -> Reply:
        if self._style == "edge":
            return encoded(404, {"detail": "Not found."}, ascii_only=True)
        if call.path + "/" in _ROUTES:
            return Reply(301, b"", (("Location", call.location(call.raw_path + "/")), ("Content-Type", "text/html")))
        return page(404, "Not Found")

    def _guard(self, call: Call) -> Reply | None:
        if not call.key:
            return self._json(403, {"detail": "Invalid or missing Environment key"})
        if not self._environment.knows(call.key):
            return self._json(403, {"detail": "Invalid or missing Environment Key"})
        return None

    def _run(self, call: Call, methods: Mapping[str, Route]) -> Reply:
        route = methods.get("GET" if call.method == "HEAD" else call.method)
        if route is None:
            reply = self._json(405, {"detail": f'Method "{call.method}" not allowed.'})
            return Reply(reply.status, reply.body, (*reply.headers, ("Allow", ", ".join([*methods, "OPTIONS"]))))
        return route(self, call)

    def flags(self, call: Call) -> Reply:
        return self._one(call, None) if "feature" in call.query else self._list(call)

    def _list(self, call: Call) -> Reply:
        return self._json(200, [self._flag(served, identity=False) for served in self._serve(call, None)])

    def get_identity(self, call: Call) -> Reply:
        identifier = call.query.get("identifier", "")
        if not identifier:
            return self._json(200, {"detail": "Missing identifier"})
        if _is_unstorable(identifier):
            return page(500, "Server Error")
        if "feature" in call.query:
            return self._one(call, identifier)
        return self._identity(call, identifier, self._stored(identifier))

    def post_identity(self, call: Call) -> Reply:
        """Store the traits and answer with the flags; without an identifier a made-up identity is asked about."""
        given = _read(call)
        if isinstance(given, Reply):
            return given
        if wrong := _wrong_traits(given):
            return self._json(400, wrong)
        identifier = given.get("identifier")
        if isinstance(identifier, (bool, list, dict)):
            return self._json(400, {"identifier": ["Not a valid string."]})
        name = "" if identifier is None else str(identifier).strip()
        traits = given.get("traits", [])
        transient = bool(given.get("transient")) or not name
        name = name or _made_up(traits)
        if _is_unstorable(name):
            return page(500, "Server Error")
        return self._identity(call, name, self._keep(name, traits, transient=transient))

    def _identity(self, call: Call, identifier: str, traits: list[Trait]) -> Reply:
        if self._style != "core":
            traits = [_without(trait, "transient") for trait in traits]
        if self._style == "edge":
            traits = [_without(trait, "id") for trait in traits]
        answer = {
            "identifier": identifier,
            "traits": [] if self._environment.hide_sensitive else traits,
            "flags": [self._flag(served, identity=True) for served in self._serve(call, identifier)],
        }
        if self._style == "old_core":
            del answer["identifier"]
        if self._style != "edge" and call.headers.get("Accept", "").startswith("text/html"):
            return page(200, "Sdk Identities")
        return self._json(200, answer)

    def _one(self, call: Call, identifier: str | None) -> Reply:
        """The single flag that `?feature=` asks for."""
        for served in self._serve(call, identifier):
            if served.flag.name == call.query["feature"]:
                return self._json(200, self._flag(served, identity=identifier is not None))
        return self._json(404, {"detail": "Given feature not found"})

    def document(self, call: Call) -> Reply:
        """Only for a server key; unchanged since If-Modified-Since: 304."""
        if call.key != self._environment.server_key:
            return self._json(403, {"detail": "Invalid or missing Environment Key"})
        changed = int(self._environment.updated_at)
        if _since(call) >= changed:
            return Reply(304)
        reply = self._json(200, shapes.document(self._environment))
        return Reply(200, reply.body, (*reply.headers, ("Last-Modified", formatdate(changed, usegmt=True))))

    def count_flags(self, _: Call) -> Reply:
        """SDKs report here how often a flag was read."""
        return Reply(200)

    def count_flags_v2(self, _: Call) -> Reply:
        return Reply(204)

    def post_trait(self, call: Call) -> Reply:
        """The deprecated way to set one trait."""
        given = _read(call)
        if isinstance(given, Reply):
            return given
        try:
            self._keep(given["identity"]["identifier"], [given], transient=False)
        except (KeyError, TypeError):
            return self._json(400, {"identity": ["This field is required."]})
        return self._json(200, given)

    def put_traits(self, call: Call) -> Reply:
        """The deprecated way to set many traits, of several identities."""
        refusal = self._json(400, {"non_field_errors": ["Invalid data."]})
        try:
            given = json.loads(call.body)
            if not isinstance(given, list):
                return refusal
            for trait in given:
                self._keep(trait["identity"]["identifier"], [trait], transient=False)
        except (ValueError, TypeError, KeyError):
            return refusal
        return self._json(200, given)

    def increment_trait(self, call: Call) -> Reply:
        given = _read(call)
        if isinstance(given, Reply):
            return given
        try:
            identifier, name, step = given["identifier"], given["trait_key"], given["increment_by"]
            before = self._traits.get(identifier, {}).get(name, (0, 0))[1]
            self._keep(identifier, [{"trait_key": name, "trait_value": before + step}], transient=False)
        except (KeyError, TypeError):
            return self._json(400, {"trait_key": ["This field is required."]})
        return self._json(200, {**given, "value": before + step})

    def old_identity(self, call: Call) -> Reply:
        identifier = call.path.split("/")[4]
        flags = [self._flag(served, identity=True) for served in self._serve(call, identifier)]
        return self._json(200, {"flags": flags, "traits": self._stored(identifier), "segments": []})

    def old_trait(self, call: Call) -> Reply:
        return self._json(200, {"trait_key": call.path.rpartition("/")[2]})

    def old_flags(self, call: Call) -> Reply:
        return self._list(call)

    def _serve(self, call: Call, identifier: str | None) -> list[Served]:
        return self._environment.serve(call.key, identifier, hide_disabled=self._environment.hide_disabled)

    def _flag(self, served: Served, *, identity: bool) -> dict[str, Any]:
        if self._style == "edge":
            flag = shapes.slim_flag(served)
        else:
            flag = shapes.full_flag(served, sensitive=self._environment.hide_sensitive)
        if identity and self._style != "old_core":
            flag["variant"] = served.variant
        return flag

    def _stored(self, identifier: str) -> list[Trait]:
        stored = self._traits.get(identifier, {})
        return [_trait(name, value, number=number) for name, (number, value) in stored.items()]

    def _keep(self, identifier: str, given: list[Trait], *, transient: bool) -> list[Trait]:
        """Store what is not transient; the identity's traits as the answer shows them, new ones without a number."""
        shown = {trait["trait_key"]: trait for trait in self._stored(identifier)}
        stored = {} if transient else self._traits.setdefault(identifier, {})
        for trait in given:
            name, value = trait["trait_key"], _storable(trait.get("trait_value"))
            passing = transient or bool(trait.get("transient"))
            number = stored.get(name, (None, None))[0]
            if value is None:
                shown.pop(name, None)
                stored.pop(name, None)
                continue
            shown[name] = _trait(name, value, number=number, transient=passing)
            if not passing:
                stored[name] = (number or len(stored) + 1, value)
        return list(shown.values())

    def _json(self, status: int, content: object) -> Reply:
        return encoded(status, content, ascii_only=self._style != "edge")

    def _headers(self, call: Call) -> tuple[tuple[str, str], ...]:
        headers: tuple[tuple[str, str], ...] = () if self._style == "edge" else _ALWAYS + _NEVER_CACHE
        if call.path.startswith("/api/v1/") and call.method != "OPTIONS":
            headers += (("X-Flagsmith-Document-Updated-At", str(self._environment.updated_at)),)
            headers += (("Vary", "X_ENVIRONMENT_KEY, Accept, Origin" if call.method == "GET" else "Accept, Origin"),)
        if "Origin" in call.headers and call.method != "OPTIONS":
            headers += (("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "Retry-After"))
        return headers


_ROUTES: Mapping[str, Mapping[str, Route]] = {
    "/api/v1/flags/": {"GET": CoreDialect.flags},
    "/api/v1/identities/": {"GET": CoreDialect.get_identity, "POST": CoreDialect.post_identity},
    "/api/v1/environment-document/": {"GET": CoreDialect.document},
    "/api/v1/analytics/flags/": {"POST": CoreDialect.count_flags},
    "/api/v2/analytics/flags/": {"POST": CoreDialect.count_flags_v2},
    "/api/v1/traits/": {"POST": CoreDialect.post_trait},
    "/api/v1/traits/bulk/": {"PUT": CoreDialect.put_traits},
    "/api/v1/traits/increment-value/": {"POST": CoreDialect.increment_trait},
}
_DEPRECATED: tuple[tuple[re.Pattern[str], Mapping[str, Route]], ...] = (
    (re.compile(r"/api/v1/identities/[^/]+/traits/[^/]+"), {"POST": CoreDialect.old_trait}),
    (re.compile(r"/api/v1/identities/[^/]+/.*", re.DOTALL), {"GET": CoreDialect.old_identity}),
    (re.compile(r"/api/v1/flags/[^/]+"), {"GET": CoreDialect.old_flags}),
)


def _deprecated(path: str) -> Mapping[str, Route] | None:
    return next((methods for pattern, methods in _DEPRECATED if pattern.fullmatch(path)), None)


def _read(call: Call) -> dict[str, Any] | Reply:
    """The body as an object, from JSON or a form; else the answer that refuses it."""
    if call.media_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(call.body.decode(errors="replace"), keep_blank_values=True))
    if call.media_type not in {"application/json", ""}:
        return encoded(415, {"detail": f'Unsupported media type "{call.media_type}" in request.'}, ascii_only=True)
    try:
        given = json.loads(call.body.decode() or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        return encoded(400, {"detail": f"JSON parse error - {exc}"}, ascii_only=True)
    if isinstance(given, dict):
        return given
    text = f"Invalid data. Expected a dictionary, but got {type(given).__name__}."
    return encoded(400, {"non_field_errors": [text]}, ascii_only=True)


def _no_constant(name: str) -> object:
    raise ValueError(f"Out of range float values are not JSON compliant: {name}")


def _wrong_traits(given: Mapping[str, Any]) -> dict[str, Any] | None:
    traits = given.get("traits", [])
    if traits is None:
        return {"traits": ["This field may not be null."]}
    if not isinstance(traits, list):
        return {"traits": [f'Expected a list of items but got type "{type(traits).__name__}".']}
    wrong = [{} if _has_key(trait) else {"trait_key": ["This field is required."]} for trait in traits]
    return {"traits": wrong} if any(wrong) else None


def _has_key(trait: object) -> bool:
    return isinstance(trait, dict) and isinstance(trait.get("trait_key"), str)


def _made_up(traits: list[Trait]) -> str:
    """The identifier of an identity without one: the same for the same traits, else a new one."""
    if not traits:
        return uuid.uuid4().hex
    return hashlib.sha256(json.dumps(traits, sort_keys=True).encode()).hexdigest()


def _is_unstorable(identifier: str) -> bool:
    return len(identifier) > MAX_IDENTIFIER or _UNSTORABLE.search(identifier) is not None


def _trait(name: str, value: object, *, number: int | None, transient: bool = False) -> Trait:
    return {"id": number, "trait_key": name, "trait_value": value, "transient": transient}


def _storable(value: object) -> object:
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _without(trait: Trait, name: str) -> Trait:
    return {key: value for key, value in trait.items() if key != name}


def _since(call: Call) -> float:
    """If-Modified-Since in seconds since 1970; 0 where it is missing or unreadable."""
    try:
        return parsedate_to_datetime(call.headers.get("If-Modified-Since", "")).timestamp()
    except ValueError:
        return 0
