/* Before and after: what the model predicts, how far the answer moved, which components changed; and what the brain shows.

   Left out: the edits themselves (experiments.js) and what they are measured by (the server). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;
  const { computed } = window.Vue;

  /* Title of a panel; it folds the panel. */
  nmri.components["nmri-panel-head"] = {
    props: { name: String },
    template: `
      <h2><button type="button" class="fold" :aria-expanded="!store.folded[name]" :data-testid="'fold-' + name" :title="store.folded[name] ? 'Unfold' : 'Fold'"
        @click="store.folded[name] = !store.folded[name]"><i>{{ store.folded[name] ? "▸" : "▾" }}</i><slot></slot></button><span><slot name="note"></slot></span></h2>`,
    setup: () => ({ store }),
  };

  const LISTS = ["before", "after"];
  const PAINTINGS = [
    ["before", "BEFORE"],
    ["after", "AFTER"],
    ["change", "CHANGE"],
  ];

  nmri.components["nmri-comparison"] = {
    props: { before: Array, comparison: Object, busy: Boolean },
    template: `
      <ol v-if="signal" class="predictions signals" :class="{ busy }" data-testid="predictions">
        <li v-for="(one, at) in before" :key="one.id" :class="{ same: comparison && one.id === comparison.token.id }" :title="one.text + ': ' + one.logit">
          <span class="word">{{ one.text }}</span>
          <svg v-if="one.series" class="spark" :viewBox="'0 0 ' + Math.max(1, one.series.length - 1) + ' 20'" preserveAspectRatio="none" aria-hidden="true">
            <path :d="sparkOf(one.series)" vector-effect="non-scaling-stroke"></path>
            <line :x1="one.step" :x2="one.step" y1="0" y2="20" vector-effect="non-scaling-stroke"></line>
          </svg>
          <span v-else></span>
          <b>{{ nmri.format(one.logit) }}</b>
          <em v-if="comparison">→ {{ nmri.format(comparison.after[at].logit) }}</em>
        </li>
      </ol>
      <div v-else class="versus" :class="{ busy }">
        <div v-for="(list, at) in lists" :key="at">
          <h3>{{ at ? "Perturbed" : "Original" }}</h3>
          <ol v-if="list" class="predictions" :data-testid="at ? 'predictions-after' : 'predictions'">
            <li v-for="token in list" :key="token.id" :class="{ same: comparison && token.id === comparison.token.id }" :title="JSON.stringify(token.text) + ', logit ' + nmri.format(token.logit)">
              <span class="word">{{ nmri.tokenText(token.text) }}</span>
              <span class="meter"><i :style="{ width: 100 * token.probability + '%' }"></i></span>
              <b>{{ token.probability.toFixed(3) }}</b>
            </li>
          </ol>
          <p v-else class="hint">No perturbation is applied.</p>
        </div>
      </div>
      <template v-if="comparison">
        <dl class="figures">
          <dt :title="signal ? 'The output that changed most, before and after' : 'The original top token, before and after'"><template v-if="!signal">logit of </template><b>{{ nmri.tokenText(comparison.token.text) }}</b></dt>
          <dd data-testid="logit-diff">{{ nmri.format(comparison.logit_before) }} → {{ nmri.format(comparison.logit_after) }} <em :style="{ color: nmri.signColor(comparison.logit_diff) }">{{ signed(comparison.logit_diff) }}</em></dd>
          <template v-if="!signal"><dt title="KL(before || after) over the whole vocabulary">KL</dt><dd data-testid="kl">{{ nmri.format(comparison.kl) }} nats</dd></template>
        </dl>
        <div class="paintings" role="group" aria-label="What the brain shows">
          <span>BRAIN</span>
          <button v-for="[name, title] in PAINTINGS" :key="name" type="button" :class="{ on: store.painting === name && store.mode === 'fMRI' }" :aria-pressed="store.painting === name && store.mode === 'fMRI'"
            :data-testid="'paint-' + name" @click="nmri.trigger('paint', name)">{{ title }}</button>
        </div>
        <ol class="affected" data-testid="affected">
          <li v-if="!comparison.affected.length" class="hint">No component changed.</li>
          <li v-for="one in comparison.affected" :key="one.row">
            <button type="button" :class="{ on: one.row === store.selected }" :title="titleOf(one)" @click="show(one)">
              <span>{{ nmri.shortName(one.row) }}</span><span class="meter"><i :style="barOf(one)"></i></span><b>{{ signed(one.change) }}</b>
            </button>
          </li>
        </ol>
      </template>`,
    setup(props) {
      const lists = computed(() => LISTS.map((name) => (name === "before" ? props.before : props.comparison && props.comparison.after)));
      const signal = computed(() => nmri.network.signal);
      /* A signal over the steps, from its lowest to its highest. */
      function sparkOf(series) {
        const low = Math.min(...series);
        const span = Math.max(...series) - low || 1;
        return Array.from(series, (value, at) => `${at ? "L" : "M"}${at} ${(19 - (18 * (value - low)) / span).toFixed(2)}`).join("");
      }
      const most = computed(() => Math.max(...props.comparison.affected.map((one) => Math.abs(one.change)), 0) || 1);
      const signed = (value) => (value > 0 ? "+" : "") + nmri.format(value);
      const titleOf = (one) =>
        `${nmri.geometry().ids[one.row]}: ${signed(one.change)} ${props.comparison.units}, largest at ${nmri.tokenText(one.token)}; ` +
        "click selects it there";
      const barOf = (one) => ({ width: `${(100 * Math.abs(one.change)) / most.value}%`, background: nmri.signColor(one.change) });
      function show(one) {
        nmri.reveal(one.row);
        if (store.mode === "fMRI") nmri.setStep(one.step);
      }
      return { lists, signal, sparkOf, signed, titleOf, barOf, show, store, nmri, PAINTINGS };
    },
  };
})();
