"""Odd requests by the thousand, made from the OpenAPI schema: no fault of ours, no broken promise."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from digitry.corrections.store import Corrections
from digitry.model.load import load_model
from digitry.reading.reader import Reader
from digitry.serving.app import create_app
from digitry.serving.dispatch import LocalReaders
from digitry.serving.guard import Hosts, Limits

from .conftest import MODEL

OPERATIONS = (
    "POST /v1/read", "GET /v1/models", "POST /v1/explain", "POST /v1/corrections",
    "GET /v1/corrections", "GET /v1/corrections/{id}", "DELETE /v1/corrections/{id}",
    "GET /v1/corrections/{id}/{picture}", "GET /healthz", "GET /readyz", "GET /metrics",
)  # fmt: skip


class Lasting(LocalReaders):
    """Readers that outlive the application, which is started and stopped for each request here."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    store = Corrections(str(tmp_path_factory.mktemp("api") / "corrections.db"))
    app = create_app(
        Lasting(Reader(MODEL)),
        store,
        model=load_model(MODEL),
        hosts=Hosts(["testserver"]),
        limits=Limits(at_once=100),
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    yield {found.ok().label: found.ok() for found in schema.get_all_operations()}
    store.close()


def test_the_schema_names_every_operation(operations: dict[str, Any]) -> None:
    assert set(operations) == set(OPERATIONS)


@pytest.mark.parametrize("examples", [10, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_generated_requests_are_answered_as_documented(
    name: str, examples: int, operations: dict[str, Any]
) -> None:
    @given(case=operations[name].as_strategy())
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples < 100,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        # No schema can say which bytes are an image, so bytes of its making may be refused.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    ask()
