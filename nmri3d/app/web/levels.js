/* <nmri-levels>: the layer summary of a network that is not made of attention and MLPs: a bar for each kind of component at
   each level, and the components that lead at the shown step.

   Convention. A bar of several components is the mean of their |values|; click selects the strongest of them.

   Left out: attention and MLPs (panels.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;
  const { computed } = window.Vue;

  const MOST = 24;

  /* Values at the shown step, where they are those of the components and can be colored; else null. */
  function painted() {
    const values = nmri.values();
    const table = nmri.geometry();
    return values && table && nmri.scan().components === table.ids.length && nmri.range() && nmri.palette() ? values : null;
  }

  function styleOf(value) {
    const place = nmri.colors.fraction(value, nmri.range());
    return { width: `${3 + 97 * nmri.colors.strength(place, nmri.range())}%`, background: nmri.colors.cssColor(nmri.palette(), place) };
  }

  const words = (kind) => kind.replace(/_/g, " ");

  nmri.components["nmri-levels"] = {
    template: `
      <div v-if="groups.length" class="levels" data-testid="layer-summary">
        <ol class="ranking" data-testid="levels">
          <li v-for="one in groups" :key="one.key">
            <button type="button" :class="{ on: one.rows.includes(store.selected) }" :title="one.title" :disabled="one.row < 0" @click="nmri.reveal(one.row)">
              <span>{{ one.name }}<i v-if="one.rows.length > 1" class="slot">× {{ one.rows.length.toLocaleString("en-US") }}</i></span><span class="meter"><i :style="one.style"></i></span><b>{{ one.text }}</b>
            </button>
          </li>
        </ol>
        <nmri-leaders></nmri-leaders>
      </div>
      <p v-else class="hint" data-testid="layer-summary">{{ nmri.geometry() ? "Bars for every level appear with a scan." : "Bars for every level appear with a model." }}</p>`,
    setup() {
      // Rows of each bar, from the table alone: they change with the model only.
      const members = computed(() => {
        const table = nmri.geometry();
        if (!table) return [];
        const found = new Map();
        table.kind.forEach((kind, row) => {
          const level = table.layer[row];
          const key = `${level} ${kind}`;
          if (!found.has(key)) found.set(key, { key, level, name: words(kind), rows: [] });
          found.get(key).rows.push(row);
        });
        const groups = [...found.values()]; // in the order in which they act
        // A kind that stands at several levels says at which.
        const times = (name) => groups.filter((one) => one.name === name).length;
        return groups.map((one) => ({ ...one, name: times(one.name) > 1 ? `${one.name} ${one.level}` : one.name }));
      });
      const groups = computed(() => {
        const values = painted();
        if (!values) return [];
        const { ids } = nmri.geometry();
        const { units } = nmri.scan();
        return members.value.map((group) => {
          const rows = group.rows.filter((row) => Number.isFinite(values[row]));
          if (!rows.length)
            return { ...group, row: -1, text: "–", title: `${group.name}: nothing measured at this ${nmri.network.step}`, style: { width: 0 } };
          const mean = rows.reduce((sum, row) => sum + Math.abs(values[row]), 0) / rows.length;
          const row = rows.reduce((best, one) => (Math.abs(values[one]) > Math.abs(values[best]) ? one : best));
          const alone = group.rows.length === 1;
          const title = alone
            ? `${ids[row]}: ${nmri.valueText(row)} ${units}`
            : `${group.name}: mean |value| of ${rows.length.toLocaleString("en-US")} is ${nmri.format(mean)} ${units}; click selects the strongest, ${ids[row]}`;
          return { ...group, row, text: nmri.format(alone ? values[row] : mean), title, style: styleOf(alone ? values[row] : mean) };
        });
      });
      return { groups, store, nmri };
    },
  };

  nmri.components["nmri-leaders"] = {
    template: `
      <template v-if="leaders.length">
        <h3>Strongest components</h3>
        <ol class="ranking leaders" data-testid="leaders">
          <li v-for="one in leaders" :key="one.row">
            <button type="button" :class="{ on: one.row === store.selected }" :title="one.title" @click="nmri.reveal(one.row)">
              <span>{{ nmri.shortName(one.row) }}</span><span class="meter"><i :style="one.style"></i></span><b>{{ one.text }}</b>
            </button>
          </li>
        </ol>
      </template>`,
    setup() {
      const leaders = computed(() => {
        const values = painted();
        if (!values) return [];
        const { ids } = nmri.geometry();
        const rows = Array.from(values.keys()).filter((row) => Number.isFinite(values[row]) && values[row] !== 0);
        return rows
          .sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]))
          .slice(0, MOST)
          .map((row) => {
            const text = nmri.valueText(row);
            return { row, text, title: `${ids[row]}: ${text} ${nmri.scan().units}`, style: styleOf(values[row]) };
          });
      });
      return { leaders, store, nmri };
    },
  };

  /* FLAIR of a network without a lens: how unlike the template its components are, step by step. */
  nmri.components["nmri-unlike"] = {
    props: { flair: Object },
    template: `
      <div class="anomaly" data-testid="unlike">
        <p class="facts">
          {{ nmri.stepAt(step) }}, <b>{{ nmri.tokenText(flair.tokens[step]) }}</b>: mean |z|
          <b data-testid="mean-z">{{ nmri.format(summary[step]) }}</b> over the components; high is unlike the template, never “wrong”
        </p>
        <div class="step-bars dense" role="group" :aria-label="'Mean |z| at each ' + nmri.network.step" data-testid="unlike-steps">
          <button v-for="(bar, i) in bars" :key="i" type="button" :class="{ on: i === step }" :title="bar.title" :aria-label="bar.title" @click="nmri.setStep(i)"><span class="fill" :style="bar.style"></span></button>
        </div>
        <nmri-leaders v-if="store.mode === 'FLAIR'"></nmri-leaders>
      </div>`,
    setup(props) {
      const summary = computed(() => nmri.typed(Float32Array, props.flair.summary));
      const step = computed(() => Math.min(nmri.currentStep(), summary.value.length - 1));
      const bars = computed(() => {
        const most = nmri.largest(summary.value);
        return Array.from(summary.value, (value, i) => ({
          title: `${nmri.tokenText(props.flair.tokens[i])}: mean |z| ${nmri.format(value)}`,
          style: { height: `${Number.isFinite(value) ? Math.max(2, (100 * value) / most) : 0}%`, background: "var(--FLAIR)" },
        }));
      });
      return { summary, step, bars, store, nmri };
    },
  };
})();
