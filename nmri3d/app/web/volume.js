/* The volume: a layer of the painter that draws voxels instead of the cortex, through the vtk.js objects that came with the
   scene. What is drawn, and why, says nmri3d/scene/volume.py; the bytes made here are the server's.

   Convention. Painting writes four bytes a voxel of the cortex and sends nothing. The volume lies where the pial surface is:
   another surface, or a layout of balls, ends it.

   Left out: the labels (labels.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, labels } = nmri;
  const { watch } = window.Vue;

  /* Add up a line of numbers over a window of `width`, nothing beyond its ends. */
  function boxFilter(line, width) {
    const half = (width - 1) / 2;
    const { length } = line;
    const result = new Int32Array(length);
    let sum = 0;
    for (let at = 0; at < Math.min(half, length); at += 1) sum += line[at];
    for (let at = 0; at < length; at += 1) {
      if (at + half < length) sum += line[at + half];
      if (at - half > 0) sum -= line[at - half - 1];
      result[at] = sum;
    }
    return result;
  }

  /* Share of its color that every voxel keeps, uint8, 255 for all; see scene/volume.py, depth_shade. */
  function depthShade({ codes, shape, voxel, rules }) {
    const width = 2 * Math.floor(rules.reach / voxel + 0.5) + 1;
    const count = Int32Array.from(codes, (code) => (code ? 1 : 0));
    const strides = [1, shape[0], shape[0] * shape[1]];
    for (let axis = 0; axis < 3; axis += 1) {
      const [one, two] = [0, 1, 2].filter((other) => other !== axis);
      let line = new Int32Array(shape[axis]);
      for (let i = 0; i < shape[one]; i += 1)
        for (let j = 0; j < shape[two]; j += 1) {
          const start = i * strides[one] + j * strides[two];
          for (let at = 0; at < line.length; at += 1) line[at] = count[start + at * strides[axis]];
          line = boxFilter(boxFilter(line, width), width);
          for (let at = 0; at < line.length; at += 1) count[start + at * strides[axis]] = line[at];
        }
    }
    const full = width ** 6;
    return Uint8Array.from(count, (tissue) => {
      const kept = 1 - rules.darkening * (tissue / full - rules.open);
      return Math.floor(255 * Math.min(1, Math.max(rules.darkest, kept)) + 0.5);
    });
  }

  /* What drawing needs of a label volume: the voxels of the cortex, and how dark they are. */
  function prepare(volume) {
    if (volume.cortex) return;
    const { codes } = volume;
    volume.cortex = Uint32Array.from(codes.reduce((list, code, at) => (code > 1 && list.push(at), list), []));
    const shade = depthShade(volume);
    volume.shade = Uint8Array.from(volume.cortex, (at) => shade[at]);
  }

  /* Color and opacity of voxels of every component, uint8 [n * 4]; see scene/volume.py, component_rgba. */
  function componentRgba({ rules, side }, { colors, strengths }, selected, hemispheres) {
    const table = new Uint8Array(colors.length);
    const [least, most] = rules.opacity;
    for (let row = 0; row < strengths.length; row += 1) {
      const painted = colors[row * 4 + 3] / 255;
      for (let channel = 0; channel < 3; channel += 1)
        table[row * 4 + channel] = Math.floor(rules.unpainted[channel] * (1 - painted) + colors[row * 4 + channel] * painted + 0.5);
      let opacity = least + (most - least) * Math.min(1, Math.max(0, strengths[row] || 0)) * painted;
      if (row === selected) opacity = Math.max(opacity, rules.selected);
      if (!nmri.bodies.isShown(side[row], hemispheres)) opacity = 0;
      table[row * 4 + 3] = Math.floor(255 * opacity + 0.5);
    }
    return table;
  }

  /* Write the voxels' bytes, [voxels * 4]. */
  function writeVoxels(target, volume, table, selected) {
    const { codes, cortex, shade, shape, rules } = volume;
    const steps = [1, shape[0], shape[0] * shape[1]].flatMap((step) => [step, -step]);
    for (let number = 0; number < cortex.length; number += 1) {
      const voxel = cortex[number];
      const row = codes[voxel] - 2;
      const dark = shade[number];
      // The image's outermost voxels are empty: no step leaves it.
      const edge = row === selected && steps.some((step) => codes[voxel + step] > 1 && codes[voxel + step] - 2 !== row);
      for (let channel = 0; channel < 3; channel += 1)
        target[voxel * 4 + channel] = edge ? rules.glow[channel] : Math.floor((table[row * 4 + channel] * dark + 127) / 255);
      target[voxel * 4 + 3] = table[row * 4 + 3];
    }
  }

  class VolumeLayer {
    constructor(painter, actor) {
      this.painter = painter;
      this.actor = actor;
      this.image = actor.getMapper().getInputData();
      this.scalars = this.image.getPointData().getScalars();
      this.volume = null; // the one that is drawn
      this.table = null;
      this.written = [];
      actor.setVisibility(false);
      // A slow renderer draws fewer pixels while the brain is turned.
      actor.getMapper().setAutoAdjustSampleDistances(true);
    }

    /* Pulse and glow rest: nothing is seen of them. */
    get still() {
      return Boolean(this.volume);
    }

    /* Show a label volume instead of the cortex; null for the cortex. */
    show(volume) {
      if (volume === this.volume) return;
      const { painter } = this;
      this.volume = volume;
      this.written = [];
      if (volume) {
        prepare(volume);
        this.image.setDimensions(volume.shape);
        this.image.setOrigin(volume.origin);
        this.image.setSpacing([volume.voxel, volume.voxel, volume.voxel]);
        this.scalars.setData(new Uint8Array(volume.codes.length * 4), 4);
        painter.setFaceMask(new Uint8Array(painter.geometry.faceComponent.length), "volume");
      } else {
        painter.setFaceMask(null, "volume");
        painter.marks.place();
      }
      this.actor.setVisibility(Boolean(volume));
      painter.requestDraw();
    }

    onPaint(now, target) {
      const { volume, painter } = this;
      if (!volume) return;
      for (const ribbon of [painter.marks.borders, ...painter.marks.glow]) ribbon.setVisibility(false);
      const state = [volume, target, painter.selected, painter.hemispheres];
      if (!target || state.every((part, at) => part === this.written[at])) return;
      this.written = state;
      this.table = componentRgba(volume, target, painter.selected, painter.hemispheres);
      writeVoxels(this.scalars.getData(), volume, this.table, painter.selected);
      this.scalars.modified();
      this.image.modified();
    }

    /* The component of which most is seen along a ray, by what each sample adds. */
    pick(near, direction) {
      const { volume, table } = this;
      if (!volume || !table) return null;
      const length = Math.hypot(...direction);
      const way = direction.map((value) => value / length);
      let [from, to] = [0, length];
      for (let axis = 0; axis < 3; axis += 1) {
        const low = volume.origin[axis] - volume.voxel / 2;
        const ends = [low, low + volume.shape[axis] * volume.voxel].map((edge) => (edge - near[axis]) / way[axis]);
        if (Math.abs(way[axis]) < 1e-12) continue;
        from = Math.max(from, Math.min(...ends));
        to = Math.min(to, Math.max(...ends));
      }
      const step = volume.rules.sample_distance;
      const seen = new Map();
      let clear = 1;
      for (let at = from; at < to && clear > 1e-3; at += step) {
        const row = volume.rowAt(near.map((value, axis) => value + way[axis] * at));
        if (row < 0) continue;
        const opacity = 1 - (1 - table[row * 4 + 3] / 255) ** step;
        if (opacity === 0) continue;
        const { light, first } = seen.get(row) || { light: 0, first: at };
        seen.set(row, { light: light + clear * opacity, first });
        clear *= 1 - opacity;
      }
      let best = null;
      for (const [row, { light, first }] of seen) if (!best || light > best.light) best = { row, light, distance: first };
      return best && { row: best.row, distance: best.distance / length }; // in lengths of the ray, as of faces
    }

    close() {
      if (layer === this) layer = null;
    }
  }

  let layer = null;

  nmri.layers.push((painter) => {
    const { volume: id } = painter.geometry.scene;
    const actor = id ? painter.view.ctx.getInstance(id) : null;
    if (!actor || !actor.getMapper()) return null;
    layer = new VolumeLayer(painter, actor);
    window.setTimeout(update);
    return layer;
  });

  /* Whether the cortex, seen or not, has the shape of the volume: the slider between two forms stands at pial. */
  function isPial() {
    const { from, to, share } = nmri.shape.state;
    return (share === 0 ? from : share === 1 ? to : "") === "pial";
  }

  async function update() {
    const wanted = store.display === "volume" ? await labels.fetch() : null;
    if (layer && (store.display === "volume") === Boolean(wanted)) layer.show(wanted);
    if (store.display === "volume" && !wanted) store.display = "surface"; // it could not be had
  }

  /* Show voxels instead of the cortex, or the cortex again; the camera stays. */
  async function setVolume(on) {
    if (on && !isPial()) await nmri.setSurface("pial");
    store.display = on ? "volume" : "surface";
  }

  watch(() => [store.display, store.epoch], update);
  watch(isPial, (pial) => {
    if (!pial && store.display === "volume") store.display = "surface";
  });

  nmri.setVolume = setVolume;
  nmri.keys.push(["v", "volume", () => !store.remote && nmri.setVolume(store.display !== "volume")]);
  nmri.voxels = { prepare, componentRgba, writeVoxels };
})();
