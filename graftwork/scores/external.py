"""Scores of users: a command that reads a table of images and writes a table of numbers, in an environment of its own.

A file in config/external/ is a score of the same name. The command is given two paths in place of `{input}` and `{output}`.
The input is a CSV file with a row for each image that is not known yet:

    row         number of the row
    image       absolute path
    prompt      text
    reference   absolute paths of the reference images, one in a line; empty without
    baseline    absolute path of the image of the text alone; empty without

The output is a CSV file with the column `row` and the columns that the file in config/external/ declares. An empty field is a
value that there is not. Nothing of this project is imported by the command.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from pydantic import Field, ValidationError

from graftwork.core.errors import DesignError, explain, shorten
from graftwork.core.identity import digest
from graftwork.core.parameters import Strict
from graftwork.core.tables import Row, read_table, write_table
from graftwork.core.yaml_files import read_yaml
from graftwork.scores.registry import UNSCORED, CellToScore, Column, Score, ScoreInputs, register
from graftwork.scores.table import sha256_of

FOLDER = Path("config/external")
_INPUT, _OUTPUT, _ROW = "{input}", "{output}", "row"
# Lines at the end of what a command said that are shown where it failed.
_MOST_LINES = 8


class ExternalColumn(Strict):
    """One quantity that a command measures."""

    label: str = Field(description="The quantity in words, on plots.")
    unit: str = ""
    bounds: Annotated[list[float | None], Field(min_length=2, max_length=2)] = Field(
        default_factory=lambda: [None, None]
    )
    better: Literal["higher", "lower", "neither"] = "neither"
    against: Literal["nothing", "prompt", "reference", "baseline"] = "nothing"
    chance: float | None = None


class ExternalScore(Strict):
    """A file in config/external/."""

    meaning: str = Field(description="What is measured.")
    command: Annotated[list[str], Field(min_length=1)] = Field(
        description="Program and arguments; `{input}` and `{output}` stand for the two tables."
    )
    columns: Annotated[dict[str, ExternalColumn], Field(min_length=1)] = Field(description="What it writes.")
    environment: dict[str, str] = Field(default_factory=dict, description="Variables to set.")
    files: list[str] = Field(
        default_factory=list,
        description="Files of the command: where one changes, everything is measured anew.",
    )
    minutes: Annotated[float, Field(gt=0)] = Field(60, description="Time after which it is ended.")


def register_external(folder: Path) -> None:
    """Registers a score for each file in a folder. One that cannot be read is refused where an experiment asks for it."""
    for file in sorted(folder.glob("*.yaml")):
        name = file.stem
        try:
            found = ExternalScore.model_validate(read_yaml(file, file.as_posix()))
            register(_score(name, found, file))
        except ValidationError as error:
            _register_unreadable(name, explain(error, file.as_posix(), ExternalScore))
        except (DesignError, ValueError) as error:
            _register_unreadable(name, DesignError(f"{file}: {str(error).removeprefix(f'{file}: ')}"))


def _score(name: str, found: ExternalScore, file: Path) -> Score:
    missing = [one for one in (_INPUT, _OUTPUT) if not any(one in part for part in found.command)]
    if missing:
        raise ValueError(
            f"command has no {' and no '.join(missing)}, which stand for the tables it reads and writes"
        )
    return Score(
        name=name,
        meaning=found.meaning,
        columns=tuple(
            Column(column, **{**own.model_dump(), "bounds": tuple(own.bounds)})
            for column, own in found.columns.items()
        ),
        needs=f"The command of {file}.",
        check=partial(_check, found, file),
        files=lambda root: [file, *(root / path for path in found.files)],
        measure=partial(run_command, found, file),
        measured_by=run_command,
        depends_on=partial(_identity, file, found),
    )


def _register_unreadable(name: str, error: DesignError) -> None:
    def refuse(inputs: ScoreInputs) -> NoReturn:
        raise error

    def measure(cells: Sequence[CellToScore], references: Mapping[str, Path]) -> NoReturn:
        raise error

    columns = (Column(f"{name}_unreadable", "a file that cannot be read"),)
    register(
        Score(
            name, "Its file cannot be read.", columns, measure=measure, measured_by=run_command, check=refuse
        )
    )


def _identity(file: Path, found: ExternalScore) -> str:
    return digest([sha256_of(path) for path in (file, *map(Path, found.files))])


def _check(found: ExternalScore, file: Path, inputs: ScoreInputs) -> None:
    for path in found.files:
        if not (inputs.root / path).is_file():
            raise DesignError(f"{file}: files: {path} does not exist; correct the path, or remove it")
    if not inputs.references and any(own.against == "reference" for own in found.columns.values()):
        raise DesignError(
            f"{inputs.file}: scores: {file.stem} compares images with references, and there are none; set base.references, "
            f"or remove {file.stem} from scores"
        )


def run_command(
    found: ExternalScore, file: Path, cells: Sequence[CellToScore], references: Mapping[str, Path]
) -> list[Row]:
    """Runs the command of a score and returns the columns of each cell.

    Args:
        found: content of its file.
        file: that file, for messages.
        cells: cells with an image.
        references: SHA-256 -> path of reference images.

    Raises:
        ValueError: naming the file and what to change, where the command cannot be run, fails, takes too long, or writes no
            table, one without a column, or a value that is no number.
    """
    with tempfile.TemporaryDirectory(prefix="graftwork-external-") as folder:
        given, written = Path(folder, "input.csv"), Path(folder, "output.csv")
        rows = [_given(number, cell, references) for number, cell in enumerate(cells)]
        given.write_text(write_table(rows), encoding="utf-8")
        command = [part.replace(_INPUT, str(given)).replace(_OUTPUT, str(written)) for part in found.command]
        _run(command, found, file)
        if not written.is_file():
            raise ValueError(
                f"{file}: the command wrote no table to {_OUTPUT}; it has to, also where it measures nothing"
            )
        said = read_table(written)
    lacking = [name for name in (_ROW, *found.columns) if said and name not in said[0]]
    if lacking:
        raise ValueError(
            f"{file}: the table that the command wrote lacks the columns {', '.join(lacking)}; it has {', '.join(said[0])}"
        )
    by_row = {row[_ROW]: row for row in said}
    return [_columns(found, file, by_row.get(str(number))) for number in range(len(cells))]


def _given(number: int, cell: CellToScore, references: Mapping[str, Path]) -> Row:
    shown = [str(references[one].absolute()) for one in cell.references]
    return {
        _ROW: number,
        "image": str(cell.image.absolute()) if cell.image else "",
        "prompt": cell.prompt,
        "reference": "\n".join(shown),
        "baseline": str(cell.baseline.absolute()) if cell.baseline else "",
    }


def _run(command: Sequence[str], found: ExternalScore, file: Path) -> None:
    # Without the variables of this environment: a Python of the command's own would look for modules here.
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    with tempfile.TemporaryFile() as said:
        try:
            # A session of its own, so that what the command starts ends with it. A file, for a pipe may stay open.
            process = subprocess.Popen(
                command,
                env={**plain, **found.environment},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ValueError(
                f"{file}: command: {command[0]} cannot be run ({error}); set it to a program that there is"
            ) from error
        try:
            code = process.wait(60 * found.minutes)
        except subprocess.TimeoutExpired as error:
            raise ValueError(
                f"{file}: the command took more than {found.minutes:g} minutes and was ended; set minutes to more"
            ) from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code:
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
            last = "\n".join(lines[-_MOST_LINES:])
            raise ValueError(f"{file}: the command ended with {code}:\n{last}")


def _columns(found: ExternalScore, file: Path, row: Mapping[str, str] | None) -> Row:
    if row is None:
        return {UNSCORED: f"the command of {file} wrote no row for it"}
    values: Row = {}
    for name in found.columns:
        try:
            values[name] = float(row[name]) if row[name] else None
        except ValueError:
            raise ValueError(
                f"{file}: the command wrote {name} = {shorten(row[name])} in row {row[_ROW]}, which is no number"
            ) from None
    return values


register_external(FOLDER)
