"""Puts known bugs back, one at a time in a copy, and checks that a test fails for each.

    python tests/mutants.py [NUMBER …]

The numbers are those of the pitfalls of reference implementations, with a g those of diffusion; letters and n (networks) are our own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
C, G, T, H, R = "classification/", "generation/", "training/", "harness/", "report/"

# name: (what the bug is, file, the right code, the bug, the tests that must notice)
BASELINES = "stages/test_baselines.py"
UNIT_PAGE, BROWSER = "unit/test_report_page.py", "browser/test_report_page.py"
MUTANTS = {
    "1": ("the original is trained on another split", C + "data/splits.py", "    if not one_split:", "    if True:", "unit/test_splits.py"),
    "2": ("unlearning draws from the training seed", C + "planning.py", 'derive(self.seeds.unlearn, "unlearn")', 'derive(self.seeds.train, "unlearn")', "stages/test_planning.py"),
    "3a": ("Retrain starts from the original's weights", C + "planning.py", "own = self.protocol.own_init or replicate", "own = replicate", "stages/test_planning.py"),
    "3b": ("a cell is compared with any Retrain", R + "cells.py", "compared.by_seeds.get(seeds) if compared", "next(iter(compared.by_seeds.values()), None) if compared", "unit/test_leaderboard.py"),
    "4": ("the forgotten class stays in the test set", C + "data/splits.py", "test[~self.gone[test]]", "test", "unit/test_splits.py"),
    "5": ("the fraction is of all images", C + "data/splits.py", "self._drawn(scenario, number, before.retain)", "self._drawn(scenario, number, np.arange(len(people.labels)))", "unit/test_splits.py"),
    "6": ("a random label may be the true one", C + "methods/rl.py", "drawn + (drawn >= labels) if context.protocol.other_label else drawn", "drawn", "stages/test_unlearning.py"),
    "7": ("labels are drawn once whatever is set", C + "methods/rl.py", 'if self.relabel == "fixed":', "if True:", "stages/test_unlearning.py"),
    "8": ("the mask only covers gradients", C + "methods/salun.py", "HardMask if context.protocol.hard_mask else GradientMask", "GradientMask", "stages/test_unlearning.py"),
    "9a": ("the mask keeps the smallest gradients", T + "saliency.py", "torch.cat([g.abs().flatten() for g in gradients])", "-torch.cat([g.abs().flatten() for g in gradients])", "unit/test_saliency.py"),
    "9b": ("the mask depends on augmentation", C + "methods/salun.py", "None if context.protocol.clean_mask else Augment", "Augment", "stages/test_unlearning.py"),
    "9e": ("protocol paper ranks the gradient of the mean loss", C + "methods/salun.py", "len(forget if exact else labels)", "len(forget)", "stages/test_unlearning.py"),
    "9c": ("magnitudes are taken before the sum", C + "unlearning/evaluating.py", "list(found)", "[g.abs() for g in found]", "stages/test_unlearning.py"),
    "9d": ("ties are not settled, more than the share is chosen", T + "saliency.py", "magnitude > threshold", "magnitude >= threshold", "unit/test_saliency.py"),
    "10": ("the first batch's gradient is dropped", C + "unlearning/evaluating.py", "        torch._foreach_add_(total,", "        if positions[0] > 0: torch._foreach_add_(total,", "stages/test_unlearning.py"),
    "11": ("batch norm cannot be frozen", T + "frozen.py", "            module.eval()", "            pass", "stages/test_unlearning.py"),
    "12": ("reweighted rows train twice as long", C + "unlearning/gradient.py", "for number in range(method.epochs):\n        for run in", "for number in range(method.epochs * (2 if context.phases else 1)):\n        for run in", "stages/test_unlearning.py"),
    "13": ("paired steps use the first forget batch only", C + "unlearning/gradient.py", '    forget = cycle(runs["forget"], data, context)\n    for', '    first = next(cycle(runs["forget"], data, context))\n    forget = iter(lambda: first, None)\n    for', "stages/test_unlearning.py"),
    "14": ("the last partial batch is dropped", T + "loop.py", "[batch_size] * whole + [rest] * (rest > 0)", "[batch_size] * whole", "stages/test_unlearning.py"),
    "16": ("members are the first retain samples", C + "metrics/mia.py", "if outputs.protocol.balanced_mia:", "if False:", "unit/test_mia.py"),
    "17": ("modified entropy ignores the label", C + "metrics/mia.py", "    if true:", "    if False:", "unit/test_metrics.py"),
    "19": ("AUC is folded to be above one half", C + "metrics/mia.py", "float(roc_auc_score(y, scores))", "max(float(roc_auc_score(y, scores)), 1 - float(roc_auc_score(y, scores)))", "unit/test_metrics.py"),
    "30a": ("RTE leaves out mask and reference pass", C + "unlearning/gradient.py", "    optimiser = make_optimiser(parameters, method", "    context.meter.__enter__()\n    optimiser = make_optimiser(parameters, method", "stages/test_timing.py"),
    "30b": ("RTE has the warm-up", C + "stages.py", '    before = _weights(model)\n    with seeded(config["seed"]), context.meter:\n', '    before = _weights(model)\n    with seeded(config["seed"]), context.meter:\n        _warm_up(model, sets["retain"], config["train"]["batch_size"])\n', "stages/test_timing.py"),
    "32": ("UA as SalUn prints it keeps LoReUn's value", R + "leaderboard.py", "100 - found.mean if flip", "found.mean if flip", "unit/test_leaderboard.py"),
    "34": ("the best epoch is chosen on the retain set", C + "stages.py", 'else _image_set(data, parts, "selection")', 'else _image_set(data, parts, "trained")', "stages/test_fitting.py"),
    "35a": ("a key does not cover the code", H + "stage.py", '"code": code}', '"code": []}', "unit/test_stage.py"),
    "35b": ("a key does not cover upstream results", H + "stage.py", '"inputs": dict(upstream)', '"inputs": {}', "unit/test_stage.py"),
    "e": ("global randomness is not seeded, dropout depends on order", C + "stages.py", 'seeded(config["seed"]), context.meter:\n        found = method', 'context.meter:\n        found = method', "stages/test_own.py"),
    "f": ("mean and std are not part of the key", C + "requested.py", '"data": self.info.identity(), "model": config.model', '"data": {k: v for k, v in self.info.identity().items() if k not in ("mean", "std")}, "model": config.model', "stages/test_planning.py"),
    "a": ("the forget weight grows with the loss", "ops/rules.py", '"forget": -1.0', '"forget": 1.0', "ops"),
    "b1": ("SCRUB goes towards its teacher", C + "methods/scrub.py", "return -1.0", "return 1.0", BASELINES),
    "b2": ("SCRUB forgets to the end", C + "methods/scrub.py", "or epoch < self.ascents", "or True", BASELINES),
    "b3": ("SSD compares with the retain set", C + "methods/ssd.py", "joined(data.forget, data.retain)", "data.retain", BASELINES),
    "b4": ("SSD enlarges weights", C + "methods/ssd.py", ".clamp(max=1)", "", BASELINES),
    "b5": ("Bad-T: the phases pass through the network apart", C + "methods/bad_t.py", "joined: ClassVar[bool] = True", "joined: ClassVar[bool] = False", BASELINES),
    "b6": ("DELETE keeps the true class", C + "methods/delete.py", '.scatter(1, targets[:, None], float("-inf"))', "", BASELINES),
    "b7": ("blocks that stay train their batch norm", C + "methods/cf_k.py", "        model.eval()\n", "", BASELINES),
    "b8": ("an ascent is not clipped", C + "methods/sfron.py", ", Clip(moving(model), self.clip))", ")", BASELINES),
    "b9": ("pixels move in units of the normalised picture", C + "data/images.py", "/ scale + by).clamp", "/ scale + by / scale).clamp", BASELINES),
    "b10": ("MSG resets what matters most", T + "saliency.py", "torch.where(kept, weight.data, fresh.to(weight))", "torch.where(kept, fresh.to(weight), weight.data)", BASELINES),
    "b10b": ("MSG trains what stayed as fast as what is new", C + "methods/msg.py", "1 - (1 - self.slow) * mask.float()", "1 + 0 * mask.float()", BASELINES),
    "b11": ("rows of a method's own losses are not weighted", C + "unlearning/phase.py", "if own is not None and weight is None:", "if own is not None:", BASELINES),
    "b12": ("IU leaves out alpha", C + "methods/iu.py", "weight.add_(part.view(weight.shape), alpha=self.alpha)", "weight.add_(part.view(weight.shape))", BASELINES),
    "b": ("the random label sets the weight", C + "unlearning/phase.py", "score = labels if static is None else None", "score = None", "stages/test_unlearning.py"),
    "c": ("a flipped bit in the store is loaded", H + "store.py", '_hash(path, found) != self.manifest["files"].get(name)', "False", "unit/test_store.py"),
    "d": ("the largest value is best", R + "marks.py", "return cell.distance if cell.distance is not None and math.isfinite(cell.distance) else math.inf", "return -cell.value.mean", "unit/test_leaderboard.py"),
    "s1": ("a class is meant by its place", C + "scenarios/class_.py", 'wanted = places(self.forget_class, names, "forget_class")\n        if', "wanted = [int(name) for name in self.forget_class if name.isdigit()]\n        if", "unit/test_scenarios.py"),
    "s2": ("pictures that are listed may be held out", C + "data/splits.py", "others = np.setdiff1d(np.arange(len(labels)), kept)", "others = np.arange(len(labels))", "unit/test_scenarios.py"),
    "s3": ("a request draws among all", C + "data/splits.py", "forget = np.intersect1d(named, before.retain)", "forget = named", "unit/test_scenarios.py"),
    "s4": ("a request begins with the original", C + "planning.py", "before or self.original", "self.original", "stages/test_requests.py"),
    "s5": ("a forgotten class comes back into the test set", C + "data/splits.py", "before.gone | gone", "gone", "unit/test_scenarios.py"),
    "s6": ("a file's end that two pictures share is taken", C + "data/lists.py", "if len(set(found)) > 1:", "if False:", "unit/test_scenarios.py"),
    "s8": ("a group picture is the last one's", C + "data/lists.py", "[*before, value] if", "[value] if", "unit/test_scenarios.py"),
    "s9": ("one request's table is the other's, too", C + "data/splits.py", "for path in files_of(scenario, \"tables\"):", "for path in self.csvs:", "unit/test_scenarios.py"),
    "s7": ("007 is 7", "plain_yaml.py", "[-+]?(0|[1-9][0-9]*)\", [*", "[-+]?[0-9]+\", [*", "unit/test_config.py"),
    "m1": ("the threshold counts samples, not sides", C + "metrics/mia.py", "below[0] * len(members) - below[1] * len(others)", "below[0] - below[1]", "unit/test_mia.py"),
    "m2": ("an attack at chance is believed", C + "metrics/mia.py", "return bool(test.pvalue > CHANCE) or", "return", "unit/test_mia.py"),
    "m3": ("what says nothing goes into ToW-MIA", R + "cells.py", "if k not in silent}", "}", "unit/test_uninformative.py"),
    "m4": ("two seeds have an interval", R + "statistics/estimate.py", "LEAST = 3", "LEAST = 2", "unit/test_intervals.py"),
    "m5": ("intervals leave 0 ... 100", R + "statistics/estimate.py", "return self.half > 0 and (inside or", "return self.half > 0 and (True or", "unit/test_intervals.py"),
    "m6": ("a test set counts once for every seed", R + "cells.py", 'record.seeds.get("eval") if fresh else None', 'record.seeds.get("eval")', "unit/test_intervals.py"),
    "m7": ("damage is called over-unlearning", R + "marks.py", '        found.add("damaged")', '        found.add("over")', "unit/test_marks.py"),
    "m8": ("rows of other seeds are compared", R + "table.py", "if seeds_of(record) in by_run[run]]", "]", "unit/test_comparable.py"),
    "v1": ("p-values are not corrected", R + "statistics/paired.py", "np.arange(len(order), 0, -1)", "1.0", "unit/test_statistics.py"),
    "v2": ("seeds that share samples count whole", R + "statistics/paired.py", "(1 / n + overlap)", "(1 / n)", "unit/test_statistics.py"),
    "v9": ("seeds that share samples are independent in a table", R + "statistics/scores.py", "values[base], self.overlap, floor", "values[base], 0.0, floor", "unit/test_verdict.py"),
    "v10": ("no forget set is drawn", C + "requested.py", "splits.redrawn(*pair) or", "False or", "stages/test_planning.py"),
    "v3": ("a high distance is a good one", R + "statistics/scores.py", '"low": -1.0', '"low": 1.0', "unit/test_verdict.py"),
    "v4": ("pictures that happen to agree are certain", R + "statistics/scores.py", "floor=noise[own] + noise[base]", "floor=0.0", "unit/test_verdict.py"),
    "v5": ("the last column decides", R + "statistics/ranks.py", "zip(reversed(columns), shown[::-1]", "zip(columns, shown", "unit/test_statistics.py"),
    "v6": ("one model in all seeds is ranked", R + "statistics/standing.py", "row.complete and row.independent", "row.complete", "unit/test_verdict.py"),
    "v7": ("a row that differs is as close", R + "statistics/paired.py", "stdtr(self.n - 1, -self.mean / self.error)", "stdtr(self.n - 1, -np.abs(self.mean) / self.error)", "unit/test_marks.py"),
    "v8": ("a verdict needs no seeds", R + "verdict.py", "if standing.seeds < LEAST:", "if False:", "unit/test_verdict.py"),
    "m9": ("rows of other data are one table", R + "table.py", "[r.limits, r.conditions]", "[r.limits]", "unit/test_comparable.py"),
    "f1": ("an interval of 1 - ToW is ToW's", R + "charts/rows.py", "1 - found.high, 1 - found.low", "1 - found.low, 1 - found.high", "unit/test_charts.py"),
    "f2": ("quarters differ the other way round", R + "charts/strata.py", "[value - theirs[seeds]", "[theirs[seeds] - value", "unit/test_charts.py"),
    "f3": ("weights are a mean over epochs", R + "charts/weights.py", "zip(*(own for own in every if len(own) == most), strict=True)", "[own for own in every if len(own) == most]", "unit/test_charts.py"),
    "f4": ("an interval pulls a logarithmic axis to 0", R + "charts/scale.py", "if end > 0), least / BELOW)", "if end > 0), 0)", "unit/test_charts.py"),
    "f5": ("names are markup", R + "charts/svg.py", "return escape(plain(text))", "return plain(text)", "unit/test_charts.py"),
    "f6": ("the band is Original's", R + "noise.py", 'group.row("Retrain-2", run)', 'group.row("Original", run)', "unit/test_charts.py"),
    "m10": ("half a character in a record is printed", H + "records.py", "        value.encode()\n", "        pass\n", "unit/test_broken_records.py"),
    "l1": ("a chunk's labels are counted from the first class", "ops/linear.py", "gradient_of_rows(logits, rows, classes.start)", "gradient_of_rows(logits, rows, 0)", "ops/test_linear.py"),
    "l2": ("an ignored row has a gradient", "ops/linear.py", ".masked_fill(self.ignored, IGNORED)", ".clone()", "ops/test_linear.py"),
    "l3": ("a label of another chunk falls on this one's edge", "ops/linear.py", "-coefficient * (place == column)", "-coefficient", "ops/test_linear.py"),
    "l4": ("smoothing is spread over a chunk", "ops/linear.py", "rows.smoothing / rows.classes", "rows.smoothing / grad.shape[1]", "ops/test_linear.py"),
    "l5": ("hidden's gradient is the last chunk's", "ops/linear.py", "        total.addmm_(left, right)", "        total.copy_(left @ right)", "ops/test_linear.py"),
    "l6": ("the logits exist whole", "ops/linear.py", "else max(chunk_size // other, 1)", "else count", "ops/test_linear.py"),
    "l9": ("a gradient penalty is half a gradient", "ops/linear.py", '        refuse_double_backward("loreun_linear_cross_entropy")', "        pass", "ops/test_linear.py"),
    "g6": ("the other concept may be the forgotten one", G + "methods/rl.py", "others[concepts, step - 1]", "(concepts + step) % len(data.texts)", "generation/test_methods.py"),
    "g7": ("the other concept's prediction is trained, too", G + "methods/rl.py", "        with torch.no_grad():\n            return predict", "        if True:\n            return predict", "generation/test_methods.py"),
    "gb1": ("CA sends gradients through the first token", G + "methods/ca.py", "        with beginning_held(pipeline.unet):\n            super()", "        if True:\n            super()", "generation/test_baselines.py"),
    "gb2": ("SA's F is of one timestep, not of all", G + "methods/sa.py", "pipeline.timesteps * denoising_loss", "1 * denoising_loss", "generation/test_baselines.py"),
    "gm1": ("relearning trains the model that is measured", G + "metrics/relearn.py", "copy.deepcopy(model.pipeline.unet)", "model.pipeline.unet", "generation/test_model_metrics.py"),
    "gm2": ("the attack moves every token", G + "metrics/attack.py", "empty[1 : tokens + 1].clone()", "empty[1:].clone()", "generation/test_model_metrics.py"),
    "gm3": ("the gap is the measured model's to itself", G + "metrics/gap.py", "(model.pipeline, model.original)", "(model.pipeline, model.pipeline)", "generation/test_model_metrics.py"),
    "gm4": ("pictures are made again with the original", G + "scoring/model.py", "pipeline or self.pipeline, 0", "self.original, 0", "generation/test_model_metrics.py"),
    "gm5": ("the shift forgets who is forgotten", G + "metrics/shift.py", "moved[~gone]", "moved", "generation/test_model_metrics.py"),
    "g10": ("the mask is never applied", G + "unlearning/gradient.py", "constraint=constraint, total=total)", "total=total)", "generation/test_methods.py"),
    "g13": ("only the first forget batch is used", G + "unlearning/gradient.py", "first if number == 0 or not context.protocol.whole_set else next(forget)", "first", "generation/test_methods.py"),
    "gh": ("a classifier's own numbers of classes are taken", G + "stages.py", '.of(config["classes"]) if name', " if name", "generation/test_track.py"),
    "gi": ("weights that are NaN are scored", G + "stages.py", "    checked_weights(before, after)\n", "", "generation/test_track.py"),
    "gj": ("KID takes equal classes for independent pictures", G + "scoring/distances.py", "(same - itself) * n / (n - squares.sum(1))", "same - itself", "generation/test_scorers.py"),
    "gk": ("pictures of another sampler are kept", G + "planning.py", '"code": digest([code_digest(path) for path in SAMPLING]),', '"code": "",', "generation/test_track.py"),
    "gl": ("what only failed rows want is computed", H + "graph.py", "        if self._wanted[recipe] or not self._end(recipe):", "        if True:", "unit/test_graph.py"),
    "y1": ("a lease is taken though its sweep lives", H + "leases.py", "if holder is not None and self._sweeps.live(holder):", "if False:", "reliability/test_leases.py"),
    "y2": ("a dead sweep on this machine is waited for", H + "leases.py", "return path is None or not said.startswith(machine().encode()) or not _free(path)", "return True", "reliability/test_leases.py"),
    "y3": ("a sweep elsewhere dies by the clock of its file", H + "leases.py", "        if said != before:\n            since = time.monotonic()", "        if said != before:\n            since = path.stat().st_mtime if path else 0.0", "reliability/test_leases.py"),
    "y4": ("a lease is given back that another has taken over", H + "leases.py", "if self.holder(key) == self.store.sweep:  # else", "if True:  # else", "reliability/test_leases.py"),
    "y5": ("what another sweep has made meanwhile is made again", H + "scheduler.py", "        self.elsewhere.discard(stage.recipe)\n        found = self._find(stage)", "        self.elsewhere.discard(stage.recipe)\n        found = Found(None)", "reliability/test_leases.py"),
    "y6": ("who waits for its input is not told that it is lost", H + "graph.py", "                        self._open[user], self._state[user] = self._open[user] + 1, WAITS", "                        pass", "unit/test_graph.py"),
    "y7": ("a result is forgotten while a cell reads it", H + "graph.py", "            for recipe in self._read_by(number):\n                self._wanted[recipe] += 1", "            pass", "unit/test_graph.py"),
    "y8": ("of two changes at once the second is not seen", H + "store.py", "< RACY else", "< 0 else", "unit/test_store.py"),
    "y9": ("store clean takes what a sweep under way uses", H + "keeping.py", "living, lists = _living(store), {", "living, lists = set[str](), {", "reliability/test_keeping.py"),
    "y10": ("store clean takes the checkpoint of a leased stage", H + "keeping.py", "and old and one.key not in leased", "and old", "reliability/test_keeping.py"),
    "y11": ("a part of a sweep forgets what the other parts use", H + "plan.py", "plan.notes, partial=True)", "plan.notes)", "reliability/test_keeping.py"),
    "gg": ("an epoch is all the training there is", G + "unlearning/gradient.py", "method.epochs * -(-len(losses", "-(-len(losses", "generation/test_methods.py"),
    "g18": ("the two branches see unlike latents", G + "unlearning/gradient.py", "if self.context.protocol.one_latent:", "if False:", "generation/test_methods.py"),
    "g21": ("ESD: the newer code's eta", G + "methods/esd.py", "plain - self.eta * (concept - plain)", "plain - (self.eta - 1) * (concept - plain)", "generation/test_methods.py"),
    "g22": ("ESD: x_t of another timestep than is trained at", G + "methods/esd.py", "(self.ddim_steps - 1 - part) * width, (self.ddim_steps - part) * width", "part * width, (part + 1) * width", "generation/test_methods.py"),
    "g23": ("FMN marks every end of text", G + "methods/fmn.py", "return [*found, end] if", "return [*found, *range(end, 77)] if", "generation/test_methods.py"),
    "g24": ("FMN attends to the prompt's common words", G + "methods/fmn.py", "if tokens[i] not in shared]", "]", "generation/test_methods.py"),
    "g25": ("guidance is off by one", G + "pipeline/sampling.py", "without + factor * (conditioned - without)", "conditioned + factor * (conditioned - without)", "generation/test_sampling.py"),
    "g26": ("pictures are sampled with another prompt than was trained", G + "planning.py", '{"name": f"{label}-{n:04d}", "prompt": prompt,', '{"name": f"{label}-{n:04d}", "prompt": f"Image of {names[label]}",', "generation/test_track.py"),
    "g27": ("a file's seeds are not used", G + "planning.py", '"seed": p.seed if p.seed is not None', '"seed": 0 if p.seed is not None', "generation/test_track.py"),
    "g30": ("RTE leaves out the loss curve", G + "stages.py", 'for key, value in inputs["curve"].cost.items():', "for key, value in ():", "generation/test_track.py"),
    "gb": ("the other concept's prediction sets the weight", G + "unlearning/gradient.py", "{\"score_target\": None if target is clean else clean,", "{\"score_target\": None,", "generation/test_methods.py"),
    "gc": ("one reference loss for all timesteps", G + "unlearning/gradient.py", '"ref_loss": context.curve[self.phase][batch.t]}', '"ref_loss": context.curve[self.phase][batch.t * 0]}', "generation/test_methods.py"),
    "gd": ("a changed picture is scored", G + "stages.py", "if not path.is_file() or sha256_file(path) != sha256:", "if not path.is_file():", "generation/test_track.py"),
    "ge": ("a broken picture counts as drawn", G + "pipeline/sampling.py", "            picture.load()", "            pass", "generation/test_sampling.py"),
    "gf": ("a picture that changed in place is the same data", G + "data/concepts.py", 'list(reader.each_of(found.files, sha256_file, f"pictures of {name} (hashed)"))', "[file.name for file in found.files]", "generation/test_pictures.py"),
    "gm": ("others' data are told apart by their code", G + "data/returned.py", "found.update(batch.float().cpu().contiguous().numpy().tobytes())", "pass", "generation/test_pictures.py"),
    "gn": ("broken pictures are found cell by cell", G + "data/concepts.py", "        whole.check(found.files, hashes, name)\n", "", "generation/test_pictures.py"),
    "h": ("a metric changes what the next one finds", H + "measuring.py", 'own = given.copied() if hasattr(given, "copied") else copy.deepcopy(given)', "own = given", "generation/test_own_metrics.py"),
    "o1": ("a reference of RMIA has the target among its models", C + "metrics/rmia.py", "(unseen.sum(0) - unseen) / (len(unseen) - 1)", "unseen.mean(0)", "unit/test_over_seeds.py"),
    "o2": ("strangers to a forgotten class are of all classes", C + "metrics/rmia.py", '"test_forget" if "test_forget" in outputs.unlearned else "test"', '"test"', "unit/test_over_seeds.py"),
    "o3": ("the largest margin falls out of the last bin", C + "metrics/klom.py", "places, ones) / places", "places, ones * (places < BINS - 1)) / places", "unit/test_over_seeds.py"),
    "o4": ("an interval parts equal margins", C + "metrics/epsilon.py", "margins[1:] > margins[:-1]", "margins[1:] >= margins[:-1]", "unit/test_over_seeds.py"),
    "o5": ("an attack with one error rate of 0 counts", C + "metrics/epsilon.py", "torch.where((false > 0) & (missed > 0), found.nan_to_num(0.0), 0.0)", "found", "unit/test_over_seeds.py"),
    "o6": ("U-LiRA is fitted on the model that it attacks", C + "metrics/ulira.py", "mean = (off.sum(0) - off) / others", "mean = off.mean(0)", "unit/test_over_seeds.py"),
    "o7": ("the null is of the same models on both sides", C + "scoring/ensembles.py", "for part in (one, other)))", "for part in (one, one)))", "unit/test_over_seeds.py"),
    "o8": ("a row is held against itself", C + "over_seeds.py", "for name in (OWN, RETRAINED)))", "for name in (OWN, OWN)))", "stages/test_over_seeds.py"),
    "o9": ("strata begin with the largest loss", C + "metrics/strata.py", "outputs.original_losses.argsort(", "(-outputs.original_losses).argsort(", "stages/test_over_seeds.py"),
    "o10": ("the losses of other samples make the strata", C + "stages.py", '["losses"][parts.forget.cpu()]', '["losses"][parts.retain.cpu()][: len(parts.forget)]', "stages/test_over_seeds.py"),
    "o11": ("a margin overflows where the model is sure", C + "scoring/evaluation.py", "        others = self.logits.double().scatter(1, label, -torch.inf).logsumexp(1)\n", "        return (-self.losses).exp().logit()\n", "unit/test_over_seeds.py"),
    "o12": ("seeds may draw other splits", C + "over_seeds.py", "if len({each.split for each in config.seeds}) > 1:", "if False:", "stages/test_over_seeds.py"),
    "o13": ("the table calls all as retraining", R + "rows.py", "self.null[0] <= self.value.mean <= self.null[1]", "True", "stages/test_over_seeds.py"),
    "o14": ("an interval leaves out one seed as if it were a group", C + "scoring/ensembles.py", "math.sqrt((groups - 1) ** 2 / groups)", "math.sqrt((groups - 1) / groups)", "unit/test_over_seeds.py"),
    "o15": ("intervals are of too few seeds", C + "scoring/ensembles.py", 'if registry("metrics").get(name).info["seeds"] <= left]', "]", "unit/test_over_seeds.py"),
    "o16": ("each seed's original may choose other samples", C + "over_seeds.py", "        if len(splits) > 1:", "        if False:", "stages/test_over_seeds.py"),
    "o17": ("seeds of one split choose the same by any losses", C + "requested.py", "bool(others or len(originals) > 1)", "bool(others)", "stages/test_planning.py"),
    "f7": ("0 stands where another number does on a logarithmic axis", R + "charts/scale.py", "zero=True) if min(values) <= 0 else found", "zero=True) if False else found", "unit/test_charts.py"),
    "n1": ("a last batch of one image stays alone", T + "loop.py", "if whole and 0 < rest < least <= batch_size:", "if False:", "stages/test_networks.py"),
    "n2": ("images are channels last whatever the model", C + "unlearning/trial.py", "if isinstance(last, _Pass) and _same(plain, last):", "if True:", "stages/test_networks.py"),
    "n3": ("grey images stay channels last", C + "unlearning/networks.py", "return x.clone(memory_format=torch.contiguous_format)", "return x.contiguous()", "stages/test_networks.py"),
    "n4": ("the warm-up leaves its traces", C + "stages.py", "with untouched(model), torch.random.fork_rng():", "with torch.random.fork_rng():", "stages/test_networks.py"),
    "n5": ("images are float32 for every network", C + "unlearning/networks.py", "if contiguous or dtype != torch.float32:", "if contiguous:", "stages/test_networks.py"),
    "n6": ("lazy layers are filled when they train", C + "unlearning/networks.py", "        _complete(network, torch.full((2, channels, *size), 0.5))", "        pass", "stages/test_networks.py"),
    "n7": ("the first tensor is taken for the logits", C + "unlearning/networks.py", "if t.dim() == 2 and t.shape[1] == classes and count in (None, len(t))", "if True", "stages/test_networks.py"),
    "n8": ("NaN logits are measured", C + "scoring/evaluation.py", "        if wrong:", "        if False:", "stages/test_networks.py"),
    "n9": ("what a network draws and does not store is not looked for", C + "unlearning/trial.py", "    if not _close(found[1], found[0]):", "    if False:", "stages/test_networks.py"),
    "n10": ("networks that draw from NumPy are not seeded", H + "seeding.py", "        np.random.seed(seed % 2**32)\n", "", "stages/test_networks.py"),
    "n11": ("evaluate leaves the model in evaluation mode", C + "unlearning/networks.py", "    with untouched(model), told(what):", "    with told(what):", "stages/test_evaluate.py"),
    "n12": ("normalise is not heard", C + "planning.py", "normalised(resolve(config.dataset, config.image_size), config.normalise)", "resolve(config.dataset, config.image_size)", "stages/test_evaluate.py"),
    "n13": ("a table does not say that its original is a checkpoint", C + "planning.py", 'found["original"] =', "_ =", "stages/test_evaluate.py"),
    "n14": ("weights may be missing", C + "unlearning/checkpoints.py", "    if missing or extra:\n", "    if extra:\n", "unit/test_checkpoints.py"),
    "n15": ("the average is taken for the trained weights", C + "unlearning/checkpoints.py", "if not ASIDE.search(r.where + r.prefix)", "if False", "unit/test_checkpoints.py"),
    "n16": ("of several sets of weights the first is taken", C + "unlearning/checkpoints.py", "    if len(chosen) > 1:", "    if False:", "unit/test_checkpoints.py"),
    "n17": ("float64 weights become infinite", C + "unlearning/checkpoints.py", "torch.isfinite(converted)", "torch.isfinite(tensor)", "unit/test_checkpoints.py"),
    "p1": ("names are markup", R + "page/page.py", "autoescape=True", "autoescape=False", UNIT_PAGE),
    "p2": ("a name ends the JSON", R + "page/view.py", '.replace("<", "\\\\u003c").replace(">", "\\\\u003e")', "", UNIT_PAGE),
    "p3": ("the policy's hash is of another script", R + "page/page.py", "'{_hash(script)}'", "'{_hash(script.strip())}'", UNIT_PAGE),
    "p4": ("the policy allows any style", R + "page/page.py", "style-src '{_hash(style)}'", "style-src 'unsafe-inline'", UNIT_PAGE),
    "p5": ("an element has a style of its own", R + "page/template.html.j2", '<p class="eyebrow">', '<p class="eyebrow" style="margin: 0">', UNIT_PAGE),
    "p6": ("numbers are sorted as text", R + "page/page.js", "if (!number) return", "if (true) return", BROWSER),
    "p7": ("what is missing comes first", R + "page/page.js", "(a.key === null) - (b.key === null) ||", "(b.key === null) - (a.key === null) ||", BROWSER),
    "p8": ("nobody is told how a table is sorted", R + "page/page.js", 'if (way) head.setAttribute("aria-sort", way);', "", BROWSER),
    "p9": ("a heading is no button", R + "page/page.js", 'make("button", { type: "button" }, ', 'make("span", {}, ', BROWSER),
    "p10": ("explicit pictures are shown", R + "figures/grid.py", "hide = explicit([first[name] for name in chosen]) if blur is None else blur", "hide = bool(blur)", UNIT_PAGE),
    "p11": ("a table makes the page scroll", R + "page/page.css", ".scroll { overflow: auto; max-width: 100%; }", ".scroll { overflow: visible; }", BROWSER),
    "p12": ("quiet text is too light", R + "page/page.css", "--quiet: #575f6b;", "--quiet: #8a929e;", BROWSER),
    "p13": ("the dark scheme keeps light links", R + "page/page.css", "--link: #8ec3f5;", "--link: #0b5394;", BROWSER),
    "p14": ("paper does not open what is closed", R + "page/page.css", "details::details-content { content-visibility: visible !important;", "details::details-content {", BROWSER),
    "p15": ("the page is not the same twice", R + "page/about.py", "sorted(found.items())", "sorted(found.items(), key=lambda item: id(item))", UNIT_PAGE),
    "p16": ("a page too large is written whole", R + "page/page.py", "if len(text.encode()) < LIMIT:", "if True:", UNIT_PAGE),
    "p17": ("control characters are written", R + "page/about.py", 'plain(line) for line in text.split("\\n")', 'text.split("\\n")', UNIT_PAGE),
    "p18": ("the filter knows no weighting", R + "page/page.js", 'all(row, "th, .name")', 'all(row, "th")', BROWSER),
    "p19": ("a focus is not seen", R + "page/page.css", "thead button:focus-visible { outline: 3px solid var(--accent);", "thead button:focus-visible { outline: none;", BROWSER),
}  # fmt: skip


def caught(name: str) -> bool:
    """Whether the mutant's tests fail."""
    _, file, right, wrong, tests = MUTANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "runs", "*.egg-info"))
        path = copy / "loreun_bench" / file
        text = path.read_text()
        if text.count(right) != 1:
            raise SystemExit(f"mutant {name}: {file} holds {text.count(right)} times {right!r}")
        path.write_text(text.replace(right, wrong))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{tests}"]
        run = subprocess.run(command, cwd=copy, env={"PYTHONPATH": str(copy), "PATH": ""}, capture_output=True, text=True)
        failed = next((line for line in run.stdout.splitlines() if line.startswith("FAILED")), "")
        print(f"{'caught' if run.returncode == 1 else 'SURVIVED'} {name:4} {MUTANTS[name][0]}: {failed[7:110]}", flush=True)
        return run.returncode == 1


if __name__ == "__main__":
    results = [caught(name) for name in sys.argv[1:] or MUTANTS]
    sys.exit(0 if all(results) else 1)
