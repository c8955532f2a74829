/* The tracts of a DTI scan: which edges are seen, how they are colored, which one is under the pointer or selected.

   Convention. Edges are those that the server sent (payloads.tracts_payload), strongest first; an edge is its position in
   that list. `state` holds what a person can change here; the selected edge is `store.edge` ({source, target, slot}), so
   that panels and picture share it. Nothing here asks the server, but with remote rendering it is told.

   Left out: geometry (tubes.js), drawing (painter.js), the legend's place on the page (brain_view.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;
  const { computed, reactive, watch } = window.Vue;

  const state = reactive({
    share: null, // share of the effect that the drawn edges carry; null: the strongest few
    colors: "sign", // or "direction"
    hover: -1, // edge under the pointer
  });

  const opened = new WeakMap(); // by payload: typed arrays

  function open(payload) {
    if (!opened.has(payload)) {
      const score = nmri.typed(Float32Array, payload.score);
      const carried = new Float64Array(score.length); // |score| up to and with each edge
      score.reduce((sum, value, at) => (carried[at] = sum + Math.abs(value)), 0);
      opened.set(payload, {
        ...payload,
        source: nmri.typed(Int32Array, payload.source),
        target: nmri.typed(Int32Array, payload.target),
        slot: nmri.typed(Uint8Array, payload.slot),
        score,
        carried,
      });
    }
    return opened.get(payload);
  }

  /* The tracts of what is painted in the DTI tab; null where there are none. */
  function current() {
    const scan = store.mode === "DTI" ? nmri.scan() : null;
    return scan && scan.tracts ? open(scan.tracts) : null;
  }

  /* |score| that the thickest tube stands for: the scan's own largest, or the locked one. */
  function reference() {
    const locked = nmri.lockedRange();
    const tracts = current();
    return (locked && locked.tract_reference) || (tracts ? tracts.reference : 0);
  }

  /* Edges to draw, strongest first: those that the share keeps, and only the selected component's, if there is one. */
  function chosen() {
    const tracts = current();
    if (!tracts) return [];
    const edges = [];
    for (let at = 0; at < tracts.score.length; at += 1) {
      if (state.share === null) {
        if (edges.length >= tracts.rules.first) break;
      } else if (tracts.carried[at] - Math.abs(tracts.score[at]) >= state.share * tracts.total) break;
      if (store.selected < 0 || touches(tracts, at, store.selected)) edges.push(at);
    }
    return edges;
  }

  function touches(tracts, at, row) {
    return tracts.source[at] === row || tracts.target[at] === row;
  }

  /* One edge for people. */
  function edge(at) {
    const tracts = current();
    const table = nmri.geometry();
    if (!tracts || !table || !(at >= 0 && at < tracts.score.length)) return null;
    const [source, target] = [tracts.source[at], tracts.target[at]];
    return {
      index: at,
      source,
      target,
      sourceId: table.ids[source],
      targetId: table.ids[target],
      slot: tracts.slots[tracts.slot[at]],
      score: tracts.score[at],
    };
  }

  /* All edges that were sent, strongest first. */
  function all() {
    const tracts = current();
    return tracts ? Array.from(tracts.score, (_, at) => edge(at)) : [];
  }

  /* The edges into and out of a component, strongest first. */
  function touching(row) {
    return all().filter((one) => one.source === row || one.target === row);
  }

  /* Position of the selected edge, -1 for none. */
  function marked() {
    const tracts = current();
    const wanted = store.edge;
    if (!tracts || !wanted) return -1;
    const slot = tracts.slots.indexOf(wanted.slot);
    return tracts.score.findIndex(
      (_, at) => tracts.source[at] === wanted.source && tracts.target[at] === wanted.target && tracts.slot[at] === slot,
    );
  }

  /* Select the edge at a position, again to let go; -1 for none. */
  function mark(at) {
    const one = at === marked() ? null : edge(at);
    store.edge = one && { source: one.source, target: one.target, slot: one.slot };
  }

  function setShare(share) {
    state.share = share === null ? null : Math.max(0, Math.min(1, Number(share) || 0));
  }

  function setColors(colors) {
    state.colors = colors;
  }

  const css = (color) => `rgb(${color[0]}, ${color[1]}, ${color[2]})`;
  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

  const SLOTS = {
    q: "into its query",
    k: "into its key",
    v: "into its value",
    mlp: "into its input",
    logits: "into the logits",
  };

  /* The legend and what can be chosen of the tubes. */
  nmri.components["nmri-tracts"] = {
    template: `
      <div v-if="tracts" class="tracts" data-testid="tracts-legend" @pointerdown.stop @pointerup.stop @pointermove.stop @wheel.stop @contextmenu.stop>
        <div class="row head">
          <span>TRACTS</span>
          <span role="group" aria-label="Color of the tubes">
            <button v-for="name in ['sign', 'direction']" :key="name" type="button" class="small" :class="{ on: state.colors === name }"
              :aria-pressed="state.colors === name" :data-testid="'tract-colors-' + name" @click="setColors(name)">{{ name }}</button>
          </span>
        </div>
        <div class="row keys">
          <span v-for="[name, color] in keys" :key="name"><i :style="{ background: color }"></i>{{ name }}</span>
        </div>
        <div class="row widths" :title="'A cross-section grows with the size of the score, in ' + scan.units">
          <span v-for="width in widths" :key="width.text"><i :style="{ height: width.height }"></i>{{ width.text }}</span>
        </div>
        <label class="row" title="The fewest edges that carry this share of all measured effect are drawn">SHARE
          <input type="range" min="0" max="1000" step="1" :value="Math.round(1000 * place)" data-testid="tract-share"
            aria-label="Share of the effect that is drawn" @input="setShare($event.target.value / 1000 * most)">
          <output>{{ percent(shown.share) }}</output>
        </label>
        <p data-testid="tract-count">{{ shown.count.toLocaleString("en-US") }} of {{ tracts.count.toLocaleString("en-US") }} measured edges<template v-if="store.selected >= 0">, of this component</template></p>
        <p v-if="tracts.without_place" data-testid="tract-no-place">{{ tracts.without_place.toLocaleString("en-US") }} {{ tracts.without_place === 1 ? "edge has" : "edges have" }} no place</p>
        <p v-if="selected" class="selected" data-testid="tract-selected">
          <b>{{ selected.sourceId }} → {{ selected.targetId }}</b> {{ selected.slot }}
          <span class="data">{{ nmri.format(selected.score) }} <i>{{ scan.units }}</i></span>
          <button type="button" class="small" aria-label="Let go of this tract" @click="store.edge = null">✕</button>
        </p>
      </div>`,
    setup() {
      const tracts = computed(current);
      const scan = computed(nmri.scan);
      const keys = computed(() => {
        const rules = tracts.value.rules;
        if (state.colors === "direction") {
          const [across, along, up] = rules.axis_colors[store.palette];
          return [["left–right", css(across)], ["front–back", css(along)], ["up–down", css(up)]];
        }
        const [negative, positive] = rules.sign_colors[store.palette];
        return [["supports", css(positive)], ["opposes", css(negative)]];
      });
      const widths = computed(() => {
        const { rules } = tracts.value;
        const largest = reference();
        return [1, 0.25, 0.02].map((share) => ({
          text: nmri.format(Number((largest * share).toPrecision(2))),
          height: `${(nmri.tubes.radius(largest * share, largest, rules) / rules.thickest) * 7}px`,
        }));
      });
      const most = computed(() => {
        const { carried, total } = tracts.value;
        return total > 0 && carried.length ? carried[carried.length - 1] / total : 0;
      });
      const shown = computed(() => {
        const edges = chosen();
        const sum = edges.reduce((size, at) => size + Math.abs(tracts.value.score[at]), 0);
        return { count: edges.length, share: tracts.value.total > 0 ? sum / tracts.value.total : 0 };
      });
      // The slider stands where the drawn edges end, also while nobody has moved it.
      const place = computed(() => {
        if (!most.value) return 0;
        if (state.share !== null) return Math.min(1, state.share / most.value);
        const { carried, total, rules } = tracts.value;
        return carried[Math.min(rules.first, carried.length) - 1] / total / most.value;
      });
      const selected = computed(() => edge(marked()));
      return { tracts, scan, state, store, keys, widths, most, shown, place, selected, setShare, setColors, percent, nmri };
    },
  };

  /* What the pointer's tooltip says of an edge. */
  nmri.components["nmri-tract-facts"] = {
    props: { at: Number },
    template: `
      <template v-if="one">
        <b>{{ one.sourceId }}</b>
        <b>→ {{ one.targetId }}</b>
        <span>{{ SLOTS[one.slot] || one.slot }}</span>
        <span class="data">{{ nmri.format(one.score) }} <i>{{ scan.units }}</i></span>
        <span>{{ one.score > 0 ? "supports" : "opposes" }} the target</span>
      </template>`,
    setup(props) {
      return { one: computed(() => edge(props.at)), scan: computed(nmri.scan), nmri, SLOTS };
    },
  };

  watch(
    () => [state.share, state.colors, marked(), current()],
    ([share, colors, at]) => store.remote && nmri.trigger("remote_tracts", share, colors, at),
  );

  nmri.tracts = { state, current, reference, chosen, edge, all, touching, marked, mark, setShare, setColors };
})();
