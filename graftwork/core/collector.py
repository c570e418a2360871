"""When Python looks for garbage: not while nothing can be garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OUTSIDE_DIGESTS = "says when garbage is looked for"


@contextmanager
def resting() -> Iterator[None]:
    """A block, or a function, that makes many objects and no garbage with cycles: it is not looked for."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def importing() -> Iterator[None]:
    """A block that imports a large library, without looking for garbage.

    What a library makes when it is imported stays, hundreds of thousands of objects. The collector would go through them
    again and again; after the block it leaves them alone.
    """
    with resting():
        yield
        leave_alone()


def leave_alone() -> None:
    """Says that what there is by now stays: the collector does not go through it again."""
    # Garbage would stay too, and with it all that it refers to: an exception that an import caught holds the frames of its
    # callers, and they will hold a model.
    gc.collect()
    gc.freeze()
