"""Files of JSON lines: what is kept, and what a stop in the middle of writing leaves."""

import json

import pytest

from depth_anything.system.files import NotWritten
from depth_anything.system.json_lines import append, cut_back


def test_what_was_appended_comes_back_and_what_is_not_kept_leaves(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert cut_back(path) == [] and not path.exists()
    for step in range(4):
        append(path, {"step": step, "text": "a\u2028b\nc"})
    text = path.read_text()
    assert [entry["step"] for entry in cut_back(path)] == [0, 1, 2, 3] and path.read_text() == text
    assert [entry["step"] for entry in cut_back(path, lambda entry: entry["step"] < 2)] == [0, 1]
    append(path, {"step": 9})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 9]


@pytest.mark.parametrize("rest", ['{"st', '{"step": 1}', "é"])
def test_a_line_without_its_end_is_dropped_from_the_file(tmp_path, rest):
    path = tmp_path / "lines.jsonl"
    append(path, {"step": 0})
    with path.open("a") as file:
        file.write(rest)
    assert cut_back(path) == [{"step": 0}]
    append(path, {"step": 1})
    assert cut_back(path) == [{"step": 0}, {"step": 1}]


@pytest.mark.parametrize("damage", [b"{\n", b"\xff\n"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(damage)
    with pytest.raises(ValueError, match=r"lines\.jsonl is damaged .*: remove it"):
        cut_back(path)


def test_a_line_that_does_not_fit_is_not_there_at_all(tmp_path):
    resource = pytest.importorskip("resource")
    path, before = tmp_path / "lines", resource.getrlimit(resource.RLIMIT_FSIZE)
    append(path, {"step": 1})
    size = path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, before[1]))  # as on a full disk: part of it fits
    try:
        with pytest.raises(NotWritten, match="lines: not written"):
            append(path, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    append(path, {"step": 3})
    assert cut_back(path) == [{"step": 1}, {"step": 3}] and path.stat().st_size == 2 * size
