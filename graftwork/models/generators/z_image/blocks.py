"""The blocks of the Z-Image transformer: fused where diffusers leaves operations apart, and compiled."""

import torch
from diffusers import ZImageTransformer2DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.attention_processor import Attention
from diffusers.models.normalization import RMSNorm
from diffusers.models.transformers.transformer_z_image import RopeEmbedder
from torch import nn

# One compiled graph per sequence length and batch shape: 47 padded lengths of captions for each size of image, and
# the image alone. Dynamo's own limit is 8.
MOST_GRAPHS = 1024


class RealRopeEmbedder(RopeEmbedder):
    """Rotary angles as cosine and sine, (tokens, head_dim / 2, 2) float32, in place of complex numbers.

    Neither eager kernels nor the compiler fuse complex arithmetic with what surrounds it.
    """

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Takes int (tokens, axes); see `RopeEmbedder` in diffusers."""
        return torch.view_as_real(super().__call__(ids))


class FusedAttention:
    """`ZSingleStreamAttnProcessor` in diffusers with one projection for query, key and value.

    Needs `to_qkv` in its attention module and the angles of `RealRopeEmbedder`.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        freqs_cis: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attends.

        Args:
            attn: The module that this belongs to.
            hidden_states: (rows, tokens, dim).
            encoder_hidden_states: Not used; the signature is that of diffusers.
            attention_mask: bool (rows, tokens), or None.
            freqs_cis: float32 (rows, tokens, head_dim / 2, 2).

        Returns:
            (rows, tokens, dim), the dtype of `hidden_states`.
        """
        query, key, value = attn.to_qkv(hidden_states).unflatten(-1, (3, attn.heads, -1)).unbind(-3)
        if attn.norm_q is not None:
            query = attn.norm_q(query)
        if attn.norm_k is not None:
            key = attn.norm_k(key)
        if freqs_cis is not None:
            query, key = rotate(query, freqs_cis), rotate(key, freqs_cis)
        if attention_mask is not None and attention_mask.ndim == 2:
            attention_mask = attention_mask[:, None, None, :]
        attended = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        output = attn.to_out[0](attended.flatten(2, 3).to(query.dtype))
        return attn.to_out[1](output) if len(attn.to_out) > 1 else output


def rotate(states: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Turns neighbouring pairs of channels by their angles, in float32.

    Args:
        states: (rows, tokens, heads, head_dim).
        angles: float32 (rows, tokens, head_dim / 2, 2), cosine and sine.

    Returns:
        The shape and dtype of `states`.
    """
    even, odd = states.float().unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = angles.unsqueeze(2).unbind(-1)
    turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
    return turned.flatten(3).type_as(states)


def all_blocks(transformer: ZImageTransformer2DModel) -> list[nn.Module]:
    """Returns the blocks in the order of `forward`."""
    return [*transformer.noise_refiner, *transformer.context_refiner, *transformer.layers]


@torch.no_grad()
def fuse_blocks(transformer: ZImageTransformer2DModel) -> None:
    """Gives every block one projection for query, key and value, torch's RMSNorm kernel and real rotary arithmetic.

    The weights stay as they are; sums are rounded elsewhere, so low bits change.
    """
    for block in all_blocks(transformer):
        attention = block.attention
        attention.fuse_projections()
        # Kept, they would be a second copy of 3 GB.
        del attention.to_q, attention.to_k, attention.to_v
        attention.set_processor(FusedAttention())
        for module in (block, attention):
            for name, child in list(module.named_children()):
                if isinstance(child, RMSNorm):
                    setattr(module, name, _as_torch_norm(child))
    rope = transformer.rope_embedder
    transformer.rope_embedder = RealRopeEmbedder(rope.theta, rope.axes_dims, rope.axes_lens)


def _as_torch_norm(norm: RMSNorm) -> nn.RMSNorm:
    fused = nn.RMSNorm(tuple(norm.dim), eps=norm.eps, elementwise_affine=False)
    fused.weight = norm.weight
    return fused


def compile_blocks(
    transformer: ZImageTransformer2DModel, mode: str, backend: str | object = "inductor"
) -> None:
    """Compiles the blocks that see the image, one graph per shape, shared by all blocks.

    The context refiner is left out: it sees the caption alone, which is short, and one class of block for 32 and for
    4,000 tokens is what made automatic dynamic shapes slower than no compilation.

    Args:
        transformer: Its blocks are compiled when they first run at a shape.
        mode: "default", or "reduce-overhead" for CUDA graphs.
        backend: Compiler, as for `torch.compile`.
    """
    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    torch._dynamo.config.accumulated_recompile_limit = 4 * MOST_GRAPHS
    for block in (*transformer.noise_refiner, *transformer.layers):
        block.compile(fullgraph=True, dynamic=False, backend=backend, options=_options(mode, backend))
    if mode == "reduce-overhead":
        # Else what one step left in the memory of the graphs would count as still needed in the next.
        transformer.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())


def compile_decoder(vae: nn.Module, backend: str | object = "inductor") -> None:
    """Compiles the decoder of an `AutoencoderKL`, one graph per shape."""
    vae.decoder.compile(dynamic=False, backend=backend, options=_options("default", backend))


def _options(mode: str, backend: str | object) -> dict[str, bool] | None:
    if backend != "inductor":
        return None
    # Deterministic: choices that change low bits are not made by timing.
    return {"deterministic": True, "triton.cudagraphs": mode == "reduce-overhead"}
