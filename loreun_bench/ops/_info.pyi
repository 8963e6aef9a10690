from typing import TypedDict

class Build(TypedDict):
    compiler: str
    build_type: str
    cuda: str
    cuda_architectures: str

class Plan(TypedDict):
    regime: str
    blocks: int
    threads: int
    shared_memory: int
    workspace: int
    splits: int

def build() -> Build: ...
def plan(
    loss: str, dtype: str, rows: int, size: int, with_grad: bool = True, sms: int = 132, smem_per_block: int = 232448
) -> Plan: ...
