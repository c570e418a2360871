"""Keys of what the store holds: hidden states, conditioning recipes and images.

A key hashes everything that decides the bytes of an artefact and nothing else. `Keys` is the one place that says
what those things are; tests/unit/planning/test_keys.py takes each ingredient away in turn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from workflow_scripts.lib.conditioning.dimension_fixes import host_class
from workflow_scripts.lib.conditioning.registry import STAGES, transform
from workflow_scripts.lib.design.code_digest import code_digest
from workflow_scripts.lib.design.identity import NEUTRAL, digest
from workflow_scripts.lib.models.acceleration import changed_settings, is_accelerated
from workflow_scripts.lib.models.description import padded_length, resolve_layer
from workflow_scripts.lib.planning.corpus_keys import NeededStatistics, corpus_inputs, name_statistics

_MODELS = "workflow_scripts.lib.models."
# What every model depends on: how torch is set up, and in which type weights are loaded.
_LOADING_CODE = tuple(
    f"{_MODELS}hardware:{name}"
    for name in ("configure_torch", "DEFAULT_CPU_THREADS", "parse_dtype", "DTYPES")
)
_ENCODING_CODE = (
    *_LOADING_CODE,
    f"{_MODELS}qwen3:tokenize",
    f"{_MODELS}qwen3:load_tokenizer",
    f"{_MODELS}description:read_chat_template",
    f"{_MODELS}weights",
    f"{_MODELS}tokens",
    f"{_MODELS}prompts",
)
# Parameters of a cell that an encoder takes as they are; where they have no part or say what the checkpoint says, they
# are left out, so that one extraction serves all.
_SOURCE_OPTIONS = ("prompt_format", "system_prompt", "think_block", "rope_theta", "positions")
_TEXT_OPTIONS = ("prompt_format", "system_prompt", "think_block")
# What an encoder's output depends on in our code. Never I/O, progress or logging. That nothing else is missing from
# these lists is what tests/unit/planning/test_code_lists.py holds them against.
EXTRACTION_CODE = {
    "qwen3": (*_ENCODING_CODE, f"{_MODELS}qwen3:Qwen3Encoder", f"{_MODELS}qwen3:TruncatedQwen3Model"),
    "qwen3_vl": (
        *_ENCODING_CODE,
        f"{_MODELS}qwen3_vl:Qwen3VLEncoder",
        f"{_MODELS}qwen3_vl:TruncatedQwen3VLModel",
        f"{_MODELS}images",
    ),
}
_BUILD = "workflow_scripts.lib.conditioning.build:"
# The transforms are not among these: a recipe has the digests of those it chose.
CONDITIONING_CODE = (
    *_LOADING_CODE,
    *(
        _BUILD + name
        for name in (
            "HARDWARE",
            "_DTYPES",
            "Conditioning",
            "no_statistics",
            "build_conditioning",
            "Grafting",
            "selected_tokens",
            "select_tokens",
            "as_float32",
            "share_of_source_used",
            "share_of_tokens_used",
            "share_of_weights",
            "conditioning_hash",
        )
    ),
    "workflow_scripts.lib.conditioning.reference:prompt_statistics",
)
SAMPLING_CODE = {
    "z_image": (
        *_LOADING_CODE,
        *(
            f"{_MODELS}z_image:{name}"
            for name in (
                "ZImageGenerator",
                "sample_images",
                "initial_latents",
                "padding_row",
                "_round_to_uint8",
            )
        ),
        f"{_MODELS}description:padded_length",
        f"{_MODELS}description:CAPTION_MULTIPLE",
        "workflow_scripts.lib.jobs.generation:_sample",
    ),
}
# What counts besides where the generator is accelerated, which it always is on a GPU.
FAST_SAMPLING_CODE = {
    "z_image": (
        f"{_MODELS}z_image_fast",
        f"{_MODELS}z_image_blocks",
        f"{_MODELS}acceleration:resolve_acceleration",
        "workflow_scripts.lib.jobs.generation:_launch",
    ),
}


def sampling_code(family: str, generation: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the code that decides the bytes of an image.

    Args:
        family: Of the generator.
        generation: `hardware.generation` of config.yaml.
    """
    return SAMPLING_CODE[family] + (FAST_SAMPLING_CODE[family] if is_accelerated(generation) else ())


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

    def source_states(self, cell: Mapping[str, Any]) -> Needed | None:
        """Returns the input of the encoder whose states are blended in; None where alpha 0 needs none."""
        if cell["alpha"] == 0.0:
            return None
        encoder, reference = cell["encoder"], cell["reference"]
        if _option(cell, "source") == "vision_tower":
            # No text and no layer takes part: one extraction for every prompt, which holds one entry.
            return self._needed(encoder, None, reference, 0, {"source": "vision_tower"})
        shown = _option(cell, "source_text")
        prompt = {"prompt": cell["prompt"], "none": ""}[shown] if isinstance(shown, str) else shown["text"]
        options = self._fitting({name: _option(cell, name) for name in _SOURCE_OPTIONS}, encoder, reference)
        return self._needed(encoder, prompt, reference, cell["hidden_layer"], options)

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
        if "statistics" in chosen.defaults and isinstance(wanted, Mapping) and "corpus" in wanted:
            covariance = stage == "normalization" and chosen.name == "whiten"
            found = self.statistics(
                wanted["corpus"],
                wanted["encoder"],
                wanted["hidden_layer"],
                wanted.get("options", {}),
                wanted["tokens"] if covariance else None,
            )
            return {"statistics": found}
        if "fix_corpus" not in chosen.defaults:
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
        parameters = transform(stage, cell[stage]).keyword_arguments(dict(cell))
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
                "code": code_digest(EXTRACTION_CODE[facts["family"]]),
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
            "code": self._conditioning_code,
        }
        source = self.source_states(cell)
        if source is not None:
            recipe["sources"] = [[source.key, source.layer]]
            recipe["alpha"] = cell["alpha"]
            for stage in STAGES:
                chosen = transform(stage, cell[stage])
                recipe[stage] = {
                    "name": chosen.name,
                    "parameters": self._parameters(cell, stage),
                    "code": chosen.digest,
                }
        return recipe

    @cached_property
    def _conditioning_code(self) -> str:
        return code_digest(CONDITIONING_CODE)

    def image(self, cell: Mapping[str, Any], conditioning: str) -> dict[str, Any]:
        """Returns what makes an image; `digest` of it is the image's key.

        The generator's identity covers weights, VAE and scheduler settings.

        Args:
            cell: Parameters of the cell.
            conditioning: Hash of the conditioning tensors as the generator gets them.
        """
        family = self._models[cell["generator"]]["facts"]["family"]
        return {
            "conditioning": conditioning,
            "generator": cell["generator"],
            "seed": cell["seed"],
            "height": cell["height"],
            "width": cell["width"],
            "num_inference_steps": cell["num_inference_steps"],
            "guidance_scale": cell["guidance_scale"],
            **_arithmetic(self._generation),
            "batch_shape": self._generation["batch_shape"],
            # These two were in the key before there was a choice; later ones are in it where they change something.
            **{name: self._generation[name] for name in ("attention_backend", "compile")},
            **changed_settings(self._generation),
            "code": code_digest(sampling_code(family, self._generation)),
        }


def batch_group(image: Mapping[str, Any], tokens: int) -> tuple[Any, ...]:
    """Returns what images must share to be in one batch: everything but seed and conditioning, and its padded length.

    Args:
        image: As `Keys.image` returns it.
        tokens: Length of the conditioning.
    """
    shared = sorted((key, value) for key, value in image.items() if key not in ("seed", "conditioning"))
    return (padded_length(tokens), *shared)


def _option(cell: Mapping[str, Any], name: str) -> Any:
    return cell.get(name, NEUTRAL[name])


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
