"""The keys of results.json, as a diagnosis writes them and as the docs say them."""

import copy
import json
from pathlib import Path

import pytest

from remid_jax.analysis import schema
from remid_jax.diagnosis import diagnose

DOCS = Path(__file__).parents[2] / "docs" / "results_schema.md"


def test_a_diagnosis_has_these_keys(small_config, tmp_path):
    small_config.profile.swaps = 1
    small_config.divergences.features = "hidden"
    small_config.divergences.permutations = 9
    diagnose(small_config, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    schema.check_results(results)
    filled = ("rows", "by_shift", "worst", "comparisons", "profile", "divergences")
    assert all(results[table] for table in filled)
    lines = (tmp_path / results["contributions"]).read_text(encoding="utf-8").splitlines()
    assert {tuple(json.loads(line)) for line in lines} == {
        tuple(schema.TABLES["contributions.jsonl"])
    }

    def broken(change):
        changed = copy.deepcopy(results)
        change(changed)
        return changed

    old = broken(lambda r: r["rows"][1].update(policy=r["rows"][1].pop("rpm")))
    said = r"rows\[1\]: missing keys \['rpm'\], unknown keys \['policy'\]"
    with pytest.raises(ValueError, match=said):
        schema.check_results(old)
    with pytest.raises(ValueError, match=r"by_shift\[0\].shifts\[1\]: missing keys \['p_holm'\]"):
        schema.check_results(broken(lambda r: r["by_shift"][0]["shifts"][1].pop("p_holm")))
    with pytest.raises(ValueError, match=r"missing keys \['worst'\], unknown keys \['best'\]"):
        schema.check_results(broken(lambda r: r.update(best=r.pop("worst"))))
    with pytest.raises(ValueError, match="schema is 1, not 4"):
        schema.check_results({**results, "schema": 1})


def test_the_page_of_the_docs_is_up_to_date():
    assert DOCS.read_text(encoding="utf-8") == "\n".join(schema.markdown()) + "\n"
