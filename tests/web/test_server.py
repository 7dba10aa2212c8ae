"""The HTTP API in this process: answers, limits, refusals. Under attack and load: test_server_attacks.py."""

import base64
import io
import json
import re
import struct
import sys
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiffs
from PIL import Image

from depth_anything.__main__ import main
from depth_anything.images import read
from depth_anything.images.formats import FORMATS, SaveOptions, paths
from depth_anything.predict.prediction import load
from depth_anything.predict.predictor import Predictor

pytest.importorskip("fastapi", reason="the extra web is not installed")
from serving import MetricModel
from starlette.testclient import TestClient

from depth_anything.web import responses
from depth_anything.web.middleware import Limits
from depth_anything.web.server import create_app

ROOT = Path(__file__).parents[2]
SHAPE = {"near": "2", "far": "30", "fov": "50"}


@pytest.fixture(scope="module")
def nano() -> Predictor:
    return Predictor("nano", threads=1)


@pytest.fixture(scope="module")
def client(nano):
    with TestClient(create_app({"nano": nano}, Limits(max_bytes=2_000_000, max_pixels=1_000_000))) as client:
        yield client


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """Small, and turned by its EXIF."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    with Image.open(ROOT / "examples/kodak_20.jpg") as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.resize((96, 64)).save(path, exif=exif, quality=92)
    return path


@pytest.fixture(scope="module")
def files(photo, tmp_path_factory) -> dict[str, bytes]:
    """What the command writes for the photo, by form."""
    out = tmp_path_factory.mktemp("out")
    forms = list(responses.FORMS)
    options = [f"--{name}={value}" for name, value in SHAPE.items()]
    common = ["predict", str(photo), "-o", str(out), "--threads", "1", "--save"]
    main([*common, ",".join(form for form in forms if form != "confidence"), *options])
    main([*common, "confidence"])  # npz beside it would contain it, too
    written = paths(out / "photo", forms, "disparity", SaveOptions(overwrite=True))
    return {form: path.read_bytes() for form, path in written.items()}


def test_every_response_is_the_commands_file(client, photo, files):
    for form, content in files.items():
        # the other files of that run were written with its camera, which npz states
        query = {"format": form, **(SHAPE if "metres" in FORMATS[form].needs else {"fov": "50"})}
        answer = client.post(
            "/v1/depth", params=query, content=photo.read_bytes(), headers={"Content-Type": "image/jpeg"}
        )
        assert answer.status_code == 200, answer.text
        assert answer.content == content, form
        assert answer.headers["content-type"] == FORMATS[form].media_type
        assert answer.headers["content-disposition"].startswith('inline; filename="picture_')


def test_the_page_offers_every_format_of_the_server(client):
    told = client.get("/v1/models").json()
    script = client.get("/static/controls.js").text
    shown = re.findall(r"^  (\w+): \[", script[script.index("const FORMS") :], re.MULTILINE)
    assert sorted(shown) == sorted(told["formats"]) == sorted(told["needs"])
    assert set(told["says_camera"]) == {"npz", "json"}
    assert [name for name, needs in told["needs"].items() if "metres" in needs] == ["normals", "ply", "glb", "colmap"]


def test_json_carries_the_same_numbers(client, photo, files):
    answer = client.post("/v1/depth?format=json", files={"image": photo.read_bytes()}).json()
    values = answer.pop("values")
    disparity = np.frombuffer(base64.b64decode(values["data"]), values["dtype"]).reshape(values["shape"])
    with np.load(io.BytesIO(files["npz"])) as npz:
        assert np.array_equal(disparity, npz["disparity"])
    assert (answer["height"], answer["width"]) == (96, 64) == disparity.shape  # upright
    assert answer["quantity"] == "disparity" and answer["licence"] == "Apache-2.0" and answer["K"] is None
    assert answer["minimum"] == disparity.min() and answer["maximum"] == disparity.max()


def test_form_and_body_give_the_same_response(client, photo, tmp_path):
    body = client.post("/v1/depth", content=photo.read_bytes(), headers={"Content-Type": "application/octet-stream"})
    form = client.post("/v1/depth", files={"image": ("../../x.png", photo.read_bytes(), "text/plain")})
    assert body.content == form.content
    (tmp_path / "answer_disparity.png").write_bytes(body.content)
    assert load(tmp_path / "answer_disparity.png").quantity == "disparity"


def test_a_metric_model_predicts_metres(photo, tmp_path):
    with TestClient(create_app({"metric": MetricModel()})) as client:

        def ask(query: str):
            return client.post(f"/v1/depth?{query}", content=photo.read_bytes())

        answer = ask("format=png16")
        assert answer.headers["content-disposition"] == 'inline; filename="picture_depth_m.png"'
        (tmp_path / "x.png").write_bytes(answer.content)
        depth_m = load(tmp_path / "x.png").depth_m
        assert depth_m[0, -1] == 20 and depth_m[-1, -1] == 2 and depth_m[0, 0] == 0
        assert ask("format=json").json()["quantity"] == "depth_m"
        assert ask("format=ply&fov=60").content.startswith(b"ply")
        assert "this model predicts metres" in ask("format=ply&fov=60&near=1&far=2").json()["detail"]
        assert client.get("/v1/models").json()["models"][0]["max_depth"] == 20


@pytest.mark.slow
def test_batches_in_torch_give_what_each_image_gives_alone(photo):
    pytest.importorskip("torch", reason="the extra torch is not installed")
    predictor = Predictor("nano", backend="torch")
    with Image.open(ROOT / "examples/kodak_20.jpg") as image:
        crops = [np.asarray(image.crop((x, 0, x + 300, 200))) for x in range(0, 400, 50)]
    alone = [predictor(crop).disparity for crop in crops]
    bodies = []
    for crop in crops:
        data = io.BytesIO()
        Image.fromarray(crop).save(data, format="PNG")
        bodies.append(data.getvalue())
    with TestClient(create_app({"nano": predictor})) as client, ThreadPoolExecutor(8) as threads:

        def ask(body: bytes) -> np.ndarray:
            values = client.post("/v1/depth?format=json", content=body).json()["values"]
            return np.frombuffer(base64.b64decode(values["data"]), "<f4").reshape(values["shape"])

        together = list(threads.map(ask, bodies * 4))
        lines = client.get("/metrics").text.splitlines()
    for number, disparity in enumerate(together):
        assert np.abs(disparity - alone[number % len(alone)]).max() < 1e-4
    batches = [float(line.split()[1]) for line in lines if line.startswith("depth_anything_batch_pictures_count")]
    assert batches[0] < len(together)  # some ran together


def test_exif_gives_the_camera(client, photo):
    with Image.open(photo) as image:
        exif = image.getexif()
        exif.get_ifd(0x8769)[0xA405] = 28  # FocalLengthIn35mmFilm
        data = io.BytesIO()
        image.save(data, format="JPEG", exif=exif)
    query = {"format": "ply", "near": 1, "far": 9}
    assert client.post("/v1/depth", params=query, content=data.getvalue()).content.startswith(b"ply")


@pytest.mark.parametrize("installed", [True, False])
def test_a_raw_camera_file_is_developed_or_refused(client, installed, monkeypatch):
    """Never the map of the thumbnail inside."""
    if installed:
        pytest.importorskip("rawpy")
    else:
        monkeypatch.setitem(sys.modules, "rawpy", None)
    data = tiffs.dng(np.full((48, 64, 3), 0.2))
    answer = client.post("/v1/depth?format=json", content=data)
    if installed:
        assert (answer.json()["height"], answer.json()["width"]) == (48, 64)
    else:
        assert answer.status_code == 422 and 'pip install "depth-anything[raw]"' in answer.json()["detail"]


def test_an_image_is_decoded_once(nano, photo, tmp_path, monkeypatch):
    """For its pixels, its camera and the name under which it is kept."""
    decoded = []
    whole = read.decode
    monkeypatch.setattr(read, "decode", lambda image: decoded.append(image) or whole(image))
    png = io.BytesIO()
    Image.open(photo).save(png, "PNG")  # a PNG's EXIF may follow its pixels
    with TestClient(create_app({"nano": nano}, keep=tmp_path / "kept")) as client:
        assert client.post("/v1/depth?format=npz", content=png.getvalue()).status_code == 200
    assert len(decoded) == 1
    assert {path.suffix for path in (tmp_path / "kept").iterdir()} == {".png", ".npz"}
    path = tmp_path / "picture.png"
    path.write_bytes(png.getvalue())
    main(["predict", str(path), "-o", str(tmp_path / "out"), "--save", "npz", "--threads", "1"])
    assert len(decoded) == 2


# -- refusals --------------------------------------------------------------------------------------------------------


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zip_bomb() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("picture.png", bytes(100_000_000))
    return data.getvalue()


def raw(content: bytes, kind: str = "image/jpeg", **headers: str) -> dict:
    return {"content": content, "headers": {"Content-Type": kind, **headers}}


def form(*file: object) -> dict:
    return {"files": {"image": file}}


CUT = (ROOT / "examples/kodak_19.jpg").read_bytes()[:9000]
REFUSED = {
    "no body": (422, "no image", {}),
    "an empty file": (422, "no image", form("x.jpg", b"")),
    "not an image": (422, "not an image", raw(b"hello")),
    "a zip bomb": (422, "not an image", raw(zip_bomb())),
    "a zip bomb that says it is a PNG": (422, "not an image", form("x.png", zip_bomb(), "image/png")),
    "a PNG bomb": (413, "40000 x 3", raw(png(40_000, 3_000, zlib.compress(bytes(120_003_000))))),
    "a PNG beyond everything": (422, "megapixels", raw(png(60_000, 60_000))),
    "a cut JPEG": (422, "cut short", raw(CUT)),
    "too many bytes": (413, "MiB", raw(bytes(2_000_001))),
    "JSON": (415, "application/json", {"json": {"path": "/etc/passwd"}}),
    "a path as text": (415, "text/plain", raw(b"/etc/passwd", "text/plain")),
    "an SVG that includes a file": (422, "not an image", raw(b'<svg><image href="file:///etc/passwd"/></svg>')),
    "a compressed body": (415, "compressed", raw(b"x", **{"Content-Encoding": "gzip"})),
    "a form without the field": (422, "'picture'", {"files": {"picture": b"x"}}),
    "a form with text only": (422, "'image'", form(None, "file:///etc/passwd")),
    "two files": (400, "Too many files", {"files": [("image", b"x"), ("image", b"y")]}),
    "a form without boundary": (400, "boundary", raw(b"x", "multipart/form-data")),
    "a broken form": (400, "form", raw(b"broken", "multipart/form-data; boundary=a")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_bad_body_is_one_clear_refusal(client, name):
    status, said, request = REFUSED[name]
    answer = client.post("/v1/depth", **request)
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert said in detail and "\n" not in detail and "Traceback" not in detail
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("format=gif", "png16"),
        ("colors=jet", "turbo"),
        ("path=/etc/passwd", "path"),
        ("model=v2-small", "this server has nano"),
        ("model=../../weights/nano.onnx", "this server has nano"),
        ("format=glb", "near and far"),
        ("format=glb&near=1&far=5", "camera"),
        ("format=glb&near=5&far=1&fov=50", "near"),
        ("format=ply&near=nan&far=5&fov=50", "near"),
        ("format=ply&near=1&far=inf&fov=50", "far"),
        ("format=npz&fov=180", "fov"),
        ("format=npz&fov=50&focal_mm=28", "fov"),
    ],
)
def test_each_bad_option_is_one_clear_refusal(client, photo, query, said):
    answer = client.post(f"/v1/depth?{query}", files={"image": photo.read_bytes()})
    assert answer.status_code == 422
    assert said in answer.json()["detail"] and "\n" not in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    ["/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py", "/static//etc/passwd", "/server.py"],
)
def test_no_way_out_of_the_static_folder(client, path):
    assert client.get(path).status_code == 404


def test_a_failure_inside_is_500_without_details_and_the_server_continues(photo):
    class Broken:
        backend, batch_size, input_size, variant = None, 1, 224, Predictor("nano", threads=1).variant

        def predict(self, images):
            raise RuntimeError("secret")

    with TestClient(create_app({"broken": Broken()}), raise_server_exceptions=False) as client:
        for _ in range(2):
            answer = client.post("/v1/depth", content=photo.read_bytes())
            assert answer.status_code == 500 and "secret" not in answer.text
        assert client.get("/healthz").status_code == 200
        assert 'path="/v1/depth",status="500"} 2.0' in client.get("/metrics").text


# -- who may, what is kept, what is told -----------------------------------------------------------------------------


def test_the_token(nano, photo):
    with TestClient(create_app({"nano": nano}, token="s3cret")) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
            for answer in (
                client.post("/v1/depth", content=photo.read_bytes(), headers=headers),
                client.get("/v1/models", headers=headers),
                client.get("/metrics", headers=headers),
            ):
                assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        right = {"Authorization": "Bearer s3cret"}
        assert client.post("/v1/depth", content=photo.read_bytes(), headers=right).status_code == 200
        for path in ("/", "/healthz", "/static/app.js", "/v1/colormaps"):
            assert client.get(path).status_code == 200


def test_nothing_is_kept_unless_asked(nano, photo, tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with TestClient(create_app({"nano": nano})) as client:
        client.post("/v1/depth", files={"image": photo.read_bytes()})
        assert client.get("/v1/models").json()["keeps_pictures"] is False
    assert not list(temporary.iterdir())
    with TestClient(create_app({"nano": nano}, keep=tmp_path / "kept")) as client:
        answer = client.post("/v1/depth", files={"image": photo.read_bytes()})
        assert client.get("/v1/models").json()["keeps_pictures"] is True
    kept = {path.name.partition("_")[2] or path.suffix: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    assert kept == {".jpeg": photo.read_bytes(), "disparity.png": answer.content}


def test_an_image_that_cannot_be_kept_is_refused_in_one_line(nano, photo, tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("no folder can be here, as on a full disk")
    with TestClient(create_app({"nano": nano}, keep=kept)) as client:
        answer = client.post("/v1/depth", files={"image": photo.read_bytes()})
        assert client.get("/healthz").status_code == 200
    assert answer.status_code == 507 and "keeps images and cannot: " in answer.json()["detail"]
    assert kept.read_text().startswith("no folder")


def test_models_colormaps_and_metrics(client, photo):
    server = client.get("/v1/models").json()
    assert [row["name"] for row in server["models"]] == ["nano"] and server["max_pixels"] == 1_000_000
    tables = client.get("/v1/colormaps").json()
    assert list(tables) == server["colormaps"] and all(np.shape(table) == (256, 3) for table in tables.values())
    client.post("/v1/depth", files={"image": photo.read_bytes()})
    lines = client.get("/metrics").text.splitlines()
    counted = [
        float(line.split()[-1])
        for line in lines
        if line.startswith('depth_anything_requests_total{path="/v1/depth",status="200"}')
    ]
    assert counted and counted[0] >= 1
    assert "depth_anything_pictures_inside 0.0" in lines


def test_every_response_restricts_the_page_to_this_server(client):
    for path in ("/", "/static/app.js", "/v1/models", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


def test_the_page_brings_everything_with_it(client):
    static = ROOT / "depth_anything/web/static"
    for path in static.rglob("*"):
        if path.suffix in (".html", ".css", ".js") and "vendor" not in path.parts:
            assert "https://" not in path.read_text(), path
    for path in (static / "examples").iterdir():
        assert path.read_bytes() == (ROOT / "examples" / path.name).read_bytes()
    assert {path.name for path in (static / "vendor").glob("*.LICENSE")} >= {"model-viewer.LICENSE", "three.LICENSE"}


def test_without_the_extra_the_command_says_what_to_install(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("depth_anything.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(SystemExit) as stop:
        main(["serve"])
    assert stop.value.code == 2
    missing = 'serve needs prometheus_client, which is not installed: pip install "depth-anything[web]"'
    assert capsys.readouterr().err == f"error: {missing}\n"


def test_openapi_names_every_status_and_form(client):
    spec = client.get("/openapi.json").json()
    depth = spec["paths"]["/v1/depth"]["post"]
    assert {"200", "400", "401", "408", "413", "415", "422", "429", "507"} == set(depth["responses"])
    assert set(depth["responses"]["200"]["content"]) == {FORMATS[form].media_type for form in responses.FORMS}
    assert set(depth["requestBody"]["content"]) == {"multipart/form-data", "image/*", "application/octet-stream"}
    json.dumps(spec)
