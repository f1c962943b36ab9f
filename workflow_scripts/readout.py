"""Write the readout of a model: its final norm and unembedding, all that the lens needs."""

import argparse
import json
from pathlib import Path

from isogloss.models import load
from isogloss.program import run
from isogloss.readout import write_readout
from isogloss.specs import source_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=json.loads, required=True, help="settings as JSON")
    parser.add_argument("--cache", type=Path, required=True, help="folder of models")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    args = parser.parse_args()

    write_readout(load(source_of(args.spec), args.cache, device="cpu"), args.output)


if __name__ == "__main__":
    run(main)
