"""What summary.md says of attributes."""

from graftwork.scores.attribute_text import describe_attributes


def row(alpha: str, by: str = "", attribute: str = "all", **columns: str) -> dict[str, str]:
    plain = {
        f"{name}{end}": ""
        for name in ("follows_prompt", "follows_reference")
        for end in ("", "_low", "_high")
    }
    return {
        "by": by,
        "attribute": attribute,
        "alpha": alpha,
        **plain,
        "prompt_chance": "0.2",
        "reference_chance": "",
    } | columns


def test_one_line_for_each_alpha():
    shares = {"follows_prompt": "0.555", "follows_prompt_low": "0.25", "follows_prompt_high": "0.75"}
    rows = [
        row("0.0", **shares),
        row("0.0", attribute="shape", **shares),
        row("0.5", by="hidden_layer", **shares),
        row("1.0", **{name.replace("prompt", "reference"): value for name, value in shares.items()}),
    ]
    assert describe_attributes(rows)[-2:] == [
        "| 0.0 | 56 % (25 % to 75 %) | 20 % | not counted |  |",
        "| 1.0 | not counted | 20 % | 56 % (25 % to 75 %) |  |",
    ]
