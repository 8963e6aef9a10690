"""The two protocols, difference by difference: what is right, and what the reference code does."""

from __future__ import annotations

from dataclasses import dataclass

from loreun_bench.harness.protocol import both, difference


@dataclass(frozen=True)
class Protocol:
    """Every place where the reference implementation and good practice part. The defaults are `corrected`."""

    one_split: bool = difference(
        "the original model is trained on the very split that is unlearned; SalUn's code draws a second "
        "validation set with another seed, so about a tenth of its forget set was never trained on"
    )
    other_label: bool = difference("a random label is never the true one (LoReUn eq. 1); SalUn's may be")
    hard_mask: bool = difference(
        "weights outside the saliency mask do not move; in SalUn's code until 2026 weight decay and momentum moved them"
    )
    clean_mask: bool = difference("the mask is computed without augmentation; SalUn's forget loader crops and flips")
    exact_mask: bool = difference(
        "the mask ranks the gradient of the mean loss over all forget samples, and has round(density·n) entries; SalUn's "
        "code adds up the means of shuffled batches, so that samples of a smaller last batch weigh more, and has "
        "int(density·n)"
    )
    balanced_mia: bool = difference(
        "the attack is the threshold of the best class-balanced accuracy on all retain and test samples; SalUn's is an SVM "
        "on the first retain samples in file order, whose fixed C makes MIA grow with the number of samples"
    )
    true_m_entropy: bool = difference("modified entropy as published; SalUn's indexing makes it ignore the label")
    last_epoch: bool = difference(
        "original and retrained model are both taken after the last epoch; SalUn keeps the original of the best "
        "validation epoch"
    )
    own_init: bool = difference("the retrained model starts from its own initial weights; SalUn's from the original's")


PROTOCOLS = both(Protocol)
NOT_REPEATED = (
    "NegGrad+ takes the forget batch first, and its passes over the forget set go on from epoch to epoch; RUM's takes the "
    "retain batch first and begins the forget set anew in every epoch",
)
