"""Tiny random language models of every architecture that nmri3d promises, as ordinary checkpoint folders.

Made here, without a network: a byte-level BPE tokenizer trained on the few sentences below, and weights drawn from a
seeded generator. Norm weights are not ones and biases are not zeros, so that a test that slices the wrong weight, forgets
a bias or skips a norm fails. Widths are chosen to be unequal (heads x d_head differs from d_model where the architecture
allows it, d_mlp is no multiple of d_model), so that a transposed matrix fails too.

Left out: anything that was trained. The models answer nonsense; only their arithmetic is real.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

LAYERS = 3
D_MODEL = 32
HEADS = 4
KV_HEADS = 2
D_MLP = 56
CONTEXT = 128
VOCABULARY = 384

BOS = "<|bos|>"
EOS = "<|eos|>"

CORPUS = (
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "When Mary and John went to the store, John gave a drink to Mary.",
    "The quick brown fox jumps over the lazy dog; 0123456789 + - * / = ().",
    "A radiologist opens a patient and looks at one slice after the other.",
    "Grüße aus Köln, naïve café, 東京 and 北京, Москва, 🧠🧠.",
)

PROMPTS = (
    "The capital of France is",
    "When Mary and John went to the store, John gave a drink to",
    "Grüße aus 東京 🧠",
    "a",
)
"""Prompts that the tiny tokenizer cuts into 1 to about 30 steps."""

BOS_FAMILIES = frozenset({"llama", "mistral", "gemma2"})
"""Families whose tokenizer puts a BOS token in front, as the real ones do."""

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": D_MODEL,
    "intermediate_size": D_MLP,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "GPT2",
        {
            "vocab_size": VOCABULARY,
            "n_embd": D_MODEL,
            "n_layer": LAYERS,
            "n_head": HEADS,
            "n_inner": D_MLP,
            "n_positions": CONTEXT,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
    ),
    # parallel residual: attention and MLP of a block read the same residual
    "gpt_neox": ("GPTNeoX", {**_COMMON, "use_parallel_residual": True, "rotary_pct": 0.5}),
    "gpt_neox_sequential": ("GPTNeoX", {**_COMMON, "use_parallel_residual": False, "rotary_pct": 1.0}),
    # grouped queries: four query heads read two K/V heads
    "llama": ("Llama", {**_COMMON, "num_key_value_heads": KV_HEADS, "tie_word_embeddings": False}),
    # biases on Q, K and V
    "qwen2": ("Qwen2", {**_COMMON, "num_key_value_heads": KV_HEADS, "tie_word_embeddings": True}),
    # norms on q and k; heads x d_head = 40, not d_model
    "qwen3": ("Qwen3", {**_COMMON, "num_key_value_heads": KV_HEADS, "head_dim": 10, "tie_word_embeddings": False}),
    # scaled embedding, post-norms, alternating sliding window, soft caps small enough to bite
    "gemma2": (
        "Gemma2",
        {
            **_COMMON,
            "num_key_value_heads": KV_HEADS,
            "head_dim": 12,
            "query_pre_attn_scalar": 20,
            "sliding_window": 6,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 6.0,
            "tie_word_embeddings": True,
        },
    ),
    "mistral": ("Mistral", {**_COMMON, "num_key_value_heads": KV_HEADS, "sliding_window": 6, "head_dim": 12}),
    # q, k, v in one matrix, gate and up in another
    "phi3": ("Phi3", {**_COMMON, "num_key_value_heads": KV_HEADS, "tie_word_embeddings": False}),
}
"""family -> (prefix of its transformers classes, config); the order is that of the issue that promises them."""


@cache
def _bpe() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY
    return tokenizer


def tiny_tokenizer(*, add_bos: bool = False) -> Any:
    """A `transformers` fast tokenizer over every byte; id 0 is BOS, id 1 is EOS."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(_bpe().to_str())
    if add_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, clean_up_tokenization_spaces=False
    )


def tiny_model(family: str, seed: int = 0) -> Any:
    """A Hugging Face model of `family` in float32 and eval mode, its weights fixed by `seed`."""
    import torch
    import transformers

    prefix, options = FAMILIES[family]
    config = getattr(transformers, f"{prefix}Config")(**options)
    # the class' own initialization draws from the global generator: leave that as it was
    with torch.random.fork_rng(devices=[]):
        model_class = f"{prefix}LMHeadModel" if prefix == "GPT2" else f"{prefix}ForCausalLM"
        model = getattr(transformers, model_class)(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("bias"):
                parameter.copy_(0.2 * noise)
            elif parameter.ndim == 1:  # a norm; Gemma's multiplies by (1 + weight)
                parameter.copy_(0.25 * noise + (0.0 if prefix == "Gemma2" else 1.0))
            elif "embed" in name or ".wte" in name or ".wpe" in name:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise / D_MODEL**0.5)
    return model.eval()


def tiny_checkpoint_folder(
    family: str, path: str | Path, seed: int = 0, *, dtype: str = "float32", max_shard_size: str = "5GB"
) -> Path:
    """Write a tiny model and its tokenizer as a folder that any Hugging Face tool reads (safetensors); returns it."""
    import torch

    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    model = tiny_model(family, seed).to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    tiny_tokenizer(add_bos=family in BOS_FAMILIES).save_pretrained(folder)
    return folder
