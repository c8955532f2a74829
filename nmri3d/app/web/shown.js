/* What is shown: the scan of the open tab, its range, the values of the token, and their texts. Nothing here changes them.

   Convention. Reading one of these functions makes a Vue computation depend on what it reads. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, data } = nmri;

  /* Whether something else than its own scan is painted in the open tab: a run with edits, a sweep. */
  function painted() {
    return Boolean(store.revision >= 0 && store.painting && data.painting && data.painting.mode === store.mode);
  }

  /* What is painted in the open tab: its scan, or what was put in its place; null for nothing. */
  function scan() {
    if (painted()) return data.painting;
    return store.revision >= 0 ? data.scans[store.mode] || null : null;
  }

  function geometry() {
    return store.revision >= 0 ? data.geometry : null;
  }

  /* The color table of what is painted (one that diverges, of signed values), or null before it is there. */
  function palette() {
    const shown = scan();
    return paletteOf(shown ? shown.palette : store.mode);
  }

  /* The color table of a mode; DTI's diverges about zero. */
  function paletteOf(mode) {
    const tables = store.revision >= 0 ? data.palettes[store.palette] : null;
    return (tables && tables[mode]) || null;
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

  /* A token as a chip shows it: white space made visible. What a network of units calls its steps and outputs is words. */
  function tokenText(token) {
    if (!nmri.network.residual) return token || "∅";
    return token.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·") || "∅";
  }

  function thresholdText() {
    const bar = range();
    if (!bar || store.threshold === 0) return "off";
    const limit = format(nmri.colors.valueAt(store.threshold, bar));
    return bar.scale === "symmetric" ? `|v| ≥ ${limit}` : `≥ ${limit}`;
  }

  /* What a place means in the layout that is shown. */
  const AXES = {
    anatomical: "L attention · R MLP · posterior → anterior = depth",
    umap: "near = alike (UMAP of the features)",
    spectral: "near = composed (Laplacian eigenmaps)",
    stack: "layers in order · no anatomy",
    radial: "layers from the middle outwards · no anatomy",
    network: "near = alike · no anatomy",
  };

  /* And of a network without MLPs. */
  const AXES_OF_UNITS = {
    anatomical: "posterior → anterior = depth",
    spectral: "near = alike (Laplacian eigenmaps)",
    stack: "levels in order · no anatomy",
    radial: "levels from the middle outwards · no anatomy",
  };

  /* Whether it is a transformer with MLPs, which have a hemisphere of their own. */
  function hasMlps() {
    const table = geometry();
    return !table || (nmri.network.residual && table.kind.includes("mlp"));
  }

  function axesText() {
    return (!hasMlps() && AXES_OF_UNITS[store.layout]) || AXES[store.layout] || "";
  }

  /* What a layout does, of this network: without MLPs, nothing is said of them. */
  function layoutTitle(what) {
    return hasMlps() ? what : what.split(";")[0];
  }

  /* A layout in a sentence. */
  function layoutText(name) {
    const found = [...nmri.shape.CORTICAL, ...nmri.shape.NODES].find(([layout]) => layout === name);
    return found ? `${layoutTitle(found[2])}.` : "";
  }

  /* Whether the cortex of the open tab is translucent: chosen for each tab. It is at first where it hides other bodies. */
  function isGlass() {
    const { geometry } = data;
    const hides = geometry && geometry.bodies.length && nmri.shape.isAnatomy() && store.surface !== "flat";
    return store.glass[store.mode] ?? Boolean(hides);
  }

  function inCatalog(catalog, name) {
    return catalog.some((group) => group.entries.some((entry) => entry.value === name));
  }

  Object.assign(nmri, {
    painted,
    paletteOf,
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
    thresholdText,
    axesText,
    layoutTitle,
    layoutText,
    isGlass,
    inCatalog,
  });
})();
