from __future__ import annotations

from state_help import Counter

from pyconsul.state.watch import Cell, Read, WatchSet


def waiting(watch: WatchSet, *cells: Cell) -> Counter:
    return Counter(Read(None, 1, cells))


def test_a_waiter_fires_once_and_is_forgotten():
    watch = WatchSet()
    waiter = waiting(watch, Cell(watch.keys, "a"))
    watch.touch_key("a")
    watch.touch_key("a")
    assert waiter.fired == 0
    watch.commit()
    watch.touch_key("a")
    watch.commit()
    assert waiter.fired == 1
    assert not watch.keys.waiting


def test_one_commit_fires_a_waiter_of_many_cells_once():
    watch = WatchSet()
    cells = Cell(watch.tables, "nodes"), Cell(watch.tables, "services")
    waiter = waiting(watch, *cells)
    watch.touch(watch.tables, "nodes")
    watch.touch(watch.tables, "services")
    watch.commit()
    assert waiter.fired == 1


def test_a_rollback_fires_nobody_and_keeps_waiting():
    watch = WatchSet()
    waiter = waiting(watch, Cell(watch.keys, "a"))
    watch.touch_key("a")
    watch.rollback()
    watch.commit()
    assert waiter.fired == 0
    watch.touch_key("a")
    watch.commit()
    assert waiter.fired == 1


def test_prefixes_are_probed_by_length_and_dropped_when_empty():
    watch = WatchSet()
    cells = [Cell(watch.prefixes, name) for name in ("", "a/", "b/", "a/long")]
    waiters = [waiting(watch, cell) for cell in cells]
    assert watch.prefixes.lengths == {0: 1, 2: 2, 6: 1}
    watch.touch_key("a/x")
    watch.commit()
    assert [waiter.fired for waiter in waiters] == [1, 1, 0, 0]
    assert watch.prefixes.lengths == {2: 1, 6: 1}
    cells[2].unsubscribe(waiters[2])
    cells[2].unsubscribe(waiters[2])
    cells[3].unsubscribe(waiters[3])
    assert not watch.prefixes.lengths
    assert not watch.prefixes.waiting


def test_a_waiter_may_subscribe_again_while_it_is_fired():
    watch = WatchSet()
    cell = Cell(watch.keys, "a")

    class Again:
        fired = 0

        def fire(self) -> None:
            self.fired += 1
            cell.subscribe(self)

    waiter = Again()
    cell.subscribe(waiter)
    for _ in range(3):
        watch.touch_key("a")
        watch.commit()
    assert waiter.fired == 3
