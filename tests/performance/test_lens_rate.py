"""The lens against the rate of the matrix product in it, at the same shape, in the same run."""

import time
from collections.abc import Callable, Iterator

import pytest
import torch

from isogloss.model.logit_lens import token_log_probabilities
from isogloss.model.readout import Readout

ROWS, WIDTH, VOCABULARY = 512, 640, 65536
REPETITIONS = 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """CPU time of one thread is a fair measure beside other processes; run time is not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def alternating(*work: Callable[[], object]) -> list[float]:
    """CPU seconds of each piece of work: the least of some alternating repetitions."""
    seconds: list[list[float]] = [[] for _ in work]
    for _ in range(REPETITIONS):
        for own, one in zip(seconds, work, strict=True):
            began = time.process_time()
            one()
            own.append(time.process_time() - began)
    return [min(own[1:]) for own in seconds]


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 0.8), (torch.bfloat16, 0.55)])
@torch.inference_mode()
def test_the_lens_runs_near_the_rate_of_its_matrix_product(dtype: torch.dtype, share: float):
    draw = torch.Generator().manual_seed(0)
    weight = (torch.randn(VOCABULARY, WIDTH, generator=draw) * 0.1).to(dtype)
    readout = Readout(torch.ones(WIDTH).to(dtype), 1e-6, "weight", weight)
    states = torch.randn(ROWS, WIDTH, generator=draw)
    row, token = torch.arange(ROWS), torch.arange(ROWS) * 31
    narrow, out = states.to(dtype), torch.empty(ROWS, VOCABULARY, dtype=dtype)
    product, lens = alternating(
        lambda: torch.mm(narrow, weight.T, out=out),
        lambda: token_log_probabilities(states, readout, row, token),
    )
    assert product / lens > share, f"{product / lens:.2f} of the product's rate"
