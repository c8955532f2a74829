"""What is asked of a perturbation over HTTP, and the `nmri3d.Edit` that it means.

Convention. `target_token_idx` counts the tokens as `prompt_tokens` lists them, negative numbers from the end; null means all
positions, and `token_positions` may list several instead. In a list of edits (`EditItem`) an edit is written as
`Edit.as_record` writes it.

Left out: checking against the model, which the perturbation does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from nmri3d.api.answers import Index, Seed
from nmri3d.api.schema import Body, ComponentId, Prompt
from nmri3d.errors import InputError

if TYPE_CHECKING:
    from nmri3d.perturbation import Edit

EditKind = Literal["zero", "amplify", "invert", "noise", "ablate", "inject", "patch"]

Row = Annotated[list[float], Field(max_length=100_000)]
Values = Annotated[
    float | Row | Annotated[list[Row], Field(max_length=100_000)],
    Field(
        description="[width of the residual stream], or one such list a position; of a neuron a number, or one a position"
    ),
]
Factor = Annotated[float, Field(description="of amplify")]
Sigma = Annotated[
    float, Field(ge=0, description="of noise: standard deviations of the component over the reference text")
]


class ComparisonOptions(Body):
    """How two runs are compared."""

    compare_logits: bool = Field(True, description="false: nothing of the answer is told, only what the components do")
    k: int = Field(10, ge=1, le=1000, description="how many of the likeliest next tokens to list")


class OnePrompt(ComparisonOptions):
    """Where one edit acts."""

    prompt: Prompt
    target_component: ComponentId
    target_token_idx: Index | None = Field(
        None, description="token at which the edit acts, counted as `prompt_tokens` lists them; null: at all"
    )
    token_positions: list[Index] | Literal["all"] | None = Field(
        None, max_length=100_000, description="several tokens, in place of target_token_idx"
    )

    def edit(self) -> Edit:
        """The edit that is asked for. Raises InputError for what does not go together."""
        raise NotImplementedError

    def _made(self, kind: str, **options: Any) -> Edit:
        return make_edit(
            self.target_component, kind, positions=positions_of(self.target_token_idx, self.token_positions), **options
        )


class ZeroRequest(OnePrompt):
    """The component writes nothing."""

    def edit(self) -> Edit:
        return self._made("zero")


class InvertRequest(OnePrompt):
    """The component writes the negative."""

    def edit(self) -> Edit:
        return self._made("invert")


class AblateRequest(OnePrompt):
    """The component writes its mean over the reference text."""

    def edit(self) -> Edit:
        return self._made("ablate")


class AmplifyRequest(OnePrompt):
    """The component writes a multiple."""

    factor: Factor = 2.0

    def edit(self) -> Edit:
        return self._made("amplify", factor=self.factor)


class NoiseRequest(OnePrompt):
    """Gaussian noise is added to what the component writes."""

    sigma: Sigma = 1.0
    seed: Seed = 0

    def edit(self) -> Edit:
        return self._made("noise", sigma=self.sigma, seed=self.seed)


class InjectRequest(OnePrompt):
    """The component writes what is given."""

    values: Values

    def edit(self) -> Edit:
        return self._made("inject", values=self.values)


class PatchByMethod(OnePrompt):
    """Any edit by name."""

    method: EditKind
    factor: Factor | None = None
    sigma: Sigma | None = None
    seed: Seed | None = None
    values: Values | None = None
    source: Prompt | None = Field(None, description="of patch: the prompt to patch from, of equally many tokens")

    def edit(self) -> Edit:
        return self._made(self.method, **_options_of(self.method, self))


class PatchFromPrompt(ComparisonOptions):
    """Activation patching: in the run of one prompt, a component writes what it writes on the other prompt."""

    clean_prompt: Prompt
    corrupt_prompt: Prompt
    target_component: ComponentId
    target_token_idx: Index | None = Field(None, description="token at which the component is patched; null: at all")
    token_positions: list[Index] | Literal["all"] | None = Field(
        None, max_length=100_000, description="several tokens, in place of target_token_idx"
    )
    into: Literal["clean", "corrupt"] = Field(
        "clean",
        description="which prompt is run. clean: how much of its answer the component carries; corrupt: how much of it the "
        "component brings back (POST /api/trace measures that for all layers and positions)",
    )

    @property
    def prompt(self) -> str:
        """The prompt that is run."""
        return self.clean_prompt if self.into == "clean" else self.corrupt_prompt

    def edit(self) -> Edit:
        """The edit that is asked for. Raises InputError for what does not go together."""
        source = self.corrupt_prompt if self.into == "clean" else self.clean_prompt
        positions = positions_of(self.target_token_idx, self.token_positions)
        return make_edit(self.target_component, "patch", positions=positions, source=source)


class EditItem(Body):
    """One edit of several, as `Edit.as_record` writes it; what its kind does not use is left out."""

    component: ComponentId
    kind: EditKind
    factor: Factor | None = None
    sigma: Sigma | None = None
    seed: Seed | None = None
    values: Values | None = None
    source: Prompt | None = None
    positions: list[Index] | None = Field(None, max_length=100_000, description="null: all")

    def edit(self) -> Edit:
        """The edit that is asked for. Raises InputError for what does not go together."""
        return make_edit(self.component, self.kind, positions=self.positions, **_options_of(self.kind, self))


class StackRequest(ComparisonOptions):
    """Several edits at once, in this order."""

    prompt: Prompt
    edits: list[EditItem] = Field(max_length=1000)


def positions_of(index: int | None, listed: list[int] | Literal["all"] | None) -> list[int] | None:
    """Indexs of an edit, None for all. Raises InputError where both ways of telling are used."""
    if listed is None:
        return None if index is None else [index]
    if index is not None:
        raise InputError("give target_token_idx or token_positions, not both; they mean the same")
    return None if listed == "all" else listed


def make_edit(component: str, kind: str, **options: Any) -> Edit:
    """`nmri3d.Edit`, its values checked. Raises InputError."""
    from nmri3d.perturbation import Edit

    values = options.get("values")
    if isinstance(values, list) and len({len(row) if isinstance(row, list) else -1 for row in values}) > 1:
        raise InputError(f"the values to inject into {component} are lists of different lengths; make them equal")
    return Edit(component, kind, **options)


def _options_of(kind: str, asked: PatchByMethod | EditItem) -> dict[str, Any]:
    """The options that were given; those of another kind of edit are refused, since they would do nothing."""
    given = {
        name: value
        for name in ("factor", "sigma", "seed", "values", "source")
        if (value := getattr(asked, name)) is not None
    }
    used = {"amplify": {"factor"}, "noise": {"sigma", "seed"}, "inject": {"values"}, "patch": {"source"}}.get(
        kind, set()
    )
    if strange := sorted(given.keys() - used):
        takes = f"it takes {' and '.join(sorted(used))}" if used else "it takes none"
        raise InputError(f"the edit {kind!r} has no option {strange[0]!r}; {takes}")
    return given
