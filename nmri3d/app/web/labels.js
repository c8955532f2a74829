/* The label volume: which component and which tissue every voxel is, fetched once a brain for slices and volume alike.

   Convention. RAS millimetres; x runs fastest. A voxel's code is 0 outside, 1 in white matter, 2 + row in the cortex of a
   component. It comes compressed; see app/parts/volume.py.

   Left out: drawing (slices.js, volume.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, data } = nmri;
  const { reactive, markRaw } = window.Vue;

  const state = reactive({ volume: null, epoch: 0, busy: false });

  async function inflated(bytes) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint16Array(await new Response(stream).arrayBuffer());
  }

  class LabelVolume {
    constructor(payload, codes) {
      Object.assign(this, payload, {
        codes,
        points: nmri.typed(Float32Array, payload.points),
        side: nmri.typed(Int8Array, payload.side),
      });
    }

    /* Index of the slice along an axis at a place in mm, also outside of the image. */
    indexAt(axis, mm) {
      return Math.floor((mm - this.origin[axis]) / this.voxel + 0.5);
    }

    mmAt(axis, index) {
      return this.origin[axis] + index * this.voxel;
    }

    /* Code at a point in mm; 0 outside of the image. */
    codeAt(x, y, z) {
      const [width, depth, height] = this.shape;
      const i = this.indexAt(0, x);
      const j = this.indexAt(1, y);
      const k = this.indexAt(2, z);
      if (i < 0 || j < 0 || k < 0 || i >= width || j >= depth || k >= height) return 0;
      return this.codes[(k * depth + j) * width + i];
    }

    /* Component row at a point in mm, -1 for none. */
    rowAt(point) {
      return Math.max(-1, this.codeAt(...point) - 2);
    }

    /* Where the crosshair goes for a component; null where it has no place. */
    pointOf(row) {
      const point = Array.from(this.points.subarray(row * 3, row * 3 + 3));
      return row >= 0 && point.every(Number.isFinite) ? point : null;
    }
  }

  /* The volume of the brain that is shown, null before it is there. */
  function current() {
    return state.epoch === store.epoch ? state.volume : null;
  }

  let pending = null; // the one fetch that is under way, for all who wait for it

  /* Have the volume of the brain that is shown; null where it cannot be had (the log says why). */
  async function fetch() {
    if (!data.geometry || current()) return current();
    pending ??= load();
    return pending;
  }

  async function load() {
    const epoch = store.epoch;
    state.busy = true;
    let payload = null;
    try {
      payload = await nmri.trigger("label_volume", epoch);
      const volume = payload && new LabelVolume(payload, await inflated(payload.codes));
      if (epoch === store.epoch) Object.assign(state, { volume: volume && markRaw(volume), epoch });
    } catch (broken) {
      payload = null; // the connection broke; the page says so
    } finally {
      state.busy = false;
      pending = null;
    }
    if (epoch !== store.epoch) return fetch(); // another brain came meanwhile
    return current();
  }

  nmri.labels = { state, current, fetch };
})();
