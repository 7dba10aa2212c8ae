"""V2's other teachers against transformers' own models, tiny and random, and through a whole small training."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn import Boxes
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from depth_anything.checkpoints.official import load_backbone, load_state, official_shapes, save, save_transformers
from depth_anything.network import beit_sam
from depth_anything.network.beit_sam import encoder_of
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import IMAGENET_MEAN, IMAGENET_STD, network_size
from depth_anything.predict.predictor import Predictor
from depth_anything.train import loop, metric
from depth_anything.train.batches import Data
from depth_anything.train.distributed import Machine
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.recipes.base import Recipe, Stage
from depth_anything.transfer import segmentation, segmentation_recipes
from depth_anything.variants import TRIED, VARIANTS, Variant

transformers = pytest.importorskip("transformers", reason='needs the extra "transfer"')

SIDE = 16
"""Of the tiny position tables: SAM's windows of 14 do not fit into it evenly."""
FAMILIES = ("beit", "sam")


def tiny(name: str) -> Variant:
    return replace(
        TRIED[name], width=32, depth=6, heads=2, table_side=SIDE, taps=(1, 2, 4, 5),
        features=16, out_channels=(8, 8, 16, 16), input_size=56,
    )  # fmt: skip


def filled(model, seed: int = 0):
    """Numbers in every parameter: the position tables of both families begin at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = 0.2 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise + (1 if parameter.ndim == 1 else 0))
    return model.eval()


def theirs(family: str, side: int = SIDE):
    """transformers' model of the tiny size, from its own config and not from ours."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2, "image_size": 16 * side}
    if family == "beit":
        config = transformers.BeitConfig(
            **sizes, intermediate_size=128, use_relative_position_bias=True, drop_path_rate=0.1, num_labels=3
        )
        return filled(transformers.BeitForImageClassification(config))
    config = transformers.SamVisionConfig(**sizes, global_attn_indexes=[1, 2, 4, 5], output_channels=8)
    return filled(transformers.SamVisionModel(config))


def pixels(image_B3HW: Tensor, family: str, size: tuple[int, int]) -> Tensor:
    """What their model is fed for an image normalised with ImageNet's mean: BEiT has a mean and deviation of 0.5."""
    if family == "beit":
        mean_311, std_311 = (torch.tensor(rgb)[:, None, None] for rgb in (IMAGENET_MEAN, IMAGENET_STD))
        image_B3HW = (image_B3HW * std_311 + mean_311 - 0.5) / 0.5
    return F.interpolate(image_B3HW, size=size, mode="bicubic", align_corners=False)


def their_tokens(model, pixels_B3HW: Tensor, taps: tuple[int, ...]) -> list[Tensor]:
    """Patch tokens behind chosen blocks, as transformers records them."""
    with torch.inference_mode():
        states = model(pixels_B3HW, output_hidden_states=True).hidden_states[-6:]
    return [states[tap][:, 1:] if states[tap].ndim == 3 else states[tap].flatten(1, 2) for tap in taps]


def ours(family: str, folder) -> beit_sam.Encoder:
    row = tiny(f"v2-{family}-large")
    encoder = encoder_of(row)
    encoder.load_state_dict(load_backbone(folder, row))
    return encoder.eval()


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    """A folder as transformers writes it, with a head that is no part of the encoder."""
    path = tmp_path_factory.mktemp(family)
    theirs(family).save_pretrained(path)
    return path


def test_midas_encoder_is_read_from_transformers_dpt(tmp_path):
    """MiDaS 3.1 as transformers holds it: a DPT whose backbone is a BEiT, under the keys of the released file."""
    model = theirs("beit")
    backbone = transformers.BeitConfig(
        hidden_size=32, num_hidden_layers=6, num_attention_heads=2, image_size=16 * SIDE, intermediate_size=128,
        use_relative_position_bias=True, out_features=["stage2", "stage3", "stage5", "stage6"],
        reshape_hidden_states=False,
    )  # fmt: skip
    midas = transformers.DPTForDepthEstimation(
        transformers.DPTConfig(
            backbone_config=backbone.to_dict(), neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=8
        )
    )
    midas.backbone.beit.load_state_dict(model.beit.state_dict(), strict=False)
    midas.save_pretrained(tmp_path)
    assert "backbone.encoder.layer.5.lambda_1" in load_file(tmp_path / "model.safetensors")
    image_B3HW = torch.randn(1, 3, 14 * SIDE, 14 * SIDE)
    with torch.inference_mode():
        tokens = ours("beit", tmp_path)(image_B3HW, (1, 2, 4, 5))
        expected = their_tokens(model, pixels(image_B3HW, "beit", (16 * SIDE, 16 * SIDE)), (1, 2, 4, 5))
    for one, other in zip(tokens, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["v1-midas-large", "v1-metric-nyu-midas-large", "v1-metric-kitti-midas-large"])
def test_v1s_comparison_with_midas_has_rows_recipes_and_advice(name):
    row = TRIED[name]
    assert (row.encoder, row.width, row.depth, row.table_side, row.taps) == ("beit", 1024, 24, 32, (5, 11, 17, 23))
    if row.head == "bins":
        recipe = get_recipe(name)
        assert recipe.metric.init == "encoder" and recipe.row.encoder == "beit"
        assert recipe.stages == get_recipe(name.replace("-midas", "")).stages
        with pytest.raises(ValueError, match=r"starts from Intel/dpt-beit-large-512.*--backbone"):
            metric.start_model(recipe, None)
    else:
        assert segmentation_recipes.get_recipe("ade20k-midas").variant == name
        with pytest.raises(ValueError, match=r"starts from a transformers folder of Intel.*--start-from"):
            segmentation.encoder_of(name, name)


@pytest.mark.parametrize("head", ["linear", "mask2former"])
def test_midas_encoder_carries_a_segmenter_and_metric_bins(head, tmp_path, monkeypatch):
    for base in ("v1-midas-large", "v1-metric-nyu-midas-large"):
        row = replace(tiny("v2-beit-large"), name=f"tiny-{base}", head=TRIED[base].head, bins=TRIED[base].bins)
        monkeypatch.setitem(TRIED, row.name, replace(row, max_depth=TRIED[base].max_depth))
    model = segmentation.build(segmentation.Segments("tiny-v1-midas-large", head, ("a", "b"), 56, 42, 4))
    loss = model.loss(torch.randn(1, 3, 56, 56), torch.zeros(1, 56, 56, dtype=torch.uint8))
    loss.backward()
    assert torch.isfinite(loss) and model.pretrained.patch_embed.weight.grad.abs().max() > 0
    segmentation.save(model.eval(), tmp_path / "a.safetensors")
    found = segmentation.load(tmp_path / "a.safetensors")
    image_13HW = torch.randn(1, 3, 56, 70)
    with torch.inference_mode():
        torch.testing.assert_close(found(image_13HW), model(image_13HW))
        assert DepthAnything("tiny-v1-metric-nyu-midas-large").eval()(image_13HW).shape == (1, 56, 70)


# -- tokens --


@torch.inference_mode()
def test_tokens_are_those_of_transformers_at_its_own_size(family, folder):
    image_B3HW = torch.randn(2, 3, 14 * SIDE, 14 * SIDE)
    taps = (1, 2, 4, 5)
    expected = their_tokens(theirs(family), pixels(image_B3HW, family, (16 * SIDE, 16 * SIDE)), taps)
    tokens = ours(family, folder)(image_B3HW, taps)
    assert [one.shape for one in tokens] == [(2, SIDE * SIDE, 32)] * 4
    for one, other in zip(tokens, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("grid", [(5, 5), (19, 19), (6, 17)])
@torch.inference_mode()
def test_tokens_at_other_sizes(family, folder, grid):
    """BEiT of transformers takes any size. SAM does not: there another one has tables that were resized beforehand."""
    (h, w), encoder = grid, ours(family, folder)
    image_B3HW = torch.randn(1, 3, 14 * h, 14 * w)
    tokens = encoder(image_B3HW, (2, 5))
    assert all(one.shape == (1, h * w, 32) and bool(one.isfinite().all()) for one in tokens)
    model = theirs(family)
    if family == "sam":
        if h != w:
            return
        state, model = model.state_dict(), theirs(family, side=h)
        for key, tensor in model.state_dict().items():
            if key.endswith("pos_embed"):
                table_1CSS = state[key].permute(0, 3, 1, 2)
                state[key] = F.interpolate(table_1CSS, size=(h, w), mode="bicubic").permute(0, 2, 3, 1)
            elif tensor.shape != state[key].shape:
                assert "rel_pos" in key
                state[key] = F.interpolate(state[key].T[None], size=2 * h - 1, mode="linear")[0].T
        model.load_state_dict(state)
    expected = their_tokens(model, pixels(image_B3HW, family, (16 * h, 16 * w)), (2, 5))
    for one, other in zip(tokens, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_synclr_is_a_plain_vit_with_patches_of_14(tmp_path):
    """Its file is that of a distributed run: {"model": {"module.visual.blocks.0..."}}, names as timm has them."""
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=6, num_attention_heads=2, intermediate_size=128, patch_size=14,
        image_size=14 * SIDE, layer_norm_eps=1e-6,
    )  # fmt: skip
    vit = filled(transformers.ViTModel(config, add_pooling_layer=False))
    names = {
        "cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.": "embeddings.patch_embeddings.projection.", "norm.": "layernorm.",
        ".norm1.": ".layernorm_before.", ".norm2.": ".layernorm_after.", "blocks.": "layers.",
        ".attn.proj.": ".attention.o_proj.",
    }  # fmt: skip
    row = tiny("v2-synclr-large")
    keys = [key for key in encoder_of(row).state_dict() if ".ls" not in key and key != "mask_token"]
    state, file = vit.state_dict(), {}
    for key in keys:
        name = key
        for timm, hugging_face in names.items():
            name = name.replace(timm, hugging_face) if timm != "norm." or key.startswith("norm.") else name
        parts = [name.replace(".attn.qkv.", f".attention.{part}_proj.") for part in "qkv"] if "qkv" in name else [name]
        file[f"module.visual.{key}"] = torch.cat([state.pop(part) for part in parts])
    assert not state
    torch.save({"model": file, "epoch": 1}, tmp_path / "synclr_vit_l_14.pth")

    encoder = encoder_of(row).eval()
    encoder.load_state_dict(load_backbone(tmp_path / "synclr_vit_l_14.pth", row))
    image_B3HW = torch.randn(1, 3, 14 * SIDE, 14 * SIDE)
    with torch.inference_mode():
        expected = vit(image_B3HW).last_hidden_state[:, 1:]
        torch.testing.assert_close(encoder(image_B3HW, (5,))[0], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="1 of another shape"):
        load_backbone(tmp_path / "synclr_vit_l_14.pth", replace(row, table_side=37))


# -- weights --


def test_published_beit_files_have_older_names(tmp_path):
    """microsoft/beit-*: `encoder.layer`, `attention.attention.query`, and an index of distances in each block."""
    model = theirs("beit")
    older = {
        ".layers.": ".encoder.layer.", "attention.q_proj.": "attention.attention.query.",
        "attention.k_proj.": "attention.attention.key.", "attention.v_proj.": "attention.attention.value.",
        "attention.o_proj.": "attention.output.dense.", "mlp.fc1.": "intermediate.dense.", "mlp.fc2.": "output.dense.",
        ".relative_position_bias.": ".attention.attention.relative_position_bias.",
    }  # fmt: skip
    state = {}
    for key, tensor in model.state_dict().items():
        name = key
        for newer, published in older.items():
            name = name.replace(newer, published)
        state[name] = tensor
    biases = "beit.encoder.layer.3.attention.attention.relative_position_bias."
    state[biases + "relative_position_index"] = torch.zeros(1)
    assert biases + "relative_position_bias_table" in state
    model.config.save_pretrained(tmp_path)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    row = tiny("v2-beit-large")
    found = load_backbone(tmp_path, row)
    expected = beit_sam.BeitEncoder(model.beit).state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


def test_a_whole_sam_gives_its_image_encoder(tmp_path):
    """facebook/sam-vit-*: a SamModel, whose config holds the encoder's as `vision_config`."""
    config = transformers.SamConfig(vision_config=theirs("sam").config.to_dict())
    config.prompt_encoder_config.image_embedding_size = SIDE
    model = filled(transformers.SamModel(config))
    model.save_pretrained(tmp_path)
    state = load_backbone(tmp_path, tiny("v2-sam-large"))
    assert torch.equal(state["blocks.3.attn.rel_pos_h"], model.state_dict()["vision_encoder.layers.3.attn.rel_pos_h"])
    assert torch.equal(state["pos_embed"], model.vision_encoder.pos_embed) and not any("neck" in key for key in state)


def test_folders_that_do_not_fit_are_refused(family, folder, tmp_path):
    row = tiny(f"v2-{family}-large")
    other = tiny("v2-sam-large" if family == "beit" else "v2-beit-large")
    with pytest.raises(ValueError, match=f"holds a '{family}.*{other.name} starts from a '{other.encoder}'"):
        load_backbone(folder, other)
    with pytest.raises(ValueError, match=r"hidden_size 32 instead of 64, .*starts from (microsoft|facebook)/"):
        load_backbone(folder, replace(row, width=64))
    with pytest.raises(ValueError, match="no readable config"):
        load_backbone(tmp_path, row)
    config, weights = (folder / "config.json").read_text(), load_file(folder / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match="cannot be read"):
        load_backbone(tmp_path, row)
    lost = next(key for key in weights if "position_bias_table" in key or "rel_pos_h" in key)
    save_file({key: tensor for key, tensor in weights.items() if key != lost}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="lacks 1 tensors"):
        load_backbone(tmp_path, row)


def test_saved_and_loaded_it_predicts_the_same(family, tmp_path, monkeypatch):
    row = tiny(f"v2-{family}-large")
    monkeypatch.setitem(TRIED, row.name, row)
    model = DepthAnything(row)
    filled(model.pretrained)
    nn.init.constant_(model.depth_head.scratch.output_conv2[2].bias, 1.0)  # above its ReLU
    save(model, tmp_path / "teacher.safetensors")
    loaded = DepthAnything.from_pretrained(tmp_path / "teacher.safetensors")
    assert loaded.variant == row
    image_B3HW = torch.randn(1, 3, 56, 70)
    with torch.inference_mode():
        map_BHW = model(image_B3HW)
        assert torch.equal(map_BHW, loaded(image_B3HW)) and map_BHW.shape == (1, 56, 70) and map_BHW.std() > 0
    backbone = load_backbone(tmp_path / "teacher.safetensors", row)
    assert all(torch.equal(backbone[key], tensor) for key, tensor in model.pretrained.state_dict().items())
    with pytest.raises(ValueError, match="DINOv2 only"):
        save_transformers(model, tmp_path / "folder")
    with pytest.raises(ValueError, match=r"width 32, 6 blocks\), but v2-small"):
        load_state(tmp_path / "teacher.safetensors", "v2-small")


def test_official_sizes():
    """Against the published models: microsoft/beit-large-patch16-512, facebook/sam-vit-large, SynCLR's ViT-L/14."""
    beit, sam, synclr = (official_shapes(TRIED[f"v2-{family}-large"]) for family in ("beit", "sam", "synclr"))
    assert beit["pretrained.blocks.23.relative_position_bias.relative_position_bias_table"] == (63 * 63 + 3, 16)
    assert beit["pretrained.patch_embed.weight"] == sam["pretrained.patch_embed.weight"] == (1024, 3, 16, 16)
    assert sam["pretrained.pos_embed"] == (1, 64, 64, 1024)
    for block in range(24):
        rows = 127 if block in (5, 11, 17, 23) else 27
        assert sam[f"pretrained.blocks.{block}.attn.rel_pos_h"] == (rows, 64)
    assert synclr["pretrained.pos_embed"] == (1, 1 + 16 * 16, 1024)
    large = official_shapes(VARIANTS["v2-large"])
    for shapes in (beit, sam, synclr):
        decoder = {key: shape for key, shape in shapes.items() if key.startswith("depth_head.")}
        assert decoder == {key: shape for key, shape in large.items() if key.startswith("depth_head.")}


# -- training --


def small_recipe(family: str) -> Recipe:
    """V2's, at tiny sizes: two steps of two images of 4 x 5 patches."""
    stage = Stage(samples=4, sizes=((56, 70),), batch=2, gradient_weight=2.0)
    return replace(get_recipe(f"v2-teacher-{family}-large"), stages=(stage,), learning_rate=1e-3)


def test_two_steps_from_a_folder_to_a_teacher_that_labels(family, folder, tmp_path, monkeypatch):
    row = tiny(f"v2-{family}-large")
    monkeypatch.setitem(TRIED, row.name, row)
    recipe = small_recipe(family)
    with pytest.raises(ValueError, match="--backbone"):
        loop.train(recipe, tmp_path, Data(Boxes(4)))
    backbone = {f"pretrained.{key}": tensor for key, tensor in load_backbone(folder, recipe.variant).items()}
    # Validation at the size of the steps, between two of them: what it leaves behind must not stop the next one.
    assert network_size(40, 48, row.input_size) == (56, 70)
    model = loop.train(recipe, tmp_path, Data(Boxes(4)), Boxes(1), weights=backbone, validate_every=1)

    trained = model.state_dict()
    assert not any(torch.equal(trained[key], tensor) for key, tensor in backbone.items() if "mlp" in key)
    image_HW3 = Boxes(9)[8].image_HW3
    labelled = Predictor(tmp_path / "final.safetensors")(image_HW3)
    assert labelled.disparity.shape == image_HW3.shape[:2] and labelled.disparity.std() > 0
    np.testing.assert_allclose(labelled.disparity, model.infer_rgb(image_HW3), rtol=1e-4, atol=1e-4)


def test_every_trained_weight_gets_a_gradient_and_position_tables_do_not_decay(family):
    """DDP would wait for one without. Activation checkpointing gives the same gradients."""
    row, recipe = tiny(f"v2-{family}-large"), replace(small_recipe(family), precision="float32")
    found = []
    for machine in (Machine(), Machine(checkpointing=True)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(TRIED, row.name, row)
            run = loop.start(replace(recipe, from_backbone=False), machine=machine)
        filled(run.model.pretrained)
        map_BHW, _ = run.network(torch.randn(1, 3, 56, 70, generator=torch.Generator().manual_seed(0)))
        map_BHW.square().mean().backward()
        trained = {name: p for name, p in run.model.named_parameters() if p.requires_grad}
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained.values())
        found.append({name: p.grad for name, p in trained.items() if name.startswith("pretrained.")})
    assert all(bool(gradient.any()) for name, gradient in found[0].items() if not name.endswith("k_proj.bias"))
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-6)
    decayed = {id(p) for group in run.optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    tables = [p for name, p in trained.items() if "position_bias" in name or "rel_pos" in name or "pos_embed" in name]
    assert tables and not any(id(p) in decayed for p in tables)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"depth-anything\[transfer\]"):
        DepthAnything("v2-beit-large")
