"""Finding the parts of a Hugging Face decoder by itself, where TransformerLens has no adapter for the architecture.

Convention. The same names and relative paths as `nmri3d.models.adapter_facts.module_paths`. Embedding and unembedding are
what the model itself names; the blocks are the list of `num_hidden_layers` modules; attention, MLP and norms are told
apart by watching what they hand to each other while two tokens pass the first block: a norm whose output attention reads
is the one before it, one that reads what attention gives is the one after it, and so on. That works on a model without
weights too (on the meta device), so an architecture can be refused before anything is read or fetched.

What was found is not taken on trust: writes, logits (`nmri3d.models.transformer`), queries, keys and values
(`nmri3d.models.load_checks`) are checked on the loaded model.

Left out: mixtures of experts, state-space blocks, encoders, and blocks whose MLP is no module of its own (OPT).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nmri3d.errors import UnsupportedModelError
from nmri3d.models.projections import by_input, is_projection, projections
from nmri3d.models.sites import module_map

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_MLP = re.compile(r"mlp|ffn|ff$|feed_?forward", re.IGNORECASE)
_NORM = re.compile(r"norm|ln_|layernorm", re.IGNORECASE)
_ATTENTION_OUT = ("o_proj", "out_proj", "c_proj", "dense", "wo", "o", "out_lin")


def module_paths(hf_model: Any) -> dict[str, str]:
    """Where the parts of a Hugging Face model lie. Raises UnsupportedModelError, naming what was not found."""
    finder = _Finder(hf_model)
    blocks = finder.blocks()
    first = next(iter(blocks.children()))
    paths = {
        "embed": finder.path_of(hf_model.get_input_embeddings(), "embedding"),
        "blocks": finder.path_of(blocks, "list of blocks"),
        "ln_final": finder.path_of(finder.final_norm(blocks), "final norm"),
        "unembed": finder.path_of(hf_model.get_output_embeddings(), "unembedding"),
    }
    positions = finder.position_embedding(blocks)
    if positions is not None:
        paths["pos_embed"] = finder.path_of(positions, "position embedding")
    return paths | _parts_of_block(finder, first)


def check_skeleton(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedModelError for a configuration whose model has not the parts that every scan needs."""
    try:
        model = skeleton(config)
    except Exception as error:
        raise UnsupportedModelError(f"a model of its config.json cannot be built ({error})") from error
    modules = module_map(model, module_paths(model))
    options = model.config.get_text_config()
    n_heads = options.num_attention_heads
    for block in modules.blocks:
        d_head = by_input(block.attn_out).shape[0] // n_heads
        projections(block.attn, n_heads, getattr(options, "num_key_value_heads", None) or n_heads, d_head)


def skeleton(config: Mapping[str, Any]) -> Any:
    """A model of a configuration (the content of config.json) without weights, on the meta device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    options = {name: value for name, value in config.items() if name != "model_type"}
    with torch.device("meta"):
        built = AutoConfig.for_model(str(config["model_type"]), **options)
        return AutoModelForCausalLM.from_config(built, attn_implementation="eager").eval()


class _Finder:
    """Looks for the parts that lie outside of the blocks."""

    def __init__(self, hf_model: Any) -> None:
        self.model = hf_model
        self.architecture = type(hf_model).__name__
        self.config = hf_model.config.get_text_config()
        self.names = {module: name for name, module in hf_model.named_modules()}

    def refuse(self, what: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"{self.architecture} has no {what} that nmri3d finds; it scans decoder-only transformers with attention and an "
            "MLP in every block (GPT-2, Pythia, Llama, Qwen, Gemma, Mistral, Phi and their kin)"
        )

    def path_of(self, module: nn.Module | None, what: str) -> str:
        if module is None or module not in self.names:
            raise self.refuse(what)
        return self.names[module]

    def blocks(self) -> nn.Module:
        n_layers = getattr(self.config, "num_hidden_layers", 0)
        lists = [module for module in self.names if isinstance(module, nn.ModuleList) and len(module) == n_layers > 0]
        with_attention = [module for module in lists if _named(module[0], _ATTENTION)]
        if len(with_attention) != 1:
            raise self.refuse("list of blocks with attention")
        return with_attention[0]

    def final_norm(self, blocks: nn.Module) -> nn.Module | None:
        """The norm that stands beside the blocks, after them."""
        parent = self.model.get_submodule(self.names[blocks].rpartition(".")[0])
        children = list(parent.children())
        after = [module for module in children[children.index(blocks) + 1 :] if is_norm(module)]
        return after[-1] if after else None

    def position_embedding(self, blocks: nn.Module) -> nn.Module | None:
        """A learned embedding of positions, beside the blocks."""
        parent = self.model.get_submodule(self.names[blocks].rpartition(".")[0])
        tables = [module for module in parent.children() if isinstance(module, nn.Embedding)]
        others = [module for module in tables if module is not self.model.get_input_embeddings()]
        if len(others) > 1:
            raise self.refuse("single embedding of positions")
        return others[0] if others else None


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm, by its class and by having nothing but vectors for weights."""
    name = type(module).__name__
    return _NORM.search(name) is not None and all(weight.ndim == 1 for weight in module.parameters())


def _named(block: nn.Module, pattern: re.Pattern[str]) -> list[tuple[str, nn.Module]]:
    """Children of a block whose name fits and that multiply by a matrix: no norms, no activations."""
    return [
        (name, child)
        for name, child in block.named_children()
        if pattern.search(name) and any(is_projection(part) for part in child.modules())
    ]


@dataclass
class _Seen:
    """What each watched module of a block was given and gave, while two tokens passed it."""

    entering: torch.Tensor | None = None
    given: dict[nn.Module, torch.Tensor] = field(default_factory=dict)
    gave: dict[nn.Module, torch.Tensor] = field(default_factory=dict)


class _Enough(Exception):
    """The first block has been passed, and nothing else is needed."""


def _parts_of_block(finder: _Finder, block: nn.Module) -> dict[str, str]:
    attention, mlp = _named(block, _ATTENTION), _named(block, _MLP)
    if len(attention) != 1 or len(mlp) != 1:
        raise finder.refuse("single attention and MLP in each block")
    (attn_name, attn), (mlp_name, feed_forward) = attention[0], mlp[0]
    attn_out = _attention_out(finder, attn)
    mlp_out = _mlp_out(finder, feed_forward)
    norms = {child: name for name, child in block.named_children() if is_norm(child)}
    seen = _watch(finder, block, [attn, feed_forward, attn_out, mlp_out, *norms])
    for module in (attn, feed_forward, attn_out, mlp_out):
        if module not in seen.given:
            raise finder.refuse("attention and MLP that take part in each block")

    def norm_giving(given: torch.Tensor) -> nn.Module | None:
        return next((norm for norm in norms if seen.gave.get(norm) is given), None)

    def norm_reading(*given: torch.Tensor) -> nn.Module | None:
        after = [norm for norm in norms if norm not in (before_attn, before_mlp)]
        return next((norm for norm in after if any(seen.given.get(norm) is tensor for tensor in given)), None)

    before_attn, before_mlp = norm_giving(seen.given[attn]), norm_giving(seen.given[feed_forward])
    after_attn = norm_reading(seen.gave[attn], seen.gave[attn_out])
    after_mlp = norm_reading(seen.gave[feed_forward], seen.gave[mlp_out])
    roles = {"ln1": before_attn, "ln1_post": after_attn, "ln2": before_mlp, "ln2_post": after_mlp}
    unused = [name for norm, name in norms.items() if norm not in roles.values()]
    if unused:
        raise finder.refuse(f"place for the norm {unused[0]}")
    read_by_mlp = seen.given[feed_forward] if before_mlp is None else seen.given[before_mlp]
    inside = {module: name for name, module in block.named_modules()}
    return {
        "blocks.attn": attn_name,
        "blocks.attn.o": inside[attn_out].removeprefix(f"{attn_name}."),
        "blocks.mlp": mlp_name,
        "blocks.mlp.out": inside[mlp_out].removeprefix(f"{mlp_name}."),
        "parallel": "yes" if read_by_mlp is seen.entering else "no",
        **{f"blocks.{role}": norms[norm] for role, norm in roles.items() if norm is not None},
    }


def _attention_out(finder: _Finder, attn: nn.Module) -> nn.Module:
    """The output projection of an attention: by its name, among what multiplies by a matrix."""
    parts = {name.rpartition(".")[2]: module for name, module in attn.named_modules() if is_projection(module)}
    for name in _ATTENTION_OUT:
        if name in parts:
            return parts[name]
    raise finder.refuse(f"output projection in {type(attn).__name__}")


def _mlp_out(finder: _Finder, mlp: nn.Module) -> nn.Module:
    """The output projection of an MLP: the one matrix that gives d_model."""
    parts = [module for module in mlp.modules() if is_projection(module)]
    width = finder.config.hidden_size
    giving = [part for part in parts if by_input(part).shape[1] == width != by_input(part).shape[0]]
    if len(parts) not in (2, 3) or len(giving) != 1:
        raise finder.refuse(f"single output projection in {type(mlp).__name__}")
    return giving[0]


def _watch(finder: _Finder, block: nn.Module, watched: list[nn.Module]) -> _Seen:
    """Let two tokens pass up to the end of the first block, and keep what the watched modules hand on."""
    seen = _Seen()

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.entering = _hidden(args, kwargs)

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        seen.given[module] = _hidden(args, kwargs)
        seen.gave[module] = output[0] if isinstance(output, tuple) else output

    def leave(*_: Any) -> None:
        raise _Enough

    handles = [
        block.register_forward_pre_hook(enter, with_kwargs=True),
        *(module.register_forward_hook(keep, with_kwargs=True) for module in watched),
        block.register_forward_hook(leave),
    ]
    device = finder.model.get_input_embeddings().weight.device
    ids = torch.zeros(1, 2, dtype=torch.int64, device=device)
    mask = torch.ones_like(ids)  # given, because transformers would look for packed sequences, at values
    try:
        # no inference mode: hidden states must stay the same Python objects on their way
        with suppress(_Enough), torch.no_grad():
            finder.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    except UnsupportedModelError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"{finder.architecture} cannot run two tokens on {device} ({error}), so its parts could not be found; choose "
            "another model"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values()), None))
