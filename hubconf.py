"""torch.hub entry points: torch.hub.load(REPOSITORY, "depth_anything_v2_vits"). One line per model.

Every entry takes `pretrained=True` (the official weights, where they can be had), `checkpoint=PATH` and
`accept_license=False`, and returns a `DepthAnything` in evaluation mode.
"""

from functools import partial

dependencies = ["torch", "numpy", "PIL", "safetensors", "huggingface_hub"]


def _model(name, pretrained=True, checkpoint=None, accept_license=False):
    from depth_anything.network.model import DepthAnything

    if not pretrained:
        return DepthAnything(name).eval()
    return DepthAnything.from_pretrained(checkpoint or name, variant=name, accept_license=accept_license)


depth_anything_nano = partial(_model, "nano")
depth_anything_vits = partial(_model, "v1-small")
depth_anything_vitb = partial(_model, "v1-base")
depth_anything_vitl = partial(_model, "v1-large")
depth_anything_v2_vits = partial(_model, "v2-small")
depth_anything_v2_vitb = partial(_model, "v2-base")
depth_anything_v2_vitl = partial(_model, "v2-large")
depth_anything_v2_metric_hypersim_vits = partial(_model, "v2-metric-indoor-small")
depth_anything_v2_metric_hypersim_vitb = partial(_model, "v2-metric-indoor-base")
depth_anything_v2_metric_hypersim_vitl = partial(_model, "v2-metric-indoor-large")
depth_anything_v2_metric_vkitti_vits = partial(_model, "v2-metric-outdoor-small")
depth_anything_v2_metric_vkitti_vitb = partial(_model, "v2-metric-outdoor-base")
depth_anything_v2_metric_vkitti_vitl = partial(_model, "v2-metric-outdoor-large")
