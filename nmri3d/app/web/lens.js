/* FLAIR's panel: for each layer and sub-layer how far its answer is from the final one and how unlike the template that is;
   and the logit lens: what each layer would answer.

   Convention. High means unlike the template, never "wrong". Percentiles run from 0 to 100; KL and entropy are in nats.

   Left out: how they are measured (nmri3d/scans/flair.py, nmri3d/template). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;
  const { computed, onBeforeUnmount, onMounted, ref, watch } = window.Vue;

  const opened = new WeakMap();

  /* The arrays of a FLAIR payload, [rows, positions] each. */
  function arrays(flair) {
    if (!opened.has(flair)) {
      const names = ["kl", "entropy", "percentile_kl", "percentile_entropy", "score", "summary", "final_entropy", "one_minus_max_probability"];
      opened.set(flair, Object.fromEntries(names.map((name) => [name, flair[name] ? nmri.typed(Float32Array, flair[name]) : null])));
    }
    return opened.get(flair);
  }

  const stepOf = (flair) => Math.min(nmri.currentStep(), flair.tokens.length - 1);

  /* Facts of a component in FLAIR: those of its sub-layer at the shown token, as [name, text]. */
  nmri.anomalyFacts = function anomalyFacts(flair, row) {
    const table = nmri.geometry();
    if (!flair || !table) return [];
    const site = { head: "attn", mlp: "mlp" }[table.kind[row]];
    const exact = flair.rows.findIndex((one) => one.layer === table.layer[row] && one.site === site);
    // Parallel blocks have one point only, after the block.
    const at = exact >= 0 ? exact : flair.rows.findIndex((one) => one.layer === table.layer[row]);
    if (!site || at < 0) return [];
    const data = arrays(flair);
    const cell = at * flair.tokens.length + stepOf(flair);
    const text = (name, unit) => [name, data[name] ? `${nmri.format(data[name][cell])}${unit}` : "–"];
    const [kl, entropy] = [text("kl", " nats"), text("entropy", " nats")];
    const [klRank, entropyRank] = [text("percentile_kl", " %"), text("percentile_entropy", " %")];
    return [
      ["KL", kl[1]],
      ["percentile", klRank[1]],
      ["entropy", entropy[1]],
      ["percentile", entropyRank[1]],
    ];
  };

  /* Where the value of a component in FLAIR was taken, in words. */
  nmri.anomalyPlace = function anomalyPlace(flair, row) {
    const table = nmri.geometry();
    const kind = table ? table.kind[row] : "";
    if (!flair || (kind !== "head" && kind !== "mlp")) return "";
    const after = kind === "head" && flair.rows.some((one) => one.site === "attn");
    return after ? "after its attention: a head shows its sub-layer's value" : "after its block";
  };

  const HEIGHT = 60;
  const LINES = [
    ["kl", "KL"],
    ["entropy", "entropy"],
  ];

  nmri.components["nmri-anomaly"] = {
    props: { flair: Object },
    template: `
      <div class="anomaly" data-testid="anomaly">
        <p class="facts">
          after <b>{{ nmri.tokenText(flair.tokens[step]) }}</b>:
          <template v-if="flair.has_template">score <b data-testid="flair-score">{{ nmri.format(data.summary[step]) }}</b> of 100, high is unlike the template, never “wrong” · </template>
          entropy <b data-testid="final-entropy">{{ nmri.format(data.final_entropy[step]) }}</b> nats ·
          1 − max p <b data-testid="one-minus-p">{{ nmri.format(data.one_minus_max_probability[step]) }}</b>
        </p>
        <svg class="profile" :viewBox="'0 0 ' + flair.rows.length + ' ${HEIGHT}'" preserveAspectRatio="none" role="img" :aria-label="label" data-testid="profile"
          @pointermove="hover" @pointerleave="at = -1" @click="pick">
          <g v-if="flair.has_template"><rect v-for="(bar, i) in bars" :key="i" :x="i + 0.1" width="0.8" :y="${HEIGHT} - bar.size" :height="bar.size" :class="{ off: !bar.enabled }"></rect></g>
          <path v-for="line in lines" :key="line.name" :d="line.path" :class="line.name" vector-effect="non-scaling-stroke"></path>
          <line v-if="at >= 0" :x1="at + 0.5" :x2="at + 0.5" y1="0" y2="${HEIGHT}" class="cursor" vector-effect="non-scaling-stroke"></line>
        </svg>
        <p class="axis" aria-hidden="true"><span>layer 0</span><span>layer {{ flair.layers - 1 }}</span></p>
        <p class="axis legend"><span v-for="line in lines" :key="line.name" :class="line.name">— {{ line.title }}, to {{ nmri.format(line.top) }}</span><span v-if="flair.has_template" class="score">▮ score, to 100</span></p>
        <p class="readout" aria-live="polite" data-testid="profile-readout">{{ readout }}</p>
      </div>`,
    setup(props) {
      const at = ref(-1);
      const data = computed(() => arrays(props.flair));
      const step = computed(() => stepOf(props.flair));
      const width = computed(() => props.flair.tokens.length);
      const column = (name) =>
        props.flair.rows.map((_, row) => (data.value[name] ? data.value[name][row * width.value + step.value] : NaN));
      /* Each line has a scale of its own: KL may be twenty times the entropy. */
      const lines = computed(() =>
        LINES.map(([name, title]) => {
          const values = column(name);
          const top = Math.max(...values.filter(Number.isFinite), 1e-6);
          let path = "";
          values.forEach((value, row) => {
            if (Number.isFinite(value)) path += `${path ? "L" : "M"}${row + 0.5} ${(HEIGHT * (1 - value / top)).toFixed(2)}`;
          });
          return { name, title, top, path };
        }),
      );
      const bars = computed(() =>
        column("score").map((value, row) => ({
          size: Number.isFinite(value) ? Math.max(0.5, (HEIGHT * value) / 100) : 0,
          enabled: props.flair.rows[row].enabled,
        })),
      );
      const placeName = (row) => `layer ${row.layer}, after ${row.site === "attn" ? "attention" : "the block"}`;
      const readout = computed(() => {
        if (at.value < 0) return "";
        const row = props.flair.rows[at.value];
        const value = (name) => nmri.format(column(name)[at.value]);
        const rank = (name) => (props.flair.has_template ? ` (${value(name)} %)` : "");
        const score = props.flair.has_template ? `, score ${value("score")}${row.enabled ? "" : ", which does not count"}` : "";
        return `${placeName(row)}: KL ${value("kl")}${rank("percentile_kl")}, entropy ${value("entropy")}${rank("percentile_entropy")}${score}`;
      });
      const label = computed(() => `KL, entropy and score of ${props.flair.rows.length} sub-layers after ${nmri.stepAt(step.value)}`);
      function hover(event) {
        const place = event.currentTarget.getBoundingClientRect();
        const share = (event.clientX - place.left) / place.width;
        at.value = Math.max(0, Math.min(props.flair.rows.length - 1, Math.floor(share * props.flair.rows.length)));
      }
      function pick(event) {
        hover(event);
        const { layer, site } = props.flair.rows[at.value];
        const table = nmri.geometry();
        const id = site === "attn" ? `blocks.${layer}.attn.head_0` : `blocks.${layer}.mlp`;
        if (table.rowOfId.has(id)) nmri.reveal(table.rowOfId.get(id));
      }
      return { at, data, step, lines, bars, readout, label, hover, pick, nmri };
    },
  };

  // -- logit lens -------------------------------------------------------------------------------------------------

  const CELL = 62; // px of a column, before zoom

  nmri.components["nmri-lens"] = {
    props: { lens: Object },
    template: `
      <div class="lens" ref="box" data-testid="lens">
        <div class="lens-head">
          <h3>Logit lens · best token</h3>
          <span v-if="shown.length < lens.tokens.length">
            <button type="button" class="small" aria-label="Earlier tokens" :disabled="first === 0" @click="slide(-1)">◀</button>
            tokens {{ first }}–{{ first + shown.length - 1 }} of {{ lens.tokens.length }}
            <button type="button" class="small" aria-label="Later tokens" :disabled="first + shown.length >= lens.tokens.length" @click="slide(1)">▶</button>
          </span>
        </div>
        <div class="lens-scroll">
          <table>
            <thead><tr><th></th><th v-for="column in shown" :key="column" :class="{ on: column === step }" scope="col">{{ nmri.tokenText(lens.tokens[column]) }}</th></tr></thead>
            <tbody>
              <tr v-for="row in order" :key="row">
                <th scope="row">{{ lens.rows[row].layer }}{{ lens.rows[row].site === 'attn' ? ' a' : '' }}</th>
                <td v-for="column in shown" :key="column"><button type="button" :class="{ on: chosen && chosen.row === row && chosen.column === column, now: column === step }" :style="shade(row, column)"
                  :data-testid="'lens-' + row + '-' + column" :title="titleOf(row, column)" @click="choose(row, column)">{{ nmri.tokenText(best(row, column)[0].text) }}</button></td>
              </tr>
            </tbody>
          </table>
        </div>
        <div v-if="chosen" class="lens-best" data-testid="lens-best">
          <p class="facts">{{ nameOf(chosen.row) }}, after <b>{{ nmri.tokenText(lens.tokens[chosen.column]) }}</b></p>
          <ol class="predictions">
            <li v-for="(one, i) in best(chosen.row, chosen.column)" :key="i"><span class="word">{{ nmri.tokenText(one.text) }}</span><span class="meter"><i :style="{ width: 100 * one.p + '%' }"></i></span><b>{{ one.p.toFixed(3) }}</b></li>
          </ol>
        </div>
      </div>`,
    setup(props) {
      const box = ref(null);
      const room = ref(4);
      const first = ref(0);
      const chosen = ref(null);
      const p = computed(() => nmri.typed(Float32Array, props.lens.probability));
      const step = computed(() => {
        const scan = nmri.scan();
        return scan && scan.steps === props.lens.tokens.length ? nmri.currentStep() : props.lens.tokens.length - 1;
      });
      const shown = computed(() => {
        const count = Math.min(room.value, props.lens.tokens.length);
        const start = Math.max(0, Math.min(first.value, props.lens.tokens.length - count));
        return Array.from({ length: count }, (_, i) => start + i);
      });
      /* The last layers matter most, and stand on top. */
      const order = computed(() => props.lens.rows.map((_, at) => props.lens.rows.length - 1 - at));
      const follow = () => (first.value = Math.max(0, Math.min(step.value - Math.floor(room.value / 2), props.lens.tokens.length - room.value)));
      watch([step, room, () => props.lens], follow);
      watch(() => props.lens, () => (chosen.value = null));
      function measure() {
        if (!box.value) return;
        const zoom = parseFloat(getComputedStyle(box.value).fontSize) / 11;
        room.value = Math.max(2, Math.floor((box.value.clientWidth - 34 * zoom) / (CELL * zoom)));
      }
      const watcher = new ResizeObserver(() => window.requestAnimationFrame(measure));
      onMounted(() => {
        watcher.observe(box.value);
        follow();
      });
      onBeforeUnmount(() => watcher.disconnect());
      const slide = (by) => (first.value = Math.max(0, Math.min(shown.value[0] + by * shown.value.length, props.lens.tokens.length - room.value)));
      function best(row, column) {
        const at = (row * props.lens.tokens.length + column) * props.lens.k;
        return Array.from({ length: props.lens.k }, (_, i) => ({ text: props.lens.text[at + i], p: p.value[at + i] }));
      }
      const nameOf = (row) => `layer ${props.lens.rows[row].layer}, ${props.lens.rows[row].site === 'attn' ? 'after attention' : 'after the block'}`;
      const shade = (row, column) => ({ background: `rgba(102, 170, 136, ${0.55 * best(row, column)[0].p})` });
      const titleOf = (row, column) => `${nameOf(row)}, after ${nmri.tokenText(props.lens.tokens[column])}: ${nmri.tokenText(best(row, column)[0].text)} ${best(row, column)[0].p.toFixed(3)}`;
      function choose(row, column) {
        const again = chosen.value && chosen.value.row === row && chosen.value.column === column;
        chosen.value = again ? null : { row, column };
        if (nmri.scan() && nmri.scan().steps === props.lens.tokens.length) {
          const start = shown.value[0];
          nmri.setStep(column);
          window.Vue.nextTick(() => (first.value = start)); // the columns stay under the pointer
        }
      }
      return { box, first, chosen, step, shown, order, slide, best, shade, nameOf, titleOf, choose, nmri };
    },
  };
})();
