import pytest

from oodml import catalog
from oodml.errors import OodmlError


def test_names_are_the_files() -> None:
    assert {"margin", "multisimilarity", "arcface", "proxy_anchor"} <= set(catalog.names("losses"))
    assert not any(name.startswith("_") for kind in catalog.KINDS for name in catalog.names(kind))


@pytest.mark.parametrize("kind", sorted(catalog.KINDS))
def test_every_file_holds_its_thing(kind: str) -> None:
    for name in catalog.names(kind):
        assert callable(catalog.find(kind, name)), name


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(OodmlError, match="unknown loss 'margn'. Did you mean 'margin'"):
        catalog.load("losses", "margn")
    with pytest.raises(OodmlError, match="unknown kind 'loss'. Did you mean 'losses'"):
        catalog.names("loss")


def test_an_unknown_option_is_told_the_nearest() -> None:
    with pytest.raises(OodmlError, match=r"losses.margin: unknown option 'marign'. Did you mean"):
        catalog.load("losses", "margin", marign=0.1)


def test_an_import_path_reaches_a_thing_of_ones_own() -> None:
    assert catalog.find("losses", "collections:Counter").__name__ == "Counter"
    with pytest.raises(OodmlError, match="cannot import 'no_such_package:Loss'"):
        catalog.find("losses", "no_such_package:Loss")
