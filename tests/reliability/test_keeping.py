"""Pins what `store clean` may remove: never what a sweep under way, a lease or a run that is named needs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from test_scheduler import Bench, InlineEngine, plan_of, scheduler, three_cells

from loreun_bench.cli import store as verb
from loreun_bench.errors import UserError
from loreun_bench.harness import keeping, leases
from loreun_bench.harness.leases import Leases
from loreun_bench.harness.plan import shard
from loreun_bench.harness.stage import Output
from loreun_bench.harness.store import Store


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def labels(bench: Bench) -> set[str]:
    return {one.label for one in keeping.contents(bench.store)}


def sweep(bench: Bench, out: str, *names: str) -> None:
    """A sweep in a run folder of its own: models of one original, by name."""
    original = bench.stage("original")
    cells = [bench.cell(name, bench.stage(name, inputs={"original": original})) for name in names]
    scheduler.run(plan_of(*cells), InlineEngine(), bench.store, bench.root / out, "cpu", lambda _: None)


def age(bench: Bench, label: str, days: float) -> None:
    (one,) = [one for one in keeping.contents(bench.store) if one.label == label]
    os.utime(one.folder, (one.made - days * 86400, one.made - days * 86400))


def clean(bench: Bench, **how: object) -> set[str]:
    """What goes."""
    gone = keeping.removable(bench.store, **how)  # type: ignore[arg-type]
    keeping.remove(bench.store, gone)
    return {one.label for one in gone}


def test_a_run_that_is_named_keeps_all_that_it_uses_and_is_cached_afterwards(bench: Bench) -> None:
    sweep(bench, "one", "a", "b")
    sweep(bench, "other", "b", "c")
    assert clean(bench, keep=[bench.root / "one"]) == {"c", "evaluate c"}
    assert labels(bench) == {"original", "a", "evaluate a", "b", "evaluate b"}
    before = bench.runs()
    sweep(bench, "one", "a", "b")
    assert bench.runs() == before


def test_what_no_run_folder_uses_any_more_is_unused(bench: Bench) -> None:
    sweep(bench, "one", "a")
    sweep(bench, "other", "b")
    assert clean(bench, unused=True) == set()
    shutil.rmtree(bench.root / "other")
    assert clean(bench, unused=True) == {"b", "evaluate b"}
    sweep(bench, "one", "c")  # the sweep has other cells now
    assert clean(bench, unused=True) == {"a", "evaluate a"}


def test_age_is_counted_from_when_a_thing_was_made_and_limits_go_together(bench: Bench) -> None:
    sweep(bench, "one", "a", "b")
    age(bench, "a", 40)
    age(bench, "original", 40)
    assert clean(bench, older_s=keeping.seconds("30d"), keep=[bench.root / "one"]) == set()
    assert clean(bench, older_s=keeping.seconds("6w")) == set()
    assert clean(bench, older_s=keeping.seconds("30d")) == {"a", "original"}


def test_without_a_limit_only_what_is_damaged_goes(bench: Bench) -> None:
    sweep(bench, "one", "a")
    shutil.rmtree(bench.root / "one")
    artifact = bench.store.find(bench.key("a"))
    assert artifact is not None
    bench.store.set_aside(artifact)
    (bench.store.root / "tmp" / "dead" / "half").mkdir(parents=True)
    (one,) = keeping.removable(bench.store)
    assert one.kind == "damaged"
    assert clean(bench) == {""}
    assert labels(bench) == {"original", "evaluate a"}
    assert list((bench.store.root / "tmp").iterdir()) == []


def test_what_a_sweep_under_way_uses_stays(bench: Bench) -> None:
    gone: list[set[str]] = []
    original = bench.stage("original")
    cells = [bench.cell(name, bench.stage(name, inputs={"original": original})) for name in "ab"]

    def listen(event: scheduler.Event) -> None:
        if event.kind == "finished":
            gone.append(clean(bench, keep=[], older_s=-1.0))

    sweep(bench, "other", "c")
    scheduler.run(plan_of(*cells), InlineEngine(), bench.store, bench.out, "cpu", listen)
    assert gone.pop(0) == {"c", "evaluate c"}
    assert gone == [set()] * 3
    assert set(bench.runs().values()) == {1}


@pytest.mark.parametrize("lease", ["", "cd" * 32], ids=["", "of a plug-in's stage"])
@pytest.mark.parametrize("moment", ["contents", "_leased", "_living", "_lists"])
def test_what_a_sweep_finishes_while_it_is_asked_what_may_go_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, moment: str, lease: str
) -> None:
    """At any moment: what is there already is not listed yet, and what is listed is leased no more."""
    look, key = getattr(keeping, moment), "ab" * 32
    with Leases(bench.store) as leases:
        uses = keeping.RunList(leases.store, bench.root / "out")
        assert leases.take(lease or key)

        def finished(store: Store) -> object:
            found = look(store)
            found = found if isinstance(found, (list, set)) else list(found)
            if not leases.store.find(key):
                leases.store.put(key, Output(), {"seconds": 0.0} | ({"lease": lease} if lease else {}))
            else:
                uses.add(key)
                leases.give_back(lease or key)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(keeping, moment, finished)
            for _ in range(3):
                assert not keeping.removable(bench.store, keep=[], older_s=-1.0)


def test_a_checkpoint_goes_by_its_age_and_stays_while_its_stage_is_leased(bench: Bench) -> None:
    key = "ab" + "0" * 62
    (bench.store.root / "checkpoints" / key).mkdir(parents=True)
    assert keeping.removable(bench.store, keep=[]) == []
    with Leases(bench.store) as leases:
        assert leases.take(key)
        assert keeping.removable(bench.store, older_s=-1.0) == []
    (one,) = keeping.removable(bench.store, older_s=-1.0)
    assert (one.kind, one.key) == ("checkpoint", key)
    (bench.store.root / "leases" / key).write_text("killed")
    assert keeping.removable(bench.store, older_s=-1.0) == [one]


def test_a_part_of_a_sweep_adds_to_what_its_run_folder_uses(bench: Bench) -> None:
    plan = plan_of(*three_cells(bench))
    for k in (1, 2, 3):
        scheduler.run(shard(plan, f"{k}/3"), InlineEngine(), bench.store, bench.out, "cpu", lambda _: None)
    assert clean(bench, unused=True) == set()


def test_a_run_of_before_keeps_what_its_records_name(bench: Bench) -> None:
    sweep(bench, "one", "a")
    shutil.rmtree(bench.store.root / "runs")
    assert clean(bench, keep=[bench.root / "one"]) == {"original"}


def test_a_folder_that_is_no_run_and_an_age_that_is_none_are_refused(bench: Bench) -> None:
    with pytest.raises(UserError, match="no records"):
        keeping.removable(bench.store, keep=[bench.root / "nowhere"])
    for text in ("30", "d", "-1d", "1.5d", "3m", "²d", ""):
        with pytest.raises(UserError, match="--older"):
            keeping.seconds(text)


def test_the_verbs_say_what_is_there_and_what_has_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOREUN_STORE", str(bench.store.root))
    sweep(bench, "one", "a")
    verb.list_store()
    said = capsys.readouterr().out
    assert "all" in said
    assert str(bench.root / "one") in said
    assert "uses 3" in said
    shutil.rmtree(bench.root / "one")
    verb.clean(unused=True, dry_run=True)
    assert "3 of the store's items would go" in capsys.readouterr().out
    verb.clean(unused=True)
    assert "3 of the store's items are gone" in capsys.readouterr().out
    assert keeping.contents(Store(bench.store.root)) == []


def test_what_a_sweep_of_before_a_restart_left_goes_once_it_shows_no_sign_of_life(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOREUN_STORE", str(bench.store.root))
    monkeypatch.setattr(leases, "EXPIRES", 0.2)
    sweep(bench, "one", "a")
    folder = bench.store.root / "tmp" / "before"
    folder.mkdir(parents=True)
    (folder / leases.ALIVE).write_text("another-machine 000000000012\n")
    (folder / "half").mkdir()
    verb.clean(dry_run=True)
    assert capsys.readouterr().out == "0 of the store's items would go, 0 bytes\n"
    assert folder.is_dir()
    verb.list_store()
    said = capsys.readouterr().out
    assert "1 sweep of another machine or of before a restart may be under way" in said
    assert "is under way" not in said
    verb.clean()
    assert "1 sweep of another machine or of before a restart: waiting" in capsys.readouterr().out
    assert not folder.exists()
    verb.clean()
    assert "waiting" not in capsys.readouterr().out
