/* The painter: holds the live vtk.js objects of the brain and changes them, with no word to the server.

   Convention. It works on what VtkLocalView built from the server's scene: the cortex (split along parcel borders) with
   its texture, the ribbons between parcels, the ribbons that glow around the selected one, and the tubes (which
   tract_painter.js draws). Times are milliseconds.

   Left out: what a person does (brain_view.js) and what is shown (store.js). */

(function () {
  "use strict";
  const { colors, geo, TractPainter } = window.nmri3d;

  const FADE = 300;
  const MORPH = 700;
  const TURN = 350;
  const GLOW_PERIOD = 1600;
  const MARGIN = 1.16; // free space around the brain, for letters and header
  const QUIET_FRAME = 45; // ms between frames that only pulse

  // [width, lift] in mm; the glow from its halo to its core
  const BORDER = [0.32, 0.16];
  const GLOW = [
    [5.0, 0.5],
    [2.8, 0.6],
    [1.1, 0.7],
  ];

  const GLASS_BORDER = 0.25; // opacity of the borders on a cortex of glass
  const PICK_SLACK = 3; // pixels by which a tube may be missed

  const ease = (t) => (t < 0.5 ? 2 * t * t : 1 - 2 * (1 - t) * (1 - t));
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  class Painter {
    /* view: what VtkLocalView provides. geometry: as store.takeGeometry keeps it. Throws when the scene is not whole. */
    constructor(view, geometry) {
      this.view = view;
      this.geometry = geometry;
      const find = (id) => view.ctx.getInstance(id);
      this.actor = find(geometry.scene.cortex);
      this.texture = find(geometry.scene.texture);
      this.borders = find(geometry.scene.borders);
      this.glow = geometry.scene.glow.map(find);
      const tubes = find(geometry.scene.tracts);
      this.mesh = this.actor.getMapper().getInputData();
      this.image = this.texture.getInputData();
      this.texels = this.image.getPointData().getScalars();
      this.allFaces = this.mesh.getPolys().getData();
      this.faces = this.allFaces;
      this.firstFace = 0;
      const whole =
        this.allFaces.length === geometry.faceComponent.length * 4 &&
        this.points.length === geometry.vertexOfSplit.length * 3 &&
        this.normals.length === this.points.length &&
        this.texels.getData().length >= geometry.texture.width * geometry.texture.height * 4 &&
        this.borders &&
        tubes &&
        tubes.getMapper().getInputData().getPointData().getScalars() &&
        this.glow.every((actor) => actor.getMapper().getInputData().getPolys().getData().length);
      if (!whole) throw new Error("the scene is not whole yet");
      // Rewritten textures must not be immutable in WebGL (vtk-js issue 2712).
      this.texture.set({ resizable: true }, true);
      const node = view.openglRenderWindow.getViewNodeFor(this.texture);
      if (node) node.releaseGraphicsResources(view.openglRenderWindow);
      this.surface = geometry.surface;
      this.cortex = {
        points: geometry.surfaces[this.surface].slice(),
        normals: geometry.normals[this.surface].slice(),
      };
      this.tracts = new TractPainter(tubes, geometry.tracts, this.surface);
      this.hemispheres = "both";
      this.target = null; // {colors, strengths, glass}
      this.fade = null;
      this.morph = null;
      this.turn = null;
      this.selected = -1;
      this.pulsing = false;
      this.lastDraw = 0;
      this.frameCost = 0;
      this.fence = null;
      this.request = 0;
      this.dirty = false;
      this.onFirstPicture = null; // called once, when the first picture is really on the screen
      this.closed = false;
      for (const actor of this.glow) actor.setVisibility(false);
      this.actor.setForceOpaque(true);
    }

    get renderer() {
      return this.view.renderer;
    }

    get camera() {
      return this.renderer.getActiveCamera();
    }

    get points() {
      return this.mesh.getPoints().getData();
    }

    get normals() {
      return this.mesh.getPointData().getNormals().getData();
    }

    /* Whether an animation with an end is under way. */
    get moving() {
      return Boolean(this.fade || this.morph || this.turn);
    }

    // -- painting -----------------------------------------------------------------------------------------------

    /* Show component colors; `target.glass`, strengths, makes a cortex of glass of it. `fade` crosses over from the present picture; `pulsing` lets strong ones breathe. */
    paint(target, { fade, pulsing }) {
      const data = this.texels.getData();
      this.fade = fade && !calm.matches ? { from: data.slice(), start: performance.now() } : null;
      this.pulsing = pulsing && !calm.matches;
      this.target = target;
      this.borders.getProperty().setOpacity(target.glass ? GLASS_BORDER : 1);
      this.requestDraw();
    }

    writeTexels(now) {
      if (!this.target) return;
      const data = this.texels.getData();
      const channels = this.texels.getNumberOfComponents();
      const shades = this.pulsing ? colors.pulseShades(this.target.strengths, now) : null;
      colors.writeTexture(data, channels, this.target.colors, shades, this.geometry.texture, this.target.glass);
      if (this.fade) {
        const share = Math.min(1, (now - this.fade.start) / FADE);
        const { from } = this.fade;
        for (let at = 0; at < data.length; at += 1) data[at] = from[at] + (data[at] - from[at]) * share + 0.5;
        if (share >= 1) this.fade = null;
      }
      const translucent = Boolean(this.target.glass || this.fade); // glass is still fading away
      this.actor.setForceOpaque(!translucent);
      this.actor.setForceTranslucent(translucent);
      this.texels.modified();
      this.image.modified();
      this.texture.modified();
    }

    draw(now) {
      if (this.closed) return;
      const start = performance.now();
      this.writeTexels(now);
      if (this.selected >= 0) {
        const wave = calm.matches ? 1 : 0.5 + 0.5 * Math.cos((2 * Math.PI * now) / GLOW_PERIOD);
        this.glow[0].getProperty().setOpacity(0.08 + 0.18 * wave);
        this.glow[1].getProperty().setOpacity(0.2 + 0.4 * wave);
      }
      this.renderNow();
      this.lastDraw = performance.now();
      this.timeFrame(start);
    }

    /* Time until the picture is really drawn: a software renderer works long after the call has returned. */
    timeFrame(start) {
      const gl = this.view.openglRenderWindow.getContext();
      if (!gl || !gl.fenceSync || this.fence) return;
      const sync = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
      gl.flush();
      this.fence = { gl, sync, start };
    }

    /* Whether the last picture is drawn; notes what it cost. */
    get drawn() {
      if (!this.fence) return true;
      const { gl, sync, start } = this.fence;
      if (!gl.isContextLost() && gl.getSyncParameter(sync, gl.SYNC_STATUS) !== gl.SIGNALED) return false;
      gl.deleteSync(sync);
      this.fence = null;
      this.frameCost = performance.now() - start;
      return true;
    }

    renderNow() {
      if (this.closed || !this.renderer) return;
      this.renderer.resetCameraClippingRange();
      this.view.renderWindow.render();
    }

    // -- animation ----------------------------------------------------------------------------------------------

    wake() {
      if (!this.request && !this.closed) this.request = window.requestAnimationFrame((now) => this.onFrame(now));
    }

    /* Draw with the next frame; several changes before it cost one picture. */
    requestDraw() {
      this.dirty = true;
      this.wake();
    }

    onFrame() {
      this.request = 0;
      if (this.closed) return;
      // No picture is begun before the last one is drawn: a slow renderer drops frames instead of falling behind.
      if (!this.drawn) {
        this.wake();
        return;
      }
      if (this.lastDraw > 0 && this.onFirstPicture) {
        this.onFirstPicture();
        this.onFirstPicture = null;
      }
      const now = performance.now();
      const { moving, dirty } = this;
      const breathing = this.pulsing || (this.selected >= 0 && !calm.matches);
      if (!moving && !breathing && !dirty) return;
      // On a pulse it spends at most a fifth of its time.
      const rest = moving || dirty ? 0 : Math.max(QUIET_FRAME, this.frameCost * 5);
      if (now - this.lastDraw >= rest) {
        this.dirty = false;
        if (this.morph) this.stepMorph(now);
        if (this.turn) this.stepTurn(now);
        this.draw(now);
      }
      this.wake();
    }

    // -- surface ------------------------------------------------------------------------------------------------

    setSurface(name, animate) {
      if (name === this.surface || !this.geometry.surfaces[name]) return;
      const { surfaces, normals } = this.geometry;
      this.surface = name;
      this.morph = {
        from: { points: this.cortex.points.slice(), normals: this.cortex.normals.slice(), frame: this.tracts.frame },
        to: { points: surfaces[name], normals: normals[name], frame: this.tracts.frames[name] },
        start: animate && !calm.matches ? performance.now() : -Infinity,
      };
      this.stepMorph(performance.now());
      this.requestDraw();
    }

    /* Put points and normals of the cortex' own vertices into the drawn, split mesh. */
    placeCortex() {
      const { vertexOfSplit } = this.geometry;
      const { points, normals } = this;
      for (let vertex = 0; vertex < vertexOfSplit.length; vertex += 1) {
        const from = vertexOfSplit[vertex] * 3;
        const to = vertex * 3;
        for (let axis = 0; axis < 3; axis += 1) {
          points[to + axis] = this.cortex.points[from + axis];
          normals[to + axis] = this.cortex.normals[from + axis];
        }
      }
      this.mesh.getPoints().modified();
      this.mesh.getPointData().getNormals().modified();
      this.mesh.modified();
      this.placeBorders();
      this.placeGlow();
    }

    stepMorph(now) {
      const { from, to, start } = this.morph;
      const share = Math.min(1, (now - start) / MORPH);
      const weight = ease(share);
      const { points, normals } = this.cortex;
      for (let at = 0; at < points.length; at += 1)
        points[at] = from.points[at] + (to.points[at] - from.points[at]) * weight;
      for (let at = 0; at < normals.length; at += 3) {
        const x = from.normals[at] + (to.normals[at] - from.normals[at]) * weight;
        const y = from.normals[at + 1] + (to.normals[at + 1] - from.normals[at + 1]) * weight;
        const z = from.normals[at + 2] + (to.normals[at + 2] - from.normals[at + 2]) * weight;
        const length = Math.hypot(x, y, z) || 1;
        normals[at] = x / length;
        normals[at + 1] = y / length;
        normals[at + 2] = z / length;
      }
      this.tracts.follow(from.frame, to.frame, share >= 1 ? 1 : weight);
      if (share >= 1) this.morph = null;
      this.placeCortex();
    }

    placeBorders() {
      const { borderEdges, n_left_vertices: left } = this.geometry;
      const shown =
        this.hemispheres === "both"
          ? borderEdges
          : borderEdges.filter((_, at) => borderEdges[at - (at % 2)] < left === (this.hemispheres === "left"));
      this.writeRibbon(this.borders, geo.edgeRibbons(shown, this.cortex.points, this.cortex.normals, ...BORDER));
    }

    writeRibbon(actor, ribbon) {
      const mesh = actor.getMapper().getInputData();
      mesh.getPoints().setData(ribbon.points, 3);
      mesh.getPolys().setData(ribbon.faces);
      mesh.modified();
    }

    // -- selection ----------------------------------------------------------------------------------------------

    select(row) {
      this.selected = row;
      this.placeGlow();
      this.requestDraw();
    }

    placeGlow() {
      const { faceComponent, vertexOfSplit, n_left_vertices: left } = this.geometry;
      const loops =
        this.selected < 0 ? [] : geo.borderLoops(this.selected, this.allFaces, faceComponent, vertexOfSplit);
      const onLeft = loops.length > 0 && vertexOfSplit[loops[0][0]] < left;
      const hidden = this.hemispheres !== "both" && onLeft !== (this.hemispheres === "left");
      for (const [layer, actor] of this.glow.entries()) {
        actor.setVisibility(loops.length > 0 && !hidden);
        if (loops.length) this.writeRibbon(actor, geo.loopRibbon(loops, this.points, this.normals, ...GLOW[layer]));
      }
    }

    // -- tracts -------------------------------------------------------------------------------------------------

    /* Draw tubes, as TractPainter takes them; null for none. */
    setTracts(wanted) {
      this.tracts.set(wanted);
      this.requestDraw();
    }

    // -- picking ------------------------------------------------------------------------------------------------

    /* What is under a pointer event: {row, edge} of component and tract, -1 for none. A tube goes before the cortex
       around it; there is no component on the background, the medial wall and hidden halves. */
    pick(event) {
      const { x, y } = this.view.getScreenEventPositionFor(event);
      const window3d = this.view.openglRenderWindow;
      const near = window3d.displayToWorld(x, y, 0, this.renderer);
      const far = window3d.displayToWorld(x, y, 1, this.renderer);
      const direction = [far[0] - near[0], far[1] - near[1], far[2] - near[2]];
      const edge = this.tracts.nearest(near, direction, PICK_SLACK * this.pixelSize());
      if (edge >= 0) return { row: -1, edge };
      const face = geo.pickFace(this.points, this.faces, near, direction);
      return { row: face < 0 ? -1 : this.geometry.faceComponent[face + this.firstFace], edge: -1 };
    }

    /* Millimetres that a CSS pixel shows at the middle of the brain. */
    pixelSize() {
      const away = Math.hypot(...geo.sub(this.camera.getPosition(), this.camera.getFocalPoint()));
      const tall = 2 * away * Math.tan((this.camera.getViewAngle() * Math.PI) / 360);
      return (tall / this.view.openglRenderWindow.getSize()[1]) * window.devicePixelRatio;
    }

    /* The preset from which a parcel is seen best, or "" when it is in sight already (or has no parcel). */
    viewOf(component) {
      const { faceComponent, views } = this.geometry;
      const { points, normals, allFaces } = this;
      const normal = [0, 0, 0];
      const centers = [];
      for (let face = 0, at = 0; at < allFaces.length; face += 1, at += 4) {
        if (faceComponent[face] !== component) continue;
        const center = [0, 0, 0];
        for (let corner = 1; corner <= 3; corner += 1)
          for (let axis = 0; axis < 3; axis += 1) {
            normal[axis] += normals[allFaces[at + corner] * 3 + axis];
            center[axis] += points[allFaces[at + corner] * 3 + axis] / 3;
          }
        centers.push([face, center]);
      }
      if (!centers.length) return "";
      const eye = this.camera.getPosition();
      const sample = centers.filter((_, i) => i % Math.ceil(centers.length / 12) === 0);
      const seen = sample.filter(([, center]) => {
        const hit = geo.pickFace(points, this.faces, eye, center.map((value, axis) => value - eye[axis]));
        return hit >= 0 && faceComponent[hit + this.firstFace] === component;
      });
      if (seen.length > sample.length / 4) return "";
      const onLeft = centers[0][0] < this.geometry.n_left_faces;
      const scores = Object.entries(views)
        .filter(([name]) => name !== "overview" && !name.endsWith(onLeft ? "_right" : "_left"))
        .map(([name, { side }]) => [side.reduce((sum, value, axis) => sum + value * normal[axis], 0), name]);
      return scores.sort((a, b) => b[0] - a[0])[0][1];
    }

    // -- camera -------------------------------------------------------------------------------------------------

    /* Turn to a preset; a medial view hides the other hemisphere. */
    setView(name, animate) {
      const preset = this.geometry.views[name];
      const { hemispheres: alone } = preset;
      const cut = this.geometry.n_left_faces * 4;
      const faces =
        alone === "left" ? this.allFaces.subarray(0, cut) : alone === "right" ? this.allFaces.subarray(cut) : this.allFaces;
      if (faces.length !== this.faces.length || faces.byteOffset !== this.faces.byteOffset) {
        this.faces = faces;
        this.hemispheres = alone;
        this.firstFace = alone === "right" ? this.geometry.n_left_faces : 0;
        this.mesh.getPolys().setData(faces);
        this.mesh.modified();
        this.placeBorders();
        this.placeGlow();
        this.tracts.show(alone);
      }
      const [width, height] = this.view.openglRenderWindow.getSize();
      const { n_left_vertices: left, n_vertices: all } = this.geometry;
      const goal = geo.fitCamera(
        preset,
        this.geometry.surfaces[this.surface],
        alone === "right" ? left : 0,
        alone === "left" ? left : all,
        this.camera.getViewAngle(),
        width / height,
        MARGIN,
      );
      const from = this.camera.get("position", "focalPoint", "viewUp");
      if (!animate || calm.matches) {
        this.turn = null;
        this.placeCamera(goal);
        this.requestDraw();
      } else {
        this.turn = { from, goal, start: performance.now() };
        this.wake();
      }
    }

    placeCamera(pose) {
      this.camera.set(pose);
      this.view.style.setCenterOfRotation(pose.focalPoint);
    }

    stepTurn(now) {
      const { from, goal, start } = this.turn;
      const share = Math.min(1, (now - start) / TURN);
      const weight = ease(share);
      const mix = (a, b) => a.map((value, axis) => value + (b[axis] - value) * weight);
      const focalPoint = mix(from.focalPoint, goal.focalPoint);
      // Between opposite views the straight way leads through the brain: keep the distance, pass by the side.
      const arm = (pose) => pose.position.map((value, axis) => value - pose.focalPoint[axis]);
      const [a, b] = [arm(from), arm(goal)];
      const [la, lb] = [Math.hypot(...a), Math.hypot(...b)];
      let direction = mix(a.map((v) => v / la), b.map((v) => v / lb));
      if (Math.hypot(...direction) < 0.3) {
        const side = 1 - 2 * Math.abs(weight - 0.5);
        direction = direction.map((value, axis) => value + from.viewUp[axis] * side);
      }
      const size = Math.hypot(...direction);
      const reach = la + (lb - la) * weight;
      const position = focalPoint.map((value, axis) => value + (direction[axis] / size) * reach);
      const last = share >= 1;
      this.placeCamera(last ? goal : { position, focalPoint, viewUp: mix(from.viewUp, goal.viewUp) });
      if (last) this.turn = null;
    }

    /* What the picture's header and edges say about the camera. */
    orientation() {
      const pose = this.camera.get("position", "focalPoint", "viewUp");
      const [width, height] = this.view.openglRenderWindow.getSize();
      const away = Math.hypot(...pose.position.map((value, axis) => value - pose.focalPoint[axis]));
      const tall = 2 * away * Math.tan((this.camera.getViewAngle() * Math.PI) / 360);
      return {
        letters: geo.orientationLetters(pose),
        fieldOfView: `${Math.round((tall * width) / height)} × ${Math.round(tall)} mm`,
      };
    }

    close() {
      this.closed = true;
      window.cancelAnimationFrame(this.request);
    }
  }

  window.nmri3d.Painter = Painter;
})();
