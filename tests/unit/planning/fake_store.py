"""A store that holds what a test says it holds, without any model having run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from graftwork.core.fact_cache import FactCache, stat_signature
from graftwork.core.identity import digest
from graftwork.core.png import encode_png
from graftwork.design.cells import Design
from graftwork.design.settings import Hardware, Sharding
from graftwork.planning.cells import CellsScope
from graftwork.planning.keys import Keys
from graftwork.planning.plan import ConditioningPlan, ImagePlan, MergedDesigns, plan_conditioning, plan_images
from graftwork.planning.shards import Manifest
from graftwork.store.layout import Store
from graftwork.store.recipes import add_recipes
from graftwork.store.records import ConditioningReport
from tests.unit.design.designs import expand, experiment

PNG = encode_png(np.zeros((2, 2, 3), dtype=np.uint8))


def some_manifest(**failures: str) -> Manifest:
    """What a job leaves behind in which these items failed."""
    return Manifest((), (), failures, 0.0, {})


class Situation:
    """Designs, settings and a store in a folder."""

    def __init__(self, folder: Path, *raw: dict[str, Any], **hardware: Any):
        raw = raw or (experiment({"hidden_layer": [-2, -4], "alpha": [0.0, 0.5]}),)
        self.folder = folder
        self.designs: list[Design] = [expand(folder, one, f"e{n}") for n, one in enumerate(raw)]
        self.hardware = Hardware.model_validate({**Hardware().model_dump(), **hardware})
        self.sharding = Sharding(min_images_per_shard=1, min_recipes_per_shard=1)
        self.store = Store(folder / "store")
        self.keep_conditioning = False

    @property
    def keys(self) -> Keys:
        return MergedDesigns.of(self.designs).keys(self.hardware)

    @property
    def cells(self) -> dict[str, dict[str, Any]]:
        return dict(MergedDesigns.of(self.designs).cells)

    def recipe(self, cell: dict[str, Any]) -> str:
        return self.keys.recipe(cell).key

    def hash_of(self, cell: dict[str, Any]) -> str:
        """The conditioning that this fake world gives for a cell: that of its recipe."""
        return digest(["bytes of", self.recipe(cell)])

    def image(self, cell: dict[str, Any]) -> str:
        return self.keys.image(cell, self.hash_of(cell)).key

    def plan_conditioning(self) -> ConditioningPlan:
        return plan_conditioning(self.designs, self.hardware, self.sharding, self.store)

    def plan_images(self, failures: dict[str, str] | None = None) -> ImagePlan:
        return plan_images(
            self.designs, self.hardware, self.sharding, self.store, failures or {}, self.keep_conditioning
        )

    def scope(self) -> CellsScope:
        """The scope of these designs; its plan lies under the working directory."""
        designs = {design.experiment: design for design in self.designs}
        settings = SimpleNamespace(hardware=self.hardware)
        project = SimpleNamespace(design=designs.__getitem__, settings=settings)
        return CellsScope("all", list(designs), project, self.store)

    def extract(self) -> None:
        """Pretends that all hidden states were extracted and read back."""
        verified = FactCache(self.store.verified)
        for key, layers in self.plan_conditioning().hidden_states.items():
            path = self.store.hidden_states(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"hidden states")
            verified.put(path, layers, stat_signature(path))
        verified.save()

    def condition(self, tokens: int = 20) -> None:
        """Pretends that every conditioning was built."""
        rows = {}
        for cell in self.cells.values():
            hash_ = self.hash_of(cell)
            rows[self.recipe(cell)] = ConditioningReport(hash_, tokens, source_tokens=0)
            path = self.store.conditioning(hash_)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"tensors")
        add_recipes(self.store.recipes, rows)

    def generate(self) -> None:
        """Pretends that every image was made."""
        for cell in self.cells.values():
            path = self.store.image(self.image(cell))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PNG)

    def drop_conditioning(self) -> None:
        for file in self.store.root.glob("conditioning/*/*"):
            file.unlink()

    def finish(self) -> None:
        self.extract()
        self.condition()
        self.generate()
