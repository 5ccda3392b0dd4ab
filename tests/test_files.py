from pathlib import Path

import pytest

from oodml.files import content_hash, replacing, write_text


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    write_text(target, "first")

    def fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail()
    assert target.read_text() == "first"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_the_parts_of_a_hash_are_separated() -> None:
    assert content_hash("ab", "c") != content_hash("a", "bc")
    assert content_hash("ä") == content_hash("ä".encode())
    assert len(content_hash()) == 64
