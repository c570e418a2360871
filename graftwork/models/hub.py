"""Models of the hub: what a repository holds at a commit, what of it the cache has, and downloading the rest.

The endpoint and the cache are those of the variables that huggingface_hub reads (`HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`).
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from graftwork.core.locks import try_lock
from graftwork.models.description import hub_cache_folder, hub_patterns, hub_source, snapshot_folder

# Downloaded beside what decides a model's output: they say under which licence it may be used.
LICENCE_FILES = ("README.md", "LICENSE*")
ENDPOINT_VARIABLE = "HF_ENDPOINT"
# From this size on, a file that was begun is continued.
LARGE_BYTES = 50_000_000
_WORKERS = 4
# Names that huggingface_hub gives bars that count bytes written to disk; others count files or bytes received.
_BARS_OF_BYTES = ("huggingface_hub.snapshot_download", "huggingface_hub.http_get")
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_LICENCE = re.compile(r"^license(?:_name)?: *[\"']?([^\"'\n]+?)[\"']? *$", re.MULTILINE)


@dataclass(frozen=True)
class HubSource:
    """A repository at a commit, and which of its files are needed.

    Attributes:
        repo: Id of the repository.
        revision: Commit.
        patterns: Patterns of the files, sorted.
    """

    repo: str
    revision: str
    patterns: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The snapshot in the cache, whether or not it is there."""
        return snapshot_folder(self.repo, self.revision)

    @property
    def command(self) -> str:
        """The command that downloads the files."""
        included = " ".join(f"--include {pattern!r}" for pattern in self.patterns)
        return f"hf download {self.repo} --revision {self.revision} {included}"


@dataclass(frozen=True)
class HubListing:
    """What the hub says of a source.

    Attributes:
        sizes: Path of a needed file in the repository -> its bytes.
        hashes: Path of a needed file in large file storage -> its SHA-256.
        licence: Name of the licence; None where the repository has none.
    """

    sizes: Mapping[str, int]
    hashes: Mapping[str, str]
    licence: str | None


def hub_sources(models: Iterable[tuple[str, str, Mapping[str, Any]]]) -> list[HubSource]:
    """Returns the sources of models on the hub, one for each repository and commit.

    Args:
        models: (kind, name, entry in the models file); those with a `path` are left out.
    """
    patterns: dict[tuple[str, str], set[str]] = {}
    for kind, name, entry in models:
        if not entry.get("path"):
            wanted = patterns.setdefault(hub_source(name, entry), set(LICENCE_FILES))
            wanted.update(hub_patterns(entry, kind))
    return [HubSource(*source, tuple(sorted(wanted))) for source, wanted in sorted(patterns.items())]


def read_licence(folder: Path) -> str | None:
    """Returns the licence that the model card in a folder names, or None."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    matter = _FRONT_MATTER.match(card.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n"))
    found = _LICENCE.search(matter[1]) if matter else None
    return found[1] if found else None


def list_files(source: HubSource) -> HubListing:
    """Asks the hub for the needed files of a source.

    Raises:
        RuntimeError: where the hub does not answer or does not have the commit, with its reason.
    """
    from huggingface_hub import HfApi

    try:
        found = HfApi(endpoint=_endpoint()).model_info(
            source.repo, revision=source.revision, files_metadata=True
        )
    # The client raises its own and its HTTP library's errors; all mean that there is no answer.
    except Exception as error:
        raise RuntimeError(_first_line(error)) from error
    files = [
        file
        for file in found.siblings or ()
        if any(fnmatch(file.rfilename, pattern) for pattern in source.patterns)
    ]
    return HubListing(
        {file.rfilename: int(file.size or 0) for file in files},
        {file.rfilename: file.lfs.sha256 for file in files if file.lfs},
        (found.card_data or {}).get("license"),
    )


def missing_sizes(source: HubSource, listing: HubListing) -> dict[str, int]:
    """Returns the files of a listing that the cache lacks or has in another size -> their bytes."""
    return {
        path: size
        for path, size in listing.sizes.items()
        if not (source.folder / path).is_file() or (source.folder / path).stat().st_size != size
    }


def download(source: HubSource, listing: HubListing, report: Callable[[int], None]) -> Path:
    """Downloads what the cache lacks of a source, continuing large files that were begun.

    `snapshot_download` of huggingface_hub begins a file again whose download was interrupted, and a shard of weights has
    gigabytes. So large files are fetched first, each to the name that it has in the cache; the rest, and the links of the
    snapshot, are left to `snapshot_download`.

    Args:
        source: Repository and files to download.
        listing: Answer of the hub about them.
        report: Called with the number of bytes that came since the last call, those of a file that was begun included.

    Returns:
        The snapshot.

    Raises:
        RuntimeError: where the hub does not answer, the cache cannot be written, or a file is not what it should be.
    """
    from huggingface_hub import snapshot_download

    counting = _counting(report)
    missing = missing_sizes(source, listing)
    large = [path for path, size in missing.items() if size >= LARGE_BYTES and path in listing.hashes]
    try:
        with ThreadPoolExecutor(_WORKERS) as pool:
            # In a list, so that the first error is raised here.
            list(pool.map(lambda path: _fetch(source, path, listing, counting), large))
        folder = snapshot_download(
            source.repo,
            revision=source.revision,
            allow_patterns=list(source.patterns),
            cache_dir=hub_cache_folder(),
            endpoint=_endpoint(),
            tqdm_class=counting,
        )
    # The client raises its own and its HTTP library's errors; all mean that the files are not here.
    except Exception as error:
        raise RuntimeError(
            f"{source.repo} at {source.revision} cannot be downloaded to {hub_cache_folder()}: {_first_line(error)}; what "
            "came is kept, start it again"
        ) from error
    return Path(folder)


def _fetch(source: HubSource, path: str, listing: HubListing, counting: type) -> None:
    """Downloads one large file to the cache, from the byte on that it has."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    # <repository>/blobs/<SHA-256>, see "Understand caching" in the documentation of huggingface_hub.
    blob = source.folder.parents[1] / "blobs" / listing.hashes[path]
    begun = blob.with_name(f"{blob.name}.begun")
    if blob.exists():
        return
    begun.parent.mkdir(parents=True, exist_ok=True)
    with open(begun, "ab") as file:
        if not try_lock(file):
            raise OSError(f"another process downloads {path} to {begun}; wait for it")
        http_get(
            hf_hub_url(source.repo, path, revision=source.revision, endpoint=_endpoint()),
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(),
            expected_size=listing.sizes[path],
            tqdm_class=counting,
        )
        file.flush()
        with open(begun, "rb") as written:
            found = hashlib.file_digest(written, "sha256").hexdigest()
        if found != listing.hashes[path]:
            file.truncate(0)
            raise OSError(f"{path} came with SHA-256 {found}, not {listing.hashes[path]}")
        begun.rename(blob)


def _counting(report: Callable[[int], None]) -> type:
    """Returns a class of progress bars that draw nothing and report the bytes that were written to disk."""
    from huggingface_hub.utils import tqdm

    class Counting(tqdm):
        def __init__(self, *arguments: Any, **options: Any):
            self._counts_bytes = options.get("name") in _BARS_OF_BYTES
            super().__init__(*arguments, **{**options, "disable": True})
            if self._counts_bytes and options.get("initial"):
                report(int(options["initial"]))

        def update(self, n: float | None = 1) -> None:
            if self._counts_bytes and n:
                report(int(n))

    return Counting


def _endpoint() -> str | None:
    return os.environ.get(ENDPOINT_VARIABLE) or None


def _first_line(error: BaseException) -> str:
    lines: Sequence[str] = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
