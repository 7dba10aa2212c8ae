"""Panoramas: views of a room in closed form, each with a scale and a shift of its own, become the room again."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import trimesh
from PIL import Image

from depth_anything.__main__ import main
from depth_anything.geometry import sphere
from depth_anything.geometry.sphere import View
from depth_anything.predict import panorama
from depth_anything.predict.panorama import predict_panorama
from depth_anything.predict.prediction import Prediction, load

HEIGHT, WIDTH = 128, 256
LOW, HIGH = np.array([-2.0, -1.1, -3.5]), np.array([3.0, 1.6, 2.5])  # the room's corners around the camera, metres


def distance(rays: np.ndarray) -> np.ndarray:
    """Metres along unit vectors (..., 3) to the walls of the room."""
    return (np.where(rays > 0, HIGH, np.where(rays < 0, LOW, np.inf)) / np.where(rays == 0, 1, rays)).min(axis=-1)


def depth_of_view(view: View, side: int) -> np.ndarray:
    """Metres along the view's axis, (N, N)."""
    offset = ((np.arange(side) + 0.5) / side * 2 - 1) * view.reach
    local = np.stack([*np.meshgrid(offset, offset), np.ones((side, side))], axis=2)
    length = np.linalg.norm(local, axis=2)
    return distance(local @ view.axes / length[..., None]) / length


TRUE = distance(sphere.directions(HEIGHT, WIDTH).astype(np.float64))


@dataclass
class Network:
    """Returns the room's map for each view in turn, whatever it is shown, in a scale and shift of its own."""

    metric: bool = False
    factor: float = 1.0
    """Metres of the views differ by this factor at most."""
    hole: bool = False
    """Floor, ceiling and what is level with the camera's axes are as they are; metres beyond 3 m are unknown."""
    batch_size: int = 5
    seen: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))

    def predict(self, images):
        predictions = []
        for image in images:
            depth = depth_of_view(panorama.views()[self.seen], len(image))
            self.seen += 1
            if self.metric:
                depth = depth * self.rng.uniform(1 / self.factor, self.factor)
                depth = np.where(depth < 3, depth, 0) if self.hole else depth
                predictions.append(Prediction(depth_m=depth.astype(np.float32), model="room"))
            else:
                values = self.rng.uniform(0.5, 2) / depth + self.rng.uniform(-0.3, 0.3)
                predictions.append(Prediction(disparity=values.astype(np.float32), model="room"))
        return predictions


def stitched(**settings) -> Prediction:
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    return predict_panorama(Network(**settings), image)  # type: ignore[arg-type]


def error(prediction: Prediction) -> np.ndarray:
    """Relative error of 1/r up to one scale: a shift is no freedom of a panorama."""
    product = prediction.as_disparity() * TRUE
    return np.abs(product / np.median(product) - 1)


def test_the_room_comes_back_and_its_edges_meet():
    prediction = stitched()
    assert prediction.projection == "equirectangular" and prediction.disparity is not None
    assert np.quantile(error(prediction), 0.99) < 0.02 and error(prediction).max() < 0.1  # bilinear at the room's edges
    across = np.abs(prediction.disparity[:, 0] - prediction.disparity[:, -1])
    inside = np.abs(np.diff(prediction.disparity, axis=1)).max(axis=1)
    assert (across <= 2 * inside + 1e-5).all()
    assert "12 views" in prediction.notes[0]


def test_views_that_are_not_aligned_show_seams(monkeypatch):
    monkeypatch.setattr(panorama, "solve", lambda terms, weight: np.tile([1.0, 0.0], (len(terms), 1)))
    assert np.quantile(error(stitched()), 0.9) > 0.2


def test_disparity_taken_as_if_it_were_along_the_ray_is_wrong(monkeypatch):
    """Without the cosine, no scales and shifts make flat walls meet."""
    look = panorama.look
    monkeypatch.setattr(panorama, "look", lambda *args: ((seen := look(*args))[0], np.ones_like(seen[1]), seen[2]))
    assert np.quantile(error(stitched()), 0.9) > 0.05


def test_metres_are_along_the_ray():
    prediction = stitched(metric=True)
    assert prediction.depth_m is not None and "along the ray" in prediction.describe()
    assert np.quantile(np.abs(prediction.depth_m / TRUE - 1), 0.99) < 0.02
    assert np.quantile(error(stitched(metric=True, factor=1.3)), 0.99) < 0.02


def test_unknown_metres_stay_unknown():
    depth_m = stitched(metric=True, hole=True).depth_m
    assert depth_m is not None
    known = depth_m > 0
    assert known[TRUE < 2.5].all() and not known.all()
    assert np.quantile(np.abs(depth_m / TRUE - 1)[known], 0.99) < 0.02


def test_a_flat_map_and_no_metres_at_all(monkeypatch):
    monkeypatch.setattr("test_panorama.depth_of_view", lambda view, side: np.ones((side, side)))
    disparity = stitched().disparity
    assert disparity is not None and np.isfinite(disparity).all()
    monkeypatch.setattr("test_panorama.depth_of_view", lambda view, side: np.full((side, side), 5.0))
    depth_m = stitched(metric=True, hole=True).depth_m
    assert depth_m is not None and not depth_m.any()


def test_views_see_every_direction_and_overlap():
    rays = sphere.even_directions(5000)
    weights = np.stack([panorama.look(view, np.ones((8, 8), np.float32), rays, False)[2] for view in panorama.views()])
    assert weights.max(0).min() > 0.02 and (weights > 0).sum(0).min() >= 1
    assert ((weights > 0).sum(0) > 1).mean() > 0.8
    np.testing.assert_allclose(panorama.shares(weights).sum(0), 1, atol=1e-6)


def test_a_view_shows_the_panorama_upright_and_across_its_edge():
    """Colours are a linear function of the direction, so each pixel of a view has its colour in closed form."""
    rays = sphere.directions(HEIGHT, WIDTH)
    image = np.round(127 + 100 * rays).astype(np.uint8)
    for longitude, latitude in ((0, 0), (180, 20), (90, 90), (-100, -55)):
        view = View.towards(longitude, latitude, 80)
        shown = view.image(image)
        side = len(shown)
        offset = ((np.arange(side) + 0.5) / side * 2 - 1) * view.reach
        right, down = np.meshgrid(offset, offset)
        ray = view.axes[2] + right[..., None] * view.axes[0] + down[..., None] * view.axes[1]
        expected = 127 + 100 * ray / np.linalg.norm(ray, axis=2, keepdims=True)
        assert np.abs(shown - expected).max() < 2.5
    ahead = View.towards(0, 0, 80).axes
    np.testing.assert_allclose(ahead, np.eye(3), atol=1e-12)  # right, down and forward of the panorama's middle
    np.testing.assert_allclose(View.towards(90, 0, 80).axes[2], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(View.towards(0, 90, 80).axes[2], [0, -1, 0], atol=1e-12)


def test_the_edge_of_a_panorama_is_like_any_other_meridian():
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    turned = np.roll(image, WIDTH // 2, axis=1)
    behind, ahead = (View.towards(longitude, 30, 80) for longitude in (180, 0))
    assert np.abs(behind.image(image).astype(int) - ahead.image(turned)).max() <= 1


def room() -> Prediction:
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    return Prediction(depth_m=TRUE.astype(np.float32), model="room", image=image, projection="equirectangular")


def test_the_mesh_surrounds_the_camera(tmp_path):
    (path,) = room().save(tmp_path / "room", ["glb"])
    mesh = trimesh.load(path, force="mesh")
    assert isinstance(mesh, trimesh.Trimesh)
    right = mesh.visual.uv[mesh.faces][..., 0].max(axis=1) > 1  # type: ignore[union-attr]  # texture repeats there
    assert len(mesh.faces) > 0.95 * 2 * WIDTH * (HEIGHT - 1)  # slanted walls are cut, as edges are
    assert right.sum() > 0.9 * 2 * (HEIGHT - 1)  # between the last column and the first
    corners = np.array([LOW * [1, -1, -1], HIGH * [1, -1, -1]])  # glTF: y up, z towards the viewer
    np.testing.assert_allclose(mesh.bounds, np.sort(corners, axis=0), atol=0.02)
    (path,) = room().save(tmp_path / "room", ["ply"])
    cloud = trimesh.load(path)
    np.testing.assert_allclose(np.linalg.norm(cloud.vertices, axis=1), TRUE.ravel(), rtol=1e-5)  # type: ignore[union-attr]


def test_normals_of_walls_point_inwards_all_round(tmp_path):
    normals, rays = room().normals(), sphere.directions(HEIGHT, WIDTH)
    middle = HEIGHT // 2
    across = np.roll(np.arange(WIDTH), WIDTH // 2)  # columns, those at the edge of the panorama in the middle
    back = across[(TRUE[middle] * rays[middle, :, 2])[across] < LOW[2] + 1e-3]  # the wall behind
    assert {0, WIDTH - 1} < set(back)
    np.testing.assert_allclose(normals[middle, back[2:-2]], [[0, 0, 1]] * (len(back) - 4), atol=1e-3)


def test_files_say_that_it_is_a_panorama(tmp_path):
    prediction = room()
    for path in prediction.save(tmp_path / "room", ["png16", "npz"]):
        assert load(path).is_panorama and "along the ray" in load(path).describe()
    with pytest.raises(ValueError, match="sbs, colmap: not for panoramas"):
        prediction.save(tmp_path / "other", ["color", "sbs", "colmap"])
    with pytest.raises(ValueError, match="no pinhole camera"):
        prediction.with_camera(np.eye(3))
    assert not list(tmp_path.glob("other*"))


def test_the_command(tmp_path, capsys):
    image = tmp_path / "sphere.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 120, 3), np.uint8)).save(image)
    options = ["--panorama", "--input-size", "32", "-o", str(tmp_path / "out")]
    main(["predict", str(image), *options, "--save", "npz,glb", "--near", "1", "--far", "9"])
    assert "12 views" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"sphere_disparity.npz", "sphere_mesh.glb"}


@pytest.mark.parametrize(
    ("size", "options", "said"),
    [
        ((100, 120), [], "a panorama of 120 x 100: expected an equirectangular image"),
        ((60, 120), ["--fov", "60"], "--panorama: leave out"),
        ((60, 120), ["--tiles", "2"], "--panorama: leave out"),
        ((60, 120), ["--save", "anaglyph"], "anaglyph: not for panoramas"),
    ],
)
def test_what_makes_no_panorama_is_one_line(tmp_path, capsys, size, options, said):
    image = tmp_path / "sphere.png"
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(image)
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(image), "--panorama", "-o", str(tmp_path / "out"), *options])
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and said in error and "\n" not in error
