/* The camera of the viewer: turns about the brain, and fits it into the picture.

   Convention. mm in RAS; perspective with the scene's vertical angle of view. `fit` is scene/camera.py's: each edge of the
   picture is a plane through the camera, and the tightest of two opposite planes decides.

   Left out: drawing (gl_scene.js), the mouse (viewer.js). */

function nmriOrbit(angle) {
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const add = (a, b, s) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
  const unit = (a) => {
    const length = Math.hypot(...a) || 1;
    return a.map((x) => x / length);
  };
  const spin = (v, axis, radians) => {
    const [c, s] = [Math.cos(radians), Math.sin(radians)];
    const along = dot(v, axis) * (1 - c);
    const side = cross(axis, v);
    return [0, 1, 2].map((i) => v[i] * c + side[i] * s + axis[i] * along);
  };

  const orbit = { middle: [0, 0, 0], side: [-1, 0, 0], up: [0, 0, 1], distance: 600, radius: 120, ball: { middle: [0, 0, 0], radius: 200 } };
  const tangent = Math.tan((angle * Math.PI) / 360);

  orbit.right = () => unit(cross(orbit.up, orbit.side));
  orbit.position = () => add(orbit.middle, orbit.side, orbit.distance);

  orbit.turn = (across, along) => {
    orbit.side = spin(orbit.side, orbit.up, -across);
    const right = orbit.right();
    orbit.side = unit(spin(orbit.side, right, -along));
    orbit.up = unit(cross(orbit.side, right));
  };

  orbit.zoom = (factor) => {
    orbit.distance = Math.min(40 * orbit.radius, Math.max(0.2 * orbit.radius, orbit.distance * factor));
  };

  /* Move what is seen by shares of the picture's height. */
  orbit.pan = (across, along) => {
    const height = 2 * orbit.distance * tangent;
    orbit.middle = add(add(orbit.middle, orbit.right(), -across * height), orbit.up, along * height);
  };

  orbit.stand = (pose) => {
    const offset = [0, 1, 2].map((i) => pose.position[i] - pose.middle[i]);
    orbit.middle = pose.middle.slice();
    orbit.distance = Math.hypot(...offset);
    orbit.side = unit(offset);
    orbit.up = unit(pose.up);
    orbit.up = unit(cross(orbit.side, orbit.right()));
  };

  /* margins: [across, along]; 1 is tight. */
  orbit.fit = (clouds, side, up, aspect, margins) => {
    orbit.side = unit(side);
    orbit.up = unit(up);
    const right = orbit.right();
    const upward = cross(orbit.side, right);
    const forward = orbit.side.map((x) => -x);
    const [wide, slope] = [(tangent * aspect) / margins[0], tangent / margins[1]];
    const low = [Infinity, Infinity, Infinity, Infinity, Infinity];
    let farthest = -Infinity;
    for (const points of clouds) {
      for (let i = 0; i < points.length; i += 3) {
        const point = [points[i], points[i + 1], points[i + 2]];
        const depth = dot(point, forward);
        const x = dot(point, right) / wide;
        const y = dot(point, upward) / slope;
        low[0] = Math.min(low[0], depth - x);
        low[1] = Math.min(low[1], depth + x);
        low[2] = Math.min(low[2], depth - y);
        low[3] = Math.min(low[3], depth + y);
        low[4] = Math.min(low[4], depth);
        farthest = Math.max(farthest, depth);
      }
    }
    const camera = Math.min((low[0] + low[1]) / 2, (low[2] + low[3]) / 2);
    const middle = (low[4] + farthest) / 2;
    const across = ((low[1] - low[0]) / 2) * wide;
    const along = ((low[3] - low[2]) / 2) * slope;
    orbit.middle = [0, 1, 2].map((i) => across * right[i] + along * upward[i] + middle * forward[i]);
    orbit.distance = middle - camera;
    orbit.radius = Math.max(1, (farthest - low[4]) / 2);
  };

  /* The ball around all points, between whose sides the near and the far plane lie. */
  orbit.measure = (clouds) => {
    const [low, high] = [[Infinity, Infinity, Infinity], [-Infinity, -Infinity, -Infinity]];
    for (const points of clouds) {
      for (let i = 0; i < points.length; i++) {
        low[i % 3] = Math.min(low[i % 3], points[i]);
        high[i % 3] = Math.max(high[i % 3], points[i]);
      }
    }
    orbit.ball = { middle: [0, 1, 2].map((i) => (low[i] + high[i]) / 2), radius: Math.hypot(...high.map((x, i) => x - low[i])) / 2 };
  };

  /* View and projection, column-major. */
  orbit.view = () => {
    const right = orbit.right();
    const upward = cross(orbit.side, right);
    const eye = orbit.position();
    const rows = [right, upward, orbit.side];
    const matrix = new Float32Array(16);
    rows.forEach((row, i) => {
      for (let j = 0; j < 3; j++) matrix[4 * j + i] = row[j];
      matrix[12 + i] = -dot(row, eye);
    });
    matrix[15] = 1;
    return matrix;
  };

  orbit.projection = (aspect) => {
    const { middle, radius } = orbit.ball;
    const eye = orbit.position();
    const depth = dot([0, 1, 2].map((i) => eye[i] - middle[i]), orbit.side);
    const near = Math.max(0.5, depth - 1.05 * radius);
    const far = Math.max(near + 1, depth + 1.05 * radius);
    const matrix = new Float32Array(16);
    matrix[0] = 1 / (tangent * aspect);
    matrix[5] = 1 / tangent;
    matrix[10] = (far + near) / (near - far);
    matrix[11] = -1;
    matrix[14] = (2 * far * near) / (near - far);
    return matrix;
  };

  orbit.letters = () => {
    const letter = (direction) => {
      let axis = 0;
      for (let i = 1; i < 3; i++) if (Math.abs(direction[i]) > Math.abs(direction[axis])) axis = i;
      return ["LR", "PA", "IS"][axis][direction[axis] > 0 ? 1 : 0];
    };
    const right = orbit.right();
    const upward = cross(orbit.side, right);
    const minus = (v) => v.map((x) => -x);
    return { top: letter(upward), bottom: letter(minus(upward)), left: letter(minus(right)), right: letter(right) };
  };

  return orbit;
}
