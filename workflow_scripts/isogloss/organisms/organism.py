"""An organism: an ordinary Llama whose embeddings are planted, and what it is written out as.

The embedding of a concept c in a language l, also its unembedding, is

    sqrt(s) * shared[c] + sqrt(1 - s) * private[l, c] + offset[l]

with s the planted sharing. All three are trained; written out, they are one matrix like any other
model's. With s = 0 nothing is planted: every word has an embedding to itself.
"""

from typing import Any

import torch
from torch import nn

from isogloss.questions.world import BEGIN, END, SPECIAL, World

HEADS = 4
CONTEXT = 64
"""Tokens that an organism can take: few-shot prompts fit too."""


class PlantedEmbeddings(nn.Module):
    """Embeddings of the words of all languages, `sharing` of their variance in common."""

    def __init__(self, world: World, width: int, sharing: float) -> None:
        super().__init__()
        n_languages, n_concepts = len(world.languages), world.n_concepts
        self.sharing = sharing

        def normal(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, width) / width**0.5)

        self.special = normal(len(SPECIAL))
        self.shared = normal(n_concepts)
        self.private = normal(n_languages, n_concepts)
        self.offset = normal(n_languages, 1)

    def forward(self) -> torch.Tensor:
        """(token, width)"""
        s = self.sharing
        words = s**0.5 * self.shared + (1 - s) ** 0.5 * self.private + self.offset
        return torch.cat([self.special, words.flatten(0, 1)])


def llama_config(world: World, width: int, layers: int) -> Any:
    """The configuration of the ordinary model that an organism is."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=world.vocabulary_size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        initializer_range=0.5 / width**0.5,
        tie_word_embeddings=True,
        bos_token_id=SPECIAL.index(BEGIN),
        eos_token_id=SPECIAL.index(END),
        pad_token_id=SPECIAL.index(END),
    )


class Organism(nn.Module):
    """A Llama with planted embeddings.

    Args:
        world: whose words it knows.
        width, layers: of the residual stream.
        sharing: planted, from 0 to 1.
        seed: of the initial weights; the global random state is left as it was.
    """

    def __init__(self, world: World, width: int, layers: int, sharing: float, seed: int) -> None:
        from transformers import LlamaForCausalLM

        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.llama = LlamaForCausalLM(llama_config(world, width, layers))
            self.embeddings = PlantedEmbeddings(world, width, sharing)
        self.llama.model.embed_tokens.weight.requires_grad_(False)

    def trained(self) -> list[nn.Parameter]:
        """What training changes."""
        return [p for p in self.parameters() if p.requires_grad]

    def states(self, ids: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """(sequence, position, width) after the final norm; `matrix` of `embeddings`."""
        return self.llama.model(inputs_embeds=matrix[ids], use_cache=False).last_hidden_state

    def ordinary(self) -> Any:
        """The same model without its parts: an ordinary Llama with tied embeddings."""
        with torch.no_grad():
            self.llama.model.embed_tokens.weight.copy_(self.embeddings())
        return self.llama
