"""Nothing is imported for nothing: told by the modules that fresh processes hold, not by a clock."""

import json

import pytest

LIGHT = ("vp_core.recipes", "vp_core.ground.names", "vp_core.asking.tasks", "app.cli.main",
         "app.cli.trainings.identity_options", "app.cli.trainings.train_options", "app.cli.weight_options")  # fmt: skip
HEAVY = ("torch", "numpy", "transformers", "safetensors", "scipy", "sklearn", "pandas")
NOT_FOR_A_SCORE = (
    "sklearn", "scipy.stats", "pandas", "pyarrow", "datasets", "accelerate", "plotly", "streamlit", "ipywidgets", "onnx",
    "torch._dynamo", "torch._inductor", "torch.distributed", "analysis", "app.web", "app.cli.trainings.identity_commands",
    "app.cli.weight_commands", "vp_core.comparing",
    "vp_core.training",
)  # fmt: skip

EVAL = """
import json, sys
from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification
bare = set(sys.modules)
from app.cli.main import main
assert main(sys.argv[1:]) == 0
print(json.dumps(sorted(set(sys.modules) - bare)))
"""


@pytest.mark.parametrize("module", LIGHT)
def test_what_can_be_chosen_costs_nothing(module, fresh_python):
    code = f"import json, sys, {module}; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    assert json.loads(fresh_python(code)) == []


def test_a_score_imports_little_beside_the_model_class(folders, data, fresh_python):
    """What transformers imports with the model's class, accelerate and torch._dynamo among others, is there anyway."""
    found = json.loads(fresh_python(EVAL, "eval", folders["bert"], "--task", "sst2", "--data", data).splitlines()[-1])
    assert "vp_core.study" in found
    assert [name for name in found for heavy in NOT_FOR_A_SCORE if f"{name}.".startswith(f"{heavy}.")] == []
