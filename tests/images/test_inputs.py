"""Finding images: what is found, in which order, and names of outputs that never collide."""

import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sample_images import encode, photo

from depth_anything.images.inputs import find_images
from depth_anything.images.read import ImageError, read_image


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Images (empty files will do) and other things, and the current folder in their midst."""
    for name in ("a/x.jpg", "b/x.jpg", "b/deep/y.PNG", "x.jpg", "x.png", "b/notes.md", "b/._x.jpg", "b/.cache/z.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stems(*inputs: str, **options) -> dict[str, str]:
    """Path -> stem."""
    return {source.name: source.stem for source in find_images(inputs, **options)}


def test_files_and_folders(tree):
    assert stems("x.jpg") == {"x.jpg": "x"}
    assert stems("b") == {"b/x.jpg": "x", "b/deep/y.PNG": "deep/y"}
    assert list(stems(".")) == ["x.jpg", "x.png", "a/x.jpg", "b/x.jpg", "b/deep/y.PNG"]
    assert stems(".", exclude="b") == {"x.jpg": "x.jpg", "x.png": "x.png", "a/x.jpg": "a/x"}
    assert stems(str(tree / "b"), "b/x.jpg") == {str(tree / "b/x.jpg"): "x", str(tree / "b/deep/y.PNG"): "deep/y"}


def test_names_never_collide(tree):
    assert stems("a/x.jpg", "b/x.jpg") == {"a/x.jpg": "a/x", "b/x.jpg": "b/x"}
    assert stems("a", "b") == {"a/x.jpg": "a/x", "b/x.jpg": "b/x", "b/deep/y.PNG": "deep/y"}
    assert stems("x.jpg", "x.png") == {"x.jpg": "x.jpg", "x.png": "x.png"}
    assert stems("x.jpg", "x.png", "a/x.jpg") == {"x.jpg": "x.jpg", "x.png": "x.png", "a/x.jpg": "a/x"}
    (tree / "x.jpg.png").touch()  # would be x.jpg, which is x.jpg's name beside x.png
    assert sorted(stems("x.jpg", "x.png", "x.jpg.png").values()) == ["x.jpg", "x.jpg.png", "x.png"]


@given(st.sets(st.tuples(st.sampled_from(["", "a/", "a/a/", "A/"]), st.sampled_from(["x", "X", "x.jpg"]),
                         st.sampled_from([".jpg", ".png", ".JPG"])), min_size=1))  # fmt: skip
def test_no_two_outputs_share_a_name(parts):
    """Not even on a disk that ignores case, unless the inputs themselves would be one file there."""
    paths = sorted("".join(part) for part in parts)
    found = find_images(paths)
    assert [source.name for source in found] == paths
    names = [source.stem.casefold() for source in found]
    assert len(set(names)) >= len({path.casefold() for path in paths})
    assert len({source.stem for source in found}) == len(paths)
    if len(paths) == 1:
        assert found[0].stem == Path(paths[0]).stem


def test_patterns_and_lists(tree):
    assert list(stems("b/**/*.[pP][nN][gG]")) == ["b/deep/y.PNG"]
    assert list(stems("*/x.jpg")) == ["a/x.jpg", "b/x.jpg"]
    (tree / "b/list.txt").write_text("x.jpg\n\nb/deep\ndeep/y.PNG\nmissing.jpg\n", encoding="utf-8-sig")
    # x.jpg from here; deep/y.PNG from the list's own folder, found already; a missing file is kept for its error
    assert list(stems("b/list.txt")) == ["x.jpg", "b/deep/y.PNG", "missing.jpg"]
    Path("[1].jpg").touch()  # a name that looks like a pattern
    assert stems("[1].jpg") == {"[1].jpg": "[1]"}


def test_missing_files_are_kept_for_their_line(tree):
    sources = find_images(["nowhere.jpg", "x.jpg"])
    assert [source.name for source in sources] == ["nowhere.jpg", "x.jpg"]
    with pytest.raises(ImageError, match=r"nowhere.jpg: no such file"):
        read_image(sources[0])


def test_standard_input(monkeypatch, tree):
    data = encode(Image.fromarray(photo()), "PNG")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    (source,) = find_images(["-", "-"])
    assert source.stem == "stdin" and source.name == "standard input"
    assert (read_image(source) == photo()).all()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"nonsense")))
    with pytest.raises(ImageError, match="standard input: not an image"):
        read_image(find_images(["-"])[0])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "no input"),
        (["empty"], "empty: no image in this folder"),
        (["*.tiff"], r"\*.tiff: no image matches"),
        (["blank.txt"], "the list is empty"),
        (["latin.txt"], "not a text file in UTF-8"),
    ],
)
def test_nothing_found_says_so(tree, inputs, message):
    (tree / "empty").mkdir()
    (tree / "blank.txt").write_text("\n \n")
    (tree / "latin.txt").write_bytes(b"caf\xe9.jpg\n")
    with pytest.raises(ImageError, match=message) as error:
        find_images(inputs)
    assert "\n" not in str(error.value)


def test_a_loop_of_links_ends(tree):
    os.symlink(tree / "b", tree / "b/deep/again", target_is_directory=True)
    assert list(stems("b")) == ["b/x.jpg", "b/deep/y.PNG"]
