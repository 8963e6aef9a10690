"""The membership attack: the same for every number of samples, exact, and aware of when it says nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from loreun_bench.classification.metrics.mia import at_chance, best_threshold, confidence, mia
from loreun_bench.classification.scoring.evaluation import Outputs, Predictions
from loreun_bench.classification.unlearning.protocols import PROTOCOLS


def sure(n, margin, seed=0, spread=0.3):
    """n right predictions of which the label's logit leads by about `margin`."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=g)
    logits = torch.zeros(n, 4, dtype=torch.float64)
    logits[torch.arange(n), labels] = margin + spread * torch.randn(n, generator=g, dtype=torch.float64)
    return Predictions(logits, labels)


def outputs(protocol="corrected", **sets):
    sets = {"test_forget": Predictions(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))} | sets
    return Outputs(sets, sets["forget"].labels, PROTOCOLS[protocol], 0)


def retrained(n, seed):
    """Scores like a retrained model's: members sure, a tenth of the others not. (members 4n, others n, forgotten n)"""
    rng = np.random.default_rng(seed)

    def unseen(size):
        return 1 / (1 + np.exp(-np.where(rng.random(size) < 0.1, rng.normal(0, 3, size), rng.normal(7, 2, size))))

    return 1 / (1 + np.exp(-rng.normal(8, 1.5, 4 * n))), unseen(n), unseen(n)


def test_the_attack_calls_unseen_what_looks_like_the_test_set():
    base = {"retain": sure(900, 6.0), "test": sure(300, 2.0, 1)}
    like_test, like_retain = (mia(outputs(forget=sure(100, m, 2), **base)) for m in (2.0, 6.0))
    assert like_test["mia_confidence"] > 95
    assert like_retain["mia_confidence"] < 5
    assert like_test["mia_attack_acc"] > 95
    assert not like_test.counts  # the threshold is fitted: no exact interval
    assert not like_test.uninformative


def test_members_are_all_retain_samples_and_in_protocol_paper_the_first_ones():
    first, rest = sure(300, 2.0, 3), sure(900, 6.0)
    retain = Predictions(torch.cat([first.logits, rest.logits]), torch.cat([first.labels, rest.labels]))
    sets = {"retain": retain, "test": sure(300, 2.0, 1), "forget": sure(100, 2.0, 2)}
    assert mia(outputs(**sets))["mia_attack_acc"] == pytest.approx(87.5, abs=1)
    assert mia(outputs("paper", **sets))["mia_attack_acc"] < 60


def test_m_entropy_is_small_for_members():
    found = mia(outputs(forget=sure(100, 2.0, 2), retain=sure(900, 6.0), test=sure(300, 2.0, 1)))
    assert found["mia_m_entropy"] > 95
    assert found["mia_m_entropy_attack_acc"] > 95


def test_the_threshold_is_the_best_of_all_and_weighs_both_sides_alike():
    rng = np.random.default_rng(0)
    for _ in range(50):
        members = np.round(rng.normal(1, 1, rng.integers(1, 40)), 1)  # rounded, so that scores are equal
        others = np.round(rng.normal(0, 1, rng.integers(1, 40)), 1)
        threshold, accuracy = best_threshold(members, others)
        tried = [-np.inf, *np.unique([*members, *others]), np.inf]
        best = max(((members >= t).mean() + (others < t).mean()) / 2 for t in tried)
        assert accuracy == pytest.approx(best)
        assert ((members >= threshold).mean() + (others < threshold).mean()) / 2 == pytest.approx(best)


def test_copies_of_the_samples_change_nothing():
    members, others, _ = retrained(300, 0)
    assert best_threshold(np.tile(members, 7), np.tile(others, 3)) == best_threshold(members, others)


def test_ties_are_settled_in_the_middle():
    assert best_threshold(np.array([4.0, 5.0]), np.array([1.0, 2.0])) == (3.0, 1.0)
    threshold, accuracy = best_threshold(np.array([1.0, 3.0, 5.0]), np.array([0.0, 2.0, 4.0]))  # at 0.5, 2.5 and 4.5
    assert (threshold, accuracy) == (2.5, pytest.approx(2 / 3))


def test_neighbouring_numbers_still_part():
    low, high = 1.0, np.nextafter(1.0, 2.0)
    threshold, accuracy = best_threshold(np.array([high]), np.array([low]))
    assert low < threshold <= high
    assert accuracy == 1


def test_mia_does_not_move_with_the_number_of_samples():
    """With an SVM of fixed C it does: by a third from 500 to 10 000 samples on such scores."""
    means = []
    for n in (500, 2000, 10_000):
        found = []
        for seed in range(10):
            members, others, forget = retrained(n, seed)
            threshold, _ = best_threshold(members, others)
            found.append(100 * (forget < threshold).mean())
        means.append((np.mean(found), np.std(found) / 10**0.5))
    for value, error in means[:-1]:
        assert abs(value - means[-1][0]) < 3 * error + 0.3


def test_an_attack_at_chance_says_nothing_and_says_so():
    same = {"retain": sure(1300, 5.0), "test": sure(360, 5.0, 1)}
    found = mia(outputs(forget=sure(100, 1.0, 2), **same))
    assert found.uninformative == {"mia_confidence", "mia_m_entropy"}
    assert found["mia_attack_acc"] < 55
    assert "mia_auc" not in found.uninformative


def test_chance_is_kolmogorov_and_smirnovs_one_percent():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        members, others = rng.normal(size=400), rng.normal(size=100)
        wrong += not at_chance(best_threshold(members, others)[1], members, others)
    assert wrong <= 12  # 4 are expected, and the bound of 51 % lets fewer pass


def test_members_that_are_less_sure_than_others_are_no_finding():
    members, others = np.linspace(0, 1, 400), np.linspace(2, 3, 100)
    _, accuracy = best_threshold(members, others)
    assert accuracy == 0.5
    assert at_chance(accuracy, members, others)


def test_many_samples_do_not_make_a_hair_into_a_finding():
    rng = np.random.default_rng(0)
    members, others = rng.normal(0.03, 1, 200_000), rng.normal(0, 1, 200_000)
    _, accuracy = best_threshold(members, others)
    assert accuracy < 0.51
    assert at_chance(accuracy, members, others)


def test_protocol_paper_repeats_the_reference_codes_svm_to_the_digit():
    sets = {"retain": sure(120, 3.0, spread=2.0), "test": sure(40, 2.0, 1, 2.0), "forget": sure(30, 2.0, 2, 2.0)}
    members, others, forget = (confidence(sets[name]).numpy()[:, None] for name in ("retain", "test", "forget"))
    members = members[:40]  # the first ones, as many as there are test samples
    attack = SVC(C=3, gamma="auto", kernel="rbf").fit(np.vstack([members, others]), np.r_[np.ones(40), np.zeros(40)])
    found = mia(outputs("paper", **sets))
    assert found["mia_confidence"] == pytest.approx(100 * (1 - attack.predict(forget).mean()), abs=1e-9)
    right = (attack.predict(members).mean() + 1 - attack.predict(others).mean()) / 2
    assert found["mia_attack_acc"] == pytest.approx(100 * right)
