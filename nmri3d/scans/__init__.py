"""The scans: one function a mode, backend in, `Scan` out. `scan` chooses by name and checks the options."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dispatch": ["SCANS", "scan"],
        "dti": ["scan_dti"],
        "dti_config": ["DtiConfig"],
        "flair": ["scan_flair"],
        "flair_config": ["FlairConfig"],
        "fmri": ["FmriConfig", "scan_fmri"],
        "generation": ["Generation", "GenerationStep"],
        "neuron_scan": ["NEURON_MODES", "NEURON_STATISTICS", "NOT_OF_NEURONS", "scan_neurons"],
        "neurons": ["TopNeuron", "neuron_activations", "top_neurons"],
        "t1": ["T1Config", "scan_t1"],
        "t2": ["T2Config", "scan_t2"],
    },
)
