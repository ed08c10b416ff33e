"""Chaos, in short: some runs on each database, workers killed and frozen, the database broken; every rule is kept.

`make chaos` does the same with 520 runs each.
"""

from __future__ import annotations

import os

import pytest
from bench.chaos.__main__ import main
from postgres_databases import missing

from desist.testing import LocalPostgres


@pytest.mark.parametrize("db", ["sqlite", "postgres"])
def test_every_rule_is_kept(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every run ends once, as its receipts said; nothing finished is begun again, nothing cancelled comes back."""
    if db == "postgres" and LocalPostgres.binaries() is None:
        missing("postgres", "Postgres isn't installed (Debian: postgresql)")
    seed = os.environ.get("DESIST_CHAOS_SEED", "21")
    code = main(["--db", db, "--runs", "40", "--minutes", "0.08", "--seed", seed])
    assert code == 0, capsys.readouterr().out
