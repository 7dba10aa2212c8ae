"""Semantic segmentation on our encoder: Mask2Former through a pyramid, or a linear probe (V1 section 4.4, semseg/).

The parts of the classifier are transformers' Mask2Former; the pyramid is that of V1's configuration. Both heads predict
scores for every class; `segmentation_predict.py` converts them to class maps.

Shapes: B batch, H W pixels, h w patches, N tokens, D width of the encoder, Q queries, K classes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything.checkpoints.safe_write import write_tensors
from depth_anything.network import beit_sam
from depth_anything.network.resize import PATCH
from depth_anything.system.device import check_device
from depth_anything.system.extras import needs
from depth_anything.transfer.segmentation_data import IGNORE
from depth_anything.variants import TRIED, Variant, get_variant, last_four

with needs("transfer", "segmentation"):
    from transformers import Mask2FormerConfig
    from transformers.models.mask2former.modeling_mask2former import (
        Mask2FormerLoss,
        Mask2FormerPixelDecoder,
        Mask2FormerPreTrainedModel,
        Mask2FormerTransformerModule,
    )


@dataclass(frozen=True)
class Segments:
    """Properties of a segmentation model, as its file states them."""

    variant: str
    """Row of `VARIANTS` whose encoder the model has."""
    head: str
    """`mask2former` or `linear`."""
    names: tuple[str, ...]
    """Names of the classes."""
    crop: int
    """Side of the crops that the model was trained on."""
    stride: int
    """Distance between windows at inference."""
    queries: int = 200


class Pyramid(nn.Module):
    """Resizes four token maps to 4, 2, 1 and 1/2 times the patch grid (mmsegmentation's Feature2Pyramid)."""

    def __init__(self, width: int):
        super().__init__()

        def double() -> nn.Module:
            return nn.ConvTranspose2d(width, width, kernel_size=2, stride=2)

        four = nn.Sequential(double(), nn.BatchNorm2d(width), nn.GELU(), double())
        self.levels = nn.ModuleList([four, double(), nn.Identity(), nn.MaxPool2d(2, 2)])

    def forward(self, maps_BDhw: list[Tensor]) -> list[Tensor]:
        return [level(x_BDhw) for level, x_BDhw in zip(self.levels, maps_BDhw, strict=True)]


def mask2former_config(width: int, classes: int, queries: int) -> Mask2FormerConfig:
    """V1's settings: as many channels as the encoder, 32 per attention head, 6 pixel layers and 9 query layers."""
    return Mask2FormerConfig(
        num_labels=classes,  # type: ignore[call-arg]  (every config of transformers takes it)
        feature_size=width,
        mask_feature_size=width,
        hidden_dim=width,
        encoder_feedforward_dim=4 * width,
        dim_feedforward=4 * width,
        num_attention_heads=width // 32,
        encoder_layers=6,
        decoder_layers=10,  # transformers also counts the first prediction of the queries
        num_queries=queries,
        dropout=0.0,
        class_weight=2.0,
        mask_weight=5.0,
        dice_weight=5.0,
        no_object_weight=0.1,
        train_num_points=12544,
        oversample_ratio=3.0,
        importance_sample_ratio=0.75,
    )


class Mask2FormerHead(Mask2FormerPreTrainedModel):
    """Mask2Former of transformers without its backbone: four maps in, class and mask logits of every layer out."""

    def __init__(self, config: Mask2FormerConfig):
        super().__init__(config)
        self.pixel_decoder = Mask2FormerPixelDecoder(config, feature_channels=[config.feature_size] * 4)
        self.transformer_module = Mask2FormerTransformerModule(in_features=config.feature_size, config=config)
        self.class_predictor = nn.Linear(config.hidden_dim, int(config.num_labels or 0) + 1)
        self.weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
        self.criterion = Mask2FormerLoss(config, self.weights)
        self.post_init()

    def forward(self, maps_BDhw: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits (B, Q, K + 1) and mask logits (B, Q, h, w) of every layer, in order."""
        pixels = self.pixel_decoder(maps_BDhw, output_hidden_states=False)
        queries = self.transformer_module(
            multi_scale_features=pixels.multi_scale_features,
            mask_features=pixels.mask_features,
            output_hidden_states=True,
        )
        classes = [self.class_predictor(state.transpose(0, 1)) for state in queries.intermediate_hidden_states]
        return classes, list(queries.masks_queries_logits)


class Mask2FormerSegmenter(nn.Module):
    """Our encoder, the pyramid and Mask2Former: V1's segmentation model."""

    def __init__(self, about: Segments):
        super().__init__()
        self.about, variant = about, get_variant(about.variant)
        if variant.encoder == "efficientnet":
            raise ValueError(f"{variant.name}: the head mask2former reads tokens of a transformer; use the head linear")
        self.variant = variant
        self.pretrained = beit_sam.encoder_of(variant)
        self.pyramid = Pyramid(variant.width)
        self.head = Mask2FormerHead(mask2former_config(variant.width, len(about.names), about.queries))

    def logits(self, image_B3HW: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Class and mask logits of every layer. V1's configuration reads the last four blocks of the encoder at all
        sizes. MiDaS' encoder has no norm after them, so the blocks that its decoder was trained with are read."""
        taps = last_four(self.variant) if self.variant.encoder == "dinov2" else self.variant.taps
        tokens = self.pretrained(image_B3HW, taps)
        classes, masks = self.head(self.pyramid([as_map(x_BND, image_B3HW) for x_BND in tokens]))
        return [x.float() for x in classes], [x.float() for x in masks]

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Scores (B, K, H, W): over the queries, the sum of class probability times mask probability."""
        classes, masks = self.logits(image_B3HW)
        mask_BQHW = F.interpolate(masks[-1], size=image_B3HW.shape[2:], mode="bilinear", align_corners=False).sigmoid()
        return torch.einsum("bqk,bqhw->bkhw", classes[-1].softmax(-1)[..., :-1], mask_BQHW)

    def loss(self, image_B3HW: Tensor, classes_BHW: Tensor) -> Tensor:
        """Mask2Former's loss over all layers: 2 x class, 5 x mask, 5 x dice after Hungarian matching."""
        classes, masks = self.logits(image_B3HW)
        ground_truth = [masks_of(classes_HW) for classes_HW in classes_BHW]
        earlier = [
            {"class_queries_logits": c, "masks_queries_logits": m}
            for c, m in zip(classes[:-1], masks[:-1], strict=True)
        ]
        parts = self.head.criterion(
            masks_queries_logits=masks[-1],
            class_queries_logits=classes[-1],
            mask_labels=[mask_CHW for _, mask_CHW in ground_truth],
            class_labels=[label_C for label_C, _ in ground_truth],
            auxiliary_predictions=earlier,
        )
        weights = self.head.weights
        total = sum(
            weights[name.rsplit("_", 1)[0] if name[-1].isdigit() else name] * part for name, part in parts.items()
        )
        assert isinstance(total, Tensor)
        return total


class LinearProbe(nn.Module):
    """DINOv2's linear probe: batch norm and one 1x1 convolution on the patch tokens, or the map, of the last block."""

    def __init__(self, about: Segments):
        super().__init__()
        self.about, variant = about, get_variant(about.variant)
        self.variant = variant
        self.pretrained = beit_sam.encoder_of(variant)
        self.norm = nn.BatchNorm2d(variant.width)
        self.classify = nn.Conv2d(variant.width, len(about.names), 1)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Logits (B, K, H, W)."""
        tokens_BND = self.pretrained(image_B3HW, (self.variant.depth - 1,))[-1]
        logits_BKhw = self.classify(self.norm(as_map(tokens_BND, image_B3HW)))
        return F.interpolate(logits_BKhw.float(), size=image_B3HW.shape[2:], mode="bilinear", align_corners=False)

    def loss(self, image_B3HW: Tensor, classes_BHW: Tensor) -> Tensor:
        """Mean cross-entropy over labelled pixels."""
        if (classes_BHW == IGNORE).all():
            return self(image_B3HW).sum() * 0
        return F.cross_entropy(self(image_B3HW), classes_BHW.long(), ignore_index=IGNORE)


Segmenter = Mask2FormerSegmenter | LinearProbe


def build(about: Segments) -> Segmenter:
    """A segmentation model with random weights.

    Raises:
        ValueError: unknown head or variant.
    """
    heads = {"mask2former": Mask2FormerSegmenter, "linear": LinearProbe}
    if about.head not in heads:
        raise ValueError(f"segmentation head {about.head!r}: expected one of {', '.join(heads)}")
    return heads[about.head](about)


def as_map(tokens_BND: Tensor, image_B3HW: Tensor) -> Tensor:
    """Patch tokens as a map (B, D, h, w); a map is returned unchanged."""
    if tokens_BND.ndim == 4:
        return tokens_BND
    h, w = image_B3HW.shape[2] // PATCH, image_B3HW.shape[3] // PATCH
    return tokens_BND.transpose(1, 2).unflatten(2, (h, w))


def masks_of(classes_HW: Tensor) -> tuple[Tensor, Tensor]:
    """The classes of an image (C,), and their masks as 0 and 1 (C, H, W); unlabelled pixels are in no mask."""
    present_C = classes_HW.unique()
    present_C = present_C[present_C != IGNORE].long()
    return present_C, (classes_HW[None] == present_C[:, None, None]).float()


# -- files ------------------------------------------------------------------------------------------------------------


def save(model: Segmenter, path: str | Path) -> None:
    """Write weights with their metadata as safetensors.

    Raises:
        ValueError: the name does not end in .safetensors.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path}: expected a name that ends in .safetensors")
    about = model.about
    metadata = {
        "kind": "segmentation",
        "variant": about.variant,
        "head": about.head,
        "names": json.dumps(about.names),
        "crop": str(about.crop),
        "stride": str(about.stride),
        "queries": str(about.queries),
    }
    write_tensors(path, model.state_dict(), metadata)


def load(path: str | Path, device: str = "cpu") -> Segmenter:
    """Load a segmentation model that `save` wrote, in evaluation mode.

    Raises:
        ValueError: the device or the file does not exist, or the file is of another kind.
    """
    from depth_anything.checkpoints.safe_read import read

    check_device(device)
    contents = read(Path(path))
    if contents.metadata.get("kind") != "segmentation":
        raise ValueError(f"{path} holds no segmentation model: expected a file of `depth-anything segment train`")
    about = contents.metadata
    model = build(
        Segments(
            about["variant"],
            about["head"],
            tuple(json.loads(about["names"])),
            int(about["crop"]),
            int(about["stride"]),
            int(about["queries"]),
        )
    )
    try:
        model.load_state_dict(contents.state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit {about['head']} on {about['variant']} ({error})") from None
    return model.to(device).eval()


def encoder_of(variant: Variant | str, start: str | Path, accept_license: bool = False) -> dict[str, Tensor]:
    """Encoder weights for a segmentation model: a name of `VARIANTS`, a checkpoint, a DINOv2 file, or MiDaS' folder.

    Raises:
        ValueError: the weights cannot be loaded, or have another size.
    """
    from depth_anything.checkpoints import official

    if str(start) in TRIED:
        raise ValueError(f"{start} {TRIED[str(start)].note}: give that with --start-from")
    return official.load_backbone(start, variant, accept_license)
