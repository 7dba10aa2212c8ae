"""What torchrun starts in test_distributed.py: one step, or a short run, of a tiny student.

torchrun ... distributed_step.py ddp|fsdp|one|student VARIANT OUT [steps]
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from drawn import Boxes, tiny_student

from depth_anything.data.samples import without_labels
from depth_anything.network.model import DepthAnything
from depth_anything.train import loop
from depth_anything.train.batches import Data
from depth_anything.train.distributed import Machine, join, whole
from depth_anything.train.steps import gradients
from depth_anything.train.student import FinalTokens

mode, variant, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
steps = int(sys.argv[4]) if len(sys.argv) > 4 else 0
torch.set_num_threads(1)
recipe = replace(tiny_student(max(steps, 4), variant), precision="float32")
data = Data(Boxes(7), without_labels(Boxes(9)))
torch.manual_seed(1)
teacher, frozen = DepthAnything(variant).eval(), FinalTokens(DepthAnything(variant).pretrained)
machine = Machine(shard=mode == "fsdp", accumulate=2 if mode == "one" else 1, checkpointing=mode == "fsdp")
with join() as ranks:
    if steps:
        loop.train(recipe, out, data, teacher=teacher, frozen=frozen, machine=machine, ranks=ranks, save_seconds=0)
    else:
        run = loop.start(recipe, None, machine, ranks)
        run.step, (_, own) = 3, ranks.slices(machine)
        task = loop.task_of(recipe, data, machine, ranks, teacher, frozen)
        gradients(run, [task.build(3, index, None) for index in own], task)
        found = {name: whole(p.grad) for name, p in run.model.named_parameters() if p.grad is not None}
        if ranks.first:
            torch.save(found, out)
