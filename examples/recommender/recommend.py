"""Recommend films to a new visitor: one call scores every film, and the highest scores come first.

    python examples/recommender/recommend.py [--address HOST:PORT] [--visitors 3] [--top 10]

Anything that speaks gRPC does the same: `ModelInfer` with a row for each candidate. HEADRACE_INFERENCE_ADDRESS names a
server elsewhere than on this machine.
"""

from __future__ import annotations

import argparse
import os
from itertools import islice

import numpy as np
from cinema import FILMS, Cinema
from headrace_client import InferenceClient

LATER = 1_000
"""Visitors from here on are in no record of the producer."""


def main() -> None:
    """Score every film for some visitors, and print the best ones."""
    parser = argparse.ArgumentParser(description="Recommend films to visitors.")
    parser.add_argument("--address", default=os.environ.get("HEADRACE_INFERENCE_ADDRESS", "127.0.0.1:8001"))
    parser.add_argument("--visitors", type=int, default=3)
    parser.add_argument("--top", type=int, default=10)
    arguments = parser.parse_args()
    cinema, every = Cinema(), np.arange(FILMS)
    with InferenceClient(arguments.address) as inference:
        for number, visit in enumerate(islice(cinema.visits(), LATER, LATER + arguments.visitors), LATER):
            scores = inference.infer("recommender", cinema.features(visit.profile, every)).outputs["score"]
            best, famous = (np.argsort(-each)[: arguments.top] for each in (scores, cinema.fame))
            print(f"visitor-{number}: " + ", ".join(f"film-{film:03d}" for film in best))
            watched, instead = (float(cinema.chances(visit.taste, films).mean()) for films in (best, famous))
            print(f"  of {arguments.top}, {watched:.0%} would be watched; of the most famous ones {instead:.0%}")


if __name__ == "__main__":
    main()
