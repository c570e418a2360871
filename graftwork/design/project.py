"""The whole configuration of a run: settings, models and experiments."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from graftwork.core.errors import DesignError, explain, require_known, suggest
from graftwork.core.fact_cache import FactCache
from graftwork.core.inputs import Reference
from graftwork.core.shipped import own_or_shipped
from graftwork.core.yaml_files import checked_values, read_yaml
from graftwork.design.analyses import ANALYSIS_FOLDER, AnalysisReader
from graftwork.design.cells import Design
from graftwork.design.corpora import Corpora
from graftwork.design.families import analysis_of_family, check_families, experiment_of_family
from graftwork.design.hardware import choose_hardware
from graftwork.design.inputs import find_reference
from graftwork.design.maps import MapsReader
from graftwork.design.needed import ModelNeeds, NeededModels
from graftwork.design.schema import Base
from graftwork.design.settings import Models, Settings
from graftwork.design.sweep import Expander
from graftwork.models.acceleration import find_conflict
from graftwork.models.catalog import Model, ModelCatalog

EXPERIMENT_FOLDER = "config/experiments"
# In place of a list of experiments.
EVERY = "all"
# Folders of results, and what stands for the experiments of config/config.yaml.
TAKEN = ("all", "maps", "models", "plan", "statistics", "store", "studies")
FACTS_FOLDER = "results/store/facts"


class Project:
    """Settings, models and experiments of one working directory, validated when first needed."""

    def __init__(self, config: Mapping[str, Any], root: Path, file: str = "config/config.yaml"):
        """Validates the settings.

        Args:
            config: Content of config/config.yaml, with whatever replaced parts of it.
            root: Working directory.
            file: Path of the configuration, for messages.

        Raises:
            DesignError: where the settings or the models file say something that is not allowed.
        """
        self.root = root
        values = checked_values(dict(config), file)
        if values.get("experiments") == EVERY:
            values = {**values, "experiments": self.experiment_names()}
        self.hardware = choose_hardware(values.get("hardware", {}), root, file)
        try:
            self.settings = Settings.model_validate({**values, "hardware": self.hardware.settings})
        except ValidationError as error:
            raise explain(error, file, Settings) from error
        conflict = find_conflict(self.settings.hardware.generation.model_dump())
        if conflict is not None:
            raise DesignError(f"{file}: {conflict}")
        try:
            # Only to look at the defaults by themselves: a mistake in them is none of an experiment's.
            Base.model_validate({"prompts": ["any"], **self.settings.defaults})
        except ValidationError as error:
            raise explain(error, file, Base, "defaults") from error
        models_file = self.settings.models
        try:
            models = Models.model_validate(read_yaml(own_or_shipped(root, models_file), models_file))
        except ValidationError as error:
            raise explain(error, models_file, Models) from error
        self._families = models.families
        check_families(models, self.settings.family, models_file, file)
        self._entries = models.model_dump()
        self._defaults = {**self._family_defaults(), **self.settings.defaults}
        facts = root / FACTS_FOLDER
        self._references = FactCache(facts / "inputs.json")
        self.models = ModelCatalog(self._entries, models_file, facts)
        corpora = Corpora(root, self._references)
        roles = self._families[self.settings.family].encoders if self.settings.family else {}
        self.maps = MapsReader(root, self.models, corpora, self._defaults, self.settings.family, roles)
        self._expander = Expander(
            root, self.models, self._references, self.settings.limits, self._defaults, self.maps
        )
        self.design = cache(self._design)
        self._analyses = AnalysisReader(
            root,
            self.models,
            corpora,
            lambda raw, file: analysis_of_family(raw, self.settings.family, self._families, file),
        )
        self.analysis = cache(self._analyses.read)
        self._check_names(file)

    def _check_names(self, file: str) -> None:
        """Refuses names of experiments, analyses and maps that occur twice or that no file has."""
        for key in ("experiments", "statistics", "maps"):
            repeated = [name for name, count in Counter(getattr(self.settings, key)).items() if count > 1]
            if repeated:
                raise DesignError(f"{file}: {key}: {repeated[0]!r} occurs more than once; remove it once")
        for name in self.settings.statistics:
            require_known(name, self.analysis_names(), f"file in {ANALYSIS_FOLDER}/", f"{file}: statistics")
        for name in self.settings.maps:
            self.maps.require(name, f"{file}: maps")
        for name in self.settings.experiments:
            self.require_experiment(name, f"{file}: experiments")

    def encoder(self, name: str, where: str) -> Model:
        """Returns an encoder by its name, or by its role in the chosen family.

        Args:
            name: Name or role.
            where: file and key that ask for it, for the message.
        """
        roles = self._families[self.settings.family].encoders if self.settings.family else {}
        return self.models.get("encoder", roles.get(name, name), where)

    def reference(self, name: str, where: str) -> Reference:
        """Returns a reference image by its name or path; `where` is what asks for it, for the message."""
        return find_reference(name, self.root, self._references, where)

    def experiment_names(self) -> list[str]:
        """Returns the names of all experiment files, whether or not the default target builds them."""
        return sorted(file.stem for file in (self.root / EXPERIMENT_FOLDER).glob("*.yaml"))

    def require_experiment(self, name: str, where: str) -> None:
        """Raises DesignError unless there is an experiment of this name.

        Args:
            name: name of the experiment.
            where: file and key, or target, that asks for it.
        """
        names = self.experiment_names()
        if name in names:
            return
        if (self.root / EXPERIMENT_FOLDER / f"{name}.yml").is_file():
            raise DesignError(
                f"{where}: {EXPERIMENT_FOLDER}/{name}.yml is not read, for names of experiment files end in .yaml; rename it "
                f"to {name}.yaml"
            )
        raise DesignError(
            f"{where}: {name!r} is no file in {EXPERIMENT_FOLDER}/; there are: {', '.join(names) or 'none'}"
            f"{suggest(name, names)}"
        )

    def analysis_names(self) -> list[str]:
        """Returns the names of all analysis files, whether or not the default target builds them."""
        return self._analyses.names()

    def _design(self, experiment: str) -> Design:
        file = f"{EXPERIMENT_FOLDER}/{experiment}.yaml"
        if experiment in TAKEN or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", experiment):
            raise DesignError(
                f"{file}: an experiment cannot be called {experiment!r}, for its results are in results/{experiment}; "
                f"allowed: up to 100 letters, digits, _ and -, but not {', '.join(TAKEN)}"
            )
        return self._expander.expand(experiment, self._raw(file), file)

    def _raw(self, file: str) -> Any:
        """Returns the content of an experiment file for the chosen family."""
        return experiment_of_family(
            read_yaml(self.root / file, file), self.settings.family, self._families, file
        )

    def needed_models(self) -> NeededModels:
        """Returns the models that the experiments and analyses of the settings need, whether or not they are here."""
        needs = ModelNeeds(self._entries, self.settings.models)
        for name in self.settings.experiments:
            file = f"{EXPERIMENT_FOLDER}/{name}.yaml"
            needs.add_experiment(self._raw(file), self._defaults, file)
        for name in self.settings.statistics:
            file = f"{ANALYSIS_FOLDER}/{name}.yaml"
            needs.add_analysis(read_yaml(self.root / file, file), file)
        return needs.collected()

    def _family_defaults(self) -> dict[str, Any]:
        return self._families[self.settings.family].defaults if self.settings.family else {}

    @property
    def roles(self) -> dict[str, str]:
        """Role -> encoder in the chosen family of models; empty without one."""
        return dict(self._families[self.settings.family].encoders) if self.settings.family else {}

    def model_identities(self) -> list[list[str]]:
        """Returns kind, name and identity of every model that is on this machine; of others why not."""
        found = []
        for kind in ("encoder", "generator"):
            for name in self.models.names(kind):
                try:
                    identity = self.models.get(kind, name, self.settings.models).identity
                except DesignError as error:
                    identity = f"not here: {error}"
                found.append([kind, name, identity])
        return found

    def save_facts(self) -> None:
        """Keeps hashes and decoded facts for the next start."""
        self._references.save()
        self.models.save()

    def identity_settings(self) -> dict[str, Any]:
        """Returns the settings that decide what experiments expand to, as `Project` takes them."""
        settings = self.settings.model_dump()
        return {key: settings[key] for key in ("experiments", "models", "family", "limits", "defaults")}
