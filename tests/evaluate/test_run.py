"""Models over a test set: means, resuming, skipping, one reading for all models."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth
from depth_anything.data.benchmarks.sets import BENCHMARKS, Contents
from depth_anything.evaluate.candidate import Candidate
from depth_anything.evaluate.journal import Journal, file_name
from depth_anything.evaluate.protocol import Cut, get_protocol
from depth_anything.evaluate.run import SetScores, evaluate_set, predict

SHAPE = (20, 30)
METRIC = replace(get_protocol("zoedepth-metric"), name="test-metric", cuts={}, default_cut=Cut(), flip_average=False)
DEPTH = np.linspace(1, 5, 600).reshape(SHAPE)


def contents(count=4, valid=None, reads=None):
    """A test set whose image number i is grey of value i, all with one truth."""

    def case(i):
        def read_image():
            if reads is not None:
                reads.append(i)
            return np.full((*SHAPE, 3), i, np.uint8)

        mask = np.ones(SHAPE, bool) if valid is None else valid[i]
        return BenchmarkImage(
            key=f"scene{i // 3}/{i}",
            read_image=read_image,
            read_ground_truth=lambda: GroundTruth(DEPTH, mask, "metric_depth"),
            group=f"scene{i // 3}",
            files=(),
        )

    return Contents(BENCHMARKS["kitti"], [case(i) for i in range(count)], expected=count)


def off_by_tenths(name="tenths", calls=None):
    """Metres that are too far by 10 % times the image's grey value."""

    def answer(image_HW3, key):
        if calls is not None and key != "probe":
            calls.append(key)
        return DEPTH * (1 + 0.1 * image_HW3[0, 0, 0])

    return Candidate(name, "depth_m", answer)


def test_mean_over_images_and_over_scenes(tmp_path):
    (result,) = evaluate_set(contents(), [off_by_tenths()], METRIC, tmp_path)
    assert result.mean("abs_rel") == pytest.approx((0 + 0.1 + 0.2 + 0.3) / 4)
    assert result.mean("delta1") == pytest.approx(0.75)
    by_scene = replace(METRIC, name="by-scene", averaging="scene_group")
    (result,) = evaluate_set(contents(), [off_by_tenths()], by_scene, tmp_path)
    assert result.mean("abs_rel") == pytest.approx(((0 + 0.1 + 0.2) / 3 + 0.3) / 2)


@given(st.permutations(range(7)))
def test_no_order_of_images_changes_a_mean(order):
    values = [0.1, 0.5, 0.2, 0.9, 0.4, 0.3, 0.7]
    for averaging in ("image", "scene_group"):
        protocol = replace(METRIC, averaging=averaging)

        def mean(keys, protocol=protocol):
            scores = {str(i): {"abs_rel": values[i]} for i in keys}
            return SetScores("m", "s", protocol, 7, scores, {str(i): str(i % 3) for i in range(7)}, {}).mean("abs_rel")

        assert mean(order) == pytest.approx(mean(range(7)), rel=1e-12)


def test_an_interrupted_run_resumes_to_the_same_numbers(tmp_path):
    def stops(image_HW3, key):
        if image_HW3[0, 0, 0] == 2:
            raise KeyboardInterrupt
        return off_by_tenths().predict(image_HW3, key)

    with pytest.raises(KeyboardInterrupt):
        evaluate_set(contents(), [Candidate("tenths", "depth_m", stops)], METRIC, tmp_path)
    journal = tmp_path / "test-metric/kitti/tenths.jsonl"
    assert len(journal.read_text().splitlines()) == 1 + 2
    with journal.open("a") as file:
        file.write('{"key": "scene0/2", "sco')  # killed in the middle of a line
    calls = []
    (result,) = evaluate_set(contents(), [off_by_tenths(calls=calls)], METRIC, tmp_path)
    assert calls == ["scene0/2", "scene1/3"]
    (fresh,) = evaluate_set(contents(), [off_by_tenths()], METRIC, tmp_path / "fresh")
    assert result.scores == fresh.scores


def test_another_definition_of_the_protocol_is_refused(tmp_path):
    evaluate_set(contents(), [off_by_tenths()], METRIC, tmp_path)
    changed = replace(METRIC, default_cut=Cut(farthest_m=3))
    with pytest.raises(ValueError, match="choose another --out, or remove the file"):
        evaluate_set(contents(), [off_by_tenths()], changed, tmp_path)


def test_scores_of_another_model_with_the_same_name_are_never_taken_over(tmp_path):
    evaluate_set(contents(), [off_by_tenths()], METRIC, tmp_path)
    retrained = Candidate("tenths", "depth_m", lambda image_HW3, key: DEPTH * 1.01)
    with pytest.raises(ValueError, match="has scores of another answer to a probe picture: choose another --out"):
        evaluate_set(contents(), [retrained], METRIC, tmp_path)
    nearly = Candidate("tenths", "depth_m", lambda image, key: off_by_tenths().predict(image, key) * (1 + 1e-6))
    (kept,) = evaluate_set(contents(), [nearly], METRIC, tmp_path)  # another processor, the same model
    assert kept.mean("abs_rel") == pytest.approx(0.15, rel=1e-12)


def test_finished_maps_are_read_anew_every_time(tmp_path):
    (first,) = evaluate_set(contents(), [replace(off_by_tenths(), finished=True)], METRIC, tmp_path)
    changed = Candidate("tenths", "depth_m", lambda image_HW3, key: DEPTH, finished=True)
    (second,) = evaluate_set(contents(), [changed], METRIC, tmp_path)
    assert first.mean("abs_rel") == pytest.approx(0.15)
    assert second.mean("abs_rel") == 0


def test_images_are_read_once_for_all_models_and_not_at_all_when_done(tmp_path):
    reads = []
    evaluate_set(contents(reads=reads), [off_by_tenths("a"), off_by_tenths("b")], METRIC, tmp_path)
    assert reads == [0, 1, 2, 3]
    evaluate_set(contents(reads=reads), [off_by_tenths("a"), off_by_tenths("b")], METRIC, tmp_path)
    assert reads == [0, 1, 2, 3]


def test_images_with_few_pixels_are_skipped_and_named_or_refused(tmp_path):
    valid = [np.ones(SHAPE, bool) for _ in range(4)]
    valid[3] = np.zeros(SHAPE, bool)
    valid[3][0, :9] = True
    skipping = replace(METRIC, name="skipping", few_valid="skip")
    (result,) = evaluate_set(contents(valid=valid), [off_by_tenths()], skipping, tmp_path)
    assert list(result.skipped) == ["scene1/3"]
    assert "only 9 pixels" in result.skipped["scene1/3"]
    assert result.mean("abs_rel") == pytest.approx(0.1)
    (again,) = evaluate_set(contents(valid=valid), [off_by_tenths()], skipping, tmp_path)
    assert again.skipped == result.skipped
    with pytest.raises(ValueError, match="kitti, image scene1/3: only 9 pixels"):
        evaluate_set(contents(valid=valid), [off_by_tenths()], METRIC, tmp_path)


def test_an_image_on_its_side_is_refused(tmp_path):
    whole = contents(1)
    turned = replace(whole.images[0], read_image=lambda: np.zeros((30, 20, 3), np.uint8))
    with pytest.raises(ValueError, match="one is turned"):
        evaluate_set(Contents(whole.benchmark, [turned], 1), [off_by_tenths()], METRIC, tmp_path)


def test_flip_average_mirrors_there_and_back_but_not_for_finished_maps():
    image_HW3 = np.zeros((2, 3, 3), np.uint8)
    image_HW3[:, 0] = 6  # a mark on the left
    marks = Candidate("marks", "depth_m", lambda image, key: image[:, :, 0] + np.arange(3.0))
    flipping = replace(METRIC, flip_average=True)
    assert predict(marks, image_HW3, "k", METRIC, Cut())[0].tolist() == [6, 1, 2]
    assert predict(marks, image_HW3, "k", flipping, Cut())[0].tolist() == [(6 + 6 + 2) / 2, 1, (2 + 0) / 2]
    assert predict(replace(marks, finished=True), image_HW3, "k", flipping, Cut())[0].tolist() == [6, 1, 2]


def test_with_a_kb_crop_the_model_sees_the_crop_and_its_map_lies_where_it_was_taken():
    image_HW3 = np.zeros((370, 1226, 3), np.uint8)
    image_HW3[18:, 5:1221] = 9
    seen = []

    def answer(image_HW3, key):
        seen.append(image_HW3.shape)
        assert (image_HW3 == 9).all()
        return np.full((176, 608), 4.0)

    map_HW = predict(Candidate("c", "depth_m", answer), image_HW3, "k", METRIC, Cut(crop="kb+garg"))
    assert seen == [(352, 1216, 3)]
    assert np.array_equal(map_HW == 4, image_HW3[:, :, 0] == 9)


def test_journal_keeps_the_first_entry_and_refuses_a_damaged_file(tmp_path):
    path = tmp_path / "a" / "b.jsonl"
    journal = Journal(path, {"model": "m"})
    journal.add("k", value=1)
    journal.add("k", value=2)
    assert Journal(path, {"model": "m"}).entries == {"k": {"key": "k", "value": 1}}
    assert json.loads(path.read_text().splitlines()[0]) == {"model": "m"}
    path.write_text(path.read_text() + "nonsense\n")
    with pytest.raises(ValueError, match="is damaged"):
        Journal(path, {"model": "m"})
    assert file_name("hf:Intel/dpt-large") == "hf_Intel_dpt-large"
