"""UCE, CA, EraseDiff and SA: what they solve for or descend on, against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from generation.test_methods import PROMPTS, SEVEN, context, data, method, moved, weights

from loreun_bench.errors import UserError
from loreun_bench.generation.pipeline.attention import beginning_held
from loreun_bench.generation.unlearning import gradient as unlearning
from loreun_bench.generation.unlearning.gradient import open_parameters, trainable
from loreun_bench.generation.unlearning.method import Asked
from loreun_bench.weightings import Phase


def test_uce_solves_for_keys_and_values_that_answer_as_the_guide(tiny):
    before, run = weights(tiny), context()
    method("UCE", regularisation=0.3, erase=2.0, preserve=0.5, end_token=False).unlearn(tiny, data(tiny), run)
    changed = moved(tiny, before)
    assert changed == {n for n in before if ".attn2.to_k.weight" in n or ".attn2.to_v.weight" in n}

    def last(text):
        ids = tiny.tokenizer(text).input_ids
        return tiny.embed([text])[0, max(len(ids) - 2, 0)].double()

    old = torch.stack([last(text) for text in ("seven", PROMPTS[SEVEN])])
    kept = torch.stack([last(prompt) for number, prompt in enumerate(PROMPTS) if number != SEVEN])
    guide = last("").expand_as(old)
    for name in changed:
        w, new = before[name].double(), tiny.unet.state_dict()[name].double()
        slope = 0.3 * (new - w) + 2 * (old @ new.T - guide @ w.T).T @ old + 0.5 * (kept @ new.T - kept @ w.T).T @ kept
        assert float(slope.norm()) < 1e-4 * float((w.norm() * 20).clamp(min=1))
        assert float((old @ new.T - guide @ w.T).norm()) < float((old @ w.T - guide @ w.T).norm())


def test_ca_asks_for_the_forgotten_concept_on_pictures_of_its_anchor(tiny, monkeypatch):
    seen, held, real = [], [], unlearning.predict
    keys = [layer for name, layer in tiny.unet.named_modules() if name.endswith((".attn2.to_k", ".attn2.to_v"))]

    def spy(pipeline, noisy, t, text, run):
        seen.append((noisy, text))
        held.append(all(layer._forward_hooks for layer in keys))
        return real(pipeline, noisy, t, text, run)

    monkeypatch.setattr(unlearning, "predict", spy)
    before, chosen = weights(tiny), method("CA", epochs=1, batch_size=4)
    known = data(tiny, chosen.uses)
    chosen.unlearn(tiny, known, context(limit=1))
    (noisy, anchor), (again, asked) = seen
    assert held == [True, True]
    assert not any(layer._forward_hooks for layer in keys)
    assert torch.equal(noisy, again)
    assert all(torch.equal(row, known.texts[SEVEN + 1]) for row in anchor)
    assert all(torch.equal(row, known.texts[SEVEN]) for row in asked)
    assert {name.split(".")[-2] for name in moved(tiny, before)} <= {"to_k", "to_v"}
    eights = chosen.pictures("forget", known)
    assert len(eights)
    assert set(eights.concepts.tolist()) == {SEVEN + 1}
    with pytest.raises(UserError, match="read the forget set"):
        _ = known.forget


def test_ca_sends_no_gradient_through_the_token_that_begins_every_text(tiny):
    chosen = trainable(tiny.unet, "keys-and-values")
    open_parameters(tiny, chosen)
    name, key = next((name, p) for name, p in chosen.items() if name.endswith("to_k.weight"))
    text, noisy, t = tiny.embed(PROMPTS[:1]), torch.randn(1, *tiny.latent_shape), torch.tensor([500])
    outputs, layer = [], tiny.unet.get_submodule(name.removesuffix(".weight"))

    def watch(module, inputs, found):
        found.retain_grad()
        outputs.append((inputs[0], found))

    with beginning_held(tiny.unet):
        seen = layer.register_forward_hook(watch)
        tiny.predict(noisy, t, text).square().sum().backward()
        seen.remove()
    (given, found), = outputs
    torch.testing.assert_close(key.grad, found.grad[0, 1:].T @ given[0, 1:])
    assert float(found.grad[0, 0].norm()) > 0  # it would have flowed
    assert not layer._forward_hooks


def test_an_anchor_stands_for_all_that_is_forgotten_in_turn(tiny):
    known = data(tiny, forgotten=(6, SEVEN))
    asked = method("CA", anchor=PROMPTS[0]).prompts("forget", torch.zeros(4, dtype=torch.long), known)
    assert asked.tolist() == [6, 7, 6, 7]
    asked = method("CA").prompts("forget", torch.full((3,), 8), known)
    assert asked.tolist() == [6, 7, 6]  # 8 is the next kept concept of both
    assert method("CA").prompts("retain", torch.tensor([3, 8]), known).tolist() == [3, 8]
    told = Asked(None, None, PROMPTS, (SEVEN,), ("seven",))
    with pytest.raises(UserError, match=r"methods.CA.anchor: 'an image of seven' is none of the kept prompts"):
        method("CA", anchor=PROMPTS[SEVEN]).check(told)
    method("CA", anchor=PROMPTS[SEVEN + 1]).check(told)


@pytest.mark.parametrize(("rule", "margin"), [("fixed", 0.1), ("adaptive", 0.1), ("adaptive", 2.0)])
def test_erasediff_counts_forgetting_where_it_stands_against_what_is_kept(rule, margin):
    p = torch.nn.Parameter(torch.tensor([1.0, 2.0, -1.0]))
    forget, retain = (p * torch.tensor([1.0, 2.0, 0.0])).sum() ** 2, (p - 1).square().sum()
    slopes = [torch.autograd.grad(loss, p, retain_graph=True)[0] for loss in (forget, retain)]
    cosine = float(slopes[0] @ slopes[1] / (slopes[0].norm() * slopes[1].norm()))
    factor = 0.3 if rule == "fixed" else max(0.0, margin - cosine)
    made = method("EraseDiff", rule=rule, fixed=0.3, margin=margin)
    total = made.combined(forget, retain, {"p": p}, context())
    assert total.item() == pytest.approx((retain + factor * forget).item(), rel=1e-6)
    (found,) = torch.autograd.grad(total, p)
    torch.testing.assert_close(found, slopes[1] + factor * slopes[0])  # the factor is a number: no gradient flows through it
    assert made.backward_passes == (1 if rule == "fixed" else 2)


def test_sa_holds_each_weight_as_much_as_kept_pictures_need_it(tiny):
    known, run = data(tiny), context()
    made = method("SA", fisher_pictures=3, fisher_timesteps=2, elasticity=7.0, batch_size=4)
    chosen = open_parameters(tiny, trainable(tiny.unet, "full"))
    run.prepared = needed, before = made.prepare(tiny, chosen, known, run)
    assert (run.meter.forward_samples, run.meter.backward_samples) == (6, 6)
    again, total = context(), [torch.zeros_like(p) for p in chosen.values()]
    order = torch.randperm(24, generator=again.stream("order", "fisher", device="cpu"))[:3]
    for position in order:
        batch = unlearning.noised(tiny, known.retain, position.expand(2), again, "fisher")
        found = tiny.predict(batch.noisy, batch.t, known.texts[batch.concepts])
        loss = 1000 / 2 * (found - batch.noise).square().mean((1, 2, 3)).sum()  # over all timesteps, from two of them
        for each, g in zip(total, torch.autograd.grad(loss, list(chosen.values())), strict=True):
            each += g.square() / 3
    for mine, theirs in zip(needed, total, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6 * float(theirs.max()))
    with torch.no_grad():
        for p in chosen.values():
            p += 0.1
    zero = torch.zeros(())
    held = made.combined(zero, zero, chosen, run).item()
    assert held == pytest.approx(7 * 0.01 * sum(float(f.sum()) for f in needed), rel=1e-3)
    assert all(not torch.equal(p, old) for p, old in zip(chosen.values(), before, strict=True))


@pytest.mark.parametrize("name", ["CA", "EraseDiff", "SA"])
def test_weightings_act_on_what_has_phases(tiny, name):
    run = context(phases={"forget": Phase("forget", 0.5)}, curve=torch.full((1000,), 0.5))
    method(name, epochs=1, batch_size=4).unlearn(tiny, data(tiny), run)
    assert 0 < run.uneven()["weights"]["forget"]["effective"][0] < 1


def test_erasediff_without_its_retain_weight_still_needs_both_gradients(tiny):
    run = context()
    method("EraseDiff", alpha=0.0, epochs=1, batch_size=4).unlearn(tiny, data(tiny), run)
    assert method("EraseDiff", alpha=0.0).active() == ("forget", "retain")
