/* Forms of the brain: points and normals of the drawn, split mesh for every surface and every layout of balls.

   Convention. A form is {name, kind: "surface" | "flat" | "nodes", points, normals, faces, frame, center, radius}: points and
   normals float32 [split vertices * 3]; faces, Uint8Array [faces] with 1 for those that it draws, or null for all; frame,
   where tracts end on it (tubes.js), or null. Of "nodes": center float32 [components * 3] and radius [components], mm, NaN
   without a place; a ball's points are center + radius * direction, with the directions that the server sends once.
   A form is fetched once and kept with the brain (`geometry.forms`); a change between two is a mix of two arrays here.

   Left out: which form is shown (shape.js), drawing (painter.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;

  const NORMAL = 32767; // stands for 1 in normals and directions

  function unpacked(bytes) {
    return Float32Array.from(nmri.typed(Int16Array, bytes), (value) => value / NORMAL);
  }

  /* Faces with a component, for forms that have no place for the others. */
  function facesWithComponent(geometry) {
    return Uint8Array.from(geometry.faceComponent, (row) => (row < 0 ? 0 : 1));
  }

  /* Component of every split vertex; `faces` as vtk.js keeps them. */
  function componentOfSplit(faces, faceComponent, count) {
    const result = new Int32Array(count).fill(-1);
    for (let face = 0, at = 0; face < faceComponent.length; face += 1, at += 4)
      for (let corner = 1; corner <= 3; corner += 1) result[faces[at + corner]] = faceComponent[face];
    return result;
  }

  /* A form of balls. */
  function balls(geometry, name, center, radius, frame) {
    const { directions, components } = geometry;
    const points = new Float32Array(directions.length);
    for (let vertex = 0; vertex < components.length; vertex += 1) {
      const row = components[vertex];
      if (row < 0 || !(radius[row] > 0)) continue; // not drawn
      for (let axis = 0; axis < 3; axis += 1)
        points[vertex * 3 + axis] = center[row * 3 + axis] + radius[row] * directions[vertex * 3 + axis];
    }
    return { name, kind: "nodes", points, normals: directions, faces: facesWithComponent(geometry), frame, center, radius };
  }

  /* A form as the server sends it; see payloads.form_payload. */
  function open(geometry, payload) {
    const { name, kind } = payload;
    const frame = payload.frame ? nmri.tubes.openFrame(payload.frame) : null;
    if (kind === "nodes")
      return balls(geometry, name, nmri.typed(Float32Array, payload.center), nmri.typed(Float32Array, payload.radius), frame);
    return {
      name,
      kind,
      points: nmri.typed(Float32Array, payload.points),
      normals: unpacked(payload.normals),
      faces: kind === "flat" ? facesWithComponent(geometry) : null,
      frame,
    };
  }

  /* The directions of balls, fetched once; whether they are there. */
  async function fetchDirections() {
    const { geometry } = nmri.data;
    if (geometry && !geometry.directions) {
      const bytes = await nmri.trigger("ball_directions", geometry.epoch);
      if (bytes && !geometry.directions) geometry.directions = unpacked(bytes);
    }
    return Boolean(geometry && geometry.directions);
  }

  const underWay = new Map(); // by brain and name: the promise of a form

  /* The form of that name, fetched on first use; null where it did not come (the log says why). */
  async function fetch(name) {
    const { geometry } = nmri.data;
    if (!geometry || !geometry.forms) return null;
    if (geometry.forms[name]) return geometry.forms[name];
    const key = `${geometry.epoch} ${name}`;
    if (!underWay.has(key)) underWay.set(key, ask(geometry, name).finally(() => underWay.delete(key)));
    return underWay.get(key);
  }

  async function ask(geometry, name) {
    try {
      const payload = await nmri.trigger("form", name, geometry.epoch);
      if (payload && (payload.kind !== "nodes" || (await fetchDirections()))) geometry.forms[name] = open(geometry, payload);
    } catch (broken) {
      return null; // the connection broke; the page says so
    }
    return geometry.forms[name] || null;
  }

  /* Write the mix of two forms, `weight` of the way from a to b, into points and normals. */
  function mix(a, b, weight, points, normals) {
    for (let at = 0; at < points.length; at += 1) points[at] = a.points[at] + (b.points[at] - a.points[at]) * weight;
    for (let at = 0; at < normals.length; at += 3) {
      const x = a.normals[at] + (b.normals[at] - a.normals[at]) * weight;
      const y = a.normals[at + 1] + (b.normals[at + 1] - a.normals[at + 1]) * weight;
      const z = a.normals[at + 2] + (b.normals[at + 2] - a.normals[at + 2]) * weight;
      const length = Math.sqrt(x * x + y * y + z * z) || 1;
      normals[at] = x / length;
      normals[at + 1] = y / length;
      normals[at + 2] = z / length;
    }
  }

  /* Faces that both forms draw; null for all. */
  function commonFaces(a, b) {
    if (!a.faces || !b.faces) return a.faces || b.faces;
    return a.faces === b.faces ? a.faces : a.faces.map((drawn, face) => drawn & b.faces[face]);
  }

  nmri.forms = { fetch, fetchDirections, mix, balls, commonFaces, componentOfSplit };
})();
