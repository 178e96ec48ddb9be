"""Whatever is sent: what Flagsmith gets is what was sent, what comes back is what it answered, and nothing breaks."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import nginx
from tests.fuzz.ground import Ground
from tests.fuzz.requests import Sent, answers, broken, in_pieces, requests
from tests.fuzz.test_smuggling import PASSED, REFUSED
from tests.proxy.raw import Message


def ours(message: Message) -> list[tuple[bytes, bytes]]:
    """The headers that hypothesis made up."""
    return [(name, value) for name, value in message.headers if name.startswith(b"X-F-")]


@given(request_=requests(), answer=answers(), data=st.data())
def test_both_ways_nothing_changes(ground: Ground, request_: Sent, answer: Sent, data: st.DataObject) -> None:
    got, came = ground.exchange(data.draw(in_pieces(request_.raw)), answer.raw)

    assert (got.first_line, got.body) == (request_.first_line, request_.body)
    assert ours(got) == list(request_.headers[1:])
    assert (came.status, came.body) == (int(answer.first_line.split(b" ")[1]), answer.body)
    assert ours(came) == list(answer.headers)


@given(first=requests(), second=requests(), data=st.data())
def test_two_on_one_connection_are_two(ground: Ground, first: Sent, second: Sent, data: st.DataObject) -> None:
    last = Sent(second.first_line, (*second.headers, (b"Connection", b"close")), second.body, second.cuts)

    statuses, got = ground.send(*data.draw(in_pieces(first.raw + last.raw)))

    assert statuses == [200, 200]
    assert [(message.first_line, message.body) for message in got] == [
        (first.first_line, first.body),
        (second.first_line, second.body),
    ]


CORPUS = [*REFUSED.values(), *(raw for raw, _ in PASSED.values())]
WHOLE = st.one_of(requests().map(lambda sent: sent.raw), st.sampled_from(CORPUS))


@given(raw=WHOLE.flatmap(broken), data=st.data())
def test_what_is_broken_breaks_nothing(ground: Ground, raw: bytes, data: st.DataObject) -> None:
    """No answer is a failure of the relay's own, Flagsmith has every request that was answered 200, and all goes on."""
    statuses, got = ground.send(*data.draw(in_pieces(raw)))

    assert all(status < 500 for status in statuses), statuses
    assert statuses.count(200) <= len(got)
    assert ground.is_well()


@pytest.fixture(scope="module")
def nginx_port(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if not nginx.installed():
        pytest.skip("nginx is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    for part in folder, folder.parent:
        part.chmod(0o755)  # its worker is another user
    with nginx.proxy(folder, ground.flagsmith.url) as process:
        yield int(process.url.rpartition(":")[2])


@given(raw=st.one_of(requests().map(lambda sent: sent.raw), WHOLE.flatmap(broken)))
def test_what_passes_is_what_nginx_passes(ground: Ground, nginx_port: int, raw: bytes) -> None:
    """Each may refuse what the other takes; but neither reads another request than the other."""
    _, here = ground.send(raw)
    there = ground.send_to(nginx_port, raw)

    for mine, its in zip(here, there, strict=False):
        assert (mine.first_line, mine.body) == (its.first_line, its.body)
