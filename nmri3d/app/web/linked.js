/* Linked views: up to four brains side by side, under one camera. What was pinned stands beside what is shown now, or the run
   before the edits beside the one after, each with the change between them.

   Convention. A pin keeps copies of the mesh that drew it, since that goes with its model. Views of one mode and unit share one display range, so that they compare; the
   change is painted about zero with DTI's colors. Following tokens: a pin of the same tokens goes with the shown step, any
   other stays at its own.

   Left out: drawing (linked_layer.js); the volume and neurons, which are drawn for one brain at a time. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, data, colors } = nmri;
  const { computed, reactive, watch } = window.Vue;

  const MOST = 4;
  const LINE = 2; // CSS pixels between two views

  const state = reactive({ kind: "", pins: [], hover: null, wide: true }); // kind: "", "pins", "edits"
  let edits = null; // {before, after, change} as they came, while kind is "edits"

  const pinned = () => state.pins.map((id) => pins.get(id));
  const pins = new Map(); // by id; what is pinned is heavy and not watched
  let nextPin = 1;

  // -- what is compared -------------------------------------------------------------------------------------------

  function modelTitle() {
    return String(window.trame.state.get("model")?.title || "");
  }

  function tokenAt(view) {
    return view.scan.tokens.length ? nmri.tokenText(view.scan.tokens[stepOf(view)]) : "";
  }

  /* The step of a view that goes with the shown one. */
  function stepOf(view) {
    const now = nmri.scan();
    const same = now && now.tokens.length && now.tokens.join("\n") === view.scan.tokens.join("\n");
    return Math.min(same ? nmri.currentStep() : view.step, view.scan.steps - 1);
  }

  function valuesOf(view) {
    if (view.difference) {
      const [a, b] = view.difference.map(valuesOf);
      return b.map((value, row) => value - a[row]);
    }
    const start = stepOf(view) * view.scan.components;
    return view.scan.values.subarray(start, start + view.scan.components);
  }

  /* Whose components a view shows. */
  function ofModel() {
    const { epoch, ids } = data.geometry;
    return { model: modelTitle(), epoch, ids };
  }

  /* What is shown now, as a view. */
  function shownNow() {
    const scan = nmri.scan();
    return { scan, step: nmri.currentStep(), palette: scan ? scan.palette : store.mode, ...ofModel() };
  }

  /* Keep what is shown now, to compare with. */
  function pin() {
    const scan = nmri.scan();
    const { painter } = nmri;
    if (!scan || !painter) return;
    if (state.pins.length >= MOST - 1) {
      pins.delete(state.pins[0]);
      state.pins.shift();
    }
    const id = nextPin;
    nextPin += 1;
    pins.set(id, { ...shownNow(), id, mesh: meshOf(painter), what: nmri.painted() ? nmri.PAINTED[store.painting] : "" });
    state.pins.push(id);
    if (!state.kind) show("pins");
    else changed();
  }

  /* Copies of what draws the cortex now: it will be gone with its model. */
  function meshOf(painter) {
    const { mesh, geometry } = painter;
    const faces = painter.form.faces;
    let polys = painter.allFaces;
    if (faces) {
      const kept = [];
      for (let face = 0; face < faces.length; face += 1) if (faces[face]) kept.push(...polys.subarray(face * 4, face * 4 + 4));
      polys = new polys.constructor(kept);
    }
    return {
      points: painter.points.slice(),
      normals: painter.normals.slice(),
      coordinates: mesh.getPointData().getTCoords().getData().slice(),
      polys: polys.slice(),
      vertexComponent: geometry.components.slice(),
      texture: geometry.texture,
    };
  }

  function unpin(id) {
    pins.delete(id);
    state.pins = state.pins.filter((one) => one !== id);
    if (state.kind === "pins" && !state.pins.length) show("");
    else changed();
  }

  /* "": one brain; "pins": the pins and what is shown now; "edits": before, after and the change. */
  async function show(kind) {
    if (kind === "edits") {
      const offers = await nmri.trigger("offers", ["before", "after", "change"]);
      if (!offers) return;
      edits = Object.entries(offers).map(([what, offer]) => ({
        scan: nmri.openedScan(offer.payload),
        step: nmri.currentStep(),
        palette: offer.palette,
        what: nmri.PAINTED[what],
        ...ofModel(),
      }));
    }
    if (kind && store.display === "volume" && nmri.setVolume) nmri.setVolume(false);
    state.kind = kind;
    state.hover = null;
    changed();
  }

  /* The views, left to right: {scan, step, palette, title, ...}. */
  function views() {
    if (!state.kind || store.revision < 0) return [];
    if (state.kind === "edits") return (edits || []).map((view) => ({ ...view, title: view.what }));
    const now = nmri.scan();
    const list = pinned().map((view) => ({ ...view, title: view.what || "PINNED" }));
    if (!now || !data.geometry) return list;
    const shown = { ...shownNow(), title: nmri.painted() ? nmri.PAINTED[store.painting] : "NOW" };
    list.push(shown);
    const first = list[0];
    const comparable =
      list.length === 2 &&
      first.ids.length === shown.ids.length &&
      first.ids.every((id, row) => id === shown.ids[row]) &&
      first.scan.mode === now.mode &&
      first.scan.units === now.units;
    if (comparable) list.push({ ...shown, difference: [first, shown], palette: "DTI", title: "NOW − PINNED" });
    return list;
  }

  /* The 98th percentile of |values| of what has a place, as the display ranges of scans have it: outliers are not the range. */
  function highest(values, ids) {
    const sizes = Array.from(values, Math.abs).filter((size, row) => size >= 0 && !ids[row].endsWith(".b_O"));
    sizes.sort((a, b) => a - b);
    return sizes[Math.floor(0.98 * (sizes.length - 1))] || sizes[sizes.length - 1] || 1;
  }

  /* The display range of a view: one for all of a mode and unit, and one about zero for a difference. */
  function rangeOf(view, all) {
    if (view.difference) {
      const size = highest(valuesOf(view), view.ids);
      return { vmin: -size, vmax: size, scale: "symmetric" };
    }
    const alike = all.filter((one) => !one.difference && one.palette === view.palette && one.scan.units === view.scan.units);
    const locked = nmri.lockedRange();
    if (locked && nmri.scan().units === view.scan.units && view.scan.mode === store.mode) return locked;
    const own = view.scan.range;
    if (alike.some((one) => one.scan.range.scale !== own.scale)) return own;
    return {
      ...own,
      vmin: Math.min(...alike.map((one) => one.scan.range.vmin)),
      vmax: Math.max(...alike.map((one) => one.scan.range.vmax)),
    };
  }

  /* Parts of the canvas, shares of its width and height from the bottom left corner: [x0, y0, x1, y1]. */
  function parts(count, wide) {
    const columns = count <= 1 ? 1 : count === 4 ? 2 : wide ? count : 1;
    const rows = Math.ceil(count / columns);
    return Array.from({ length: count }, (_, at) => {
      const [column, row] = [at % columns, rows - 1 - Math.floor(at / columns)];
      return [column / columns, row / rows, (column + 1) / columns, (row + 1) / rows];
    });
  }

  function changed() {
    const { layer } = nmri.linked; // of the painter that draws now
    if (!layer) return;
    const before = layer.views.length;
    layer.follow();
    if (before !== layer.views.length && nmri.fitView) nmri.fitView(true, false);
  }

  watch(
    () => [state.kind, store.revision, store.mode, store.step, store.threshold, store.palette, store.locked, nmri.isGlass()],
    changed,
    { flush: "post" },
  );
  watch(
    () => (window.trame && store.revision >= 0 ? data.geometry && data.geometry.epoch : 0),
    () => {
      // Edits belong to their model; pins stay.
      if (state.kind === "edits") show("");
    },
  );

  // -- what is said of it -----------------------------------------------------------------------------------------

  nmri.components["nmri-linked"] = {
    template: `
      <div v-if="list.length" class="linked" data-testid="linked-views">
        <section v-for="(view, at) in list" :key="at" class="linked-view" :style="view.style" :data-testid="'linked-' + at"
          :aria-label="view.title">
          <header>
            <b>{{ view.title }}</b>
            <span v-if="view.named">{{ view.model }}</span>
            <span>{{ view.scan.mode }}</span>
            <span v-if="view.token">at <i>{{ view.token }}</i></span>
            <span v-if="view.scan.prompt" class="prompt" :title="view.scan.prompt">“{{ view.scan.prompt }}”</span>
            <button v-if="view.id" type="button" class="quiet" :aria-label="'Take away ' + view.title"
              :data-testid="'unpin-' + at" @click="unpin(view.id)">✕</button>
          </header>
          <footer><i :style="{ background: view.bar }"></i>{{ view.low }} … {{ view.high }} {{ view.scan.units }}</footer>
        </section>
        <div v-if="hover" class="tooltip" role="status" :style="hover.style" data-testid="linked-tooltip">
          <b>{{ hover.id }}</b>
          <span v-for="line in hover.lines" :key="line.title">{{ line.title }} <i class="data">{{ line.value }}</i></span>
        </div>
      </div>`,
    setup() {
      const list = computed(() => {
        const all = views();
        const rects = parts(all.length, state.wide);
        const models = new Set(all.map((view) => view.model));
        return all.map((view, at) => {
          const [x0, y0, x1, y1] = rects[at];
          const range = rangeOf(view, all);
          const palette = nmri.paletteOf(view.palette);
          const stops = palette ? Array.from({ length: 9 }, (_, i) => colors.cssColor(palette, i / 8)).join(", ") : "none";
          return {
            ...view,
            named: models.size > 1,
            token: tokenAt(view),
            low: nmri.format(range.vmin),
            high: nmri.format(range.vmax),
            bar: `linear-gradient(to right, ${stops})`,
            style: {
              left: `${100 * x0}%`,
              bottom: `${100 * y0}%`,
              width: `calc(${100 * (x1 - x0)}% - ${x1 < 1 ? LINE : 0}px)`,
              height: `calc(${100 * (y1 - y0)}% - ${y1 < 1 ? LINE : 0}px)`,
            },
          };
        });
      });
      const hover = computed(() => {
        const at = state.hover;
        if (!at || !at.id) return null;
        const lines = views().map((view) => {
          const row = view.ids.indexOf(at.id);
          return { title: view.title, value: row < 0 ? "not in this model" : nmri.format(valuesOf(view)[row]) };
        });
        const left = at.x + 260 > at.width ? { right: `${at.width - at.x + 14}px` } : { left: `${at.x + 14}px` };
        const top = at.y + 110 > at.height ? { bottom: `${at.height - at.y + 12}px` } : { top: `${at.y + 12}px` };
        return { id: at.id, lines, style: { ...left, ...top } };
      });
      return { list, hover, unpin };
    },
  };

  nmri.keys.push(
    ["p", "pin what is shown", () => !store.remote && pin()],
    ["l", "link the pins with what is shown", () => !store.remote && state.pins.length > 0 && show(state.kind === "pins" ? "" : "pins")],
  );
  nmri.linked = { state, pin, unpin, show, views, rangeOf, valuesOf, parts, layer: null };
})();
