"""Runs that tests of the page are made of: a usual one, and one whose every name is an attack."""

from __future__ import annotations

import random

from loreun_bench.harness.records import Record
from loreun_bench.report import table
from loreun_bench.report.page import page
from loreun_bench.report.page.about import Run

MARK = "window.pwned=1"
ATTACKS = (
    f"<script>{MARK}</script>", f'"><img src=x onerror={MARK}>', f"</script><script>{MARK}</script>", "]]>", "{{7*7}}",
    f"javascript:{MARK}", "a\u202eb\u2066c", "\x00\x07\x1b[2J\x7f", "漢字の名前", "🧠👩\u200d🔬", "<!--<script>",
    "</style><script>", f"' onmouseover={MARK} '", "</td></tr></table>", "&lt;b&gt;&amp;#60;", "constructor", "__proto__",
    "\\u003c/script>", "${1+1}", f"-- --><svg/onload={MARK}>",
)  # fmt: skip
LONG = "x<b>" * 200  # as long as it may be in a record that has it twice


def record(method, seed=0, weighting="none", *, scenario="random-10%", status="ok", **changes):
    noise = random.Random(f"{method} {weighting} {seed}")
    metrics = {f"{part}_acc": round(noise.uniform(60, 99), 4) for part in ("forget", "retain", "test")}
    metrics |= {"mia_confidence": round(noise.uniform(5, 60), 4), "mia_auc": round(noise.uniform(30, 60), 4)}
    values = {
        "track": "classification", "dataset": "digits", "model": "small-cnn", "scenario": scenario, "method": method,
        "weighting": weighting, "seeds": dict.fromkeys(("split", "train", "unlearn", "eval"), seed), "status": status,
        "metrics": metrics if status == "ok" else {},
        "cost": {"rte_s": round(noise.uniform(0.5, 20), 4)} if status == "ok" else {},
        "reason": "" if status == "ok" else "the loss is NaN", "environment": {"device": "cpu", "torch": "2.15.0"},
        "backend": "cpu-avx512", "artifact": f"{method}{weighting}{seed}",
    }  # fmt: skip
    return Record(**(values | changes))


def usual(seeds=3):
    """Two scenarios, references, two methods with weightings, a failed cell, one row measured elsewhere."""
    found = []
    for scenario in ("random-10%", "class-3"):
        for seed in range(seeds):
            found += [record(method, seed, scenario=scenario) for method in ("Original", "Retrain")]
            found += [record(method, seed, weighting, scenario=scenario) for method in ("RL", "SalUn")
                      for weighting in ("none", "w_f", "w_r")]  # fmt: skip
            elsewhere = {"environment": {"device": "cuda", "torch": "2.15.0"}, "cost": {"rte_s": 1234.5}}  # 1.23e+03 s
            found.append(record("GA", seed, scenario=scenario, **elsewhere))
            found.append(record("NaNs", seed, scenario=scenario, status="diverged" if seed == 1 else "ok"))
    return found


def hostile():
    """Every name that a record has, and a part of its environment, from ATTACKS."""
    found = []
    for number, attack in enumerate((*ATTACKS, LONG)):
        about = {"environment": {"device": attack, attack[:40]: {"inner": attack}}, "backend": attack}
        found += [record("Retrain", seed, scenario=ATTACKS[0], dataset=ATTACKS[1], model=ATTACKS[2]) for seed in range(3)]
        for seed in range(3):
            names = {"scenario": ATTACKS[0], "dataset": ATTACKS[1], "model": ATTACKS[2]}
            bad = {"status": "failed", "reason": attack} if seed == 2 and number % 2 else {}
            weighting = ATTACKS[-1 - number] if number < len(ATTACKS) else LONG
            found.append(record(attack, seed, weighting, **names, **about, **bad))
    return found


def html(records, name="run", config="name: tiny\n", ua="loreun", **changes):
    """The page of records."""
    sources = page.Sources([Run(name, config)], **changes)
    return page.render(table.build([(name, records)]), sources, ua)[0]
