"""`python -m tests.golden.catalog.update` writes every expected.json anew; read the diff."""

from __future__ import annotations

from tests.golden.catalog.cases import HERE, case_names, load, outcome, rendered

if __name__ == "__main__":
    for name in case_names():
        (HERE / name / "expected.json").write_bytes(rendered(outcome(load(name))))
