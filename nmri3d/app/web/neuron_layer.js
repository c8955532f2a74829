/* The neuron layer: draws MLP parcels neuron by neuron, with the vtk.js actor that came, empty, with the scene.

   Convention. It takes points and normals from the painter's split mesh, and the faces of its parcels from the cortex. Its
   texture holds every texel's color; a texel knows its neuron (`ids`) and its fold (`folds`), and the rules are those of
   nmri3d/scene/neuron_texture.py. A neuron's byte is its place on the bar, 0 to `top`, or 255 for none.

   Left out: what is fetched and when (neurons.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { colors, geo } = nmri;

  const MARK = [0, 255, 170];
  const NO_VALUE = 255;

  async function inflated(bytes) {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /* The picture of ids, int32 [height * width]; see nmri3d/app/neuron_payload.py for the codes. */
  function decodedIds(codes, list, width) {
    const ids = new Int32Array(codes.length);
    let next = 0;
    for (let at = 0, column = 0; at < codes.length; at += 1, column = column + 1 === width ? 0 : column + 1) {
      const code = codes[at];
      if (code === 0) ids[at] = column > 0 ? ids[at - 1] : -1;
      else if (code === 1) ids[at] = at >= width ? ids[at - width] : -1;
      else if (code === 2) ids[at] = at >= width && column + 1 < width ? ids[at - width + 1] : -1;
      else if (code === 3) ids[at] = at >= width && column > 0 ? ids[at - width - 1] : -1;
      else ids[at] = list[next++];
    }
    return ids;
  }

  function decodedFolds(differences, width) {
    for (let at = 0; at < differences.length; at += 1)
      if (at % width) differences[at] += differences[at - 1]; // modulo 256
    return differences;
  }

  /* A chart as the server sends it; see neuron_payload.chart_payload. */
  async function openChart(payload) {
    const { width } = payload;
    const [codes, list, fold] = await Promise.all([payload.codes, payload.ids, payload.fold].map(inflated));
    const coordinates = Float32Array.from(nmri.typed(Uint16Array, payload.coordinates), (value) => value / 65535);
    return {
      ...payload,
      ids: decodedIds(codes, new Int32Array(list.buffer), width),
      folds: decodedFolds(fold, width),
      vertices: nmri.typed(Int32Array, payload.vertices),
      coordinates,
    };
  }

  /* Color of every byte at every fold, one uint32 (RGBA in memory) each: [folds * 256].

     paint: {range, palette, threshold}; glass: whether the cortex is translucent. */
  function colorTable(paint, chart, layout, glass) {
    const tints = new Uint8Array(256 * 4);
    const strengths = new Float32Array(256);
    for (let code = 0; code <= chart.top; code += 1) {
      const place = code / chart.top;
      strengths[code] = colors.strength(place, paint.range);
      if (paint.threshold > 0 && strengths[code] < paint.threshold) continue;
      const from = Math.floor(place * 255 + 0.5) * 3;
      tints.set([paint.palette[from], paint.palette[from + 1], paint.palette[from + 2], 255], code * 4);
    }
    const pairs = new Uint8Array(2 * 256 * 4);
    colors.writeTexture(pairs, 4, tints, null, { ...layout, width: 256, height: 2, solid: [] }, glass ? strengths : null);
    const table = new Uint8Array(chart.fold_levels * 256 * 4);
    for (let fold = 0; fold < chart.fold_levels; fold += 1) {
      const share = fold / (chart.fold_levels - 1);
      for (let at = 0; at < 1024; at += 1)
        table[fold * 1024 + at] = Math.floor(pairs[at] * (1 - share) + pairs[1024 + at] * share + 0.5);
    }
    return new Uint32Array(table.buffer);
  }

  class NeuronLayer {
    constructor(painter) {
      this.painter = painter;
      const { scene } = painter.geometry;
      this.actor = painter.view.ctx.getInstance(scene.neurons);
      this.texture = painter.view.ctx.getInstance(scene.neuron_texture);
      const mesh = this.actor && this.actor.getMapper().getInputData();
      if (!mesh || !this.texture || !mesh.getPointData().getTCoords()) throw new Error("the scene is not whole yet");
      this.mesh = mesh;
      this.actor.setVisibility(false);
      this.texture.setInterpolate(false); // ids have no mean
      this.texture.set({ resizable: true }, true);
      const node = painter.view.openglRenderWindow.getViewNodeFor(this.texture);
      if (node) node.releaseGraphicsResources(painter.view.openglRenderWindow);
      this.chart = null;
      this.shown = false;
      this.paint = null; // {codes, range, palette, threshold, marked}
      this.stale = false; // whether the texture is to be written anew
      this.glass = false;
    }

    /* Take the chart of this brain: who is where, once. */
    setChart(chart) {
      const { painter, mesh } = this;
      const { faceComponent, vertexOfSplit } = painter.geometry;
      this.chart = chart;
      const own = new Set(chart.mlps.map(([row]) => row));
      this.isOwn = Uint8Array.from(faceComponent, (row) => (own.has(row) ? 1 : 0));
      this.mask = this.isOwn.map((one) => 1 - one);
      this.local = new Int32Array(vertexOfSplit.length).fill(-1);
      chart.vertices.forEach((vertex, at) => (this.local[vertex] = at));
      const count = chart.vertices.length;
      mesh.getPoints().setData(new Float32Array(count * 3), 3);
      mesh.getPointData().getNormals().setData(new Float32Array(count * 3), 3);
      mesh.getPointData().getTCoords().setData(chart.coordinates, 2);
      this.texels = new Uint8Array(chart.width * chart.height * 4);
      const image = this.texture.getInputData();
      image.setDimensions(chart.width, chart.height, 1);
      image.getPointData().getScalars().setData(this.texels, 4);
      image.modified();
      this.stale = true;
    }

    /* Draw neurons, or leave their parcels to the cortex again. */
    show(wanted) {
      const shown = Boolean(wanted && this.chart && this.paint);
      if (shown === this.shown) return;
      this.shown = shown;
      this.actor.setVisibility(shown);
      if (shown) this.onGeometry();
      this.painter.setFaceMask(shown ? this.mask : null, "neurons");
      if (shown) this.onFaces();
      this.painter.requestDraw();
    }

    /* Paint neurons: {codes, range, palette, threshold, marked}; marked: row of the one with a ring, -1 for none. */
    setPaint(paint) {
      this.paint = paint;
      this.stale = true;
      if (this.shown) this.painter.requestDraw();
    }

    // -- what the painter tells ---------------------------------------------------------------------------------

    onPaint(now, target) {
      if (!this.shown) return;
      const glass = Boolean(target && target.glass);
      if (this.stale || glass !== this.glass) {
        this.glass = glass;
        this.stale = false;
        this.write();
      }
    }

    onGeometry() {
      if (!this.shown) return;
      const { mesh, painter } = this;
      const { vertices } = this.chart;
      for (const [from, array] of [
        [painter.points, mesh.getPoints()],
        [painter.normals, mesh.getPointData().getNormals()],
      ]) {
        const to = array.getData();
        for (let at = 0; at < vertices.length; at += 1) {
          const source = vertices[at] * 3;
          to[at * 3] = from[source];
          to[at * 3 + 1] = from[source + 1];
          to[at * 3 + 2] = from[source + 2];
        }
        array.modified();
      }
      mesh.modified();
    }

    onFaces() {
      if (!this.shown) return;
      const { allFaces } = this.painter;
      const allowed = this.painter.allowedFaces();
      const numbers = [];
      for (let face = 0; face < this.isOwn.length; face += 1)
        if (this.isOwn[face] && (!allowed || allowed[face])) numbers.push(face);
      this.faceNumbers = numbers;
      this.faces = new Uint32Array(numbers.length * 4);
      numbers.forEach((face, at) => {
        this.faces[at * 4] = 3;
        for (let corner = 1; corner <= 3; corner += 1)
          this.faces[at * 4 + corner] = this.local[allFaces[face * 4 + corner]];
      });
      this.mesh.getPolys().setData(this.faces);
      this.mesh.modified();
      this.actor.setVisibility(numbers.length > 0);
    }

    /* The neuron that a ray meets first, {row, edge, neuron, face, distance}; null for none. */
    pick(near, direction) {
      if (!this.shown) return null;
      const points = this.mesh.getPoints().getData();
      const { face, distance } = geo.hitFace(points, this.faces, near, direction);
      if (face < 0) return null;
      const number = this.faceNumbers[face];
      const place = near.map((value, axis) => value + distance * direction[axis]);
      return {
        row: this.painter.geometry.faceComponent[number],
        edge: -1,
        neuron: this.neuronAt(face, place),
        face: number,
        distance,
      };
    }

    close() {
      this.shown = false;
    }

    // -- helpers ------------------------------------------------------------------------------------------------

    /* Row of the neuron at a point of one of the drawn faces. */
    neuronAt(face, place) {
      const { width, height, coordinates, ids } = this.chart;
      const corners = [1, 2, 3].map((corner) => this.faces[face * 4 + corner]);
      const points = this.mesh.getPoints().getData();
      const [a, b, c] = corners.map((vertex) => Array.from(points.subarray(vertex * 3, vertex * 3 + 3)));
      const areas = [[b, c], [c, a], [a, b]].map(([one, two]) => Math.hypot(...geo.cross(geo.sub(one, place), geo.sub(two, place))));
      const sum = areas[0] + areas[1] + areas[2] || 1;
      let u = 0;
      let v = 0;
      corners.forEach((vertex, at) => {
        u += (coordinates[vertex * 2] * areas[at]) / sum;
        v += (coordinates[vertex * 2 + 1] * areas[at]) / sum;
      });
      const column = Math.min(width - 1, Math.max(0, Math.floor(u * width)));
      const row = Math.min(height - 1, Math.max(0, Math.floor(v * height)));
      return ids[row * width + column];
    }

    write() {
      const { ids, folds, width } = this.chart;
      const { codes, marked } = this.paint;
      const table = colorTable(this.paint, this.chart, this.painter.geometry.texture, this.glass);
      const out = new Uint32Array(this.texels.buffer);
      for (let at = 0; at < ids.length; at += 1) {
        const id = ids[at];
        out[at] = id < 0 ? 0 : table[folds[at] * 256 + codes[id]];
      }
      if (marked >= 0) this.ring(marked, out, width);
      this.actor.setForceOpaque(!this.glass);
      this.actor.setForceTranslucent(this.glass);
      const image = this.texture.getInputData();
      image.getPointData().getScalars().modified();
      image.modified();
      this.texture.modified();
    }

    /* Ring a neuron's cell with the color of the selection, on the texels around it. */
    ring(marked, out, width) {
      const { ids } = this.chart;
      const color = new Uint32Array(new Uint8Array([...MARK, 255]).buffer)[0];
      for (let at = 0; at < ids.length; at += 1) {
        if (ids[at] !== marked) continue;
        const column = at % width;
        for (let down = -1; down <= 1; down += 1)
          for (let right = -1; right <= 1; right += 1) {
            const beside = at + down * width + right;
            const within = column + right >= 0 && column + right < width && beside >= 0 && beside < ids.length;
            if (within && ids[beside] >= 0 && ids[beside] !== marked) out[beside] = color;
          }
      }
    }
  }

  nmri.neuronLayer = { NeuronLayer, openChart, decodedIds, decodedFolds, colorTable, NO_VALUE };
})();
