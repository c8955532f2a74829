/* The shape of the brain: which surface or layout is shown, the way between two, and the flight to another layout.

   Convention. Surfaces and layouts of balls are forms of one mesh: a change is a mix of two arrays here (forms.js). Another
   cortical layout is another mesh: the server builds it and tells where its parcels lie; the old parcels curl up into balls
   and fly there, the new mesh takes over from a copy of the picture (bridge.js) and unfolds. Selection and scans belong to
   components and stay. With reduced motion there is the swap alone.

   Left out: drawing (painter.js), building (nmri3d/app/parts/layout.py). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, data, forms, motion } = nmri;
  const { reactive } = window.Vue;

  const SURFACES = [
    ["pial", "pial", "The folded cortex as it is"],
    ["white", "white", "The boundary of the white matter"],
    ["inflated", "inflated", "Smoothed, so that the sulci are seen"],
    ["sphere", "sphere", "Each hemisphere as a sphere"],
    ["flat", "flat", "Cut and unrolled into a plane; the medial wall is left out"],
  ];
  const CORTICAL = [
    ["anatomical", "anatomical", "Depth runs from the occipital to the frontal pole; attention left, MLPs right"],
    ["umap", "umap", "Similar components lie side by side (UMAP)"],
    ["spectral", "spectral", "Components that compose lie side by side (Laplacian eigenmaps)"],
  ];
  const NODES = [
    ["stack", "stack", "A ball a component, layers stacked in order"],
    ["radial", "radial", "A ball a component, layers about the middle, the first innermost"],
    ["network", "network", "A ball a component, drawn together by how alike they are"],
  ];
  const FLIGHT_LIMIT = 4000; // ms after which the swap happens whether or not the balls have landed

  const state = reactive({
    from: "pial", // ends of the slider, and where it stands
    to: "inflated",
    share: 0,
    busy: "", // name of a form under way
  });

  let ticket = 0; // of the newest wish
  let kept = null; // {pose, center, radius}: what the next mesh of the same model begins with

  const isNodes = (name) => NODES.some(([node]) => node === name);
  const isCut = (name) => name === "flat";

  /* Name of the form that the menus ask for. */
  function wanted() {
    return isNodes(store.layout) ? store.layout : store.surface;
  }

  /* What is shown, for the server: two forms, and the share of the way from the first to the second. */
  function parts() {
    if (store.remote || state.share <= 0 || state.share >= 1) return [wanted(), wanted(), 0];
    return [state.from, state.to, state.share];
  }

  /* Whether what is shown has the places of an anatomy. */
  function isAnatomy() {
    return !isNodes(store.layout);
  }

  /* The menus name the end that is nearer. */
  function nameInMenus(name) {
    if (isNodes(name)) store.layout = name;
    else {
      store.surface = name;
      if (data.geometry && data.geometry.layout) store.layout = data.geometry.layout;
    }
    store.wanted.layout = store.layout;
  }

  /* Move from what is shown to a form. */
  async function go(name) {
    const here = (ticket += 1);
    const before = state.share < 0.5 ? state.from : state.to;
    if (store.remote) {
      nameInMenus(name);
      nmri.trigger("remote_form", name);
      return;
    }
    nameInMenus(name);
    state.busy = name;
    const form = await forms.fetch(name);
    if (here !== ticket) return;
    state.busy = "";
    const { painter } = nmri;
    if (!form || !painter) {
      if (!form) nameInMenus(before);
      return;
    }
    if (name !== before) Object.assign(state, { from: before, to: name });
    state.share = name === state.from ? 0 : 1;
    const kind = painter.form.kind;
    const cut = kind === "flat" || form.kind === "flat";
    if (cut && painter.form !== form) nmri.bridge.hold(painter);
    painter.setForm(form, !cut);
    nmri.fitView(kind !== form.kind, !cut);
    if (cut) nmri.bridge.release(300);
  }

  function setSurface(name) {
    return go(name);
  }

  /* A choice of the layout menu or panel: {layout, features, area}, what is missing stays. */
  function setLayout(choice) {
    const next = { ...store.wanted, ...choice };
    const { geometry } = data;
    store.wanted = next;
    if (isNodes(next.layout)) return go(next.layout);
    const built = geometry || {};
    if (["layout", "features", "area"].every((name) => built[name] === next[name])) return go(store.surface);
    nmri.trigger("layout", next);
    return null;
  }

  /* The layout that was chosen did not come: the menus name what is shown. */
  function goBack() {
    const { layout, features, area } = data.geometry || store.wanted;
    store.wanted = { layout: isNodes(store.layout) ? store.layout : layout, features, area };
  }

  /* The slider between the two ends; it never asks the server twice. */
  async function setShare(value) {
    const share = Math.max(0, Math.min(1, Number(value) || 0));
    const here = (ticket += 1);
    state.share = share;
    nameInMenus(share < 0.5 ? state.from : state.to);
    const ends = [data.geometry.forms[state.from], data.geometry.forms[state.to]];
    const [a, b] = ends.every(Boolean) ? ends : await Promise.all([forms.fetch(state.from), forms.fetch(state.to)]);
    if (here === ticket && a && b && nmri.painter) {
      const kind = nmri.painter.form.kind;
      nmri.painter.setMix(a, b, share);
      if (nmri.painter.form.kind !== kind) nmri.readOrientation();
    }
  }

  /* Whether the slider's ends can be mixed: a flat surface has other faces. */
  const canMix = () => !store.remote && Boolean(data.geometry) && !isCut(state.from) && !isCut(state.to);

  // -- another cortical layout ----------------------------------------------------------------------------------

  /* The server has built it: curl up, fly there, and say so. {center, radius, epoch}. */
  async function fly(flight) {
    if (!flight) return;
    const { painter } = nmri;
    const { geometry } = data;
    kept = null;
    if (painter && geometry) {
      const center = nmri.typed(Float32Array, flight.center);
      const radius = nmri.typed(Float32Array, flight.radius);
      kept = { pose: painter.stand.pose, kind: painter.form.kind, center, radius, unfold: false };
      if (!motion.reduced() && (await forms.fetchDirections()) && nmri.painter === painter) {
        painter.setForm(forms.balls(geometry, "flight", center, radius, null), true);
        await landed(painter);
        kept.pose = painter.stand.pose;
        kept.unfold = true;
      }
      nmri.bridge.hold(painter);
    }
    nmri.trigger("flown", flight.epoch);
  }

  async function landed(painter) {
    const limit = performance.now() + FLIGHT_LIMIT;
    while (painter.morph && performance.now() < limit) await new Promise((done) => window.setTimeout(done, 20));
  }

  /* A new mesh begins: give its painter the form to begin with, and return what to do after its first picture. */
  async function begin(painter) {
    const { geometry } = data;
    if (geometry.again) nmri.trigger("brain_shown", geometry.epoch); // the view before this one is gone
    const start = kept;
    kept = null;
    const name = wanted();
    Object.assign(state, { from: name, to: name === "inflated" ? "pial" : "inflated", share: 0, busy: "" });
    const form = await forms.fetch(name);
    // A camera that fitted another kind of form shows too much of this one, or too little.
    const fit = (animate) => nmri.fitView(Boolean(start && form && start.kind !== form.kind), animate);
    if (start && start.unfold && !motion.reduced() && (await forms.fetchDirections())) {
      painter.setForm(forms.balls(geometry, "flight", start.center, start.radius, null), false);
      const unfold = () => {
        if (form) painter.setForm(form, form.kind !== "flat");
        fit(true);
      };
      return { pose: start.pose, after: unfold };
    }
    if (form) painter.setForm(form, false);
    return { pose: start && start.pose, after: () => fit(false) };
  }

  nmri.shape = { state, SURFACES, CORTICAL, NODES, isNodes, isAnatomy, wanted, parts, canMix, setShare, goBack, fly, begin };
  Object.assign(nmri, { setSurface, setLayout });
})();
