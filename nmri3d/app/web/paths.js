/* <nmri-paths>: the measured edges of a DTI scan, strongest first, what they were measured by, and the check of one.

   Left out: the tubes (tracts.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;
  const { computed } = window.Vue;

  const SLOTS = { q: "query", k: "key", v: "value", mlp: "MLP input", logits: "logits" };
  const METHODS = { exact: "exact", atp: "attribution patching (preview)", dla: "direct logit attribution" };
  const EFFECTS = { patch: "patched from the corrupted prompt", mean: "replaced by the template mean", zero: "set to zero" };
  const BASELINES = { patch: "corrupted", mean: "all at the mean", zero: "all at zero" };
  const MOST = 100;

  nmri.components["nmri-paths"] = {
    props: { paths: Object, check: Object, error: String },
    template: `
      <div class="paths" data-testid="paths">
        <p class="facts" data-testid="paths-facts">
          <b class="method">{{ METHODS[paths.method] || paths.method }}</b>{{ paths.method === "dla" ? "" : " · " + (EFFECTS[paths.effect] || paths.effect) }}<br>
          <nmri-metric :target="paths.target" :foil="paths.foil"></nmri-metric> after <b>{{ nmri.tokenText(paths.at) }}</b>:
          clean {{ nmri.format(paths.clean) }}<template v-if="Number.isFinite(paths.baseline)">, {{ BASELINES[paths.effect] || "baseline" }} {{ nmri.format(paths.baseline) }}</template>
          <template v-if="Number.isFinite(paths.remainder)"> · remainder {{ nmri.format(paths.remainder) }}</template>
        </p>
        <template v-if="paths.count">
          <p class="facts">
            {{ paths.edges === "eap-ig" ? "EAP-IG" : "EAP" }} measured <b>{{ paths.count.toLocaleString("en-US") }}</b> edges;
            the circuit of <b data-testid="circuit-size">{{ paths.circuit.toLocaleString("en-US") }}</b> that carry {{ (100 * paths.circuit_share).toFixed(0) }} % of the total |score| keeps
            <b data-testid="faithfulness" title="Faithfulness: (m(circuit) − m(none)) / (m(clean) − m(none))">{{ Number.isFinite(paths.faithfulness) ? nmri.format(paths.faithfulness) : "an undefined share" }}</b> of the metric (faithfulness)
            <button type="button" class="small" data-testid="draw-circuit" title="Draw the edges of this circuit, no more and no less" :disabled="nmri.tracts.state.share === paths.circuit_share" @click="nmri.tracts.state.share = paths.circuit_share">DRAW IT</button>
          </p>
          <label class="only" v-if="store.selected >= 0"><input type="checkbox" v-model="store.onlyTouching" data-testid="only-touching"> only those of {{ nmri.shortName(store.selected) }}</label>
          <ol class="ranking edges" data-testid="edges">
            <li v-if="!shown.length" class="hint">No kept edge touches it.</li>
            <li v-for="edge in shown" :key="edge.key">
              <button type="button" :class="{ on: nmri.sameEdge(edge, store.edge) }" :title="titleOf(edge)" :aria-pressed="nmri.sameEdge(edge, store.edge)" @click="nmri.selectEdge(edge)">
                <span>{{ nmri.shortName(edge.source) }} → {{ nmri.shortName(edge.target) }}<i v-if="edge.slot !== 'mlp' && edge.slot !== 'logits'" class="slot">{{ edge.slot }}</i></span>
                <span class="meter"><i :style="{ width: 100 * Math.abs(edge.score) / most + '%', background: nmri.signColor(edge.score) }"></i></span>
                <b>{{ edge.score > 0 ? "+" : "" }}{{ nmri.format(edge.score) }}</b>
              </button>
              <p v-if="nmri.sameEdge(edge, store.edge)" class="verify">
                <button type="button" class="small" data-testid="verify-edge" :disabled="checking(edge)" @click="nmri.trigger('verify_edge', edge.source, edge.target, edge.slot)">VERIFY BY PATH PATCHING</button>
                <span v-if="checking(edge)">measuring …</span>
                <span v-else-if="checked(edge)" data-testid="edge-check">measured <b>{{ nmri.format(check.measured) }}</b>, attributed {{ nmri.format(edge.score) }}</span>
                <span v-else-if="error" class="error" role="alert">{{ error }}</span>
              </p>
            </li>
          </ol>
          <p v-if="paths.kept > MOST && !store.onlyTouching" class="hint">and {{ (paths.kept - MOST).toLocaleString("en-US") }} weaker ones</p>
        </template>
        <p v-else-if="!nmri.refused('edges')" class="hint">No edge was measured.</p>
      </div>`,
    setup(props) {
      const all = computed(() =>
        props.paths.items.map(([source, target, slot, score]) => ({ source, target, slot, score, key: `${source} ${target} ${slot}` })),
      );
      const shown = computed(() => {
        const touching = store.onlyTouching && store.selected >= 0;
        const { selected } = store;
        return (touching ? all.value.filter((edge) => edge.source === selected || edge.target === selected) : all.value).slice(0, MOST);
      });
      const most = computed(() => (all.value.length ? Math.abs(all.value[0].score) || 1 : 1));
      const titleOf = (edge) => {
        const { ids } = nmri.geometry();
        return `${ids[edge.source]} → ${ids[edge.target]}, ${SLOTS[edge.slot] || edge.slot}: ${edge.score} ${props.paths.units}`;
      };
      const mine = (edge) => props.check && nmri.sameEdge(edge, props.check);
      const checking = (edge) => Boolean(mine(edge) && props.check.busy);
      const checked = (edge) => Boolean(mine(edge) && !props.check.busy && Number.isFinite(props.check.measured));
      return { shown, most, titleOf, checking, checked, store, nmri, METHODS, EFFECTS, BASELINES, MOST };
    },
  };

  /* What a component does at each step of the prompt, where the method tells. */
  nmri.components["nmri-by-token"] = {
    props: { paths: Object, tokens: Array, row: Number },
    template: `
      <div v-if="bars.length" class="step-bars" :class="{ named: bars.length <= 12, dense: bars.length > 48 }" role="img" :aria-label="'Effect at each ' + nmri.network.step" data-testid="by-token">
        <span v-for="(bar, i) in bars" :key="i" class="bar" :title="bar.title"><span class="fill" :style="bar.style"></span><span v-if="bars.length <= 12" class="word">{{ bar.word }}</span></span>
      </div>`,
    setup(props) {
      const bars = computed(() => {
        const table = nmri.geometry();
        if (!props.paths || !props.paths.per_position || !table || !(props.row >= 0)) return [];
        const values = nmri.typed(Float32Array, props.paths.per_position);
        const mine = props.tokens.map((_, i) => values[i * table.ids.length + props.row]);
        const most = nmri.largest(mine);
        return mine.map((value, i) => ({
          word: nmri.tokenText(props.tokens[i]),
          title: `${nmri.tokenText(props.tokens[i])}: ${nmri.format(value)}`,
          style: { height: `${Math.max(2, (100 * Math.abs(value)) / most)}%`, background: nmri.signColor(value) },
        }));
      });
      return { bars, nmri };
    },
  };
})();
