"""Plans against a store of which every state can be made up."""

import pytest

from graftwork.core.png import is_complete_png
from graftwork.core.records import record_digest
from graftwork.design.settings import Sharding
from graftwork.planning.plan import count_missing, drop_conditioning, resolve_images
from graftwork.planning.shards import ConditioningShard, ExtractionShard, ImageShard, read_shard
from tests.unit.design.designs import experiment
from tests.unit.planning.fake_store import PNG, Situation


@pytest.fixture
def empty(tmp_path) -> Situation:
    return Situation(tmp_path)


@pytest.fixture
def finished(tmp_path) -> Situation:
    situation = Situation(tmp_path)
    situation.finish()
    return situation


def extractions(situation: Situation) -> list[ExtractionShard]:
    names = situation.plan_conditioning().extraction
    return [read_shard(ExtractionShard, situation.store.shards, name) for name in names]


def recipes_of(situation: Situation) -> list[ConditioningShard]:
    names = situation.plan_conditioning().conditioning
    return [read_shard(ConditioningShard, situation.store.shards, name) for name in names]


def images_of(situation: Situation) -> list[ImageShard]:
    return [read_shard(ImageShard, situation.store.shards, name) for name in situation.plan_images().shards]


def test_an_empty_store_lacks_everything(empty):
    plan = empty.plan_conditioning()
    # Two prompts with the text encoder (layer 7) and with the other (layers 7 and 5).
    assert plan.missing_hidden_states == 2 * 1 + 2 * 2
    assert sorted(len(layers) for layers in plan.hidden_states.values()) == [1, 1, 2, 2]
    # Per prompt: the text alone, and alpha 0.5 at two layers.
    assert plan.missing_recipes == 6
    inputs = [item for shard in extractions(empty) for item in shard.inputs]
    assert {item.key: item.layers for item in inputs} == plan.hidden_states
    assert {item.path for item in inputs} == {None, "config/references/house.png"}
    recipes = [shard.recipes for shard in recipes_of(empty)]
    assert sum(map(len, recipes)) == 6
    for part in recipes:
        for key, recipe in part.items():
            assert record_digest(recipe) == recipe.key == key


def test_a_finished_store_lacks_nothing(finished):
    plan = finished.plan_conditioning()
    assert plan.extraction == plan.conditioning == ()
    assert plan.missing_hidden_states == plan.missing_recipes == 0
    images = finished.plan_images()
    assert images.shards == ()
    assert images.shard_of == {}
    assert all(entry.image and not entry.error for entry in images.cells.values())


def test_dropped_conditioning_is_not_missed_while_the_images_exist(finished):
    finished.drop_conditioning()
    assert finished.plan_conditioning().missing_recipes == 0
    assert finished.plan_images().shards == ()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(PNG[:-3])])
def test_a_lost_image_needs_its_dropped_conditioning_again(finished, damage):
    finished.drop_conditioning()
    cell = next(cell for cell in finished.cells.values() if cell["alpha"] == 0.5)
    damage(finished.store.image(finished.image(cell)))
    plan = finished.plan_conditioning()
    assert plan.missing_recipes == 1
    (shard,) = recipes_of(finished)
    assert list(shard.recipes) == [finished.recipe(cell)]
    images = finished.plan_images()
    assert list(images.shard_of) == [finished.image(cell)]


def test_a_lost_image_needs_nothing_else_while_its_conditioning_exists(finished):
    cell = next(iter(finished.cells.values()))
    finished.store.image(finished.image(cell)).unlink()
    assert finished.plan_conditioning().missing_recipes == 0
    (shard,) = images_of(finished)
    assert [item.key for item in shard.images] == [finished.image(cell)]
    assert shard.drop == (finished.hash_of(cell),)


def test_a_recipe_of_many_cells_is_planned_if_one_of_their_images_is_missing(tmp_path):
    situation = Situation(tmp_path, experiment({"seed": [1, 2, 3]}))
    situation.finish()
    situation.drop_conditioning()
    cells = [cell for cell in situation.cells.values() if cell["alpha"] != 0.0 and cell["seed"] == 3]
    situation.store.image(situation.image(cells[0])).unlink()
    assert situation.plan_conditioning().missing_recipes == 1


def test_hidden_states_that_changed_are_read_again_and_planned_if_damaged(finished):
    key = next(iter(finished.plan_conditioning().hidden_states))
    finished.store.hidden_states(key).write_bytes(b"not HDF5 at all")
    (shard,) = extractions(finished)
    assert [item.key for item in shard.inputs] == [key]


def test_one_more_layer_is_another_shard_of_the_same_input(tmp_path):
    one = Situation(tmp_path, experiment({"hidden_layer": [-2]}, {"prompts": ["a hat"]}))
    one.finish()
    more = Situation(tmp_path, experiment({"hidden_layer": [-2, -4]}, {"prompts": ["a hat"]}))
    (shard,) = extractions(more)
    assert [item.layers for item in shard.inputs] == [(5,)]
    another = Situation(tmp_path, experiment({"hidden_layer": [-2, -6]}, {"prompts": ["a hat"]}))
    assert more.plan_conditioning().extraction != another.plan_conditioning().extraction


def test_each_reference_of_a_set_and_each_layer_of_a_list_is_extracted_once(tmp_path):
    """The very inputs of experiments that take them one at a time."""
    prompts = {"prompts": ["a hat"]}
    sets = Situation(
        tmp_path,
        experiment({}, {**prompts, "references": [["house", "tree"]], "combination": "multi_reference"}),
        experiment({"hidden_layer": [[-2, -4]]}, {**prompts, "combination": "layer_mix"}),
    )
    single = Situation(
        tmp_path,
        experiment({"hidden_layer": [-2, -4]}, prompts),
        experiment({}, {**prompts, "references": ["tree"]}),
    )
    assert sets.plan_conditioning().hidden_states == single.plan_conditioning().hidden_states
    of_set, of_layers = (
        next(sets.keys.recipe(cell.parameters) for cell in design.cells if cell.role == "cell")
        for design in sets.designs
    )
    assert len(of_set.sources) == len(of_layers.sources) == 2
    assert of_layers.sources[0].key == of_layers.sources[1].key
    assert [source.layer for source in of_layers.sources] == [7, 5]


def test_a_neutral_image_of_the_reference_s_size_is_extracted_too(tmp_path):
    raw = experiment({}, {"prompts": ["a hat"], "references": ["house", "home"], "blend": "style_delta"})
    situation = Situation(tmp_path, raw)
    (shard,) = extractions(situation)
    assert sorted(item.path for item in shard.inputs if item.path) == [
        "config/references/house.png",
        "grey:12x8",
    ]
    recipes = [situation.keys.recipe(cell) for cell in situation.cells.values() if cell["alpha"]]
    assert len({recipe.key for recipe in recipes}) == 1  # home and house have the same content
    assert recipes[0].neutral_sources != recipes[0].sources


def test_cells_with_the_same_conditioning_share_an_image(empty):
    empty.condition()
    plan = empty.plan_images()
    assert len(plan.cells) == 2 + 8
    # Per prompt: the text alone (baseline, and alpha 0 at two layers), and alpha 0.5 at two layers.
    assert len(plan.shard_of) == 6
    with_alpha_zero = {plan.cells[cell].image for cell, p in empty.cells.items() if p["alpha"] == 0.0}
    assert len(with_alpha_zero) == 2


def test_an_experiment_that_shares_everything_adds_nothing(tmp_path):
    raw = experiment({"alpha": [0.5]})
    situation = Situation(tmp_path, raw, {**raw, "title": "another"})
    situation.condition()
    assert len(situation.plan_images().shard_of) == 4


def test_what_could_not_be_conditioned_is_an_error_of_its_cells(empty):
    cell_id, cell = next((name, cell) for name, cell in empty.cells.items() if cell["alpha"] == 0.5)
    empty.condition()
    plan = empty.plan_images({empty.recipe(cell): "token_mode selects nothing"})
    assert plan.cells[cell_id].error == "token_mode selects nothing"
    assert empty.image(cell) not in plan.shard_of
    assert len(plan.shard_of) == 5


def test_a_cell_without_any_record_says_so(empty):
    plan = empty.plan_images()
    assert {entry.error for entry in plan.cells.values()} == {"its conditioning was not built"}
    assert plan.shards == ()


def test_conditioning_beyond_the_limit_of_tokens_is_an_error_in_words(empty):
    empty.condition(tokens=97)
    plan = empty.plan_images()
    errors = {entry.error for entry in plan.cells.values()}
    assert len(errors) == 1
    assert "97 tokens; the generator takes at most 96" in errors.pop()
    assert plan.shards == ()
    # Elsewhere: of two rows with one recipe, the order of their digests decides which is read.
    situation = Situation(empty.folder / "other")
    situation.condition(tokens=96)
    assert situation.plan_images().shards


def test_names_of_shards_depend_on_what_is_missing_and_nothing_else(tmp_path):
    one = Situation(tmp_path / "one")
    one.condition()
    other = Situation(tmp_path / "other", one_experiment_in_another_order())
    other.condition()
    names = one.plan_images().shards
    assert names == other.plan_images().shards == one.plan_images().shards
    one.sharding = Sharding(min_images_per_shard=1, min_recipes_per_shard=99)
    one.hardware.generation.offload = "model"
    assert one.plan_images().shards == names
    one.store.image(one.image(next(iter(one.cells.values())))).parent.mkdir(parents=True)
    one.store.image(one.image(next(iter(one.cells.values())))).write_bytes(PNG)
    assert one.plan_images().shards != names


def one_experiment_in_another_order():
    prompts = [{"name": "B", "text": "a blue boat"}, {"name": "A", "text": "a red apple"}]
    return experiment({"alpha": [0.5, 0.0], "hidden_layer": [-4, -2]}, {"prompts": prompts}, title="other")


@pytest.mark.parametrize(
    ("gpus", "fewest", "shards_"), [(1, 1, 1), (2, 1, 2), (4, 1, 4), (4, 3, 2), (4, 7, 1)]
)
def test_shards_are_as_many_as_there_are_gpus_for_and_work_is_worth(tmp_path, gpus, fewest, shards_):
    situation = Situation(tmp_path, gpus=gpus)
    situation.sharding = Sharding(min_images_per_shard=fewest, min_recipes_per_shard=1)
    situation.condition()
    plan = situation.plan_images()
    assert len(plan.shards) == shards_
    made = [item.key for shard in images_of(situation) for item in shard.images]
    assert sorted(made) == sorted(plan.shard_of)
    for name in plan.shards:
        for item in read_shard(ImageShard, situation.store.shards, name).images:
            assert plan.shard_of[item.key] == name


def test_one_job_takes_all_encoders_where_they_would_wait_for_one_device(tmp_path):
    (shard,) = extractions(Situation(tmp_path / "1", gpus=1))
    apart = extractions(Situation(tmp_path / "2", gpus=2))
    assert len(shard.parts) == 2
    assert all(len(one.parts) == 1 for one in apart)
    names = {part.encoder.name for part in shard.parts}
    assert {part.encoder.name for one in apart for part in one.parts} == names
    assert len(names) == 2
    assert sorted(item.key for item in shard.inputs) == sorted(i.key for one in apart for i in one.inputs)


def test_number_of_gpus_changes_no_key(tmp_path):
    one, many = Situation(tmp_path / "1", gpus=1), Situation(tmp_path / "2", gpus=5)
    one.condition()
    many.condition()
    assert set(one.plan_images().shard_of) == set(many.plan_images().shard_of)


def test_images_of_one_size_are_together(tmp_path):
    situation = Situation(tmp_path, experiment({"height": [32, 64], "seed": [1, 2, 3, 4]}), gpus=2)
    situation.condition()
    for shard in images_of(situation):
        assert len({item.parts.height for item in shard.images}) == 1


def test_conditioning_that_another_shard_needs_is_not_dropped(tmp_path):
    situation = Situation(tmp_path, experiment({"seed": [1, 2, 3, 4]}, {"prompts": ["a hat"]}), gpus=4)
    situation.condition()
    contents = images_of(situation)
    assert len(contents) == 4
    for shard in contents:
        elsewhere = {i.parts.conditioning for o in contents if o is not shard for i in o.images}
        assert not set(shard.drop) & elsewhere
        assert set(shard.drop) <= {item.parts.conditioning for item in shard.images}


def test_conditioning_is_kept_if_that_was_asked_for(empty):
    empty.keep_conditioning = True
    empty.condition()
    assert [shard.drop for shard in images_of(empty)] == [()]


def test_image_keys_are_digests_of_their_parts(empty):
    empty.condition()
    for shard in images_of(empty):
        for item in shard.images:
            assert record_digest(item.parts) == item.parts.key == item.key


def test_conditioning_left_by_a_killed_shard_is_dropped(finished):
    cells = list(finished.cells.values())
    lost, failed = (next(c for c in cells if c["alpha"] == alpha) for alpha in (0.0, 0.5))
    finished.store.image(finished.image(lost)).unlink()
    plan = finished.plan_images({finished.recipe(failed): "why"})
    drop_conditioning(plan, finished.store)
    left = {file.stem for file in finished.store.root.glob("conditioning/*/*")}
    # Nothing is known of the conditioning of a failed cell, so nothing is removed.
    assert left == {finished.hash_of(lost), finished.hash_of(failed)}
    drop_conditioning(plan, finished.store)


def test_extraction_is_cut_alike_whatever_the_order_of_cells(tmp_path):
    prompts = ["a", "b", "c", "d", "e"]
    names = [
        Situation(tmp_path / str(n), experiment({}, {"prompts": order}), gpus=3)
        .plan_conditioning()
        .extraction
        for n, order in enumerate([prompts, prompts[::-1]])
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 6


def test_counts_before_during_and_after(tmp_path):
    situation = Situation(tmp_path)

    def count() -> tuple[int, ...]:
        found = count_missing(
            situation.designs,
            situation.hardware,
            resolve_images(situation.designs, situation.hardware, situation.store),
            situation.store,
        )
        return (found.cells, found.done, found.known, found.unknown, found.recipes)

    assert count() == (10, 0, 0, 6, 6)
    situation.condition()
    assert count() == (10, 0, 6, 0, 0)
    situation.generate()
    assert count() == (10, 6, 0, 0, 0)
    cell = next(iter(situation.cells.values()))
    situation.store.image(situation.image(cell)).unlink()
    assert count() == (10, 5, 1, 0, 0)


def test_counting_writes_nothing(empty):
    before = sorted(empty.folder.rglob("*"))
    resolved = resolve_images(empty.designs, empty.hardware, empty.store)
    count_missing(empty.designs, empty.hardware, resolved, empty.store)
    assert sorted(empty.folder.rglob("*")) == before


def test_the_fake_images_count_as_complete(finished):
    for cell in finished.cells.values():
        assert is_complete_png(finished.store.image(finished.image(cell)))
