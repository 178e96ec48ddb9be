"""The rules of an environment: what the relay makes of them, and what it says of those that cannot be meant."""

from typing import Any

import pytest

from relay.model import Environment, Latest, OnChange
from tests.config.conftest import ENVIRONMENT, Yaml

KEY = "0123456789abcdef"


def written(rules: str) -> str:
    """A file with one environment, with *rules* from line 5 on."""
    return ENVIRONMENT + "".join(f"    {line}\n" for line in rules.splitlines())


def environment(yaml: Yaml, rules: str, **environ: str) -> Environment:
    (found,) = yaml.config(written(rules), environ).environments
    return found.environment()


def mistakes(yaml: Yaml, rules: str, **environ: str) -> list[str]:
    return [each.removeprefix("relay.yaml:") for each in yaml.mistakes(written(rules), environ)]


def test_by_default_an_environment_has_no_rules(yaml: Yaml) -> None:
    (found,) = yaml.config(ENVIRONMENT).environments

    assert found.environment() == Environment("production", found.heap.lane(), "Flagsmith Feature Flags")


def test_every_rule_reaches_the_environment(yaml: Yaml) -> None:
    found = environment(
        yaml,
        "features: {exclude: [a]}\nidentities: {include: [b]}\nsample: 0.5\ntransient: skip\nempty: skip\n"
        "extra_properties: {a: b}\nvariants: true\nshadow: true\n"
        'identity: {mode: hmac_sha256, key: "${KEY}", block: [email]}',
        KEY=KEY,
    )

    assert [bool(pattern and pattern.fullmatch(name)) for pattern, name in _names(found)] == [False, True, True, False]
    assert (found.sample, found.skip_transient, found.skip_empty) == (0.5, True, True)
    assert (found.extra_properties, found.variants, found.shadow) == ({"a": "b"}, True, True)
    assert found.hash_key == KEY.encode()
    assert found.blocks is not None
    assert found.blocks("ada@example.com")


def test_every_call_is_sent_unless_it_is_said_otherwise(yaml: Yaml) -> None:
    found = environment(yaml, "heartbeat: 1h\nremember: 5\nwhen_behind: {after: 1m}")

    assert (found.on_change, found.latest) == (None, None)


def test_what_is_sent_on_change_and_what_is_replaced_reaches_the_environment(yaml: Yaml) -> None:
    found = environment(yaml, "send: on_change\nheartbeat: 1h\nremember: 5\nwhen_behind: {after: 1m, then: latest}")

    assert (found.on_change, found.latest) == (OnChange(3600.0, 5), Latest(60.0, 0.8))


def _names(found: Environment) -> list[tuple[Any, str]]:
    return [(found.features, "a"), (found.features, "b"), (found.identities, "b"), (found.identities, "a")]


def test_all_keys_of_an_environment_lead_to_the_same_one(yaml: Yaml) -> None:
    """So its patterns are compiled once."""
    by_key = yaml.config(ENVIRONMENT.replace("[client-key]", "[a, b]")).by_key()

    assert by_key["a"] is by_key["b"]


@pytest.mark.parametrize("names", ["features", "identities"])
@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("{include: []}", 'includes nothing; write include: ["*"] for all names, or shadow: true to send nothing'),
        ('{exclude: ["*"]}', "has an include[0] that can never match: exclude[0] excludes it; delete one"),
        ('{exclude: [a, "**"]}', "has an include[0] that can never match: exclude[1] excludes it; delete one"),
        ("{include: [a, b], exclude: [b]}", "has an include[1] that can never match: exclude[0] excludes it"),
        ('{include: ["b?d*"], exclude: ["b*"]}', "has an include[0] that can never match: exclude[0] excludes it"),
    ],
)
def test_names_that_can_never_match_are_a_mistake(yaml: Yaml, names: str, rule: str, fault: str) -> None:
    (mistake,) = mistakes(yaml, f"{names}: {rule}")

    assert mistake.startswith(f"5: environments[0].{names}: {fault}")


@pytest.mark.parametrize(
    "rule",
    ['{include: ["b*"], exclude: ["b?d*"]}', '{include: ["*"], exclude: ["?"]}', '{include: ["?"], exclude: [a]}'],
)
def test_a_rule_that_leaves_something_is_none(yaml: Yaml, rule: str) -> None:
    assert mistakes(yaml, f"features: {rule}") == []


def test_names_are_told_of_where_all_is_known(yaml: Yaml) -> None:
    """What `defaults` exclude may be what each environment includes otherwise."""
    defaults = 'defaults: {features: {exclude: ["*"]}}\n'

    assert "environments[0].features: has an include[0]" in yaml.mistakes(defaults + ENVIRONMENT)[0]
    assert yaml.mistakes(defaults + ENVIRONMENT + "    features: {exclude: []}\n") == []


def test_an_empty_pattern_is_a_mistake(yaml: Yaml) -> None:
    (mistake,) = mistakes(yaml, 'features:\n  include:\n    - a\n    - ""')

    assert mistake.startswith("8: environments[0].features.include[1]: '' is empty, and no name is; write \"*\"")


def test_a_sample_of_nobody_is_a_warning(yaml: Yaml) -> None:
    (warning,) = yaml.warnings(written("sample: 0"))

    assert warning == "5 environments[0].sample: is 0, so nothing is ever sent; write a part, like 0.1"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("growth", "growth"),
        ("12", 12),
        ("-3", -3),
        ("0.5", 0.5),
        ("true", True),
        ("false", False),
        ('"12"', "12"),
        ('"true"', "true"),
        ('"yes"', "yes"),
        ('"${R}"', "7"),
        ("2026-03-02", "2026-03-02"),
        ("1.2.3", "1.2.3"),
        ('""', ""),
    ],
)
def test_a_static_property_has_the_type_that_every_reader_of_yaml_sees(yaml: Yaml, text: str, value: object) -> None:
    found = environment(yaml, f"extra_properties: {{a: {text}}}", R="7").extra_properties["a"]

    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("no", "'no' is not the same to every reader of YAML; put it in quotes, or write text, a number in plain"),
        ("0x10", "'0x10' is not the same to every reader of YAML"),
        ("010", "'010' is not the same to every reader of YAML"),
        ("1e3", "'1e3' is not the same to every reader of YAML"),
        ("9007199254740993", "'9007199254740993' is not the same to every reader of YAML"),
        ("null", "is empty; write text, a number in plain digits, true or false"),
        ("[a]", "is not text; write text, a number in plain digits, true or false"),
        ("x" * 1024, f"'{'x' * 60}…' is longer than 1,023 characters, more than Heap takes; shorten it"),
    ],
)
def test_what_heap_or_a_reader_could_take_otherwise_is_no_static_property(yaml: Yaml, text: str, flaw: str) -> None:
    (mistake,) = mistakes(yaml, f"extra_properties: {{a: {text}}}")

    assert mistake.startswith(f"5: environments[0].extra_properties.a: {flaw}")


@pytest.mark.parametrize("name", ['""', '" "', "x" * 513])
def test_a_static_property_has_a_name_that_heap_takes(yaml: Yaml, name: str) -> None:
    (mistake,) = mistakes(yaml, f"extra_properties: {{{name}: a}}")

    assert mistake.startswith("5: environments[0].extra_properties: has a name that is empty, cannot be seen, or is")


def test_a_hash_without_a_key_is_a_mistake(yaml: Yaml) -> None:
    (mistake,) = mistakes(yaml, "identity: {mode: hmac_sha256}")

    assert mistake == '5: environments[0].identity: has mode hmac_sha256 and no key; write key: "${HMAC_KEY}"'


def test_the_key_of_a_mode_in_the_defaults_may_be_each_environment_s_own(yaml: Yaml) -> None:
    defaults = "defaults: {identity: {mode: hmac_sha256}}\n"

    (found,) = yaml.config(defaults + written('identity: {key: "${KEY}"}'), {"KEY": KEY}).environments

    assert found.environment().hash_key == KEY.encode()


@pytest.mark.parametrize(("key", "shown"), [("short", "the value"), ('"${K}"', "the value of ${K}")])
def test_a_key_that_could_be_found_by_trying_is_a_mistake_and_is_not_shown(yaml: Yaml, key: str, shown: str) -> None:
    (mistake,) = mistakes(yaml, f"identity: {{mode: hmac_sha256, key: {key}}}", K="short")

    assert mistake == (
        f"5: environments[0].identity.key: {shown} is too short a key; write at least 16 characters that nobody can "
        'guess, by reference: "${HMAC_KEY}"'
    )


def test_a_key_that_is_not_used_yet_may_be_there(yaml: Yaml) -> None:
    assert environment(yaml, 'identity: {key: "${K}"}', K=KEY).hash_key is None


@pytest.mark.parametrize("place", ["defaults", "environments[0]"])
def test_a_key_in_plain_text_is_a_warning(yaml: Yaml, place: str) -> None:
    rule = f"identity: {{key: {KEY}}}"
    text = f"defaults: {{{rule}}}\n{ENVIRONMENT}" if place == "defaults" else written(rule)

    (warning,) = yaml.warnings(text)

    assert warning.endswith(f"{place}.identity.key: is a secret in plain text; write ${{NAME}} or ${{file:PATH}}")


def test_the_key_is_in_no_picture_of_the_configuration(yaml: Yaml) -> None:
    config = yaml.config(written(f"identity: {{mode: hmac_sha256, key: {KEY}}}"))

    assert config.masked()["environments"][0]["identity"]["key"] == "***"
    assert KEY not in repr(config) + repr(config.by_key())


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("'(a'", "'(a' is no regular expression (unclosed group)"),
        ("'[a'", "'[a' is no regular expression (unclosed character class)"),
        ("'(?=a)'", "'(?=a)' is no regular expression (look-around, including look-ahead and look-behind, is not"),
        (r"'(a)\1'", r"'(a)\1' is no regular expression (backreferences are not supported)"),
        ("'a{1000}{1000}'", "'a{1000}{1000}' is no regular expression (compiled regex exceeds size limit of"),
        ("''", "'' is empty, and would block every identity"),
        ("'a@[b'", "the value is no regular expression (unclosed character class)"),
    ],
)
def test_a_broken_expression_is_a_mistake_with_its_line(yaml: Yaml, block: str, reason: str) -> None:
    (mistake,) = mistakes(yaml, f"identity:\n  block:\n    - email\n    - {block}")

    assert mistake.startswith(f"8: environments[0].identity.block[1]: {reason}")
    assert "; write email, or an expression like '^test-'" in mistake
