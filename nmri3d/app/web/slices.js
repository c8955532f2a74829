/* <nmri-slices>: axial, coronal and sagittal slices of the label volume, painted by the colors of the surface.

   Convention. Radiological, as nmri3d/scene/slices.py draws them: the patient's left is on the picture's right. One crosshair,
   a point in mm (RAS), is common to all three; all have one scale. A selection moves it to the component; a press on a slice
   moves it there and selects what is there. Nothing here asks the server, save for the labels, once.

   Left out: the labels (labels.js), colors (colors.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, labels } = nmri;
  const { reactive, computed, ref, watch, onMounted, onBeforeUnmount } = window.Vue;

  const NAMES = ["axial", "coronal", "sagittal"];
  const AXES = ["x", "y", "z"];
  const BAR = 50; // mm of the scale bar
  const GAP = 6; // CSS pixels between pictures
  const PAGE = 10; // slices that Page Up and Page Down go
  const KEYS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: PAGE, PageDown: -PAGE };
  const CROSSHAIR = "rgba(0, 255, 170, 0.55)";
  const CROSSHAIR_GAP = 7; // CSS pixels that stay free around the point

  const state = reactive({
    point: [-32, -20, 14], // mm; where the first look finds both tissue and cortex in each slice
    pointer: null, // {row, code} under the pointer
    scale: 1, // CSS pixels a mm
  });

  /* Colors of components as they are painted now, uint8 [n * 4]. */
  function shownColors() {
    const table = nmri.geometry();
    const scan = nmri.scan();
    const palette = nmri.palette();
    const n = table ? table.ids.length : 0;
    if (!scan || !palette || scan.components !== n) return new Uint8Array(n * 4);
    return nmri.colors.componentColors(nmri.values(), nmri.range(), palette, store.threshold).colors;
  }

  /* The slice of a plane through the crosshair: {width, height, codes}, codes as its picture lies. */
  function cutSlice(volume, plane) {
    const { shape, codes } = volume;
    const strides = [1, shape[0], shape[0] * shape[1]];
    const [width, height] = [shape[plane.across], shape[plane.down]];
    const index = volume.indexAt(plane.cut, state.point[plane.cut]);
    const cut = new Uint16Array(width * height);
    if (index >= 0 && index < shape[plane.cut])
      for (let row = 0; row < height; row += 1)
        for (let column = 0; column < width; column += 1)
          cut[row * width + column] =
            codes[index * strides[plane.cut] + (width - 1 - column) * strides[plane.across] + (height - 1 - row) * strides[plane.down]];
    return { width, height, codes: cut };
  }

  /* RGBA of a slice, a pixel a voxel; see scene/slices.py, slice_image. */
  function pixels({ width, height, codes }, colors, { unpainted, white }) {
    const image = new ImageData(width, height);
    const { data } = image;
    for (let at = 0; at < codes.length; at += 1) {
      const code = codes[at];
      if (code === 0) continue;
      const painted = code > 1 ? colors[(code - 2) * 4 + 3] / 255 : 0;
      for (let channel = 0; channel < 3; channel += 1)
        data[at * 4 + channel] =
          code === 1
            ? white[channel]
            : Math.floor(unpainted[channel] * (1 - painted) + colors[(code - 2) * 4 + channel] * painted + 0.5);
      data[at * 4 + 3] = 255;
    }
    return image;
  }

  const scratch = document.createElement("canvas");

  function draw(canvas, volume, plane, colors) {
    const density = window.devicePixelRatio || 1;
    const slice = cutSlice(volume, plane);
    const { width, height, codes } = slice;
    const size = state.scale * volume.voxel * density; // device pixels a voxel
    canvas.width = Math.max(1, Math.round(width * size));
    canvas.height = Math.max(1, Math.round(height * size));
    canvas.style.width = `${canvas.width / density}px`;
    canvas.style.height = `${canvas.height / density}px`;
    const context = canvas.getContext("2d");
    scratch.width = width;
    scratch.height = height;
    scratch.getContext("2d").putImageData(pixels(slice, colors, volume.slices), 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(scratch, 0, 0, canvas.width, canvas.height);
    if (store.selected >= 0) outline(context, slice, store.selected + 2, size, volume.slices.glow);
    crosshair(context, volume, plane, size, density);
    canvas.dataset.index = String(volume.indexAt(plane.cut, state.point[plane.cut]));
    return codes;
  }

  /* A line around the voxels of a code, on their outside. */
  function outline(context, { width, height, codes }, code, size, glow) {
    const thick = Math.max(1, Math.round(size / 3));
    const at = (number) => Math.round(number * size);
    context.fillStyle = `rgb(${glow.join(",")})`;
    const is = (column, row) => column >= 0 && row >= 0 && column < width && row < height && codes[row * width + column] === code;
    for (let row = 0; row < height; row += 1)
      for (let column = 0; column < width; column += 1) {
        if (!is(column, row)) continue;
        const [left, top, right, bottom] = [at(column), at(row), at(column + 1), at(row + 1)];
        for (const [step, x] of [[-1, left - thick], [1, right]])
          if (!is(column + step, row)) context.fillRect(x, top - thick, thick, bottom - top + 2 * thick);
        for (const [step, y] of [[-1, top - thick], [1, bottom]])
          if (!is(column, row + step)) context.fillRect(left - thick, y, right - left + 2 * thick, thick);
      }
    // The strips reach around corners, over neighbors of the same code: those get their color back.
    context.imageSmoothingEnabled = false;
    for (let row = 0; row < height; row += 1)
      for (let column = 0; column < width; column += 1)
        if (is(column, row))
          context.drawImage(scratch, column, row, 1, 1, at(column), at(row), at(column + 1) - at(column), at(row + 1) - at(row));
  }

  function crosshair(context, volume, plane, size, density) {
    const middle = (axis) =>
      (volume.shape[axis] - 0.5 - (state.point[axis] - volume.origin[axis]) / volume.voxel) * size;
    const [x, y] = [Math.floor(middle(plane.across)), Math.floor(middle(plane.down))];
    const gap = CROSSHAIR_GAP * density;
    const thin = Math.max(1, Math.round(density));
    const { width, height } = context.canvas;
    context.fillStyle = CROSSHAIR;
    context.fillRect(0, y, x - gap, thin);
    context.fillRect(x + gap, y, width - x - gap, thin);
    context.fillRect(x, 0, thin, y - gap);
    context.fillRect(x, y + gap, thin, height - y - gap);
  }

  let selecting = false; // a selection that came from a slice leaves the crosshair where it was put

  function selectAt(volume, point) {
    const row = volume.rowAt(point);
    if (row < 0) return;
    selecting = true;
    nmri.select(row);
  }

  function goTo(row) {
    const volume = labels.current();
    const point = volume && !selecting ? volume.pointOf(row) : null;
    selecting = false;
    if (point) state.point = point;
  }

  nmri.onSelect(goTo);
  nmri.keys.push(["s", "slices", () => (store.slices = !store.slices) || true]);

  nmri.components["nmri-slices"] = {
    template: `
      <aside class="slices" ref="panel" aria-label="Slices" data-testid="slices-panel">
        <p v-if="!volume" class="slices-wait" role="status">CUTTING SLICES …</p>
        <template v-else>
          <figure v-for="name in NAMES" :key="name" :class="['slice', name]">
            <canvas
              :ref="(element) => keep(name, element)"
              tabindex="0"
              role="slider"
              aria-orientation="vertical"
              :data-testid="'slice-' + name"
              :aria-label="name + ' slice; arrow keys step, Enter selects'"
              :aria-valuenow="Math.round(place(name))"
              :aria-valuemin="ends(name)[0]"
              :aria-valuemax="ends(name)[1]"
              :aria-valuetext="AXES[planes[name].cut] + ' ' + Math.round(place(name)) + ' mm'"
              @pointerdown="press($event, name)"
              @pointermove="move($event, name)"
              @pointerup="release($event, name)"
              @pointerleave="state.pointer = null"
              @wheel.prevent="step(name, $event.deltaY < 0 ? 1 : -1)"
              @keydown="key($event, name)"
            ></canvas>
            <span v-for="(letter, at) in planes[name].letters" :key="at" :class="['edge', EDGES[at]]" aria-hidden="true">{{ letter }}</span>
            <figcaption>{{ name }} <b>{{ AXES[planes[name].cut] }} {{ place(name).toFixed(0) }}</b></figcaption>
          </figure>
          <div class="slices-facts">
            <p class="convention" data-testid="slices-convention">RADIOLOGICAL<br>patient’s left on the right</p>
            <p class="data" data-testid="crosshair">{{ coordinates }} mm</p>
            <p v-if="row >= 0"><b>{{ table.ids[row] }}</b><br>{{ nmri.kindName(table.kind[row]) }}
              <span v-if="scan" class="data">{{ nmri.valueText(row) }}</span></p>
            <p v-else>{{ tissue }}</p>
            <p class="scale-bar"><i :style="{ width: BAR * state.scale + 'px' }"></i>{{ BAR }} mm</p>
          </div>
        </template>
      </aside>`,
    setup() {
      const panel = ref(null);
      const canvases = {};
      const volume = computed(labels.current);
      const planes = computed(() => (volume.value ? volume.value.slices.planes : {}));
      const code = computed(() => {
        if (state.pointer) return state.pointer.code;
        return volume.value ? volume.value.codeAt(...state.point) : 0;
      });
      let request = 0;
      let resizeWatch = null;

      /* One scale for all three: axial beside coronal, sagittal under them. */
      function fit() {
        const box = panel.value && panel.value.getBoundingClientRect();
        if (!box || !volume.value) return;
        const figure = panel.value.querySelector(".slice");
        if (!figure) return;
        const style = window.getComputedStyle(figure);
        const sides = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight) + GAP; // letters stand there
        const ends = parseFloat(style.paddingTop) + parseFloat(style.paddingBottom) + GAP;
        const [x, y, z] = volume.value.shape.map((count) => count * volume.value.voxel);
        state.scale = Math.max(0.3, Math.min((box.width - 2 * sides) / (2 * x), (box.height - 2 * ends) / (y + z)));
      }

      function redraw() {
        request = request || window.requestAnimationFrame(() => {
          request = 0;
          if (!volume.value) return;
          const colors = shownColors();
          for (const [name, canvas] of Object.entries(canvases)) draw(canvas, volume.value, planes.value[name], colors);
        });
      }

      function keep(name, element) {
        if (!element) delete canvases[name];
        else if (canvases[name] !== element) {
          canvases[name] = element;
          fit();
          redraw();
        }
      }

      const place = (name) => state.point[planes.value[name].cut];

      function ends(name) {
        const { cut } = planes.value[name];
        return [0, volume.value.shape[cut] - 1].map((index) => Math.round(volume.value.mmAt(cut, index)));
      }

      /* The point in mm under an event on a slice. */
      function pointUnder(event, name) {
        const { across, down } = planes.value[name];
        const box = canvases[name].getBoundingClientRect();
        const point = [...state.point];
        for (const [axis, share] of [[across, (event.clientX - box.left) / box.width], [down, (event.clientY - box.top) / box.height]]) {
          const count = volume.value.shape[axis];
          const index = Math.min(count - 1, Math.max(0, Math.floor((1 - share) * count)));
          point[axis] = volume.value.mmAt(axis, index);
        }
        return point;
      }

      function press(event, name) {
        if (event.button !== 0) return;
        canvases[name].setPointerCapture(event.pointerId);
        state.point = pointUnder(event, name);
        state.pointer = null;
      }

      function move(event, name) {
        const point = pointUnder(event, name);
        if (event.buttons & 1) state.point = point;
        else state.pointer = { code: volume.value.codeAt(...point) };
      }

      function release(event, name) {
        if (event.button === 0) selectAt(volume.value, pointUnder(event, name));
      }

      function step(name, count) {
        const { cut } = planes.value[name];
        const last = volume.value.shape[cut] - 1;
        const index = Math.min(last, Math.max(0, volume.value.indexAt(cut, state.point[cut]) + count));
        state.point = state.point.map((mm, axis) => (axis === cut ? volume.value.mmAt(cut, index) : mm));
        state.pointer = null;
      }

      function key(event, name) {
        if (event.altKey || event.ctrlKey || event.metaKey) return;
        if (event.key in KEYS) step(name, KEYS[event.key]);
        else if (event.key === "Enter" || event.key === " ") selectAt(volume.value, state.point);
        else return;
        event.preventDefault();
        event.stopPropagation(); // arrows step tokens elsewhere
      }

      onMounted(() => {
        labels.fetch();
        resizeWatch = new ResizeObserver(() => {
          fit();
          redraw();
        });
        resizeWatch.observe(panel.value);
      });
      onBeforeUnmount(() => {
        window.cancelAnimationFrame(request);
        if (resizeWatch) resizeWatch.disconnect();
      });
      watch(() => store.epoch, () => labels.fetch());
      watch(volume, (there) => there && goTo(store.selected), { immediate: true });
      watch(
        () => [volume.value, ...state.point, state.scale, store.selected, store.mode, store.revision, store.palette, store.step, store.threshold],
        redraw,
        { flush: "post" },
      );
      return {
        panel,
        keep,
        volume,
        planes,
        place,
        ends,
        press,
        move,
        release,
        step,
        key,
        state,
        nmri,
        NAMES,
        AXES,
        BAR,
        EDGES: ["left", "right", "top", "bottom"],
        row: computed(() => code.value - 2),
        tissue: computed(() => ["outside the cortex", "white matter"][code.value]),
        coordinates: computed(() => state.point.map((mm, axis) => `${AXES[axis]} ${mm.toFixed(0)}`).join("  ")),
        table: computed(nmri.geometry),
        scan: computed(nmri.scan),
      };
    },
  };

  nmri.slices = { state, cutSlice, pixels, shownColors };
})();
