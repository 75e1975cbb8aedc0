"""What training takes in memory, measured in processes of their own by the peak of their resident set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the peak of the resident set from /proc"
)

PEAK = """
import json, torch
from cvr_plugins.sequential import PARSCore, PARSEncoder, PseudoLabelStore, catalogue_logsumexp

torch.set_num_threads(1)

def mib(name="VmHWM"):
    # Not ru_maxrss: that one remembers the process that this one was forked from.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024
"""

SOFTMAX = """
hidden = torch.randn(1000, 32, requires_grad=True)
weight = torch.randn(50_000, 32, requires_grad=True)
catalogue_logsumexp(hidden, weight[:500]).sum().backward()
before = mib()
catalogue_logsumexp(hidden, weight).sum().backward()
chunked = mib() - before
(hidden @ weight.T).logsumexp(1).sum().backward()
print(json.dumps([chunked, mib() - before]))
"""

STEP = """
n_sessions, n_items, length, batch = {n_sessions}, {n_items}, 15, {batch}
imported = mib("VmRSS")
generator = torch.Generator().manual_seed(0)
sessions = torch.randint(1, n_items + 1, (n_sessions, length), generator=generator, dtype=torch.int32)
before = mib()
store = PseudoLabelStore.from_padded(sessions, n_items=n_items + 1)
built = mib() - before
core = PARSCore(PARSEncoder(n_items + 1, hidden_size={hidden}, inner_size=4 * {hidden}), store)
optimiser = torch.optim.AdamW(core.parameters(), lr=1e-4, weight_decay=0.01)
ids = torch.randperm(n_sessions, generator=generator)[:batch]
loss = sum(core.step(ids, sessions[ids], generator).values())
loss.backward()
torch.nn.utils.clip_grad_norm_(core.parameters(), 1.0)
optimiser.step()
assert torch.isfinite(loss)
print(json.dumps(dict(imported=imported, built=built, store=store.nbytes / 2**20, peak=mib())))
"""


def measured(script: str, **values: object):
    source = PEAK + script.format(**values)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_softmax_takes_a_few_chunks_whatever_the_catalogue():
    scores = 1000 * 50_000 * 4 / 2**20
    chunked, dense = measured(SOFTMAX)
    assert dense > scores
    # The gradient of the weights is 6 MiB, a chunk of scores 16.
    assert chunked < 40 < scores / 4


def test_a_step_takes_neither_dense_labels_nor_dense_scores():
    # Dense labels would take 1526 MiB, the scores of a batch's masked events about 225 MiB, twice with gradients.
    found = measured(STEP, n_sessions=20_000, n_items=20_000, batch=640, hidden=16)
    assert found["store"] < 3
    assert found["peak"] - found["imported"] < 450


@pytest.mark.slow
def test_yoochoose_sets_up_and_trains_a_step_within_two_gigabytes():
    found = measured(STEP, n_sessions=417_370, n_items=39_299, batch=64, hidden=128)
    assert found["store"] * 2**20 < 100e6
    assert found["built"] * 2**20 < 100e6
    assert found["peak"] * 2**20 < 2e9
