/* Keys: what the keyboard does while nothing is typed, and the list of it.

   Convention. `nmri.keys` holds [key, what it does, function] of every feature; other modules may push their own. A key
   with Alt, Control or Meta, or while a field has the focus, is left to the browser. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;
  const { reactive, ref, watch, nextTick } = window.Vue;

  const state = reactive({ open: false });

  function step(by) {
    const shown = nmri.scan();
    if (!shown || shown.steps < 2) return false;
    store.playing = false;
    nmri.setStep(nmri.currentStep() + by);
    return true;
  }

  /* The next of a list after the one that is shown. */
  function after(list, name) {
    const names = list.map(([one]) => one);
    return names[(names.indexOf(name) + 1) % names.length];
  }

  const KEYS = [
    ["ArrowLeft", "the step before (a token's, of a language model)", () => step(-1)],
    ["ArrowRight", "the next step", () => step(1)],
    [" ", "play or pause", () => nmri.setPlaying(!store.playing)],
    ["Escape", "end a replay; else let go of the selection", () => (state.open ? (state.open = false) : nmri.closeSessions() || nmri.replay.end() || nmri.select(-1))],
    ["1", "pial", () => nmri.setSurface("pial")],
    ["2", "white", () => nmri.setSurface("white")],
    ["3", "inflated", () => nmri.setSurface("inflated")],
    ["4", "sphere", () => nmri.setSurface("sphere")],
    ["5", "flat", () => nmri.setSurface("flat")],
    ["n", "the next view", () => nmri.setView(after(nmri.VIEWS, store.view))],
    ["0", "back to this view", () => nmri.setView(store.view)],
    ["y", "the next layout of balls, then the cortex", nextNodes],
    ["b", "borders", () => nmri.setBorders(!store.borders)],
    ["g", "glass", () => nmri.setGlass(!nmri.isGlass())],
    ["f", "flow along the tubes", () => (store.flow = !store.flow)],
    ["m", "reduce motion", () => nmri.motion.setReduced(!nmri.motion.reduced())],
    ["?", "this list", () => (state.open = !state.open)],
  ];

  function nextNodes() {
    const names = [...nmri.shape.NODES.map(([name]) => name), nmri.data.geometry && nmri.data.geometry.layout];
    nmri.setLayout({ layout: names[(names.indexOf(store.layout) + 1) % names.length] });
  }

  function onKey(event) {
    const target = event.target instanceof Element ? event.target : null;
    if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
    if (target && target.closest("input, textarea, select, [contenteditable]")) return;
    if (event.key === " " && target && target.closest("button")) return;
    const found = nmri.keys.find(([key]) => key === event.key);
    if (!found || (!nmri.geometry() && event.key !== "?")) return;
    if (found[2]() !== false) event.preventDefault();
  }
  window.addEventListener("keydown", onKey);

  const NAMES = { ArrowLeft: "←", ArrowRight: "→", " ": "space", Escape: "Esc" };

  nmri.components["nmri-keys"] = {
    template: `
      <button type="button" class="small keys-button" data-testid="keys-button" title="Keys (?)" aria-label="Keys" aria-haspopup="dialog"
        :aria-expanded="state.open" @click="state.open = !state.open">?</button>
      <div v-if="state.open" ref="panel" class="key-list" role="dialog" aria-label="Keys" tabindex="-1" data-testid="keys" @keydown.esc.stop="state.open = false">
        <h2>Keys <button type="button" class="small" aria-label="Close" @click="state.open = false">✕</button></h2>
        <dl><template v-for="[key, what] in nmri.keys" :key="key"><dt><kbd>{{ NAMES[key] || key }}</kbd></dt><dd>{{ what }}</dd></template></dl>
        <p class="hint">Drag turns, Shift and drag moves, the wheel or Control and drag zooms; a click selects.</p>
      </div>`,
    setup() {
      const panel = ref(null);
      watch(() => state.open, (open) => open && nextTick(() => panel.value && panel.value.focus()));
      return { state, nmri, NAMES, panel };
    },
  };

  nmri.keys = KEYS;
})();
