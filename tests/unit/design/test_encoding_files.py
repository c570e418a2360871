"""What is refused by looking into the files of real encoders, without loading one."""

import shutil
from pathlib import Path

import pytest

from graftwork.core.errors import DesignError
from graftwork.core.fact_cache import FactCache
from graftwork.design.settings import Limits
from graftwork.design.sweep import Expander
from graftwork.models.catalog import ModelCatalog
from tests.small_family import build_small_family, small_entries
from tests.unit.design.designs import draw_references, experiment


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    build_small_family(folder, axes_lens=(98, 64, 64))
    build_small_family(folder.with_name("wide"), hidden_size=128, num_hidden_layers=2)
    return folder


@pytest.fixture
def cells(family, tmp_path):
    def expand(base, entries=None, axes=None):
        models = small_entries(family)
        models["encoders"] |= entries or {}
        catalog = ModelCatalog(models, "config/models.yaml", tmp_path / "facts")
        draw_references(tmp_path)
        raw = experiment(axes, {"generator": "z-image", "encoder": "qwen3-vl-instruct", **base})
        facts = FactCache(tmp_path / "references.json")
        design = Expander(tmp_path, catalog, facts, Limits(), {}).expand("test", raw, "test.yaml")
        return design

    return expand


TEXT = {"references": [], "encoder": "mine"}


def test_every_encoder_of_the_family_fits(cells):
    text = ["qwen3", "qwen3-embedding", "qwen3-vl-instruct", "qwen3-vl-thinking"]
    design = cells({"references": []}, axes={"encoder": text})
    formats = [cell.shown["prompt_format"] for cell in design.cells if cell.role == "cell"]
    assert formats == ["chat", "raw", "chat", "chat"] * 2
    assert design.notes == []


def test_a_text_encoder_of_another_width_is_refused(cells, family):
    wide = small_entries(family.with_name("wide"))["encoders"]["qwen3-embedding"]
    with pytest.raises(
        DesignError, match="'mine' has hidden states of width 128, but generator 'z-image' takes 64"
    ):
        cells(TEXT, {"mine": wide})


def test_a_family_that_is_not_that_of_the_files_is_refused(cells, family):
    entry = {"family": "qwen3", "path": str(family / "qwen3-vl-instruct")}
    with pytest.raises(DesignError, match="model_type 'qwen3_vl'"):
        cells(TEXT, {"mine": entry})


@pytest.fixture
def copied(family, tmp_path):
    """An encoder whose template is another, and its entry."""

    def copy(template):
        entry = small_entries(family)["encoders"]["qwen3-embedding"]
        folder = Path(shutil.copytree(entry["path"], tmp_path / "mine"))
        file = folder / "chat_template.jinja"
        file.unlink() if template is None else file.write_text(template)
        return {"family": "qwen3", "path": str(folder)}

    return copy


def test_an_encoder_without_a_template_needs_another_format(cells, copied):
    entry = copied(None)
    with pytest.raises(
        DesignError, match="'mine' does not have; set prompt_format: raw, or natural_format: raw"
    ):
        cells(TEXT, {"mine": entry})
    assert cells(TEXT, {"mine": {**entry, "natural_format": "raw"}}).cells
    assert cells({**TEXT, "prompt_format": "raw"}, {"mine": entry}).cells


def test_a_template_that_knows_no_system_prompt_is_refused(cells, copied):
    deaf = "<|im_start|>user\n{{ messages[-1].content }}<|im_end|>\n"
    entries = {"mine": copied(deaf)}
    assert cells(TEXT, entries).cells
    with pytest.raises(DesignError, match=r"encoder 'mine': .* shows the system prompt 0 times"):
        cells({**TEXT, "system_prompt": "Be kind."}, entries)
    with pytest.raises(DesignError, match=r"encoder 'mine': .* shows the system prompt 0 times"):
        cells(TEXT, entries, {"system_prompt": [None, "Be kind."]})


def test_what_stands_before_the_text_counts_for_its_length(cells):
    long = "a small house by the sea. " * 20
    assert cells({"system_prompt": long}).cells
    for base in ({"text_system_prompt": long}, {"text_think_block": {"text": long}}):
        with pytest.raises(DesignError, match=r"prompt 'apple' has \d+ tokens .* at most 96"):
            cells(base)
    with pytest.raises(DesignError, match=r"prompt 'apple' has \d+ tokens"):
        cells({}, axes={"text_prompt_format": ["chat", {"instruct": long}]})
