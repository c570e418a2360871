"""Parts of a shard that load a model each, done one after the other in one process."""

import gc
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def do_parts(parts: Sequence[T], do: Callable[[T], None], log: logging.Logger) -> None:
    """Does the parts in order; the memory of one is free before the next begins.

    A part that cannot be done, such as one whose model does not load, does not keep the others from being done.

    Args:
        parts: parts of a shard.
        do: Does one; no model that it loads is kept anywhere else.
        log: log of the job; told of each part that cannot be done, but for the one whose error is raised.

    Raises:
        Exception: what the first part that could not be done raised, when all have been tried.
    """
    errors: list[Exception] = []
    for number, part in enumerate(parts):
        if number:
            _free_memory()
        try:
            do(part)
        except Exception as error:
            _let_go(error)
            if errors:
                log.error("%s: %s", type(error).__name__, error, exc_info=error)
            errors.append(error)
    if errors:
        raise errors[0]


def _let_go(error: BaseException | None) -> None:
    """Empties the frames that an error went through: they hold the model."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _free_memory() -> None:
    # Models have cycles.
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
