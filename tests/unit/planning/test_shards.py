"""Cutting work: every item once, in order, in few and even shards that are named by what is in them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftwork.core.records import OtherVersion, to_json
from graftwork.planning.shards import (
    EncoderInputs,
    ExtractionShard,
    InputToExtract,
    ModelToLoad,
    read_shard,
    split_evenly,
    write_shard,
)
from graftwork.store.records import EncoderInput

group_sizes = st.lists(st.integers(0, 30), max_size=12)
counts = st.integers(1, 9)


def shard(prompt: str) -> ExtractionShard:
    made = EncoderInput(
        dtype="float32", device="cpu", cpu_threads=2, encoder="e", prompt=prompt, reference=None, code="c"
    )
    return ExtractionShard(
        {}, (EncoderInputs(ModelToLoad("m", {}), (InputToExtract("a", (7,), None, made),)),)
    )


def groups_of(sizes):
    numbers = iter(range(sum(sizes)))
    return [[next(numbers) for _ in range(size)] for size in sizes]


@given(group_sizes, counts, st.integers(1, 20))
def test_every_item_is_in_one_shard_and_in_order(sizes, most, fewest):
    shards = split_evenly(groups_of(sizes), most, fewest)
    assert [item for shard in shards for item in shard] == list(range(sum(sizes)))
    assert all(shards)
    assert len(shards) <= most
    assert split_evenly(groups_of(sizes), most, fewest) == shards


@given(group_sizes, counts, st.integers(1, 20))
def test_shards_are_even_up_to_the_start_of_a_group(sizes, most, fewest):
    total = sum(sizes)
    shards = split_evenly(groups_of(sizes), most, fewest)
    wanted = min(most, max(1, total // fewest))
    assert len(shards) == min(wanted, total)
    for shard in shards:
        assert total / wanted / 2 - 1 <= len(shard) <= total / wanted * 1.5 + 1


@given(st.integers(0, 200), counts)
def test_single_items_are_cut_as_evenly_as_can_be(total, most):
    lengths = [len(shard) for shard in split_evenly([[n] for n in range(total)], most, 1)]
    assert not lengths or max(lengths) - min(lengths) <= 1


def test_nothing_gives_no_shard():
    assert split_evenly([], 4, 1) == []
    assert split_evenly([[], []], 4, 1) == []


def test_few_items_are_one_shard():
    assert split_evenly([list(range(31))], 8, 16) == [list(range(31))]
    assert [len(shard) for shard in split_evenly([list(range(32))], 8, 16)] == [16, 16]


def test_a_cut_moves_to_the_start_of_a_group():
    groups = [["a"] * 9, ["b"] * 11]
    assert split_evenly(groups, 2, 1) == groups
    # Not where the shards would become uneven by it.
    assert [len(shard) for shard in split_evenly([["a"] * 4, ["b"] * 16], 2, 1)] == [10, 10]


def test_a_shard_is_named_by_its_keys_alone(tmp_path):
    one = write_shard(tmp_path, ["b", "a"], shard("one"))
    assert write_shard(tmp_path, ["a", "b"], shard("two")) == one
    assert write_shard(tmp_path, ["a", "c"], shard("one")) != one
    assert len(one) == 16
    assert read_shard(ExtractionShard, tmp_path, one) == shard("two")


def test_a_shard_keeps_text_as_it_is(tmp_path):
    content = shard("雪の狐 \U0001f98a")
    name = write_shard(tmp_path, ["a"], content)
    assert read_shard(ExtractionShard, tmp_path, name) == content
    assert "雪" in (tmp_path / f"{name}.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / f"{name}.json").read_bytes()) == to_json(content)


def test_a_shard_of_another_version_is_refused_with_the_remedy(tmp_path):
    name = write_shard(tmp_path, ["a"], {**to_json(shard("one")), "gpus": 1})
    with pytest.raises(OtherVersion, match=f"{name}.json.*no field 'gpus'.*delete the file"):
        read_shard(ExtractionShard, tmp_path, name)
