"""Fuzz one target guided by coverage; needs the packages of requirements/fuzz.txt.

    make fuzz-atheris TARGET=json SECONDS=300

The same targets and promises as tools/fuzz.py; libFuzzer keeps what reaches new branches. It ends
with its own report, and with the input that broke a promise in the folder of `--artifacts`.
"""

import argparse
import importlib
import random
import sys
import zlib
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = Path(sys.prefix) / "fuzz"
"""Where `make` installs requirements/fuzz.txt: they do not go with those of the server."""

sys.path.insert(0, str(ROOT))
sys.path.append(str(PACKAGES))

INPUT_BYTES_MAX: Final = 8_192
INPUT_SECONDS_MAX: Final = 5
"""libFuzzer counts whole seconds, and instrumented code is slow."""

MEMORY_MIB_MAX: Final = 1_024


def main() -> None:
    """Fuzz until the time is up; libFuzzer ends the process."""
    options = _options()
    # The checker of types does not have it, and most machines do not either.
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["penstock", "python_multipart"]):
        campaign = importlib.import_module("tests.fuzz.campaign")
    target = campaign.TARGETS[options.target]()
    corpus = Path(options.corpus) / options.target
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (corpus / f"seed-{zlib.crc32(seed):08x}").write_bytes(seed)
    arguments = [
        sys.argv[0],
        str(corpus),
        f"-max_total_time={options.seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        f"-artifact_prefix={options.corpus}/{options.target}-",
        f"-dict={_dictionary(corpus, target)}",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup(arguments, lambda data: _one(target, data))
    atheris.Fuzz()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz one target guided by coverage.")
    parser.add_argument("--target", default="line", help="as in tools/fuzz.py")
    parser.add_argument("--seconds", type=int, default=180, help="how long")
    parser.add_argument("--corpus", default=".cache/fuzz", help="a folder for what is found")
    return parser.parse_args()


def _one(target: Any, data: bytes) -> None:  # noqa: ANN401  # modules that are imported late
    # Where it is cut follows from the input, so that it can be played again.
    target.run(data, random.Random(zlib.crc32(data)))  # noqa: S311


def _dictionary(corpus: Path, target: Any) -> Path:  # noqa: ANN401  # as above
    """Write the words of the target as libFuzzer reads them."""
    path = corpus.with_suffix(".dict")
    words = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words if word)
    path.write_text("".join(f'"{word}"\n' for word in words), "ascii")
    return path


if __name__ == "__main__":
    main()
