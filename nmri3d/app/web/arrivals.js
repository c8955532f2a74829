/* What arrives from the server: color tables, the brain, scans. It comes as bytes and is kept as typed arrays.

   Convention. A scan arrives once, whole: [steps, components] float32. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, data } = nmri;

  /* Bytes as they come out of MessagePack (a view at any offset) to an array of its own. */
  function typed(Type, bytes) {
    const view = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes;
    return new Type(view.slice().buffer);
  }

  function takePalettes(payload) {
    if (!payload) return;
    for (const [variant, tables] of Object.entries(payload))
      data.palettes[variant] = Object.fromEntries(
        Object.entries(tables).map(([mode, bytes]) => [mode, typed(Uint8Array, bytes)]),
      );
    store.revision += 1;
  }

  /* Components and cortex of a model; null when it goes. `payload.again`: the same model in another layout, and what was
     selected and measured stays. */
  function takeGeometry(payload) {
    store.painted = false;
    store.hover = null;
    if (!payload || !payload.again) {
      store.selected = -1;
      store.edge = null;
      store.neuron = -1;
    }
    if (!payload) {
      data.geometry = null;
      data.scans = {};
      data.lockedRanges = {};
      store.locked = false;
      store.epoch = 0;
      store.revision += 1;
      return;
    }
    const rowOfId = new Map(payload.ids.map((id, row) => [id, row]));
    data.geometry = {
      ...payload,
      rowOfId,
      layer: typed(Int32Array, payload.layer),
      faceComponent: payload.face_component && typed(Int32Array, payload.face_component),
      borderEdges: payload.border_edges && typed(Int32Array, payload.border_edges),
      vertexOfSplit: payload.vertex_of_split && typed(Int32Array, payload.vertex_of_split),
      forms: {}, // by name, as forms.js opens them
      components: null, // of every split vertex
      directions: null, // of every split vertex from the middle of its ball
    };
    if (!payload.again) store.surface = payload.surface;
    store.layout = payload.layout;
    store.wanted = { layout: payload.layout, features: payload.features, area: payload.area };
    store.epoch = payload.epoch;
    store.revision += 1;
  }

  function opened(payload) {
    const values = typed(Float32Array, payload.values);
    return { ...payload, values, components: values.length / payload.steps };
  }

  function takeScan(mode, payload) {
    if (!payload) {
      if (data.scans[mode]) {
        delete data.scans[mode];
        store.revision += 1;
      }
      return;
    }
    const scan = opened(payload);
    const previous = data.scans[mode];
    data.scans[mode] = scan;
    if (mode === store.mode) {
      store.playing = false;
      // The same prompt measured another way stays at its token; a new prompt starts at the token that predicts.
      const same = previous && previous.tokens.join("\n") === scan.tokens.join("\n");
      if (!same) store.step = scan.steps - 1;
    }
    store.revision += 1;
  }

  /* Something to be painted instead of a tab's own scan: {what, palette, payload}, or null to paint the scan again. */
  function takePainting(painting) {
    data.painting = painting && opened(painting.payload);
    store.painting = painting ? painting.what : "";
    store.revision += 1;
    if (store.remote) nmri.trigger("remote_step", nmri.currentStep());
  }

  /* One more token of a generation: {number, token, values}. It is appended to the fMRI scan and becomes the shown one. */
  function takeGenerated(step) {
    const scan = data.scans.fMRI;
    if (!step || !scan || step.number !== scan.steps) return; // the whole scan was sent meanwhile
    const values = new Float32Array(scan.values.length + scan.components);
    values.set(scan.values);
    values.set(typed(Float32Array, step.values), scan.values.length);
    data.scans.fMRI = {
      ...scan,
      values,
      steps: scan.steps + 1,
      tokens: [...scan.tokens, step.token],
      special: [...scan.special, false],
      generated: (scan.generated || 0) + 1,
    };
    if (store.mode === "fMRI" && !nmri.painted()) store.step = scan.steps;
    store.revision += 1;
  }

  Object.assign(nmri, { openedScan: opened, typed, takePalettes, takeGeometry, takeScan, takePainting, takeGenerated });
})();
