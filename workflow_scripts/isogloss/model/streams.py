"""Residual streams side by side, and the one state that a readout sees.

Gemma 3n (AltUp: Baykal et al. 2023, arXiv:2301.13310) carries several streams from block to block.
Before its final norm it takes the first as it is, projects every other, gives it the first one's
root mean square, and averages them all. DeepSeek-V4 and HY-V4 (hyper-connections: Zhu et al. 2024,
arXiv:2409.19606) sum theirs, with weights that depend on them. That mean or sum is what counts as
the state of a layer here: at the last layer it is what the final norm takes, so the lens there is
the model.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

SMALLEST = 1e-5
"""Mean square that a projected stream is taken to have at least."""
NEGLIGIBLE = 1e-8
"""Of squared streams: what is smaller, beside the largest, tells no weights apart."""


@dataclass(frozen=True)
class AltUp:
    """The projections of a model's streams but the first."""

    projections: nn.ModuleList

    def merged(self, streams: torch.Tensor) -> torch.Tensor:
        """The state that the readout would see. (stream, row, place, feature) in, without the
        first dimension back."""
        first = streams[0]
        size = (first**2).mean(-1, keepdim=True) ** 0.5
        parts = [first]
        for projection, stream in zip(self.projections, streams[1:], strict=True):
            projected = projection(stream).to(first)
            norm = torch.sqrt((projected**2).mean(-1, keepdim=True).clamp(min=SMALLEST))
            parts.append(projected * size / norm)
        return torch.stack(parts).mean(0)

    def moved(self, streams: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        """The streams with the first moved by (row, place, feature).

        The first has the coordinates of the readout, and is the one that blocks compute on; what
        a change of it does to the others is left to the model.
        """
        return torch.cat([(streams[0] + by.to(streams))[None], streams[1:]])


@dataclass(frozen=True)
class HyperConnections:
    """The module that sums a model's streams before the final norm."""

    head: nn.Module

    def merged(self, streams: torch.Tensor) -> torch.Tensor:
        """The state that the readout would see. (row, place, stream, feature) in, without streams
        back."""
        made: torch.Tensor = self.head(streams)
        return made

    def moved(self, streams: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        """The streams, all moved alike, so that under its weights their sum moves by (row, place,
        feature). The weights are those that give the sum."""
        given = streams.double()
        sums = given @ self.merged(streams.float())[..., None].double()
        inverse = torch.linalg.pinv(given @ given.mT, rtol=NEGLIGIBLE, hermitian=True)
        total = (inverse @ sums).sum(-2)
        return (streams.float() + (by / total)[..., None, :].float()).to(streams.dtype)


Streams = AltUp | HyperConnections


def streams_of(backbone: Any) -> Streams | None:
    """A model's streams; None where it has one."""
    projections = getattr(backbone, "altup_unembed_projections", None)
    if isinstance(projections, nn.ModuleList):
        return AltUp(projections)
    head = getattr(backbone, "hc_head", None)
    return HyperConnections(head) if isinstance(head, nn.Module) else None
