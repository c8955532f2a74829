/* Draws the shapes of a scene in WebGL 2, as the server's pictures draw them: same texture, same lights, same material.

   Convention. Shapes come in groups (cortex, marks) of {name, points, normals, triangles, color, colors,
   texture_coordinates, texture, component, lit, translucent, material}, arrays as {type, data}. Solid shapes first, then
   what is translucent, blended without regard to order as VTK's vtkOrderIndependentTranslucentPass does it (weighted
   by alpha, after McGuire and Bavoil 2013). Colors are 8-bit sRGB and are mixed as such.

   Left out: the camera (orbit.js), text and mouse (viewer.js). */

const NMRI_TYPES = { f4: Float32Array, u4: Uint32Array, i4: Int32Array, u1: Uint8Array };

/* A typed array of {type, data}; data is a DataView or an ArrayBuffer. */
function nmriArray(packed) {
  if (!packed) return null;
  const { data } = packed;
  const bytes = data.buffer ? data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength) : data;
  return new NMRI_TYPES[packed.type](bytes);
}

const NMRI_VERTEX = `#version 300 es
in vec3 point; in vec3 normal; in vec2 coordinates; in vec3 tint; in float component;
uniform mat4 view, projection;
out vec3 vNormal; out vec3 vEye; out vec2 vCoordinates; out vec3 vTint; flat out float vComponent;
void main() {
  vec4 eye = view * vec4(point, 1.0);
  vEye = eye.xyz; vNormal = mat3(view) * normal;
  vCoordinates = coordinates; vTint = tint; vComponent = component;
  gl_Position = projection * eye;
}`;

const NMRI_FRAGMENT = `#version 300 es
precision highp float;
in vec3 vNormal; in vec3 vEye; in vec2 vCoordinates; in vec3 vTint; flat in float vComponent;
uniform sampler2D before, now;
uniform float share, marked;
uniform vec4 plain;
uniform vec4 material;
uniform vec4 lights[3];
uniform int nLights;
uniform bool textured, lit, picking, weighted;
uniform vec3 glow;
layout(location = 0) out vec4 color;
layout(location = 1) out vec4 weights;
void put(vec4 shown) {
  color = shown;
  weights = vec4(0.0);
  if (!weighted) return;
  color = vec4(shown.rgb * shown.a, shown.a);
  weights = vec4(shown.a, 0.0, 0.0, shown.a);
}
void main() {
  if (picking) {
    float id = vComponent + 1.0;
    put(vec4(mod(id, 256.0), mod(floor(id / 256.0), 256.0), floor(id / 65536.0), 255.0) / 255.0);
    return;
  }
  vec4 base = plain * vec4(vTint, 1.0);
  if (textured) base *= mix(texture(before, vCoordinates), texture(now, vCoordinates), share);
  if (marked >= 0.0 && vComponent == marked) base.rgb = mix(base.rgb, glow, 0.55);
  if (!lit) { put(base); return; }
  vec3 n = normalize(vNormal);
  vec3 sight = normalize(-vEye);
  if (dot(n, sight) < 0.0) n = -n;
  float diffuse = 0.0, shine = 0.0;
  for (int i = 0; i < nLights; i++) {
    vec3 from = lights[i].xyz;
    float facing = max(dot(n, from), 0.0);
    diffuse += lights[i].w * facing;
    if (facing > 0.0) shine += lights[i].w * pow(max(dot(reflect(-from, n), sight), 0.0), material.w);
  }
  put(vec4(min(base.rgb * (material.x + material.y * diffuse) + vec3(material.z * shine), 1.0), base.a));
}`;

const NMRI_SCREEN = `#version 300 es
out vec2 place;
void main() {
  place = vec2((gl_VertexID << 1) & 2, gl_VertexID & 2);
  gl_Position = vec4(place * 2.0 - 1.0, 0.0, 1.0);
}`;

const NMRI_COMPOSE = `#version 300 es
precision highp float;
in vec2 place;
uniform sampler2D sums, weights;
uniform int fine;
out vec4 color;
void main() {
  // each of the finer pixels is finished by itself, then they are averaged
  vec4 total = vec4(0.0);
  ivec2 corner = ivec2(gl_FragCoord.xy) * fine;
  for (int i = 0; i < fine * fine; i++) {
    ivec2 at = corner + ivec2(i % fine, i / fine);
    vec4 sum = texelFetch(sums, at, 0);
    float alpha = 1.0 - sum.a;
    total += vec4(sum.rgb / max(texelFetch(weights, at, 0).r, 0.01) * alpha, alpha);
  }
  color = total / float(fine * fine);
}`;

function nmriGlScene(canvas) {
  const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
  if (!gl) throw new Error("This browser has no WebGL 2, so the brain cannot be drawn; try another browser.");
  const program = build(NMRI_VERTEX, NMRI_FRAGMENT);
  const compose = build(NMRI_SCREEN, NMRI_COMPOSE);
  const inHalves = gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float");
  const at = (name) => gl.getUniformLocation(program, name);
  const places = {};
  for (const name of ["view", "projection", "before", "now", "share", "marked", "plain", "material", "lights", "nLights",
    "textured", "lit", "picking", "weighted", "glow"]) places[name] = at(name);
  const groups = { cortex: [], marks: [] };
  const textures = {};
  const frames = { images: [], width: 1, height: 1, slots: [], held: [-1, -1] };
  const pickTarget = { size: [0, 0] };
  const glassTarget = { size: [0, 0] };
  let looks = { lights: [], background: [0, 0, 0], glow: [0, 1, 0.67] };

  function build(vertex, fragment) {
    const result = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(result, shader);
    }
    gl.linkProgram(result);
    if (!gl.getProgramParameter(result, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(result));
    return result;
  }

  function makeTexture(width, height, pixels) {
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    return texture;
  }

  function makeShape(shape) {
    const made = { ...shape, buffers: [], array: gl.createVertexArray() };
    gl.bindVertexArray(made.array);
    const attribute = (name, packed, width, constant) => {
      const place = gl.getAttribLocation(program, name);
      const values = nmriArray(packed);
      if (place < 0) return values;
      if (!values) {
        gl.disableVertexAttribArray(place);
        made.constants = [...(made.constants || []), [place, constant]];
        return null;
      }
      const buffer = gl.createBuffer();
      made.buffers.push(buffer);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, values instanceof Int32Array ? Float32Array.from(values) : values, gl.STATIC_DRAW);
      const bytes = values instanceof Uint8Array;
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, width, bytes ? gl.UNSIGNED_BYTE : gl.FLOAT, bytes, 0, 0);
      return values;
    };
    made.cloud = attribute("point", shape.points, 3);
    attribute("normal", shape.normals, 3, [0, 0, 1]);
    attribute("coordinates", shape.texture_coordinates, 2, [0, 0]);
    attribute("tint", shape.colors, 3, [1, 1, 1]);
    attribute("component", shape.component, 1, [-1]);
    const triangles = nmriArray(shape.triangles);
    const elements = gl.createBuffer();
    made.buffers.push(elements);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, elements);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
    made.count = triangles.length;
    gl.bindVertexArray(null);
    return made;
  }

  function hold(slot, number) {
    if (frames.held[slot] === number) return;
    const pixels = frames.images.subarray(number * frames.bytes, (number + 1) * frames.bytes);
    gl.bindTexture(gl.TEXTURE_2D, frames.slots[slot]);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, frames.width, frames.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    frames.held[slot] = number;
  }

  const isTranslucent = (shape) => (shape.texture === "cortex" ? frames.translucent && shape.glass : shape.translucent);

  /* What is seen through: summed up in a finer picture of half floats, then laid over what is solid. */
  function drawTranslucent(orbit, all) {
    if (!inHalves) {
      gl.enable(gl.BLEND);
      gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      gl.depthMask(false);
      all.forEach((shape) => draw(shape, true));
      gl.depthMask(true);
      gl.disable(gl.BLEND);
      return;
    }
    const fine = (window.devicePixelRatio || 1) < 2 ? 2 : 1;
    const [width, height] = [fine * canvas.width, fine * canvas.height];
    aim(glassTarget, width, height);
    prepare(orbit, width, height);
    gl.clearBufferfv(gl.COLOR, 0, [0, 0, 0, 1]);
    gl.clearBufferfv(gl.COLOR, 1, [0, 0, 0, 1]);
    gl.clear(gl.DEPTH_BUFFER_BIT);
    gl.colorMask(false, false, false, false);
    all.forEach((shape) => draw(shape, false));
    gl.colorMask(true, true, true, true);
    gl.uniform1i(places.weighted, 1);
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.ONE, gl.ONE, gl.ZERO, gl.ONE_MINUS_SRC_ALPHA);
    gl.depthMask(false);
    all.forEach((shape) => draw(shape, true));
    gl.uniform1i(places.weighted, 0);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.useProgram(compose);
    [glassTarget.sums, glassTarget.weights].forEach((texture, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, texture);
    });
    gl.uniform1i(gl.getUniformLocation(compose, "sums"), 0);
    gl.uniform1i(gl.getUniformLocation(compose, "weights"), 1);
    gl.uniform1i(gl.getUniformLocation(compose, "fine"), fine);
    gl.disable(gl.DEPTH_TEST);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.bindVertexArray(null);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.disable(gl.BLEND);
    gl.enable(gl.DEPTH_TEST);
    gl.depthMask(true);
  }

  /* Draw into the picture of half floats, made anew where its size changed. */
  function aim(target, width, height) {
    if (target.size[0] !== width || target.size[1] !== height) {
      target.frame = target.frame || gl.createFramebuffer();
      gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
      [["sums", gl.RGBA16F], ["weights", gl.RGBA16F]].forEach(([name, format], number) => {
        if (target[name]) gl.deleteTexture(target[name]);
        target[name] = gl.createTexture();
        gl.bindTexture(gl.TEXTURE_2D, target[name]);
        gl.texStorage2D(gl.TEXTURE_2D, 1, format, width, height);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
        gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + number, gl.TEXTURE_2D, target[name], 0);
      });
      target.depth = target.depth || gl.createRenderbuffer();
      gl.bindRenderbuffer(gl.RENDERBUFFER, target.depth);
      gl.renderbufferStorage(gl.RENDERBUFFER, gl.DEPTH_COMPONENT24, width, height);
      gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.RENDERBUFFER, target.depth);
      target.size = [width, height];
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
    gl.drawBuffers([gl.COLOR_ATTACHMENT0, gl.COLOR_ATTACHMENT1]);
  }

  function draw(shape, translucent) {
    if (isTranslucent(shape) !== translucent) return;
    gl.uniform4fv(places.plain, shape.color);
    gl.uniform4fv(places.material, shape.material);
    gl.uniform1i(places.lit, shape.lit ? 1 : 0);
    gl.uniform1i(places.textured, shape.texture ? 1 : 0);
    if (shape.texture && shape.texture !== "cortex") {
      for (const unit of [0, 1]) {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, textures[shape.texture]);
      }
    } else {
      [0, 1].forEach((unit) => {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, frames.slots[unit]);
      });
    }
    gl.bindVertexArray(shape.array);
    for (const [place, values] of shape.constants || []) {
      gl[`vertexAttrib${values.length}fv`](place, values);
    }
    gl.drawElements(gl.TRIANGLES, shape.count, gl.UNSIGNED_INT, 0);
  }

  function prepare(orbit, width, height) {
    gl.useProgram(program);
    gl.viewport(0, 0, width, height);
    gl.uniformMatrix4fv(places.view, false, orbit.view());
    gl.uniformMatrix4fv(places.projection, false, orbit.projection(width / height));
    gl.uniform1i(places.before, 0);
    gl.uniform1i(places.now, 1);
    gl.uniform4fv(places.lights, looks.lights.flat());
    gl.uniform1i(places.nLights, looks.lights.length);
    gl.uniform3fv(places.glow, looks.glow);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
  }

  return {
    setLooks(given) {
      looks = given;
    },

    /* Shapes of a group, in place of those before. */
    setShapes(group, shapes, images) {
      for (const shape of groups[group]) {
        gl.deleteVertexArray(shape.array);
        shape.buffers.forEach((buffer) => gl.deleteBuffer(buffer));
      }
      for (const [name, image] of Object.entries(images || {})) {
        textures[name] = makeTexture(image.width, image.height, nmriArray(image.pixels));
      }
      groups[group] = shapes.map(makeShape);
    },

    /* The cortex' textures of all steps, one after the other. */
    setFrames(given) {
      frames.slots.forEach((texture) => gl.deleteTexture(texture));
      Object.assign(frames, { images: nmriArray(given.pixels), width: given.width, height: given.height });
      frames.bytes = 4 * given.width * given.height;
      frames.translucent = Boolean(given.translucent);
      frames.slots = [0, 1].map(() => makeTexture(given.width, given.height, null));
      frames.held = [-1, -1];
    },

    /* before, now: steps whose colors are mixed, `share` of the later one; marked: component row or -1. */
    render(orbit, before, now, share, marked) {
      const [width, height] = [canvas.width, canvas.height];
      gl.bindFramebuffer(gl.FRAMEBUFFER, null);
      prepare(orbit, width, height);
      hold(0, before);
      hold(1, now);
      gl.uniform1f(places.share, share);
      gl.uniform1f(places.marked, marked);
      gl.uniform1i(places.picking, 0);
      gl.clearColor(...looks.background, 1);
      gl.depthMask(true);
      gl.disable(gl.BLEND);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      const all = [...groups.cortex, ...groups.marks];
      all.forEach((shape) => draw(shape, false));
      if (all.some((shape) => isTranslucent(shape))) drawTranslucent(orbit, all);
      gl.bindVertexArray(null);
    },

    /* Component row under a pixel of the canvas (from its top left corner), -1 for none. */
    pick(orbit, x, y) {
      const [width, height] = [canvas.width, canvas.height];
      if (pickTarget.size[0] !== width || pickTarget.size[1] !== height) {
        pickTarget.buffer = pickTarget.buffer || gl.createFramebuffer();
        pickTarget.color = pickTarget.color || gl.createRenderbuffer();
        pickTarget.depth = pickTarget.depth || gl.createRenderbuffer();
        gl.bindRenderbuffer(gl.RENDERBUFFER, pickTarget.color);
        gl.renderbufferStorage(gl.RENDERBUFFER, gl.RGBA8, width, height);
        gl.bindRenderbuffer(gl.RENDERBUFFER, pickTarget.depth);
        gl.renderbufferStorage(gl.RENDERBUFFER, gl.DEPTH_COMPONENT24, width, height);
        gl.bindFramebuffer(gl.FRAMEBUFFER, pickTarget.buffer);
        gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.RENDERBUFFER, pickTarget.color);
        gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.RENDERBUFFER, pickTarget.depth);
        pickTarget.size = [width, height];
      }
      gl.bindFramebuffer(gl.FRAMEBUFFER, pickTarget.buffer);
      prepare(orbit, width, height);
      gl.uniform1i(places.picking, 1);
      gl.enable(gl.SCISSOR_TEST);
      gl.scissor(x, height - 1 - y, 1, 1);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      for (const shape of groups.cortex) {
        if (!shape.component) continue;
        gl.bindVertexArray(shape.array);
        gl.drawElements(gl.TRIANGLES, shape.count, gl.UNSIGNED_INT, 0);
      }
      const pixel = new Uint8Array(4);
      gl.readPixels(x, height - 1 - y, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
      gl.disable(gl.SCISSOR_TEST);
      gl.bindVertexArray(null);
      gl.bindFramebuffer(gl.FRAMEBUFFER, null);
      return pixel[0] + 256 * pixel[1] + 65536 * pixel[2] - 1;
    },

    clouds: () => groups.cortex.filter((shape) => shape.component).map((shape) => shape.cloud),

    close() {
      const lost = gl.getExtension("WEBGL_lose_context");
      if (lost) lost.loseContext();
    },
  };
}
