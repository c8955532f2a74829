/* What a person does beside looking: chooses a metric, edits components, traces, sweeps, generates. It asks the server.

   Convention. The choices are in `store` and go with each request; the server checks them and keeps none. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, trigger } = nmri;

  // -- tools of the side column -----------------------------------------------------------------------------------

  function openTool(name) {
    store.tool = name;
    trigger("open_tool", name);
  }

  /* The tool that belongs to a tab opens with it; it closes when another tab is opened. */
  function openToolOf(mode) {
    const wanted = nmri.TOOL_OF_MODE[mode] || "layers";
    const own = ["layers", ...Object.values(nmri.TOOL_OF_MODE)];
    if (own.includes(store.tool) && store.tool !== wanted) openTool(wanted);
  }

  /* Whether the metric (corrupted prompt, target, foil, position) matters for what is open. */
  function needsMetric() {
    return store.mode === "DTI" || ["paths", "trace", "sweep"].includes(store.tool);
  }

  /* ← and → move between the tabs of a list, as in any list of tabs. */
  function onTabKey(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const tabs = [...event.currentTarget.querySelectorAll('[role="tab"]')];
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  }

  // -- the metric -------------------------------------------------------------------------------------------------

  /* What the metric is: texts as typed, "" for the default; position -1 for the last token. */
  function metricOptions() {
    const { corrupt, target, foil, position } = store.metric;
    return { corrupt, target, foil, position };
  }

  /* What stands in for a component: as chosen, else the corrupted prompt's write where there is one, else the mean. */
  function effect() {
    const { effect: chosen } = store.circuit;
    const corrupted = Boolean(store.metric.corrupt.trim());
    return chosen && (chosen !== "patch" || corrupted) ? chosen : corrupted ? "patch" : "mean";
  }

  function circuitOptions() {
    const { method, edges } = store.circuit;
    return { ...metricOptions(), method, effect: effect(), edges };
  }

  // -- edits ------------------------------------------------------------------------------------------------------

  /* Edit the selected component, or the chosen neuron of it. `once`: it acts before the first step only, so there is no choice. */
  function applyEdit(kind, once) {
    const { factor, sigma, seed, here, values, source } = store.edit;
    const position = here && !once ? nmri.currentStep() : null;
    trigger("perturb", { row: store.selected, neuron: store.neuron, kind, factor, sigma, seed, position, values, source });
  }

  // -- paths ------------------------------------------------------------------------------------------------------

  const sameEdge = (a, b) => Boolean(a && b && a.source === b.source && a.target === b.target && a.slot === b.slot);

  /* Select a path; again to let go. */
  function selectEdge(edge) {
    store.edge = sameEdge(edge, store.edge) ? null : { source: edge.source, target: edge.target, slot: edge.slot };
  }

  // -- heads ------------------------------------------------------------------------------------------------------

  function showHead(layer, index) {
    store.head = { layer: Number(layer), index: Number(index) };
    trigger("attention", store.head.layer, store.head.index);
  }

  // -- runs that take their time ----------------------------------------------------------------------------------

  function traceOptions() {
    const { method, window: width, draws, first, last } = store.trace;
    const options = { method, window: width, first, last: last === "" ? -1 : last };
    return { ...metricOptions(), ...options, ...(method === "noise" ? { draws, corrupt: "" } : {}) };
  }

  function sweepOptions() {
    return { ...metricOptions(), effect: store.sweep.effect };
  }

  /* Whether the tokens stay in sight while a piece of work is under way: they come with it, or can be looked at meanwhile. */
  const isBeside = (job) => ["GENERATE", "TEMPLATE"].includes(job.mode);

  /* Seconds for people. */
  function durationText(seconds) {
    if (!(seconds >= 0)) return "an unknown time";
    if (seconds < 1) return "under a second";
    if (seconds < 90) return `${Math.round(seconds)} s`;
    return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  }

  Object.assign(nmri, {
    openTool,
    openToolOf,
    needsMetric,
    onTabKey,
    metricOptions,
    effect,
    circuitOptions,
    applyEdit,
    sameEdge,
    selectEdge,
    showHead,
    traceOptions,
    sweepOptions,
    isBeside,
    durationText,
  });
})();
