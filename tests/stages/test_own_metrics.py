"""A user's metric cannot change what the other metrics of its row find."""

from __future__ import annotations

import loreun_bench
from loreun_bench.classification.stages import build_model
from loreun_bench.plugins import load_plugin

HOSTILE = """
from loreun_bench import metric

@metric("bad{0}", columns={{"bad{0}": "bad"}})
def bad{0}(outputs):
    "It zeroes all that it is given."
    total = float(sum(each.logits.abs().sum() for each in outputs.sets.values()))
    for each in outputs.sets.values():
        each.logits.zero_()
        each.labels.zero_()
    outputs.true_labels.zero_()
    return {{"bad{0}": total}}
"""


def test_a_metric_that_changes_its_input_changes_no_other(tmp_path):
    for number in (1, 2):
        (tmp_path / f"bad{number}.py").write_text(HOSTILE.format(number))
        load_plugin(tmp_path / f"bad{number}.py")
    model, usual = build_model("small-cnn", {}, 1, 10, (8, 8)), ["accuracy", "loss"]
    alone = loreun_bench.evaluate(model, "digits", metrics=usual)
    found = loreun_bench.evaluate(model, "digits", metrics=["bad1", "bad2", *usual])
    assert {key: found[key] for key in alone} == alone
    assert found["bad1"] == found["bad2"] > 0
