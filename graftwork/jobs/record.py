"""Records of a job: a log, and a manifest that says what was made and what failed."""

import atexit
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

from graftwork.core.atomic import CannotWrite, naming_file
from graftwork.core.code_digest import outside_digests
from graftwork.core.records import read_record, write_record
from graftwork.planning.shards import Manifest, Rate, Work

PACKAGES = ("torch", "transformers", "diffusers", "numpy", "h5py", "pillow")


class JobRecord:
    """Collects what a job did. Failures of single items are results: the job itself goes on.

    Attributes:
        made: keys of what it made.
        found: keys of what another job had made before.
        failures: key -> why it could not be made.
        rate: of a job of generation, how fast it was.
        refused: of a job of statistics: key -> input -> why it was left out.
    """

    def __init__(self, log: logging.Logger):
        self._log = log
        self._start = time.monotonic()
        self.made: list[str] = []
        self.found: list[str] = []
        self.failures: dict[str, str] = {}
        self.rate: Rate | None = None
        self.refused: dict[str, dict[str, str]] = {}

    def fail(self, item: str, error: BaseException | str) -> None:
        """Records why an item failed; an exception's traceback goes to the log."""
        is_sentence = isinstance(error, str | CannotWrite)
        text = str(error) if is_sentence else f"{type(error).__name__}: {error}"
        self._log.error(
            "%s failed: %s",
            item,
            text,
            exc_info=None if is_sentence else (type(error), error, error.__traceback__),
        )
        self.failures[item] = text

    def write(self, path: str | Path) -> None:
        """Writes the manifest. Equal work gives equal text but for `seconds`."""
        manifest = Manifest(
            made=tuple(sorted(self.made)),
            found=tuple(sorted(self.found)),
            failures=dict(sorted(self.failures.items())),
            seconds=round(time.monotonic() - self._start, 3),
            packages={name: version(name) for name in PACKAGES},
            rate=self.rate,
            refused=self.refused,
        )
        write_record(Path(path), manifest)


@contextlib.contextmanager
def blaming_settings(log: logging.Logger) -> Iterator[None]:
    """Ends the job with the message alone: an error in the block is one of the settings, and no traceback helps."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        log.error(str(error))
        sys.exit(str(error))


def read_manifests(paths: Iterable[str | Path]) -> list[Manifest]:
    """Returns the manifests at these paths."""
    return [read_record(Manifest, path) for path in paths]


def all_failures(paths: Iterable[str | Path]) -> dict[str, str]:
    """Returns key -> error over several manifests."""
    return {item: error for manifest in read_manifests(paths) for item, error in manifest.failures.items()}


def work_of(manifests: Sequence[Manifest]) -> Work:
    """Returns what jobs did together."""
    return Work(
        sum(len(manifest.made) for manifest in manifests),
        sum(manifest.seconds for manifest in manifests),
        {name: version(name) for name in PACKAGES},
    )


class _JobLog(logging.FileHandler):
    """A log that ends where the disk is full: the job says so once, and goes on."""

    _is_over = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._is_over:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        try:
            with naming_file(Path(self.baseFilename)):
                raise
        except CannotWrite as error:
            self._is_over = True
            print(f"graftwork: {error}", file=sys.stderr)
        except Exception:
            super().handleError(record)


def _end_in_words(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None, log: logging.Logger
) -> None:
    """Ends a job that cannot write a file with that sentence alone; of every other error the traceback is shown."""
    if isinstance(error, CannotWrite):
        log.error(str(error))
        print(f"graftwork: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


@outside_digests("writes a log")
def open_log(path: str | Path) -> logging.Logger:
    """Sends what the package logs to the job's log file, and lets the job end in words where it cannot write a file."""
    logger = logging.getLogger("graftwork")
    logger.setLevel(logging.INFO)
    logger.handlers = []
    sys.excepthook = partial(_end_in_words, log=logger)
    with naming_file(Path(path)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = _JobLog(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers = [handler]
    logger.propagate = False
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers = [handler]
    return logger


def end_process() -> None:
    """Ends a job's process without taking its modules apart, which costs a second of CPU after torch and diffusers.

    Exit functions run, and what was printed is written. Call it last, when every file is closed and every thread has ended.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
