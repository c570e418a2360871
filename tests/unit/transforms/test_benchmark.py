"""The benchmark of transforms knows how to call every one of them."""

import torch

from benchmarks import transforms as benchmark
from graftwork.transforms.registry import STAGES, transforms


def test_every_transform_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "TOKENS", 40)
    monkeypatch.setattr(benchmark, "CHANNELS", 24)
    monkeypatch.setattr(benchmark, "PROMPT_TOKENS", 8)
    monkeypatch.setattr(benchmark, "ROUNDS", 6)
    threads = torch.get_num_threads()
    try:
        benchmark.main([])
    finally:
        torch.set_num_threads(threads)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [tuple(line[:2]) for line in lines] == [(s, name) for s in STAGES for name in transforms(s)]
    assert all(float(line[2]) >= 0.0 for line in lines)
