from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from isogloss.model.attention import PIECE, attend, use_segments, without_plans
from isogloss.model.tiny_models import FAMILIES, tiny_model

model = cache(tiny_model)


def drawn(rows, heads, groups, sizes, width=16, value_width=16, dtype=torch.float32):
    """Queries, keys, values, and for each query the earlier keys of its segment that it sees."""
    make = torch.Generator().manual_seed(0)
    length = sum(sizes)
    shapes = ((heads, width), (groups, width), (groups, value_width))
    q, k, v = (torch.randn(rows, h, length, d, generator=make).to(dtype) for h, d in shapes)
    whole = torch.zeros(rows, length, length, dtype=torch.bool)
    begin = 0
    for size in sizes:
        segment = slice(begin, begin + size)
        seen = torch.rand(rows, size, size, generator=make).lt(0.5).tril()
        whole[:, segment, segment] = seen | torch.eye(size, dtype=torch.bool)
        begin += size
    return q, k, v, whole


def banded(whole, sizes, dtype):
    """The mask as `attend` takes it: added, keys counted from the segment's beginning."""
    rows, length, _ = whole.shape
    band = torch.zeros(rows, length, max(sizes), dtype=torch.bool)
    begin = 0
    for size in sizes:
        segment = slice(begin, begin + size)
        band[:, segment, :size] = whole[:, segment, segment]
        begin += size
    least = torch.finfo(dtype).min
    return torch.where(band, 0.0, least).to(dtype)[:, None]


@pytest.mark.parametrize("sizes", [[7], [1, 5, 3], [PIECE + 1], [3, 2 * PIECE + 5, PIECE]])
@pytest.mark.parametrize(("rows", "heads", "groups"), [(1, 1, 1), (3, 6, 2), (2, 4, 4)])
def test_segments_attend_as_sdpa_does_under_the_whole_mask(sizes, rows, heads, groups):
    q, k, v, whole = drawn(rows, heads, groups, sizes, value_width=8)
    expected = scaled_dot_product_attention(
        q, k, v, attn_mask=whole[:, None], scale=0.3, enable_gqa=True
    )
    mask = banded(whole, sizes, q.dtype)
    attended, weights = attend(None, q, k, v, mask, scaling=0.3, segments=sizes)
    assert weights is None
    torch.testing.assert_close(attended, expected.transpose(1, 2), atol=1e-5, rtol=0)


def test_without_a_scale_it_is_that_of_the_width():
    q, k, v, whole = drawn(1, 2, 1, [9])
    mask = banded(whole, [9], q.dtype)
    attended = attend(None, q, k, v, mask, segments=[9])[0]
    assert torch.equal(attended, attend(None, q, k, v, mask, scaling=0.25, segments=[9])[0])


def test_nothing_of_a_segment_reaches_another_one():
    sizes = [4, PIECE + 3]
    q, k, v, whole = drawn(2, 2, 1, sizes)
    mask = banded(whole, sizes, q.dtype)
    before = attend(None, q, k, v, mask, segments=sizes)[0]
    for changed in (q, k, v):
        changed[:, :, 4:] = float("nan")
    after = attend(None, q, k, v, mask, segments=sizes)[0]
    assert torch.equal(after[:, :4], before[:, :4]) and after[:, 4:].isnan().any()


def test_in_bfloat16_it_is_as_near_to_float32_as_its_scores_can_be():
    sizes = [40, 300]
    q, k, v, whole = drawn(1, 4, 1, sizes, dtype=torch.bfloat16)
    exact = attend(
        None, q.float(), k.float(), v.float(), banded(whole, sizes, torch.float32), segments=sizes
    )[0]
    attended = attend(None, q, k, v, banded(whole, sizes, q.dtype), segments=sizes)[0]
    assert attended.dtype == torch.bfloat16
    assert (attended.float() - exact).abs().mean() < 2**-8 * exact.abs().mean() * 2


def test_without_segments_it_is_transformers_sdpa():
    q, k, v, _ = drawn(1, 2, 2, [5])
    layer = SimpleNamespace(is_causal=True)
    attended = attend(layer, q, k, v, None, scaling=0.25)[0]
    expected = scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.25)
    torch.testing.assert_close(attended, expected.transpose(1, 2))


def test_models_on_a_cpu_attend_by_segments_unless_they_were_given_another_attention():
    by_segments = {family: model(family).by_segments for family in FAMILIES}
    assert by_segments == {
        family: family != "gemma2" for family in FAMILIES
    }  # its scores are capped
    assert not model("gemma3", attention="eager").by_segments


def test_a_model_with_code_of_its_own_keeps_its_attention():
    theirs = tiny_model("llama").model
    theirs.set_attn_implementation("sdpa")
    type_ = type("Theirs", (type(theirs),), {"__module__": "transformers_modules.theirs"})
    theirs.__class__ = type_
    use_segments(theirs)
    assert theirs.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("device", "switched"), [("cuda:1", [False]), ("cpu", []), ("meta", [])])
def test_cudnn_is_kept_from_models_on_an_nvidia_gpu_alone(monkeypatch, device, switched):
    switches = []
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", switches.append)
    parameter = SimpleNamespace(device=torch.device(device))
    without_plans(SimpleNamespace(parameters=lambda: iter([parameter])))
    assert switches == switched
