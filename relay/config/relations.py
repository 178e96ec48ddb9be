"""What no setting shows alone: environments that contradict each other, and what is allowed but rarely meant."""

from collections.abc import Iterator

from relay.config.document import Flaw, Node, Scalar
from relay.config.models import AdminConfig, Config, ListenConfig
from relay.config.redis import password_of
from relay.model import Lane

BUILT_IN = (
    "Flagsmith's own Heap integration must be off for these environments, or events double; "
    "see in Flagsmith, Integrations, Heap"
)
NOTHING = Node(None, 1)


def one_port(root: Node) -> Iterator[Flaw]:
    """Flagsmith's API and the admin port on one port."""
    listen, admin = (_get(root, section, "port") for section in ("listen", "admin"))
    defaults = ListenConfig().port, AdminConfig().port
    ports = [str(node.value or port) for node, port in zip((listen, admin), defaults, strict=True)]
    if ports[0] == ports[1] != "0":
        path, node = ("admin.port", admin) if admin is not NOTHING else ("listen.port", listen)
        yield Flaw(node.line, path, f"is the port of both listen and admin; write another one, like {defaults[1] + 1}")


def repeated(root: Node) -> Iterator[Flaw]:
    """A name or a Flagsmith key that stands in two environments, or twice in one."""
    names: dict[str, int] = {}
    keys: dict[str, int] = {}
    for at, environment in enumerate(_environments(root)):
        yield from _seen(
            _get(environment, "name"), names, f"environments[{at}].name", "is the name of another environment"
        )
        for path, key in _keys(environment, at):
            yield from _seen(key, keys, path, "is a Flagsmith key that stands in this file already")


def _get(node: Node, *keys: str) -> Node:
    """What stands below *keys*; NOTHING where that is not written."""
    for key in keys:
        node = node.entries().get(key, NOTHING)
    return node


def _environments(root: Node) -> list[Node]:
    return _get(root, "environments").items()


def _keys(environment: Node, at: int) -> Iterator[tuple[str, Node]]:
    for key_at, key in enumerate(_get(environment, "keys").items()):
        yield f"environments[{at}].keys[{key_at}]", key


def _seen(node: Node, before: dict[str, int], path: str, fault: str) -> Iterator[Flaw]:
    """A flaw where *node*'s text was seen *before*, with its line; else remember it."""
    if not isinstance(node.value, Scalar) or not node.value:
        return
    text = str(node.value)
    if text in before:
        yield Flaw(node.line, path, f"{fault}, in line {before[text]}; write another one, or delete one")
    before.setdefault(text, node.line)


def two_shares(root: Node, config: Config) -> Iterator[Flaw]:
    """One Heap app has one set of limits, so this process uses one share of it."""
    lanes: dict[Lane, float] = {}
    for at, (node, environment) in enumerate(zip(_environments(root), config.environments, strict=True)):
        share = lanes.setdefault(environment.heap.lane(), environment.heap.share)
        if environment.heap.share != share:
            heap = node.entries().get("heap", node)
            yield Flaw(
                heap.entries().get("share", heap).line,
                f"environments[{at}].heap.share",
                "is not what another environment says of the same Heap app, which has one set of limits for both; "
                f"write share: {share}",
            )


def needless_spool(root: Node, config: Config) -> Iterator[Flaw]:
    """A spool stands in for a Redis that is away; another outbox is where the relay is."""
    if config.outbox.spool and not config.outbox.redis:
        line = _get(root, "outbox", "spool").line
        yield Flaw(line, "outbox.spool", "belongs to an outbox in Redis, and outbox.url names none; delete it")


def warnings(written: Node, config: Config) -> Iterator[Flaw]:
    """What may be meant, but is to be known; *written* still has its references."""
    if config.upstream.url.endswith("/api/v1"):
        yield Flaw(
            _get(written, "upstream", "url").line,
            "upstream.url",
            "ends in /api/v1, which callers' paths bring already; delete it there",
        )
    url = _get(written, "outbox", "url")
    if isinstance(url.value, Scalar) and (password := password_of(url.value)) and "${" not in password:
        yield Flaw(url.line, "outbox.url", "holds a password in plain text; write ${NAME} or ${file:PATH} in its place")
    if not config.environments:
        yield Flaw(written.line, "environments", "is empty, so all is forwarded and nothing captured; add one")
    yield from _secret_in_plain_text("defaults", _get(written, "defaults"))
    for at, (environment, settings) in enumerate(zip(_environments(written), config.environments, strict=True)):
        for path, key in _keys(environment, at):
            if isinstance(key.value, Scalar) and "ser." in key.value:
                yield Flaw(
                    key.line, path, "is a server-side key, a secret, in plain text; write ${NAME} or ${file:PATH}"
                )
        yield from _secret_in_plain_text(f"environments[{at}]", environment)
        if settings.sample == 0:
            line = environment.entries().get("sample", environment).line
            yield Flaw(line, f"environments[{at}].sample", "is 0, so nothing is ever sent; write a part, like 0.1")


def _secret_in_plain_text(path: str, rules: Node) -> Iterator[Flaw]:
    key = _get(rules, "identity", "key")
    if isinstance(key.value, Scalar) and "${" not in key.value:
        yield Flaw(key.line, f"{path}.identity.key", "is a secret in plain text; write ${NAME} or ${file:PATH}")


def reminder(config: Config) -> str:
    """What no file can show, so that it is said every time and never held against the file; empty without reason."""
    return BUILT_IN if config.environments else ""
