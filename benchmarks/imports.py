"""What starting costs: processor time of fresh processes, so that other work on the machine hardly counts."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import alternating, children, line
from vp_core.ground.store import DEMO_DIR

BARE = "from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification"
"""What `vp eval demo` cannot do without: torch and the classes it uses, as transformers imports them."""
_LISTED = """
import json, sys
from app.cli.main import main
assert main(["eval", "demo", "--task", sys.argv[1], "--text", "sentence", "--label", "label", "--json"]) == 0
modules = [(name, getattr(module, "__spec__", None)) for name, module in sys.modules.items()]
print("\\n" + json.dumps([name for name, spec in modules if spec and spec.name == name and spec.loader]))
"""
_IMPORTED = """
import contextlib, importlib, sys
for name in sys.argv[1].split(","):
    with contextlib.suppress(ImportError):  # made by others in their own way, as parts of themselves
        importlib.import_module(name)
"""


def run() -> None:
    """The ratio of all imports of `vp eval demo`, also those of functions, to the bare ones; and `vp --help`."""
    modules = of_eval()
    runs = {
        "bare": lambda: _python("-c", BARE),
        "eval": lambda: _python("-c", _IMPORTED, ",".join(modules)),
        "help": lambda: _python("-m", "app.cli", "--help"),
    }
    seconds = alternating(runs, clock=children)
    line(
        "all imports of `vp eval demo` / torch and the model classes it uses", seconds["eval"] / seconds["bare"], "x", "<= 1.3"
    )
    line("importing torch and the model classes, processor time", seconds["bare"], "s", "-")
    line("vp --help, processor time", seconds["help"], "s", "< 0.2")


def of_eval() -> list[str]:
    """The modules that `vp eval demo` has imported at its end, in their order; it is asked eight sentences."""
    with tempfile.TemporaryDirectory() as folder:
        some, rows = Path(folder) / "some.tsv", (DEMO_DIR / "dev.tsv").read_text(encoding="utf-8").splitlines()
        some.write_text("\n".join(rows[:9]), encoding="utf-8")
        return json.loads(_python("-c", _LISTED, str(some)).splitlines()[-1])


def _python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout
