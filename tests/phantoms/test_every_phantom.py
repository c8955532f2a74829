"""What all phantoms have in common: the same questions to each shipped network, by the interfaces that all share."""

import numpy as np
import pytest
import torch

import nmri3d
from nmri3d.components import parse_component_id
from nmri3d.models.residual_backend import as_residual
from nmri3d.phantoms.registry import load_phantom, recipe_of, shipped, shipped_names, untrained
from nmri3d.template import access
from nmri3d.template.build import build_template

pytestmark = pytest.mark.parametrize("name", shipped_names(), scope="module")

GRADIENT_TEXTS = 24
TEMPLATE_TEXTS, LENS_TEXTS = 8, 60
"""Of the templates; percentiles of a lens need some dozens."""


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Templates of these tests are kept apart."""
    patch = pytest.MonkeyPatch()
    patch.setenv("NMRI3D_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def network(name):
    return shipped(name)


@pytest.fixture(scope="module")
def model(name):
    backend = load_phantom(name)
    count = LENS_TEXTS if "lens" in backend.abilities else TEMPLATE_TEXTS
    access._remember(build_template(backend, texts=backend.reference()[:count]))  # a short one
    yield backend
    access._memory.pop(backend.info.fingerprint, None)  # other tests want the whole one
    backend.close()


def test_gradients_reach_every_parameter(name, network):
    """From what it predicts, over some stimuli; those that it does not reach are named."""
    fresh = untrained(name, network.settings())
    fresh.load_state_dict(network.state_dict())
    fresh.requires_grad_(True)
    random = torch.Generator().manual_seed(0)
    reached = dict.fromkeys(dict(fresh.named_parameters()), False)
    for text in [*network.identity.examples, *network.reference()[:GRADIENT_TEXTS]]:
        if all(reached.values()):
            break
        predictions = fresh.predictions(**fresh.inputs(fresh.stimulus(text)))
        fresh.zero_grad()
        sum((each * torch.randn(each.shape, generator=random)).sum() for each in predictions).backward()
        for parameter, value in fresh.named_parameters():
            reached[parameter] |= value.grad is not None and bool(value.grad.abs().max() > 0)
    assert [parameter for parameter, yes in reached.items() if not yes] == []


def test_parts_hold_every_parameter_entry_once(name, network):
    """Every entry is numbered in place, and the parts together must hold each number once."""
    copy = untrained(name, network.settings())
    total = sum(parameter.numel() for parameter in copy.parameters())
    assert total < 2**24  # numbers that float32 holds exactly
    start = 0
    with torch.no_grad():
        for parameter in copy.parameters():
            numbers = torch.arange(start, start + parameter.numel(), dtype=torch.float32)
            parameter.copy_(numbers.reshape(parameter.shape))
            start += parameter.numel()
    found = [weight.detach().flatten() for part in copy.parts for weight in copy.weights(part).values()]
    assert torch.equal(torch.cat(found).sort().values, torch.arange(total, dtype=torch.float32))


def test_every_example_and_reference_is_a_stimulus(name, network):
    reference = network.reference()
    assert 3 <= len(network.identity.examples) <= 6
    assert len(set(reference)) >= 100
    assert list(network.reference()) == list(reference)
    for text in [*network.identity.examples, *reference]:
        stimulus = network.stimulus(text)
        assert len(stimulus) == len(stimulus.labels) == len(stimulus.special) == len(stimulus.ids) > 0
        assert stimulus.text == text
    stimulus = network.stimulus(network.identity.examples[0])
    with torch.no_grad():
        outputs = network(**network.inputs(stimulus))
    assert outputs.shape == (1, len(stimulus), len(network.output_names))
    assert outputs.isfinite().all()


def test_the_backend_is_what_the_network_says(name, network, model):
    identity = network.identity
    assert identity.name == name
    assert (model.step_axis, model.outputs, model.examples) == (identity.step_axis, identity.outputs, identity.examples)
    assert len(model.components) == len(model.structures) == len(network.parts)
    assert model.info.n_params == int(model.components.n_params.sum()) == sum(p.numel() for p in network.parameters())
    assert len(model.neurons) == 0
    for component, part in zip(model.components.ids, network.parts, strict=True):
        assert (part.kind, part.layer) == parse_component_id(component)[:2]
    stimulus = model.stimulus(identity.examples[0])
    found = model.run(stimulus, {}, logits=range(len(stimulus))).logits
    with torch.no_grad():
        wanted = network(**network.inputs(stimulus))[0]
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_the_answer_key_names_components_that_exist(name, network, model):
    truths = network.answer_key()
    assert truths
    assert len({truth.name for truth in truths}) == len(truths)
    for truth in truths:
        assert truth.components, truth.name
        assert set(truth.components) <= set(model.components.ids), truth.name
        assert len(truth.components) < len(model.components), truth.name
        assert truth.statement
    assert [truth.components for truth in truths] == [truth.components for truth in shipped(name).answer_key()]


def test_all_five_scans(name, model):
    text, fingerprint = model.examples[0], model.info.fingerprint
    n, n_steps = len(model.components), len(model.stimulus(text))
    scans = {
        "T1": nmri3d.scan(model, "T1"),
        "T2": nmri3d.scan(model, "T2"),
        "fMRI": nmri3d.scan(model, "fMRI", text),
        "DTI": nmri3d.scan(model, "DTI", text),
        "FLAIR": nmri3d.scan(model, "FLAIR", text),
    }
    assert scans["T1"].values.sum() == model.info.n_params
    for mode, scan in scans.items():
        steps = n_steps if mode in ("fMRI", "FLAIR") else 1
        assert scan.values.shape == (steps, n), mode
        assert scan.provenance.fingerprint == fingerprint
        finite = np.isfinite(scan.values)
        assert finite.any(), mode
        assert np.ptp(scan.values[finite]) > 0, mode
        assert scan.units
    active = np.isfinite(scans["fMRI"].values).any(axis=0)
    assert [component for component, yes in zip(model.components.ids, active, strict=True) if not yes] in (
        [],
        ["unembed"],
    )
    assert model.fingerprint() == fingerprint


def test_an_fmri_scan_is_signed_where_a_unit_can_be_negative(name, network, model):
    """By what the parts say of themselves, which is held against what they do; a prompt has no say in it."""
    rate = np.array([part.rate for part in network.parts])
    negative = np.zeros(len(rate), bool)
    for text in [*model.examples, *model.reference()[:GRADIENT_TEXTS]]:
        scan = nmri3d.scan(model, "fMRI", text)
        assert scan.signed == (name == "cerebellum")
        negative |= (scan.values < 0).any(axis=0)
    assert not negative[rate].any()
    assert negative.any() == (name == "cerebellum")
    kinds = set(model.components.kind[negative].tolist())
    assert kinds == ({"memory", "climbing", "mossy", "purkinje", "nucleus", "motor"} if negative.any() else set())
    assert nmri3d.perturb(model, model.examples[0], []).signed == scan.signed


def test_silencing_what_the_answer_key_names_changes_the_network(name, network, model):
    text = model.examples[0]
    named = dict.fromkeys(component for truth in network.answer_key() for component in truth.components)
    changed = {}
    for component in list(named)[:6]:
        found = nmri3d.perturb(model, text, [nmri3d.Edit(component, "zero")])
        changed[component] = float(np.nanmax(np.abs(found.change)))
    assert max(changed.values()) > 0
    assert model.fingerprint() == model.info.fingerprint


def test_what_a_network_cannot_do_is_refused_in_words(name, model):
    text = model.examples[0]
    if as_residual(model) is None:
        assert model.info.completeness is None
        for attempt in (
            lambda: nmri3d.scan(model, "DTI", text, method="dla"),
            lambda: nmri3d.trace(model, text),
            lambda: nmri3d.verify_edge(model, text, model.components.ids[0], model.components.ids[-1], "q"),
        ):
            with pytest.raises(nmri3d.Nmri3dError, match="no residual stream"):
                attempt()
    else:
        assert model.info.completeness < 1e-4
    with pytest.raises(nmri3d.Nmri3dError):
        nmri3d.scan_neurons(model, "fMRI", text)
    with pytest.raises(nmri3d.Nmri3dError):
        model.stimulus("no such thing as this")


def test_the_study_has_three_seeds_baselines_and_a_summary_that_says_what_is_missing(name):
    recipe = recipe_of(name)
    runs = recipe.runs()
    assert len({run.key for run in runs}) == len(runs)
    seeds_of = {run.name: {other.seed for other in runs if other.name == run.name} for run in runs}
    assert any(len(seeds) >= 3 and recipe.shipped_seed in seeds for seeds in seeds_of.values())
    assert len(seeds_of) > 1
    summary = recipe.summary({})
    assert [run.key for run in runs if run.key not in summary and run.name not in summary] == []
