"""Two sweeps on one store, and `store clean` again and again beside them."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from boxes import CONFIG

from loreun_bench import load_records
from loreun_bench.harness import keeping
from loreun_bench.harness.stage import Output
from loreun_bench.harness.store import Store


def test_two_sweeps_and_a_clean_at_once(tmp_path, data):
    store, config = Store(tmp_path / "store"), tmp_path / "tiny.yaml"
    config.write_text(CONFIG)
    old = store.put("ab" + "0" * 62, Output(values={"of": "nobody"}), {"seconds": 0.0})
    env = os.environ | {"LOREUN_STORE": str(store.root), "LOREUN_DATA": str(data), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "loreun_bench", "sweep", str(config), "--workers", "1", "--out"]
    outs = [tmp_path / "one", tmp_path / "two"]
    sweeps = [subprocess.Popen([*words, str(out)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for out in outs]
    both, gone = 0, set()
    while all(sweep.poll() is None for sweep in sweeps):
        some = keeping.removable(store, keep=[], older_s=-1.0)
        if len(list(store.root.glob("tmp/[!.]*/alive"))) == 2:  # both were under way when it was asked
            keeping.remove(store, some)
            gone |= {one.key for one in some}
            both += 1
        time.sleep(0.01)
    for sweep in sweeps:
        said = sweep.communicate(timeout=120)
        assert sweep.returncode == 0, said
    assert both > 10
    assert gone == {old.folder.name}
    first, second = ({r.cell: r.metrics for r in load_records(out)} for out in outs)
    assert first == second
    assert len(first) == 4
