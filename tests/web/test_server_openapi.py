"""Requests that schemathesis makes from our own OpenAPI document, in this process."""

import pytest

from depth_anything.predict.predictor import Predictor

OPERATIONS = ["GET /healthz", "GET /metrics", "GET /v1/colormaps", "GET /v1/models", "POST /v1/depth"]


@pytest.fixture(scope="module")
def schema():
    pytest.importorskip("fastapi", reason="the extra web is not installed")
    schemathesis = pytest.importorskip("schemathesis", reason="the extra dev is not installed")
    from depth_anything.web.middleware import Limits
    from depth_anything.web.server import create_app

    app = create_app({"nano": Predictor("nano", threads=1)}, Limits(max_pixels=100_000))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def test_the_list_is_whole(schema):
    found = {f"{operation.ok().method.upper()} {operation.ok().path}" for operation in schema.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", ["positive", "negative"])
def test_no_5xx_and_nothing_outside_the_document(schema, operation, kind):
    from hypothesis import HealthCheck, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    verb, path = operation.split()
    strategy = schema[path][verb].as_strategy(generation_mode=GenerationMode(kind))
    called = 0

    @given(case=strategy)
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def run(case):
        nonlocal called
        called += 1
        case.call_and_validate(
            checks=[
                not_a_server_error,
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ]
        )

    try:
        run()
    except Unsatisfiable:
        pytest.skip(f"{operation} takes nothing that could be {kind}")
    assert called
