"""The encoders by family, with those that V2 compares with DINOv2 as teachers (V2 Table 13): BEiT-L and SAM-L from
transformers. The encoder of MiDaS 3.1, with which V1 compares (Tables 10 and 11), is a BEiT-L.

They return the same as `DinoVisionTransformer`, so decoder and training stay the same: one patch token per 14 x 14
pixels. Their own patches have 16 pixels, so the image is first enlarged by 16 / 14. Neither has a norm over its tokens
after the last block, so none is applied. SynCLR-L is a plain ViT-L/14: DINOv2's network with other weights. Needs the
extra `transfer`.

Shapes: B batch, H W pixels, h w patches (H / 14, W / 14), N tokens (h * w), C width.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything.network.dinov2 import DinoVisionTransformer
from depth_anything.network.efficientnet import EfficientNetLite
from depth_anything.network.resize import IMAGENET_MEAN, IMAGENET_STD, PATCH
from depth_anything.system.extras import EXTRA_OF, needs
from depth_anything.system.files import read_json
from depth_anything.variants import Variant

if TYPE_CHECKING:
    from transformers import BeitConfig, BeitModel, SamVisionConfig, SamVisionModel

PATCH_16 = 16
SYNCLR = "visual."
"""Prefix of the keys in SynCLR's released files."""


class BeitEncoder(nn.Module):
    """BEiT (Bao et al. 2022): instead of a position table, every block has a bias for each distance of two patches.

    At other sizes than the one it was trained at, the biases are interpolated, as in MiDaS 3.1. The input is normalised
    with ImageNet's mean and deviation, and converted to the range -1..1 that BEiT was trained with.
    """

    def __init__(self, model: "BeitModel"):
        super().__init__()
        self.patch_embed: nn.Conv2d = model.embeddings.patch_embeddings.projection
        self.cls_token = model.embeddings.cls_token
        self.blocks: nn.ModuleList = model.layers

    def forward(self, image_B3HW: Tensor, taps: tuple[int, ...]) -> list[Tensor]:
        """Patch tokens (B, N, C) after each block in `taps`, without the class token."""
        mean_311, std_311 = (image_B3HW.new_tensor(rgb)[:, None, None] for rgb in (IMAGENET_MEAN, IMAGENET_STD))
        image_B3HW = enlarged(2 * (image_B3HW * std_311 + mean_311) - 1)
        grid_BChw = self.patch_embed(image_B3HW)
        self.cache_distances(*grid_BChw.shape[-2:])
        x_BNC = grid_BChw.flatten(2).transpose(1, 2)
        x_BNC = torch.cat([self.cls_token.expand(len(x_BNC), -1, -1), x_BNC], dim=1)
        tapped = []
        for index, block in enumerate(self.blocks[: max(taps) + 1]):
            x_BNC = block(x_BNC, resolution=tuple(image_B3HW.shape[-2:]))
            if index in taps:
                tapped.append(x_BNC[:, 1:])
        return tapped

    def cache_distances(self, h: int, w: int) -> None:
        """Have transformers create its index of distances, which it caches for all models, for h * w patches.

        Before a block would: a tensor that was created in inference mode cannot be used in a training step, nor one of
        a run on shapes in a real one.
        """
        with torch.inference_mode(False):
            self.blocks[0].relative_position_bias.generate_relative_position_index((h, w))  # type: ignore[operator, union-attr]


class SamEncoder(nn.Module):
    """The image encoder of Segment Anything (Kirillov et al. 2023), without its neck.

    Most blocks attend within windows of 14 x 14 patches, padded at the border; four attend to the whole image. At other
    sizes than the one it was trained at, the position table is resized bicubically and the tables of those four blocks
    linearly, as in ViTDet.
    """

    def __init__(self, model: "SamVisionModel"):
        super().__init__()
        encoder = model.vision_encoder
        self.patch_embed: nn.Conv2d = encoder.patch_embed.projection
        assert encoder.pos_embed is not None
        self.pos_embed = encoder.pos_embed
        self.blocks: nn.ModuleList = encoder.layers

    def forward(self, image_B3HW: Tensor, taps: tuple[int, ...]) -> list[Tensor]:
        """Patch tokens (B, N, C) after each block in `taps`."""
        grid_BChw = self.patch_embed(enlarged(image_B3HW))
        table_1Chw = self.pos_embed.permute(0, 3, 1, 2)
        if table_1Chw.shape != grid_BChw[:1].shape:
            table_1Chw = F.interpolate(table_1Chw, size=grid_BChw.shape[-2:], mode="bicubic", align_corners=False)
        x_BhwC = (grid_BChw + table_1Chw).permute(0, 2, 3, 1)
        tapped = []
        for index, block in enumerate(self.blocks[: max(taps) + 1]):
            x_BhwC = block(x_BhwC)
            if index in taps:
                tapped.append(x_BhwC.flatten(1, 2))
        return tapped


Encoder = DinoVisionTransformer | BeitEncoder | SamEncoder | EfficientNetLite


def enlarged(image_B3HW: Tensor) -> Tensor:
    """The image enlarged by 16 / 14."""
    size = [side // PATCH * PATCH_16 for side in image_B3HW.shape[-2:]]
    return F.interpolate(image_B3HW, size=size, mode="bicubic", align_corners=False)


def encoder_of(variant: Variant) -> Encoder:
    """The encoder of a variant's family, with random weights.

    Raises:
        ValueError: it needs transformers, which is not installed.
    """
    if variant.encoder == "dinov2":
        return DinoVisionTransformer(variant)
    if variant.encoder == "efficientnet":
        return EfficientNetLite(variant)
    config = config_of(variant)
    from transformers import BeitModel, SamVisionModel

    if variant.encoder == "beit":
        return BeitEncoder(BeitModel(config, add_pooling_layer=False))  # type: ignore[arg-type]
    return SamEncoder(SamVisionModel(config))  # type: ignore[arg-type]


def config_of(variant: Variant) -> "BeitConfig | SamVisionConfig":
    """The transformers config of a `beit` or `sam` variant: the published sizes, without stochastic depth.

    Raises:
        ValueError: transformers is not installed.
    """
    with needs(EXTRA_OF["transformers"], variant.name):
        from transformers import BeitConfig, SamVisionConfig
    sizes = {
        "hidden_size": variant.width,
        "num_hidden_layers": variant.depth,
        "num_attention_heads": variant.heads,
        "image_size": variant.table_side * PATCH_16,
        "patch_size": PATCH_16,
        "initializer_range": 0.02,
    }
    if variant.encoder == "beit":
        of_family = {"intermediate_size": 4 * variant.width, "use_relative_position_bias": True, "drop_path_rate": 0.0}
        return BeitConfig(**sizes, **of_family)
    return SamVisionConfig(**sizes, global_attn_indexes=list(variant.taps))


SAME = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size", "hidden_act",
    "intermediate_size", "use_relative_position_bias", "use_shared_relative_position_bias",
    "use_absolute_position_embeddings", "use_mean_pooling", "mlp_dim", "window_size", "global_attn_indexes",
)  # fmt: skip
"""Fields of a config.json that decide which network it describes."""


def read_folder(folder: Path, variant: Variant) -> dict[str, Tensor]:
    """The weights of a `beit` or `sam` encoder from a transformers folder, keys as in `encoder_of(variant)`.

    Any model of the family is accepted (BeitForImageClassification, SamModel ...), and only its encoder is read. MiDaS
    3.1 is accepted too; in transformers it is a DPT with a BEiT backbone (Intel/dpt-beit-large-512).

    Raises:
        ValueError: transformers is not installed, the folder holds another family or size than the variant's, or it is
            incomplete or damaged.
    """
    ours = config_of(variant)
    from transformers import BeitModel, DPTForDepthEstimation, SamVisionModel

    try:
        about = read_json(folder / "config.json")
        midas = about["model_type"] == "dpt" and about.get("backbone_config") is not None
        family = about["backbone_config"]["model_type"] if midas else about["model_type"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder}: no readable config.json in it ({error}): expected a transformers folder") from None
    if not str(family).startswith(variant.encoder):
        raise ValueError(f"{folder} holds a {family!r}: {variant.name} starts from a {variant.encoder!r}")
    theirs = type(ours)(**about["backbone_config"]) if midas else type(ours).from_pretrained(folder)
    faults = [
        f"{name} {getattr(theirs, name)} instead of {getattr(ours, name)}"
        for name in SAME
        if getattr(theirs, name, None) != getattr(ours, name, None)
    ]
    if faults:
        raise ValueError(f"{folder} is another network than {variant.name}'s: {', '.join(faults)}; {variant.note}")
    options = {"output_loading_info": True, "local_files_only": True, "dtype": torch.float32}
    try:
        if midas:
            loaded: Any = DPTForDepthEstimation.from_pretrained(folder, **options)
        elif variant.encoder == "beit":
            loaded = BeitModel.from_pretrained(folder, add_pooling_layer=False, **options)
        else:
            loaded = SamVisionModel.from_pretrained(folder, **options)
    except Exception as error:  # damaged files may raise any exception
        raise ValueError(f"{folder} cannot be read ({str(error).splitlines()[0]}): copy it again") from None
    model, report = loaded
    model = model.backbone.beit if midas else model
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{folder} lacks {len(missing)} tensors of {variant.name}'s encoder (first: {missing[0]})")
    encoder = BeitEncoder(model) if variant.encoder == "beit" else SamEncoder(model)
    return dict(encoder.state_dict())


def from_synclr(state: dict[str, Tensor], variant: Variant) -> dict[str, Tensor]:
    """Rename the keys of SynCLR's files (Tian et al. 2024) to DINOv2's, and add layer scales of 1, which a ViT lacks.

    SynCLR's own training code interpolates the position table by DINOv2's rule, too.
    """
    plain = {key.removeprefix(SYNCLR): tensor for key, tensor in state.items() if key.startswith(SYNCLR)}
    scales = {f"blocks.{i}.ls{j}.gamma": torch.ones(variant.width) for i in range(variant.depth) for j in (1, 2)}
    return {"mask_token": torch.zeros(1, variant.width), **scales, **plain}
