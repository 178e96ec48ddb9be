"""`defaults` and environments: key by key, nested too; lists whole."""

from tests.config.conftest import Yaml

TWO = """\
defaults:
  event: Seen
  heap: {region: eu, share: 0.5}
environments:
  - name: one
    keys: [a]
    heap: {app_id: "1"}
  - name: two
    keys: [b]
    event: Mine
    heap: {app_id: "2", share: 0.8}
"""


def test_an_environment_stands_over_the_defaults_key_by_key(yaml: Yaml) -> None:
    one, two = yaml.config(TWO).environments

    assert (one.event, one.heap.region, one.heap.share) == ("Seen", "eu", 0.5)
    assert (two.event, two.heap.region, two.heap.share) == ("Mine", "eu", 0.8)


def test_a_section_of_the_defaults_alone_is_enough(yaml: Yaml) -> None:
    defaults = 'defaults: {heap: {app_id: "1", region: us}}\n'
    config = yaml.config(f"{defaults}environments: [{{name: a, keys: [a]}}, {{name: b, keys: [b], heap: }}]\n")

    assert [each.heap.app_id for each in config.environments] == ["1", "1"]


def test_a_list_is_replaced_whole(yaml: Yaml) -> None:
    text = TWO.replace("event: Seen", "features: {include: [a, b]}").replace("event: Mine", "features: {include: [c]}")

    one, two = yaml.config(text).environments

    assert (one.features.include, two.features.include) == (("a", "b"), ("c",))


def test_a_mistake_in_the_defaults_is_told_once_and_there(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes(TWO.replace("share: 0.5", "share: 5").replace(", share: 0.8", ""))

    assert mistake.startswith("relay.yaml:3: defaults.heap.share: '5' must be above 0 and at most 0.92")


def test_the_defaults_are_checked_where_there_is_no_environment(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes("defaults: {evnt: x}\n")

    assert mistake == "relay.yaml:1: defaults.evnt: is no setting here; write event instead"


def test_name_and_keys_belong_to_an_environment(yaml: Yaml) -> None:
    mistakes = yaml.mistakes("defaults: {name: x, keys: [y]}\n")

    assert [each.partition(": is ")[2] for each in mistakes] == ["no setting here; write it in an environment"] * 2


def test_what_an_environment_lacks_is_told_at_the_environment(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes("defaults:\n  heap: {region: us}\nenvironments:\n  - name: a\n    keys: [a]\n")

    assert mistake == 'relay.yaml:4: environments[0].heap.app_id: is missing; write app_id: "${HEAP_APP_ID}"'


def test_an_environment_s_url_does_not_cancel_the_defaults_region(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes(TWO.replace('app_id: "2"', 'app_id: "2", url: "http://127.0.0.1:1"'))

    assert "stands beside heap.url" in mistake


def test_null_in_an_environment_takes_the_defaults_region_away(yaml: Yaml) -> None:
    config = yaml.config(TWO.replace('app_id: "2"', 'app_id: "2", region: null, url: "http://127.0.0.1:1/"'))

    assert config.environments[1].environment().lane.url == "http://127.0.0.1:1"
