"""Digests of what makes the viewer, so that it is made again when its code or its page changes."""

import hashlib

from graftwork.core.code_digest import code_digest
from graftwork.core.identity import digest
from graftwork.reports.viewer.folder import PAGE, page_files


def thumbnail_code() -> str:
    """Returns the digest of the code that makes thumbnails."""
    return code_digest("workflow_scripts.make_thumbnails:main")


def viewer_code() -> str:
    """Returns the digest of the code that writes the viewer, and of the files of its page."""
    files = {
        path.relative_to(PAGE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in page_files()
    }
    return digest([code_digest("workflow_scripts.build_viewer:main"), files])
