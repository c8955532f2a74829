/* Runs that take their time: the button with its estimate and the question before a long one; a trace's heat maps; a
   sweep's ranking.

   Left out: progress and cancel, which the prompt bar shows for all work. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;
  const { computed, onMounted, ref, watch } = window.Vue;

  const PATIENCE = 400; // ms after the last change before an estimate is asked for

  nmri.components["nmri-run"] = {
    props: { what: String, title: String, estimate: Object, ask: Object, options: Object, busy: Boolean, ready: Boolean },
    template: `
      <div class="run">
        <button type="button" class="primary wide" :data-testid="what + '-button'" :disabled="busy || !ready || !store.prompt.trim()" :title="store.prompt.trim() ? '' : 'Type a prompt first'" @click="run(false)">{{ title }}</button>
        <p v-if="ask" class="ask" role="alertdialog" :aria-label="'Run ' + what + '?'" :data-testid="what + '-ask'">
          This takes about {{ nmri.durationText(ask.seconds) }}.
          <button type="button" class="small" :data-testid="what + '-yes'" @click="run(true)">RUN IT</button>
          <button type="button" class="small" :data-testid="what + '-no'" @click="nmri.trigger('withdraw_question')">LEAVE IT</button>
        </p>
        <p v-else class="hint" :data-testid="what + '-estimate'">{{ text }}</p>
      </div>`,
    setup(props) {
      let timer = 0;
      const question = () => [props.what, store.prompt, { ...props.options }];
      const stale = ref(false); // the estimate shown is that of other options
      const key = computed(() => JSON.stringify([store.prompt, props.options]));
      const guess = () => props.ready && store.prompt.trim() && nmri.trigger("estimate", ...question());
      onMounted(guess);
      watch(
        () => [key.value, props.ready],
        () => {
          stale.value = true;
          window.clearTimeout(timer);
          timer = window.setTimeout(guess, PATIENCE);
        },
      );
      watch(() => props.estimate, (estimate) => estimate || (stale.value = false));
      const text = computed(() => {
        const { estimate } = props;
        if (!store.prompt.trim()) return "Type a prompt below.";
        if (!estimate || stale.value) return "measuring how long it would take …";
        return estimate.error || (estimate.seconds < 1 ? "under a second" : `about ${nmri.durationText(estimate.seconds)}`);
      });
      const run = (sure) => nmri.trigger(props.what, store.prompt, { ...props.options }, sure);
      return { text, run, store, nmri };
    },
  };

  // -- causal tracing ---------------------------------------------------------------------------------------------

  const SITE_NAMES = { resid: "residual entering", attn: "attention", mlp: "MLP" };

  nmri.components["nmri-trace"] = {
    props: { trace: Object },
    template: `
      <div class="trace" data-testid="trace">
        <p class="facts">
          {{ trace.method === "noise" ? "noise on" : "corrupted prompt" }}
          <b v-for="at in trace.marked" :key="at">{{ nmri.tokenText(trace.tokens[at]) }}</b>
          · <nmri-metric :target="trace.target" :foil="trace.foil"></nmri-metric>:
          clean {{ nmri.format(trace.clean) }}, corrupt {{ nmri.format(trace.corrupt) }}
        </p>
        <p v-if="trace.note" class="hint" data-testid="trace-note">{{ trace.note }}</p>
        <nmri-heat-scale :limit="limit" units="recovery"></nmri-heat-scale>
        <div class="trace-maps">
          <section v-for="(site, i) in trace.sites" :key="site">
            <h3>{{ SITE_NAMES[site] || site }}</h3>
            <nmri-heatmap :values="maps[i]" :rows="rows" :columns="trace.tokens" :limit="limit" :label="'Recovery, ' + (SITE_NAMES[site] || site)"
              :describe="describe[i]" :current="step" :marked="trace.marked" :name="'trace-' + site" @pick="(row, column) => pick(site, row, column)"></nmri-heatmap>
          </section>
        </div>
      </div>`,
    setup(props) {
      const maps = computed(() => {
        const all = nmri.typed(Float32Array, props.trace.values);
        const size = props.trace.layers * props.trace.tokens.length;
        return props.trace.sites.map((_, i) => all.subarray(i * size, (i + 1) * size));
      });
      const errors = computed(() => nmri.typed(Float32Array, props.trace.stderr));
      const limit = computed(() => Math.max(...maps.value.map(nmri.largest)));
      // The last row is before the final norm.
      const rows = computed(() => Array.from({ length: props.trace.layers }, (_, i) => (i === props.trace.layers - 1 ? "end" : String(i))));
      const step = computed(() => (nmri.scan() && nmri.scan().steps === props.trace.tokens.length ? nmri.currentStep() : -1));
      const place = (site, row) => (rows.value[row] === "end" ? "residual before the final norm" : `${SITE_NAMES[site] || site} ${site === "resid" ? "block" : "of layer"} ${row}`);
      const describe = computed(() =>
        props.trace.sites.map((site, i) => (row, column, value) => {
          const where = `${place(site, row)}, ${nmri.tokenText(props.trace.tokens[column])} (${column})`;
          if (Number.isNaN(value)) {
            const none = rows.value[row] === "end" && site !== "resid";
            return `${none ? `no ${SITE_NAMES[site]} after the last layer` : where}: blank${none ? "" : `, ${props.trace.note || "it was not asked for"}`}`;
          }
          const error = errors.value[(i * props.trace.layers + row) * props.trace.tokens.length + column];
          return `${where}: recovery ${nmri.format(value)}${Number.isFinite(error) ? ` ± ${nmri.format(error)}` : ""}`;
        }),
      );
      /* A cell stands for a component, or for the residual, which has none; and for a token. */
      function pick(site, row, column) {
        const table = nmri.geometry();
        if (step.value >= 0) nmri.setStep(column);
        const wanted = site === "mlp" ? `blocks.${row}.mlp` : site === "attn" ? `blocks.${row}.attn.head_0` : row === 0 ? "embed" : `blocks.${row - 1}.mlp`;
        if (!table.rowOfId.has(wanted)) return;
        nmri.reveal(site === "attn" ? strongestHead(table, row) : table.rowOfId.get(wanted));
      }
      /* The head of a layer with the largest shown value; a row of the map is all of them together. */
      function strongestHead(table, layer) {
        const shown = nmri.values();
        let best = -1;
        table.kind.forEach((kind, row) => {
          if (kind !== "head" || table.layer[row] !== layer) return;
          if (best < 0 || (shown && Math.abs(shown[row]) > Math.abs(shown[best]))) best = row;
        });
        return best;
      }
      return { maps, limit, rows, step, describe, pick, SITE_NAMES, nmri };
    },
  };

  // -- sweep ------------------------------------------------------------------------------------------------------

  const MOST = 60;

  nmri.components["nmri-sweep"] = {
    props: { sweep: Object },
    template: `
      <div class="sweep" data-testid="sweep">
        <p class="facts">
          <nmri-metric :target="sweep.target" :foil="sweep.foil"></nmri-metric> = {{ nmri.format(sweep.clean) }} ·
          {{ EFFECTS[sweep.effect] }} · {{ sweep.count }} components
        </p>
        <div class="paintings">
          <span>BRAIN</span>
          <button type="button" data-testid="paint-sweep" :class="{ on: store.painting === 'sweep' }" :aria-pressed="store.painting === 'sweep'" @click="nmri.trigger('paint', store.painting === 'sweep' ? '' : 'sweep')">PAINT THE SWEEP</button>
        </div>
        <ol class="ranking" data-testid="sweep-ranking">
          <li v-for="[row, value] in ranked" :key="row">
            <button type="button" :class="{ on: row === store.selected }" :title="nmri.geometry().ids[row] + ': ' + value + ' ' + sweep.units" @click="nmri.reveal(row)">
              <span>{{ nmri.shortName(row) }}</span><span class="meter"><i :style="{ width: 100 * Math.abs(value) / most + '%', background: nmri.signColor(value) }"></i></span><b>{{ value > 0 ? "+" : "" }}{{ nmri.format(value) }}</b>
            </button>
          </li>
        </ol>
      </div>`,
    setup(props) {
      const EFFECTS = { zero: "set to zero", mean: "set to the template mean", patch: "patched from the corrupted prompt" };
      const ranked = computed(() => {
        const values = nmri.typed(Float32Array, props.sweep.values);
        const rows = Array.from(values.keys()).filter((row) => Number.isFinite(values[row]));
        return rows.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a])).slice(0, MOST).map((row) => [row, values[row]]);
      });
      const most = computed(() => (ranked.value.length ? Math.abs(ranked.value[0][1]) || 1 : 1));
      return { ranked, most, EFFECTS, store, nmri };
    },
  };
})();
