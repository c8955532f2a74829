/* <nmri-heatmap>: a table of values as colored cells, with a cursor for pointer and keyboard, and a line that reads it out.

   Convention. Values are raw and drawn between -limit and limit (symmetric) or 0 and limit; beyond that a cell has the end
   color, and the line still tells the value. A cell without a value is hatched, and the line tells the reason.

   Left out: where the values come from. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;
  const { computed, nextTick, onBeforeUnmount, onMounted, ref, watch } = window.Vue;

  const CELL = 8; // canvas pixels a cell; the browser scales them without blurring
  const MOST_PIXELS = 4e6;
  const EMPTY = "#161920";
  const HATCH = "#343a47";

  nmri.components["nmri-heatmap"] = {
    props: {
      values: Object, // Float32Array [rows x columns]
      rows: Array, // labels
      columns: Array,
      limit: Number,
      symmetric: { type: Boolean, default: true },
      mode: { type: String, default: "DTI" }, // whose color table
      label: String, // for screen readers
      describe: Function, // (row, column, value) to a sentence
      current: { type: Number, default: -1 }, // column that is looked at elsewhere on the page
      marked: { type: Array, default: () => [] }, // columns with a mark
      name: String, // of the test id
    },
    emits: ["pick", "look"],
    template: `
      <figure class="heatmap">
        <div class="plot">
          <div class="row-names" aria-hidden="true"><span v-for="tick in rowTicks" :key="tick.at" :style="{ top: tick.place }">{{ tick.text }}</span></div>
          <div class="cells" ref="box" tabindex="0" role="application" :aria-label="label + '. Arrow keys move, Enter selects.'" :data-testid="name"
            :style="{ '--rows': rows.length }"
            @pointermove="hover" @pointerleave="leave" @click="press" @keydown="onKey" @focus="onFocus" @blur="leave">
            <canvas ref="canvas"></canvas>
            <span v-if="current >= 0" class="column" :style="columnStyle(current)" aria-hidden="true"></span>
            <span v-if="cursor" class="cursor" :style="cursorStyle" aria-hidden="true"></span>
          </div>
        </div>
        <div v-if="named" class="column-names" aria-hidden="true">
          <span v-for="(text, at) in columns" :key="at" :class="{ on: at === current, marked: marked.includes(at) }">{{ nmri.tokenText(text) }}</span>
        </div>
        <figcaption class="readout" aria-live="polite" :data-testid="name + '-readout'">{{ readout }}</figcaption>
      </figure>`,
    setup(props, { emit }) {
      const box = ref(null);
      const canvas = ref(null);
      const cursor = ref(null);
      const size = ref({ width: 0, height: 0 });

      const share = (value) => (props.symmetric ? (value / props.limit + 1) / 2 : value / props.limit);

      function draw() {
        const table = nmri.paletteOf(props.mode);
        if (!canvas.value || !table || !props.values) return;
        const [height, across] = [props.rows.length, props.columns.length];
        const cell = Math.max(1, Math.min(CELL, Math.floor(Math.sqrt(MOST_PIXELS / Math.max(1, height * across)))));
        canvas.value.width = across * cell;
        canvas.value.height = height * cell;
        const pen = canvas.value.getContext("2d");
        for (let row = 0; row < height; row += 1)
          for (let column = 0; column < across; column += 1) {
            const value = props.values[row * across + column];
            const missing = Number.isNaN(value);
            pen.fillStyle = missing ? EMPTY : nmri.colors.cssColor(table, Math.max(0, Math.min(1, share(value))));
            pen.fillRect(column * cell, row * cell, cell, cell);
            if (!missing || cell < 4) continue;
            pen.strokeStyle = HATCH;
            pen.beginPath();
            pen.moveTo(column * cell, (row + 1) * cell);
            pen.lineTo((column + 1) * cell, row * cell);
            pen.stroke();
          }
      }
      // What depends on the size changes the layout, which must not happen while it is being measured.
      const watcher = new ResizeObserver(([entry]) => window.requestAnimationFrame(() => (size.value = entry.contentRect)));
      onMounted(() => {
        draw();
        watcher.observe(box.value);
      });
      onBeforeUnmount(() => watcher.disconnect());
      watch(() => [props.values, props.limit, props.mode, store.palette, store.revision], () => nextTick(draw));

      const named = computed(() => size.value.width / props.columns.length >= 9);
      const rowTicks = computed(() => {
        const count = props.rows.length;
        const every = size.value.height / count >= 10 ? 1 : count <= 40 ? 5 : 10;
        return props.rows
          .map((text, at) => ({ at, text, place: `${(100 * (at + 0.5)) / count}%` }))
          .filter(({ at }) => at % every === 0 || at === count - 1)
          .filter(({ at }, i, all) => at === count - 1 || count - 1 - at >= every / 2 || all.length < 3);
      });
      const columnStyle = (at) => ({ left: `${(100 * at) / props.columns.length}%`, width: `${100 / props.columns.length}%` });
      const cursorStyle = computed(() => ({
        ...columnStyle(cursor.value.column),
        top: `${(100 * cursor.value.row) / props.rows.length}%`,
        height: `${100 / props.rows.length}%`,
      }));
      const readout = computed(() => {
        if (!cursor.value) return "";
        const { row, column } = cursor.value;
        return props.describe(row, column, props.values[row * props.columns.length + column]);
      });

      function put(row, column) {
        cursor.value = {
          row: Math.max(0, Math.min(props.rows.length - 1, row)),
          column: Math.max(0, Math.min(props.columns.length - 1, column)),
        };
        emit("look", cursor.value);
      }
      function cellOf(event) {
        const place = box.value.getBoundingClientRect();
        return [
          Math.floor(((event.clientY - place.top) / place.height) * props.rows.length),
          Math.floor(((event.clientX - place.left) / place.width) * props.columns.length),
        ];
      }
      const hover = (event) => put(...cellOf(event));
      function leave() {
        cursor.value = null;
        emit("look", null);
      }
      function press(event) {
        if (event.detail > 0) put(...cellOf(event)); // a real click; Enter comes by onKey
        emit("pick", cursor.value.row, cursor.value.column);
      }
      function onFocus() {
        if (!cursor.value && box.value.matches(":focus-visible")) put(0, Math.max(0, props.current));
      }
      function onKey(event) {
        const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (step) {
          const at = cursor.value || { row: 0, column: Math.max(0, props.current) };
          put(at.row + step[0], at.column + step[1]);
        } else if ((event.key === "Enter" || event.key === " ") && cursor.value)
          emit("pick", cursor.value.row, cursor.value.column);
        else return;
        event.preventDefault();
        event.stopPropagation(); // the arrows would step through the tokens
      }
      // A new table has other cells.
      watch(() => props.values, () => (cursor.value = null));
      return { box, canvas, cursor, named, rowTicks, columnStyle, cursorStyle, readout, hover, leave, press, onFocus, onKey, nmri };
    },
  };

  /* The colors of a heat map, with its ends. */
  nmri.components["nmri-heat-scale"] = {
    props: { limit: Number, symmetric: { type: Boolean, default: true }, mode: { type: String, default: "DTI" }, units: String },
    template: `
      <p class="heat-scale"><span>{{ symmetric ? nmri.format(-limit) : 0 }}</span><i :style="{ background: gradient }"></i><span>{{ nmri.format(limit) }}</span> {{ units }}</p>`,
    setup(props) {
      const gradient = computed(() => {
        const table = nmri.paletteOf(props.mode);
        if (!table) return "none";
        const stops = Array.from({ length: 17 }, (_, i) => nmri.colors.cssColor(table, i / 16));
        return `linear-gradient(to right, ${stops.join(", ")})`;
      });
      return { gradient, nmri };
    },
  };

  /* Largest |value|, NaN aside; 1 where there is none. */
  nmri.largest = function largest(values) {
    let most = 0;
    for (const value of values) if (Math.abs(value) > most) most = Math.abs(value);
    return most || 1;
  };

  /* A component's name where there is little room: L9.H3, L9.MLP, logits. */
  nmri.shortName = function shortName(row) {
    const table = nmri.geometry();
    if (!table || !(row in table.ids)) return "";
    const id = table.ids[row];
    return id === "unembed"
      ? "logits"
      : id
          .replace(/^blocks\.(\d+)\.attn\.head_(\d+)$/, "L$1.H$2")
          .replace(/^blocks\.(\d+)\.mlp$/, "L$1.MLP")
          .replace(/^blocks\.(\d+)\.attn\.b_O$/, "L$1.b_O");
  };

  /* Color of a signed value at the ends of DTI's table: which way it points, not how large it is. */
  nmri.signColor = function signColor(value) {
    const table = nmri.paletteOf("DTI");
    return table ? nmri.colors.cssColor(table, value < 0 ? 0.1 : 0.9) : "var(--text-data)";
  };
})();
