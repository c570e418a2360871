"""Graphics cards of this machine, found without torch, so that the workflow can be parsed before torch is imported."""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
_SECONDS = 30
_BYTES_PER_MIB = 2**20


@dataclass(frozen=True)
class Card:
    """A graphics card.

    Attributes:
        name: Name of the product.
        memory: Memory in bytes.
        driver: Version of the driver.
    """

    name: str
    memory: int
    driver: str


def find_cards() -> list[Card]:
    """Returns the NVIDIA cards that `nvidia-smi` lists; none where there is no such program, or no card."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, *_QUERY], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        # A driver that does not answer runs no model either.
        return []
    return read_cards(answer.stdout) if answer.returncode == 0 else []


def read_cards(text: str) -> list[Card]:
    """Returns the cards in an answer of `nvidia-smi`: a line each with name, memory in MiB and driver.

    A card that does not say its memory is left out: nothing can be chosen for it.
    """
    cards = []
    for line in text.splitlines():
        name, _, rest = line.rpartition(",")[0].rpartition(",")
        driver = line.rpartition(",")[2].strip()
        if rest.strip().isdigit():
            cards.append(Card(name.strip(), int(rest) * _BYTES_PER_MIB, driver))
    return cards


def cuda_of_torch() -> str | None:
    """Returns the version of CUDA that torch was built for, such as "13.0"; None for a build without, or no torch.

    Read from torch's `version.py`, since importing torch takes seconds.
    """
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    version = re.search(r"^cuda\b[^=\n]*= *'([0-9.]+)'", text, re.MULTILINE)
    return version[1] if version else None


# Oldest driver for Linux that runs programs of a major version of CUDA, by the table of minor version compatibility in
# NVIDIA's "CUDA Compatibility".
OLDEST_DRIVERS = {"12": 525, "13": 580}


def driver_problem(card: Card, cuda: str) -> str | None:
    """Returns why the driver of a card cannot run a build of torch, or None.

    Args:
        card: The card.
        cuda: Version of CUDA that torch was built for.
    """
    oldest = OLDEST_DRIVERS.get(cuda.partition(".")[0])
    major = card.driver.partition(".")[0]
    if oldest is None or not major.isdigit() or int(major) >= oldest:
        return None
    return f"driver {card.driver} of {card.name} is older than {oldest}, which torch for CUDA {cuda} needs; update the driver"
