"""An order is a sorted list, however many blocks it has."""

from random import Random

from relay.outbox.order import BLOCK, Order


def test_an_order_of_many_blocks_reads_like_a_sorted_list() -> None:
    random = Random(1)
    entries = [(float(random.randrange(400)), number) for number in range(5 * BLOCK)]
    order = Order()
    for entry in entries:
        order.add(*entry)
    random.shuffle(entries)
    kept, removed = sorted(entries[: 2 * BLOCK]), entries[2 * BLOCK :]
    for entry in removed:
        order.remove(*entry)

    assert list(order) == kept
    for time in (-1.0, 0.0, 200.0, 200.5, 399.0, 400.0):
        assert list(order.up_to(time)) == [entry for entry in kept if entry[0] <= time]
        assert list(order.after(time)) == [entry for entry in kept if entry[0] > time]


def test_an_order_that_was_emptied_takes_entries_again() -> None:
    order = Order()
    order.add(1.0, 1)
    order.remove(1.0, 1)
    assert list(order) == []

    order.add(2.0, 2)

    assert list(order) == [(2.0, 2)]
