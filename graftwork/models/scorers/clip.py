"""CLIP and models with its class, such as PickScore: `CLIPModel` in transformers, cosines with texts and with images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from graftwork.models.config_files import ConfigFile
from graftwork.models.families import ScorerFacts, ScorerFamily
from graftwork.models.scorer import IMAGE_COSINE, TEXT_COSINE, TEXT_LOGIT, EmbeddingScorer

if TYPE_CHECKING:
    import torch
    from PIL import Image

DEFAULT_LENGTH = 77


class ClipScorer(EmbeddingScorer):
    """Runs `CLIPModel`. Texts end after 77 tokens, the mark of their end included."""

    def __init__(self, model: Any, tokenizer: Any, processor: Any) -> None:
        super().__init__()
        self.model, self.tokenizer, self.processor = model, tokenizer, processor
        self._length = model.config.text_config.max_position_embeddings

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> Self:
        """Loads model, tokenizer and the image processor that needs no torchvision; see `Scorer`."""
        from transformers import AutoTokenizer, CLIPConfig, CLIPModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        from graftwork.models.hardware import parse_dtype
        from graftwork.models.transformers_encoder import load_weights

        config = CLIPConfig.from_pretrained(folder, local_files_only=True)
        model = load_weights(CLIPModel, folder, config, parse_dtype(hardware["dtype"]))
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        return cls(model.to(hardware["device"]), tokenizer, processor)

    def embed_image(self, image: "Image.Image") -> "torch.Tensor":
        """Returns the projected output of the vision tower, (width,)."""
        pixels = self.processor(images=[image], return_tensors="pt")["pixel_values"]
        return self.model.get_image_features(
            pixel_values=pixels.to(self.model.device, self.model.dtype)
        ).pooler_output[0]

    def embed_text(self, text: str) -> "tuple[torch.Tensor, bool]":
        """Returns the projected output of the text tower, (width,), and whether the text was cut."""
        whole = self.tokenizer(text)["input_ids"]
        cut = self.tokenizer([text], truncation=True, max_length=self._length, return_tensors="pt")
        features = self.model.get_text_features(
            **{name: values.to(self.model.device) for name, values in cut.items()}
        ).pooler_output[0]
        return features, len(whole) > self._length

    def scale(self) -> float:
        """Returns the exponential of the trained logit scale."""
        return float(self.model.logit_scale.float().exp())


def read_facts(folder: Path) -> ScorerFacts:
    """Reads the facts of a checkpoint; refuses a processor of another image size."""
    config = ConfigFile(folder / "config.json")
    check_crop(folder, config.section("vision_config").whole("image_size", 224))
    length = config.section("text_config").whole("max_position_embeddings", DEFAULT_LENGTH)
    return ScorerFacts("clip", config.whole("projection_dim", 512), length)


def check_crop(folder: Path, side: int) -> None:
    """Refuses an image processor that does not cut images to the size in pixels that the model takes."""
    processor = ConfigFile(folder / "preprocessor_config.json")
    crop = processor.values.get("crop_size")
    found = crop.get("height") if isinstance(crop, dict) else crop
    if found != side:
        raise processor.wrong("crop_size", f"{side}, as image_size of config.json has it,")


def weight_shapes(folder: Path) -> Sequence[Mapping[str, tuple[int, ...]]]:
    """Returns weights of both towers that config.json asks for."""
    config = ConfigFile(folder / "config.json")
    text, vision = config.section("text_config"), config.section("vision_config")
    out = config.whole("projection_dim", 512)
    return [
        {
            "visual_projection.weight": (out, vision.whole("hidden_size", 768)),
            "text_projection.weight": (out, text.whole("hidden_size", 512)),
        }
    ]


FAMILY = ScorerFamily(
    name="clip",
    scorer="graftwork.models.scorers.clip:ClipScorer",
    model_type="clip",
    quantities=(TEXT_COSINE, IMAGE_COSINE, TEXT_LOGIT),
    files=(
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
        "preprocessor_config.json",
    ),
    required=("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"),
    read_facts=read_facts,
    weight_shapes=weight_shapes,
)
