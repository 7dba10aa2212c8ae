"""Proposing pairs: points in calm places, votes of several models, and a file that a person settles."""

import json

import numpy as np
import pytest
from PIL import Image

from depth_anything.data.benchmarks import da2k
from depth_anything.evaluate.candidate import Candidate
from depth_anything.evaluate.da2k_propose import draw_pairs, grid_points, key_points, propose, sam_points, vote
from depth_anything.evaluate.run_tables import run

HEIGHT, WIDTH = 90, 120


def column(image_HW3, key):
    return np.broadcast_to(np.arange(float(image_HW3.shape[1])), image_HW3.shape[:2])


RIGHT = Candidate("right", "disparity", column)
RIGHT_IN_METRES = Candidate("right in metres", "depth_m", lambda image, key: 200 - column(image, key))
LEFT = Candidate("left", "disparity", lambda image, key: -column(image, key))
FLAT = Candidate("flat", "disparity", lambda image, key: np.zeros(image.shape[:2]))


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("indoor/a.jpg", "indoor/b.png", "aerial/c.jpg"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)).save(path)
    return tmp_path / "pictures"


def test_models_that_agree_leave_nothing_to_settle_and_metres_are_turned(images, tmp_path):
    assert propose(images, [RIGHT, RIGHT_IN_METRES], tmp_path / "out") == []
    assert json.loads((tmp_path / "out/annotations.json").read_text()) == {}


def test_votes_and_ties():
    image_HW3 = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pairs = np.array([[[5, 80], [9, 10]], [[5, 20], [70, 20]]])
    sideways, level = vote([RIGHT, LEFT, FLAT], image_HW3, "p", pairs)[0], vote([RIGHT, LEFT], image_HW3, "p", pairs)
    assert sideways.votes == {"right": "point1", "left": "point2", "flat": "tie"}
    assert (sideways.point1, sideways.point2) == ((5, 80), (9, 10))
    assert len(level) == 1  # both call the second pair a tie: no dispute


def test_disputes_become_a_data_set_once_a_person_has_settled_them(images, tmp_path):
    out = tmp_path / "out"
    said = run("da2k-propose", images, ["row", "constant"], out=out)
    file = out / "annotations.json"
    annotations = json.loads(file.read_text())
    count = sum(map(len, annotations.values()))
    assert said.startswith(f"{count} disputed pairs")
    assert len(list((out / "disputed").glob("*.jpg"))) == count
    assert (out / "index.html").read_text().count("<img") == count
    with pytest.raises(ValueError, match="pair 1 is not settled: closer_point is empty"):
        da2k.read(out)
    for pairs in annotations.values():
        for pair in pairs:
            pair["closer_point"] = "point1" if pair["votes"]["row"] == "point1" else "point2"
    file.write_text(json.dumps(annotations))
    read = da2k.read(out)
    assert {image.scenario for image in read} == {"indoor", "aerial"}
    report = json.loads(run("da2k", out, ["row"], form="json", out=tmp_path / "scores"))
    assert report["lines"][0]["ours"] == 100
    with pytest.raises(ValueError, match="settled pairs are not overwritten"):
        run("da2k-propose", images, ["row", "constant"], out=out)


def test_the_same_seed_gives_the_same_pairs(images, tmp_path):
    first, second, other = (
        propose(images, [RIGHT, LEFT], tmp_path / str(i), seed=seed) for i, seed in enumerate((3, 3, 4))
    )
    assert first == second != other


def test_pairs_are_different_apart_and_in_no_habitual_order():
    points = np.stack(np.meshgrid(np.arange(0, 60, 10), np.arange(0, 60, 10)), axis=-1).reshape(-1, 2)
    points = np.concatenate([points, points[:1] + 1])  # one point is too near to another
    pairs = np.concatenate([draw_pairs(points, (60, 60), np.random.default_rng(seed)) for seed in range(20)])
    assert pairs.shape == (240, 2, 2)
    assert np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1).min() >= 3
    upper_first = np.mean(pairs[:, 0, 1] < pairs[:, 1, 1])
    assert 0.3 < upper_first < 0.6  # some are level


def test_grid_points_lie_one_in_each_cell_away_from_edges():
    image_HW3 = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    image_HW3[::2, 5:] = 0  # restless everywhere but in the left columns and in one calm square
    image_HW3[40:50, 70:80] = 90
    points = grid_points(image_HW3, cells=3)
    assert len(points) == 9
    row, col = points[4]  # the middle cell holds the square
    assert 40 <= row < 50
    assert 70 <= col < 80
    assert (points[[0, 3, 6], 1] < 5).all()


def test_key_points_lie_inside_their_masks():
    masks = np.zeros((4, 20, 20), bool)
    masks[0, 5:10, 5:10] = True
    yy, xx = np.mgrid[:20, :20]
    ring = (yy - 10) ** 2 + (xx - 10) ** 2
    masks[1] = (ring > 50) & (ring < 81)  # its centre of mass is not in it
    masks[2] = masks[0]
    points = key_points(masks)
    assert len(points) == 2  # the empty mask gives none, the double one no second point
    assert [7, 7] in points.tolist()
    assert all(masks[:, row, column].any() for row, column in points)


def test_regions_and_models_that_are_not_there(images, tmp_path):
    with pytest.raises(ValueError, match=r"needs at least two models, got 1; the paper takes four"):
        run("da2k-propose", images, ["row"], out=tmp_path / "out")
    with pytest.raises(ValueError, match="expected grid, or sam:ID"):
        sam_points("cells")


def test_segment_anything_tiny_and_random_gives_points_inside_the_image(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16, mlp_dim=32,
            output_channels=16, window_size=2, global_attn_indexes=[1], num_pos_feats=8,
        ),
        prompt_encoder_config=transformers.SamPromptEncoderConfig(
            hidden_size=16, image_size=64, patch_size=16, mask_input_channels=4
        ),
        mask_decoder_config=transformers.SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=32, num_hidden_layers=2, num_attention_heads=2, iou_head_hidden_dim=16
        ),
    )  # fmt: skip
    transformers.SamModel(config).save_pretrained(tmp_path)
    processor = transformers.SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 16}, mask_pad_size={"height": 16, "width": 16},
    )  # fmt: skip
    transformers.SamProcessor(processor).save_pretrained(tmp_path)
    image_HW3 = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    points = sam_points(f"sam:{tmp_path}")(image_HW3)
    assert len(points) >= 1
    assert ((points >= 0) & (points < [HEIGHT, WIDTH])).all()
