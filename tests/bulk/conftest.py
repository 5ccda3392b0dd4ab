"""Tiny images in every form that a large collection has."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

BAD = (7, 41)
"""Images that cannot be read."""
N = 48


def write_sources(root: Path, n: int = N) -> None:
    """Write the same images as photos/CLASS/NAME.png, tars/, parquet/, and urls.csv."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(n):
        stream = io.BytesIO()
        pixels = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(stream, "png")
        data = b"no image" if i in BAD else stream.getvalue()
        file = root / "photos" / f"c{i % 4}" / f"{i:05}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        rows.append((f"{i:05}", f"c{i % 4}", data, file))
    half = n // 2
    for name in ("tars", "parquet"):
        (root / name).mkdir()
    for number, part in enumerate((rows[:half], rows[half:])):
        with tarfile.open(root / "tars" / f"{number}.tar", "w") as tar:
            for key, label, data, _ in part:
                labels = (f"{key}.cls", label.encode())
                if number:
                    labels = (f"{key}.json", f'{{"label": "{label}"}}'.encode())
                hidden = (f"._{key}.png", b"written by macOS")
                for member, content in ((f"{key}.png", data), labels, hidden):
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        images = [{"bytes": data, "path": None} for _, _, data, _ in part]
        labels_column = [label for _, label, _, _ in part]
        table = pa.table(
            {"image": images, "label": labels_column, "camera": list("ab") * (half // 2)}
        )
        pq.write_table(table, root / "parquet" / f"{number}.parquet")
    lines = [f"file://{file},{label}" for _, label, _, file in rows]
    (root / "urls.csv").write_text("\n".join(["path,class", *lines]))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    write_sources(root)
    return root
