"""Manifests and logs."""

import json
import logging
import subprocess
import sys
import warnings

import pytest

from graftwork.jobs.record import JobRecord, all_failures, open_log, read_manifests
from graftwork.planning.shards import Rate


@pytest.fixture(autouse=True)
def loggers_as_before():
    """A job has its process to itself; tests share one."""
    loggers = [logging.getLogger(name) for name in ("graftwork", "py.warnings")]
    before = [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield
    logging.captureWarnings(False)
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        for handler in logger.handlers:
            if handler not in handlers:
                handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def log(tmp_path):
    return open_log(tmp_path / "logs" / "job.log")


def test_a_manifest_says_what_was_made_and_what_failed(tmp_path, log):
    record = JobRecord(log)
    record.made += ["b", "a"]
    record.found.append("c")
    record.fail("z", ValueError("no tokens"))
    record.fail("d", "not finite")
    record.rate = Rate(1, 2.0)
    record.write(tmp_path / "manifest.json")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["made"] == ["a", "b"]
    assert manifest["found"] == ["c"]
    assert manifest["failures"] == {"d": "not finite", "z": "ValueError: no tokens"}
    assert list(manifest["failures"]) == ["d", "z"]
    assert manifest["rate"] == {"work": 1, "seconds": 2.0}
    assert set(manifest["packages"]) >= {"torch", "diffusers", "transformers"}
    assert manifest["seconds"] >= 0


def test_equal_work_gives_equal_text_but_for_the_time(tmp_path, log):
    texts = []
    for made in (["a", "b"], ["b", "a"]):
        record = JobRecord(log)
        record.made += made
        record.write(tmp_path / "manifest.json")
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        del manifest["seconds"]
        texts.append(json.dumps(manifest))
    assert texts[0] == texts[1]


def test_the_traceback_of_an_error_is_in_the_log(tmp_path, log):
    record = JobRecord(log)
    try:
        raise KeyError("missing thing")
    except KeyError as error:
        record.fail("item", error)
    record.fail("other", "in words")
    text = (tmp_path / "logs" / "job.log").read_text()
    assert "ERROR item failed: KeyError: 'missing thing'" in text
    assert "Traceback" in text
    assert "ERROR other failed: in words" in text
    assert "NoneType: None" not in text


def test_failures_over_several_manifests(tmp_path, log):
    paths = []
    for name in ("one", "two"):
        record = JobRecord(log)
        record.fail(name, "why")
        record.write(tmp_path / f"{name}.json")
        paths.append(tmp_path / f"{name}.json")
    assert all_failures(paths) == {"one": "why", "two": "why"}
    assert len(read_manifests([str(path) for path in paths])) == 2
    assert all_failures([]) == {}


def test_a_log_begins_anew_and_takes_warnings(tmp_path):
    path = tmp_path / "job.log"
    for line in ("first", "second"):
        log = open_log(path)
        log.info(line)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("the source has no variation", stacklevel=1)
    logging.captureWarnings(False)
    text = path.read_text()
    assert "first" not in text
    assert "second" in text
    assert "no variation" in text


def test_a_process_that_ends_has_written_everything_and_run_its_exit_functions(tmp_path):
    program = (
        "import atexit, threading\n"
        "from graftwork.jobs.record import end_process, open_log\n"
        f"log = open_log({str(tmp_path / 'job.log')!r})\n"
        f"atexit.register(lambda: open({str(tmp_path / 'left.txt')!r}, 'w').write('left'))\n"
        "log.info('the last line')\n"
        "print('printed', end='')\n"
        "end_process()\n"
        "print('not reached')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "printed", "")
    assert "the last line" in (tmp_path / "job.log").read_text()
    assert (tmp_path / "left.txt").read_text() == "left"
