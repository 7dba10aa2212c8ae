"""How the command answers words that it does not know, other programs' words, pipes that close, and shells."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import run
from PIL import Image

from depth_anything.__main__ import COMMANDS
from depth_anything.cli.misspelt import OFFICIAL, RENAMED, options_of, with_new_spellings
from depth_anything.images.formats import FORMATS
from depth_anything.system import device
from depth_anything.variants import VARIANTS, get_variant, our_name


def refusal(capsys, *arguments: object) -> str:
    """The one line that the command says, with exit code 2."""
    assert run(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1, said
    return said.err.removeprefix("error: ").strip()


@pytest.fixture
def photo(tmp_path) -> Path:
    Image.new("RGB", (60, 40), (90, 120, 60)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_command_alone_prints_its_help(capsys):
    assert run() == 0
    alone = capsys.readouterr().out
    assert run("--help") == 0
    assert capsys.readouterr().out == alone
    assert "--version" in alone and all(command.__name__ in alone for command in COMMANDS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predct", "x.jpg"], "no command 'predct'; did you mean predict?"),
        (["evalute"], "no command 'evalute'; did you mean evaluate?"),
        (["qqq"], "no command 'qqq'; depth-anything --help lists them"),
        (["--vesion"], "no option '--vesion' before a command; did you mean --version?"),
        (["predict", "x.jpg", "--modle", "nano"], "predict has no --modle: did you mean --model?"),
        (["predict", "--colour=gray", "x.jpg"], "predict has no --colour: did you mean --colors?"),
        (["video", "x.mp4", "--stabilse", "off"], "video has no --stabilse: did you mean --stabilise?"),
        (["train", "nano-teacher", "--modle"], "train has no --modle: depth-anything train --help lists what it has"),
        (
            ["segment", "predct"],
            "segment has no action 'predct'; did you mean predict? expected one of predict, train, evaluate",
        ),
        (["segment", "predict", "--modle", "x"], "segment predict has no --modle: did you mean --model?"),
        (
            ["controlnet", "train", "a", "b", "c", "--stps"],
            "controlnet train has no --stps: did you mean --steps?",
        ),
        (["version"], "no command 'version'; did you mean --version?"),
        (["help"], "no command 'help'; did you mean --help?"),
        (["Predict", "x.jpg"], "no command 'Predict'; did you mean predict?"),
        (["segment"], "segment: expected an action, one of predict, train, evaluate; then its options"),
        (["data", "chek", "sa1b", "."], "data has no action 'chek'; did you mean check? expected one of check"),
        (["predict", "x.jpg", "--MODEL", "nano"], "predict has no --MODEL: did you mean --model?"),
        (["predict", "x.jpg", "-m", "nano"], "predict has no -m: did you mean --model?"),
        (["predict", "x.jpg", "-help"], "predict has no -help: did you mean --help?"),
        (["render", "out", "-q"], "render has no -q: depth-anything render --help lists what it has"),
        (
            ["video", "x.mp4", "--codec", "h265"],
            "--codec has no 'h265'; did you mean h264? expected one of vp9, av1, mpeg4, h264",
        ),
        (
            ["export", "nano", "--to=onx"],
            "--to has no 'onx'; did you mean onnx? expected one of onnx, openvino, transformers-js",
        ),
        (
            ["predict", "x.jpg", "--dtype", "fp8"],
            "--dtype has no 'fp8'; expected one of fp32, bf16, fp16",
        ),
        (
            ["evaluate", "pairs", "--data", "x", "--form", "jsn"],
            "--form has no 'jsn'; did you mean json? expected one of text, json, csv, markdown",
        ),
        (
            ["predict", "x.jpg", "--save", "colour"],
            f"unknown output 'colour': did you mean color? expected one of {', '.join(FORMATS)}",
        ),
        (["predict", "x.jpg", "--save="], "--save '': nothing would be written; expected a list such as png16,npz"),
        (
            ["predict", "x.jpg", "--fov", "0"],
            "field of view 0: expected degrees between 0 and 180, across the image's width",
        ),
    ],
)
def test_misspelt_words(capsys, words, said):
    assert refusal(capsys, *words) == said


def test_only_this_commands_options_are_suggested(capsys):
    """--models is an option of render."""
    assert refusal(capsys, "calibrate", "x.png", "1,1,1", "--models", "y").endswith("--help lists what it has")


def test_the_authors_options_are_translated(capsys):
    words = ["--encoder", "vits", "--img-path", "in", "--outdir", "out", "--pred-only", "--grayscale"]
    for start in ([], ["predict"]):
        said = refusal(capsys, *start, *words)
        for official in ("--encoder", "--img-path", "--outdir", "--pred-only", "--grayscale"):
            assert f"the authors' {official} is {OFFICIAL[official]}" in said
    assert "--model" in refusal(capsys, "predict", "--encoder=vitl", "x.jpg")
    assert "IMAGES" in refusal(capsys, "predict", "--img_path", "x.jpg")


def test_old_spellings_of_options_are_replaced_by_options_that_exist():
    commands = {command.__name__: command for command in COMMANDS}
    for command, renamed in RENAMED.items():
        known = set(options_of(commands[command]))
        assert set(renamed.values()) <= known and not set(renamed) & known
    line = ["label", "in", "out", "--unit_size=4", "--unit-size", "4", "--", "--unit-size"]
    assert with_new_spellings(line) == [
        *["label", "in", "out", "--shard-size=4", "--shard-size", "4", "--", "--unit-size"]
    ]
    assert with_new_spellings(["predict", "--unit-size=a=b"]) == ["predict", "--unit-size=a=b"]


def test_our_words_for_the_authors_exist():
    known = {option for command in COMMANDS for option in options_of(command)}
    for answer in OFFICIAL.values():
        assert set(re.findall(r"--[a-z-]+", answer)) <= known, answer


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.__name__ not in ("segment", "controlnet")])
def test_every_option_of_the_help_is_known(command, capsys):
    run(command.__name__, "--help")
    help = capsys.readouterr().out
    listed = re.findall(r"^[^\w\n-]*(?:-\w(?: \S+)?, )?(--[a-z][a-z0-9-]+)", re.sub(r"\x1b\[[\d;]*m", "", help), re.M)
    assert set(listed) == {option for option in options_of(command) if option.startswith("--")}


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("vits", "here it is v2-small, or v1-small"),
        ("vitg", "here it is v2-giant"),
        ("depth_anything_v2_vits", "here it is v2-small"),
        ("depth_anything_v2_vitb.pth", "here it is v2-base"),
        ("checkpoints/depth_anything_v2_vitl.pth", "here it is v2-large"),
        ("depth_anything_vitl14", "here it is v1-large"),
        ("Depth-Anything-V2-Small", "here it is v2-small"),
        ("Depth-Anything-V2-Small-hf", "here it is v2-small"),
        ("Depth Anything V2 Large", "here it is v2-large"),
        ("depth_anything_v2_metric_hypersim_vits", "here it is v2-metric-indoor-small"),
        ("Depth-Anything-V2-Metric-Outdoor-Base-hf", "here it is v2-metric-outdoor-base"),
        ("depth_anything_metric_depth_indoor", "here it is v1-metric-nyu-large"),
        ("v2-smal", "did you mean v2-small?"),
        ("nanoo", "did you mean nano?"),
        ("v9", ""),
        ("Depth-Anything", ""),
    ],
)
def test_other_names_of_models(name, ours):
    assert our_name(name) == ours
    if ours:
        with pytest.raises(ValueError, match=re.escape(f"unknown model {name!r}: {ours}")):
            get_variant(name)


def test_no_model_is_offered_for_another():
    for row in VARIANTS.values():
        for name in filter(None, (row.hub_file, row.transformers_repo)):
            if name != row.hub_repo:
                assert our_name(name) == f"here it is {row.name}"


def test_models_by_the_authors_names(capsys, photo, tmp_path):
    pytest.importorskip("torch", reason="the extra torch is not installed")
    said = refusal(capsys, "predict", photo, "-o", tmp_path / "out", "--model", "vits")
    assert said == "vits: no such file; here it is v2-small, or v1-small"


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "https://example.org/a.jpg"],
        ["predict", "{list}"],
        ["predict", "{photo}", "--model", "https://example.org/a.onnx"],
        ["calibrate", "https://example.org/a.png", "1,1,1"],
    ],
)
def test_addresses_are_not_paths(capsys, words, photo, tmp_path):
    (tmp_path / "list.txt").write_text("https://example.org/a.jpg\n")
    words = [word.format(photo=photo, list=tmp_path / "list.txt") for word in words]
    said = refusal(capsys, *words, "-o", tmp_path / "out")
    assert re.fullmatch(r"https://\S+: an address; expected a path. Download it, and give the file", said)


def test_a_file_url_is_answered_with_its_path(capsys, tmp_path):
    assert (
        refusal(capsys, "predict", "file:///no/where.jpg")
        == "file:///no/where.jpg: expected a path; give /no/where.jpg"
    )


@pytest.mark.skipif(os.name == "nt", reason="pipes of other systems")
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("command", ["models", "predict --help"])
def test_a_pipe_that_closes_ends_it_quietly(command, unbuffered):
    read, write = os.pipe()
    os.close(read)
    python = [sys.executable, *(["-u"] if unbuffered else []), "-m", "depth_anything", *command.split()]
    run = subprocess.run(python, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert run.stderr == "" and run.returncode == 141


def test_auto_takes_the_best_device_and_says_which(photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(device, "device_counts", lambda: {"cpu": 1, "cuda": 0, "mps": 0})
    assert run("predict", photo, "-o", tmp_path / "out", "--device", "auto") == 0
    assert "device: cpu\n" in capsys.readouterr().err
    for counts, best in (({"cpu": 1, "cuda": 2, "mps": 0}, "cuda"), ({"cpu": 1, "cuda": 0, "mps": 1}, "mps")):
        monkeypatch.setattr(device, "device_counts", lambda counts=counts: counts)
        assert device.best_device() == best


def test_an_unused_gpu_is_noted_once_if_no_device_is_given(photo, tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch", reason="the extra torch is not installed")
    monkeypatch.setattr(device, "device_counts", lambda: {"cpu": 1, "cuda": 1, "mps": 0})
    for options, times in (([], 1), ([], 0), (["--device", "cpu"], 0)):
        if times or options:
            device.note_idle.cache_clear()
        command = ["predict", photo, "-o", tmp_path / "out", "--overwrite", "--backend", "torch", *options]
        assert run(*command) == 0
        assert capsys.readouterr().err.count("cuda is available but not used; --device auto uses it") == times


def test_completion_for_shells(capsys):
    """Each word that completes is one line: in bash's table a text over two lines would be two words."""
    assert run("--tyro-print-completion", "bash") == 0
    script = capsys.readouterr().out
    spec = next(line for line in script.splitlines() if line.startswith("COMPLETION_SPEC = "))
    assert "--host-name" in spec and "\\n" not in spec
    for shell in ("zsh", "fish"):
        assert run("--tyro-print-completion", shell) == 0
        assert "depth-anything" in capsys.readouterr().out


def test_names_that_reconstruction_expects(tmp_path):
    """docs/files.md: a 16-bit map under the name of its image, from 0 to 65535, and COLMAP's files."""
    import cv2

    photo = Path(__file__).parents[2] / "examples/kodak_24.jpg"
    assert run("predict", photo, "-o", tmp_path / "depths", "--save", "png16", "--name", "{stem}.{ext}") == 0
    stored_HW = cv2.imread(str(tmp_path / "depths" / f"{Path(photo).stem}.png"), cv2.IMREAD_UNCHANGED)
    assert stored_HW.dtype == "uint16" and stored_HW.ndim == 2 and (stored_HW.min(), stored_HW.max()) == (0, 65535)
    command = ["predict", photo, "-o", tmp_path / "sparse", "--save", "colmap_camera", "--name", "{kind}.{ext}"]
    assert run(*command) == 1 + 1, "the camera is not known"
    assert run(*command, "--fov", 65) == 0
    assert [path.name for path in (tmp_path / "sparse").iterdir()] == ["cameras.bin"]
    command = ["predict", photo, "-o", tmp_path / "dense", "--save", "colmap", "--near", 1, "--far", 9]
    assert run(*command, "--name", "{stem}.jpg.geometric.{ext}") == 0
    assert [path.name for path in (tmp_path / "dense").iterdir()] == [f"{Path(photo).stem}.jpg.geometric.bin"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("segment train nano-scenes-linear out --data . --from-scratch --start-from nano", "--start-from nano: "),
        ("data check folder . --sky segformer", "--sky segformer: folder has no labels"),
        ("data check folder . --segmenter x", "--segmenter, --cache: read only with --sky segformer"),
        ("data check tartanair . --cache x", "--segmenter, --cache: read only with --sky segformer"),
        ("controlnet generate a.png x --base b --is-control --model v1-large", "--model v1-large: no map is predicted"),
        ("calibrate a.png 1,1,1 2,2,2 --image b", "--image b: read only with the folder of a COLMAP model"),
        ("calibrate a.png points.csv --image b", "--image b: read only with the folder of a COLMAP model"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(command, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*command.split()) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")
