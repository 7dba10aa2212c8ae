"""Nearness to colour. Near is the top of every map: red in `Spectral_r` and `turbo`, bright in `inferno` and `gray`.

The maps are kept as a few published anchor colours with straight lines between them:
- Spectral: ColorBrewer's 11-class diverging scheme (C. Brewer, M. Harrower, Pennsylvania State University; Apache-2.0).
- inferno: every fifth colour of the 256 by S. van der Walt and N. Smith (CC0).
- turbo: every fifth colour of the 256 by A. Mikhailov, Google (Apache-2.0).
"""

import numpy as np

_ANCHORS = {
    # V2 shows disparity in Spectral_r and metres in Spectral: near is red in both. One map by nearness does the same.
    "Spectral_r": "5e4fa23288bd66c2a5abdda4e6f598ffffbffee08bfdae61f46d43d53e4f9e0142",
    # V1
    "inferno": (
        "00000402020c0504170a072210092d160b391e0c45260c512f0a5b380962400a67490b6a510e6c59106e61136e69166e71196e781c6d801f6c"
        "88226a902568982766a02a63a82e5fb0315bb73557bf3952c63d4dcc4248d34743d94d3ddf5337e45a31e9612bed6925f1711ff47918f78212"
        "f98b0bfa9407fb9d07fca60cfcb014fbba1ffac42af8cd37f6d746f4e156f2ea69f2f27df5f992fcffa4"
    ),
    "turbo": (
        "30123b36215f3b2f803f3e9c424bb54559cb4666dd4773eb4680f6458cfd4099ff38a5fb2fb2f427bee91fc9dd1ad4d018ddc21ae4b622ebaa"
        "2ff19b3ff68a52fa7a65fd6979fe598bff4b9cfe40a9fb39b7f735c3f134d0ea34dbe236e5d938eecf3af5c53afaba39fdae35fea130fe932a"
        "fc8423f9751df46617ef5811e84b0ce14109d83706ce2d04c32503b71d02a916019b0f018b09027a0403"
    ),
    # the released ControlNet's control image
    "gray": "000000ffffff",
}
COLORMAPS = tuple(_ANCHORS)


def table(name: str) -> np.ndarray:
    """The 256 colours of map `name` as uint8 (256, 3), farthest first, nearest last.

    Raises:
        ValueError: `name` is not one of COLORMAPS.
    """
    if name not in _ANCHORS:
        raise ValueError(f"unknown colour map {name!r}: expected one of {', '.join(COLORMAPS)}")
    anchors_A3 = np.frombuffer(bytes.fromhex(_ANCHORS[name]), np.uint8).reshape(-1, 3)
    position = np.linspace(0, len(anchors_A3) - 1, 256)
    channels = [np.interp(position, np.arange(len(anchors_A3)), anchors_A3[:, c]) for c in range(3)]
    return np.round(np.stack(channels, axis=1)).astype(np.uint8)


def colored(nearness_HW: np.ndarray, name: str = "Spectral_r") -> np.ndarray:
    """Colour a map of nearness: 0 farthest, 1 nearest; values outside are clipped.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    colors = table(name)
    colored_HW3 = np.empty((*nearness_HW.shape, 3), np.uint8)
    for row, nearness_W in enumerate(nearness_HW):
        colored_HW3[row] = colors[np.round(np.clip(nearness_W, 0, 1) * 255).astype(np.uint8)]
    return colored_HW3
