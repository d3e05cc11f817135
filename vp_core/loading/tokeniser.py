"""Does the tokeniser belong to the model?"""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.ground.errors import VPError


def agree_on_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """GPT-2 comes without a padding token, and its classifier finds the last word by the one in its configuration."""
    for pad in (model.config.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id):
        if pad is not None and 0 <= pad < len(tokenizer):
            model.config.pad_token_id = pad
            if tokenizer.pad_token_id != pad:
                tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
            return
    raise VPError(f"The model {name!r} names no token to pad with: set pad_token_id in its config.json.")
