"""Where garbage is not looked for: what was garbage before is freed, and the collector goes on."""

import gc
import sys
import weakref

import pytest

from graftwork.core.collector import importing, leave_alone, resting


class Node:
    def __init__(self):
        self.me = self


@pytest.fixture(autouse=True)
def _as_before():
    yield
    gc.unfreeze()


def test_the_collector_rests_and_leaves_alone_what_was_made():
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        kept = [Node() for _ in range(100)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(kept)


def import_nothing():
    with importing():
        pass


@pytest.mark.parametrize("do", [import_nothing, leave_alone])
def test_garbage_from_before_is_freed_and_so_is_later_garbage(do):
    garbage = weakref.ref(Node())
    do()
    assert garbage() is None
    assert gc.get_freeze_count()
    later = weakref.ref(Node())
    gc.collect()
    assert later() is None


def test_garbage_of_the_import_does_not_keep_what_its_caller_makes_afterwards():
    """An exception refers to the frames that it went through, and a frame to the exception that is kept in it."""

    def import_with_a_fallback():
        try:
            raise ImportError
        except ImportError as error:
            kept = error
        return sys._getframe().f_back is not None and kept is not None

    def work():
        with importing():
            assert import_with_a_fallback()
        model = Node()
        return weakref.ref(model)

    model = work()
    gc.collect()
    assert model() is None


def test_an_import_that_fails_leaves_the_collector_on():
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_where_the_collector_is_off_it_stays_off():
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
        with resting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
