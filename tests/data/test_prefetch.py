"""The thread that works ahead: order, bounds, errors, and that it ends whatever happens."""

import gc
import itertools
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from lightning_polycom.data.prefetch import Prefetched
from lightning_polycom.errors import InputError


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    assert not threads()
    yield
    gc.collect()
    assert not threads()


def eventually(condition) -> bool:
    return any(condition() or time.sleep(0.01) for _ in range(500))


@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_all_items_come_in_order(depth, count):
    items = Prefetched(range(count), depth)
    assert list(items) == list(range(count))
    assert list(items) == []


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_is_made_than_fits(depth):
    made = []
    items = Prefetched((made.append(i) or i for i in itertools.count()), depth)
    for taken in range(4):
        assert eventually(lambda taken=taken: len(made) == taken + depth + 1)
        time.sleep(0.05)
        assert len(made) == taken + depth + 1
        assert next(items) == taken
    items.close()


def test_items_are_made_while_the_loop_is_busy():
    ready = threading.Event()
    items = Prefetched(iter([1, 2, 3, ready.set()]), 9)
    assert ready.wait(5)
    assert list(items) == [1, 2, 3, None]


@pytest.mark.parametrize("error", [InputError("train.bin: it ends at byte 7"), ValueError("a"), KeyboardInterrupt()])
def test_an_error_arrives_as_it_is_and_in_its_turn(error):
    def failing():
        yield 1
        yield 2
        raise error

    items = Prefetched(failing())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(type(error)) as caught:
        next(items)
    assert caught.value is error
    with pytest.raises(StopIteration):
        next(items)
    assert not threads()


def test_an_error_after_the_end_of_interest_does_not_hold_the_thread():
    released = threading.Event()

    def failing():
        yield 1
        yield 2
        released.wait(5)
        raise ValueError

    items = Prefetched(failing())
    threading.Timer(0.1, released.set).start()
    next(items)
    items.close()
    assert not threads()


def test_close_ends_a_full_and_an_empty_one():
    for taken in (0, 3):
        items = Prefetched(itertools.count())
        assert [next(items) for _ in range(taken)] == list(range(taken))
        items.close()
        items.close()
        assert not threads() and list(items) == []


def test_it_ends_when_it_is_abandoned():
    items = Prefetched(itertools.count())
    next(items)
    assert threads()
    del items
    gc.collect()
    assert not threads()


def test_what_it_was_made_from_is_let_go():
    class Source:
        def __iter__(self):
            return itertools.count()

    source = Source()
    gone = weakref.ref(source)
    items = Prefetched(source)
    next(items)
    del source
    items.close()
    gc.collect()
    assert gone() is None


SCRIPT = """
import itertools, time, sys
from lightning_polycom.data.prefetch import Prefetched

def slow():
    for i in itertools.count():
        yield i
        time.sleep(0 if i < 3 else {seconds})

items = Prefetched(slow())
print(next(items), flush=True)
{then}
"""


def started(then: str, seconds: float = 0.0) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT.format(then=then, seconds=seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "0\n"
    return process


def test_a_process_that_still_holds_it_exits():
    process = started("sys.exit(3)")
    assert process.wait(20) == 3 and process.stderr.read() == ""


def test_ctrl_c_stops_a_loop_that_waits_for_it():
    process = started("for item in items: print(item, flush=True)", seconds=0.5)
    assert process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) != 0
    assert process.stderr.read().strip().endswith("KeyboardInterrupt")
