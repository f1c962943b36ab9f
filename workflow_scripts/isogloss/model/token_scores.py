"""Log-probabilities of tokens after states, by the readout: the arithmetic that costs most.

p(w) = softmax(softcap(U norm(h)))[w], with the model's own final norm and unembedding. The cost is
the product with the unembedding, rows x width x vocabulary; it runs in blocks of rows and
vocabulary with a running log-sum-exp, so that rows x vocabulary logits never exist at once. A
block of logits is small enough for the processor's cache: what is done to it after the product
then costs a tenth of the product. A GPU gives the logits of some rows in float32, and its calls
cost more than its memory: there a block is rows x the whole vocabulary.
"""

import math

import torch

from isogloss.model.readout import Readout

# Logits of a row that are computed exactly where the readout is in a narrow type.
EXACT = 4
# Rows and tokens of a block of logits: it stays in a processor's cache.
ROW_BLOCK, VOCABULARY_BLOCK = 512, 1024
# Blocks of the vocabulary that few rows take at a time, for whom a block is more calls than work.
AT_ONCE = 4
LOG2_E = 1 / math.log(2)


@torch.inference_mode()
def token_log_probabilities(
    states: torch.Tensor,
    readout: Readout,
    target_row: torch.Tensor,
    target_token: torch.Tensor,
    *,
    row_block: int = ROW_BLOCK,
    vocabulary_block: int = VOCABULARY_BLOCK,
) -> torch.Tensor:
    """Log-probability of given next tokens after given states.

    The normaliser is the log-sum-exp over the whole vocabulary of logits in the readout's type;
    the logits that are asked for, the few that dominate the normaliser, and all sums are in
    float32, so that rounding in a narrow type neither favours a token nor gives more than 1.

    Args:
        states: (row, feature) residual stream, before the final norm.
        readout: the model's final norm and unembedding.
        target_row: (target,) index into the rows.
        target_token: (target,) token id.
        row_block, vocabulary_block: size of a block of logits; of the vocabulary only on a
            processor. There, in narrow types, the few logits that dominate are sought one per
            vocabulary block.

    Returns:
        (target,) float32 log-probabilities [nat].
    """
    device = readout.weight.device
    states, target_row, target_token = (t.to(device) for t in (states, target_row, target_token))
    normed = readout.weight.new_empty(len(states), readout.weight.shape[1])
    normaliser = torch.empty(len(states), dtype=torch.float32, device=device)
    for start in range(0, len(states), row_block):
        block = readout.norm(states[start : start + row_block].to(readout.weight.dtype))
        normed[start : start + row_block] = block
        if device.type == "cuda":
            sums = torch.logsumexp(readout.logits_on_gpu(block), -1)
        else:
            at_once = max(1, min(AT_ONCE, row_block // len(block)))
            sums = _log_sum_exp(block, readout, vocabulary_block, at_once)
        normaliser[start : start + row_block] = sums
    scores = torch.empty(len(target_row), dtype=torch.float32, device=device)
    for start in range(0, len(target_row), 4096):
        part = slice(start, start + 4096)
        logits = _exact_logits(normed[target_row[part]], target_token[part], readout)
        scores[part] = logits - normaliser[target_row[part]]
    return scores


def _exact_logits(normed: torch.Tensor, tokens: torch.Tensor, readout: Readout) -> torch.Tensor:
    """(row,) capped logits of one token a row, in float32."""
    logits = (normed.float() * readout.weight[tokens].float()).sum(-1)
    if readout.bias is not None:
        logits += readout.bias[tokens].float()
    return readout.cap(logits)


def _log_sum_exp(
    normed: torch.Tensor, readout: Readout, vocabulary_block: int, at_once: int
) -> torch.Tensor:
    """(row,) log-sum-exp of the logits over the vocabulary, some blocks at a time."""
    reference = torch.full((len(normed), 1), -torch.inf, device=normed.device)
    total = torch.zeros_like(reference)
    narrow, highest, tokens = readout.weight.dtype != torch.float32, [], []
    for start, logits in readout.logit_blocks(normed, at_once * vocabulary_block):
        if narrow:
            value, place = _highest(logits, vocabulary_block, readout.bits_below_bfloat16)
            highest.append(value)
            tokens.append(place + start)
        else:
            value = logits
        before, reference = reference, torch.maximum(reference, value.amax(-1, keepdim=True))
        total *= torch.exp(before - reference)
        # As powers of 2 and in place: on a CPU exp takes three times as long as exp2.
        torch.add(reference * -LOG2_E, logits, alpha=LOG2_E, out=logits)
        total += logits.exp2_().sum(-1, keepdim=True)
    rounded = (reference + total.log())[:, 0]
    if not narrow:
        return rounded
    return _exactly(rounded, torch.cat(highest, 1), torch.cat(tokens, 1), normed, readout)


def _highest(
    logits: torch.Tensor, block: int, bits_below: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """A highest logit of each row and block, to the precision of bfloat16, and its place.

    A bfloat16 is a float32 whose lower 16 bits are zero. There each logit gets its place in the row
    written, which changes it by less than bfloat16 resolves. So the plain maximum of these numbers
    is a highest logit, and its lower bits say where it is: half the time of a maximum with indices.

    Args:
        logits: (row, token) float32, at most 65,536 tokens.
        block: tokens of a block.
        bits_below: whether they may hold more bits than a bfloat16 has.

    Returns:
        Two tensors (row, block).
    """
    bits = logits.view(torch.int32)
    bits = bits.bitwise_and(-0x10000) if bits_below else bits  # lower 16 bits cleared
    packed = bits | torch.arange(logits.shape[1], dtype=torch.int32, device=logits.device)
    of_blocks = packed.view(torch.float32).split(block, dim=1)
    best = torch.stack([part.amax(dim=-1) for part in of_blocks], dim=1)
    place = best.view(torch.int32).bitwise_and(0xFFFF).long()
    return logits.gather(1, place), place


def _exactly(
    total: torch.Tensor,
    highest: torch.Tensor,
    tokens: torch.Tensor,
    normed: torch.Tensor,
    readout: Readout,
) -> torch.Tensor:
    """The normaliser with its dominant logits exact in place of rounded.

    Args:
        total: (row,) log-sum-exp of rounded logits.
        highest, tokens: (row, block) highest rounded logit of each block, and its token.
        normed: (row, feature) states after the final norm.
    """
    rounded, place = highest.topk(min(EXACT, highest.shape[1]), dim=-1)
    chosen = tokens.gather(1, place)
    exact = torch.stack(
        [_exact_logits(normed, chosen[:, i], readout) for i in range(chosen.shape[1])], dim=1
    )
    rest = 1 - torch.exp(rounded - total[:, None]).sum(-1)
    share = torch.exp(exact - total[:, None]).sum(-1)
    return total + torch.log(rest.clamp(min=0) + share)
