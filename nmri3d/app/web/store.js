/* The browser's side of the page: what it knows, and the one name under which all scripts share it.

   Convention. `store` is small and reactive (Vue watches it); `data` holds the heavy typed arrays and is not watched:
   `store.revision` is raised whenever `data` changes. Everything hangs on `window.nmri3d`, which is also the Vue plug-in.

   Left out: what arrives (arrivals.js), what is shown of it (shown.js), what a person does (actions.js). */

(function () {
  "use strict";
  const { reactive } = window.Vue;

  const INTERACTION = [
    { button: 1, action: "Rotate" },
    { button: 2, action: "Pan" },
    { button: 3, action: "Zoom", scrollEnabled: true },
    { button: 1, action: "Pan", shift: true },
    { button: 1, action: "Zoom", control: true },
  ];

  const MODES = [
    ["T1", "Topology"],
    ["T2", "Tensor"],
    ["fMRI", "Function"],
    ["DTI", "Tracts"],
    ["FLAIR", "Anomalies"],
  ];
  const SEQUENCES = {
    T1: "T1 Topology Layer 1",
    T2: "T2 Tensor Layer 2",
    fMRI: "fMRI functional MRI",
    DTI: "DTI Data Tractography",
    FLAIR: "FLAIR Anomaly Identification",
  };
  const VIEWS = [
    ["overview", "overview"],
    ["lateral_left", "lateral L"],
    ["lateral_right", "lateral R"],
    ["medial_left", "medial L"],
    ["medial_right", "medial R"],
    ["dorsal", "dorsal"],
    ["ventral", "ventral"],
    ["anterior", "anterior"],
    ["posterior", "posterior"],
  ];
  const EDITS = [
    ["zero", "ZERO", "Set what it writes to 0"],
    ["amplify", "AMP", "Multiply what it writes by the factor"],
    ["invert", "INVERT", "Turn the sign of what it writes"],
    ["noise", "NOISE", "Add Gaussian noise of sigma times its own spread on the reference text"],
    ["ablate", "ABLATE", "Replace what it writes by its mean on the reference text"],
  ];
  /* Tools of the side column, and the mode with which each opens by itself. */
  const TOOLS = [
    ["layers", "LAYERS", "Values of every layer"],
    ["paths", "PATHS", "Edges that carry the answer (DTI)"],
    ["heads", "HEADS", "Attention patterns, and kinds of heads"],
    ["lens", "LENS", "What each layer would answer, and how unlike the template it is (FLAIR)"],
    ["trace", "TRACE", "Where the answer is decided: causal tracing"],
    ["sweep", "SWEEP", "Silence every component, one at a time"],
    ["layout", "LAYOUT", "Where components lie on the cortex, and how well that fits"],
  ];
  /* What a network must be able to for a tool, by the names of `nmri.refused`; the other tools serve every network. */
  const TOOL_NEEDS = { heads: "attention", trace: "trace" };
  const TOOL_OF_MODE = { DTI: "paths", FLAIR: "lens" };
  /* What the canvas says when something else than the tab's own scan is painted. */
  const PAINTED = {
    before: "BEFORE THE EDITS",
    after: "AFTER THE EDITS",
    change: "CHANGE BY THE EDITS",
    sweep: "SWEEP: EACH COMPONENT SILENCED",
  };
  const METHODS = [
    ["auto", "auto", "Exact where that takes a few seconds, else attribution patching"],
    ["exact", "exact", "Each component replaced by itself, and everything after it run again"],
    ["atp", "attr. patch", "Attribution patching: a first-order preview of exact"],
    ["dla", "direct logit", "Direct logit attribution: an exact split of the logit difference"],
  ];
  const EFFECTS = [
    ["patch", "patch", "What it writes on the corrupted prompt"],
    ["mean", "mean", "Its mean on the reference text"],
    ["zero", "zero", "Nothing"],
  ];

  const store = reactive({
    remote: false,
    mode: "T1",
    step: 0,
    playing: false,
    threshold: 0, // share of the display range below which a component stays unpainted
    locked: false,
    pulse: true,
    surface: "pial",
    layout: "anatomical", // the cortical layout, or one of balls
    wanted: { layout: "anatomical", features: "weights", area: "parameters" }, // what was chosen last of layouts
    borders: true, // lines between parcels
    glass: { DTI: true }, // by mode: whether the cortex is translucent
    flow: true, // brightness runs along the tubes
    display: "surface", // or "volume"
    slices: false, // slices beside the 3D view
    neurons: false, // MLP parcels show their neurons
    view: "overview",
    palette: "standard", // variant of the color tables
    picture: "", // "busy" while a picture is drawn, a sentence when it could not be fetched
    selected: -1,
    hover: null, // {row, x, y} in pixels of the canvas
    letters: { left: "", right: "", top: "", bottom: "" },
    fieldOfView: "",
    painted: false, // the first picture is on the screen
    epoch: 0,
    revision: 0,
    prompt: "",
    otherModel: false, // the field for any model id is open
    modelText: "",
    subject: null, // {prompt, tokens, special}: what experiments are about, the prompt that was scanned last
    tool: "layers",
    wide: false, // the side column takes more of the page
    folded: { stimulation: false, comparison: false },
    painting: "", // what is painted instead of the tab's own scan: "before", "after", "change", "sweep"
    neuron: -1, // of the selected MLP
    edge: null, // {source, target, slot} of the selected path
    onlyTouching: false, // list the paths of the selected component alone
    metric: { corrupt: "", target: "", foil: "", position: -1 },
    circuit: { method: "auto", effect: "", edges: "eap" },
    edit: { factor: 2, sigma: 1, seed: 0, here: false, more: false, values: "", source: "" },
    head: { layer: 0, index: 0 },
    trace: { method: "counterfactual", window: 1, draws: 10, first: 0, last: "" },
    sweep: { effect: "zero" },
    nTokens: 8,
  });

  const data = {
    geometry: null,
    scans: {}, // by mode
    palettes: {}, // by variant and mode, Uint8Array 256 x 3
    lockedRanges: {}, // by mode, each with the unit that it is for
    painting: null, // the scan that store.painting names
  };

  function trigger(name, ...args) {
    return window.trame.trigger(name, args);
  }

  window.nmri3d = {
    store,
    data,
    components: {},
    layers: [], // makers of what else is drawn in the brain's picture; see painter.js
    INTERACTION,
    MODES,
    SEQUENCES,
    VIEWS,
    EDITS,
    TOOLS,
    TOOL_NEEDS,
    TOOL_OF_MODE,
    PAINTED,
    METHODS,
    EFFECTS,
    trigger,
    /* The Vue plug-in that trame installs. */
    plugin: {
      install(app) {
        app.config.globalProperties.nmri = window.nmri3d;
        for (const [name, component] of Object.entries(window.nmri3d.components)) app.component(name, component);
      },
    },
  };
})();
