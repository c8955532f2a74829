/* <nmri-heads>: where a head looks: its attention pattern, query by key; and which heads are of a known kind.

   Left out: the patterns, which the server measures for one layer at a time. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;
  const { computed, onMounted, watch } = window.Vue;

  const KINDS = {
    previous: ["Previous-token", "Mean attention from each token to the one before it"],
    duplicate: ["Duplicate-token", "Mean attention from a repeated token to where it stood before"],
    induction: ["Induction", "Mean attention from a repeated token to what followed it before"],
  };
  const MOST = 6;

  nmri.components["nmri-heads"] = {
    props: { attention: Object, kinds: Object, error: String, kindsError: String },
    template: `
      <div class="heads">
        <div class="choices">
          <label class="short">LAYER <select :value="store.head.layer" data-testid="head-layer" @change="choose($event.target.value, store.head.index)"><option v-for="at in layers" :key="at" :value="at - 1">{{ at - 1 }}</option></select></label>
          <label class="short">HEAD <select :value="store.head.index" data-testid="head-index" @change="choose(store.head.layer, $event.target.value)"><option v-for="at in count" :key="at" :value="at - 1">{{ at - 1 }}</option></select></label>
          <button type="button" class="small" data-testid="head-select" :disabled="row < 0" @click="nmri.reveal(row)">SHOW ON THE BRAIN</button>
        </div>
        <p v-if="error" class="error" role="alert" data-testid="attention-error">{{ error }}</p>
        <template v-if="attention && pattern">
          <p class="facts">L{{ attention.layer }}.H{{ attention.head }} · row: the token that looks · column: where it looks · each row sums to 1</p>
          <nmri-heat-scale :limit="limit" :symmetric="false" mode="T2" units="attention"></nmri-heat-scale>
          <nmri-heatmap :values="pattern" :rows="names" :columns="attention.tokens" :limit="limit" :symmetric="false" mode="T2" label="Attention pattern"
            :describe="describe" :current="step" name="attention-map" @pick="pick"></nmri-heatmap>
        </template>
        <button v-if="!kinds" type="button" class="wide" data-testid="kinds-button" @click="nmri.trigger('head_kinds')">WHICH HEADS ARE OF A KNOWN KIND?</button>
        <p v-if="kindsError" class="error" role="alert">{{ kindsError }}</p>
        <template v-if="kinds">
          <p class="facts">Measured on {{ kinds.length }} random tokens read twice; a head is named after a kind from {{ kinds.threshold }} on.</p>
          <section v-for="kind in shownKinds" :key="kind.name" class="kind">
            <h3 :title="kind.what">{{ kind.title }} heads</h3>
            <ol class="ranking" :data-testid="'kind-' + kind.name">
              <li v-for="one in kind.heads" :key="one.row">
                <button type="button" :class="{ on: one.row === row, named: one.score >= kinds.threshold }" :title="nmri.geometry().ids[one.row] + ': ' + one.score" @click="chooseRow(one.row)">
                  <span>{{ nmri.shortName(one.row) }}</span><span class="meter"><i :style="{ width: 100 * one.score + '%' }"></i></span><b>{{ one.score.toFixed(3) }}</b>
                </button>
              </li>
            </ol>
          </section>
        </template>
      </div>`,
    setup(props) {
      const table = computed(nmri.geometry);
      const layers = computed(() => (table.value ? Math.max(...table.value.layer) + 1 : 0));
      const count = computed(() => (table.value ? table.value.kind.filter((kind, at) => kind === "head" && table.value.layer[at] === 0).length : 0));
      const row = computed(() => {
        const id = `blocks.${store.head.layer}.attn.head_${store.head.index}`;
        return table.value && table.value.rowOfId.has(id) ? table.value.rowOfId.get(id) : -1;
      });
      const choose = (layer, index) => nmri.showHead(layer, index);
      function chooseRow(wanted) {
        const [, layer, index] = table.value.ids[wanted].match(/^blocks\.(\d+)\.attn\.head_(\d+)$/);
        nmri.showHead(layer, index);
      }
      /* A head that is selected on the brain is the one that is shown. */
      function follow() {
        if (table.value && store.selected >= 0 && table.value.kind[store.selected] === "head") chooseRow(store.selected);
        else if (!props.attention) nmri.showHead(store.head.layer, store.head.index);
      }
      onMounted(follow);
      watch(() => store.selected, follow);

      const pattern = computed(() => {
        if (!props.attention) return null;
        const values = nmri.typed(Float32Array, props.attention.pattern);
        const size = props.attention.tokens.length;
        // What lies ahead of a token cannot be looked at.
        for (let query = 0; query < size; query += 1) values.fill(NaN, query * size + query + 1, (query + 1) * size);
        return values;
      });
      const limit = computed(() => nmri.largest(pattern.value));
      const names = computed(() => props.attention.tokens.map(nmri.tokenText));
      const step = computed(() => (nmri.scan() && nmri.scan().steps === names.value.length ? nmri.currentStep() : -1));
      const describe = (query, key, value) =>
        Number.isNaN(value)
          ? `${names.value[query]} (${query}) cannot look ahead to ${names.value[key]} (${key})`
          : `${names.value[query]} (${query}) looks at ${names.value[key]} (${key}): ${nmri.format(value)}`;
      const pick = (query) => step.value >= 0 && nmri.setStep(query);
      const shownKinds = computed(() =>
        Object.entries(KINDS).map(([name, [title, what]]) => {
          const scores = nmri.typed(Float32Array, props.kinds[name]);
          const heads = props.kinds.rows
            .map((one, at) => ({ row: one, score: scores[at] }))
            .sort((a, b) => b.score - a.score)
            .slice(0, MOST);
          return { name, title, what, heads };
        }),
      );
      return { layers, count, row, choose, chooseRow, pattern, limit, names, step, describe, pick, shownKinds, store, nmri };
    },
  };
})();
