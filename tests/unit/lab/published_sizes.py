"""Numbers of parameters of the published models."""

PARAMETERS = {"z_image": 6_154_908_736, "qwen3": 4_022_468_096, "qwen3_vl": 4_437_815_808}
