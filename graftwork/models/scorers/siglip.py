"""SigLIP and SigLIP2 with fixed resolution: `SiglipModel` in transformers, cosines with texts and with images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from graftwork.models.config_files import ConfigFile
from graftwork.models.families import ScorerFacts, ScorerFamily
from graftwork.models.scorer import IMAGE_COSINE, TEXT_COSINE, EmbeddingScorer

if TYPE_CHECKING:
    import torch
    from PIL import Image

# Texts are padded to the length that the model was trained with, on the right: the last position is pooled, whatever stands there.
DEFAULT_LENGTH = 64


class SiglipScorer(EmbeddingScorer):
    """Runs `SiglipModel`.

    Texts are lower case and padded on the right to the length of the position embeddings, as in training.
    """

    def __init__(self, model: Any, tokenizer: Any, processor: Any) -> None:
        super().__init__()
        self.model, self.tokenizer, self.processor = model, tokenizer, processor
        self._length = model.config.text_config.max_position_embeddings

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> Self:
        """Loads model, tokenizer and the image processor that needs no torchvision; see `Scorer`."""
        from transformers import AutoTokenizer, SiglipConfig, SiglipModel
        from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

        from graftwork.models.hardware import parse_dtype
        from graftwork.models.transformers_encoder import load_weights

        config = SiglipConfig.from_pretrained(folder, local_files_only=True)
        model = load_weights(SiglipModel, folder, config, parse_dtype(hardware["dtype"]))
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="right")
        processor = SiglipImageProcessorPil.from_pretrained(folder, local_files_only=True)
        return cls(model.to(hardware["device"]), tokenizer, processor)

    def embed_image(self, image: "Image.Image") -> "torch.Tensor":
        """Returns the pooled output of the vision tower, (width,)."""
        pixels = self.processor(images=[image], return_tensors="pt")["pixel_values"]
        return self.model.get_image_features(
            pixel_values=pixels.to(self.model.device, self.model.dtype)
        ).pooler_output[0]

    def embed_text(self, text: str) -> "tuple[torch.Tensor, bool]":
        """Returns the pooled output of the text tower, (width,), and whether the text was cut."""
        whole = self.tokenizer(text.lower())["input_ids"]
        ids = self.tokenizer(
            [text.lower()],
            padding="max_length",
            max_length=self._length,
            truncation=True,
            return_tensors="pt",
        )["input_ids"]
        features = self.model.get_text_features(input_ids=ids.to(self.model.device)).pooler_output[0]
        return features, len(whole) > self._length


def read_facts(folder: Path) -> ScorerFacts:
    """Reads the facts of a checkpoint; refuses towers of different widths and a processor of another image size."""
    config = ConfigFile(folder / "config.json")
    text, vision = config.section("text_config"), config.section("vision_config")
    width = vision.whole("hidden_size", 768)
    # Both towers end in the width of the vision tower.
    if text.whole("projection_size", text.whole("hidden_size", 768)) != width:
        raise text.wrong("projection_size", f"{width}, as vision_config.hidden_size has it,")
    processor = ConfigFile(folder / "preprocessor_config.json")
    side = vision.whole("image_size", 224)
    if processor.section("size").whole("height") != side:
        raise processor.section("size").wrong(
            "height", f"{side}, as vision_config.image_size of config.json has it,"
        )
    return ScorerFacts("siglip", width, text.whole("max_position_embeddings", DEFAULT_LENGTH))


def weight_shapes(folder: Path) -> Sequence[Mapping[str, tuple[int, ...]]]:
    """Returns weights of both towers that config.json asks for."""
    config = ConfigFile(folder / "config.json")
    text, vision = config.section("text_config"), config.section("vision_config")
    wide, narrow, patch = (
        vision.whole("hidden_size", 768),
        text.whole("hidden_size", 768),
        vision.whole("patch_size", 16),
    )
    length = text.whole("max_position_embeddings", DEFAULT_LENGTH)
    return [
        {
            "vision_model.embeddings.patch_embedding.weight": (wide, 3, patch, patch),
            "text_model.embeddings.position_embedding.weight": (length, narrow),
        }
    ]


FAMILY = ScorerFamily(
    name="siglip",
    scorer="graftwork.models.scorers.siglip:SiglipScorer",
    model_type="siglip",
    quantities=(TEXT_COSINE, IMAGE_COSINE),
    files=("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json"),
    required=("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"),
    read_facts=read_facts,
    weight_shapes=weight_shapes,
)
