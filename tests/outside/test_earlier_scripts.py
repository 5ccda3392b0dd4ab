"""What scripts of earlier versions import can still be imported."""

import importlib

import pytest


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("oodml.cli", "main"),
        ("oodml.images", "ImageSet"),
        ("oodml.report.paper_tables", "ags_latex"),
        ("oodml.study.file", "read_study"),
        ("oodml.study.launch", "run_study"),
    ],
)
def test_earlier_imports_work(module: str, name: str) -> None:
    assert callable(getattr(importlib.import_module(module), name))
