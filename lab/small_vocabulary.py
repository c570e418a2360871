"""Text that the small family's tokenizer is trained on, its control tokens and its chat templates."""

import itertools

# Token -> whether the published tokenizers call it special; in the order of their ids.
CONTROL_TOKENS = {
    "<|endoftext|>": True,
    "<|im_start|>": True,
    "<|im_end|>": True,
    "<|object_ref_start|>": True,
    "<|object_ref_end|>": True,
    "<|box_start|>": True,
    "<|box_end|>": True,
    "<|quad_start|>": True,
    "<|quad_end|>": True,
    "<|vision_start|>": True,
    "<|vision_end|>": True,
    "<|vision_pad|>": True,
    "<|image_pad|>": True,
    "<|video_pad|>": True,
    "<tool_call>": False,
    "</tool_call>": False,
    "<|fim_prefix|>": False,
    "<|fim_middle|>": False,
    "<|fim_suffix|>": False,
    "<|fim_pad|>": False,
    "<|repo_name|>": False,
    "<|file_sep|>": False,
    "<tool_response>": False,
    "</tool_response>": False,
    "<think>": False,
    "</think>": False,
}

# Qwen3: "thinking on" adds nothing, "off" an empty thought.
QWEN3_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

# Qwen3-VL: content is text, or a list of texts and images.
QWEN3_VL_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for item in message.content %}
            {%- if item.type == 'image' or 'image' in item or 'image_url' in item %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif 'text' in item %}
                {{- item.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_SUBJECTS = (
    "a cat",
    "an old house",
    "a sailing boat",
    "two children",
    "a red apple",
    "a mountain lake",
    "a robot",
)
_PLACES = (
    "on a wooden table",
    "in a quiet garden",
    "by the sea",
    "under a starry sky",
    "in the city at night",
)
_STYLES = (
    "watercolor painting",
    "a photograph",
    "pixel art",
    "an oil painting",
    "a cartoon drawing in bright colors",
)
_CHAT = (
    "user\n",
    "assistant\n",
    "system\n",
    "Describe the picture in the same style.",
    "What is shown here?",
)

CAPTIONS = [
    *_CHAT * 40,
    *(
        f"{subject} {place}, {style}"
        for subject, place, style in itertools.product(_SUBJECTS, _PLACES, _STYLES)
    ),
    "A small blue circle and a large green square on a striped background.",
    "soft light, high detail, wide angle, shallow depth of field",
]
