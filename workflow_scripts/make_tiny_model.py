"""Save a random tiny model: for trying a study's configuration in seconds, not for results."""

import argparse
from pathlib import Path

from isogloss.program import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="new folder for weights and tokenizer")
    parser.add_argument(
        "--family",
        default="gemma3",
        help="gemma2, gemma3, qwen2, qwen3, llama or mistral (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: 0)")
    args = parser.parse_args()

    from isogloss.model.tiny_models import save_tiny_model  # torch takes seconds to import

    save_tiny_model(args.folder, args.family, args.seed)


if __name__ == "__main__":
    run(main)
