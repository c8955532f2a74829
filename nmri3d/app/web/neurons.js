/* The neuron level: MLP parcels show their neurons when a person asks for it, or comes close.

   Convention. `state.chosen` is what a person wants (null: nothing said), `state.near` whether the camera is close enough for
   neurons to be told apart; `store.neurons` is what follows from both. Where the neurons lie is fetched once a brain; a step
   of a scan when it is first shown, and kept with that scan. A step is one byte a neuron; a raw value is asked for where the
   pointer rests. Where there are no values, parcels are shown and words say why.

   Left out: drawing (neuron_layer.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, data } = nmri;
  const { computed, onBeforeUnmount, reactive, ref, watch } = window.Vue;

  // The level comes by itself where a neuron is `pixels` wide and the picture `tall` mm high; it goes a little later.
  const COMES = { pixels: 8, tall: 100 };
  const GOES = { pixels: 6, tall: 125 };
  const REST = 90; // ms that the pointer rests before a value is asked for
  const NOT_OF_NEURONS = {
    DTI: "DTI measures paths between whole components: no values of single neurons. Parcels are shown.",
    FLAIR: "FLAIR reads the residual after a whole sub-layer: no values of single neurons. Parcels are shown.",
  };

  const state = reactive({
    chosen: null,
    near: false,
    busy: "", // "chart" or "step" while it is fetched
    words: "", // why there are parcels though neurons are wanted
    bar: null, // {vmin, vmax, scale, ticks, units, palette} of what is shown, null while parcels are
    count: 0,
  });
  let layer = null; // of the painter at work
  let facts = null; // {count, across}
  let kept = new WeakMap(); // by scan: Map of steps
  let lockedBars = {}; // by mode: the bar that was shown when the range was locked
  let asked = 0;

  function follow() {
    store.neurons = state.chosen === null ? state.near : state.chosen;
  }

  /* A person wants neurons, or parcels. */
  function choose(wanted) {
    state.chosen = wanted;
    follow();
  }

  // -- near and far ---------------------------------------------------------------------------------------------

  function look() {
    if (!layer || !facts || !facts.count) return;
    const { stand, view } = layer.painter;
    const pixel = stand.pixelSize(); // mm a CSS pixel
    const tall = (pixel * view.openglRenderWindow.getSize()[1]) / window.devicePixelRatio;
    const wide = facts.across / pixel;
    const limit = state.near ? GOES : COMES;
    const near = wide >= limit.pixels && tall <= limit.tall;
    if (near === state.near) return;
    state.near = near;
    follow();
  }

  // -- fetching -------------------------------------------------------------------------------------------------

  /* Have the chart of the brain that is shown; whether it is there. */
  async function chartReady(mine) {
    if (layer.chart) return true;
    const { geometry } = layer.painter;
    if (!geometry.neuronChart) {
      state.busy = "chart";
      const payload = await nmri.trigger("neuron_chart", geometry.epoch);
      if (payload) geometry.neuronChart = await nmri.neuronLayer.openChart(payload);
    }
    if (mine !== asked || !layer || layer.painter.geometry !== geometry) return false;
    if (geometry.neuronChart) layer.setChart(geometry.neuronChart);
    return Boolean(layer.chart);
  }

  function lockedBar() {
    return store.locked ? lockedBars[store.mode] || null : null;
  }

  /* The shown step of a scan's neurons, {codes, bar} or {error}. */
  async function stepOf(scan) {
    const step = nmri.currentStep();
    const locked = lockedBar();
    const key = JSON.stringify([step, locked && [locked.vmin, locked.vmax, locked.scale, locked.units]]);
    if (!kept.has(scan)) kept.set(scan, new Map());
    const steps = kept.get(scan);
    if (!steps.has(key)) {
      state.busy = state.busy || "step";
      const { vmin, vmax, scale, units } = locked || {};
      const found = await nmri.trigger("neuron_step", {
        mode: scan.mode,
        step,
        locked: locked && { vmin, vmax, scale, units },
      });
      if (!found || found.error) return found || { error: "the connection broke; reload the page" };
      steps.set(key, { codes: nmri.typed(Uint8Array, found.codes), bar: { ...found, codes: null } });
    }
    return steps.get(key);
  }

  function wordsAgainst() {
    if (nmri.linked && nmri.linked.state.kind) return "Linked views show parcels; neurons are seen in a single one.";
    if (store.display === "volume") return "The volume shows parcels; neurons are seen on the surface.";
    if (facts && !facts.count) return "This model has no MLP neurons. Parcels are shown.";
    if (NOT_OF_NEURONS[store.mode]) return NOT_OF_NEURONS[store.mode];
    if (nmri.replay.on()) return "A replay shows what was recorded, and that is parcels.";
    if (nmri.painted()) return "Neurons show a tab's own scan, not what is painted in its place. Parcels are shown.";
    if (!nmri.scan()) return store.mode === "fMRI" ? "Scan a prompt, and its neurons are shown." : "";
    return "";
  }

  /* Show what is wanted now: fetch what is missing, then paint. */
  async function refresh() {
    asked += 1;
    const mine = asked;
    if (!layer) return;
    const scan = nmri.scan();
    const words = store.neurons ? wordsAgainst() : "";
    if (!store.neurons || words || !scan) {
      Object.assign(state, { words, bar: null, busy: "" });
      layer.show(false);
      return;
    }
    state.words = "";
    try {
      if (!(await chartReady(mine))) {
        if (mine === asked) {
          state.busy = "";
          layer.show(false); // the panel says why (errors.neuron_level)
        }
        return;
      }
      const found = await stepOf(scan);
      if (mine !== asked || !layer) return;
      state.busy = "";
      if (found.error) {
        Object.assign(state, { words: found.error, bar: null });
        layer.show(false);
        return;
      }
      const { bar } = found;
      const palette = nmri.paletteOf(bar.palette);
      state.bar = bar;
      state.count = layer.chart.count;
      layer.setPaint({ codes: found.codes, range: bar, palette, threshold: store.threshold, marked: markedRow() });
      layer.show(true);
    } catch (broken) {
      if (mine === asked) state.busy = ""; // the connection broke; the page says so
    }
  }

  // -- names, values, choice ----------------------------------------------------------------------------------------

  /* {row, index} of the MLP that a neuron belongs to, and its number there; null for none. */
  function placeOf(neuron) {
    if (!layer || !layer.chart || neuron < 0) return null;
    const found = layer.chart.mlps.find(([, first, count]) => neuron >= first && neuron < first + count);
    return found ? { row: found[0], index: neuron - found[1] } : null;
  }

  function idOf(neuron) {
    const place = placeOf(neuron);
    return place && data.geometry ? `${data.geometry.ids[place.row]}.neuron_${place.index}` : "";
  }

  /* Row of the neuron in the stimulation panel, -1 for none. */
  function markedRow() {
    if (!layer || !layer.chart || store.neuron < 0) return -1;
    const found = layer.chart.mlps.find(([row]) => row === store.selected);
    return found && store.neuron < found[2] ? found[1] + store.neuron : -1;
  }

  /* A click on a neuron: its MLP is selected, and the stimulation panel edits it alone. */
  function pick(neuron) {
    const place = placeOf(neuron);
    if (!place) return;
    nmri.select(place.row);
    store.neuron = place.index;
  }

  // -- the painter's layer ------------------------------------------------------------------------------------------

  nmri.layers.push((painter) => {
    if (!painter.geometry.scene.neurons) return null;
    const own = new nmri.neuronLayer.NeuronLayer(painter);
    layer = own;
    facts = null;
    const watchCamera = painter.camera.onModified(look);
    nmri.trigger("neuron_facts", painter.geometry.epoch).then((found) => {
      if (layer !== own || !found) return;
      facts = found;
      look();
    });
    const close = own.close.bind(own);
    own.close = () => {
      close();
      watchCamera.unsubscribe();
      if (layer !== own) return;
      layer = null;
      state.bar = null;
    };
    refresh();
    return own;
  });

  watch(
    () => [store.neurons, store.mode, store.revision, store.step, store.threshold, store.palette, store.epoch, store.display, nmri.linked && nmri.linked.state.kind],
    refresh,
  );
  watch(() => [store.neuron, store.selected], () => {
    if (!layer || !layer.paint || layer.paint.marked === markedRow()) return;
    layer.setPaint({ ...layer.paint, marked: markedRow() });
  });
  watch(
    () => store.locked,
    (locked) => {
      if (!locked) lockedBars = {};
      else if (state.bar) lockedBars[store.mode] = state.bar;
      refresh();
    },
    { flush: "sync" },
  );
  watch(() => store.revision, () => !data.geometry && Object.assign(state, { chosen: null, near: false, bar: null, words: "" }));

  nmri.neurons = { state, choose, idOf, placeOf, pick, refresh, lockedBar };

  // -- what is said of it --------------------------------------------------------------------------------------------

  /* <nmri-neurons :job :error>: the bar of the neurons, or why there are none. */
  nmri.components["nmri-neurons"] = {
    props: { job: Object, error: String },
    template: `
      <div v-if="store.neurons && (text || state.bar)" class="neuron-level" role="status" data-testid="neuron-level" :data-shown="Boolean(state.bar)">
        <template v-if="state.bar">
          <p>{{ state.count.toLocaleString("en-US") }} NEURONS · {{ state.bar.units }}<i v-if="state.bar.scale !== 'linear'"> · {{ state.bar.scale }}</i></p>
          <p v-if="limit" class="limit">shown: {{ limit }}</p>
          <div class="strip" :style="{ background: gradient }">
            <span v-if="cut" class="cut" :style="cut"></span>
          </div>
          <div class="ends">
            <span v-for="[place, label] in state.bar.ticks" :key="label" :style="{ left: place * 100 + '%' }">{{ label }}</span>
          </div>
        </template>
        <template v-if="text">
          <p :class="{ error: state.busy === '' && error }" data-testid="neuron-words">{{ text }}</p>
          <nmri-progress v-if="state.busy === 'chart' && job" :share="job.share"></nmri-progress>
        </template>
      </div>`,
    setup(props) {
      const gradient = computed(() => {
        const table = state.bar && nmri.paletteOf(state.bar.palette);
        if (!table) return "none";
        return `linear-gradient(to right, ${Array.from({ length: 33 }, (_, i) => nmri.colors.cssColor(table, i / 32)).join(", ")})`;
      });
      const cut = computed(() => {
        if (!state.bar || !store.threshold) return null;
        if (state.bar.scale !== "symmetric") return { left: 0, width: `${100 * store.threshold}%` };
        return { left: `${50 - 50 * store.threshold}%`, width: `${100 * store.threshold}%` };
      });
      const limit = computed(() => {
        if (!state.bar || !store.threshold) return "";
        const value = nmri.format(nmri.colors.valueAt(store.threshold, state.bar));
        return state.bar.scale === "symmetric" ? `|v| ≥ ${value}` : `≥ ${value}`;
      });
      const text = computed(() => {
        if (state.busy === "chart") return props.job ? `Placing the ${props.job.what} · once a model and layout` : "Placing the neurons";
        if (state.busy === "step" && !state.bar) return "Measuring the neurons";
        return state.words || props.error || "";
      });
      return { store, state, gradient, cut, limit, text };
    },
  };

  /* <nmri-neuron-facts :neuron>: what the tooltip says of a neuron; its raw value is asked for when the pointer rests. */
  nmri.components["nmri-neuron-facts"] = {
    props: { neuron: Number },
    template: `
      <b>{{ nmri.neurons.idOf(neuron) }}</b>
      <span>neuron</span>
      <span class="data" data-testid="neuron-value">{{ text }} <i>{{ state.bar ? state.bar.units : "" }}</i></span>
      <span v-if="token" class="dim">at {{ token }}</span>`,
    setup(props) {
      const text = ref("…");
      let timer = 0;
      let ticket = 0;
      const token = computed(() => {
        const scan = nmri.scan();
        return scan && scan.tokens.length ? nmri.tokenText(scan.tokens[nmri.currentStep()]) : "";
      });
      watch(
        () => [props.neuron, store.mode, nmri.currentStep(), store.revision],
        () => {
          window.clearTimeout(timer);
          ticket += 1;
          const mine = ticket;
          text.value = "…";
          timer = window.setTimeout(async () => {
            const found = await nmri.trigger("neuron_value", store.mode, nmri.currentStep(), props.neuron);
            if (mine !== ticket || !found) return;
            text.value = found.error ? found.error : found.value === null ? "not measured" : nmri.format(found.value);
          }, REST);
        },
        { immediate: true },
      );
      onBeforeUnmount(() => {
        ticket += 1;
        window.clearTimeout(timer);
      });
      return { nmri, state, text, token };
    },
  };
})();
