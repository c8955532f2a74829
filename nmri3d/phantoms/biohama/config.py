"""The configuration of BioHama, as a dataclass and as YAML.

Convention. Every ablation is a change of one field. The defaults are the shipped network.

Left out: how long and on what it is trained (`nmri3d.phantoms.biohama.fitting`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from nmri3d.errors import InputError
from nmri3d.files import written_whole


@dataclass(frozen=True)
class Config:
    """Sizes and mechanisms.

    width            of symbols, slots, module states and messages
    modules, hidden  how many modules there are, and their hidden width
    active           modules that the router lets through at a step
    slots            of working memory
    prototypes       patterns that slots are drawn to (memory compression); 0: none
    bindings         width of the Hebbian fast weights
    window, sparse   steps that local attention sees, and keys that global attention keeps
    hops             rounds of messages between modules; 0: none
    routed           False: all modules at once, equally
    adaptive_memory  importance and dynamic slots; False: plain slots, written where the input says
    levels           of attention: "local", "module", "global"
    hebbian          fast weights at all; stdp: depression of the reverse order; consolidation: long-term weights
    """

    width: int = 32
    modules: int = 12
    hidden: int = 24
    active: int = 2
    slots: int = 5
    prototypes: int = 16
    bindings: int = 24
    window: int = 4
    sparse: int = 4
    hops: int = 2
    routed: bool = True
    adaptive_memory: bool = True
    levels: tuple[str, ...] = ("local", "module", "global")
    hebbian: bool = True
    stdp: bool = True
    consolidation: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.levels, (list, tuple)):
            raise InputError(f"levels of BioHama is a list such as [local, global]; got {self.levels!r}")
        object.__setattr__(self, "levels", tuple(self.levels))  # JSON and YAML give a list
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if field.type == "bool" and not isinstance(value, bool):
                raise InputError(f"{name} of BioHama is true or false; got {value!r}")
            least = 0 if name in ("prototypes", "hops") else 1
            if field.type == "int" and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise InputError(f"{name} of BioHama is a whole number, {least} or more; got {value!r}")
        if self.active > self.modules:
            raise InputError(f"BioHama cannot let {self.active} of {self.modules} modules through; lower `active`")
        unknown = [level for level in self.levels if level not in ("local", "module", "global")]
        if unknown:
            raise InputError(f"there is no attention level {unknown[0]!r}; choose of local, module and global")

    def to_yaml(self, path: Path) -> None:
        """Write all settings, whole or not at all."""
        with written_whole(Path(path)) as file:
            file.write(yaml.safe_dump(asdict(self) | {"levels": list(self.levels)}, sort_keys=False).encode())

    @classmethod
    def from_yaml(cls, path: Path) -> Config:
        """Read settings; what is not named keeps its default. Raises InputError for what is no setting of BioHama."""
        try:
            settings = yaml.safe_load(Path(path).read_text())
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read as YAML: {error}") from error
        if not isinstance(settings, dict):
            raise InputError(f"{path} holds no settings; write lines such as 'modules: 8'")
        unknown = set(settings) - {field.name for field in fields(cls)}
        if unknown:
            raise InputError(
                f"BioHama has no setting {sorted(map(str, unknown))[0]!r}; see nmri3d.phantoms.biohama.config"
            )
        return cls(**settings)
