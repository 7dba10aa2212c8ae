"""Virtual KITTI 2, left camera.

    ROOT/vkitti2/Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg
    ROOT/vkitti2/Scene01/clone/frames/depth/Camera_0/depth_00000.png
    ROOT/vkitti2/test.txt       optional: images to use, one a line, relative to ROOT/vkitti2

Depth is uint16 centimetres; sky and everything far is 65535. Also found: the two archives unpacked side by side as
`rgb/Scene01/...` and `depth/Scene01/...`. ZoeDepth tests on a random 8 % that it draws once, unseeded, and writes to
its own test.txt: no two people have the same one, so without a list all 21,260 frames are used.
"""

from pathlib import Path

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth, metres
from depth_anything.data.benchmarks.read_ground_truth import from_files, read_uint16
from depth_anything.system.files import find, read_text

SKY = 65535
"""Stored where nothing is hit: 655.35 m."""


def read(root: Path) -> list[BenchmarkImage]:
    """The frames of test.txt, or all of them, by scene, variant and frame."""
    if (root / "test.txt").is_file():
        paths = [root / line.split()[0] for line in read_text(root / "test.txt").splitlines() if line.strip()]
    else:
        paths = find_images(root)
    images = []
    for path in paths:
        scene, variant = path.parents[4].name, path.parents[3].name
        images.append(
            from_files(f"{scene}/{variant}/{path.stem[4:]}", path, depth_path(path), _ground_truth, scene, "outdoor")
        )
    return images


def find_images(root: Path) -> list[Path]:
    """The left camera's images, by scene, variant and frame."""
    below = "Scene*/*/frames/rgb/Camera_0/rgb_*.jpg"
    return find(root, below) or find(root, f"rgb/{below}")


def depth_path(image: Path) -> Path:
    """The depth file of an image, in either layout."""
    scene, variant = image.parents[4].name, image.parents[3].name
    folder = image.parents[5].with_name("depth") if image.parents[5].name == "rgb" else image.parents[5]
    return folder / scene / variant / "frames" / "depth" / "Camera_0" / f"depth_{image.stem[4:]}.png"


def _ground_truth(path: Path) -> GroundTruth:
    raw = read_uint16(path)
    return metres(raw / 100, raw < SKY)
