/* The painter: holds the live vtk.js objects of the brain and draws them, with no word to the server.

   Convention. It works on what VtkLocalView built from the server's scene: the cortex, split along parcel borders, with its
   texture; the ribbons (marks.js) and the tubes (tract_painter.js). `points` and `normals` are those of the split mesh as it
   is drawn now, `forms` what it can take (forms.js), `form` the one that it has or is on the way to. Faces are numbered as in
   the atlas. Times are milliseconds.

   Layers. Other modules draw more into the same picture: `nmri.layers.push(factory)`, factory(painter) -> null or
     onPaint(now, target)     after the cortex' texture was written; target: {colors, strengths, glass} or null
     onGeometry()             after points and normals moved
     onFaces()                after other faces of the cortex were chosen (hemisphere, form, mask)
     pick(near, direction)    {row, edge, distance, ...} of what it draws under a ray, null for nothing; the nearest counts
     hit(near, direction)     {face, distance, first} of the brain's own faces that it draws, null for none; the nearest
                              counts, or what is `first`
     get moving / breathing   whether it animates to an end / without one
     get still                whether nothing but the tubes is to breathe while it is shown
     close()
   all of them optional. `setFaceMask` takes faces from the cortex that a layer draws instead.

   Left out: what a person does (brain_view.js), what is shown (store.js), the camera (camera.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { colors, geo, forms, motion } = nmri;

  const FADE = 300;
  const MORPH = 700;
  const HIGHLIGHT = 1100;
  const HIGHLIGHT_COLOR = [0, 255, 170];
  const QUIET_FRAME = 45; // ms between frames that only pulse
  const SLOWEST_FLOW = 300; // ms for a picture, above which nothing flows
  const PICK_SLACK = 3; // pixels by which a tube may be missed

  nmri.ease = (t) => (t < 0.5 ? 2 * t * t : 1 - 2 * (1 - t) * (1 - t));

  class Painter {
    /* view: what VtkLocalView provides. geometry: as takeGeometry keeps it. Throws when the scene is not whole. */
    constructor(view, geometry) {
      this.view = view;
      this.geometry = geometry;
      const find = (id) => view.ctx.getInstance(id);
      this.actor = find(geometry.scene.cortex);
      this.texture = find(geometry.scene.texture);
      const borders = find(geometry.scene.borders);
      const glow = geometry.scene.glow.map(find);
      const tubes = find(geometry.scene.tracts);
      this.mesh = this.actor.getMapper().getInputData();
      this.image = this.texture.getInputData();
      this.texels = this.image.getPointData().getScalars();
      this.allFaces = this.mesh.getPolys().getData();
      const whole =
        this.allFaces.length === geometry.faceComponent.length * 4 &&
        this.points.length === geometry.vertexOfSplit.length * 3 &&
        this.normals.length === this.points.length &&
        this.texels.getData().length >= geometry.texture.width * geometry.texture.height * 4 &&
        borders &&
        tubes &&
        tubes.getMapper().getInputData().getPointData().getScalars() &&
        glow.every((actor) => actor.getMapper().getInputData().getPolys().getData().length);
      if (!whole) throw new Error("the scene is not whole yet");
      // Rewritten textures must not be immutable in WebGL (vtk-js issue 2712).
      this.texture.set({ resizable: true }, true);
      const node = view.openglRenderWindow.getViewNodeFor(this.texture);
      if (node) node.releaseGraphicsResources(view.openglRenderWindow);

      const count = geometry.vertexOfSplit.length;
      geometry.components = geometry.components || forms.componentOfSplit(this.allFaces, geometry.faceComponent, count);
      this.forms = geometry.forms;
      this.form = this.forms[geometry.surface] || this.capture(geometry.surface);
      this.drawnFrom = this.form; // the other end of a morph
      this.faces = this.allFaces;
      this.faceNumbers = null; // of the drawn faces; null: all, in order
      this.faceMasks = new Map(); // by the layer that takes faces away
      this.faceMask = null; // what all of them leave
      this.wantedHemispheres = "both";
      this.chosen = null; // what the drawn faces were chosen by
      this.target = null; // {colors, strengths, glass}
      this.fade = null;
      this.morph = null;
      this.highlight = null;
      this.pulsing = false;
      this.lastDraw = 0;
      this.frameCost = 0;
      this.fence = null;
      this.request = 0;
      this.dirty = false;
      this.onFirstPicture = null; // called once, when the first picture is really on the screen
      this.closed = false;
      this.actor.setForceOpaque(true);
      this.tracts = new nmri.TractPainter(tubes, geometry.tracts, this.form.frame);
      this.marks = new nmri.Marks(this, borders, glow);
      this.stand = new nmri.Camera(this);
      this.layers = [];
      this.linked = null; // draws several views in turn, while there are several (linked.js)
      try {
        for (const factory of nmri.layers) {
          const layer = factory(this);
          if (layer) this.layers.push(layer);
        }
      } catch (notWhole) {
        // What has come so far is left as it came, since it is tried again: a layer may have taken faces from the cortex.
        this.layers.forEach((layer) => layer.close && layer.close());
        this.mesh.getPolys().setData(this.allFaces);
        this.closed = true;
        throw notWhole;
      }
    }

    /* The form in which the scene came; it is in the drawn mesh and nowhere else. */
    capture(name) {
      const { geometry } = this;
      const frame = nmri.tubes.openFrame(geometry.tracts.frame);
      const form = { name, kind: "surface", points: this.points.slice(), normals: this.normals.slice(), faces: null, frame };
      this.forms[name] = form;
      return form;
    }

    get renderer() {
      return this.view.renderer;
    }

    get camera() {
      return this.stand.camera;
    }

    get points() {
      return this.mesh.getPoints().getData();
    }

    get normals() {
      return this.mesh.getPointData().getNormals().getData();
    }

    /* Name of the form that is shown, or approached. */
    get surface() {
      return this.form.name;
    }

    get selected() {
      return this.marks.selected;
    }

    /* Whether an animation with an end is under way. */
    get moving() {
      return Boolean(this.fade || this.morph || this.stand.turn || this.highlight || this.layers.some((layer) => layer.moving));
    }

    get breathing() {
      if (this.layers.some((layer) => layer.still)) return this.tracts.flowing;
      return this.pulsing || this.marks.breathing || this.flowing || this.layers.some((layer) => layer.breathing);
    }

    /* Whether tubes flow: not where a picture takes so long that it would only jerk. */
    get flowing() {
      return this.tracts.flowing && this.frameCost < SLOWEST_FLOW;
    }

    /* Whether the brain has the form that it is to have. */
    get atRest() {
      return !this.morph && this.drawnFrom === this.form;
    }

    /* Whether what is drawn is a surface, at both ends of a morph. */
    get foldedOrFlat() {
      return this.form.kind !== "nodes" && this.drawnFrom.kind !== "nodes";
    }

    tell(what, ...values) {
      for (const layer of this.layers) if (layer[what]) layer[what](...values);
    }

    // -- painting -----------------------------------------------------------------------------------------------

    /* Show component colors; `target.glass`, strengths, makes a cortex of glass of it. `fade` crosses over from the present picture; `pulsing` lets strong ones breathe. */
    paint(target, { fade, pulsing }) {
      const glass = Boolean((this.target && this.target.glass) || (this.fade && this.fade.glass));
      const from = fade && !motion.reduced() ? this.texels.getData().slice() : null;
      this.fade = from && { from, glass, start: performance.now() };
      this.pulsing = pulsing && !motion.reduced();
      this.target = target;
      this.requestDraw();
    }

    /* Let components flash once; shares [components] in 0..1 say how much. */
    flash(shares) {
      this.highlight = motion.reduced() ? null : { shares, start: performance.now() };
      this.requestDraw();
    }

    writeTexels(now) {
      if (!this.target) return;
      const data = this.texels.getData();
      const channels = this.texels.getNumberOfComponents();
      const { texture } = this.geometry;
      const shades = this.pulsing ? colors.pulseShades(this.target.strengths, now) : null;
      colors.writeTexture(data, channels, this.target.colors, shades, texture, this.target.glass);
      if (this.highlight) {
        const share = Math.min(1, (now - this.highlight.start) / HIGHLIGHT);
        const weight = (1 - share) * (0.5 - 0.5 * Math.cos(4 * Math.PI * share)); // two beats, the second weaker
        colors.mixTexture(data, channels, this.highlight.shares, weight, HIGHLIGHT_COLOR, texture);
        if (share >= 1) this.highlight = null;
      }
      if (this.fade) {
        const share = Math.min(1, (now - this.fade.start) / FADE);
        const { from } = this.fade;
        for (let at = 0; at < data.length; at += 1) data[at] = from[at] + (data[at] - from[at]) * share + 0.5;
        if (share >= 1) this.fade = null;
      }
      const translucent = Boolean(this.target.glass || (this.fade && this.fade.glass)); // glass may be fading away still
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
      this.marks.onPaint(now, this.target);
      this.tracts.onPaint(now);
      this.tell("onPaint", now, this.target);
      if (this.linked) this.linked.draw();
      else this.renderNow();
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
      if (!this.request && !this.closed) this.request = window.requestAnimationFrame(() => this.onFrame());
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
      if (!moving && !this.breathing && !dirty) return;
      // On a pulse it spends at most a fifth of its time; what flows needs more pictures, where they cost little.
      const quiet = this.flowing && this.frameCost < 16 ? 16 : Math.max(QUIET_FRAME, this.frameCost * 5);
      if (now - this.lastDraw >= (moving || dirty ? 0 : quiet)) {
        this.dirty = false;
        this.stepMorph(now);
        this.stand.step(now);
        this.draw(now);
      }
      this.wake();
    }

    // -- form ---------------------------------------------------------------------------------------------------

    /* Take a form; `animate`: fold over to it. A flat surface, whose faces are cut, cannot be folded. */
    setForm(form, animate) {
      if (form === this.form && this.drawnFrom === form) return;
      const moves = animate && !motion.reduced() && this.form.kind !== "flat" && form.kind !== "flat";
      const from = { points: this.points.slice(), normals: this.normals.slice(), frame: this.tracts.frame };
      this.drawnFrom = moves ? this.form : form;
      this.form = form;
      this.morph = { from, to: form, start: moves ? performance.now() : -Infinity };
      this.chooseFaces();
      this.stepMorph(performance.now());
      this.requestDraw();
    }

    /* Stand a share of the way between two forms, as a slider asks. */
    setMix(a, b, share) {
      const end = share <= 0 ? a : share >= 1 ? b : null;
      this.morph = null;
      this.form = end || b;
      this.drawnFrom = end || a;
      this.chooseFaces();
      this.placeMix(a, b, Math.min(1, Math.max(0, share)));
      this.requestDraw();
    }

    stepMorph(now) {
      if (!this.morph) return;
      const { from, to, start } = this.morph;
      const share = Math.min(1, (now - start) / MORPH);
      if (share >= 1) {
        this.morph = null;
        this.drawnFrom = this.form;
        this.chooseFaces();
      }
      this.placeMix(from, to, share >= 1 ? 1 : nmri.ease(share));
    }

    placeMix(from, to, weight) {
      forms.mix(from, to, weight, this.points, this.normals);
      this.mesh.getPoints().modified();
      this.mesh.getPointData().getNormals().modified();
      this.mesh.modified();
      this.tracts.follow(from.frame, to.frame, weight);
      this.marks.place();
      this.tell("onGeometry");
    }

    // -- faces --------------------------------------------------------------------------------------------------

    /* Hemispheres that are drawn. */
    get hemispheres() {
      return this.form.kind === "surface" && this.drawnFrom.kind === "surface" ? this.wantedHemispheres : "both";
    }

    /* "both", "left" or "right". */
    showHemispheres(wanted) {
      this.wantedHemispheres = wanted;
      if (this.chooseFaces()) this.marks.place();
    }

    /* Faces that the cortex draws, Uint8Array [faces] with 1 for those; null for all that hemisphere and form allow. Each
       layer that takes faces away names itself, and what all of them leave is drawn. */
    setFaceMask(mask, owner = "") {
      if (mask) this.faceMasks.set(owner, mask);
      else this.faceMasks.delete(owner);
      const masks = [...this.faceMasks.values()];
      this.faceMask = masks.length < 2 ? masks[0] || null : masks[0].map((_, face) => masks.every((one) => one[face]));
      this.chooseFaces();
      this.requestDraw();
    }

    /* Faces that hemisphere and form allow, whoever draws them: Uint8Array [faces], or null for all. */
    allowedFaces() {
      const drawn = forms.commonFaces(this.drawnFrom, this.form);
      const { hemispheres } = this;
      if (hemispheres === "both") return drawn;
      const { geometry } = this;
      const { sideOf, isShown } = nmri.bodies;
      const shown = (face) => isShown(sideOf(geometry, "face", face), hemispheres) && (!drawn || drawn[face]);
      return Uint8Array.from(geometry.faceComponent, (_, face) => (shown(face) ? 1 : 0));
    }

    /* Choose the drawn faces anew; whether they are others than before. */
    chooseFaces() {
      const by = [this.drawnFrom, this.form, this.hemispheres, this.faceMask];
      if (this.chosen && by.every((one, at) => one === this.chosen[at])) return false;
      this.chosen = by;
      const allowed = this.allowedFaces();
      const { faceMask } = this;
      if (!allowed && !faceMask) {
        this.faces = this.allFaces;
        this.faceNumbers = null;
      } else {
        const numbers = [];
        for (let face = 0; face < this.geometry.faceComponent.length; face += 1)
          if ((!allowed || allowed[face]) && (!faceMask || faceMask[face])) numbers.push(face);
        this.faceNumbers = Int32Array.from(numbers);
        this.faces = new this.allFaces.constructor(numbers.length * 4);
        numbers.forEach((face, at) => this.faces.set(this.allFaces.subarray(face * 4, face * 4 + 4), at * 4));
      }
      this.mesh.getPolys().setData(this.faces);
      this.mesh.modified();
      this.actor.setVisibility(this.faces.length > 0);
      this.tracts.show(this.hemispheres);
      this.tell("onFaces");
      return true;
    }

    /* Vertices of the split mesh that a preset view has to fit, whoever draws their faces. */
    framedVertices() {
      const { form, geometry, allFaces, wantedHemispheres: side } = this;
      const alone = form.kind === "surface" ? side : "both";
      const used = new Uint8Array(geometry.vertexOfSplit.length);
      for (let face = 0; face < geometry.faceComponent.length; face += 1) {
        if (form.faces && !form.faces[face]) continue;
        if (!nmri.bodies.isShown(nmri.bodies.sideOf(geometry, "face", face), alone)) continue;
        for (let corner = 1; corner <= 3; corner += 1) used[allFaces[face * 4 + corner]] = 1;
      }
      return used.reduce((list, there, vertex) => (there && list.push(vertex), list), []);
    }

    // -- marks, tracts, camera ----------------------------------------------------------------------------------

    select(row) {
      this.marks.select(row);
      this.requestDraw();
    }

    setBorders(shown) {
      this.marks.setBorders(shown);
      this.requestDraw();
    }

    /* Draw tubes, as TractPainter takes them; null for none. */
    setTracts(wanted) {
      this.tracts.set(wanted);
      this.requestDraw();
    }

    setView(name, animate) {
      this.stand.setView(name, animate);
    }

    viewOf(component) {
      return this.stand.viewOf(component);
    }

    orientation() {
      return this.stand.orientation();
    }

    // -- picking ------------------------------------------------------------------------------------------------

    /* The face that a ray meets first among those that cortex and bodies draw: {face, distance}, face -1 for none. */
    hit(near, direction) {
      const { face, distance } = geo.hitFace(this.points, this.faces, near, direction);
      const found = { face: face < 0 || !this.faceNumbers ? face : this.faceNumbers[face], distance };
      const others = this.layers.map((layer) => layer.hit && layer.hit(near, direction)).filter(Boolean);
      return others.find((other) => other.first || other.distance < found.distance) || found;
    }

    /* What is under a pointer event: {row, edge} of component and tract, -1 for none; a layer may add to it. A tube goes
       before the cortex around it; there is no component on the background, the medial wall and hidden halves. */
    pick(event) {
      const view = this.linked ? this.linked.aim(event) : -1;
      const { x, y } = this.view.getScreenEventPositionFor(event);
      const window3d = this.view.openglRenderWindow;
      const near = window3d.displayToWorld(x, y, 0, this.renderer);
      const far = window3d.displayToWorld(x, y, 1, this.renderer);
      const direction = geo.sub(far, near);
      if (view >= 0) return this.linked.pickIn(view, near, direction);
      const edge = this.tracts.nearest(near, direction, PICK_SLACK * this.stand.pixelSize());
      if (edge >= 0) return { row: -1, edge };
      const { face, distance } = this.hit(near, direction);
      let found = { row: face < 0 ? -1 : this.geometry.faceComponent[face], edge: -1, face, distance };
      for (const layer of this.layers) {
        const other = layer.pick ? layer.pick(near, direction) : null;
        if (other && other.distance < found.distance) found = { edge: -1, ...other };
      }
      return found;
    }

    close() {
      this.closed = true;
      this.tell("close");
      window.cancelAnimationFrame(this.request);
    }
  }

  nmri.Painter = Painter;
})();
