"""Who is forgotten: sets that do not overlap, sizes that are said, seeds that separate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loreun_bench.classification.config import Scenario
from loreun_bench.classification.data.splits import draw
from loreun_bench.errors import UserError

LABELS, TEST = np.arange(1000) % 10, np.arange(200) % 10
RANDOM = Scenario(kind="random", fraction=0.1)
CLASS = Scenario(kind="class", forget_class=3)
WRONG = Scenario(kind="mislabelled", fraction=0.1)


def split(scenario=RANDOM, seed=0, **options):
    return draw(LABELS, TEST, scenario, validation=0.2, seed=seed, **options)


def positions(tensor):
    return set(tensor.tolist())


@pytest.mark.parametrize("scenario", [RANDOM, CLASS, WRONG])
def test_forget_retain_and_validation_share_nothing_and_make_up_the_whole(scenario):
    s = split(scenario)
    parts = [positions(p) for p in (s.forget, s.retain, s.validation)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1000


@pytest.mark.parametrize("scenario", [RANDOM, CLASS, WRONG])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_original_was_trained_on_exactly_forget_and_retain(scenario, seed):
    s = split(scenario, seed)
    assert positions(s.trained) == positions(s.forget) | positions(s.retain)


def test_protocol_paper_leaks_validation_into_forget_as_the_reference_code_does():
    s = split(one_split=False)
    never_trained = positions(s.forget) - positions(s.trained)
    assert 0.1 < len(never_trained) / len(s.forget) < 0.3  # a validation share of 0.2


def test_the_fraction_is_of_the_training_part_not_of_all_images():
    assert len(split(RANDOM).forget) == 80


def test_class_wise_forgets_the_whole_class_and_tests_on_the_other_nine():
    s = split(CLASS)
    assert set(LABELS[s.forget]) == {3}
    assert 3 not in set(LABELS[s.retain])
    assert 3 not in set(TEST[s.test])
    assert set(TEST[s.test_forget]) == {3}
    assert len(s.test) + len(s.test_forget) == len(TEST)


def test_mislabelled_samples_never_keep_their_label_and_others_always_do():
    s = split(WRONG)
    assert (s.labels[s.forget].numpy() != LABELS[s.forget]).all()
    rest = np.setdiff1d(np.arange(1000), s.forget)
    assert (s.labels[rest].numpy() == LABELS[rest]).all()


def test_seeds_change_the_split_and_nothing_else_does():
    assert all(torch.equal(a, b) for a, b in zip(split().tensors().values(), split().tensors().values(), strict=True))
    assert positions(split(seed=1).forget) != positions(split(seed=0).forget)


def test_scenarios_of_a_seed_share_validation_and_training_set():
    sets = [split(scenario) for scenario in (RANDOM, CLASS, WRONG, None)]
    assert len({tuple(s.validation.tolist()) for s in sets}) == 1
    assert len({tuple(s.trained.tolist()) for s in sets}) == 1


def test_validation_is_stratified():
    assert np.bincount(LABELS[split().validation]).tolist() == [20] * 10


def test_image_limit_cuts_both_parts():
    s = split(images=100)
    assert len(s.trained) + len(s.validation) == 100
    assert len(s.test) == 100


@pytest.mark.parametrize(
    ("labels", "scenario", "validation", "says"),
    [
        (LABELS, Scenario(kind="class", forget_class=10), 0.1, "there is no '10'"),
        (LABELS, Scenario(kind="random", fraction=1e-4), 0.1, "forget set is empty"),
        (LABELS, Scenario(kind="random", fraction=0.9999), 0.1, "retain set is empty"),
        (LABELS, Scenario(kind="random", count=5000), 0.1, "there are 900"),
        (LABELS, Scenario(kind="class", forget_class=list(range(10))), 0.1, "retain set is empty"),
        (LABELS, RANDOM, 0.001, "cannot hold all of 10 classes"),
        (LABELS, RANDOM, 0.999, "cannot hold all of 10 classes"),
    ],
)
def test_what_cannot_be_drawn_is_said(labels, scenario, validation, says):
    with pytest.raises(UserError, match=says):
        draw(labels, TEST, scenario, validation=validation, seed=0)


def test_without_validation_everything_is_trained_on():
    s = draw(LABELS, TEST, RANDOM, validation=0, seed=0)
    assert len(s.validation) == 0
    assert len(s.forget) + len(s.retain) == 1000
