"""Parts of a shard: each is tried, and the memory of one is free before the next begins."""

import logging
import weakref

import pytest

from graftwork.jobs.parts import do_parts

LOG = logging.getLogger("test")


class Model:
    """Refers to itself, as modules of torch do through their hooks."""

    def __init__(self):
        self.owner = self


def test_parts_are_done_in_order():
    done = []
    do_parts(["a", "b"], done.append, LOG)
    assert done == ["a", "b"]
    do_parts([], done.append, LOG)


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_gone_before_the_next_is_loaded(fails):
    loaded = []

    def do(part):
        model = Model()
        assert [one for one in loaded if one()] == []
        loaded.append(weakref.ref(model))
        if fails:
            try:
                raise KeyError(part)
            except KeyError as error:
                raise ValueError(part) from error

    if fails:
        with pytest.raises(ValueError, match="a"):
            do_parts(["a", "b", "c"], do, LOG)
    else:
        do_parts(["a", "b", "c"], do, LOG)
    assert len(loaded) == 3


def test_the_first_error_is_raised_when_all_parts_were_tried(caplog):
    done = []

    def do(part):
        done.append(part)
        if part != "b":
            raise RuntimeError(f"no {part}")

    with pytest.raises(RuntimeError, match="no a"):
        do_parts(["a", "b", "c"], do, LOG)
    assert done == ["a", "b", "c"]
    assert "RuntimeError: no c" in caplog.text
    assert "no a" not in caplog.text
