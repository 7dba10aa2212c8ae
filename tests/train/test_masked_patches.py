"""Hidden patches: what the network sees of them (transformers as the oracle), what it is asked, and that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import Boxes
from safetensors.torch import load_file

from depth_anything.checkpoints.official import load_backbone, save_transformers
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import PATCH
from depth_anything.train import loop, masked_patches
from depth_anything.train.batches import Data, Slice
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.recipes.base import MaskedRecipe, Stage
from depth_anything.train.teacher import MapAndTokens


def tiny(steps: int = 6) -> MaskedRecipe:
    whole = get_recipe("nano-vit-encoder")
    assert isinstance(whole, MaskedRecipe)
    return replace(whole, stages=(Stage(samples=4 * steps, sizes=((28, 42), (42, 42)), batch=4),), warmup=4)


def random_model() -> DepthAnything:
    torch.manual_seed(0)
    model = DepthAnything("nano-vit").eval()
    torch.nn.init.normal_(model.pretrained.mask_token, std=0.1)
    torch.nn.init.normal_(model.pretrained.cls_token, std=0.1)
    return model


def test_hidden_tokens_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason='needs the extra "transfer"')
    model, image_B3HW = random_model(), torch.randn(1, 3, 224, 224)  # the table at its own size: no resampling
    hidden_BN = torch.rand(1, 256) < 0.5
    save_transformers(model, tmp_path)
    theirs = transformers.AutoModelForDepthEstimation.from_pretrained(tmp_path).backbone.eval()
    with torch.inference_mode():
        embedded = theirs.embeddings(image_B3HW, bool_masked_pos=hidden_BN)
        for layer in theirs.encoder.layer:
            embedded = layer(embedded)
        expected_BNC = theirs.layernorm(embedded)[:, 1:]
        found_BNC = MapAndTokens(model)(image_B3HW, hidden_BN)[1]
    torch.testing.assert_close(found_BNC, expected_BNC, rtol=1e-4, atol=1e-4)


def test_what_is_hidden_cannot_be_seen():
    network, image_B3HW = MapAndTokens(random_model()), torch.randn(1, 3, 28, 42)
    hidden_BN = torch.tensor([[True, False, False, False, True, False]])
    other_B3HW = image_B3HW.clone()
    other_B3HW[..., :PATCH, :PATCH] = 9
    other_B3HW[..., PATCH:, PATCH : 2 * PATCH] = -9
    with torch.inference_mode():
        torch.testing.assert_close(network(image_B3HW, hidden_BN)[0], network(other_B3HW, hidden_BN)[0])
        assert not torch.allclose(network(image_B3HW)[0], network(other_B3HW)[0])


def test_the_loss_counts_hidden_pixels_only_and_against_a_loop():
    image_B3HW = torch.rand(2, 3, 28, 42)
    one = masked_patches.masked_batch(image_B3HW, 0.5, [np.random.default_rng(seed) for seed in (0, 1)])
    assert one.hidden_Bhw.sum((1, 2)).tolist() == [3, 3]
    red, green, blue = image_B3HW.unbind(1)
    torch.testing.assert_close(one.luma_BHW, 0.299 * red + 0.587 * green + 0.114 * blue)

    map_BHW = torch.rand(2, 28, 42, requires_grad=True)
    recipe = replace(tiny(), precision="float32")
    found = masked_patches.step_losses(lambda *_: (map_BHW, None), Slice(one, None), recipe, recipe.stages[0])  # type: ignore[arg-type]
    means = []
    for image in range(2):
        differences = [
            abs(map_BHW[image, y, x].item() - float(one.luma_BHW[image, y, x]))
            for y in range(28)
            for x in range(42)
            if one.hidden_Bhw[image, y // PATCH, x // PATCH]
        ]
        means.append(sum(differences) / len(differences))
    assert found.total.item() == pytest.approx(sum(means) / 2, abs=1e-6)
    found.total.backward()
    seen_BHW = ~one.hidden_Bhw.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    assert map_BHW.grad is not None and not map_BHW.grad[seen_BHW].any() and map_BHW.grad[~seen_BHW].all()


def test_a_run_learns_and_its_encoder_starts_a_teacher(tmp_path):
    recipe = replace(tiny(60), learning_rate=5e-4)
    held_out = Boxes(6)
    loop.train(recipe, tmp_path, Data(Boxes(64)), held_out, log_every=10, validate_every=30)
    state = load_file(tmp_path / "final.safetensors")
    assert state["pretrained.mask_token"].any(), "the mask token was not trained"

    trained, untrained = DepthAnything("nano-vit"), masked_patches.start_model(recipe, None)
    trained.load_state_dict(state)
    after, before = (
        masked_patches.validate(model.eval(), held_out, recipe)["masked"] for model in (trained, untrained)
    )
    assert after < 0.8 * before

    encoder = load_backbone(tmp_path / "final.safetensors", "nano-vit")
    weights = {f"pretrained.{key}": tensor for key, tensor in encoder.items()}
    started = loop.start(replace(get_recipe("nano-vit-teacher"), seed=1), weights).model
    torch.testing.assert_close(started.pretrained.blocks[3].mlp.fc1.weight, trained.pretrained.blocks[3].mlp.fc1.weight)
    assert not started.pretrained.mask_token.requires_grad
