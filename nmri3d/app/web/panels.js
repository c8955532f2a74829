/* Panels that follow the token in the browser: color bar, token strip, layer summary, values of the selection, log.

   Convention. Each is a Vue component that reads the store; none sends anything but a selection.

   Left out: the page's frame and everything that only the server knows (nmri3d/app/panels/). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;
  const { computed, nextTick, reactive, ref, watch } = window.Vue;

  const { palette } = nmri;
  const placeOf = (value) => nmri.colors.fraction(value, nmri.range());
  const colorOf = (value) => {
    const place = placeOf(value);
    return Number.isNaN(place) ? "var(--unpainted)" : nmri.colors.cssColor(palette(), place);
  };

  // -- color bar --------------------------------------------------------------------------------------------------

  nmri.components["nmri-color-bar"] = {
    template: `
      <figure v-if="range" class="color-bar" data-testid="color-bar" :aria-label="label">
        <figcaption>{{ scan.units }}<i v-if="range.scale !== 'linear'"> · {{ range.scale }}</i></figcaption>
        <div class="scale">
          <span class="beyond above" :class="{ none: !outside.above }" :title="outside.aboveTitle">▲ {{ outside.above }}</span>
          <div class="bar" :style="{ background: gradient }">
            <span v-if="store.threshold > 0" class="cut" :style="{ height: cut }"></span>
            <span v-for="[place, text] in range.ticks" :key="text" class="tick" :style="{ bottom: place * 100 + '%' }">{{ text }}</span>
          </div>
          <span class="beyond below" :class="{ none: !outside.below }" :title="outside.belowTitle">▼ {{ outside.below }}</span>
        </div>
      </figure>`,
    setup() {
      const scan = computed(nmri.scan);
      const range = computed(nmri.range);
      const gradient = computed(() => {
        const table = palette();
        if (!table) return "none";
        const stops = Array.from({ length: 33 }, (_, i) => nmri.colors.cssColor(table, i / 32));
        return `linear-gradient(to top, ${stops.join(", ")})`;
      });
      const outside = computed(() => {
        const bar = range.value;
        const shown = nmri.values();
        const table = nmri.geometry();
        if (!bar || !shown || !table) return { above: 0, below: 0 };
        const names = { above: [], below: [] };
        for (let row = 0; row < shown.length; row += 1) {
          if (table.kind[row] === "attn_bias") continue;
          if (shown[row] > bar.vmax) names.above.push(row);
          else if (shown[row] < bar.vmin) names.below.push(row);
        }
        const title = (rows, where) =>
          rows.length
            ? `${rows.length} of the shown values ${rows.length === 1 ? "lies" : "lie"} ${where} the bar: ` +
              rows.slice(0, 6).map((row) => `${table.ids[row]} ${nmri.valueText(row)}`).join(", ") +
              (rows.length > 6 ? ", …" : "")
            : `no shown value lies ${where} the bar`;
        return {
          above: names.above.length,
          below: names.below.length,
          aboveTitle: title(names.above, "above"),
          belowTitle: title(names.below, "below"),
        };
      });
      const cut = computed(() => `${100 * store.threshold}%`);
      const label = computed(() => {
        const bar = range.value;
        return bar ? `Color bar from ${nmri.format(bar.vmin)} to ${nmri.format(bar.vmax)}, ${scan.value.units}` : "";
      });
      return { scan, range, gradient, outside, cut, label, store };
    },
  };

  // -- tokens -----------------------------------------------------------------------------------------------------

  /* The steps of what is shown (a language model's are tokens): those of the scan, or, for DTI, the place whose answer is asked for. */
  nmri.components["nmri-tokens"] = {
    template: `
      <div class="tokens" v-if="chips.length">
        <template v-if="steps">
          <button type="button" data-testid="token-prev" :aria-label="'Previous ' + nmri.network.step" :title="'Previous ' + nmri.network.step + ' (←)'" :disabled="at === 0" @click="go(at - 1)">◀</button>
          <button type="button" data-testid="token-play" :aria-label="store.playing ? 'Pause auto-play' : 'Play the ' + nmri.network.steps" :title="store.playing ? 'Pause (space)' : 'Play, half a second a ' + nmri.network.step + ' (space)'" :aria-pressed="store.playing" @click="nmri.setPlaying(!store.playing)">{{ store.playing ? '❚❚' : '▶' }}</button>
          <button type="button" data-testid="token-next" :aria-label="'Next ' + nmri.network.step" :title="'Next ' + nmri.network.step + ' (→)'" :disabled="at === chips.length - 1" @click="go(at + 1)">▶▏</button>
        </template>
        <span v-else class="count">THE ANSWER AFTER</span>
        <div class="chips" ref="strip" role="group" :aria-label="steps ? nmri.capital(nmri.network.steps) + ' of the prompt' : nmri.capital(nmri.network.step) + ' after which the answer is asked for'">
          <button v-for="(chip, i) in chips" :key="i" type="button" class="chip" :class="{ on: i === at, special: chip.special, generated: chip.generated }"
            :data-testid="'token-' + i" :aria-current="i === at ? 'step' : undefined" :title="chip.title" @click="go(i)"
            ><sup v-if="chip.special">BOS</sup>{{ nmri.tokenText(chip.text) }}</button>
        </div>
        <span class="count">{{ at + 1 }} / {{ chips.length }}</span>
      </div>
      <p v-else class="hint">{{ hint }}</p>`,
    setup() {
      const strip = ref(null);
      const scan = computed(nmri.scan);
      const steps = computed(() => Boolean(scan.value && scan.value.tokens.length));
      const chips = computed(() => {
        const shown = steps.value ? scan.value : store.mode === "DTI" ? store.subject : null;
        if (!shown) return [];
        const first = shown.tokens.length - (shown.generated || 0);
        return shown.tokens.map((text, i) => {
          const special = Boolean(shown.special[i]);
          const generated = i >= first;
          const note = special ? ", added by the tokenizer" : generated ? ", generated" : "";
          return { text, special, generated, title: `${nmri.stepAt(i)}: ${JSON.stringify(text)}${note}` };
        });
      });
      const at = computed(() => {
        if (steps.value) return nmri.currentStep();
        const { position } = store.metric;
        return position < 0 || position >= chips.value.length ? chips.value.length - 1 : position;
      });
      const go = (to) => {
        store.playing = false;
        if (steps.value) nmri.setStep(to);
        else store.metric.position = to;
      };
      watch([at, chips, () => store.wide], () =>
        nextTick(() => {
          const box = strip.value;
          const chip = box && box.children[at.value];
          if (chip) box.scrollLeft = chip.offsetLeft - box.offsetLeft - box.clientWidth / 2 + chip.offsetWidth / 2;
        }),
      );
      const hint = computed(() => {
        if (!nmri.geometry()) return "";
        if (store.mode === "T1" || store.mode === "T2") return `${store.mode} looks at the weights alone; ${nmri.network.steps} come with fMRI.`;
        return `The prompt's ${nmri.network.steps} will stand here.`;
      });
      return { strip, chips, steps, at, go, hint, nmri, store };
    },
  };

  // -- layer summary ----------------------------------------------------------------------------------------------

  const ROOMY = 10; // so few rows have room for names and values in any window

  nmri.components["nmri-layers"] = {
    template: `
      <div class="layers" v-if="layers.length" data-testid="layer-summary">
        <div class="layers-head"><span title="Mean of the layer's heads">ATTENTION, mean</span><span>layer</span><span>MLP</span></div>
        <div class="layers-body" :class="{ roomy: layers.length <= ROOMY }">
          <div v-for="(layer, i) in layers" :key="layer.name" class="layer" :class="{ marked: layer.marked, end: layer.end }">
            <button v-if="layer.left" type="button" class="bar left" :title="layer.left.title" :aria-label="layer.left.title" :class="{ on: layer.left.rows.includes(store.selected) }" @click="nmri.reveal(layer.left.row)">
              <span class="value">{{ layer.left.text }}</span><span class="fill" :style="layer.left.style"></span>
            </button><span v-else></span>
            <span class="name">{{ layer.name }}</span>
            <button v-if="layer.right" type="button" class="bar right" :title="layer.right.title" :aria-label="layer.right.title" :class="{ on: layer.right.rows.includes(store.selected) }" @click="nmri.reveal(layer.right.row)">
              <span class="fill" :style="layer.right.style"></span><span class="value">{{ layer.right.text }}</span>
            </button><span v-else></span>
          </div>
        </div>
      </div>
      <p v-else class="hint" data-testid="layer-summary">{{ empty }}</p>`,
    setup() {
      // Rows of each bar, from the table alone: they change with the model only.
      const groups = computed(() => {
        const table = nmri.geometry();
        if (!table) return [];
        const count = Math.max(-1, ...table.layer) + 1;
        const found = Array.from({ length: count }, () => ({ heads: [], mlp: [] }));
        const ends = { embed: [], unembed: [] };
        table.kind.forEach((kind, row) => {
          if (kind === "head") found[table.layer[row]].heads.push(row);
          else if (kind === "mlp") found[table.layer[row]].mlp.push(row);
          else if (kind in ends) ends[kind].push(row);
        });
        const blocks = found.map(({ heads, mlp }, layer) => ({ name: String(layer), left: heads, right: mlp, end: false }));
        const end = (kind) => (ends[kind].length ? [{ name: kind, left: [], right: ends[kind], end: true }] : []);
        return [...end("embed"), ...blocks, ...end("unembed")];
      });
      const layers = computed(() => {
        const shown = nmri.values();
        const table = nmri.geometry();
        const bar = nmri.range();
        const scan = nmri.scan();
        if (!shown || !table || !bar || !palette() || scan.components !== table.ids.length) return [];
        const side = (rows, name) => {
          const measured = rows.filter((row) => Number.isFinite(shown[row]));
          if (!rows.length) return null;
          if (!measured.length)
            return { row: rows[0], rows, text: "–", title: `${table.ids[rows[0]]}: not measured`, style: { width: 0 } };
          const mean = measured.reduce((sum, row) => sum + shown[row], 0) / measured.length;
          const strongest = measured.reduce((best, row) => (Math.abs(shown[row]) > Math.abs(shown[best]) ? row : best));
          const size = nmri.colors.strength(placeOf(mean), bar);
          const title =
            rows.length > 1
              ? `${name}: mean of ${measured.length} heads ${nmri.format(mean)} ${scan.units}; click selects the strongest, ${table.ids[strongest]}`
              : `${table.ids[strongest]}: ${nmri.valueText(strongest)} ${scan.units}`;
          // Also a value at the bar's low end has a stub: it was measured.
          const style = { width: `${4 + 96 * size}%`, background: colorOf(mean) };
          return { row: strongest, rows, text: short(mean), title, style };
        };
        return groups.value.map(({ name, left, right, end }, at) => ({
          name,
          end,
          marked: end || at % 5 === 1,
          left: side(left, `Layer ${name} attention`),
          right: side(right, name),
        }));
      });
      const empty = computed(() =>
        nmri.geometry() ? "Bars for every layer appear with a scan." : "Bars for every layer appear with a model.",
      );
      return { layers, empty, store, nmri, ROOMY };
    },
  };

  /* Four characters or so: 0.87, 12.4, 987k, 28M. */
  function short(value) {
    const size = Math.abs(value);
    for (const [suffix, unit] of [["G", 1e9], ["M", 1e6], ["k", 1e3]])
      if (size >= 0.9995 * unit) return `${Number((value / unit).toPrecision(3))}${suffix}`;
    if (size !== 0 && size < 0.001) return value.toExponential(0);
    return String(Number(value.toPrecision(3)));
  }

  // -- the selected component ---------------------------------------------------------------------------------------

  /* Value of one component at every step; click goes there. */
  nmri.components["nmri-step-bars"] = {
    props: { row: Number },
    template: `
      <div v-if="bars.length" class="step-bars" :class="{ named: bars.length <= 12, dense: bars.length > 48 }" role="group" :aria-label="'Value at each ' + nmri.network.step" data-testid="step-bars">
        <button v-for="(bar, i) in bars" :key="i" type="button" :class="{ on: i === step }" :title="bar.title" :aria-label="bar.title" @click="go(i)">
          <span class="fill" :style="bar.style"></span><span v-if="bars.length <= 12" class="word">{{ bar.word }}</span></button>
      </div>`,
    setup(props) {
      const step = computed(nmri.currentStep);
      const bars = computed(() => {
        const scan = nmri.scan();
        const bar = nmri.range();
        if (!scan || scan.steps < 2 || !palette() || !(props.row >= 0)) return [];
        return Array.from({ length: scan.steps }, (_, i) => {
          const value = scan.values[i * scan.components + props.row];
          const size = Number.isFinite(value) ? nmri.colors.strength(placeOf(value), bar) : 0;
          return {
            word: nmri.tokenText(scan.tokens[i]),
            title: `${nmri.tokenText(scan.tokens[i])}: ${nmri.format(value)} ${scan.units}`,
            style: { height: `${Math.max(2, 100 * size)}%`, background: colorOf(value) },
          };
        });
      });
      const go = (to) => {
        store.playing = false;
        nmri.setStep(to);
      };
      return { bars, step, go, nmri };
    },
  };

  /* Counts of weights on a log axis; bins beyond `outlier` (6 standard deviations) are marked. */
  nmri.components["nmri-histogram"] = {
    props: { counts: Array, low: Number, high: Number, outlier: Number },
    template: `
      <figure class="histogram" data-testid="histogram">
        <svg :viewBox="'0 0 ' + counts.length + ' 40'" preserveAspectRatio="none" role="img" :aria-label="label">
          <rect v-for="bin in bins" :key="bin.x" :x="bin.x + 0.08" :width="0.84" :y="40 - bin.size" :height="bin.size" :class="{ outlier: bin.outlier }"><title>{{ bin.title }}</title></rect>
        </svg>
        <figcaption><span>{{ nmri.format(low) }}</span><span>weights, log count<template v-if="marked"> · <em>{{ marked.toLocaleString('en-US') }} in bins over 6 σ</em></template></span><span>{{ nmri.format(high) }}</span></figcaption>
      </figure>`,
    setup(props) {
      const bins = computed(() => {
        const most = Math.log1p(Math.max(1, ...props.counts));
        const width = (props.high - props.low) / props.counts.length;
        return props.counts.map((count, x) => {
          const from = props.low + x * width;
          const to = from + width;
          // A bin is marked when all of it lies beyond the limit.
          const outlier = Math.min(Math.abs(from), Math.abs(to)) >= props.outlier && from * to >= 0;
          return {
            x,
            count,
            outlier,
            size: (40 * Math.log1p(count)) / most,
            title: `${count.toLocaleString("en-US")} weights from ${nmri.format(from)} to ${nmri.format(to)}`,
          };
        });
      });
      const marked = computed(() => bins.value.reduce((sum, bin) => sum + (bin.outlier ? bin.count : 0), 0));
      const label = computed(() => `Histogram of the weights from ${nmri.format(props.low)} to ${nmri.format(props.high)}`);
      return { bins, marked, label, nmri };
    },
  };

  // -- progress ---------------------------------------------------------------------------------------------------

  /* A bar that shows a real share, or only that something is under way. */
  nmri.components["nmri-progress"] = {
    props: { share: { type: Number, default: null } },
    template: `
      <div class="progress" :class="{ unknown: share === null }" role="progressbar" aria-valuemin="0" aria-valuemax="100"
        :aria-valuenow="share === null ? undefined : Math.round(100 * share)">
        <i :style="share === null ? {} : { width: 100 * share + '%' }"></i>
      </div>`,
  };

  // -- log --------------------------------------------------------------------------------------------------------

  /* The server sends the newest lines with their numbers; the browser keeps the rest. */
  nmri.components["nmri-log"] = {
    props: { tail: Array },
    template: `
      <div class="log" ref="box" role="log" tabindex="0" aria-label="Log" data-testid="log-panel">
        <p v-for="line in lines" :key="line.number" :class="line.level"><time>{{ line.stamp }}</time> {{ line.text }}</p>
      </div>`,
    setup(props) {
      const box = ref(null);
      const lines = reactive([]);
      watch(
        () => props.tail,
        (tail) => {
          const last = lines.length ? lines[lines.length - 1].number : -1;
          lines.push(...(tail || []).filter((line) => line.number > last));
          if (lines.length > 500) lines.splice(0, lines.length - 500);
          nextTick(() => box.value && (box.value.scrollTop = box.value.scrollHeight));
        },
        { immediate: true },
      );
      return { box, lines };
    },
  };
})();
