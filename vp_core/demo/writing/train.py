"""Trains the small language model from nothing, and measures it."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, get_cosine_schedule_with_warmup

from vp_core.demo.making.train import groups_of
from vp_core.demo.writing.stories import BREAK, Story
from vp_core.demo.writing.tokens import END, MAX_LENGTH, PAD, encode

WINDOW = 256  # tokens of a window that perplexity is measured on
FROM_STORY = 0.5  # share of training windows that begin with a story; half of those, with the token before a text


@dataclass(frozen=True)
class TrainSettings:
    """The model's size and how it is trained: as many steps at each of `lengths`, of `tokens` tokens each.

    Short windows first: what to repeat is found among few words sooner than among many.
    """

    seed: int = 16
    vocabulary: int = 1536
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    groups: int = 2
    ffn: int = 512
    text_bytes: int = 3_000_000
    steps: int = 3600
    lengths: tuple[int, ...] = (64, 64, 128, 128, 512)
    tokens: int = 2048
    lr: float = 2e-3
    weight_decay: float = 0.1
    warm_up: float = 0.05
    threads: int = 1


def make_model(tokenizer: PreTrainedTokenizerBase, settings: TrainSettings) -> LlamaForCausalLM:
    """A model with random weights: grouped queries, gated FFN, rotary positions, the head tied to the embeddings."""
    end, pad = tokenizer.convert_tokens_to_ids([END, PAD])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=settings.ffn,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.groups,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=pad,
        architectures=["LlamaForCausalLM"],
    )
    return LlamaForCausalLM(config)


def batch_of(
    stream: Tensor, starts: Tensor, end: int, shape: tuple[int, int], generator: torch.Generator
) -> Tensor:  # fmt: skip
    """Windows of `shape` (batch, length) of a stream (tokens,): from anywhere, from one of the stories' `starts`, or so
    after the token `end`."""
    batch, length = shape
    anywhere = torch.randint(len(stream) - length, (batch,), generator=generator)
    story = starts[torch.randint(len(starts), (batch,), generator=generator)]
    chance = torch.rand(batch, generator=generator)
    begin = torch.where(chance < FROM_STORY, story, anywhere)
    windows = stream[begin[:, None] + torch.arange(length)]
    led = torch.cat([torch.full((batch, 1), end), windows[:, :-1]], dim=1)
    return torch.where((chance < FROM_STORY / 2)[:, None], led, windows)


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, stories: list[Story], settings: TrainSettings) -> None:
    """Every step of the training, in place: AdamW, a short warm-up, then a cosine to 0; bfloat16 products.

    The model ends in evaluation mode.
    """
    parts = [encode(tokenizer, story.text + BREAK) for story in stories]
    stream = torch.cat(parts)
    starts = torch.tensor([0] + [len(part) for part in parts[:-1]]).cumsum(0)
    starts = starts[starts < len(stream) - max(settings.lengths)]
    end = tokenizer.convert_tokens_to_ids(END)
    optimiser = torch.optim.AdamW(
        groups_of(list(model.parameters())), lr=settings.lr, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    schedule = get_cosine_schedule_with_warmup(optimiser, int(settings.warm_up * settings.steps), settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    model.train()
    for step in (bar := tqdm(range(settings.steps), desc="training", unit="step")):
        length = settings.lengths[step * len(settings.lengths) // settings.steps]
        inputs = batch_of(stream, starts, end, (settings.tokens // length, length), generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=inputs, use_cache=False).logits[:, :-1]
        loss = cross_entropy(logits.float().flatten(0, 1), inputs[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    model.eval()


@torch.inference_mode()
def perplexity(model: LlamaForCausalLM, tokens: Tensor, length: int = WINDOW, windows: int | None = None) -> float:
    """exp of the mean negative log-likelihood of the tokens (tokens,), in windows of `length` one after the other.

    The first token of a window is only read; the last window may be shorter; `windows` takes the first ones only.
    """
    losses = []
    for window in tokens.split(length)[:windows]:
        logits = model(input_ids=window[None], use_cache=False).logits[0, :-1]
        losses.append(cross_entropy(logits.double(), window[1:], reduction="none"))
    return torch.cat(losses).mean().exp().item()


@torch.inference_mode()
def known(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, stories: list[Story]) -> dict[str, tuple[int, int]]:
    """By scene: how many facts the model says, its likeliest token at every token of them, and how many there are."""
    found: dict[str, list[bool]] = {}
    for story in stories:
        encoding = tokenizer.backend_tokenizer.encode(story.text)
        said = model(input_ids=torch.tensor([encoding.ids]), use_cache=False).logits[0, :-1].argmax(dim=1).tolist()
        hits = [True] + [one == other for one, other in zip(said, encoding.ids[1:], strict=True)]
        for one in story.facts:
            touched = [
                hit for hit, (start, end) in zip(hits, encoding.offsets, strict=True) if start < one.end and end > one.start
            ]
            found.setdefault(one.kind, []).append(all(touched))
    return {kind: (sum(answers), len(answers)) for kind, answers in sorted(found.items())}
