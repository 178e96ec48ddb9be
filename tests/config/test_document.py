"""YAML as it is written: syntax, repeated keys, anchors, bombs."""

import time

import pytest

from tests.config.conftest import ENVIRONMENT, Yaml


@pytest.mark.parametrize(
    ("text", "line", "advice"),
    [
        ("log:\n  level: info: debug\n", 2, "write text that contains a colon and a space in quotes"),
        ("log:\n\tlevel: info\n", 2, "indent with spaces"),
        ("log:\n  level: @info\n", 2, "put such text in quotes"),
        ("admin:\n  hosts: [a, b\nlog: {}\n", 3, 'write ["${NAME}"]'),
        ("environments:\n  - keys: [${A}, b]\n", 2, 'write ["${NAME}"]'),
        ('log: {level: "info}\n', 2, "a quote is not closed"),
        ("log: {level: info}\n level: x\n", 2, "written at the same column|indented unlike|the same column"),
        ("log\nlisten: {}\n", 2, "colon"),
        ('log: {level: "\\q"}\n', 1, "write \\\\ for a backslash"),
        ('log: {level: "\\U99999999"}\n', 1, "names no character"),
        ("log: {level: !x!y z}\n", 1, "exclamation mark"),
        ("log: {level: a\x07b}\n", 1, "control character"),
        ("log: {}\n---\nlog: {}\n", 2, 'delete the line "---"'),
        ("log: *nothing\n", 1, "an alias stands here without an anchor"),
        ("log: &a\n  level: *a\n", 2, "an alias stands here without an anchor"),
        ("log:\n  <<: 5\n", 2, "a merge key takes a mapping"),
    ],
)
def test_what_is_not_yaml_is_told_with_line_and_advice(yaml: Yaml, text: str, line: int, advice: str) -> None:
    (mistake,) = yaml.mistakes(text)

    assert mistake.startswith(f"relay.yaml:{line}: ")
    assert any(each in mistake for each in advice.split("|")), mistake


def test_a_repeated_key_is_told_with_both_lines(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes("log:\n  level: info\n  format: json\n  level: debug\n")

    assert mistake == "relay.yaml:4: log.level: is written twice, first in line 2; delete one of them"


def test_a_repeated_section_is_a_mistake(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes("log: {}\nadmin: {}\nlog: {}\n")

    assert mistake.startswith("relay.yaml:3: log: is written twice, first in line 1")


@pytest.mark.parametrize("text", ["? [a]\n: b\n", "{a: b}: c\n"])
def test_a_key_that_is_no_word_is_a_mistake(yaml: Yaml, text: str) -> None:
    assert any("as a key; write a plain word" in each for each in yaml.mistakes(text))


def test_a_tag_is_a_mistake(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes("log: {level: !!str info}\n")

    assert "has a tag; write the value in quotes instead" in mistake


def test_half_a_surrogate_pair_is_a_mistake(yaml: Yaml) -> None:
    assert any("half a character" in each for each in yaml.mistakes('defaults: {event: "\\ud800"}\n'))


def test_anchors_and_merge_keys_work(yaml: Yaml) -> None:
    config = yaml.config(
        """\
        environments:
          - name: one
            keys: [a]
            event: &event Flags
            heap: &heap {app_id: "1", region: eu, share: 0.5}
          - name: two
            keys: [b]
            event: *event
            heap: {<<: *heap, app_id: "2"}
        """
    )

    assert [each.event for each in config.environments] == ["Flags", "Flags"]
    assert [each.heap.app_id for each in config.environments] == ["1", "2"]
    assert config.environments[1].heap.share == 0.5


def test_of_two_merged_mappings_the_first_one_has_precedence(yaml: Yaml) -> None:
    config = yaml.config(
        """\
        listen: &one {port: 1, host: 127.0.0.1}
        admin: {<<: [{port: 2}, *one]}
        """
    )

    assert (config.admin.port, config.admin.host) == (2, "127.0.0.1")


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)),
        "a0: &a0 {k: v}\n" + "".join(f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}\n" for i in range(1, 60)),
        "a: &a {" + ", ".join(f"k{i}: v" for i in range(5000)) + "}\nb: [" + "{<<: *a}, " * 5000 + "]\n",
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "a0: &a0 x\n" + "".join(f"a{i}: &a{i} [[[[[[[[*a{i - 1}]]]]]]]]\n" for i in range(1, 1000)),
        "x: [" + "1," * 110_000 + "]",
    ],
    ids=["lists", "mappings", "merges", "brackets", "braces", "dashes", "depth by aliases", "values"],
)
def test_a_bomb_is_refused_soon(yaml: Yaml, text: str) -> None:
    started = time.process_time()

    assert len(yaml.mistakes(text)) == 1
    assert time.process_time() - started < 10


def test_a_thousand_environments_are_no_bomb(yaml: Yaml) -> None:
    head, _, one = ENVIRONMENT.partition("\n")
    many = "".join(one.replace("production", f"e{i}").replace("client-key", f"key{i}") + "\n" for i in range(1000))

    assert len(yaml.config(f"{head}\n{many}").environments) == 1000
