/* The drawing of linked views: a layer of the painter that draws the one scene several times, side by side in one canvas.

   Convention. A frame draws the scene once a view, into that part of the canvas, with that view's colors: camera, form, marks
   and selection are therefore the same in all. A pin of another mesh (another model, another layout of the cortex) is drawn
   by a second actor, the twin, that stands in for the cortex while its view is drawn; it keeps the form in which it was
   pinned. While views are linked, vtk.js' interactor turns the camera and leaves the drawing to the painter.

   Left out: which views there are (linked.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, colors } = nmri;

  /* Write component colors into the bytes of a texture, and tell all that hold them. */
  function write(target, texture, glass, [texels, ...holders]) {
    const strengths = glass ? target.strengths : null;
    colors.writeTexture(texels.getData(), texels.getNumberOfComponents(), target.colors, null, texture, strengths);
    for (const part of [texels, ...holders]) part.modified();
  }

  class LinkedLayer {
    constructor(painter, twin) {
      this.painter = painter;
      this.twin = twin;
      this.held = null; // the pin whose mesh the twin has
      this.views = [];
      twin.setVisibility(false);
      const texture = twin.getTextures()[0];
      texture.set({ resizable: true }, true);
      this.image = texture.getInputData();
      this.texture = texture;
      this.untie = painter.camera.onModified(() => painter.linked && painter.requestDraw());
      nmri.linked.layer = this;
      this.follow();
    }

    /* Take up what is to be shown now. */
    follow() {
      const { painter } = this;
      const { state, views, rangeOf, valuesOf, parts } = nmri.linked;
      const list = views();
      const { renderer } = painter;
      const interactor = painter.view.renderWindow.getInteractor();
      if (!list.length) {
        if (!painter.linked) return;
        painter.linked = null;
        renderer.setViewport(0, 0, 1, 1);
        interactor.setEnableRender(true);
        this.views = [];
        painter.requestDraw();
        return;
      }
      state.wide = this.wide;
      const rects = parts(list.length, state.wide);
      this.views = list.map((view, at) => {
        const palette = nmri.paletteOf(view.palette);
        const range = rangeOf(view, list);
        const target = colors.componentColors(valuesOf(view), range, palette, view.difference ? 0 : store.threshold);
        return { ...view, rect: rects[at], range, target, other: view.epoch !== painter.geometry.epoch };
      });
      if (!painter.linked) {
        painter.linked = this;
        interactor.setEnableRender(false); // the painter draws, every view in turn
      }
      painter.requestDraw();
    }

    get wide() {
      const [width, height] = this.painter.view.openglRenderWindow.getSize();
      return width > 1.25 * height;
    }

    /* Width and height in pixels of one view. */
    get size() {
      const [width, height] = this.painter.view.openglRenderWindow.getSize();
      const [x0, y0, x1, y1] = this.views[0].rect;
      return [width * (x1 - x0), height * (y1 - y0)];
    }

    /* Draw every view into its part. What belongs to the shown mesh alone, its lines and its glow, is not drawn with a twin;
       tubes belong to the scan that is shown now. */
    draw() {
      const { painter, twin } = this;
      const { renderer, actor } = painter;
      if (this.wide !== nmri.linked.state.wide) this.follow();
      const glass = nmri.isGlass();
      for (const one of [actor, twin]) {
        one.setForceOpaque(!glass);
        one.setForceTranslucent(glass);
      }
      const shown = renderer.getActors().filter((one) => one.getVisibility());
      for (const view of this.views) {
        renderer.setViewport(...view.rect);
        if (view.other) this.hold(view, glass);
        else write(view.target, painter.geometry.texture, glass, [painter.texels, painter.image, painter.texture]);
        for (const one of shown)
          one.setVisibility(!view.other && (one !== painter.tracts.actor || view.scan === nmri.scan()));
        twin.setVisibility(view.other);
        renderer.resetCameraClippingRange();
        painter.view.openglRenderWindow.traverseAllPasses(); // past the interactor, which does not draw now
      }
      for (const one of shown) one.setVisibility(true);
      twin.setVisibility(false);
    }

    /* Put the mesh and the colors of a pin into the twin. */
    hold(view, glass) {
      const { texture } = view.mesh;
      const texels = this.image.getPointData().getScalars();
      if (this.held !== view.id) {
        this.held = view.id;
        const mesh = this.twin.getMapper().getInputData();
        mesh.getPoints().setData(view.mesh.points, 3);
        mesh.getPointData().getNormals().setData(view.mesh.normals, 3);
        mesh.getPointData().getTCoords().setData(view.mesh.coordinates, 2);
        mesh.getPolys().setData(view.mesh.polys);
        mesh.modified();
        this.image.setDimensions(texture.width, texture.height, 1);
        texels.setData(new Uint8Array(texture.width * texture.height * 4), 4);
        // A texture of another size must be made anew (vtk-js issue 2712).
        const { openglRenderWindow } = this.painter.view;
        const node = openglRenderWindow.getViewNodeFor(this.texture);
        if (node) node.releaseGraphicsResources(openglRenderWindow);
      }
      write(view.target, texture, glass, [texels, this.image, this.texture]);
    }

    /* Turn to the view under a pointer event, so that rays and drags are those of its part; -1 for none. */
    aim(event) {
      const box = this.painter.view.openglRenderWindow.getCanvas().getBoundingClientRect();
      const across = (event.clientX - box.left) / box.width;
      const up = 1 - (event.clientY - box.top) / box.height;
      const at = this.views.findIndex(({ rect: [x0, y0, x1, y1] }) => across >= x0 && across < x1 && up >= y0 && up <= y1);
      if (at >= 0) this.painter.renderer.setViewport(...this.views[at].rect);
      return at;
    }

    /* What is under a ray in a view: {row, edge, view}; row counts in the current table, -1 where it has no such id. */
    pickIn(at, near, direction) {
      const view = this.views[at];
      const { painter } = this;
      let own = -1;
      if (view.other) {
        const { points, polys, vertexComponent } = view.mesh;
        const { face } = nmri.geo.hitFace(points, polys, near, direction);
        own = face < 0 ? -1 : vertexComponent[polys[face * 4 + 1]];
      } else {
        const { face } = painter.hit(near, direction);
        own = face < 0 ? -1 : painter.geometry.faceComponent[face];
      }
      if (own < 0) return { row: -1, edge: -1, view: at, id: "" };
      const id = view.ids[own];
      const row = view.other ? (painter.geometry.rowOfId.get(id) ?? -1) : own;
      return { row, edge: -1, view: at, id };
    }

    close() {
      this.untie.unsubscribe();
      if (nmri.linked.layer === this) nmri.linked.layer = null;
    }
  }

  nmri.layers.push((painter) => {
    const id = painter.geometry.scene && painter.geometry.scene.twin;
    const twin = id ? painter.view.ctx.getInstance(id) : null;
    return twin && twin.getTextures().length ? new LinkedLayer(painter, twin) : null;
  });
})();
