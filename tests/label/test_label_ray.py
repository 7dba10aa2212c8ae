"""Labelling on a cluster: two machines of Ray on this one, one of which dies in the middle."""

import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from depth_anything.data.shards import read_shard
from depth_anything.label.jobs import LabelOptions
from depth_anything.label.launch import label
from depth_anything.label.ray import connect

EXAMPLES = Path(__file__).parents[2] / "examples"


def keys(out: Path) -> Counter[str]:
    return Counter(key for path in (out / "labels").glob("*.tar") for key, _ in read_shard(path))


@pytest.mark.slow
def test_a_node_dies_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every image once, and the bytes of a run in one process with the same batch and threads."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(10):
        for path in EXAMPLES.glob("*.jpg"):
            shutil.copy(path, photos / f"{number}_{path.name}")
    asked = LabelOptions("nano", batch=2, threads=1)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    out = tmp_path / "out"

    def kill_a_node() -> None:
        while not list(out.glob("manifest/*.json")):
            time.sleep(0.1)
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill_a_node)
    killer.start()
    try:
        report = label(str(photos), str(out), asked, shard_size=4, ray=cluster.address)
    finally:
        killer.join(timeout=60)
        ray.shutdown()
        cluster.shutdown()
    assert (report.total, report.labelled, report.exit_code) == (20, 80, 0)
    assert keys(out) == Counter(path.stem for path in photos.iterdir())
    label(str(photos), str(tmp_path / "alone"), asked, shard_size=4)
    for path in sorted((tmp_path / "alone/labels").glob("*.tar")):
        assert path.read_bytes() == (out / "labels" / path.name).read_bytes()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_no_cluster_is_one_line(address: str):
    pytest.importorskip("ray")
    with pytest.raises(ValueError, match=r"ray .*127\.0\.0\.1:1: no cluster there .*ray start"):
        connect(address)
