"""The readout of a model: its final norm and unembedding, enough for the lens without the model.

log p(next token | h) = log_softmax(cap(head(norm(h)))), with h a state of the residual stream
before the final norm.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from isogloss.errors import Damaged, InputError
from isogloss.files.atomic import whole_file
from isogloss.files.canonical import canonical_json, key_of
from isogloss.model.matrix_products import linear
from isogloss.versions import READOUT_VERSION

NORM_STYLES = ("weight", "one_plus_weight")


class HasReadout(Protocol):
    """What `readout_of` needs of a loaded model (`isogloss.model.decoder.Decoder` has it)."""

    final_norm: nn.Module
    head: nn.Linear
    softcap: float | None


@dataclass(frozen=True)
class Readout:
    """Final norm and unembedding of one model.

    Attributes:
        norm_weight: (width,) as stored in the model.
        norm_eps: added to the mean square.
        norm_style: "weight" scales by w after rounding to the states' type (Llama, Mistral, Qwen),
            "one_plus_weight" scales by 1 + w in float32 before rounding (Gemma).
        weight: (vocabulary, width) unembedding.
        bias: (vocabulary,) or None.
        softcap: logits become softcap * tanh(logits / softcap); None leaves them (Gemma 2 has one).
    """

    norm_weight: torch.Tensor
    norm_eps: float
    norm_style: str
    weight: torch.Tensor
    bias: torch.Tensor | None = None
    softcap: float | None = None

    @property
    def bits_below_bfloat16(self) -> bool:
        """Whether a logit of `logit_blocks` may hold more bits than a bfloat16 has."""
        plain = self.bias is None and self.softcap is None
        return not plain or self.weight.dtype != torch.bfloat16

    def norm(self, h: torch.Tensor) -> torch.Tensor:
        """The model's own final norm, bit for bit. h: (..., width), any type; same shape back."""
        full = h.float()
        full = full * torch.rsqrt(full.pow(2).mean(-1, keepdim=True) + self.norm_eps)
        if self.norm_style == "one_plus_weight":
            return (full * (1.0 + self.norm_weight.float())).type_as(h)
        return self.norm_weight * full.to(h.dtype)

    def cap(self, logits: torch.Tensor) -> torch.Tensor:
        """The soft cap of the logits, where the model has one."""
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def logits_on_gpu(self, normed: torch.Tensor) -> torch.Tensor:
        """(row, token) capped logits of the whole vocabulary, in float32 in every type.

        Args:
            normed: (row, width) states after the final norm, in the weights' type, on a GPU.
        """
        narrow: dict[str, Any] = (
            {} if normed.dtype == torch.float32 else {"out_dtype": torch.float32}
        )
        logits = torch.mm(normed, self.weight.T, **narrow)
        if self.bias is not None:
            logits += self.bias.float()
        return self.cap(logits)

    def logit_blocks(self, normed: torch.Tensor, size: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Logits of `size` tokens at a time, capped, in float32; a new tensor each.

        Args:
            normed: (row, width) states after the final norm, in the weights' type.
            size: tokens of a block.

        Yields:
            The first token of a block, and (row, token) logits.
        """
        for start in range(0, len(self.weight), size):
            logits = linear(normed, self.weight[start : start + size]).float()
            if self.bias is not None:
                logits += self.bias[start : start + size].float()
            yield start, self.cap(logits)


def readout_of(decoder: HasReadout) -> Readout:
    """The readout of a loaded model; its tensors are the model's own, not copies.

    The norm's convention is not guessed from names: it is the one that gives the module's own
    output, bit for bit, on random states.

    Raises:
        InputError: the final norm is none that Isogloss knows, or the head is not in memory.
    """
    norm, head = decoder.final_norm, decoder.head
    name = type(norm).__name__
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    weight = getattr(norm, "weight", None)
    if not isinstance(eps, float) or not isinstance(weight, torch.Tensor):
        raise InputError(f"final norm {name}: no weight or epsilon found: not a supported family")
    if head.weight.is_meta or weight.is_meta:
        raise InputError("unembedding: offloaded: use a device_map that keeps it on a device")
    width = head.weight.shape[1]
    probe = torch.randn(16, width, generator=torch.Generator().manual_seed(0)) * 3
    probe = probe.to(weight.device, weight.dtype)
    bias = None if head.bias is None else head.bias.detach()
    for style in NORM_STYLES:
        readout = Readout(weight.detach(), eps, style, head.weight.detach(), bias, decoder.softcap)
        with torch.no_grad():
            if torch.equal(readout.norm(probe), norm(probe)):
                return readout
    raise InputError(f"final norm {name}: neither of {NORM_STYLES}: not a supported family")


def write_readout(decoder: HasReadout, path: Path, spec: Mapping[str, Any]) -> None:
    """Write a model's readout as safetensors, in the type that the model was loaded in.

    Args:
        decoder: the model.
        path: file to write, named by the key of the spec.
        spec: what the readout is.

    Raises:
        InputError: as `readout_of`.
    """
    readout = readout_of(decoder)
    tensors = {"norm.weight": readout.norm_weight, "head.weight": readout.weight}
    if readout.bias is not None:
        tensors["head.bias"] = readout.bias
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    settings = {
        "version": READOUT_VERSION,
        "key": key_of(spec),
        "spec": canonical_json(spec),
        "norm_eps": readout.norm_eps,
        "norm_style": readout.norm_style,
        "softcap": readout.softcap,
    }
    settings["content_digest"] = _digest(settings, tensors)
    # One metadata entry: safetensors writes several in no fixed order, and bytes would differ.
    metadata = {"isogloss": json.dumps(settings, sort_keys=True)}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        # It comes readable by its owner alone; others may read it where they may read its folder.
        temporary.chmod(path.parent.stat().st_mode & 0o664)


def read_readout(path: Path, device: torch.device | str = "cpu") -> Readout:
    """The readout that `write_readout` wrote, in the type that it was written in.

    Raises:
        InputError: the file is missing, damaged, or not a readout of this version.
    """
    if not path.exists():
        raise InputError(f"{path}: no such readout: run the rule that makes it")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            settings = json.loads((file.metadata() or {})["isogloss"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, KeyError, ValueError) as error:
        raise Damaged(path, f"not a readout ({error})") from error
    if settings["version"] != READOUT_VERSION:
        was = settings["version"]
        raise Damaged(path, f"readout version is {was}, this program reads {READOUT_VERSION}")
    return Readout(
        norm_weight=tensors["norm.weight"],
        norm_eps=settings["norm_eps"],
        norm_style=settings["norm_style"],
        weight=tensors["head.weight"],
        bias=tensors.get("head.bias"),
        softcap=settings["softcap"],
    )


def verify_readout(path: Path) -> None:
    """Compare a readout with its name and with the digest taken when it was written.

    Raises:
        Damaged: another readout than its name says, another version, not whole, or changed since.
    """
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads((file.metadata() or {})["isogloss"])
            expected, version = settings.pop("content_digest"), settings["version"]
            actual = _digest(settings, {name: file.get_tensor(name) for name in file.keys()})
        key, named = key_of(json.loads(settings["spec"])), settings["key"]
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise Damaged(path, f"not a whole readout ({error})") from error
    if version != READOUT_VERSION:
        raise Damaged(path, f"readout version is {version}, this program reads {READOUT_VERSION}")
    if not path.stem == key == named:
        raise Damaged(path, f"key {key[:12]} does not match its name")
    if actual != expected:
        raise Damaged(path, "its content_digest is another than was written: it has changed since")


def _digest(settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the settings, and the tensors' names, types, shapes and values."""
    digest = hashlib.sha256(canonical_json(settings).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()
