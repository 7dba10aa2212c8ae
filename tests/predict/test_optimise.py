"""The network rearranged for speed answers as before, and the plain one still trains."""

import copy

import pytest
import torch
from tiny_models import random_model, tiny
from torch import nn

from depth_anything.network import dpt
from depth_anything.network.dinov2 import attend
from depth_anything.predict.optimise import PackedLinear, can_pack, optimise


@pytest.fixture
def image_B3HW() -> torch.Tensor:
    return torch.randn(2, 3, 70, 98, generator=torch.Generator().manual_seed(0))


def in_training_form(model, image_B3HW: torch.Tensor) -> torch.Tensor:
    """The map by the forms that carry gradients."""
    with torch.enable_grad():
        return model(image_B3HW).detach()


@pytest.mark.parametrize("changes", [{}, {"swiglu": True, "head": "sigmoid", "max_depth": 20.0}])
def test_frozen_equals_plain(changes, image_B3HW):
    model = random_model(tiny(**changes))
    with torch.no_grad():
        for block in model.pretrained.blocks:
            block.ls1.gamma.uniform_(0.1, 0.5)
            block.ls2.gamma.uniform_(0.1, 0.5)
    expected = in_training_form(model, image_B3HW)
    assert expected.std() > 1e-3
    with torch.inference_mode():
        plain = model(image_B3HW)
        frozen = optimise(optimise(copy.deepcopy(model)))  # twice is once
        answer = frozen(image_B3HW)
        again = frozen(image_B3HW)
    torch.testing.assert_close(plain, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(answer, expected, atol=2e-5, rtol=0)
    assert torch.equal(answer, again)
    if can_pack(torch.float32):
        assert sum(isinstance(module, PackedLinear) for module in frozen.modules()) == 4 * 4


def test_bf16_frozen_is_near_and_without_steps(image_B3HW):
    model = random_model(tiny())
    expected = in_training_form(model, image_B3HW)
    frozen = optimise(copy.deepcopy(model), dtype=torch.bfloat16)
    with torch.inference_mode():
        answer = frozen(image_B3HW.bfloat16())
    assert answer.dtype == torch.float32
    assert torch.corrcoef(torch.stack([answer.flatten(), expected.flatten()]))[0, 1] > 0.999
    assert len(answer.unique()) > 10 * len(answer.bfloat16().unique())


def test_attention_in_blocks_is_attention():
    """193 tokens: a block and one more."""
    q, k, v = torch.randn(3, 2, 3, 193, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    with torch.inference_mode():
        found = attend(q, k, v)
    torch.testing.assert_close(found.float(), expected, atol=2e-2, rtol=0)


@pytest.mark.parametrize("strip", [1, 5000, 10**9])
def test_strips_of_any_height_are_the_whole(strip, monkeypatch):
    """One row at a time, several, and all at once."""
    monkeypatch.setattr(dpt, "STRIP", strip)
    head = random_model(tiny()).depth_head.scratch.output_conv2
    x = torch.randn(2, 8, 40, 56, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = head(nn.functional.interpolate(x, size=(70, 98), mode="bilinear", align_corners=True))
        found = dpt.enlarge_and_predict(head, x, (70, 98))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_plain_network_keeps_its_gradients(image_B3HW):
    """Also after it answered without them."""
    model = random_model(tiny()).train()
    with torch.no_grad():
        model(image_B3HW)
    model(image_B3HW).mean().backward()
    unused = ("mask_token", "refinenet4.resConfUnit1")
    for name, parameter in model.named_parameters():
        if not any(part in name for part in unused):
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_changed_position_table_is_seen(image_B3HW):
    """Only frozen networks keep tables; training may change them."""
    model = random_model(tiny())
    with torch.no_grad():
        before = model(image_B3HW)
        model.pretrained.pos_embed.mul_(3)
        assert not torch.allclose(before, model(image_B3HW))


def test_a_network_that_is_to_be_compiled_keeps_no_tables(image_B3HW):
    """A kept table would be the output of a CUDA graph, which the graph's next run overwrites."""
    model = optimise(random_model(tiny()))
    with torch.inference_mode():
        model(image_B3HW)
    assert "position_table" in vars(model.pretrained)
    assert "position_table" not in vars(optimise(model, compile=True).pretrained)
