"""Sky masks: SegFormer against transformers' own post-processing, the threshold against drawn maps, what is kept."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import photo

from depth_anything.checkpoints import hub
from depth_anything.data.sample import Sample, min_max
from depth_anything.data.sky import ADE20K_SKY, SkySegmenter, choose_sky, threshold
from depth_anything.predict.prediction import Prediction


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny SegFormer with random weights, and sky made likely enough to win in places."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=3,  # type: ignore[call-arg]
        hidden_sizes=[8, 8, 8, 8], decoder_hidden_size=8, depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
    )  # fmt: skip
    network = SegformerForSemanticSegmentation(config)
    with torch.no_grad():
        network.decode_head.classifier.weight.mul_(20)
    folder = tmp_path_factory.mktemp("segformer")
    network.save_pretrained(folder)
    return folder


def test_mask_is_what_transformers_finds(folder):
    from transformers import SegformerForSemanticSegmentation
    from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

    images = [photo(60, 90), photo(60, 90)[:, ::-1], photo(90, 61)]
    masks = SkySegmenter(folder, side=64).masks(images)
    network = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    processor = SegformerImageProcessorPil(do_reduce_labels=False)
    shares = []
    for image, mask, size in zip(images, masks, [(64, 96), (64, 96), (96, 64)], strict=True):
        inputs = processor(image, size={"height": size[0], "width": size[1]}, return_tensors="pt")
        with torch.no_grad():
            outputs = network(**inputs)
        classes = processor.post_process_semantic_segmentation(outputs, [image.shape[:2]])[0].numpy()
        assert mask.dtype == bool and mask.shape == image.shape[:2]
        assert (mask == (classes == ADE20K_SKY)).mean() > 0.995
        shares.append(mask.mean())
    assert 0.02 < np.mean(shares) < 0.98, "a mask that is all or nothing shows nothing"


def test_one_image_is_the_same_as_one_of_many(folder):
    segment = SkySegmenter(folder, side=64)
    np.testing.assert_array_equal(segment(photo(50, 50)), segment.masks([photo(70, 40), photo(50, 50)])[1])


def test_licence_and_missing_packages_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(hub, "reach", lambda *_: None)
    with pytest.raises(ValueError, match=r"nvidia/segformer.*--accept-license"):
        SkySegmenter()
    assert not (tmp_path / "depth-anything/accepted_licences.json").exists()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"depth-anything\[transfer\]"):
        SkySegmenter()


def test_a_model_of_other_classes_is_refused(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    labels = {"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}}
    (tmp_path / "config.json").write_text(json.dumps({**config, **labels}))
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    SegformerForSemanticSegmentation(SegformerConfig.from_pretrained(tmp_path)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="2 classes"):
        SkySegmenter(tmp_path)


def test_threshold_takes_what_is_far_up_to_the_upper_edge():
    disparity = np.tile(np.linspace(0.1, 1, 40, dtype=np.float32)[:, None], (1, 30))
    disparity[:12] = 0
    disparity[5:12, 10:14] = 0.8  # a tower: what is below it is not sky
    disparity[30, 20] = 0  # far, but under the ground
    sky = threshold(Prediction(disparity=disparity))
    expected = np.zeros((40, 30), bool)
    expected[:12] = True
    expected[5:12, 10:14] = False
    np.testing.assert_array_equal(sky, expected)
    metric = Prediction(depth_m=np.where(disparity > 0, 1 / np.maximum(disparity, 1e-9), 500).astype(np.float32))
    np.testing.assert_array_equal(threshold(metric), expected)
    assert not threshold(Prediction(disparity=np.ones((3, 3), np.float32))).any()


# -- labelled images -------------------------------------------------------------------------------------------------


class Two:
    """Two labelled images without a sky of their own, but for one pixel of the second."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> Sample:
        disparity_HW = np.linspace(0.2, 2, 60 * 90, dtype=np.float32).reshape(60, 90)
        valid_HW = np.ones((60, 90), bool)
        valid_HW[:, :5] = False
        sky_HW = np.zeros((60, 90), bool)
        if number == 1:
            sky_HW[0, 50] = True
            disparity_HW[0, 50] = 0
        return Sample(
            image_HW3=np.ascontiguousarray(photo(60, 90)[:, :: 1 - 2 * number]),
            disparity_HW=np.where(valid_HW, disparity_HW, 0),
            valid_HW=valid_HW,
            sky_HW=sky_HW,
            scale="relative",
        )


class Counting:
    """A segmenter that counts how often it is asked."""

    def __init__(self, segmenter: SkySegmenter):
        self.segmenter, self.id, self.asked = segmenter, segmenter.id, 0

    def __call__(self, image_HW3: np.ndarray) -> np.ndarray:
        self.asked += 1
        return self.segmenter(image_HW3)


def test_segformer_s_sky_becomes_valid_with_disparity_0_before_min_max(folder, tmp_path):
    segmenter = SkySegmenter(folder, side=64)
    samples = choose_sky(Two(), "segformer", segmenter, tmp_path)
    assert len(samples) == 2
    for number in range(2):
        before, after = Two()[number], samples[number]
        expected = segmenter(before.image_HW3) | before.sky_HW
        assert 0.02 < expected.mean() < 0.98
        np.testing.assert_array_equal(after.sky_HW, expected)
        np.testing.assert_array_equal(after.valid_HW, before.valid_HW | expected)
        assert not after.disparity_HW[expected].any() and after.disparity_HW.dtype == np.float32
        np.testing.assert_array_equal(after.disparity_HW[~expected], before.disparity_HW[~expected])
        # before min-max: the sky is 0 and the farthest thing is not
        scaled = min_max(after.disparity_HW, after.valid_HW)
        assert not scaled[expected].any() and scaled[after.valid_HW & ~expected].min() > 0.05


def test_masks_are_kept_so_that_a_second_epoch_asks_no_network(folder, tmp_path):
    segmenter = Counting(SkySegmenter(folder, side=64))
    first = [choose_sky(Two(), "segformer", segmenter, tmp_path)[number].sky_HW for number in range(2)]
    assert segmenter.asked == 2
    kept = sorted(tmp_path.rglob("*.png"))
    assert len(kept) == 2 and all(Image.open(path).mode == "1" for path in kept)
    assert all(path.relative_to(tmp_path).parts[0] == segmenter.id for path in kept)
    second = [choose_sky(Two(), "segformer", segmenter, tmp_path)[number].sky_HW for number in range(2)]
    assert segmenter.asked == 2
    np.testing.assert_array_equal(first, second)
    kept[0].write_bytes(kept[0].read_bytes()[:40])  # as if the disk had been full
    kept[1].unlink()
    again = [choose_sky(Two(), "segformer", segmenter, tmp_path)[number].sky_HW for number in range(2)]
    assert segmenter.asked == 4
    np.testing.assert_array_equal(first, again)
    assert sorted(tmp_path.rglob("*")) == sorted({*kept, *(path.parent for path in kept), tmp_path / segmenter.id})


def test_other_weights_or_another_size_never_meet_these_masks(folder, tmp_path):
    from transformers import SegformerForSemanticSegmentation

    torch.manual_seed(1)
    network = SegformerForSemanticSegmentation.from_pretrained(folder)
    with torch.no_grad():
        network.decode_head.classifier.weight.neg_()
    other = tmp_path / folder.name  # the same name
    network.save_pretrained(other)
    ids = {SkySegmenter(folder, side=64).id, SkySegmenter(folder, side=96).id, SkySegmenter(other, side=64).id}
    assert len(ids) == 3 and SkySegmenter(folder, side=64).id in ids


def test_sky_off_and_of_the_renderer():
    assert choose_sky(Two(), "renderer")[1].sky_HW[0, 50]
    off = choose_sky(Two(), "off")
    assert len(off) == 2
    assert not off[1].sky_HW.any() and not off[1].valid_HW[0, 50] and off[1].valid_HW.sum() == 60 * 85 - 1
    np.testing.assert_array_equal(off[0].valid_HW, Two()[0].valid_HW)
    with pytest.raises(ValueError, match="expected off, renderer or segformer"):
        choose_sky(Two(), "on")
    with pytest.raises(ValueError, match="needs the segmenter and a folder"):
        choose_sky(Two(), "segformer")
