"""Which rows a run has, and which stores have no such row."""

from faults.__main__ import choose
from faults.matrix import not_on_redis
from faults.rows import ROWS


def test_the_long_form_plays_each_row_on_each_of_its_stores() -> None:
    assert choose("long", list(ROWS), None) == [(name, store) for name, row in ROWS.items() for store in row.stores]


def test_the_short_form_plays_each_fault_once() -> None:
    chosen = [name for name, _ in choose("short", list(ROWS), None)]

    assert chosen == [name for name, row in ROWS.items() if not row.only_long]


def test_the_short_form_has_all_outboxes() -> None:
    assert {store for _, store in choose("short", list(ROWS), None)} >= {*ROWS["sigkill"].stores}


def test_the_page_tells_which_faults_no_redis_has() -> None:
    assert f'"{ROWS["fsync"].title}"' in not_on_redis()
    assert ROWS["sigkill"].title not in not_on_redis()
