"""Keys of what the store holds: hidden states, conditioning recipes and images.

A key hashes everything that decides the bytes of an artefact and nothing else. `Keys` is the one place that says
what those things are; tests/unit/planning/test_keys.py takes each ingredient away in turn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graftwork.core.identity import digest
from graftwork.design.parameters import NEUTRAL
from graftwork.design.sampling import starting_step
from graftwork.models.acceleration import changed_settings
from graftwork.models.description import padded_length, resolve_layer
from graftwork.planning.code import conditioning_code, extraction_code, sampling_code
from graftwork.planning.corpus_keys import NeededStatistics, corpus_inputs, name_statistics
from graftwork.transforms.context import COVARIANCE, FIT_STATISTICS, NEUTRAL_SOURCE
from graftwork.transforms.dimension_fixes import host_class
from graftwork.transforms.registry import STAGES, transform
from graftwork.transforms.schedules import AlphaSchedule, alphas_of_steps, scheduled_alphas

# Of the sampling; without guidance a cell has them at their neutral value.
_GUIDANCE_OPTIONS = ("cfg_normalization", "cfg_truncation")
# Parameters of a cell that an encoder takes as they are; where they have no part or say what the checkpoint says, they
# are left out, so that one extraction serves all.
_SOURCE_OPTIONS = ("prompt_format", "system_prompt", "think_block", "rope_theta", "positions")
_TEXT_OPTIONS = ("prompt_format", "system_prompt", "think_block")


@dataclass(frozen=True)
class Needed:
    """One encoder input whose hidden states a cell needs."""

    key: str
    layer: int
    origin: dict[str, Any]


class Keys:
    """Computes keys for the cells of one design under given hardware settings."""

    def __init__(
        self,
        models: Mapping[str, Mapping[str, Any]],
        hardware: Mapping[str, Any],
        corpora: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        """Takes what cells name.

        Args:
            models: Identity -> {kind, name, entry, facts}.
            hardware: The section of config.yaml.
            corpora: Digest -> {name, prompts, references}.
        """
        self._models = models
        self._corpora = corpora or {}
        self._extraction = hardware["extraction"]
        self._generation = hardware["generation"]
        self._origins: dict[str, dict[str, Any]] = {}
        self._input_keys: dict[str, str] = {}
        self._statistics: dict[str, NeededStatistics] = {}

    def text_states(self, cell: Mapping[str, Any]) -> Needed:
        """Returns the input of the generator's own text encoder."""
        options = {name: _option(cell, f"text_{name}") for name in _TEXT_OPTIONS}
        return self._needed(
            cell["text_encoder"], cell["prompt"], None, cell["text_hidden_layer"], _not_neutral(options)
        )

    def negative_states(self, cell: Mapping[str, Any]) -> Needed | None:
        """Returns the input of the generator's own text encoder for the negative prompt; None without guidance."""
        if cell["guidance_scale"] == 0.0:
            return None
        return self.text_states({**cell, "prompt": cell["negative_prompt"]})

    def source_states(self, cell: Mapping[str, Any]) -> list[Needed]:
        """Returns the inputs of the encoder whose states are blended in: for each reference, each layer.

        There is one, but for a set of references or a list of layers, and none where alpha is 0.
        """
        if not any(self._alphas(cell)):
            return []
        return self._states_beside(cell, _listed(cell["reference"]))

    def neutral_states(self, cell: Mapping[str, Any]) -> list[Needed]:
        """Returns the inputs that those of `source_states` are compared with; none where the blend compares nothing."""
        if not any(self._alphas(cell)) or NEUTRAL_SOURCE not in transform("blend", cell["blend"]).needs:
            return []
        return self._states_beside(cell, _listed(cell["neutral_reference"]))

    def all_states(self, cell: Mapping[str, Any]) -> list[Needed]:
        """Returns every input whose hidden states a cell needs."""
        negative = self.negative_states(cell)
        return [
            self.text_states(cell),
            *([negative] if negative else []),
            *self.source_states(cell),
            *self.neutral_states(cell),
        ]

    def _states_beside(self, cell: Mapping[str, Any], references: list[str | None]) -> list[Needed]:
        return [
            self._source(cell, reference, layer)
            for reference in references
            for layer in _listed(cell["hidden_layer"])
        ]

    def _source(self, cell: Mapping[str, Any], reference: str | None, layer: int) -> Needed:
        encoder = cell["encoder"]
        if _option(cell, "source") == "vision_tower":
            # No text and no layer takes part: one extraction for every prompt, which holds one entry.
            return self._needed(encoder, None, reference, 0, {"source": "vision_tower"})
        shown = _option(cell, "source_text")
        prompt = {"prompt": cell["prompt"], "none": ""}[shown] if isinstance(shown, str) else shown["text"]
        options = self._fitting({name: _option(cell, name) for name in _SOURCE_OPTIONS}, encoder, reference)
        return self._needed(encoder, prompt, reference, layer, options)

    def _fitting(self, options: Mapping[str, Any], encoder: str, reference: str | None) -> dict[str, Any]:
        """Returns those options that change what an encoder does with an input."""
        options = dict(options)
        if options.get("rope_theta") == self._models[encoder]["facts"].get("rope_theta"):
            options.pop("rope_theta", None)
        if reference is None:
            options.pop("positions", None)  # M-RoPE places text alone at 0, 1, 2 and so on.
        return _not_neutral(options)

    def statistics(
        self,
        corpus: str,
        encoder: str,
        layer: int,
        options: Mapping[str, Any],
        covariance_of: str | None = None,
    ) -> NeededStatistics:
        """Returns the statistics of a layer of an encoder over a corpus.

        Args:
            corpus: Its digest.
            encoder: Its identity.
            layer: As people say it.
            options: What the encoder is shown besides, and how; those that are missing are neutral.
            covariance_of: The token class whose covariance is wanted, if any.
        """
        at = repr((corpus, encoder, layer, sorted(options.items()), covariance_of))
        if at not in self._statistics:
            inputs = corpus_inputs(
                self._corpora[corpus], self._models[encoder]["facts"].get("accepts_images", False)
            )
            needs = [
                self._needed(encoder, prompt, reference, layer, self._fitting(options, encoder, reference))
                for prompt, reference in inputs
            ]
            about = {"corpus": corpus, "encoder": encoder, "options": _not_neutral(options)}
            self._statistics[at] = name_statistics(needs, covariance_of, about)
        return self._statistics[at]

    def stage_statistics(self, cell: Mapping[str, Any], stage: str) -> dict[str, NeededStatistics]:
        """Returns the statistics over a corpus that the transform chosen for a stage takes: part it has -> statistics.

        The part is `statistics`, or `donor` and `host` of a dimension fix. A file of statistics is none of these.
        """
        chosen = transform(stage, cell[stage])
        wanted = cell.get("statistics")
        if chosen.needs_statistics and isinstance(wanted, Mapping) and "corpus" in wanted:
            found = self.statistics(
                wanted["corpus"],
                wanted["encoder"],
                wanted["hidden_layer"],
                wanted.get("options", {}),
                wanted["tokens"] if COVARIANCE in chosen.needs else None,
            )
            return {"statistics": found}
        if FIT_STATISTICS not in chosen.needs:
            return {}
        corpus = cell["fix_corpus"]
        source = {name: _option(cell, name) for name in _SOURCE_OPTIONS}
        text = {name: _option(cell, f"text_{name}") for name in _TEXT_OPTIONS}
        return {
            "donor": self.statistics(corpus, cell["encoder"], cell["hidden_layer"], source),
            "host": self.statistics(corpus, cell["text_encoder"], cell["text_hidden_layer"], text),
        }

    def _parameters(self, cell: Mapping[str, Any], stage: str) -> dict[str, Any]:
        """Returns the parameters of a stage's transform, with what statistics are made from in place of their names."""
        parameters = transform(stage, cell[stage]).values_of(cell)
        found = self.stage_statistics(cell, stage)
        if "statistics" in found:
            tokens = cell["statistics"]["tokens"]
            parameters["statistics"] = {"key": found["statistics"].key, "tokens": tokens}
        elif found:
            tokens = cell["fix_tokens"]
            parameters["fix_corpus"] = {
                "donor": {"key": found["donor"].key, "tokens": tokens},
                "host": {"key": found["host"].key, "tokens": host_class(tokens)},
            }
        return parameters

    def _needed(
        self, encoder: str, prompt: str | None, reference: str | None, layer: int, options: dict[str, Any]
    ) -> Needed:
        facts = self._models[encoder]["facts"]
        at = repr((encoder, prompt, reference, options))
        if at not in self._input_keys:
            # Nothing about the layer: that is the name of a dataset in the file.
            self._origins[at] = {
                "encoder": encoder,
                "prompt": prompt,
                "reference": reference,
                **options,
                **_arithmetic(self._extraction),
                "code": extraction_code(facts["family"]),
            }
            self._input_keys[at] = digest(self._origins[at])
        return Needed(
            self._input_keys[at], resolve_layer(layer, facts["num_hidden_layers"]), self._origins[at]
        )

    def recipe(self, cell: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what makes a cell's conditioning; `digest` of it is the recipe's key.

        Only what takes part is in it: alpha 0 is the text alone, and a transform's parameters count where the
        transform is chosen.
        """
        text = self.text_states(cell)
        recipe: dict[str, Any] = {
            "text": [text.key, text.layer],
            "dtype": self._generation["dtype"],
            # Changes no byte of the conditioning, but what its row in the table says about it.
            "caption_norm": cell["generator"],
            "code": self._conditioning_code,
        }
        negative = self.negative_states(cell)
        if negative is not None:
            recipe["negative"] = negative.key  # Of the same layer as the text.
        sources, neutral = self.source_states(cell), self.neutral_states(cell)
        if sources:
            recipe["sources"] = [[source.key, source.layer] for source in sources]
            if neutral:
                recipe["neutral_sources"] = [[source.key, source.layer] for source in neutral]
            alphas = self._alphas(cell)
            recipe["alpha"] = alphas[0] if len(set(alphas)) == 1 else alphas
            if _follows_sigma(cell):
                recipe |= {"alpha": cell["alpha"], "alpha_over_sigma": self._alpha_over_sigma(cell)}
            for stage in STAGES:
                chosen = transform(stage, cell[stage])
                recipe[stage] = {
                    "name": chosen.name,
                    "parameters": self._parameters(cell, stage),
                    "code": chosen.digest,
                }
        return recipe

    def _alphas(self, cell: Mapping[str, Any]) -> list[float]:
        """Returns the alpha of each step that is run; where it follows sigma, which is not known yet, that of the cell."""
        schedule = _option(cell, "alpha_schedule")
        if schedule is None or cell["alpha"] == 0.0 or _follows_sigma(cell):
            return [cell["alpha"]]
        steps = cell["num_inference_steps"] - starting_step(cell)
        followed = AlphaSchedule.model_validate({**schedule, "over": "step"})
        return scheduled_alphas(cell["alpha"], alphas_of_steps(followed, steps))

    def _alpha_over_sigma(self, cell: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what decides the alphas of a schedule that follows sigma."""
        facts = self._models[cell["generator"]]["facts"]
        pixels, token = cell["height"] * cell["width"], facts["size_multiple"] ** 2
        scheduler = facts["scheduler_config"]
        return {
            "schedule": {name: value for name, value in cell["alpha_schedule"].items() if name != "over"},
            "num_inference_steps": cell["num_inference_steps"],
            "first_step": starting_step(cell),
            "scheduler": dict(scheduler),
            # The size of the image counts for a dynamic shift alone.
            "image_tokens": pixels // token if scheduler.get("use_dynamic_shifting") else 0,
        }

    @cached_property
    def _conditioning_code(self) -> str:
        return conditioning_code()

    def image(self, cell: Mapping[str, Any], conditioning: str) -> dict[str, Any]:
        """Returns what makes an image; `digest` of it is the image's key.

        The generator's identity covers weights, VAE and scheduler settings.

        Args:
            cell: Parameters of the cell.
            conditioning: Hash of the conditioning tensors as the generator gets them.
        """
        family = self._models[cell["generator"]]["facts"]["family"]
        beginning = _beginning(cell)
        return {
            "conditioning": conditioning,
            "generator": cell["generator"],
            "seed": cell["seed"],
            "height": cell["height"],
            "width": cell["width"],
            "num_inference_steps": cell["num_inference_steps"],
            "guidance_scale": cell["guidance_scale"],
            **_not_neutral({name: _option(cell, name) for name in _GUIDANCE_OPTIONS}),
            **beginning,
            **_arithmetic(self._generation),
            "batch_shape": self._generation["batch_shape"],
            # These two were in the key before there was a choice; later ones are in it where they change something.
            **{name: self._generation[name] for name in ("attention_backend", "compile")},
            **changed_settings(self._generation),
            "code": sampling_code(family, self._generation),
        }


def batch_group(image: Mapping[str, Any], tokens: int, negative_tokens: int | None = None) -> tuple[Any, ...]:
    """Returns what images must share to be in one batch: everything but what each row has of its own, and padded lengths.

    Args:
        image: As `Keys.image` returns it.
        tokens: Length of the conditioning.
        negative_tokens: Likewise of the negative one, where there is guidance.
    """
    own = ("seed", "conditioning", "init_image")
    shared = sorted((key, value) for key, value in image.items() if key not in own)
    return (padded_length(tokens), padded_length(negative_tokens or 0), *shared)


def sampling_work(image: Mapping[str, Any]) -> int:
    """Returns pixels x steps that are run, twice where there is guidance: what the time of an image goes with.

    Args:
        image: As `Keys.image` returns it.
    """
    steps = image["num_inference_steps"] - image.get("first_step", 0)
    return image["height"] * image["width"] * steps * (2 if image["guidance_scale"] else 1)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _option(cell: Mapping[str, Any], name: str) -> Any:
    return cell.get(name, NEUTRAL[name])


def _follows_sigma(cell: Mapping[str, Any]) -> bool:
    schedule = _option(cell, "alpha_schedule")
    return schedule is not None and schedule["over"] == "sigma" and schedule["kind"] != "constant"


def _beginning(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what an image starts from; nothing where that is noise alone, whatever the cell says.

    Of the strength only the step counts that it leads to, so that strengths that run the same steps share an image.
    """
    first = starting_step(cell)
    return {"init_image": cell["init_image"], "first_step": first} if first else {}


def _not_neutral(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what an encoder does not do by itself: inputs that existed before an option keep their keys."""
    return {name: value for name, value in options.items() if value != NEUTRAL[name]}


def _arithmetic(hardware: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the hardware settings that change low bits of a result.

    `offload` is not among them: parts of a model wait in main memory, but run on the same device, with the same
    kernels. `gpus` only says how work is cut.
    """
    threads = hardware["cpu_threads"] if hardware["device"] == "cpu" else None
    return {"dtype": hardware["dtype"], "device": hardware["device"], "cpu_threads": threads}
