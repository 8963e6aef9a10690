"""Every refused call, on both backends: the same exception, which names the argument, what it was and what was expected."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from accuracy import compiled, forced

from loreun_bench.ops import loreun_cross_entropy, loreun_mse_loss, loreun_step, loreun_weights

backends = pytest.mark.parametrize("path", [pytest.param("native", marks=compiled), "reference"])
INT, META = torch.int64, torch.device("meta")
X, Y, V = torch.rand(4, 3), torch.tensor([0, 1, 2, 0]), torch.rand(4) + 0.5
META_X, META_Y, META_V = X.to(META), Y.to(META), V.to(META)
PICTURE = torch.rand(4, 2, 3)

WEIGHTING = [
    ({"eta": math.nan}, ValueError, r"eta must be a finite number, got nan"),
    ({"eta": -math.inf}, ValueError, r"eta must be a finite number, got -inf"),
    ({"eta": "0.1"}, ValueError, r"eta must be a finite number, got '0.1'"),
    ({"direction": "sideways"}, ValueError, r"direction must be 'forget' or 'retain', got 'sideways'"),
    ({"distance": "quotient"}, ValueError, r"distance must be 'difference' or 'ratio', got 'quotient'"),
    ({"distance": "ratio", "ref_loss": 0.0}, ValueError, r"ref_loss must be .*positive"),
    ({"distance": "ratio", "ref_loss": -1.0}, ValueError, r"ref_loss must be .*positive"),
    ({"distance": "ratio", "ref_loss": math.nan}, ValueError, r"ref_loss must be finite"),
    ({"distance": "ratio", "ref_loss": math.inf}, ValueError, r"ref_loss must be finite"),
    ({"distance": "ratio", "ref_loss": torch.tensor(-1.0)}, ValueError, r"ref_loss must be .*positive"),
    ({"distance": "ratio", "ref_loss": V.where(Y > 0, 0.0)}, ValueError, r"ref_loss must be .*positive"),
    ({"distance": "ratio", "ref_loss": V.where(Y > 0, math.nan)}, ValueError, r"ref_loss must be finite"),
    ({"distance": "ratio", "ref_loss": V.double() * 1e-60}, ValueError, r"ref_loss must be .*positive"),
    ({"distance": "difference", "ref_loss": math.inf}, ValueError, r"ref_loss must be finite"),
    ({"distance": "difference", "ref_loss": V.where(Y > 0, math.inf)}, ValueError, r"ref_loss must be finite"),
    ({"ref_loss": V[:3]}, ValueError, r"ref_loss must be .*\[4\], got \(3,\)"),
    ({"ref_loss": V[:, None]}, ValueError, r"ref_loss must be .*\[4\], got \(4, 1\)"),
    ({"ref_loss": torch.ones(4, dtype=INT)}, ValueError, r"ref_loss must be floating, got torch.int64"),
    ({"ref_loss": META_V}, ValueError, r"ref_loss is on meta, expected cpu"),
    ({"ref_loss": META_V[0]}, ValueError, r"ref_loss is on meta, expected cpu"),
    ({"score_loss": V[:3]}, ValueError, r"score_loss must be floating \[4\], got .*\(3,\)"),
    ({"score_loss": V[0]}, ValueError, r"score_loss must be floating \[4\], got .*\(\)"),
    ({"score_loss": V[:, None]}, ValueError, r"score_loss must be floating \[4\], got .*\(4, 1\)"),
    ({"score_loss": torch.ones(4, dtype=INT)}, ValueError, r"score_loss must be floating \[4\], got torch.int64"),
    ({"score_loss": META_V}, ValueError, r"score_loss is on meta, expected cpu"),
]  # fmt: skip

LABELS = [
    ("short", Y[:3], ValueError, r"{0} must be int64 \[4\], got torch.int64 \(3,\)"),
    ("long", torch.zeros(5, dtype=INT), ValueError, r"{0} must be int64 \[4\], got torch.int64 \(5,\)"),
    ("of two dimensions", Y[:, None], ValueError, r"{0} must be int64 \[4\], got torch.int64 \(4, 1\)"),
    ("a number", Y[0], ValueError, r"{0} must be int64 \[4\], got torch.int64 \(\)"),
    ("floating", V, ValueError, r"{0} must be int64 \[4\].* got torch.float32 \(4,\)"),
    ("truth", Y > 0, ValueError, r"{0} must be int64 \[4\], got torch.bool \(4,\)"),
    ("no probabilities", X, ValueError, r"{0} must be (int64 \[4\], got torch.float32 \(4, 3\)|labels, or probabilities)"),
    ("elsewhere", META_Y, ValueError, r"{0} is on meta, expected cpu"),
    ("too large", Y.where(Y != 1, 3), IndexError, r"{0}\[1\] = 3 is out of range for 3 classes"),
    ("negative", Y.where(Y != 2, -1), IndexError, r"{0}\[2\] = -1 is out of range for 3 classes"),
    ("in a strided tensor", torch.tensor([0, 9, 1, 9, 3, 9, 0, 9])[::2], IndexError, r"{0}\[2\] = 3 is out of range"),
]

LOGITS = [
    ("a vector", X[0], ValueError, r"{0} must be floating \[N, C\] with C > 0, got torch.float32 \(3,\)"),
    ("of three dimensions", PICTURE, ValueError, r"{0} (must be floating \[N, C\].* got .*\(|)\[?4, 2, 3"),
    ("integers", torch.ones(4, 3, dtype=INT), ValueError, r"{0} must be floating \[N, C\] .* got torch.int64 \(4, 3\)"),
    ("complex", X + 0j, ValueError, r"{0} must be floating \[N, C\] .* got torch.complex64 \(4, 3\)"),
    ("without classes", torch.rand(4, 0), ValueError, r"{0} must be floating \[N, C\] with C > 0, got .*\(4, 0\)"),
]

SMOOTHING = [({"label_smoothing": s}, ValueError, r"label_smoothing must be in \[0, 1\]") for s in (-0.1, 1.1, math.nan)]

CROSS_ENTROPY = [
    *WEIGHTING,
    *SMOOTHING,
    *[({"target": value}, error, says.format("target")) for _, value, error, says in LABELS],
    *[({"score_target": value}, error, says.format("score_target")) for _, value, error, says in LABELS],
    ({"score_target": Y.where(Y != 1, -100)}, IndexError, r"score_target\[1\] = -100 is ignored, but its"),
    ({"ignore_index": -1, "target": Y.where(Y != 1, -100)}, IndexError, r"target\[1\] = -100 is out of range"),
    *[({"logits": value}, error, says.format("logits")) for _, value, error, says in LOGITS],
    ({"logits": META_X}, ValueError, r"target is on cpu, expected meta"),
    ({"weights": "softmax"}, ValueError, r"weights must be one of 'exp', .*, got 'softmax'"),
    ({"normalize": "sum"}, ValueError, r"normalize must be one of 'batch', 'mean', 'none', got 'sum'"),
    ({"reduction": "sum"}, ValueError, r"reduction must be 'mean' or 'none', got 'sum': normalize='none' is"),
    ({"eta": torch.tensor(math.nan)}, ValueError, r"eta must be a finite number, got tensor\(nan\)"),
    ({"eta": torch.ones(2)}, ValueError, r"eta must be a finite number, got a tensor of torch.float32 \(2,\)"),
    ({"eta": None}, ValueError, r"eta must be a finite number, got None"),
    ({"weights": "power", "ref_loss": 0.5}, ValueError, r"weights='power' takes a reference with distance='ratio' only"),
    ({"weights": "satimp", "ref_loss": V}, ValueError, r"weights='satimp' has no reference"),
    ({"weights": "satimp", "importance": math.inf}, ValueError, r"importance must be a finite number, got inf"),
    ({"weights": torch.exp}, ValueError, r"weights is no named rule: eta, direction and ref_loss say nothing"),
    ({"weights": "given"}, ValueError, r"weights must be one of"),
    ({"weights": torch.exp, "eta": None, "direction": None, "ref_loss": V}, ValueError, r"ref_loss say nothing to it"),
    *[
        ({"weights": rule, "eta": None, "direction": None}, ValueError, says)
        for rule, says in (
            (lambda s: s[:3], r"weights must give floating \[4\], .* gave torch.float32 \(3,\)"),
            (lambda s: s[:, None], r"weights must give floating \[4\], .* gave torch.float32 \(4, 1\)"),
            (lambda s: s.sum(), r"weights must give floating \[4\], .* gave torch.float32 \(\)"),
            (lambda s: s.long(), r"weights must give floating \[4\], .* gave torch.int64 \(4,\)"),
            (lambda s: 1.0, r"weights must give floating \[4\], .* gave float"),
            (lambda s: s.where(Y > 0, -1.0), r"weights must be finite and not negative, gave -1.0 for row 0"),
            (lambda s: s.where(Y != 1, math.nan), r"weights must be finite and not negative, gave nan for row 1"),
            (lambda s: s.where(Y != 2, math.inf), r"weights must be finite and not negative, gave inf for row 2"),
            (torch.ones(3), r"weights must give floating \[4\], .* gave torch.float32 \(3,\)"),
        )
    ],
    ({"weight": torch.ones(4)}, ValueError, r"weight must be floating \[3\], got torch.float32 \(4,\)"),
    ({"weight": torch.ones(3, dtype=INT)}, ValueError, r"weight must be floating \[3\], got torch.int64 \(3,\)"),
    ({"weight": torch.tensor([1.0, -1.0, 1.0])}, ValueError, r"weight must not be negative"),
    ({"weight": torch.ones(3).to(META)}, ValueError, r"weight is on meta, expected cpu"),
    ({"target": torch.full((4, 3), 0.5)}, ValueError, r"labels, or probabilities that sum to 1 in each row"),
    ({"target": torch.tensor([[2.0, -1, 0]]).expand(4, 3)}, ValueError, r"labels, or probabilities that sum to 1"),
    *[
        ({"segment_ids": torch.tensor(ids)}, ValueError, says)
        for ids, says in (
            ([1, 0, 0, 1], r"segment_ids must be sorted and not negative"),
            ([-1, 0, 0, 1], r"segment_ids must be sorted and not negative"),
            ([0, 0, 2, 2], r"segment_ids must be 0 to 2, none left out: segment 1 has no row"),
            ([1, 1, 2, 2], r"segment_ids must be 0 to 2, none left out: segment 0 has no row"),
            ([0, 0, 1], r"segment_ids must be integers \[4\], got torch.int64 \[3\]"),
            ([0.0, 0.0, 1.0, 1.0], r"segment_ids must be integers \[4\], got torch.float32 \[4\]"),
        )
    ],
    ({"segment_ids": Y.sort()[0], "num_segments": 2}, ValueError, r"segment_ids must be 0 to 1, .* there is a segment 2"),
    ({"segment_ids": Y.sort()[0], "num_segments": 4}, ValueError, r"none left out: segment 3 has no row"),
    ({"segment_ids": Y.sort()[0], "ref_loss": V}, ValueError, r"ref_loss must be a number or \[3\], got \(4,\)"),
    ({"segment_ids": Y.sort()[0], "score_loss": V}, ValueError, r"score_loss must be floating \[3\], got"),
    ({"segment_ids": Y.sort()[0], "segment_reduction": "max"}, ValueError, r"segment_reduction must be one of"),
    ({"segment_ids": Y.sort()[0], "reduction": "none"}, ValueError, r"reduction='none' gives rows' losses"),
    ({"logits": X[:, :, None], "target": Y[:, None], "class_dim": 2}, ValueError, r"class_dim must be 1 or -1, got 2"),
    ({"score_target": Y.clone(), "score_loss": V}, ValueError, r"give score_target or score_loss, not both"),
]

MEAN_SQUARED = [
    *WEIGHTING,
    ({"reduction": "none"}, ValueError, r"reduction must be 'mean' or 'sum', got 'none'"),
    ({"input": PICTURE[0, 0, 0]}, ValueError, r"input must be floating \[N, ...\], got torch.float32 \(\)"),
    ({"input": PICTURE.long()}, ValueError, r"input must be floating \[N, ...\], got torch.int64 \(4, 2, 3\)"),
    ({"input": PICTURE + 0j}, ValueError, r"input must be floating \[N, ...\], got torch.complex64"),
    ({"input": PICTURE.to(META)}, ValueError, r"target is on cpu, expected meta"),
    ({"score_target": PICTURE, "score_loss": V}, ValueError, r"give score_target or score_loss, not both"),
    *[
        ({name: value}, ValueError, says.format(name))
        for name in ("target", "score_target")
        for value, says in (
            (PICTURE[:, :1], r"{0} must be floating \(4, 2, 3\), got torch.float32 \(4, 1, 3\)"),
            (PICTURE[:1], r"{0} must be floating \(4, 2, 3\), got torch.float32 \(1, 2, 3\)"),
            (PICTURE.flatten(1), r"{0} must be floating \(4, 2, 3\), got torch.float32 \(4, 6\)"),
            (PICTURE.long(), r"{0} must be floating \(4, 2, 3\), got torch.int64 \(4, 2, 3\)"),
            (PICTURE.to(META), r"{0} is on meta, expected cpu"),
        )
    ],
]

STEP = [
    *[({name: math.nan}, ValueError, rf"{name} must be a finite number, got nan") for name in ("eta_f", "eta_r", "alpha")],
    *SMOOTHING,
    *[
        ({name: value}, error, says.format(name))
        for arguments, cases in (
            (("forget_target", "forget_clean", "retain_target"), LABELS),
            (("forget_logits", "retain_logits"), LOGITS),
        )
        for name, (_, value, error, says) in itertools.product(arguments, cases)
    ],
    ({"retain_logits": META_X, "retain_target": META_Y}, ValueError, r"retain_logits is on meta, expected cpu"),
]


def refused(call, arguments: dict, change: dict, error: type, says: str, path: str) -> None:
    call_with = arguments | change
    with forced(path), pytest.raises(error, match=says) as found:
        call(**call_with)
    assert type(found.value) is error


def names(cases: list) -> list[str]:
    return [f"{'+'.join(change)}-{i}" for i, (change, _, _) in enumerate(cases)]


@backends
@pytest.mark.parametrize(("change", "error", "says"), CROSS_ENTROPY, ids=names(CROSS_ENTROPY))
def test_cross_entropy_refuses(change, error, says, path):
    refused(loreun_cross_entropy, {"logits": X, "target": Y, "eta": 0.1, "direction": "forget"}, change, error, says, path)


@backends
@pytest.mark.parametrize(("change", "error", "says"), MEAN_SQUARED, ids=names(MEAN_SQUARED))
def test_mean_squared_error_refuses(change, error, says, path):
    arguments = {"input": PICTURE, "target": PICTURE + 1, "eta": 0.1, "direction": "forget", "ref_loss": 1.0}
    refused(loreun_mse_loss, arguments, change, error, says, path)


@backends
@pytest.mark.parametrize(("change", "error", "says"), STEP, ids=names(STEP))
def test_a_step_refuses(change, error, says, path):
    arguments = {
        "forget_logits": X, "forget_target": Y, "forget_clean": Y, "retain_logits": X, "retain_target": Y,
        "eta_f": 0.1, "eta_r": 0.2,
    }  # fmt: skip
    refused(loreun_step, arguments, change, error, says, path)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        *[case for case in WEIGHTING if not set(case[0]) & {"score_loss"}],
        ({"losses": X}, ValueError, r"losses must be floating \[N\], got torch.float32 \(4, 3\)"),
        ({"losses": Y}, ValueError, r"losses must be floating \[N\], got torch.int64 \(4,\)"),
    ],
)
def test_weights_refuse(change, error, says):
    refused(loreun_weights, {"losses": V, "eta": 0.1, "direction": "forget"}, change, error, says, "reference")


@compiled
def test_a_refused_call_leaves_the_next_one_alone():
    before = loreun_cross_entropy(X, Y, eta=0.1, direction="forget")
    with pytest.raises(IndexError):
        loreun_cross_entropy(X, Y + 1, eta=0.1, direction="forget")
    assert torch.equal(loreun_cross_entropy(X, Y, eta=0.1, direction="forget"), before)


@backends
@pytest.mark.parametrize("dims", [2, 8, 9, 12])
def test_any_number_of_dimensions(dims, path):
    x = PICTURE.reshape(4, 2, 3, *[1] * (dims - 3)) if dims > 2 else PICTURE.reshape(4, 6)
    plain = loreun_mse_loss(PICTURE, PICTURE + 1, eta=0.1, direction="forget", ref_loss=1.0)
    with forced(path):
        torch.testing.assert_close(loreun_mse_loss(x, x + 1, eta=0.1, direction="forget", ref_loss=1.0), plain)
