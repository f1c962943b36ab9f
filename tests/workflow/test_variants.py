"""A study to which wordings are added: only they are computed, and everything shows them."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from tests.workflow.conftest import ROOT, Study

import isogloss as iso
from isogloss.errors import InputError
from isogloss.reference import variable_table

VARIANTS = {"plain": {"default": "{context}\n{question}", "de": "{context}\nFrage: {question}"}}


def test_wordings_added_to_a_study_cost_their_own_extraction_alone(
    copied: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copied(prompt={"variants": VARIANTS})
    before = study.artifacts()
    target = "results/tiny/own/variants.nc"
    assert study.plan(target) == {"extract": 1, "variants": 1}
    study.run(target)
    after = study.artifacts()
    assert before.items() < after.items()
    assert [name.split("/")[1] for name in after.keys() - before] == ["activations"] * 3
    assert study.plan(target) == {}

    monkeypatch.setenv("ISOGLOSS_CACHE", str(study.cache))
    opened = iso.open(study.folder / study.written())
    dataset = opened.variants("tiny", "own")
    with xr.open_dataset(study.folder / target) as stored:
        xr.testing.assert_identical(dataset, stored)
    table = f"<!-- table: variants -->\n{variable_table(dataset)}\n<!-- end -->"
    advice = "docs/reference.md is out of date: run `python workflow_scripts/reference.py`"
    assert table in (ROOT / "docs/reference.md").read_text("utf-8"), advice
    assert dataset["variant"].values.tolist() == ["main", "plain"]
    accuracy = dataset["accuracy"].sel(variant="main", language="de")
    assert float(accuracy) == float(opened.behaviour("tiny", "own")["accuracy"].sel(language="de"))
    words = {name: opened.activations("tiny", "own", "de", name) for name in (None, "plain")}
    assert not np.array_equal(words[None]["prompt_last"], words["plain"]["prompt_last"])
    assert np.isnan(words["plain"]["log_probability"].sel(latent="pivot")).all()
    assert "rows_state" in words[None] and "rows_state" not in words["plain"]
    with pytest.raises(InputError, match="lexicon: its questions have one wording"):
        opened.variants("tiny", "lexicon")
