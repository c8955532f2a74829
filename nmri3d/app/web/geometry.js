/* Geometry in the browser: picking, normals, the glowing border of a parcel, cameras.

   Convention. Points are millimetres, RAS (x right, y anterior, z superior). Faces come as vtk.js keeps them:
   [3, a, b, c, 3, ...], numbering the split vertices; `vertexOfSplit` leads from them to the cortex's own vertices.

   Left out: anything that draws. */

(function () {
  "use strict";

  const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => {
    const length = Math.hypot(a[0], a[1], a[2]) || 1;
    return [a[0] / length, a[1] / length, a[2] / length];
  };

  /* Nearest face that a ray hits (Möller-Trumbore over all faces): {face, distance}, face -1 for none; the distance is
     measured in lengths of `direction`. */
  function hitFace(points, faces, origin, direction) {
    const [ox, oy, oz] = origin;
    const [dx, dy, dz] = direction;
    let nearest = Infinity;
    let hit = -1;
    for (let at = 0, face = 0; at < faces.length; at += 4, face += 1) {
      const a = faces[at + 1] * 3;
      const b = faces[at + 2] * 3;
      const c = faces[at + 3] * 3;
      const ax = points[a];
      const ay = points[a + 1];
      const az = points[a + 2];
      const ux = points[b] - ax;
      const uy = points[b + 1] - ay;
      const uz = points[b + 2] - az;
      const vx = points[c] - ax;
      const vy = points[c + 1] - ay;
      const vz = points[c + 2] - az;
      const px = dy * vz - dz * vy;
      const py = dz * vx - dx * vz;
      const pz = dx * vy - dy * vx;
      const determinant = ux * px + uy * py + uz * pz;
      if (determinant < 1e-12 && determinant > -1e-12) continue;
      const inverse = 1 / determinant;
      const tx = ox - ax;
      const ty = oy - ay;
      const tz = oz - az;
      const u = (tx * px + ty * py + tz * pz) * inverse;
      if (u < 0 || u > 1) continue;
      const qx = ty * uz - tz * uy;
      const qy = tz * ux - tx * uz;
      const qz = tx * uy - ty * ux;
      const v = (dx * qx + dy * qy + dz * qz) * inverse;
      if (v < 0 || u + v > 1) continue;
      const distance = (vx * qx + vy * qy + vz * qz) * inverse;
      if (distance > 0 && distance < nearest) {
        nearest = distance;
        hit = face;
      }
    }
    return { face: hit, distance: nearest };
  }

  /* Thin ribbons along edges of the cortex ([a, b, a, b, ...], its own vertices), each edge a quad of its own.

     Returns {points, faces}; so narrow are they that the gaps at bends do not show. */
  function edgeRibbons(edges, points, normals, width, lift) {
    const count = edges.length / 2;
    const ribbon = new Float32Array(count * 12);
    const quads = new Uint32Array(count * 8);
    for (let edge = 0; edge < count; edge += 1) {
      const a = edges[edge * 2] * 3;
      const b = edges[edge * 2 + 1] * 3;
      const x = points[b] - points[a];
      const y = points[b + 1] - points[a + 1];
      const z = points[b + 2] - points[a + 2];
      const nx = normals[a] + normals[b];
      const ny = normals[a + 1] + normals[b + 1];
      const nz = normals[a + 2] + normals[b + 2];
      const side = [ny * z - nz * y, nz * x - nx * z, nx * y - ny * x];
      const scale = width / 2 / (Math.hypot(side[0], side[1], side[2]) || 1);
      for (let corner = 0; corner < 4; corner += 1) {
        const from = corner < 2 ? a : b;
        const sign = corner % 2 ? scale : -scale;
        for (let axis = 0; axis < 3; axis += 1)
          ribbon[edge * 12 + corner * 3 + axis] = points[from + axis] + normals[from + axis] * lift + side[axis] * sign;
      }
      const first = edge * 4;
      quads.set([3, first, first + 1, first + 3, 3, first, first + 3, first + 2], edge * 8);
    }
    return { points: ribbon, faces: quads };
  }

  /* The border of one parcel as closed loops of split vertices, the parcel on their left.

     Edges that only one face of the parcel owns are its border; each is walked as its face winds. */
  function borderLoops(component, faces, faceComponent, vertexOfSplit) {
    const edges = new Map(); // vertex of the cortex, smaller first -> split vertices in the face's order
    for (let face = 0, at = 0; at < faces.length; face += 1, at += 4) {
      if (faceComponent[face] !== component) continue;
      for (let corner = 0; corner < 3; corner += 1) {
        const a = faces[at + 1 + corner];
        const b = faces[at + 1 + ((corner + 1) % 3)];
        const [va, vb] = [vertexOfSplit[a], vertexOfSplit[b]];
        const key = va < vb ? `${va},${vb}` : `${vb},${va}`;
        if (edges.has(key)) edges.delete(key);
        else edges.set(key, [a, b]);
      }
    }
    const following = new Map([...edges.values()].map(([a, b]) => [a, b]));
    const loops = [];
    while (following.size) {
      const [first] = following.keys();
      const loop = [];
      for (let vertex = first; following.has(vertex); ) {
        loop.push(vertex);
        const next = following.get(vertex);
        following.delete(vertex);
        vertex = next;
      }
      if (loop.length > 2) loops.push(loop);
    }
    return loops;
  }

  /* A ribbon along closed loops, `width` mm wide, raised `lift` mm along the surface's normals.

     Cut triangles make a border's steps uneven, so its line and its sides are smoothed along the way.
     Returns {points, faces}, faces as [3, a, b, c, ...]. */
  function loopRibbon(loops, points, normals, width, lift) {
    const count = loops.reduce((sum, loop) => sum + loop.length, 0);
    const ribbon = new Float32Array(count * 6);
    const quads = new Uint32Array(count * 8);
    const at = (vertex, from) => [from[vertex * 3], from[vertex * 3 + 1], from[vertex * 3 + 2]];
    const smooth = (line, times) => {
      let now = line;
      for (let time = 0; time < times; time += 1)
        now = now.map((here, i) => {
          const before = now[(i + now.length - 1) % now.length];
          const after = now[(i + 1) % now.length];
          return here.map((value, axis) => (before[axis] + 2 * value + after[axis]) / 4);
        });
      return now;
    };
    let first = 0;
    for (const loop of loops) {
      const line = smooth(loop.map((vertex) => at(vertex, points)), 2);
      const upward = smooth(loop.map((vertex) => at(vertex, normals)), 4).map(unit);
      const sides = smooth(
        line.map((here, i) => {
          const along = sub(line[(i + 1) % line.length], line[(i + line.length - 1) % line.length]);
          return unit(cross(upward[i], along));
        }),
        3,
      ).map(unit);
      for (let i = 0; i < loop.length; i += 1) {
        for (let axis = 0; axis < 3; axis += 1) {
          const middle = line[i][axis] + upward[i][axis] * lift;
          ribbon[(first + i) * 6 + axis] = middle - (sides[i][axis] * width) / 2;
          ribbon[(first + i) * 6 + 3 + axis] = middle + (sides[i][axis] * width) / 2;
        }
        const here = (first + i) * 2;
        const next = (first + ((i + 1) % loop.length)) * 2;
        quads.set([3, here, next, next + 1, 3, here, next + 1, here + 1], (first + i) * 8);
      }
      first += loop.length;
    }
    return { points: ribbon, faces: quads };
  }

  /* A ball about a component's center (center: [components * 3]), in the shape in which ribbons come. */
  function ball(center, row, radius) {
    const [rings, spokes] = [18, 36];
    const points = new Float32Array((rings + 1) * spokes * 3);
    const faces = new Uint32Array(rings * spokes * 8);
    for (let ring = 0, at = 0; ring <= rings; ring += 1) {
      const down = (Math.PI * ring) / rings;
      for (let spoke = 0; spoke < spokes; spoke += 1, at += 3) {
        const around = (2 * Math.PI * spoke) / spokes;
        points[at] = center[row * 3] + radius * Math.sin(down) * Math.cos(around);
        points[at + 1] = center[row * 3 + 1] + radius * Math.sin(down) * Math.sin(around);
        points[at + 2] = center[row * 3 + 2] + radius * Math.cos(down);
      }
    }
    for (let ring = 0, at = 0; ring < rings; ring += 1)
      for (let spoke = 0; spoke < spokes; spoke += 1, at += 8) {
        const [a, b] = [ring * spokes + spoke, ring * spokes + ((spoke + 1) % spokes)];
        faces.set([3, a, a + spokes, b, 3, b, a + spokes, b + spokes], at);
      }
    return { points, faces };
  }

  /* Camera from which all given points just fit in the picture, as nmri3d/scene/camera.py computes it.

     preset: {side, up}; vertices: numbers of those to fit; aspect: width / height; margin: 1 is tight.
     Each edge of the picture is a plane through the camera; the tightest of two opposite planes decides. */
  function fitCamera(preset, points, vertices, viewAngle, aspect, margin) {
    const forward = unit(preset.side).map((value) => -value);
    const right = unit(cross(forward, preset.up));
    const upward = cross(right, forward);
    const tangent = Math.tan((viewAngle * Math.PI) / 360) / margin;
    const slopes = [tangent * aspect, tangent];
    const fromLow = [Infinity, Infinity];
    const fromHigh = [Infinity, Infinity];
    let near = Infinity;
    let far = -Infinity;
    for (const vertex of vertices) {
      const point = [points[vertex * 3], points[vertex * 3 + 1], points[vertex * 3 + 2]];
      const depth = dot(point, forward);
      near = Math.min(near, depth);
      far = Math.max(far, depth);
      const offsets = [dot(point, right), dot(point, upward)];
      for (let axis = 0; axis < 2; axis += 1) {
        fromHigh[axis] = Math.min(fromHigh[axis], depth - offsets[axis] / slopes[axis]);
        fromLow[axis] = Math.min(fromLow[axis], depth + offsets[axis] / slopes[axis]);
      }
    }
    const cameraDepth = Math.min((fromLow[0] + fromHigh[0]) / 2, (fromLow[1] + fromHigh[1]) / 2);
    const center = [0, 1].map((axis) => (slopes[axis] * (fromLow[axis] - fromHigh[axis])) / 2);
    const at = (depth) =>
      [0, 1, 2].map((i) => center[0] * right[i] + center[1] * upward[i] + depth * forward[i]);
    return { position: at(cameraDepth), focalPoint: at((near + far) / 2), viewUp: upward };
  }

  /* Letters at the edges of the picture: each of A P L R S I, the nearest axis (as nmri3d/scene/camera.py). */
  function orientationLetters(camera) {
    const forward = unit(sub(camera.focalPoint, camera.position));
    const right = unit(cross(forward, camera.viewUp));
    const upward = cross(right, forward);
    const letter = (direction) => {
      const sizes = direction.map(Math.abs);
      const axis = sizes.indexOf(Math.max(...sizes));
      return ["LR", "PA", "IS"][axis][direction[axis] > 0 ? 1 : 0];
    };
    const opposite = (direction) => letter(direction.map((value) => -value));
    return { right: letter(right), left: opposite(right), top: letter(upward), bottom: opposite(upward) };
  }

  window.nmri3d.geo = { cross, sub, unit, hitFace, edgeRibbons, borderLoops, loopRibbon, ball, fitCamera, orientationLetters };
})();
