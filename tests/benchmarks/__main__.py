"""`python -m tests.benchmarks [--quick]`: every figure beside the bound that the project set itself."""

from __future__ import annotations

import argparse
import platform
from itertools import chain

from tests.benchmarks import intervening, layouts, lens, mapping, neurons, painting, rest, scanning, starting, volume


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pairs, no browser")
    quick = parser.parse_args().quick
    parts = [
        ("Importing", mapping.importing()),
        ("Atlas", mapping.atlas()),
        ("Scanning", scanning.scan_against_bare(pairs=7 if quick else 25)),
        ("Memory", scanning.memory_above_bare()),
        ("Intervening, ratios to the bare forward pass", intervening.intervening(repeats=2 if quick else 5)),
        ("Lens", lens.lens_against_bare(pairs=3 if quick else 9)),
        ("REST, SmolLM2", rest.rest(pairs=7 if quick else 25)),
        ("Neurons", neurons.neurons(large=not quick)),
        ("Volume", volume.volume(large=not quick)),
        ("Painting", chain(painting.painting(), painting.frames(pairs=5 if quick else 15))),
    ]
    if not quick:
        parts.append(("Layouts", layouts.layouts()))
        parts.append(("Template", lens.template_seconds()))
        parts.append(("Long prompts", chain(lens.lens_memory(), intervening.long_prompt())))
        parts.append(("Page", starting.page()))
    print(f"{platform.machine()}, Python {platform.python_version()}")
    for title, figures in parts:
        print(title)
        for figure in figures:
            print(figure, flush=True)


if __name__ == "__main__":
    main()
