"""How large the page may grow: what does not fit is left out, and named in it."""

from dataclasses import dataclass, field


@dataclass
class Budget:
    """How much of the page is still free, and what found no room."""

    free: int
    left_out: list[str] = field(default_factory=list)

    def holds(self, size: int, name: str) -> bool:
        """Take room for a part; without enough, note that it is left out."""
        if size > self.free:
            self.left_out.append(name)
            return False
        self.free -= size
        return True
