"""Memory that runs out, in a worker and on a GPU: a row with its reason, and the other rows as they would be."""

from __future__ import annotations

import pytest

LIMITED = """
        import resource
        room = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (300 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, room))  # as by `ulimit -v`
"""
TAKES = {
    "a tensor": (LIMITED + "        torch.ones(1 << 30)", "oom", "you tried to allocate 4294967296 bytes"),
    "bytes": (LIMITED + "        bytearray(4 << 30)", "oom", "MemoryError"),
    "bit by bit": (LIMITED + "        [bytearray(1 << 20) for _ in range(1 << 20)]", "oom", "MemoryError"),
    "the kernel kills it": ("        os.kill(os.getpid(), 9)", "failed", "the worker process died: killed, out of memory"),
    "a GPU": (
        '        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 79.11 GiB")',
        "oom", "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TAKES)
def test_a_row_that_runs_out_of_memory_says_so_and_the_others_finish(here, what, undisturbed):
    body, status, reason = TAKES[what]
    ended = here.run(body)
    assert ended.code == 1
    assert f"{status}: random-20% seed 0 Own: " in ended.error
    assert reason in ended.error
    assert here.others == undisturbed.metrics
    assert here.own.status == status
    assert reason in here.own.reason
    assert here.own.trace == "" or (here.out / here.own.trace).is_file()


def test_a_row_that_ran_out_of_memory_is_tried_again(here, undisturbed):
    assert here.run(TAKES["a GPU"][0]).code == 1
    assert here.run("        pass").code == 0
    assert here.own.status == "ok"
    assert here.others == undisturbed.metrics
