"""Options beside the image in a form, and whom a browser may bring."""

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra web is not installed")
from starlette.testclient import TestClient

from depth_anything.predict.predictor import Predictor
from depth_anything.web.middleware import Limits
from depth_anything.web.server import create_app
from depth_anything.web.site import Site


@pytest.fixture(scope="module")
def nano() -> Predictor:
    return Predictor("nano", threads=1)


@pytest.fixture(scope="module")
def client(nano):
    with TestClient(create_app({"nano": nano, "again": nano}, Limits(max_bytes=2_000_000))) as client:
        yield client


@pytest.fixture(scope="module")
def png() -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {"format": "npz"},
        {"format": "npz", "fov": "50", "model": "again"},
        {"format": "color", "colors": "inferno"},
        {"format": "glb", "near": "2", "far": "30", "fov": "50"},
        {"format": "ply", "near": "2", "far": "30", "focal_mm": "35"},
        {"format": "json"},
    ],
)
def test_fields_are_the_options_of_the_query(client, png, options):
    by_query = client.post("/v1/depth", params=options, content=png)
    by_form = client.post("/v1/depth", files={"image": png}, data=options)
    assert by_query.status_code == 200, by_query.text
    assert by_form.content == by_query.content
    assert by_form.headers["content-disposition"] == by_query.headers["content-disposition"]
    assert by_form.content != client.post("/v1/depth", content=png).content


def test_options_may_be_shared_between_query_and_form(client, png):
    both = client.post("/v1/depth?format=color", files={"image": png}, data={"colors": "gray"})
    assert both.content == client.post("/v1/depth?format=color&colors=gray", content=png).content


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"fromat": "npz"}, "fromat: Extra inputs"),
        ({"format": "tif"}, "format: "),
        ({"model": "v9"}, "this server has nano, again, not 'v9'"),
        ({"near": "1", "far": "9"}, "near and far are for normals, ply, glb, colmap; png16 would stay disparity"),
        ({"near": "nan"}, "near: "),
        ({"near": ""}, "near: "),
        ({"fov": "180"}, "fov: "),
        ({"format": ["npz", "exr"]}, "format: given more than once"),
        ({"colors": "x" * 5000}, "maximum size"),
        ({f"field{number}": "1" for number in range(40)}, "Too many fields"),
    ],
)
def test_fields_that_mean_nothing_are_refused(client, png, fields, said):
    answer = client.post("/v1/depth", files={"image": png}, data=fields)
    assert answer.status_code in (400, 422) and said in answer.json()["detail"]


def test_an_option_that_is_given_twice_is_refused(client, png):
    for query in ("?format=npz&format=color", "?format=npz"):
        answer = client.post(f"/v1/depth{query}", files={"image": png}, data={} if "&" in query else {"format": "exr"})
        assert answer.status_code == 422 and answer.json()["detail"] == "format: given more than once"


def test_a_second_file_is_refused(client, png):
    for name in ("image", "mask"):
        answer = client.post("/v1/depth", files=[("image", png), (name, png)])
        assert answer.status_code in (400, 422)


LOOPBACK, OPEN = Site("127.0.0.1", ("depth.example.org",)), Site("0.0.0.0", ("depth.example.org",))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.9.9.9", "[::1]:80", None,
                                  "localhost.", "depth.example.org", "Depth.Example.org:443"])  # fmt: skip
def test_own_names(host):
    assert LOOPBACK.refusal(host, None) is None
    assert OPEN.refusal(host, None) is None


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example",
                                  "127.0.0.1.evil.example", "", "a@localhost", "localhost:80:90", "[::1", "127.1",
                                  "localhost evil", "x.depth.example.org", "localhost/", "localhost:8x"])  # fmt: skip
def test_names_that_a_page_made_up(host):
    for site in (LOOPBACK, OPEN):
        assert site.refusal(host, None)[0] == 421


def test_numbers_name_a_server_that_listens_to_others():
    assert OPEN.refusal("192.168.1.5:8000", None) is None and OPEN.refusal("[fe80::1]:8000", None) is None
    assert LOOPBACK.refusal("192.168.1.5:8000", None)[0] == 421


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8000", "http://localhost:8000", None),
        ("localhost:8000", "https://LOCALHOST:8000", None),  # a proxy in front speaks TLS
        ("[::1]:8000", "http://[::1]:8000", None),
        ("127.0.0.1:8000", "https://depth.example.org", None),
        ("127.0.0.1:8000", "http://localhost:8000", 403),
        ("127.0.0.1:8000", "http://127.0.0.1:3000", 403),
        ("localhost:8000", "http://localhost:3000", 403),
        ("localhost:8000", "http://evil.example", 403),
        ("localhost:8000", "null", 403),
        ("localhost:8000", "", 403),
        ("depth.example.org", "http://evil.example", 403),
        ("evil.example", "http://evil.example", 421),
    ],
)
def test_pages_of_others(host, origin, status):
    refused = LOOPBACK.refusal(host, origin)
    assert (refused and refused[0]) == status


def test_the_check_comes_before_everything(nano, png):
    with TestClient(create_app({"nano": nano}, site=LOOPBACK), base_url="http://127.0.0.1:8000") as client:
        assert client.post("/v1/depth", content=png).status_code == 200
        form = client.post("/v1/depth", files={"image": png}, headers={"Origin": "http://evil.example"})
        assert form.status_code == 403 and "http://evil.example" in form.json()["detail"]
        for path in ("/", "/v1/models", "/static/app.js", "/healthz", "/metrics", "/nothing"):
            answer = client.get(path, headers={"Host": "evil.example:8000"})
            assert answer.status_code == 421 and "--host-name" in answer.json()["detail"]
            assert answer.headers["content-security-policy"]


@pytest.mark.parametrize("name", ["http://depth.example.org", "depth.example.org:80", "a b", "Depth.example.org", ""])
def test_host_names_are_names(name):
    with pytest.raises(ValueError, match="--host-name"):
        Site("127.0.0.1", (name,))


APP = "https://app.example.org"


@pytest.fixture(scope="module")
def shared(nano):
    with TestClient(create_app({"nano": nano}, site=Site("127.0.0.1", (), (APP,))), base_url="http://localhost") as it:
        yield it


def test_a_named_page_may_send_and_read(shared, png):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    before = shared.options("/v1/depth", headers={"Origin": APP, **asked})
    assert before.status_code == 200 and before.headers["access-control-allow-origin"] == APP
    answer = shared.post("/v1/depth", content=png, headers={"Origin": APP})
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == APP
    assert "Content-Disposition" in answer.headers["access-control-expose-headers"]
    refused = shared.post("/v1/depth", content=b"", headers={"Origin": APP})
    assert refused.status_code >= 400 and refused.headers["access-control-allow-origin"] == APP


def test_other_pages_may_neither_send_nor_read(shared, client, png):
    headers = {"Origin": "https://evil.example"}
    answer = shared.post("/v1/depth", content=png, headers=headers)
    assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
    preflight = shared.options("/v1/depth", headers={**headers, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 400 and "access-control-allow-origin" not in preflight.headers
    assert "access-control-allow-origin" not in client.get("/v1/models", headers={"Origin": APP}).headers


@pytest.mark.parametrize("origin", ["*", "app.example.org", f"{APP}/", f"{APP}/page", "ftp://a.example", "https://*.a.b",
                                    "https://App.example.org", "null", ""])  # fmt: skip
def test_origins_are_scheme_and_host(origin):
    with pytest.raises(ValueError, match="--allow-origin"):
        Site("127.0.0.1", (), (origin,))
    assert Site("127.0.0.1", (), ("http://localhost:3000", "http://[::1]:80")).origins
