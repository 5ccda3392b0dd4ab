"""Models and splits in mteb: its scores equal ours."""

from pathlib import Path

import numpy as np
import pytest

import oodml
from oodml.model import frozen_model
from oodml.shift.splits import Split

mteb = pytest.importorskip("mteb")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trained", [False, True])
def test_mteb_and_oodml_compute_the_same_scores(trained: bool, tmp_path: Path) -> None:
    images = oodml.open_images("glyphs", few=(24, 8))
    names = np.unique(images.classes).tolist()
    split = Split(step=3, train=tuple(names[:8]), test=tuple(names[8:]), shift=1.0)
    model = frozen_model("pixels", normalize=False)
    if trained:
        model = oodml.train(images, "margin", split=split, backbone="pixels", epochs=1)
        model.save(tmp_path)
    task = oodml.as_mteb_task(split, images)
    encoder = oodml.mteb_model(tmp_path if trained else "pixels")
    result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False)
    scores = result.task_results[0].scores["test"][0]
    vectors = oodml.embed(images.subset(split.test), model)
    ours = oodml.retrieval_metrics(vectors.vectors, vectors.labels, distance="cosine")
    assert 0.1 < ours["recall@1"] < 0.999
    assert scores["hit_rate_at_1"] == pytest.approx(ours["recall@1"], abs=1e-5)
    assert scores["map_at_1000"] == pytest.approx(ours["map@1000"], abs=1e-5)


def test_text_is_refused_by_name() -> None:
    with pytest.raises(oodml.OodmlError) as caught:
        oodml.mteb_model("pixels").encode([{"text": ["a"]}])
    assert caught.value.location == "image"
