"""Causal language models with LoRA adapters on their query and value matrices; pretrained ones, or a small Llama."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import nn

from harness.errors import RequestError
from harness.randomness import global_seed
from tasks._adapters import Adapted, Adapters, pretrained_tokenizer, quiet, require_libraries, targets_of, unavailable
from tasks._prompt_sets import Prompt

Weights = Literal["float32", "bfloat16", "int8"]
QUERIES_AND_VALUES = (
    ("q_proj", "v_proj"),
    ("c_attn",),
    ("query_key_value",),
    ("Wqkv",),
    ("qkv_proj",),
)
"""What attention's query and value matrices are called, by family; fused ones are adapted whole."""
TINY = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}
TINY_TOKENS, TINY_VOCABULARY = 256, 512
BATCH, RATE = 16, 2e-3
_loaded: dict[tuple[object, ...], LanguageModel] = {}
"""The one that was asked for last: memory may hold no two."""


class LanguageModel(Adapted):
    """An adapted causal language model; maps ``input_ids`` and the like to an output with ``logits``, (n, t, v)."""

    def __init__(self, tokenizer: Any, model: nn.Module, adapters: Adapters, targets: Sequence[str]) -> None:
        super().__init__(tokenizer, model, adapters, "CAUSAL_LM", targets)
        self._quantised = bool(getattr(model, "is_quantized", False))
        self._usual = self.model.get_base_model().config._attn_implementation
        self._attend()

    def to(self, device: str) -> Self:
        """This very model, moved.

        Raises:
            RequestError: quantised weights lie on another device, and cannot be moved.
        """
        if not self._quantised:
            super().to(device)
            self._attend()
            return self
        there, wanted = next(self.model.parameters()).device, torch.device(device)
        if (there.type, there.index or 0) != (wanted.type, wanted.index or 0):
            raise RequestError(
                f"device={device}: weights=int8 are loaded to {there} and stay there; take --device {there}, choose "
                "the card by CUDA_VISIBLE_DEVICES, or give weights=bfloat16"
            )
        return self

    def _attend(self) -> None:
        """On a CPU, attention by plain products: for texts as short as prompts, torch's fused one is slower there."""
        model = self.model.get_base_model()
        with quiet():
            model.set_attn_implementation("eager" if model.device.type == "cpu" else self._usual)

    @property
    def last_layer(self) -> list[str]:
        """The adapters of the last of the model's layers."""
        numbers = {name: _layer_of(name) for name in self.adapters}
        last = max(numbers.values())
        return [name for name, number in numbers.items() if number == last]


def language_model(name: str, weights: Weights, adapters: Adapters, device: str) -> LanguageModel:
    """A pretrained causal language model by the hub's name or a folder, loaded once and kept until another is.

    Args:
        weights: how its own weights are held; adapters are float32 in any case.
        device: int8 weights are loaded there at once.

    Raises:
        RequestError: it is not there, has no tokenizer, or is no causal language model with known attention matrices.
    """
    key = (name, weights, adapters, device)
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = _load(name, weights, adapters, device)
    return _loaded[key]


def _load(name: str, weights: Weights, adapters: Adapters, device: str) -> LanguageModel:
    _require(weights)
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    # What 8-bit products are multiplied with is bfloat16, as published: float16, which Llama-2's files hold, would
    # lose small gradients.
    options: dict[str, Any] = {"torch_dtype": torch.float32 if weights == "float32" else torch.bfloat16}
    if weights == "int8":
        options |= {"quantization_config": BitsAndBytesConfig(load_in_8bit=True), "device_map": {"": device}}
    with quiet(), torch.random.fork_rng(devices=[]):
        tokenizer = _tokenizer(name)
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(name, **options)
        except Exception as error:  # the hub's client raises many kinds
            raise unavailable(name, "causal language model", error) from error
        _require_causal(name, model)
        made = LanguageModel(tokenizer, model, adapters, _targets(name, model, adapters))
        for values in made.trainable():
            values.data = values.data.float()
        return made


def _tokenizer(name: str) -> Any:
    tokenizer = pretrained_tokenizer(name)
    if tokenizer.eos_token_id is None:
        raise RequestError(f"model={name}: its tokenizer has no end token, which answers end with; set eos_token in it")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@torch.no_grad()
def _require_causal(name: str, model: Any) -> None:
    """Encoders load as causal language models, too, and see the answer."""
    tokens = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]], device=next(model.parameters()).device)
    first, second = model.eval()(input_ids=tokens).logits[:, 0].float()
    if float((first - second).abs().max()) > 2e-2 * float(first.abs().max()):
        raise RequestError(f"model={name}: a token's output depends on later ones, so it is no causal language model")


def check_language_model(name: str, weights: Weights, adapters: Adapters) -> None:
    """Whether a model can be had and adapted, without its weights, of which every process needs its own.

    Raises:
        RequestError: as for `language_model`, except that damaged weights are not seen here.
    """
    _require(weights)
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet():
        _tokenizer(name)
        try:
            config = AutoConfig.from_pretrained(name)
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
        except Exception as error:  # the hub's client raises many kinds
            raise unavailable(name, "causal language model", error) from error
    _targets(name, model, adapters)


def _require(weights: Weights) -> None:
    require_libraries(*(["bitsandbytes"] if weights == "int8" else []))
    if weights == "int8" and not torch.cuda.is_available():
        raise RequestError("weights=int8 needs a CUDA device; give weights=bfloat16 or float32")


def _targets(name: str, model: nn.Module, adapters: Adapters) -> list[str]:
    try:
        return targets_of(model, adapters.target, QUERIES_AND_VALUES, "attention query and value matrices")
    except RequestError as error:
        raise RequestError(f"model={name}: {error}") from error


def tiny_language_model(prompts: Sequence[Prompt], epochs: int, adapters: Adapters, seed: int) -> LanguageModel:
    """A three-layer Llama with a byte-level tokenizer, first trained as a whole on texts of the task's kind.

    Args:
        prompts: its tokenizer and its weights learn from their texts; what is fine-tuned on must not be among them.
        epochs: over them.
        seed: of its weights and their training.
    """
    require_libraries()
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _bytes([f"{prompt.prompt}{prompt.answer}" for prompt in prompts])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=TINY_TOKENS,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
        **TINY,
    )
    with quiet(), global_seed(seed):
        model = LlamaForCausalLM(config)
        _pretrain(model, tokenizer, prompts, epochs, seed)
        return LanguageModel(tokenizer, model, adapters, _targets("tiny", model, adapters))


def _pretrain(model: Any, tokenizer: Any, prompts: Sequence[Prompt], epochs: int, seed: int) -> None:
    from tasks._language_training import token_losses, tokenised_prompts

    tokens, targets = tokenised_prompts(tokenizer, prompts, TINY_TOKENS, "text")
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(prompts) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=max(2, steps))
    lengths = tokens["attention_mask"].sum(1)
    model.train()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(prompts), generator=generator), BATCH):
            longest = int(lengths[rows].max())
            optimiser.zero_grad()
            logits = model(**{name: values[rows, :longest] for name, values in tokens.items()}).logits
            torch.autograd.backward(token_losses(logits, targets[rows]).mean())
            optimiser.step()
            schedule.step()
    model.eval()


def _bytes(texts: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner: Any = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=TINY_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
    )


def _layer_of(name: str) -> int:
    """The number in a parameter's name that counts layers: the first one."""
    match = re.search(r"\.(\d+)\.", name)
    return int(match[1]) if match else 0
