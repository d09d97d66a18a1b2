"""The same network in Keras, as somebody has it who comes from there: trained a little, and saved.

    python examples/seed-mlp/keras_model.py seed-mlp.keras [--rows 500]

It learns from rows that the producer never sends. A name that ends with .h5 saves it in the older format.
"""

from __future__ import annotations

import argparse
import os
from itertools import islice

import numpy as np
from produce import CLASSES, FEATURES, examples

os.environ.setdefault("KERAS_BACKEND", "torch")
SENT = 5000
"""Rows that the producer sends, at most."""


def main() -> None:
    """Build, train for one epoch, and save."""
    parser = argparse.ArgumentParser(description="Make the network in Keras and save it.")
    parser.add_argument("file")
    parser.add_argument("--rows", type=int, default=500)
    arguments = parser.parse_args()
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((FEATURES,)),
            layers.Dense(128, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    features, classes = zip(*islice(examples(), SENT, SENT + arguments.rows), strict=True)
    model.fit(np.stack(features), np.array(classes), batch_size=32, epochs=1, verbose=0)
    model.save(arguments.file)
    print(f"saved {model.count_params():,} parameters as {arguments.file}")


if __name__ == "__main__":
    main()
