"""What the page of the viewer knows, and the folder that it is in."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from graftwork.core.png import encode_png
from graftwork.core.records import to_json
from graftwork.reports.viewer.code import thumbnail_code, viewer_code
from graftwork.reports.viewer.columns import encode_column, mean_columns
from graftwork.reports.viewer.folder import PAGE, page_files, write_viewer
from graftwork.reports.viewer.thumbnails import (
    LOSSLESS_SIDE,
    THUMBNAIL_SIDE,
    Thumbnail,
    ThumbnailStore,
    image_difference,
    make_thumbnail,
    make_thumbnails,
    parts_of,
    sources_of_part,
)
from tests.browser.synthetic import EXPERIMENT, FAILURE, make_page
from tests.unit.design.designs import expand

LOG = logging.getLogger("test")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return make_page(tmp_path_factory.mktemp("viewer"))


def values_of(page, name):
    column = next(column for column in page.data["columns"] if column["name"] == name)
    if "numbers" in column:
        return column["numbers"]
    codes = column.get("codes", [0] * len(page.rows))
    return [column["texts"][code] for code in codes]


# ---- The data


def test_every_combination_of_values_has_its_cell(page):
    sizes = [len(axis["labels"]) for axis in page.data["axes"]]
    ids = page.data["cells"]["ids"]
    for indices, cell in page.design["positions"]:
        assert ids[page.data["places"][np.ravel_multi_index(indices, sizes)]] == cell
    assert -1 not in page.data["places"]


def test_columns_say_what_the_table_says(page):
    for name in ("prompt", "tokens", "visible_change", "read_shape", "warnings", "follows_prompt_size"):
        for value, row in zip(values_of(page, name), page.rows.values(), strict=True):
            if isinstance(value, float | int):
                assert value == float(row[name])
            else:
                assert (value or "") == row[name]


def test_columns_know_what_they_are_about(page):
    group = {column["name"]: column["group"] for column in page.data["columns"]}
    assert group["visible_change"] == "conditioning"
    assert group["alpha"] == "parameter"
    assert group["follows_prompt_shape"] == "score"
    assert group["difference_to_baseline"] == "image"


def test_the_difference_to_the_baseline_is_zero_for_equal_images_and_known_for_every_image(page):
    differences = dict(zip(page.data["cells"]["ids"], values_of(page, "difference_to_baseline"), strict=True))
    for cell, row in page.rows.items():
        if row["status"] != "done" or row["role"] == "baseline":
            assert differences[cell] is None
        elif float(row["alpha"]) == 0:
            assert differences[cell] == 0
        else:
            assert 0 < differences[cell] < 1


def test_failed_and_missing_cells_have_no_image_and_their_reason(page):
    cells = page.data["cells"]
    for place, row in enumerate(page.rows.values()):
        assert (cells["images"][place] == -1) == (row["status"] != "done")
        assert cells["errors"]["texts"][cells["errors"]["codes"][place]] == row["error"]
    assert FAILURE in cells["errors"]["texts"]


def test_images_are_listed_once(page):
    keys = page.data["images"]["keys"]
    assert len(set(keys)) == len(keys)
    done = {Path(row["image"]).stem for row in page.rows.values() if row["status"] == "done"}
    assert done < set(keys)


def recipe_of(data, cell):
    """Composes the experiment file of a cell as the page does."""
    row = data["recipe"]["cells"].index(cell)
    lines = []
    for line in data["recipe"]["lines"]:
        text = line["texts"][line["codes"][row] if "codes" in line else 0]
        if text:
            lines.append(f"  {line['key']}: {text}\n")
    return "base:\n" + "".join(lines)


def check_recipes(root, design, data):
    for cell in design["cells"]:
        again = to_json(expand(root, yaml.safe_load(recipe_of(data, cell["cell"])), "again"))
        assert cell["cell"] in {each["cell"] for each in again["cells"]}, recipe_of(data, cell["cell"])
        assert len(again["positions"]) == 1
        if cell["role"] == "cell":
            assert again["positions"][0][1] == cell["cell"]


def test_the_experiment_file_of_a_cell_makes_exactly_this_cell(page, tmp_path):
    check_recipes(tmp_path, page.design, page.data)


def test_experiment_files_keep_unusual_values(tmp_path):
    raw = {
        "base": {**EXPERIMENT["base"], "prompts": ["yes", "1e3", "a: b # c", " - [x]\n two lines"]},
        "settings": {
            "plain": {},
            "none": {"normalization": "per_dim", "clip_sigma": None},
            "small": {"normalization": "global", "target_std": 0.00001},
            "tokens": {"blend": "per_token", "token_alphas": [0.0, 0.5, 1.0]},
            "schedule": {"alpha_schedule": {"kind": "points", "points": [[0.0, 1.0], [1.0, 0.0]]}},
            "words": {"system_prompt": "null"},
            "guided": {"guidance_scale": 2.0, "negative_prompt": "<|not a token|> \u202e 猫"},
        },
    }
    made = make_page_without_no_ops(tmp_path, raw)
    check_recipes(tmp_path, *made)


def make_page_without_no_ops(root, raw):
    from graftwork.planning.no_ops import NoOps
    from graftwork.reports.viewer.data import Findings, viewer_data
    from tests.browser.synthetic import make_rows

    record = expand(root, raw, "unusual")
    design = to_json(record)
    rows = make_rows(design, root / "store", side=4)
    return design, viewer_data(record, rows, Findings(NoOps([], 0, 0, 0, {})))


def test_a_page_can_be_made_without_thumbnails_and_scores(tmp_path):
    design, data = make_page_without_no_ops(tmp_path, EXPERIMENT)
    assert "difference_to_baseline" not in {column["name"] for column in data["columns"]}
    assert set(data["images"]["sha256"]) == {""}
    assert len(data["cells"]["ids"]) == len(design["cells"])


# ---- Columns


@given(
    st.lists(st.one_of(st.floats(allow_nan=False, allow_infinity=False).map(repr), st.just("")), min_size=1)
)
def test_numbers_come_back(texts):
    column = encode_column("x", "score", texts)
    if column is None:
        assert not any(texts)
    elif "numbers" in column:
        assert column["numbers"] == [float(text) if text else None for text in texts]
    else:
        assert len(set(texts)) == 1


@given(st.lists(st.text(max_size=3), min_size=1, max_size=12))
def test_texts_come_back(texts):
    column = encode_column("x", "score", texts)
    if column is None:
        assert not any(texts)
    elif "texts" in column:
        assert [column["texts"][code] for code in column.get("codes", [0] * len(texts))] == texts


def test_infinities_and_words_make_a_column_text():
    assert "texts" in encode_column("x", "score", ["1", "inf"])
    assert "texts" in encode_column("x", "score", ["1", "nan"])
    assert "texts" in encode_column("x", "score", ["1", "none"])


def test_scores_of_one_family_get_a_mean():
    columns = [
        encode_column(f"follows_{part}", "score", texts)
        for part, texts in {"a": ["1", "0"], "b": ["0", "1"], "c": ["1", ""]}.items()
    ]
    (mean,) = mean_columns(columns)
    assert mean["name"] == "follows"
    assert mean["numbers"] == [pytest.approx(2 / 3, abs=1e-6), 0.5]
    assert mean["meaning"] == "mean of 3 columns: a, b, c"
    assert mean_columns(columns[:2]) == []
    assert mean_columns([*columns, encode_column("follows", "score", ["1", "2"])]) == []


# ---- Thumbnails


def write_image(path, width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    path.write_bytes(encode_png(pixels))
    return pixels


def test_a_small_image_is_kept_as_it_is(tmp_path):
    pixels = write_image(tmp_path / "a.png", LOSSLESS_SIDE, 40)
    store = ThumbnailStore(tmp_path / "thumbnails")
    record = make_thumbnail(tmp_path / "a.png", "abcd", store)
    assert (record.width, record.height) == (LOSSLESS_SIDE, 40)
    with Image.open(store.image("abcd")) as image:
        assert image.format == "WEBP"
        assert np.array_equal(np.asarray(image), pixels)
    assert store.read("abcd") == record


def test_a_large_image_is_scaled_down(tmp_path):
    write_image(tmp_path / "a.png", 800, 400)
    store = ThumbnailStore(tmp_path / "thumbnails")
    record = make_thumbnail(tmp_path / "a.png", "abcd", store)
    assert (record.width, record.height) == (800, 400)
    with Image.open(store.image("abcd")) as image:
        assert image.size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2)


def test_thumbnails_are_made_once_and_again_where_they_are_damaged(tmp_path):
    sources = {}
    for number, key in enumerate(["aa1", "ab2", "ac3"]):
        sources[key] = tmp_path / f"{key}.png"
        write_image(sources[key], 20, 20, number)
    store = ThumbnailStore(tmp_path / "thumbnails")
    made = []
    assert make_thumbnails(sources, store, LOG, made.append) == {}
    assert made == [1, 2, 3]
    assert make_thumbnails(sources, store, LOG, made.append) == {}
    assert made == [1, 2, 3]
    store.record("ab2").write_text("{", encoding="utf-8")
    store.image("ac3").unlink()
    assert store.missing(sources) == ["ab2", "ac3"]
    make_thumbnails(sources, store, LOG, made.append)
    assert store.missing(sources) == []


def test_an_unreadable_image_stops_no_other(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    write_image(tmp_path / "good.png", 20, 20)
    store = ThumbnailStore(tmp_path / "thumbnails")
    errors = make_thumbnails(
        {"bad": tmp_path / "bad.png", "good": tmp_path / "good.png", "gone": tmp_path / "gone.png"},
        store,
        LOG,
    )
    assert set(errors) == {"bad", "gone"}
    assert store.missing(["bad", "good", "gone"]) == ["bad", "gone"]


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_parts_have_every_image_once(tmp_path, parts):
    sources = {f"{number:032x}": tmp_path / str(number) for number in range(0, 2**128, 2**121 + 2**96)}
    each = [sources_of_part(sources, part, parts) for part in range(1, parts + 1)]
    assert sorted(key for part in each for key in part) == sorted(sources)
    assert all(each)


def test_work_is_split_by_the_number_of_cells():
    assert [parts_of(cells) for cells in (0, 1, 2000, 2001, 10000)] == [1, 1, 1, 2, 5]


def test_the_digest_of_the_viewer_follows_its_page(monkeypatch, tmp_path):
    shutil.copytree(PAGE, tmp_path / "page")
    monkeypatch.setattr("graftwork.reports.viewer.folder.PAGE", tmp_path / "page")
    monkeypatch.setattr("graftwork.reports.viewer.code.PAGE", tmp_path / "page")
    before = viewer_code()
    assert viewer_code() == before
    (tmp_path / "page" / "viewer.css").write_text("body { color: red }")
    assert viewer_code() != before
    assert thumbnail_code() != before


def test_differences_of_images(tmp_path):
    store = ThumbnailStore(tmp_path / "thumbnails")
    records = {}
    for name, level in (("black", 0), ("grey", 51), ("white", 255)):
        (tmp_path / f"{name}.png").write_bytes(encode_png(np.full((64, 64, 3), level, dtype=np.uint8)))
        records[name] = make_thumbnail(tmp_path / f"{name}.png", name, store)
    assert image_difference(records["black"], records["black"]) == 0
    assert image_difference(records["black"], records["white"]) == 1
    assert image_difference(records["grey"], records["black"]) == pytest.approx(0.2)
    assert Thumbnail.from_json(records["grey"].to_json()) == records["grey"]


# ---- The folder


def test_the_folder_is_whole(page):
    data = page.data["images"]
    for path in page_files():
        assert (
            page.folder / path.relative_to(path.parents[len(path.parts) - path.parts.index("page") - 2])
        ).is_file()
    for key in data["keys"]:
        assert (page.folder / "thumbnails" / f"{key}.webp").is_file()
        assert (page.folder / "thumbnails" / f"{key}.js").is_file()
        assert (page.folder / "images" / data["files"].get(key, f"{key}.png")).is_file()


def test_images_are_linked_not_copied(page):
    row = next(row for row in page.rows.values() if row["status"] == "done")
    linked = page.folder / "images" / Path(row["image"]).name
    assert linked.stat().st_ino == Path(row["image"]).stat().st_ino


def test_what_is_left_of_an_older_folder_goes(page, tmp_path):
    folder = tmp_path / "viewer"
    shutil.copytree(page.folder, folder)
    (folder / "images" / "old.png").write_bytes(b"")
    write_viewer(folder, page.data, {}, ThumbnailStore(tmp_path))
    assert not (folder / "images" / "old.png").exists()
    assert (folder / "index.html").is_file()


def test_data_is_plain_ascii_without_markup_and_comes_back(page):
    text = (page.folder / "data.js").read_bytes().decode("ascii")
    assert "<" not in text
    assert json.loads(text.removeprefix("window.VIEWER_DATA = ").removesuffix(";\n")) == page.data


def test_the_page_takes_nothing_from_outside_and_parses_no_markup():
    for path in page_files():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://", text), path.name
        assert not re.search(
            r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|new Function|fetch|XMLHttpRequest)\b",
            text,
        ), path.name
        assert not re.search(r"type=.module|^\s*(import|export)\b", text, re.MULTILINE), path.name


def test_every_script_is_loaded_by_the_page():
    pages = {path.name: path for path in page_files()}
    loaded = re.findall(r'src="scripts/(\w+\.js)"', pages["index.html"].read_text(encoding="utf-8"))
    assert sorted(loaded) == sorted(name for name in pages if name.endswith(".js"))
