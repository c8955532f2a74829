/* The browser's side of the page: what is shown, and what a person can change without asking the server.

   Convention. `store` is small and reactive (Vue watches it); `data` holds the heavy typed arrays and is not watched:
   `store.revision` is raised whenever `data` changes. A scan arrives once, whole ([steps, components] float32);
   stepping, playing, threshold, range lock, pulse, camera and surface never send anything.

   Left out: drawing (brain_view.js), colors (colors.js), geometry (geometry.js), the panels' markup (panels.js). */

(function () {
  "use strict";
  const { reactive, watch } = window.Vue;

  const PLAY_INTERVAL = 500; // ms a token, as the specification asks

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
    ["zero", "ZERO"],
    ["amplify", "AMP 2×"],
    ["invert", "INVERT"],
    ["noise", "NOISE"],
    ["ablate", "ABLATE"],
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
  });

  const data = {
    geometry: null,
    scans: {}, // by mode
    palettes: {}, // by variant and mode, Uint8Array 256 x 3
    lockedRanges: {}, // by mode, each with the unit that it is for
  };

  /* Bytes as they come out of MessagePack (a view at any offset) to an array of its own. */
  function typed(Type, bytes) {
    const view = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes;
    return new Type(view.slice().buffer);
  }

  function trigger(name, ...args) {
    return window.trame.trigger(name, args);
  }

  // -- what arrives ---------------------------------------------------------------------------------------------

  function takePalettes(payload) {
    if (!payload) return;
    for (const [variant, tables] of Object.entries(payload))
      data.palettes[variant] = Object.fromEntries(
        Object.entries(tables).map(([mode, bytes]) => [mode, typed(Uint8Array, bytes)]),
      );
    store.revision += 1;
  }

  function takeGeometry(payload) {
    store.painted = false;
    store.selected = -1;
    store.hover = null;
    if (!payload) {
      data.geometry = null;
      data.scans = {};
      data.lockedRanges = {};
      store.locked = false;
      store.epoch = 0;
      store.revision += 1;
      return;
    }
    const rowOfId = new Map(payload.ids.map((id, row) => [id, row]));
    data.geometry = {
      ...payload,
      rowOfId,
      layer: typed(Int32Array, payload.layer),
      faceComponent: payload.face_component && typed(Int32Array, payload.face_component),
      borderEdges: payload.border_edges && typed(Int32Array, payload.border_edges),
      normals: Object.fromEntries(
        Object.entries(payload.normals || {}).map(([name, bytes]) => [
          name,
          Float32Array.from(typed(Int16Array, bytes), (value) => value / 32767),
        ]),
      ),
      n_vertices: payload.surfaces ? payload.surfaces[payload.surface].length / 12 : 0,
      vertexOfSplit: payload.vertex_of_split && typed(Int32Array, payload.vertex_of_split),
      surfaces: Object.fromEntries(
        Object.entries(payload.surfaces || {}).map(([name, bytes]) => [name, typed(Float32Array, bytes)]),
      ),
    };
    store.surface = payload.surface;
    store.epoch = payload.epoch;
    store.revision += 1;
  }

  function takeScan(mode, payload) {
    if (!payload) {
      if (data.scans[mode]) {
        delete data.scans[mode];
        store.revision += 1;
      }
      return;
    }
    const scan = { ...payload, values: typed(Float32Array, payload.values) };
    scan.components = scan.values.length / scan.steps;
    const previous = data.scans[mode];
    data.scans[mode] = scan;
    if (mode === store.mode) {
      store.playing = false;
      // The same prompt measured another way stays at its token; a new prompt starts at the token that predicts.
      const same = previous && previous.tokens.join("\n") === scan.tokens.join("\n");
      if (!same) store.step = scan.steps - 1;
    }
    store.revision += 1;
  }

  // -- what is shown --------------------------------------------------------------------------------------------

  /* The scan of the open tab, or null. Reading it makes a Vue computation depend on it. */
  function scan() {
    return store.revision >= 0 ? data.scans[store.mode] || null : null;
  }

  function geometry() {
    return store.revision >= 0 ? data.geometry : null;
  }

  /* The color table of the open tab, or null before it is there. */
  function palette() {
    const tables = store.revision >= 0 ? data.palettes[store.palette] : null;
    return (tables && tables[store.mode]) || null;
  }

  /* The locked range of the open tab, if it is one of what is measured now. */
  function lockedRange() {
    const shown = scan();
    const kept = store.locked ? data.lockedRanges[store.mode] : null;
    return shown && kept && kept.units === shown.units ? kept : null;
  }

  function range() {
    const shown = scan();
    return shown ? lockedRange() || shown.range : null;
  }

  function currentStep() {
    const shown = scan();
    return shown ? Math.min(store.step, shown.steps - 1) : 0;
  }

  /* Values of all components at the shown step: a view, not a copy. */
  function values() {
    const shown = scan();
    if (!shown) return null;
    const start = currentStep() * shown.components;
    return shown.values.subarray(start, start + shown.components);
  }

  function valueText(row) {
    const shown = scan();
    const table = geometry();
    if (!shown || !table || row < 0) return "";
    // Parameter counts are exact integers; float32 is only for their colors.
    const value = shown.mode === "T1" ? table.n_params[row] : values()[row];
    return Number.isFinite(value) ? format(value) : "not measured";
  }

  function format(value) {
    if (!Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (Number.isInteger(value) && size < 1e15) return value.toLocaleString("en-US");
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
    return value.toLocaleString("en-US", { maximumSignificantDigits: 4 });
  }

  /* A token as a chip shows it: white space made visible. */
  function tokenText(token) {
    return token.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·") || "∅";
  }

  function thresholdText() {
    const bar = range();
    if (!bar || store.threshold === 0) return "off";
    const limit = format(window.nmri3d.colors.valueAt(store.threshold, bar));
    return bar.scale === "symmetric" ? `|v| ≥ ${limit}` : `≥ ${limit}`;
  }

  function inCatalog(catalog, name) {
    return catalog.some((group) => group.entries.some((entry) => entry.value === name));
  }

  // -- what a person does ---------------------------------------------------------------------------------------

  function setStep(step) {
    const shown = scan();
    if (!shown) return;
    store.step = Math.max(0, Math.min(shown.steps - 1, step));
    if (store.remote) trigger("remote_step", store.step);
  }

  let timer = 0;
  function setPlaying(playing) {
    const shown = scan();
    store.playing = Boolean(playing && shown && shown.steps > 1);
  }
  watch(
    () => store.playing,
    (playing) => {
      window.clearInterval(timer);
      if (!playing) return;
      timer = window.setInterval(() => {
        const shown = scan();
        if (!shown || shown.steps < 2) store.playing = false;
        else setStep((currentStep() + 1) % shown.steps);
      }, PLAY_INTERVAL);
    },
  );

  /* A choice of the model menu: an id, or "*" to open the field for any other. */
  function chooseModel(name) {
    store.otherModel = name === "*";
    if (name !== "*") trigger("load_model", name);
  }

  function scanPrompt() {
    store.playing = false;
    trigger("scan", store.prompt);
  }

  function setMode(mode) {
    store.playing = false;
    store.hover = null;
    store.mode = mode;
    const shown = data.scans[mode];
    store.step = shown ? shown.steps - 1 : 0;
    trigger("open_mode", mode);
  }

  function select(row) {
    if (row === store.selected) return;
    store.selected = row;
    trigger("select", row);
  }

  /* Select from outside the picture: the brain turns to the parcel if it is out of sight. */
  function reveal(row) {
    select(row);
    const { painter } = window.nmri3d;
    const name = painter ? painter.viewOf(row) : "";
    if (name) setView(name);
  }

  function setLocked(locked) {
    store.locked = Boolean(locked);
    data.lockedRanges = locked
      ? Object.fromEntries(Object.values(data.scans).map((one) => [one.mode, { ...one.range, units: one.units }]))
      : {};
    store.revision += 1;
    if (store.remote) trigger("remote_look", store.threshold, store.locked);
  }

  function setThreshold(share) {
    store.threshold = Math.max(0, Math.min(1, Number(share) || 0));
    if (store.remote) trigger("remote_look", store.threshold, store.locked);
  }

  function setView(name) {
    store.view = name;
    view.requests += 1;
    if (store.remote) trigger("remote_view", name);
  }

  function setPalette(name) {
    store.palette = name;
    if (store.remote) trigger("remote_palette", name);
  }

  function setSurface(name) {
    store.surface = name;
    if (store.remote) trigger("remote_surface", name);
  }

  function reset() {
    store.playing = false;
    store.threshold = 0;
    setLocked(false);
    const shown = scan();
    store.step = shown ? shown.steps - 1 : 0;
    if (store.remote && shown) trigger("remote_step", store.step);
    select(-1);
    setView("overview");
  }

  /* Counts requests for a camera preset, so that asking for the same one again turns the camera back. */
  const view = reactive({ requests: 0 });

  function onKey(event) {
    const target = event.target;
    const typing = target instanceof Element && target.closest("input, textarea, select, [contenteditable]");
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Escape" && !typing) select(-1);
    if (typing) return;
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      const shown = scan();
      if (!shown || shown.steps < 2) return;
      event.preventDefault();
      store.playing = false;
      setStep(currentStep() + (event.key === "ArrowRight" ? 1 : -1));
    } else if (event.key === " " && !(target instanceof Element && target.closest("button"))) {
      event.preventDefault();
      setPlaying(!store.playing);
    }
  }
  window.addEventListener("keydown", onKey);
  // vtk.js listens for r (reset), w (wireframe), s, v wherever the pointer rests, also while a prompt is typed.
  window.addEventListener("keyup", (event) => event.code === "KeyR" && event.stopPropagation(), true);
  window.addEventListener(
    "keypress",
    (event) => event.target instanceof Element && event.target.closest(".brain-view") && event.stopPropagation(),
    true,
  );

  window.nmri3d = {
    store,
    data,
    view,
    components: {},
    INTERACTION,
    MODES,
    SEQUENCES,
    VIEWS,
    EDITS,
    trigger,
    takePalettes,
    takeGeometry,
    takeScan,
    scan,
    geometry,
    palette,
    lockedRange,
    range,
    currentStep,
    values,
    valueText,
    format,
    tokenText,
    setStep,
    setPlaying,
    setMode,
    scanPrompt,
    chooseModel,
    inCatalog,
    thresholdText,
    select,
    reveal,
    setLocked,
    setThreshold,
    setView,
    setSurface,
    setPalette,
    reset,
  };

  /* The Vue plug-in that trame installs. */
  window.nmri3d.plugin = {
    install(app) {
      app.config.globalProperties.nmri = window.nmri3d;
      for (const [name, component] of Object.entries(window.nmri3d.components)) app.component(name, component);
    },
  };
})();
