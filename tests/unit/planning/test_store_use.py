"""Files of the store that experiments use, and those that none uses."""

import shutil
from types import SimpleNamespace

import pytest

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.errors import DesignError
from graftwork.core.records import write_record
from graftwork.design.project import Project
from graftwork.design.settings import Sharding
from graftwork.planning.captions import needed_captions
from graftwork.planning.maps import plan_maps
from graftwork.planning.scoring import SCORING_PLAN, ScoringPlan
from graftwork.planning.store_use import (
    FOLDERS,
    collect,
    collect_lines,
    find_use,
    report_lines,
    why_not_collect,
)
from graftwork.store.captions import write_caption_file
from graftwork.store.layout import Store
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import Situation


def project_of(situation, **unreadable):
    """Experiments of a situation, and files that cannot be read."""
    designs = {design.experiment: design for design in situation.designs}

    def design(name):
        if name in unreadable:
            raise DesignError(unreadable[name])
        return designs[name]

    return SimpleNamespace(
        design=design,
        experiment_names=lambda: [*designs, *unreadable],
        analysis_names=list,
        analysis={}.__getitem__,
        maps=SimpleNamespace(names=list, read={}.__getitem__),
        settings=SimpleNamespace(hardware=situation.hardware),
    )


@pytest.fixture
def two(tmp_path):
    """Two experiments over one prompt more and one layer more; both are built."""
    situation = Situation(
        tmp_path,
        experiment({"hidden_layer": [-2], "alpha": [0.0, 0.5]}),
        experiment({"hidden_layer": [-2, -4], "alpha": [0.0, 0.5]}),
    )
    situation.finish()
    shutil.rmtree(situation.store.shards)
    return situation


def use_of(situation, **unreadable):
    return find_use(project_of(situation, **unreadable), situation.store, situation.folder / "plan")


def test_what_experiments_use_is_not_unused(two):
    use = use_of(two)
    assert use.unused() == []
    images = [path for path in use.files if path.suffix == ".png"]
    assert len(images) == len({two.image(cell) for cell in two.cells.values()})
    shared, alone = (sum(use.users[path] == names for path in images) for names in ({"e0", "e1"}, {"e1"}))
    assert shared + alone == len(images)
    assert shared > 0
    assert alone > 0


def test_what_only_a_removed_experiment_used_is_removed_and_nothing_else(two):
    before = use_of(two)
    two.designs = two.designs[:1]
    use = use_of(two)
    unused = use.unused()
    assert unused == [path for path in before.files if before.users[path] == {"e1"}]
    kinds = {path.relative_to(two.store.root).parts[0] for path in unused}
    # The other layer is in the same file of hidden states; conditioning of both is there until images are.
    assert kinds == {"conditioning", "images"}
    assert collect_lines(use, two.store)[0].startswith(f"{len(unused)} of {len(use.files)} files in ")
    assert why_not_collect(use, two.store) is None
    assert collect(use) == unused
    after = use_of(two)
    assert after.unused() == []
    assert list(after.files) == [path for path in before.files if path not in unused]


def test_a_shard_is_in_use_as_long_as_a_plan_names_it(two):
    for path in two.store.root.glob("images/*/*.png"):
        path.unlink()
    plan = two.plan_images()
    folder = two.folder / "plan/all"
    write_record(folder / "images.json", plan)
    planned = [two.store.shards / f"{shard}.json" for shard in plan.shards]
    use = use_of(two)
    assert planned
    assert all(use.users[path] == {"all"} for path in planned)
    (folder / "images.json").unlink()
    assert set(planned) <= set(use_of(two).unused())


def test_what_is_to_be_asked_of_scorers_is_in_use(two):
    write_record(two.folder / "plan/all" / SCORING_PLAN, ScoringPlan(shards=("asked",)))
    shard = two.store.shards / "asked.json"
    shard.parent.mkdir(parents=True)
    shard.write_text("{}")
    assert use_of(two).users[shard] == {"all"}


def test_a_control_of_words_that_are_not_written_yet_uses_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = {"questions": ["which colour?"], "join": "{prompt}, {1}", "max_new_tokens": 5}
    raw = {**experiment({"alpha": [0.0, 0.5]}), "controls": ["words"], "words": words}
    situation = Situation(tmp_path, raw)
    assert use_of(situation).unused() == []
    asked = needed_captions(situation.designs, situation.hardware)
    for key, caption in asked.items():
        write_caption_file(situation.store, caption.parts, f"red {key[:4]}")
    situation.extract()
    shutil.rmtree(situation.store.shards)
    use = use_of(situation)
    assert use.unused() == []
    assert {situation.store.caption(key) for key in asked} <= set(use.users)
    # The text encoder is shown the words: states of an input that no cell beside the controls has.
    situation.designs = []
    assert {path.relative_to(situation.store.root).parts[0] for path in use_of(situation).unused()} == {
        "captions",
        "hidden_states",
    }


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """The shipped files of maps, without experiments and analyses."""
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    (tmp_path / "resources").symlink_to(REPOSITORY / "resources")
    for folder in ("experiments", "statistics"):
        shutil.rmtree(tmp_path / "config" / folder)
    # The file of maps names an experiment, whose images its report shows.
    experiments = tmp_path / "config/experiments"
    experiments.mkdir()
    for name in ("mapped_embedding", "mapped_vl"):
        shutil.copy(REPOSITORY / f"config/experiments/{name}.yaml", experiments)
    monkeypatch.chdir(tmp_path)
    return Project({"experiments": [], "family": "miniature"}, tmp_path)


def test_the_study_of_maps_uses_maps_and_the_states_that_they_are_fitted_on(shipped, tmp_path):
    store, hardware = Store(tmp_path / "store"), shipped.settings.hardware
    plan = plan_maps(shipped.maps.read("embedding"), hardware, Sharding(), store)
    write_record(tmp_path / "plan/maps.embedding/maps.json", plan)
    files = [*map(store.map, plan.map_keys), *map(store.hidden_states, plan.hidden_states)]
    for path in (*files, *(path.with_suffix(".json") for path in map(store.map, plan.map_keys))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"numbers")
    use = find_use(shipped, store, tmp_path / "plan")
    assert use.unread == {}
    assert use.unused() == []
    assert all("maps/embedding" in use.users[path] for path in files)
    assert any(line.startswith("  maps/embedding ") for line in report_lines(use, store))
    shards = [store.shards / f"{name}.json" for name in (*plan.extraction, *plan.maps)]
    assert {name for path in shards for name in use.users[path]} == {"maps.embedding"}


def test_every_folder_of_the_store_is_in_the_report(tmp_path):
    store = Store(tmp_path)
    names = [name for name in vars(Store) if not name.startswith("_") and name != "root"]
    assert "hidden_states" in names
    places = [found("ab") if callable(found := getattr(store, name)) else found for name in names]
    assert {path.relative_to(tmp_path).parts[0] for path in places} <= set(FOLDERS)


def test_temporary_files_and_the_table_of_recipes_are_left_alone(two):
    two.designs = two.designs[:1]
    temporary = two.store.root / "images/ab/abc.png.tmp-host~1~2~01234567"
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(b"half")
    collect(use_of(two))
    assert temporary.exists()
    assert list(two.store.recipes.glob("*.jsonl"))


def test_nothing_is_removed_where_an_experiment_cannot_be_read(two):
    use = use_of(two, broken="config/experiments/broken.yaml: title is missing")
    assert "what broken uses is not known" in why_not_collect(use, two.store)
    line = "  broken cannot be read: config/experiments/broken.yaml: title is missing"
    assert line in report_lines(use, two.store)
    assert line in collect_lines(use, two.store)


def test_nothing_is_removed_through_a_link(two):
    target = two.folder / "elsewhere"
    two.store.root.rename(target)
    two.store.root.symlink_to(target)
    use = use_of(two)
    assert use.unused() == []
    assert "other checkouts may use the same store" in why_not_collect(use, two.store)


def test_the_report_adds_up(two):
    two.designs = two.designs[1:]
    stray = two.store.root / "images/zz/zz.png"
    stray.parent.mkdir()
    stray.write_bytes(b"x" * 1500)
    use = use_of(two)
    lines = report_lines(use, two.store)
    assert lines[0].endswith(f"in {len(use.files)} files")
    (images,) = [line.split() for line in lines if line.startswith("  images ")]
    assert images[1] == str(sum(path.parts[-3] == "images" for path in use.files))
    assert images[-2:] == ["1.5", "kB"]
    (row,) = [line.split() for line in lines if line.startswith("  e1 ")]
    assert int(row[1]) == sum("e1" in names for names in use.users.values())
