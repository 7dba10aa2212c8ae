"""Colours: repeatable, bounded, different for each image, and each operation against its definition."""

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from depth_anything.data import augment


def images(count: int = 4, height: int = 36, width: int = 44) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(count: int = 4, seed: int = 0) -> augment.Draws:
    """Of so many images."""
    return augment.Draws(generator(1000 * seed + number) for number in range(count))


NAMED = {name: function for name, function in augment.PERTURBATIONS.items() if function}


@pytest.mark.parametrize("name", NAMED)
def test_a_perturbation_is_repeatable_bounded_and_leaves_its_input(name):
    before = images()
    image = before.clone()
    first = NAMED[name](image, draws(seed=3))
    assert torch.equal(first, NAMED[name](image, draws(seed=3)))
    assert not torch.equal(first, NAMED[name](image, draws(seed=4)))
    assert torch.equal(image, before)
    assert first.shape == image.shape and first.dtype == torch.float32
    assert torch.isfinite(first).all() and first.min() >= 0 and first.max() <= 1.01


@pytest.mark.parametrize("name", NAMED)
def test_each_image_has_its_own_draw(name):
    same = images(1).expand(8, -1, -1, -1)
    assert len({tuple(image.flatten()[:50].tolist()) for image in NAMED[name](same, draws(8))}) == 8


@pytest.mark.parametrize("name", NAMED)
def test_an_image_looks_the_same_in_every_batch(name):
    """However a step is cut into slices."""
    image, generators = images(6), range(6)
    whole = NAMED[name](image, augment.Draws(generator(one) for one in generators))
    for part in ([0], [1, 2], [3, 4, 5]):
        alone = NAMED[name](image[part], augment.Draws(generator(one) for one in part))
        torch.testing.assert_close(alone, whole[part], rtol=0, atol=1e-5)


def test_sometimes_changes_the_share_of_images_it_should():
    image = torch.zeros(4000, 1, 1, 1)
    seen = []
    changed = augment.sometimes(
        lambda some, of: seen.append((len(some), len(of.generators))) or some + 1, image, 0.3, draws(4000)
    )
    assert changed.mean().item() == pytest.approx(0.3, abs=0.03)
    assert seen == [(int(changed.sum()),) * 2] and not image.any()
    assert augment.sometimes(lambda some, of: some + 1, image, 0.0, draws(4000)) is image


def test_grayscale_is_pillows():
    image = (images(1)[0] * 255).round()
    expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).byte().numpy()).convert("L"), dtype=float)
    assert np.abs(augment.grayscale(image[None] / 255)[0, 0].numpy() * 255 - expected).max() <= 1


def test_turning_hue_by_a_third_moves_red_towards_green_and_keeps_luma():
    red = torch.tensor([0.6, 0.2, 0.2]).view(1, 3, 1, 1)
    # YIQ's chroma plane runs against HSV's circle.
    matrix = augment.chroma_matrix(torch.ones(1), torch.tensor([-2 * torch.pi / 3]))
    turned = torch.einsum("bij,bjhw->bihw", matrix, red)
    hue = colorsys.rgb_to_hsv(*turned.flatten().tolist())[0]
    assert hue == pytest.approx(1 / 3, abs=0.06)
    assert augment.grayscale(turned)[0, 0].item() == pytest.approx(augment.grayscale(red)[0, 0].item(), abs=1e-3)


def test_no_turn_and_factor_one_is_the_identity():
    assert torch.allclose(augment.chroma_matrix(torch.ones(2), torch.zeros(2)), torch.eye(3).expand(2, 3, 3), atol=1e-6)
    assert torch.allclose(augment.colour_jitter(images(), 0, 0, 0, 0, draws()), images(), atol=1e-5)


def test_saturation_zero_is_gray():
    gray = torch.einsum("bij,bjhw->bihw", augment.chroma_matrix(torch.zeros(4), torch.zeros(4)), images())
    assert torch.allclose(gray, augment.grayscale(images()), atol=1e-3)


def test_blur_is_close_to_pillows_gaussian():
    image = torch.nn.functional.interpolate(images(1, 12, 12), size=(48, 48), mode="bilinear")
    ours = augment.blur(image, 1.5, 1.5, draws(1))[0]
    photograph = Image.fromarray((image[0].permute(1, 2, 0) * 255).round().byte().numpy())
    theirs = torch.from_numpy(np.array(photograph.filter(ImageFilter.GaussianBlur(1.5)))).permute(2, 0, 1) / 255
    inside = (slice(None), slice(8, -8), slice(8, -8))
    assert (ours - theirs)[inside].abs().max() < 0.02  # Pillow approximates by box filters, in bytes
    assert (ours - image[0])[inside].abs().max() > 0.05


def test_blur_keeps_a_flat_image():
    flat = torch.full((2, 3, 20, 20), 0.3)
    assert torch.allclose(augment.blur(flat, 0.1, 2.0, draws(2)), flat, atol=1e-6)


def test_noise_has_the_strength_asked_for():
    gray = torch.full((64, 3, 32, 32), 0.5)
    spread = (augment.sensor_noise(gray, 0.1, draws(64)) - gray).flatten(1).std(1)
    assert 0 <= spread.min() < 0.02 and 0.07 < spread.max() <= 0.1


def test_jpeg_blocks_quantise_coefficients_and_keep_the_mean():
    image = images(1, 16, 24)
    fine = augment.jpeg_blocks(image, 1e-6, 1e-6, draws(1))
    assert torch.allclose(fine, image, atol=1e-5)
    coarse = augment.jpeg_blocks(0.4 + 0.2 * image, 4.0, 4.0, draws(1))
    block = coarse[0, 0, :8, :8]
    assert block.unique().numel() < 64
    assert block.mean().item() == pytest.approx(
        (0.4 + 0.2 * image)[0, 0, :8, :8].mean().item(), abs=4 / 15 / 8 / 2 + 1e-4
    )


def test_cutmix_boxes_follow_the_rule():
    one, shares, ratios = generator(), [], []
    for _ in range(500):
        mask = augment.cutmix_box((518, 518), one)
        rows, columns = mask.any(1).sum().item(), mask.any(0).sum().item()
        assert mask.sum().item() == rows * columns  # one rectangle
        shares.append(rows * columns / 518**2)
        ratios.append(rows / columns)
    assert min(shares) > 0.018 and max(shares) <= 0.4 and max(shares) > 0.3
    assert min(ratios) > 0.29 and max(ratios) < 3.4


@pytest.mark.parametrize("name", NAMED)
def test_everything_stays_on_the_images_device(name, monkeypatch):
    # The meta device, like a GPU, refuses a number that lies elsewhere. Only the noise is drawn there, by a generator
    # that meta has not.
    monkeypatch.setattr(augment, "noise_like", lambda image_B3HW, draws: torch.empty_like(image_B3HW))
    image_B3HW = torch.empty(8, 3, 28, 42, device="meta")
    perturbed_B3HW = NAMED[name](image_B3HW, draws(len(image_B3HW)))
    assert perturbed_B3HW.device.type == "meta" and perturbed_B3HW.shape == image_B3HW.shape
