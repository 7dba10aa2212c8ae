"""What torchrun starts in test_segmentation.py: a short training of a tiny segmenter.

torchrun ... distributed_segmentation.py OUT ACCUMULATE
"""

import sys
from dataclasses import replace

import torch
from drawn_classes import Patches, tiny

from depth_anything.network.model import DepthAnything
from depth_anything.train.distributed import join
from depth_anything.transfer import segmentation_train

torch.set_num_threads(1)
torch.manual_seed(0)
encoder = DepthAnything("nano-vit").pretrained.state_dict()
recipe = replace(tiny("mask2former", 2), batch=2, learning_rate=1e-4)
with join() as ranks:
    segmentation_train.train(
        recipe, sys.argv[1], Patches(4), encoder, Patches(3), ranks, int(sys.argv[2]), validate_every=10
    )
