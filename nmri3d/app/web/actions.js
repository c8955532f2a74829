/* What a person does: steps, plays, selects, turns, scans. Only what the server must know is sent to it.

   Convention. Stepping, playing, threshold, range lock, pulse, camera and surface never send anything, save with remote
   rendering, where the server draws. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, data, trigger, scan, currentStep } = nmri;
  const { reactive, watch } = window.Vue;

  const PLAY_INTERVAL = 500; // ms a token, as the specification asks

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

  /* SCAN: what the open tab shows, fMRI where that takes no prompt. */
  function scanPrompt() {
    store.playing = false;
    const mode = ["DTI", "FLAIR"].includes(store.mode) ? store.mode : "fMRI";
    trigger("scan", store.prompt, mode, mode === "DTI" ? nmri.circuitOptions() : null);
  }

  function setMode(mode) {
    store.playing = false;
    store.hover = null;
    store.mode = mode;
    const shown = scan();
    store.step = shown ? shown.steps - 1 : 0;
    trigger("open_mode", mode);
    nmri.openToolOf(mode);
  }

  const listeners = []; // told of every other selection

  /* Call back with the row (-1 for none) whenever another component is selected. */
  function onSelect(callback) {
    listeners.push(callback);
  }
  watch(
    () => store.selected,
    (row) => listeners.forEach((callback) => callback(row)),
  );

  function select(row) {
    if (row === store.selected) return;
    store.selected = row;
    store.neuron = -1;
    trigger("select", row);
  }

  /* Select from outside the picture: the brain turns to the parcel if it is out of sight. */
  function reveal(row) {
    select(row);
    const { painter } = nmri;
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

  function setBorders(shown) {
    store.borders = shown;
    if (store.remote) trigger("remote_borders", shown);
  }

  function setGlass(wanted) {
    store.glass = { ...store.glass, [store.mode]: wanted };
    if (store.remote) trigger("remote_glass", store.mode, wanted);
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

  function reset() {
    store.playing = false;
    if (nmri.replay.end()) return;
    store.threshold = 0;
    setLocked(false);
    const shown = scan();
    store.step = shown ? shown.steps - 1 : 0;
    if (store.remote && shown) trigger("remote_step", store.step);
    store.edge = null;
    select(-1);
    setView("overview");
    trigger("reset_edits");
  }

  /* Counts requests for a camera preset, so that asking for the same one again turns the camera back; touched: whether the
     person has turned the brain since. */
  const view = reactive({ requests: 0, touched: false });

  // vtk.js listens for r (reset), w (wireframe), s, v wherever the pointer rests, also while a prompt is typed.
  window.addEventListener("keyup", (event) => event.code === "KeyR" && event.stopPropagation(), true);
  window.addEventListener(
    "keypress",
    (event) => event.target instanceof Element && event.target.closest(".brain-view") && event.stopPropagation(),
    true,
  );

  Object.assign(nmri, {
    view,
    setStep,
    setPlaying,
    setMode,
    scanPrompt,
    chooseModel,
    select,
    onSelect,
    reveal,
    setLocked,
    setThreshold,
    setBorders,
    setGlass,
    setView,
    setPalette,
    reset,
  });
})();
