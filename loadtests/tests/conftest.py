"""A shop of its own for tests that need a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import connection

from loadtests.processes import server


@pytest.fixture
def _children_use_the_test_database(monkeypatch: pytest.MonkeyPatch) -> None:
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        url = f"sqlite:///{values['NAME']}"
    else:
        secret = quote(values["PASSWORD"], safe="")
        address = f"{values['HOST']}:{values['PORT']}"
        url = f"mysql://{values['USER']}:{secret}@{address}/{values['NAME']}"
    monkeypatch.setenv("DATABASE_URL", url)
    connection.close()


@pytest.fixture
def host(tmp_path: Path, _children_use_the_test_database: None) -> Iterator[str]:
    with server(log=tmp_path / "server.log") as address:
        yield address
