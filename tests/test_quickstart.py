"""docs/quickstart.md, docs/serve.md and docs/video.md: what they show is run."""

import functools
import io
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from clips import Camera, write_video
from PIL import Image

from depth_anything.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]
QUICKSTART = (ROOT / "docs/quickstart.md").read_text()
SERVE = (ROOT / "docs/serve.md").read_text()
VIDEO = (ROOT / "docs/video.md").read_text()


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block; the language of a plain one is empty."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str, language: str) -> list[list[str]]:
    lines = [line for kind, block in blocks(text) if kind == language for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("depth-anything ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("quickstart")
    (folder / "examples").symlink_to(ROOT / "examples")
    write_video(folder / "clip.mp4", frames=12)
    return folder


@pytest.mark.slow
def test_commands_and_python_in_their_order(folder, monkeypatch):
    monkeypatch.chdir(folder)
    ran = 0
    for language, block in blocks(QUICKSTART):
        if language == "bash":
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                assert words[0] == "depth-anything"
                main(words[1:])
                ran += 1
        elif language == "python":
            exec(compile(block, "quickstart.md", "exec"), {})
            ran += 1
    assert ran >= 8
    for written in (
        "photo/kodak_24_side.png",
        "photo/again_color.png",
        "video/clip_side.mp4",
        "video/clip_disparity.mkv",
        "artist/kodak_20_mesh.glb",
        "artist/kodak_20_disparity.exr",
        "robot/kodak_24_depth_m.npz",
        "labels/manifest",
    ):
        assert (folder / written).exists(), written


@pytest.mark.parametrize("document", [QUICKSTART, SERVE], ids=["quickstart", "serve"])
def test_commands_that_need_more_are_at_least_understood(document, monkeypatch):
    """Those in plain blocks want official weights, data sets or hours: here their options are parsed, nothing runs."""
    parsed = []

    def recorder(command):
        @functools.wraps(command)
        def record(*args, **kwargs):
            parsed.append(command.__name__)

        return record

    monkeypatch.setattr("depth_anything.__main__.COMMANDS", tuple(recorder(command) for command in COMMANDS))
    lines = commands(document, "")
    for line in lines:
        main(line)
    assert parsed == [line[0] for line in lines] and parsed


def test_links_and_images_exist():
    for document in (QUICKSTART, SERVE, VIDEO):
        for target in re.findall(r"\]\(([^)#]+)\)", document):
            if not target.startswith("http"):
                assert (ROOT / "docs" / target).exists(), target
    sizes = [path.stat().st_size for path in (ROOT / "docs/images").iterdir()]
    assert sizes and max(sizes) < 150_000


WRITTEN = {
    "video clip.mp4 -o out": ["clip_color.mp4"],
    "video clip.mp4 -o out --save side,gray16,npz": ["clip_side.mp4", "clip_disparity.mkv", "clip_disparity_npz"],
    "video clip.mp4 -o out --save sbs --codec h264": ["clip_sbs.mp4"],
    "video shots/ -o out --fps 24 --save exr": ["shots_disparity_exr", "shots_frames.csv"],
    "video --source 0 -o out": ["camera0_color.mp4"],
    "predict large.jpg --upscale 2": ["large_color.png", "large_disparity.png"],
    "predict large.jpg --tiles 4": ["large_color.png", "large_disparity.png"],
    "predict sphere.jpg --panorama --save color,glb --near 1 --far 20": ["sphere_color.png", "sphere_mesh.glb"],
}
"""What docs/video.md shows, and what must lie in out/ afterwards."""


@pytest.mark.parametrize("words", commands(VIDEO, "bash"), ids=" ".join)
def test_the_commands_for_videos_and_large_images(words, tmp_path, monkeypatch):
    cv2 = pytest.importorskip("cv2", reason="the extra video is not installed")
    pytest.importorskip("OpenEXR", reason="the extra 3d is not installed")
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", frames=5)
    photo = Image.open(ROOT / "examples/kodak_08.jpg")
    photo.resize((320, 240)).save(tmp_path / "large.jpg")
    photo.resize((320, 160)).save(tmp_path / "sphere.jpg")
    (tmp_path / "shots").mkdir()
    for index in range(3):
        photo.resize((64, 48)).save(tmp_path / f"shots/shot_{index:04d}.png")
    monkeypatch.setattr(cv2, "VideoCapture", type("Camera", (Camera,), {}))
    previous = signal.getsignal(signal.SIGINT)
    main(words)
    signal.signal(signal.SIGINT, previous)
    expected = WRITTEN[" ".join(words)]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= set(expected)


@pytest.mark.slow
def test_the_servers_commands(folder):
    """curl and the Python of docs/serve.md, against a server on another port."""
    pytest.importorskip("fastapi", reason="the extra web is not installed")
    from serving import serving

    space = {}
    with serving() as server:
        for language, block in blocks(SERVE):
            block = block.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
            if language == "python":
                exec(compile(block.replace("examples/", f"{ROOT}/examples/"), "serve.md", "exec"), space)
            elif "curl" in block:
                subprocess.run(["bash", "-ec", block], cwd=folder, check=True, timeout=120)
    assert space["disparity"].shape == (768, 512)
    assert Image.open(io.BytesIO(space["colors_png"])).size == (768, 512) and space["reply"]["frame"] == 3
    assert (folder / "disparity.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "mesh.glb").read_bytes().startswith(b"glTF")
