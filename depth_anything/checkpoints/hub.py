"""Sources of weights (bundled, copied by hand, the Hugging Face hub) and their licences. No torch.

Weights whose owner does not clearly allow commercial use are returned only after `accept_license=True`
(`--accept-license`), once per model: the consent is stored in `accepted_licences.json` of the cache folder. For a path
that the user gives no consent is needed, because the user already has the file.
"""

import re
from pathlib import Path

from depth_anything.system.files import cache_dir, missing, recall, remember
from depth_anything.variants import VARIANTS, Variant, official_file, our_name

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the bundled weights."""
ACCEPTED = "accepted_licences.json"

V1_MIXIN_IDS = {f"LiheYoung/depth_anything_vit{size[0]}14": f"v1-{size}" for size in ("small", "base", "large")}
"""The ids that V1's own `from_pretrained` accepts: the same weights as the official files."""


def is_repository(name: str) -> bool:
    """Whether `name` looks like a hub id, `owner/name`, rather than like the path of a file."""
    suffixes = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".onnx")
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None and not name.lower().endswith(suffixes)


def no_such_model(name: str) -> str:
    """The error for a model that is neither a known name nor an existing file or folder."""
    expected = "expected a checkpoint, a transformers folder, or one of `depth-anything models`"
    return missing(name, our_name(name) or expected)


def variant_of_repository(repo: str) -> Variant | None:
    """The variant whose weights are in the hub repository `repo`; None if no variant names the repository."""
    if repo in V1_MIXIN_IDS:
        return VARIANTS[V1_MIXIN_IDS[repo]]
    for row in VARIANTS.values():
        # The Space of V1's demo holds the files of several models: its id does not identify one.
        if repo == row.transformers_repo or (repo == row.hub_repo and row.hub_type == "model"):
            return row
    return None


def find_weights(variant: Variant, accept_license: bool = False) -> Path:
    """The file that holds the weights of a row of `VARIANTS`.

    Looks for it among the bundled files, then in `cache_dir()`, then on the hub and in the hub's own cache.

    Raises:
        ValueError: the weights were never released, their licence is not accepted, or the hub cannot be reached; the
            message states which file to download and where to put it.
    """
    name = variant.name
    if variant.hub_file is None or variant.hub_repo is None:
        bundled = WEIGHTS / f"{name}.safetensors"
        if bundled.exists():
            return bundled
        raise ValueError(f"{name} has no released weights: pass the path of a checkpoint, with variant={name!r}")
    require_licence(name, variant.licence, variant.commercial, accept_license)
    brought = cache_dir() / (official_file(variant) or f"{name}{Path(variant.hub_file).suffix}")
    if brought.exists():
        return brought
    otherwise = f"download {{url}} and put it at {brought} (or pass its path, with variant={name!r})"
    return fetch(variant.hub_repo, variant.hub_file, variant.hub_type, otherwise)


def fetch(repo: str, file: str, kind: str, otherwise: str) -> Path:
    """A file of a hub repository (`kind`: model or space), from the hub's own cache or from the hub.

    Raises:
        ValueError: the hub cannot be reached or does not serve this file; `otherwise` states what to do with its {url}.
    """
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(repo, file, repo_type=kind)
    if isinstance(cached, str):
        return Path(cached)
    url = huggingface_hub.hf_hub_url(repo, file, repo_type=kind)
    reach(url, otherwise.replace("{url}", url))
    return Path(huggingface_hub.hf_hub_download(repo, file, repo_type=kind))


def find_folder(repo: str, accept_license: bool = False) -> Path:
    """The local copy of a hub repository in the transformers layout.

    Raises:
        ValueError: the hub cannot be reached, there is no such repository, or its licence is unclear and not accepted.
    """
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = ["config.json", "model*.safetensors", "model.safetensors.index.json"]
    try:
        folder = Path(huggingface_hub.snapshot_download(repo, allow_patterns=patterns, local_files_only=True))
        complete = any(folder.glob("model*.safetensors"))
    except LocalEntryNotFoundError:
        folder, complete = None, False
    if not complete:
        reach(
            huggingface_hub.hf_hub_url(repo, "config.json"),
            f"download config.json and model.safetensors of https://huggingface.co/{repo} and pass their folder's path",
        )
    row = variant_of_repository(repo)
    if row is None:
        require_licence(repo, stated_at(repo), None, accept_license)
    else:
        require_licence(row.name, row.licence, row.commercial, accept_license)
    if folder is None or not complete:
        folder = Path(huggingface_hub.snapshot_download(repo, allow_patterns=patterns))
    return folder


def stated_at(repo: str) -> str:
    """The licence of a repository that is not in `VARIANTS`."""
    return f"see https://huggingface.co/{repo}"


def reach(url: str, otherwise: str) -> None:
    """Request the header of a file from the hub once, so that a machine without a network gets an error immediately.

    Raises:
        ValueError: the hub cannot be reached or does not serve this file; `otherwise` states what to do then.
    """
    from huggingface_hub import constants, get_hf_file_metadata
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(url)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise ValueError(
            f"the hub answered {status} for {url}: check the name and your access, or {otherwise}"
        ) from None
    except Exception as error:  # DNS, proxy, timeout, offline mode: the exception depends on the hub's HTTP client
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else type(error).__name__
        raise ValueError(
            f"no Hugging Face hub within reach ({why}): {otherwise}; the bundled model 'nano' needs no download"
        ) from None


def require_licence(name: str, licence: str, commercial: bool | None, accept: bool) -> None:
    """Return if commercial use is clearly allowed, or if the licence is accepted now or was accepted earlier.

    Raises:
        ValueError: the licence is not accepted; the message states the licence and how to accept it.
    """
    if commercial:
        return
    accepted = recall(ACCEPTED)
    if accepted.get(name) == licence:
        return
    if not accept:
        if commercial is None:
            why = f"commercial use is not clearly allowed (licence: {licence})"
        else:
            why = f"its owner does not allow commercial use (licence: {licence})"
        raise ValueError(f"{name}: {why}; accept this once with accept_license=True (command line: --accept-license)")
    remember(ACCEPTED, {**accepted, name: licence})  # on a read-only disk, accepted for this process only
