"""Two processes that train together, as `accelerate launch` starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def on_two(folder, script):
    """(folder, what each of the two has written to `RANK.json` there); the script's `{root}` is the repository."""
    (folder / "two.py").write_text(script.format(root=str(ROOT)))
    # `--cpu` starts one process only, unless there is MPI; the launcher of accelerators starts as many as it is told
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1",
              "--main_process_port", "0", str(folder / "two.py"), str(folder)]  # fmt: skip
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf")}
    done = subprocess.run(launch, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
