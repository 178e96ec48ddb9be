"""What each setting takes, and what it says of all else."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.config.conftest import ENVIRONMENT, Yaml


def in_flow(path: str, value: str) -> str:
    """A file with *value* at *path*, "listen.port"; the rest is as it has to be."""
    *sections, key = path.split(".")
    text = f"{key}: {value}"
    for section in reversed(sections):
        text = f"{section}: {{{text}}}"
    return text + "\n"


def of_environment(**changes: str) -> str:
    """A file with one environment, with *changes* in YAML; an empty one takes a key away."""
    settings = {"name": "a", "keys": "[k]", "heap": '{app_id: "1", region: us}', **changes}
    return "environments: [{" + ", ".join(f"{key}: {value}" for key, value in settings.items() if value) + "}]\n"


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("250ms", 0.25), ("10m", 600), ("24h", 86400), ("7d", 604800), ("1.5h", 5400)]
)
def test_a_duration_is_read_in_seconds(yaml: Yaml, text: str, seconds: float) -> None:
    assert yaml.config(in_flow("listen.idle_timeout", text)).listen.idle_timeout == seconds


@pytest.mark.parametrize("text", ["0", "0s", "0ms"])
def test_0_is_a_duration_where_it_makes_sense(yaml: Yaml, text: str) -> None:
    assert yaml.config(in_flow("shutdown.grace", text)).shutdown.grace == 0


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("75", "'75' has no unit; write a number with its unit (ms, s, m, h or d), like 5s"),
        ('"75"', "'75' has no unit"),
        ("7.5", "'7.5' has no unit"),
        ("0", "'0' is 0, which cannot work here"),
        ("0s", "'0s' is 0, which cannot work here"),
        ("-5s", "'-5s' is negative"),
        ("1:30", "'1:30' is not understood"),
        ("1m30s", "'1m30s' is not understood"),
        ("5 s", "'5 s' is not understood"),
        ("1e3s", "'1e3s' is not understood"),
        ("٣s", "'٣s' is not understood"),
        ("null", "is empty; write a number with its unit"),
        ("", "is empty; write a number with its unit"),
        ("[5s]", "is not one plain value; write a number with its unit"),
    ],
)
def test_what_is_no_duration_is_told_with_an_example(yaml: Yaml, text: str, flaw: str) -> None:
    (mistake,) = yaml.mistakes(in_flow("listen.idle_timeout", text))

    assert mistake.startswith(f"relay.yaml:1: listen.idle_timeout: {flaw}")
    assert mistake.endswith("like 5s")


@pytest.mark.parametrize("key", ["grace", "finish", "drain"])
def test_a_shutdown_of_negative_length_is_a_mistake(yaml: Yaml, key: str) -> None:
    (mistake,) = yaml.mistakes(in_flow(f"shutdown.{key}", "-1s"))

    assert f"shutdown.{key}: '-1s' is negative" in mistake


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 65536), ("4MiB", 4 * 2**20), ("1MB", 10**6), ("2GiB", 2**31), ("10B", 10), ("1KB", 1000)],
)
def test_a_size_is_read_in_bytes(yaml: Yaml, text: str, size: int) -> None:
    assert yaml.config(in_flow("capture.memory", text)).capture.memory == size


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("65536", "'65536' has no unit"),
        ("0", "'0' has no unit"),
        ("0MiB", "'0MiB' must be more than nothing"),
        ("-1MiB", "'-1MiB' is negative"),
        ("1.5MiB", "'1.5MiB' is not understood"),
        ("4M", "'4M' is not understood"),
        ("4mib", "'4mib' is not understood"),
    ],
)
def test_what_is_no_size_is_told_with_an_example(yaml: Yaml, text: str, flaw: str) -> None:
    (mistake,) = yaml.mistakes(in_flow("capture.memory", text))

    assert mistake.startswith(f"relay.yaml:1: capture.memory: {flaw}")
    assert mistake.endswith("like 4MiB")


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("yes", True), ("On", True), ("false", False), ("no", False), ("off", False), ('"true"', True)],
)
def test_a_boolean_is_any_word_that_yaml_1_1_takes_for_one(yaml: Yaml, text: str, *, value: bool) -> None:
    assert yaml.config(in_flow("outbox.required", text)).outbox.required is value


def test_what_is_no_boolean_is_a_mistake(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes(in_flow("outbox.required", "1"))

    assert mistake == "relay.yaml:1: outbox.required: '1' is not a boolean; write true or false"


@pytest.mark.parametrize("text", ["1e3", "1_000", "0x10", "010", "1.0", "-1", "1:30", "9" * 5000, "true"])
def test_a_number_is_plain_digits(yaml: Yaml, text: str) -> None:
    (mistake,) = yaml.mistakes(in_flow("capture.max_flags", text))

    assert mistake.endswith("write a whole number in plain digits, like 1000")


@pytest.mark.parametrize("section", ["listen", "admin"])
@pytest.mark.parametrize("text", ["65536", "-1", "http", "80.0"])
def test_a_port_is_from_0_to_65535(yaml: Yaml, section: str, text: str) -> None:
    (mistake,) = yaml.mistakes(in_flow(f"{section}.port", text))

    assert mistake.startswith(f"relay.yaml:1: {section}.port: '{text}' is ")


@pytest.mark.parametrize("text", ["127.0.0.1", "0.0.0.0", '"::"', "::1", "localhost", "relay_1.internal"])
def test_a_host_is_a_name_or_an_address(yaml: Yaml, text: str) -> None:
    assert yaml.config(f"listen:\n  host: {text}\n").listen.host == text.strip('"')


@pytest.mark.parametrize(
    "text", ["http://localhost", "localhost:8080", '"[::1]"', '""', "a b", "-a", "127.0.0.1/8", "256.1.1.1"]
)
def test_what_is_no_host_is_a_mistake(yaml: Yaml, text: str) -> None:
    (mistake,) = yaml.mistakes(f"listen:\n  host: {text}\n")

    assert "is no host; write a name or an IP address alone" in mistake


def test_trusted_proxies_are_networks_or_addresses(yaml: Yaml) -> None:
    config = yaml.config('listen: {trusted_proxies: [10.0.0.0/8, 192.168.1.1, "fd00::/8"]}\n')

    assert config.listen.trusted_proxies == tuple(map(ip_network, ("10.0.0.0/8", "192.168.1.1", "fd00::/8")))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "private", "10.0.0.0/33", "1"])
def test_what_is_no_network_is_a_mistake(yaml: Yaml, text: str) -> None:
    (mistake,) = yaml.mistakes(f"listen: {{trusted_proxies: [{text}]}}\n")

    assert mistake.startswith(f"relay.yaml:1: listen.trusted_proxies[0]: '{text}' is ")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://flagsmith.example.com/", "https://flagsmith.example.com"),
        ("https://host/flagsmith/", "https://host/flagsmith"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://[FE80::1]", "http://[FE80::1]"),
        ("https://Flagsmith_1.internal.", "https://Flagsmith_1.internal."),
        ("https://xn--hst-yla.example", "https://xn--hst-yla.example"),
    ],
)
def test_an_upstream_is_a_base_address(yaml: Yaml, url: str, kept: str) -> None:
    assert yaml.config(in_flow("upstream.url", f'"{url}"')).upstream.url == kept


@pytest.mark.parametrize(
    ("url", "flaw"),
    [
        ("ftp://host", "does not begin with http:// or https://"),
        ("edge.api.flagsmith.com", "does not begin with http:// or https://"),
        ("https://", "names no host"),
        ("https://:8000", "names no host"),
        ("https://host?a=b", "has a query or fragment"),
        ("https://host/#a", "has a query or fragment"),
        ("https://host?", "has a query or fragment"),
        ("https://user@host", "holds a user name or password"),
        ("https://host:99999", "is not a URL"),
        ("https://host:x", "is not a URL"),
        ("https://host:0", "has port 0"),
        ("https://[::1", "is not a URL"),
        ("https://ho st", "holds white space or other characters"),
        ("https://exa mple", "holds white space or other characters"),
        ("https://hôst", "an international name is written as punycode, xn--…"),
        ("https://a..b", "names a host that is neither a DNS name nor an IP address"),
        ("https://-x", "names a host that is neither"),
        ("https://x-", "names a host that is neither"),
        (f"https://{'a' * 64}.com", "names a host that is neither"),
        (f"https://{'a.' * 127}b", "names a host that is neither"),
        ("https://1.2.3", "names a host that is neither"),
        ("https://256.1.1.1", "names a host that is neither"),
        ("https://%61", "names a host that is neither"),
        ("https://[::1]x", "write scheme, host and at most a path"),  # newer Pythons say that it is not a URL
        ("https://[v1.a]", "write scheme, host and at most a path"),
    ],
)
@pytest.mark.parametrize("path", ["upstream.url", "defaults.heap.url"])
def test_what_is_no_base_address_is_a_mistake(yaml: Yaml, path: str, url: str, flaw: str) -> None:
    (mistake,) = yaml.mistakes(in_flow(path, f'"{url}"'))

    assert f"{path}: " in mistake
    assert flaw in mistake


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("log.level", "debug, info, warning or error"),
        ("log.format", "auto, json or console"),
        ("upstream.host_header", "upstream or client"),
        ("outbox.commit", "after_answer or before_answer"),
        ("defaults.heap.region", "us or eu"),
        ("defaults.send", "every_call or on_change"),
    ],
)
@pytest.mark.parametrize("text", ["no", "US", "7"])
def test_a_word_of_a_closed_set_is_one_of_them(yaml: Yaml, path: str, words: str, text: str) -> None:
    (mistake,) = yaml.mistakes(in_flow(path, text))

    assert mistake == f"relay.yaml:1: {path}: '{text}' is not one of its values; write {words}"


def test_a_setting_without_a_value_is_a_mistake(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes("log:\n  level:\n")

    assert mistake.startswith("relay.yaml:2: log.level: ")
    assert mistake.endswith("write debug, info, warning or error")


def test_a_section_without_a_value_is_all_defaults(yaml: Yaml) -> None:
    config = yaml.config("listen:\nlog: ~\noutbox: null\ndefaults:\nenvironments:\n")

    assert config.listen.port == 18080
    assert config.outbox.path == yaml.path.parent / "data/outbox.db"
    assert config.environments == ()


@pytest.mark.parametrize("text", ["listen: 8080", "listen: [port]", "outbox: {dead_letters: 5}", "environments: [a]"])
def test_what_is_no_section_is_a_mistake(yaml: Yaml, text: str) -> None:
    (mistake,) = yaml.mistakes(text)

    assert "is not a section; write its settings below it, indented (there are: " in mistake


@pytest.mark.parametrize("text", ["admin: {hosts: localhost}", "listen: {trusted_proxies: 10.0.0.0/8}"])
def test_what_is_no_list_is_a_mistake(yaml: Yaml, text: str) -> None:
    (mistake,) = yaml.mistakes(text)

    assert "is not a list; write its values in brackets" in mistake


@pytest.mark.parametrize("text", ["{}", "{a: b}", "a"])
def test_environments_are_a_list_of_sections(yaml: Yaml, text: str) -> None:
    (mistake,) = yaml.mistakes(f"environments: {text}\n")

    assert mistake.endswith(
        "environments: is not a list; begin each of its entries with a dash, as in config.example.yaml"
    )


def test_an_environment_without_a_value_is_told_what_it_needs(yaml: Yaml) -> None:
    mistakes = yaml.mistakes("environments:\n  - null\n")

    assert [line.partition(" is missing; ")[0] for line in mistakes] == [
        f"relay.yaml:2: environments[0].{key}:" for key in ("heap", "name", "keys")
    ]
    assert all(" is missing; write " in line for line in mistakes)


def test_a_heap_without_a_value_is_told_what_it_needs(yaml: Yaml) -> None:
    mistakes = yaml.mistakes(of_environment(heap="null"))

    assert [line.partition("; ")[0] for line in mistakes] == [
        "relay.yaml:1: environments[0].heap.app_id: is missing",
        "relay.yaml:1: environments[0].heap.region: is missing",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("upstream: {ca_file: [a]}", "upstream.ca_file: is not text; write a path"),
        ("upstream: {ca_file: ''}", "upstream.ca_file: '' is empty; write a path"),
        ("upstream: {url: null}", "upstream.url: is empty; write scheme, host and at most a path, like "),
        ("listen: {trusted_proxies: [null]}", "listen.trusted_proxies[0]: is empty; write one like 10.0.0.0/8, or "),
        ("outbox: {url: null}", "outbox.url: is empty; write sqlite:///data/outbox.db "),
        ("log: {level: null}", "log.level: is empty; write debug, info, warning or error"),
        ("log: {level: [info]}", "log.level: is not one plain value; write debug, info, warning or error"),
        (of_environment(keys="[null]"), "environments[0].keys[0]: is empty; write the environment's key"),
        (
            of_environment(heap="{app_id: [1], region: us}"),
            "environments[0].heap.app_id: is not text; write the digits",
        ),
    ],
)
def test_what_belongs_there_is_said_of_the_setting_itself(yaml: Yaml, text: str, mistake: str) -> None:
    (found,) = yaml.mistakes(text)

    assert found.startswith(f"relay.yaml:1: {mistake}")


def test_a_ca_file_of_null_is_none(yaml: Yaml) -> None:
    assert yaml.config(in_flow("upstream.ca_file", "null")).upstream.ca_file is None


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("lissen: {}", "lissen: is no setting here; write listen instead"),
        ("listen:\n  prot: 1", "listen.prot: is no setting here; write port instead"),
        ("max_header_bytes: 1KiB", "max_header_bytes: is no setting here; write it below listen:"),
        ("log: {colour: true}", "log.colour: is no setting here; delete it (there are: level, format)"),
        (of_environment(app_id='"1"'), "environments[0].app_id: is no setting here; write it below heap:"),
        ('log: {"a b\\n": 1}', "log.'a b\\n': is no setting here; delete it (there are: level, format)"),
    ],
)
def test_an_unknown_key_is_told_with_what_was_meant(yaml: Yaml, text: str, mistake: str) -> None:
    (found,) = yaml.mistakes(text)

    assert found.partition(" ")[2] == mistake


def test_a_relative_outbox_is_relative_to_the_file(yaml: Yaml) -> None:
    folder = yaml.path.parent

    assert yaml.config("{}").outbox.path == folder / "data/outbox.db"
    assert yaml.config(in_flow("outbox.url", "sqlite:///a.db")).outbox.path == folder / "a.db"
    assert yaml.config(in_flow("outbox.url", "sqlite:////var/a.db")).outbox.path == Path("/var/a.db")


def test_an_outbox_in_memory_dies_with_the_process(yaml: Yaml) -> None:
    assert yaml.config(in_flow("outbox.url", "memory://")).outbox.path is None
    assert yaml.config(in_flow("outbox.url", "memory://")).outbox.dies_with_process
    assert yaml.config(in_flow("outbox.ephemeral", "true")).outbox.dies_with_process
    assert not yaml.config("{}").outbox.dies_with_process


@pytest.mark.parametrize(
    ("url", "flaw"),
    [
        ("postgres://host/db", "is of a kind that cannot be used here"),
        ("data/outbox.db", "is of a kind that cannot be used here"),
        ("sqlite://outbox.db", "does not name a file behind three or four slashes"),
        ("sqlite:///", "does not name a file behind three or four slashes"),
        ("sqlite:///a.db?mode=ro", "does not name a file behind three or four slashes"),
        ("memory:///x", "is of a kind that cannot be used here"),
    ],
)
def test_an_outbox_of_another_kind_is_a_mistake(yaml: Yaml, url: str, flaw: str) -> None:
    (mistake,) = yaml.mistakes(in_flow("outbox.url", f'"{url}"'))

    assert mistake.startswith(f"relay.yaml:1: outbox.url: the value {flaw}")
    assert "write sqlite:///data/outbox.db" in mistake


def test_a_ca_file_is_relative_to_the_file(yaml: Yaml) -> None:
    assert yaml.config(in_flow("upstream.ca_file", "ca.pem")).upstream.ca_file == yaml.path.parent / "ca.pem"


@pytest.mark.parametrize("text", ["1234567890", "12.5", "1_000", "0x1F", "1:30", "1e3", "true"])
def test_text_that_looks_like_a_number_needs_quotes(yaml: Yaml, text: str) -> None:
    """Other readers of the file would take it for one, and an app id would lose its leading zeros."""
    mistakes = yaml.mistakes(of_environment(name=text, heap=f"{{app_id: {text}, region: us}}", event=text))

    assert len(mistakes) == 3
    for mistake in mistakes:
        assert f": '{text[:2]}" in mistake
        assert "' is a number or a boolean in YAML, and text belongs here; put it in quotes" in mistake


@pytest.mark.parametrize("text", ["x", '"12a"', '"-1"', '"1.5"', '"١٢"', '""', '" 1"'])
def test_an_app_id_is_digits(yaml: Yaml, text: str) -> None:
    (mistake,) = yaml.mistakes(of_environment(heap=f"{{app_id: {text}, region: us}}"))

    assert "is not an app id; write the digits that Heap shows" in mistake


def test_of_what_is_no_app_id_only_the_beginning_is_told(yaml: Yaml) -> None:
    """It may be a key, pasted into the wrong place."""
    (mistake,) = yaml.mistakes(of_environment(heap="{app_id: Tr0ub4dor, region: us}"))

    assert ": 'Tr…' is not an app id; " in mistake


def test_an_environment_says_where_its_app_is(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes(of_environment(heap='{app_id: "1"}'))

    assert "environments[0].heap.region: is missing; write region: us or region: eu" in mistake


def test_a_region_and_a_url_exclude_each_other(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes(of_environment(heap='{app_id: "1", region: us, url: "http://127.0.0.1:1"}'))

    assert "environments[0].heap.region: 'us' stands beside heap.url" in mistake


@pytest.mark.parametrize("text", ["0", "0.93", "1", "-0.1", "80%", "1e-1", ".nan", "abc"])
def test_a_share_leaves_room_for_the_burst(yaml: Yaml, text: str) -> None:
    (mistake,) = yaml.mistakes(of_environment(heap=f'{{app_id: "1", region: us, share: {text}}}'))

    assert f"environments[0].heap.share: '{text}' " in mistake
    assert "write " in mistake


@pytest.mark.parametrize("text", ["0.92", "0.001", ".5"])
def test_a_share_is_a_part_of_heap_s_limits(yaml: Yaml, text: str) -> None:
    (share,) = yaml.config(of_environment(heap=f'{{app_id: "1", region: us, share: {text}}}')).lanes().values()

    assert share == float(text)


@pytest.mark.parametrize(
    ("key", "mistake"),
    [
        ("name", "environments[0].name: is missing; write name: production"),
        ("keys", 'environments[0].keys: is missing; write keys: ["${FLAGSMITH_CLIENT_KEY}"]'),
        ("heap", 'environments[0].heap: is missing; write heap: {app_id: "${HEAP_APP_ID}", region: us}'),
    ],
)
def test_what_an_environment_needs_is_told_with_an_example(yaml: Yaml, key: str, mistake: str) -> None:
    (found,) = yaml.mistakes(of_environment(**{key: ""}))

    assert found == f"relay.yaml:1: {mistake}"


def test_an_environment_without_keys_is_a_mistake(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes(of_environment(keys="[]"))

    assert mistake.endswith('environments[0].keys: is empty; write keys: ["${FLAGSMITH_CLIENT_KEY}"]')


@pytest.mark.parametrize(
    ("key", "flaw"),
    [
        ('" abc"', "has white space around it"),
        ('"a b"', "is not a Flagsmith key"),
        ('""', "is not a Flagsmith key"),
        ('"schlüssel"', "is not a Flagsmith key"),
        ("123", "is a number or a boolean in YAML"),
        ("null", "is empty"),
        ("[a]", "is not text"),
    ],
)
def test_a_key_is_what_a_header_can_carry(yaml: Yaml, key: str, flaw: str) -> None:
    (mistake,) = yaml.mistakes(of_environment(keys=f"[{key}]"))

    assert "environments[0].keys[0]: " in mistake
    assert flaw in mistake


@pytest.mark.parametrize("name", ['""', '" a"', '"a "', "x" * 101, '"a\\tb"'])
def test_a_name_is_short_and_printable(yaml: Yaml, name: str) -> None:
    (mistake,) = yaml.mistakes(of_environment(name=name))

    assert "environments[0].name: " in mistake


@pytest.mark.parametrize("event", ["x" * 1024, "😀" * 512, "no", "Flagsmith: flags seen".replace(": ", " - ")])
def test_an_event_has_a_name_of_up_to_1024_units(yaml: Yaml, event: str) -> None:
    assert yaml.config(of_environment(event=event)).environments[0].event == event


@pytest.mark.parametrize("event", ["x" * 1025, "😀" * 513, '""', '"  "', '"a\\0b"', "{}"])
def test_a_name_that_heap_would_refuse_is_a_mistake(yaml: Yaml, event: str) -> None:
    (mistake,) = yaml.mistakes(of_environment(event=event))

    assert "environments[0].event: " in mistake
    assert len(mistake) < 250


def test_one_name_for_two_environments_is_a_mistake(yaml: Yaml) -> None:
    second = '  - {name: production, keys: [b], heap: {app_id: "2", region: eu}}\n'

    (mistake,) = yaml.mistakes(ENVIRONMENT + second)

    assert mistake == (
        "relay.yaml:5: environments[1].name: is the name of another environment, in line 2; "
        "write another one, or delete one"
    )


@pytest.mark.parametrize("keys", ["[b, client-key]", "[b, '${CLIENT}']", "[b, b]"])
def test_one_flagsmith_key_twice_is_a_mistake(yaml: Yaml, keys: str) -> None:
    """In two environments or in one: an answer belongs to one, once."""
    second = f'  - {{name: staging, keys: {keys}, heap: {{app_id: "2", region: eu}}}}\n'

    (mistake,) = yaml.mistakes(ENVIRONMENT + second, {"CLIENT": "client-key"})

    assert "relay.yaml:5: environments[1].keys[1]: is a Flagsmith key that stands in this file already" in mistake


def test_two_shares_of_one_app_are_a_mistake(yaml: Yaml) -> None:
    second = '  - {name: staging, keys: [b], heap: {app_id: "1234567890", region: us, share: 0.5}}\n'

    (mistake,) = yaml.mistakes(ENVIRONMENT + second)

    assert "relay.yaml:5: environments[1].heap.share: is not what another environment says" in mistake
    assert mistake.endswith("write share: 0.8")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("listen: {port: 19090}", "listen.port"),
        ("admin: {port: 18080}", "admin.port"),
        ('listen: {port: 7}\nadmin: {port: "${P}"}', "admin.port"),
        ("listen: {port: 7, prot: 1}\nadmin: {port: 7}", "admin.port"),
    ],
)
def test_one_port_for_listen_and_admin_is_a_mistake(yaml: Yaml, text: str, path: str) -> None:
    mistakes = yaml.mistakes(text, {"P": "7"})

    assert f"{path}: is the port of both listen and admin" in mistakes[-1]


@pytest.mark.parametrize("off", ["off", '"off"', "Off", "no", "false"])
def test_reload_is_off_in_any_spelling(yaml: Yaml, off: str) -> None:
    """YAML 1.1 takes the word for a boolean, and some editors write it as one."""
    assert yaml.config(f"reload: {off}\n").reload is None


def test_any_free_port_may_be_asked_for_twice(yaml: Yaml) -> None:
    config = yaml.config("listen: {port: 0}\nadmin: {port: 0}\n")

    assert (config.listen.port, config.admin.port) == (0, 0)


def test_all_mistakes_come_at_once_in_the_file_s_order(yaml: Yaml) -> None:
    mistakes = yaml.mistakes(
        """\
        listen: {port: x, prot: 1}
        log: {level: loud}
        log: {}
        reload: 1
        defaults: {heap: {share: 2}}
        environments:
          - {name: a, keys: ["${NOT_SET}"], heap: {app_id: 1}}
          - {name: a, keys: []}
        """
    )

    assert [line.split(":")[1] for line in mistakes] == [
        "1",
        "1",
        "2",
        "3",
        "4",
        "5",
        "7",
        "7",
        "7",
        "8",
        "8",
        "8",
        "8",
    ]
    assert all("write " in line or "delete " in line or "put it in quotes" in line for line in mistakes), mistakes


def test_whatever_a_value_is_the_setting_is_told_by_its_path(yaml: Yaml) -> None:
    mistakes = yaml.mistakes(
        "defaults: {extra_properties: {a: [1], b: {c: d}, e: null}}\nlisten: {trusted_proxies: [[]]}\n"
    )

    assert [line.split(": ")[1] for line in mistakes] == [
        "defaults.extra_properties.a",
        "defaults.extra_properties.b",
        "defaults.extra_properties.e",
        "listen.trusted_proxies[0]",
    ]


@pytest.mark.parametrize(
    "spelled", ["https://HeapAnalytics.com", "HTTPS://heapanalytics.com:443/", "https://heapanalytics.com."]
)
def test_one_address_has_one_spelling_and_one_lane(yaml: Yaml, spelled: str) -> None:
    """Two lanes of one Heap app would have its limits twice."""
    config = yaml.config(
        "environments:\n"
        '  - {name: a, keys: [a], heap: {app_id: "1", region: us}}\n'
        f'  - {{name: b, keys: [b], heap: {{app_id: "1", url: "{spelled}"}}}}\n'
    )

    assert len(config.lanes()) == 1
