"""ControlNet: the condition bit for bit, zero convolutions, V1's layout, training and use on a tiny base model."""

import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from command import run
from PIL import Image
from transfer_inputs import tiny_unet, write_base

from depth_anything.predict.prediction import Prediction
from depth_anything.transfer import controlnet, controlnet_train
from depth_anything.transfer.controlnet import CONFIG, condition, load_controlnet, save_controlnet
from depth_anything.transfer.controlnet_train import ControlRecipe, ControlSet, control_loss, predicted

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-sd")
    write_base(folder)
    return folder


# -- the condition --


def test_the_condition_is_the_documented_one_bit_for_bit():
    disparity_HW = np.random.default_rng(0).uniform(0.3, 7, (24, 32)).astype(np.float32)
    control_HW3 = Prediction(disparity=disparity_HW).control_image()
    low, high = disparity_HW.min(), disparity_HW.max()
    documented_HW = np.round((disparity_HW - low) / (high - low) * 255).astype(np.uint8)
    for channel in range(3):
        assert np.array_equal(control_HW3[..., channel], documented_HW)
    tensor = condition(control_HW3)
    assert tensor.shape == (1, 3, 24, 32) and tensor.dtype == torch.float32
    assert np.array_equal(tensor[0].numpy().transpose(1, 2, 0), control_HW3.astype(np.float32) / 255)
    nearest = np.unravel_index(disparity_HW.argmax(), disparity_HW.shape)
    assert tensor[0, 0][nearest] == 1 and tensor.min() == 0
    assert condition(control_HW3, (16, 16)).shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match="expected uint8"):
        condition(control_HW3[..., 0])


def test_the_condition_reaches_diffusers_unchanged():
    from diffusers.image_processor import VaeImageProcessor

    control_HW3 = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    processor = VaeImageProcessor(vae_scale_factor=8, do_convert_rgb=True, do_normalize=False)
    assert torch.equal(processor.preprocess(Image.fromarray(control_HW3)), condition(control_HW3))


# -- the network --


def test_zero_convolutions_leave_the_unet_as_it_is():
    unet = tiny_unet().eval()
    model = diffusers.ControlNetModel.from_unet(unet).eval()
    noisy, steps, text = torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), torch.randn(2, 5, 16)
    with torch.no_grad():
        plain = unet(noisy, steps, encoder_hidden_states=text, return_dict=False)[0]
        controlled = predicted(unet, model, noisy, steps, text, torch.rand(2, 3, 64, 64))
        assert torch.equal(plain, controlled)
        for parameter in model.controlnet_mid_block.parameters():
            parameter.add_(0.5)
        assert not torch.allclose(plain, predicted(unet, model, noisy, steps, text, torch.rand(2, 3, 64, 64)))


def test_v1s_configuration_is_stable_diffusion_15s_controlnet():
    with torch.device("meta"):
        model = diffusers.ControlNetModel.from_config(CONFIG)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert sum(tensor.numel() for tensor in model.parameters()) == 361_279_120  # of every SD 1.5 ControlNet
    assert shapes["controlnet_cond_embedding.conv_in.weight"] == (16, 3, 3, 3)
    assert shapes["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"] == (320, 768)
    assert len([key for key in shapes if key.startswith("controlnet_down_blocks")]) == 24


def test_v1s_layout_is_read_with_and_without_its_config(tmp_path, monkeypatch):
    small = {**CONFIG, "block_out_channels": [16, 32, 32, 32], "norm_num_groups": 4, "cross_attention_dim": 16}
    torch.manual_seed(0)
    model = diffusers.ControlNetModel.from_config(small)
    model.save_pretrained(tmp_path / "theirs")
    save_controlnet(model, tmp_path)
    configs = [json.loads((folder / "config.json").read_text()) for folder in (tmp_path, tmp_path / "theirs")]
    assert configs[0] == configs[1]
    shutil.rmtree(tmp_path / "theirs")
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    monkeypatch.setattr(controlnet, "CONFIG", small)
    for path in (tmp_path, tmp_path / "diffusion_pytorch_model.safetensors"):
        found = load_controlnet(path).state_dict()
        assert all(torch.equal(tensor, found[key]) for key, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match="no ControlNet"):
        load_controlnet(tmp_path / "nothing")


def test_the_loss_is_the_mean_squared_error_of_the_noise():
    unet, scheduler = tiny_unet().eval(), diffusers.DDPMScheduler()
    model = diffusers.ControlNetModel.from_unet(unet).eval()
    latents, noise, steps = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    text, control = torch.randn(2, 5, 16), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = control_loss(unet, model, scheduler, latents, noise, steps, text, control)
        alpha = scheduler.alphas_cumprod[steps].view(2, 1, 1, 1)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        answer = unet(noisy, steps, encoder_hidden_states=text, return_dict=False)[0]
    assert found.item() == pytest.approx(((answer - noise) ** 2).mean().item(), rel=1e-5)


@pytest.mark.slow
def test_the_right_condition_helps_after_200_steps():
    """Latents that follow the depth: held out, the right control image must beat a shuffled one."""
    torch.manual_seed(0)
    unet, scheduler = tiny_unet(), diffusers.DDPMScheduler()

    def draw(count: int, generator: torch.Generator):
        depth = torch.rand(count, 1, 8, 8, generator=generator)
        signs = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 4, 1, 1)
        latents = signs * (depth - 0.5) * 12**0.5  # of spread 1, and as rough as the noise
        depth = depth.repeat_interleave(8, 2).repeat_interleave(8, 3)
        noise = torch.randn(count, 4, 8, 8, generator=generator)
        return latents, noise, torch.randint(1000, (count,), generator=generator), depth.expand(-1, 3, -1, -1)

    text = torch.zeros(16, 5, 16)
    draws = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(unet.parameters(), 2e-3)
    for _ in range(200):  # the base model: a denoiser that knows no depth
        latents, noise, steps, _ = draw(16, draws)
        answer = unet(scheduler.add_noise(latents, noise, steps), steps, encoder_hidden_states=text, return_dict=False)[
            0
        ]
        loss = torch.nn.functional.mse_loss(answer, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unet.requires_grad_(False).eval()
    model = diffusers.ControlNetModel.from_unet(unet).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(200):
        latents, noise, steps, control = draw(16, draws)
        loss = control_loss(unet, model, scheduler, latents, noise, steps, text, control)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    latents, noise, steps, control = draw(16 * 16, torch.Generator().manual_seed(99))
    right = wrong = 0.0
    with torch.no_grad():
        for k in range(0, 256, 16):
            one = (latents[k : k + 16], noise[k : k + 16], steps[k : k + 16], text)
            right += control_loss(unet, model.eval(), scheduler, *one, control[k : k + 16]).item() / 16
            wrong += control_loss(unet, model.eval(), scheduler, *one, control.roll(7, 0)[k : k + 16]).item() / 16
    assert right < 0.7 * wrong, (right, wrong)


# -- the commands --


@pytest.fixture
def images(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures" / "deep"
    folder.mkdir(parents=True)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(folder / f"p{number}.jpg")
    (folder / "p0.txt").write_text("a red box\n")
    return tmp_path / "pictures"


def test_the_documented_commands_from_images_to_a_generated_one(images, base, tmp_path, capsys):
    controls, out = tmp_path / "controls", tmp_path / "mine"
    assert run("predict", images, "--save", "control", "-o", controls) == 0
    samples = ControlSet(images, controls)
    assert len(samples) == 3 and samples[0].caption == "a red box" and samples[1].caption == ""
    assert samples[0].control_HW3.shape == (70, 90, 3)
    train = ("controlnet", "train", images, controls, out, "--base", base, "--steps", 2, "--batch", 2, "--size", 64)
    assert run(*train) == 0
    assert {"config.json", "diffusion_pytorch_model.safetensors"} <= {path.name for path in out.iterdir()}
    assert len((out / "curve.jsonl").read_text().splitlines()) == 2
    photo = images / "deep" / "p0.jpg"
    paint = ("controlnet", "generate", photo, "a tree", "--base", base, "--controlnet", out, "-o", tmp_path / "painted")
    assert run(*paint, "--size", 64, "--steps", 2) == 0
    with Image.open(tmp_path / "painted" / "p0_painted.png") as painted:
        assert painted.size == (80, 64)
    with (
        Image.open(tmp_path / "painted" / "p0_control.png") as one,
        Image.open(controls / "deep" / "p0_control.png") as two,
    ):
        assert np.array_equal(np.asarray(one), np.asarray(two))
    assert run(*paint, "--size", 64, "--steps", 2) == 2  # never over existing files
    assert "--overwrite" in capsys.readouterr().err


def test_an_interrupted_training_resumes_to_the_same_weights(images, base, tmp_path, monkeypatch):
    controls = tmp_path / "controls"
    assert run("predict", images, "--save", "control", "-o", controls) == 0
    samples, recipe = ControlSet(images, controls), ControlRecipe(steps=3, batch=1, size=64, learning_rate=1e-3)
    whole = controlnet_train.train(recipe, base, samples, tmp_path / "whole")
    plain, calls = controlnet_train.control_loss, []

    def stops(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(controlnet_train, "control_loss", stops)
    with pytest.raises(KeyboardInterrupt):
        controlnet_train.train(recipe, base, samples, tmp_path / "parts", save_seconds=0)
    resumed = controlnet_train.train(recipe, base, samples, tmp_path / "parts", save_seconds=0)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert any(tensor.abs().max() > 0 for key, tensor in resumed.state_dict().items() if "controlnet_mid" in key)


def test_what_is_missing_is_one_line(images, tmp_path, capsys):
    assert run("controlnet", "train", images, tmp_path, tmp_path / "out", "--base", tmp_path) == 2
    assert "depth-anything predict" in capsys.readouterr().err
    for wrong in ({"steps": 0}, {"batch": 0}, {"seed": -1}, {"size": 100}, {"learning_rate": 0.0}):
        with pytest.raises(ValueError, match="expected"):
            ControlRecipe(**wrong)
    Image.new("RGB", (8, 8)).save(images / "deep" / "p0.png")
    with pytest.raises(ValueError, match=r"p0.jpg: another image there differs in its ending only"):
        ControlSet(images, tmp_path)
    photo = images / "deep" / "p0.jpg"
    assert run("controlnet", "generate", photo, "x", "--base", tmp_path, "--controlnet", tmp_path / "none") == 2
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "file").touch()
    assert run("controlnet", "generate", photo, "x", "--base", tmp_path, "-o", tmp_path / "file") == 2
    assert "expected a folder for the results" in capsys.readouterr().err  # before hours of work


@pytest.mark.parametrize("kind", ["cut", "lfs", "junk", "nan", "nan in a folder"])
def test_odd_weights_are_named(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(controlnet, "CONFIG", dict(diffusers.ControlNetModel.from_unet(tiny_unet()).config))
    model = diffusers.ControlNetModel.from_unet(tiny_unet())
    save_controlnet(model, tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    for good in (tmp_path, path, tmp_path / "weights.pth"):
        assert load_controlnet(good).num_parameters() == model.num_parameters()
    with torch.no_grad():
        model.controlnet_mid_block.bias[3] = torch.nan
    match kind:
        case "cut":
            path.write_bytes(path.read_bytes()[:50_000])
        case "lfs":
            path.write_text("version https://git-lfs.github.com/spec/v1\nsize 1\n")
        case "junk":
            path.write_bytes(bytes(range(256)))
        case _:
            save_controlnet(model, tmp_path)
    said = {"cut": "cut short", "lfs": "Git LFS pointer", "junk": "diffusion_pytorch_model"}
    with pytest.raises(ValueError, match=said.get(kind, "controlnet_mid_block.bias are NaN")) as line:
        load_controlnet(tmp_path if "folder" in kind else path)
    assert "\n" not in str(line.value)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"steps": 0}, {"size": 0}, {"guidance": np.nan}, {"strength": np.inf}])
def test_numbers_that_give_no_image_are_refused(wrong, tmp_path):
    with pytest.raises(ValueError, match="expected 1, 1 and 8, or more, and finite numbers"):
        controlnet.generate(np.zeros((8, 8, 3), np.uint8), "x", tmp_path, None, **wrong)  # type: ignore[arg-type]


def test_a_base_with_nan_is_named(base, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    unet = tiny_unet()
    with torch.no_grad():
        unet.conv_out.bias[0] = torch.inf
    unet.save_pretrained(tmp_path / "base" / "unet")
    model = diffusers.ControlNetModel.from_unet(tiny_unet())
    for load in (
        lambda: controlnet.load_base(tmp_path / "base", "unet"),
        lambda: controlnet.generate(np.zeros((8, 8, 3), np.uint8), "x", tmp_path / "base", model),
    ):
        with pytest.raises(ValueError, match=r"unet: 1 of the 4 numbers in the tensor conv_out.bias are NaN"):
            load()
