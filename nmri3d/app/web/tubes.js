/* Tubes of tracts in the browser: paths through the white matter, triangles around them, the one under the pointer.

   Convention. The same as nmri3d/scene/tracts.py and tubes.py, with the numbers (`rules`) that the server sends with the
   tracts. A frame says where tracts end and pass on a surface: {anchor, inward: [n, 3], core, gate: [2, 3]}; `side` is
   0 left, 1 right. Geometry is made for the edges that are seen and no others.

   Left out: which edges are seen (tracts.js), anything that draws. */

(function () {
  "use strict";
  const nmri = window.nmri3d;

  const KNOTS = 7;
  /* How finely tubes are drawn, by how many there are: [most tubes, sides, every which sample]. Many are thin and overlap. */
  const DETAIL = [
    [300, 8, 1],
    [900, 6, 2],
    [Infinity, 4, 2],
  ];

  /* A frame as the server sends it, as typed arrays. */
  function openFrame(raw) {
    return Object.fromEntries(Object.entries(raw).map(([name, bytes]) => [name, nmri.typed(Float32Array, bytes)]));
  }

  /* The frame a share of the way from one surface to another. */
  function blend(a, b, share) {
    const mixed = {};
    for (const name of Object.keys(a)) mixed[name] = a[name].map((value, at) => value + (b[name][at] - value) * share);
    const { inward } = mixed;
    for (let at = 0; at < inward.length; at += 3) {
      const length = Math.hypot(inward[at], inward[at + 1], inward[at + 2]) || 1;
      for (let axis = 0; axis < 3; axis += 1) inward[at + axis] /= length;
    }
    return mixed;
  }

  /* Control points of one edge's spline, written to `knots` [KNOTS * 3]. */
  function placeKnots(frame, side, rules, source, target, knots) {
    const { anchor, inward, core, gate } = frame;
    const [deepest, depthShare, leastDepth] = rules.depth;
    const [pull, pullLength] = rules.pull;
    const [a, b] = [source * 3, target * 3];
    const [sideA, sideB] = [side[source], side[target]];
    const distance = Math.hypot(anchor[b] - anchor[a], anchor[b + 1] - anchor[a + 1], anchor[b + 2] - anchor[a + 2]);
    const depth = Math.min(deepest, Math.max(leastDepth, depthShare * distance));
    const weight = (pull * distance) / (distance + pullLength);
    const approach = sideA === 0 ? -rules.gate_approach : rules.gate_approach;
    for (let axis = 0; axis < 3; axis += 1) {
      const [from, to] = [anchor[a + axis], anchor[b + axis]];
      const insideA = from + depth * inward[a + axis];
      const insideB = to + depth * inward[b + axis];
      const middle = (insideA + insideB) / 2;
      let [before, through, after] = [0, 0, 0];
      if (sideA !== sideB) {
        const [gateA, gateB] = [gate[sideA * 3 + axis], gate[sideB * 3 + axis]];
        const spread = (middle - (gateA + gateB) / 2) * rules.gate_spread[axis];
        const outwards = axis === 0 ? approach : 0;
        before = gateA + spread + outwards;
        through = (gateA + gateB) / 2 + spread;
        after = gateB + spread - outwards;
      } else {
        const center = core[sideA * 3 + axis];
        const bend = middle + weight * (center + (middle - center) * rules.core_spread[axis] - middle);
        before = (insideA + bend) / 2;
        through = bend;
        after = (insideB + bend) / 2;
      }
      knots[axis] = from;
      knots[3 + axis] = insideA;
      knots[6 + axis] = before;
      knots[9 + axis] = through;
      knots[12 + axis] = after;
      knots[15 + axis] = insideB;
      knots[18 + axis] = to;
    }
  }

  /* Points and unit tangents, float32 [edges, samples, 3], of the chosen edges (positions in source, target). */
  function paths(frame, side, rules, source, target, chosen) {
    const { samples, value, slope } = rules;
    const points = new Float32Array(chosen.length * samples * 3);
    const tangents = new Float32Array(points.length);
    const knots = new Float64Array(KNOTS * 3);
    let at = 0;
    for (const edge of chosen) {
      placeKnots(frame, side, rules, source[edge], target[edge], knots);
      for (let sample = 0; sample < samples; sample += 1, at += 3) {
        for (let axis = 0; axis < 3; axis += 1) {
          let [point, tangent] = [0, 0];
          for (let knot = 0; knot < KNOTS; knot += 1) {
            point += value[sample][knot] * knots[knot * 3 + axis];
            tangent += slope[sample][knot] * knots[knot * 3 + axis];
          }
          points[at + axis] = point;
          tangents[at + axis] = tangent;
        }
        const length = Math.hypot(tangents[at], tangents[at + 1], tangents[at + 2]) || 1;
        for (let axis = 0; axis < 3; axis += 1) tangents[at + axis] /= length;
      }
    }
    return { points, tangents };
  }

  /* Radius in mm of a score; `reference` is the |score| of the thickest tube. */
  function radius(score, reference, rules) {
    const share = reference > 0 ? Math.min(1, Math.abs(score) / reference) : 0;
    return Math.sqrt(rules.thinnest ** 2 + (rules.thickest ** 2 - rules.thinnest ** 2) * share);
  }

  /* The color of a direction (a unit vector at `at`), written to `color`. */
  function directionColor(tangents, at, axes, brightest, color) {
    for (let channel = 0; channel < 3; channel += 1) {
      color[channel] = 0;
      for (let axis = 0; axis < 3; axis += 1) color[channel] += tangents[at + axis] ** 2 * axes[axis][channel];
    }
    const scale = brightest / (Math.max(color[0], color[1], color[2]) || 1);
    for (let channel = 0; channel < 3; channel += 1) color[channel] = Math.floor(color[channel] * scale + 0.5);
  }

  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

  /* Mirror `vector` in the plane that `plane` stands on, in place; no change where it has no length. */
  function mirror(vector, plane) {
    const size = dot(plane, plane);
    if (size === 0) return;
    const share = (2 * dot(plane, vector)) / size;
    for (let axis = 0; axis < 3; axis += 1) vector[axis] -= share * plane[axis];
  }

  /* The tubes' mesh: {points, normals, colors, along, faces}, faces as vtk.js keeps them, [3, a, b, c, ...]; along: mm from
     the tube's beginning, each tube begun elsewhere, so that what runs along them does not run in step.

     path: of `paths`; radii [edges]; colorOf(tube, place in path.tangents, color) writes a color. No array is made within
     the loops: a morph makes this mesh anew with every frame. */
  function mesh(path, radii, rules, colorOf) {
    const { samples } = rules;
    const count = radii.length;
    const [, sides, every] = DETAIL.find(([most]) => count <= most);
    const rings = (samples - 1) / every + 1;
    const pointsEach = rings * sides + 2;
    const points = new Float32Array(count * pointsEach * 3);
    const normals = new Float32Array(points.length);
    const shades = new Uint8Array(points.length);
    const along = new Float32Array(count * pointsEach);
    const cosines = Float64Array.from({ length: sides }, (_, side) => Math.cos((2 * Math.PI * side) / sides));
    const sines = Float64Array.from({ length: sides }, (_, side) => Math.sin((2 * Math.PI * side) / sides));
    const color = [0, 0, 0];
    const tangent = [0, 0, 0];
    const before = [0, 0, 0];
    const step = [0, 0, 0];
    const across = [0, 0, 0];
    const third = [0, 0, 0];
    let put = 0;
    let ring = 0; // place in `along`
    for (let tube = 0; tube < count; tube += 1) {
      const first = tube * samples * 3;
      const radius = radii[tube];
      const start = (tube * 10.1) % 1000;
      let way = start;
      for (let sample = 0; sample < samples; sample += every) {
        const here = first + sample * 3;
        for (let axis = 0; axis < 3; axis += 1) tangent[axis] = path.tangents[here + axis];
        if (sample === 0) startAcross(tangent, across);
        else {
          // turn as little as possible from sample to sample (double reflection)
          const last = here - 3 * every;
          for (let axis = 0; axis < 3; axis += 1) {
            before[axis] = path.tangents[last + axis];
            step[axis] = path.points[here + axis] - path.points[last + axis];
          }
          way += Math.sqrt(dot(step, step));
          mirror(before, step);
          mirror(across, step);
          for (let axis = 0; axis < 3; axis += 1) step[axis] = tangent[axis] - before[axis];
          mirror(across, step);
          const lean = dot(across, tangent);
          for (let axis = 0; axis < 3; axis += 1) across[axis] -= lean * tangent[axis];
          normalize(across);
        }
        third[0] = tangent[1] * across[2] - tangent[2] * across[1];
        third[1] = tangent[2] * across[0] - tangent[0] * across[2];
        third[2] = tangent[0] * across[1] - tangent[1] * across[0];
        colorOf(tube, here, color);
        for (let side = 0; side < sides; side += 1) {
          along[ring] = way;
          ring += 1;
          for (let axis = 0; axis < 3; axis += 1) {
            const outward = across[axis] * cosines[side] + third[axis] * sines[side];
            points[put] = path.points[here + axis] + radius * outward;
            normals[put] = outward;
            shades[put] = color[axis];
            put += 1;
          }
        }
      }
      for (let cap = 0; cap < 2; cap += 1) {
        const here = first + cap * (samples - 1) * 3;
        along[ring] = cap ? way : start;
        ring += 1;
        colorOf(tube, here, color);
        for (let axis = 0; axis < 3; axis += 1) {
          points[put] = path.points[here + axis];
          normals[put] = (2 * cap - 1) * path.tangents[here + axis];
          shades[put] = color[axis];
          put += 1;
        }
      }
    }
    return { points, normals, colors: shades, along, faces: facesOf(count, rings, sides) };
  }

  function startAcross(tangent, across) {
    let least = 0;
    for (let axis = 1; axis < 3; axis += 1) if (Math.abs(tangent[axis]) < Math.abs(tangent[least])) least = axis;
    const axis = [0, 0, 0];
    axis[least] = 1;
    nmri.geo.cross(tangent, axis).forEach((value, at) => (across[at] = value));
    normalize(across);
  }

  function normalize(vector) {
    const length = Math.hypot(vector[0], vector[1], vector[2]) || 1;
    for (let axis = 0; axis < 3; axis += 1) vector[axis] /= length;
  }

  const known = { count: -1, rings: 0, sides: 0, faces: null };

  /* Triangles of so many tubes; the same again as long as the number stays. */
  function facesOf(count, rings, sides) {
    if (known.count === count && known.rings === rings && known.sides === sides) return known.faces;
    const pointsEach = rings * sides + 2;
    const faces = new Uint32Array(count * (2 * (rings - 1) * sides + 2 * sides) * 4);
    let face = 0;
    const triangle = (a, b, c) => {
      faces[face] = 3;
      faces[face + 1] = a;
      faces[face + 2] = b;
      faces[face + 3] = c;
      face += 4;
    };
    for (let tube = 0; tube < count; tube += 1) {
      const base = tube * pointsEach;
      for (let corner = 0; corner < sides; corner += 1) {
        const following = (corner + 1) % sides;
        for (let ring = 0; ring < rings - 1; ring += 1) {
          const here = base + ring * sides + corner;
          const beside = base + ring * sides + following;
          triangle(here, beside, here + sides);
          triangle(beside, beside + sides, here + sides);
        }
        const end = base + (rings - 1) * sides;
        triangle(base + rings * sides, base + following, base + corner);
        triangle(base + rings * sides + 1, end + corner, end + following);
      }
    }
    return Object.assign(known, { count, rings, sides, faces }).faces;
  }

  /* Number of the tube that a ray meets first, or misses by less than `slack` mm; -1 for none (as tubes.py). */
  function nearest(points, radii, samples, origin, direction, slack) {
    const sight = nmri.geo.unit(direction);
    let [hit, hitAt] = [-1, Infinity];
    let [near, nearBy] = [-1, slack];
    const along = [0, 0, 0];
    const offset = [0, 0, 0];
    for (let tube = 0; tube < radii.length; tube += 1) {
      for (let sample = 0; sample < samples - 1; sample += 1) {
        const at = (tube * samples + sample) * 3;
        for (let axis = 0; axis < 3; axis += 1) {
          along[axis] = points[at + 3 + axis] - points[at + axis];
          offset[axis] = points[at + axis] - origin[axis];
        }
        const steep = dot(along, sight);
        const ahead = dot(offset, sight);
        const slant = Math.max(dot(along, along) - steep * steep, 1e-12);
        const u = Math.min(1, Math.max(0, (steep * ahead - dot(along, offset)) / slant));
        const v = ahead + u * steep;
        if (v <= 0) continue;
        const miss =
          Math.hypot(
            offset[0] + u * along[0] - v * sight[0],
            offset[1] + u * along[1] - v * sight[1],
            offset[2] + u * along[2] - v * sight[2],
          ) - radii[tube];
        if (miss <= 0 && v < hitAt) [hit, hitAt] = [tube, v];
        if (miss < nearBy) [near, nearBy] = [tube, miss];
      }
    }
    return hit >= 0 ? hit : near;
  }

  nmri.tubes = { openFrame, blend, paths, radius, directionColor, mesh, nearest };
})();
