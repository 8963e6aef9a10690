"""The verdict above a table: generated from what the seeds show, and no more than that."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from loreun_bench.harness.records import Record
from loreun_bench.report import leaderboard, table, verdict


def record(method, weighting, seed, forget_acc, retain_acc=99.0, run_seed=0):
    seeds = {"split": seed, "train": seed, "unlearn": seed + run_seed, "eval": seed}
    metrics = {"forget_acc": forget_acc, "retain_acc": retain_acc, "test_acc": 90.0}
    return Record(
        "classification", "digits", "small-cnn", "random-10%", method, weighting, seeds, metrics=metrics,
        cost={"rte_s": 1.0, "cpu_s": 1.0}, artifact=f"{method}{weighting}{seed}",
    )  # fmt: skip


def rows(seeds=5, **by_name):
    """Records of rows called METHOD or METHOD__WEIGHTING, with forget accuracies around a value; Retrain's is 50."""
    found = [record("Retrain", "none", seed, 50.0) for seed in range(seeds)]
    for name, value in by_name.items():
        method, _, weighting = name.partition("__")
        noise = random.Random(name)
        found += [record(method, weighting or "none", seed, value + noise.uniform(-0.5, 0.5)) for seed in range(seeds)]
    return found


def said(records):
    (group,) = table.build([("run", records)])
    (text,) = verdict.sentences(group)
    return text


def places(records):
    (group,) = table.build([("run", records)])
    return {row.name: group.standings[0].ranks.get(id(row)) for row in group.rows}


def test_one_row_that_is_better_than_every_other_leads():
    text = said(rows(RL=52.0, FT=70.0, GA=90.0))
    assert text.startswith("RL leads: by ToW it is shown to be better than every other row.")
    assert places(rows(RL=52.0, FT=70.0, GA=90.0)) == {"Retrain": None, "RL": (1, 1), "FT": (2, 2), "GA": (3, 3)}


def test_rows_that_cannot_be_told_apart_share_the_lead_and_their_ranks():
    records = rows(RL=52.0, RL__w_f=52.1, FT=70.0)
    assert "By ToW RL and RL w_f lead and cannot be told apart." in said(records) or "RL w_f and RL lead" in said(records)
    assert places(records) == {"Retrain": None, "RL": (1, 2), "RL w_f": (1, 2), "FT": (3, 3)}
    text = leaderboard.render(table.build([("run", records)]))
    assert next(line.split()[2] for line in text.split("\n") if line.startswith("RL ")) == "1-2"
    assert next(line.split()[2] for line in text.split("\n") if line.startswith("FT ")) == "3"


def test_where_nothing_is_told_apart_nothing_leads():
    assert said(rows(RL=52.0, RL__w_f=52.1)).startswith("By ToW none of the 2 rows is shown to be better than another.")


def test_a_weighting_that_differs_is_named_with_its_size_and_its_direction():
    better = said(rows(RL=60.0, RL__w_f=52.0, RL__w_r=60.2))
    assert "1 of 2 weighted rows differs from the unweighted method: RL w_f is better by 0.08" in better
    worse = said(rows(RL=52.0, RL__w_f=60.0))
    assert "RL w_f is worse by 0.0" in worse
    neither = said(rows(RL=52, RL__w_f=52, RL__w_r=52))
    assert "No weighting is shown to differ from the unweighted method (2 rows)." in neither


def test_over_shooting_retrain_is_no_virtue():
    assert "RL w_f is worse by" in said(rows(RL=50.0, RL__w_f=30.0))


def test_what_is_as_close_as_a_second_retraining_is_named_and_what_is_further():
    names = {"RL": 51.0, "FT": 90.0, "GA": 54.5}
    second = [record("Retrain-2", "none", seed, 52.0 + 0.3 * (-1) ** seed) for seed in range(5)]
    text = said([*rows(**names), *second])
    assert "Compared with a second retraining, RL is as close to Retrain (less than twice its distance, 0.02" in text
    assert "FT and GA are further from Retrain." in text or "GA and FT are further from Retrain." in text
    unsure = [record("Retrain-2", "none", seed, 50.0 + 9.0 * seed) for seed in range(5)]
    assert "FT is further" not in said([*rows(RL=51.0, FT=60.0), *unsure])
    twice = [record("Retrain-2", "none", seed, 50.5 + 0.1 * (-1) ** seed) for seed in range(5)]
    assert "as close to" not in said([*rows(RL=51.0), *twice])  # RL is 0.01 from Retrain, Retrain-2 0.005


def test_a_row_that_is_further_but_less_than_twice_as_far_is_both():
    second = [record("Retrain-2", "none", seed, 52.0) for seed in range(5)]
    text = said([*rows(), *second, *(record("RL", "none", seed, 53.0 + 0.01 * (-1) ** seed) for seed in range(5))])
    assert "Compared with a second retraining, RL is further from Retrain, but less than twice its distance, 0.0200." in text


def test_a_second_retraining_that_is_one_model_for_all_seeds_is_no_measure():
    records = rows(RL=51.0)
    second = [record("Retrain-2", "none", seed, 52.0 + 0.3 * (-1) ** seed) for seed in range(5)]
    assert "Compared with a second retraining" in said([*records, *second])
    assert "Beside" not in said([*records, *(replace(each, artifact="one") for each in second)])


def test_a_table_in_which_original_is_as_close_as_any_row_says_so():
    words = "No row is shown to be closer to Retrain than Original, which forgot nothing."
    original = [record("Original", "none", seed, 51.0 + 0.1 * (-1) ** seed) for seed in range(5)]
    assert words in said([*rows(RL=52.0, FT=70.0), *original])
    assert words not in said([*rows(RL=50.1, FT=70.0), *original])
    assert words not in said(rows(RL=52.0, FT=70.0))


def test_rows_without_every_seed_are_named_and_the_others_are_not_every_row():
    records = [r for r in rows(SalUn=50.5, RL=52.0, FT=70.0) if (r.method, r.seeds["split"]) != ("SalUn", 4)]
    leads = "RL leads: by ToW it is shown to be better than every other row with every seed. SalUn is not ranked"
    assert said(records).startswith(leads)
    cut = said([r for r in rows(RL=52.0, FT=50.1, GA=50.2) if r.method in ("RL", "Retrain") or r.seeds["split"] < 4])
    assert cut.startswith("One row with every seed, RL: there is nothing to compare it with. FT and GA are not ranked")


def test_more_comparisons_need_more_to_be_shown():
    alone = said(rows(3, RL=52.0, RL__w_f=52.7))
    records = rows(3, RL=52.0, RL__w_f=54.0)
    assert "RL w_f is worse" in said(records)
    many = [r for k in range(40) for r in rows(3, **{f"M{k}": 52.0, f"M{k}__w_r": 52.0}) if r.method != "Retrain"]
    assert "RL w_f" not in said([*records, *many]).partition("unweighted")[2]
    assert "No weighting is shown" in alone


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_nothing_is_said_of_who_leads(seeds):
    records = rows(seeds, RL=52.0, FT=90.0, RL__w_f=70.0)
    count = "1 seed" if seeds == 1 else "2 seeds"
    assert said(records) == f"{count}: too few to tell rows apart, which takes 3; the order may be chance."
    assert set(places(records).values()) == {None}


def test_a_row_with_a_missing_seed_is_not_ranked():
    records = [r for r in rows(RL=52.0, FT=70.0, GA=90.0) if (r.method, r.seeds["split"]) != ("RL", 4)]
    assert places(records) == {"Retrain": None, "RL": None, "FT": (1, 1), "GA": (2, 2)}


def test_without_the_number_that_ranks_it_says_so():
    records = [r for r in rows(RL=52.0, FT=70.0) if r.method != "Retrain"]
    assert said(records) == "No row has a value to rank by in every seed, so no leader is named."


def test_what_as_many_seeds_can_show_is_said_and_shrinks_with_them():
    def shown(seeds):
        text = said(rows(seeds, RL=52.0, RL__w_f=52.5))
        return float(text.partition(f"{seeds} seeds can show a difference of ")[2].split()[0])

    assert 0 < shown(5) < shown(3)


def test_runs_without_a_common_seed_have_a_verdict_each():
    one = rows(RL=52.0, FT=70.0)
    other = [record(r.method, r.weighting, r.seeds["split"] + 10, r.metrics["forget_acc"]) for r in one]
    (group,) = table.build([("a", one), ("b", other)])
    first, second = verdict.sentences(group)
    assert first.startswith("a: RL leads")
    assert second.startswith("b: RL leads")


def drawn(method, seed, ua, fd, kept=100.0, counted=True):
    """A cell of the generation track: of 20 pictures of the forgotten class and 180 of the others."""
    counts = {"forget_ua": [round(ua / 5), 20], "kept_acc": [round(1.8 * kept), 180]}
    return Record(
        "generation", "digits", "digits", "class-seven", method, "none", {"train": 0, "unlearn": seed, "eval": seed},
        metrics={"forget_ua": ua, "kept_acc": kept, "fd": fd}, cost={"rte_s": 1.0, "cpu_s": 1.0},
        counts=counts if counted else {}, artifact=f"{method}{seed}",
    )  # fmt: skip


def test_a_small_distance_is_a_good_one_and_tells_apart_what_forgets_alike():
    near = [drawn("RL", seed, 0.0, 2.0 + 0.1 * seed) for seed in range(5)]
    far = [drawn("ESD-x", seed, 0.0, 9.0 - 0.2 * seed) for seed in range(5)]
    assert said([*near, *far]).startswith("RL leads: by H and FD it is shown to be better than every other row.")


def test_who_leads_is_who_is_shown_to_lead_not_who_stands_first():
    noisy = [drawn("A", seed, ua, 9.0 - 0.1 * seed) for seed, ua in enumerate((0.0, 35.0, 0.0, 30.0))]
    near = [drawn("B", seed, 20.0, 2.0 + 0.1 * seed) for seed in range(4)]
    (group,) = table.build([("run", [*noisy, *near])])
    assert group.rows[0].method == "A"
    assert verdict.sentences(group)[0].startswith("B leads: by H and FD")


def test_rows_each_of_which_is_worse_than_another_have_no_leader():
    """A before B by H; C, whose H nobody can tell, before A by FD, and B before C."""
    ua = {"A": (10.0, 10.02, 10.05), "B": (20.0, 19.98, 19.95), "C": (1.0, 45.0, 3.0)}
    fd = {"A": (3.0, 3.02, 3.05), "B": (1.0, 1.0004, 1.0025), "C": (2.0, 1.98, 1.95)}
    records = [drawn(name, seed, ua[name][seed], fd[name][seed], counted=False) for name in ua for seed in range(3)]
    (group,) = table.build([("run", records)])
    assert set(group.standings[0].ranks.values()) == {(2, 2)}
    assert verdict.sentences(group)[0].startswith("By H and FD no row leads: each is shown to be worse than another.")


def test_shares_that_agree_in_every_seed_do_not_make_a_leader_of_what_is_derived_from_them():
    few = [drawn("A", seed, 10.0, 2.0, kept=99.0 + 0.1 * seed) for seed in range(3)]
    more = [drawn("B", seed, 20.0, 2.0, kept=99.0 + 0.05 * seed) for seed in range(3)]  # 6 and 12 of 60 pictures
    (group,) = table.build([("run", [*few, *more])], sort="h")
    assert verdict.sentences(group)[0].startswith("By H none of the 2 rows is shown")


def test_a_name_is_escaped_in_the_verdict_too():
    records = [replace(r, method="<b>*x*") if r.method == "FT" else r for r in rows(RL=70.0, FT=52.0)]
    text = leaderboard.render(table.build([("run", records)]), "md")
    assert r"\<b\>\*x\* leads" in text


def test_pictures_that_happen_to_agree_in_all_seeds_are_not_certain():
    none = [drawn("RL", seed, 0.0, 2.0) for seed in range(4)]
    few = [drawn("FMN", seed, ua, 2.0) for seed, ua in enumerate((10.0, 10.0, 10.0, 5.0))]  # 7 of 80 pictures, and none
    (group,) = table.build([("run", [*none, *few])], sort="forget_ua")
    assert {standing.ranks[id(row)] for standing in group.standings for row in standing.rows} == {(1, 2)}
    many = [drawn("FMN", seed, ua, 2.0) for seed, ua in enumerate((95.0, 90.0, 95.0, 95.0))]
    (group,) = table.build([("run", [*none, *many])], sort="forget_ua")
    assert [group.standings[0].ranks[id(row)] for row in group.standings[0].rows] == [(1, 1), (2, 2)]


def test_seeds_that_draw_from_the_same_samples_show_less():
    records = rows(RL=52.0, RL__w_f=53.5, FT=70.0)
    (own,) = table.build([("run", records)])
    (shared,) = table.build([("run", [replace(r, overlap=0.5) for r in records])])
    for one, other in zip(own.standings[0].unweighted, shared.standings[0].unweighted, strict=True):
        assert other.half == pytest.approx(one.half * ((1 / 5 + 0.5) * 5) ** 0.5)
    assert "random-10% 1/n + 0.5" in leaderboard.render([shared])
    assert "Nadeau" not in leaderboard.render([own])
    one_split = [replace(r, overlap=0.5, seeds=r.seeds | {"split": 0}) for r in records]
    (fixed,) = table.build([("run", one_split)])
    assert fixed.standings[0].unweighted[0].half == pytest.approx(own.standings[0].unweighted[0].half)


def test_one_model_measured_three_times_is_not_ranked():
    records = rows(RL=52.0, FT=70.0, GA=90.0)
    shared = [replace(r, artifact="one") if r.method == "RL" else r for r in records]
    assert places(shared) == {"Retrain": None, "RL": None, "FT": (1, 1), "GA": (2, 2)}


def test_the_verdict_is_the_first_line_above_the_table_and_fits():
    text = leaderboard.render(table.build([("run", rows(RL=52.0, RL__w_f=52.5, FT=70.0))]), width=80)
    lines = text.split("\n")
    assert lines[2].startswith("By ToW") or lines[2].startswith("RL")
    assert max(map(len, lines[: lines.index(next(line for line in lines if line.startswith("method")))])) <= 80
    assert "% RL" in leaderboard.render(table.build([("run", rows(RL=52.0, FT=70.0))]), "latex")
