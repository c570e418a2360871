"""Imported by every Python process of a benchmark: adds a line of JSON to the file that IMPORT_CLOCK names.

The line says which process it was, its time of the processor, that of its imports, and the imports by library, each without
what it imports itself.
"""

import atexit
import importlib._bootstrap as bootstrap
import json
import os
import sys
import threading
import time

_find_and_load = bootstrap._find_and_load
_thread = threading.local()
_libraries = {}


def _timed(name, import_):
    if name in sys.modules:
        return _find_and_load(name, import_)
    around, _thread.inside, start = getattr(_thread, "inside", 0.0), 0.0, time.thread_time()
    try:
        return _find_and_load(name, import_)
    finally:
        whole = time.thread_time() - start
        library = name.partition(".")[0]
        _libraries[library] = _libraries.get(library, 0.0) + whole - _thread.inside
        _thread.inside = around + whole


def _write(path):
    line = {
        "process": os.path.basename(sys.argv[0]),
        "seconds": time.process_time(),
        "imports": sum(_libraries.values()),
        "libraries": _libraries,
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{json.dumps(line)}\n".encode())
    os.close(descriptor)


if "IMPORT_CLOCK" in os.environ:
    bootstrap._find_and_load = _timed
    atexit.register(_write, os.environ["IMPORT_CLOCK"])
