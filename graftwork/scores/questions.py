"""What scorers are asked for an experiment: which comparisons its scores need, and what was said of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graftwork.core.code_digest import code_digest
from graftwork.core.records import record_digest
from graftwork.core.tables import Row
from graftwork.models.families import scorer_family
from graftwork.scores.registry import NO_IMAGE, UNSCORED, CellToScore, Question, Score, scores
from graftwork.store.records import Arithmetic
from graftwork.store.values import Comparison, Values

VALUE, TRUNCATED = "value", "truncated"
NOT_MEASURED = "not measured: the job did not end well"


@dataclass(frozen=True)
class ChosenScorer:
    """A scorer of an experiment.

    Attributes:
        name: name in config/models.yaml.
        entry: entry there, whose keys are the family's.
        identity: stands for its content.
    """

    name: str
    entry: Mapping[str, Any]
    identity: str

    @property
    def code(self) -> str:
        """Digest of the code that computes its values."""
        return scorer_code(self.entry["family"])


@dataclass(frozen=True)
class Scoring:
    """What an experiment asks scorers.

    Attributes:
        scores: names of its scores that ask scorers.
        scorers: role -> scorer.
        captions: SHA-256 of a reference -> what it shows, in words.
    """

    scores: tuple[str, ...] = ()
    scorers: Mapping[str, ChosenScorer] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)


def scorer_code(family: str) -> str:
    """Returns the digest of the code that computes values of scorers of a family."""
    return code_digest(*scorer_family(family).code, "graftwork.models.hardware:configure_torch")


def comparisons(
    question: Question,
    cell: CellToScore,
    scoring: Scoring,
    arithmetic: Arithmetic,
    sha256_of: Callable[[Path], str],
) -> list[Comparison]:
    """Returns what a question about a cell with an image needs; nothing where it does not arise."""
    image = cell.baseline if question.of_baseline else cell.image
    if image is None:
        return []
    if question.about == "prompt":
        beside = [{"text": cell.prompt}]
    elif question.about == "reference_caption":
        beside = [{"text": scoring.captions[one]} for one in cell.references if one in scoring.captions]
    elif question.about == "reference":
        beside = [{"other": one} for one in cell.references]
    else:
        beside = [] if cell.baseline is None else [{"other": sha256_of(cell.baseline)}]
    chosen = scoring.scorers[question.role]
    return [
        Comparison(
            **vars(arithmetic),
            scorer=chosen.identity,
            code=chosen.code,
            quantity=question.quantity,
            image=sha256_of(image),
            **one,
        )
        for one in beside
    ]


@dataclass(frozen=True)
class Answers:
    """What scorers said.

    Attributes:
        scoring: what an experiment asks.
        arithmetic: `hardware.scoring`.
        values: key of a comparison -> value.
        failures: key of a comparison -> why it has none.
    """

    scoring: Scoring
    arithmetic: Arithmetic
    values: Mapping[str, Values]
    failures: Mapping[str, str]

    def rows(self, score: Score, cells: Sequence[CellToScore], sha256_of: Callable[[Path], str]) -> list[Row]:
        """Returns the columns of cells: mean of each question over what the image is compared with."""
        return [self._row(score, cell, sha256_of) for cell in cells]

    def _row(self, score: Score, cell: CellToScore, sha256_of: Callable[[Path], str]) -> Row:
        if cell.image is None:
            return {UNSCORED: NO_IMAGE}
        row: Row = {}
        for question in score.questions:
            needed = comparisons(question, cell, self.scoring, self.arithmetic, sha256_of)
            keys = [record_digest(one) for one in needed]
            missing = [key for key in keys if key not in self.values]
            if missing:
                row[UNSCORED] = self.failures.get(missing[0], NOT_MEASURED)
            elif keys:
                said = [self.values[key] for key in keys]
                row[question.column] = round(sum(float(one[VALUE]) for one in said) / len(said), 6)
                if question.truncated:
                    row[question.truncated] = max(int(one.get(TRUNCATED) or 0) for one in said)
        return row


def asking_scores(names: Sequence[str]) -> tuple[str, ...]:
    """Returns those of the named scores that ask scorers."""
    return tuple(name for name in names if scores()[name].questions)
