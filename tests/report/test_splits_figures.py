from pathlib import Path

import pytest
from PIL import Image

from oodml import OodmlError
from oodml.report import splits_figures as draw
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.controls import backbone_agreement
from tests.shift.samples import clustered

FEATURES = clustered(20)
SETTINGS = SplitSettings(procedure="published", removal=5, swaps=1, n_splits="all")
PROGRESSION = build_progression(FEATURES, SETTINGS)


def test_every_figure_is_drawn(tmp_path: Path) -> None:
    agreement = backbone_agreement(PROGRESSION, {"a": FEATURES, "b": clustered(20, seed=1)})
    figures = (
        draw.shift_per_step(PROGRESSION),
        draw.progression_maps(PROGRESSION, FEATURES, [0, "R1"]),
        draw.progression_maps(PROGRESSION, FEATURES),
        draw.agreement_figure(agreement),
    )
    for number, figure in enumerate(figures):
        draw.save_figure(figure, tmp_path / f"{number}.png")
        with Image.open(tmp_path / f"{number}.png") as image:
            colours = image.convert("RGB").getcolors(10**6)
        assert colours is not None
        assert len(colours) > 20
    titles = [axes.get_title() for axes in figures[1].axes]
    assert titles[0].startswith("step 0, FID")
    with pytest.raises(OodmlError, match="allowed: .png, .pdf, .svg"):
        draw.save_figure(figures[0], tmp_path / "x.gif")


def test_the_page_names_classes_and_shows_samples() -> None:
    every = {str(name): "data:image/png;base64,AAAA" for name in FEATURES.ids}
    page = draw.splits_page(PROGRESSION, FEATURES, every)
    assert "data:image/png;base64,AAAA" in page
    assert '"c000"' in page
    bare = draw.splits_page(PROGRESSION)
    assert "base64,AAAA" not in bare
    assert '"c000"' not in bare
