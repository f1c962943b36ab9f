"""The languages of a model shared out over several jobs (`cluster.jobs_per_model`).

Each job loads the model once and makes the files of its languages. They are named by key and
published one by one, as those of a single job are, so another number of jobs computes nothing anew.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from isogloss.errors import InputError


@dataclass(frozen=True)
class Part:
    """One of several jobs: its number, from 1, and how many there are."""

    number: int
    of: int

    @classmethod
    def parsed(cls, text: str) -> "Part":
        """A part written as `2-of-4`.

        Raises:
            InputError: it is not.
        """
        match = re.fullmatch(r"(\d+)-of-(\d+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"--part: {text}: write 1-of-4, 2-of-4 and so on")
        return cls(int(match[1]), int(match[2]))

    def languages(self, tags: Sequence[str]) -> list[str]:
        """Every so many of the languages, so that no two parts have one in common.

        >>> Part(2, 3).languages(["en", "de", "es", "id", "sw"])
        ['de', 'sw']
        """
        return list(tags[self.number - 1 :: self.of])

    def gpu(self, device: str) -> str:
        """The device of this job: of several GPUs that it sees, the emptiest to a gigabyte.

        Jobs that start together find all empty, and then each takes the GPU of its number. On a
        cluster a job sees those that it was given.
        """
        import torch  # takes seconds

        count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
        if count < 2:
            return device
        own_first = [(self.number - 1 + n) % count for n in range(count)]
        return f"cuda:{max(own_first, key=lambda n: torch.cuda.mem_get_info(n)[0] // 2**30)}"
