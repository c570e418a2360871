"""Corpora: fixed sets of encoder inputs that statistics are measured on, apart from experiments."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import Field, ValidationError

from graftwork.core.errors import DesignError, explain, require_known
from graftwork.core.fact_cache import FactCache
from graftwork.core.identity import digest
from graftwork.core.inputs import Prompt, Reference
from graftwork.core.parameters import Strict
from graftwork.core.yaml_files import read_yaml
from graftwork.design.cells import CorpusRecord
from graftwork.design.inputs import find_reference, read_prompts
from graftwork.design.schema import NamedPrompt
from graftwork.models.catalog import Model, image_problem

CORPUS_FOLDER = "config/corpora"


class Corpus(Strict):
    """A file in config/corpora/: what statistics are measured on."""

    prompts: str | list[str | NamedPrompt] = Field(
        description="Name of a file in config/prompts/, or a list of prompts, each a text or {name, text}."
    )
    references: list[str] = Field(
        default_factory=list,
        description="Reference images, as in experiments. Encoders that take images are shown every prompt with every "
        "reference; the others every prompt once.",
    )
    allow_control_tokens: bool = Field(
        False, description="Allow prompts that contain control tokens such as <|im_end|>."
    )


@dataclass(frozen=True)
class CorpusInputs:
    """A corpus, read.

    Attributes:
        name: Name of its file.
        prompts: Prompts, in the order of the file.
        references: References, in the order of the file.
        allow_control_tokens: Whether prompts may contain control tokens.
    """

    name: str
    prompts: list[Prompt]
    references: list[Reference]
    allow_control_tokens: bool = False

    @property
    def file(self) -> str:
        """Its path, for messages."""
        return f"{CORPUS_FOLDER}/{self.name}.yaml"

    @cached_property
    def record(self) -> CorpusRecord:
        """Record in a design, under its digest."""
        return CorpusRecord(
            self.name,
            tuple(prompt.text for prompt in self.prompts),
            tuple(reference.sha256 for reference in self.references),
        )

    @cached_property
    def digest(self) -> str:
        """Its identity; names are no part of it."""
        return digest({"prompts": self.record.prompts, "references": self.record.references})


class Corpora:
    """The corpora of a working directory, each read once."""

    def __init__(self, root: Path, references: FactCache):
        self._root = root
        self._references = references
        self._read: dict[str, CorpusInputs] = {}

    def get(self, name: str, where: str) -> CorpusInputs:
        """Returns a corpus.

        Args:
            name: Name of its file.
            where: File and key that asked for it, for the message.

        Raises:
            DesignError: for a corpus that does not exist or cannot be read.
        """
        known = sorted(file.stem for file in (self._root / CORPUS_FOLDER).glob("*.yaml"))
        require_known(name, known, "corpus", where)
        if name not in self._read:
            self._read[name] = self._load(name)
        return self._read[name]

    def _load(self, name: str) -> CorpusInputs:
        file = f"{CORPUS_FOLDER}/{name}.yaml"
        raw = read_yaml(self._root / file, file)
        if not isinstance(raw, dict):
            raise DesignError(f"{file} must be a mapping with the key `prompts`; it is {type(raw).__name__}")
        try:
            corpus = Corpus.model_validate(raw)
        except ValidationError as error:
            raise explain(error, file, Corpus) from error
        prompts = read_prompts(corpus.prompts, self._root, f"{file}: prompts")
        references = [
            find_reference(item, self._root, self._references, f"{file}: references")
            for item in corpus.references
        ]
        seen: dict[str, str] = {}
        for reference in references:
            if reference.sha256 in seen:
                raise DesignError(
                    f"{file}: references: {reference.name!r} and {seen[reference.sha256]!r} are the same image; remove one"
                )
            seen[reference.sha256] = reference.name
        return CorpusInputs(name, prompts, references, corpus.allow_control_tokens)


def check_corpus_for(corpus: CorpusInputs, model: Model) -> None:
    """Refuses a corpus with texts that an encoder reads as structure, or images that it cannot take.

    Raises:
        DesignError: naming prompt and token, or image and limit.
    """
    for reference in corpus.references if model.facts.accepts_images else ():
        problem = image_problem(model, reference.width, reference.height)
        if problem is not None:
            raise DesignError(
                f"{corpus.file}: references: {reference.name!r} ({reference.width} x {reference.height} pixels) cannot be "
                f"shown to encoder {model.name!r}: {problem}, or remove it"
            )
    if corpus.allow_control_tokens:
        return
    for prompt in corpus.prompts:
        found = [token for token in model.facts.special_tokens if token in prompt.text]
        if found:
            raise DesignError(
                f"{corpus.file}: prompts: prompt {prompt.name!r} contains the control token {found[0]!r}, which encoder "
                f"{model.name!r} reads as structure; remove it, or set allow_control_tokens: true in {corpus.file}"
            )


def check_class(corpus: CorpusInputs, model: Model, tokens: str, where: str) -> None:
    """Refuses token classes that an encoder cannot have over a corpus.

    Raises:
        DesignError: naming the class and why there is none of it.
    """
    if tokens != "image":
        return
    if not model.facts.accepts_images:
        raise DesignError(
            f"{where} {tokens!r}: encoder {model.name!r} is a text encoder and has no such tokens; allowed: all, non_sink, "
            "prompt, template"
        )
    if not corpus.references:
        raise DesignError(
            f"{where} {tokens!r}: corpus {corpus.name!r} has no references; add some to {corpus.file}, or choose all, "
            "non_sink, prompt or template"
        )
