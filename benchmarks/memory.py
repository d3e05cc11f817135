"""A language model of Qwen3-0.6B's shape, random weights: statistics, `units least squares` at 30 % and squeezing, in how much.

Each size runs in a process of its own, since the peak of a process never falls. Seconds of twice the tokens, and of twice the
layers, show that cost grows with them and no faster.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import line

LAYERS, WINDOW = 28, 128


def run(layers: int = LAYERS) -> None:
    whole = _in_a_process(layers, 5, "float32")
    for stage, row in whole.items():
        line(f"Qwen3-0.6B's shape, {layers} layers, peak memory by the end of: {stage}", row["gigabytes"], "GB", "<= 8")
        line(f"  seconds: {stage}", row["seconds"], "s", "")
    few = _in_a_process(4, 5, "float32")
    for what, other in (("tokens", _in_a_process(4, 10, "float32")), ("layers", _in_a_process(8, 5, "float32"))):
        for stage in ("statistics", "covariances", "least squares", "squeezed"):
            line(f"twice the {what}: seconds of {stage}", other[stage]["seconds"] / few[stage]["seconds"], "x", "<= 2.2")


def _in_a_process(layers: int, windows: int, dtype: str) -> dict[str, dict[str, float]]:
    command = [sys.executable, "-m", "benchmarks.memory", str(layers), str(windows), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(layers: int, windows: int, dtype: str) -> dict[str, dict[str, float]]:
    """Stage → seconds, and the most memory that the process has had by its end."""
    import numpy as np
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from vp_core.asking.batches import Encoded
    from vp_core.carry_out import Stage
    from vp_core.measuring.measured import Measured
    from vp_core.recipes import RECIPES
    from vp_core.squeezing.squeeze import squeeze

    rows: dict[str, dict[str, float]] = {}
    start = time.perf_counter()

    def told(stage: str) -> None:
        nonlocal start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        rows[stage] = {"seconds": time.perf_counter() - start, "gigabytes": peak}
        print(f"{stage}: {rows[stage]}", file=sys.stderr, flush=True)
        start = time.perf_counter()

    config = Qwen3Config(
        hidden_size=1024, intermediate_size=3072, num_hidden_layers=layers, num_attention_heads=16, num_key_value_heads=8,
        head_dim=128, vocab_size=151_936, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config)
    model = model.to(getattr(torch, dtype)).to_empty(device="cpu").eval().requires_grad_(False)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    for name, parameter in model.named_parameters():
        parameter.data.fill_(1.0) if "norm" in name else parameter.data.normal_(std=0.02)
    told("the model")
    ids = np.random.default_rng(0).integers(10, 151_000, (windows, WINDOW)).tolist()
    measured = Measured(model, Encoded(ids, None, 0, 0, WINDOW), "m", "d")
    measured.statistics()
    told("statistics")
    measured.covariances()
    told("covariances")
    stage, recipe = Stage(measured), RECIPES["units least squares"]
    pruned = stage.pruned(recipe, 0.3)
    told("least squares")
    small = squeeze(pruned, stage.plan(recipe, 0.3))
    told("squeezed")
    assert small.squeezed.cost.share_removed > 0.29
    return rows


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
