"""Sky masks: the SegFormer half against transformers' own post-processing, the threshold against drawn maps."""

import json
import sys

import numpy as np
import pytest
import torch
from pictures import photo

from depth_anything import hub
from depth_anything.data.sky import ADE20K_SKY, SkySegmenter, threshold
from depth_anything.prediction import Prediction


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

    pictures = [photo(60, 90), photo(60, 90)[:, ::-1], photo(90, 61)]
    masks = SkySegmenter(folder, side=64).masks(pictures)
    network = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    processor = SegformerImageProcessorPil(do_reduce_labels=False)
    shares = []
    for picture, mask, size in zip(pictures, masks, [(64, 96), (64, 96), (96, 64)], strict=True):
        inputs = processor(picture, size={"height": size[0], "width": size[1]}, return_tensors="pt")
        with torch.no_grad():
            outputs = network(**inputs)
        classes = processor.post_process_semantic_segmentation(outputs, [picture.shape[:2]])[0].numpy()
        assert mask.dtype == bool and mask.shape == picture.shape[:2]
        assert (mask == (classes == ADE20K_SKY)).mean() > 0.995
        shares.append(mask.mean())
    assert 0.02 < np.mean(shares) < 0.98, "a mask that is all or nothing shows nothing"


def test_one_picture_is_the_same_as_one_of_many(folder):
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
