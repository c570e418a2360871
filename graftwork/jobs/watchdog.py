"""End of a job that hangs: one that has finished no item for too long."""

import faulthandler
import logging
import os
import sys
import threading
import time

from graftwork.core.code_digest import outside_digests


@outside_digests("ends a job; what it has stored by then is whole")
class Watchdog:
    """A context that ends the process where too much time passes between two calls of `beat`.

    The process ends at once, with status 1: a thread that waits for a driver or a file system cannot be stopped in
    another way. Finished items are in the store, and the next run, or the retry of a cluster, makes the rest.
    """

    def __init__(self, seconds: float | None, what: str, log: logging.Logger):
        """Takes the limit and what is waited for.

        Args:
            seconds: longest time without an item; None for no limit.
            what: plural of the items, in the message.
            log: log of the job; it gets the stack of every thread.
        """
        self._seconds, self._what, self._log = seconds, what, log
        self._last = time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")

    def __enter__(self) -> "Watchdog":
        self.beat()
        if self._seconds is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    def beat(self) -> None:
        """Says that an item is finished."""
        self._last = time.monotonic()

    def _watch(self) -> None:
        assert self._seconds is not None
        while not self._is_over.wait(max(0.05, self._last + self._seconds - time.monotonic())):
            if time.monotonic() - self._last < self._seconds:
                continue
            message = (
                f"no {self._what} were finished for {self._seconds:g} s, the limit that stall_limit sets in "
                "config/config.yaml: hardware: this job ends; the next run makes what is missing"
            )
            self._log.error(message)
            for handler in self._log.handlers:
                if isinstance(handler, logging.FileHandler):
                    handler.flush()
                    faulthandler.dump_traceback(handler.stream)
            print(message, file=sys.stderr, flush=True)
            os._exit(1)
