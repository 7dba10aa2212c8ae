"""The meshes that `predict` writes, in Khronos' validator of glTF under node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from npm import absent, installed
from PIL import Image

from depth_anything.__main__ import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "kodak_24.jpg"
PROGRAM = """
const { createRequire } = await import("node:module");
const { readFileSync } = await import("node:fs");
const validator = createRequire(process.argv[1] + "/")("gltf-validator");
const report = await validator.validateBytes(new Uint8Array(readFileSync(process.argv[2])));
console.log(JSON.stringify(report));
"""


def validated(path: Path) -> dict:
    node = shutil.which("node")
    if node is None:
        absent("node is absent: make system installs it")
    command = [
        node,
        "--input-type=module",
        "-e",
        PROGRAM,
        str(installed("gltf-validator", "2.0.0-dev.3.10")),
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_meshes_of_an_image_and_of_a_panorama(tmp_path):
    pytest.importorskip("trimesh", reason="the extra 3d is not installed")
    near_far = ["--near", "1", "--far", "9", "--threads", "1", "--save", "glb"]
    main(["predict", str(EXAMPLE), "-o", str(tmp_path / "image"), "--fov", "60", *near_far])
    sphere = tmp_path / "kodak_24.png"
    Image.open(EXAMPLE).resize((320, 160)).save(sphere)
    main(["predict", str(sphere), "-o", str(tmp_path / "sphere"), "--panorama", *near_far])
    for folder in ("image", "sphere"):
        path = tmp_path / folder / "kodak_24_mesh.glb"
        report = validated(path)
        assert report["mimeType"] == "model/gltf-binary" and report["info"]["totalTriangleCount"] > 1000
        issues = report["issues"]
        assert issues["numErrors"] == issues["numWarnings"] == 0, issues["messages"][:3]
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 :] = b""
    path.write_bytes(damaged)
    assert validated(path)["issues"]["numErrors"] > 0
