"""Training asks for bfloat16 where the processor computes in it."""

import pytest
import torch

from depth_anything.system.device import computes_bfloat16
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.teacher import run_network


@pytest.fixture(autouse=True)
def fresh():
    computes_bfloat16.cache_clear()
    yield
    computes_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("capability", "expected"),
    [("AVX2", torch.float32), ("DEFAULT", torch.float32), ("AVX512", torch.bfloat16), ("AVX512_BF16", torch.bfloat16)],
)
def test_a_step_computes_in_what_the_processor_has(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    found = run_network(torch.nn.Conv2d(3, 1, 1), torch.zeros(1, 3, 8, 8), get_recipe("nano-teacher"))
    assert found.dtype == expected


def test_a_gpu_is_always_asked_for_it():
    assert computes_bfloat16("cuda")
