/* Marks on the brain: lines between parcels, and what glows around the selected one.

   Convention. On a surface a mark is a ribbon along parcel borders, moved with the surface; among balls there are no
   borders, and the selection is two translucent shells around its ball. Widths and heights are millimetres.

   Left out: the geometry of ribbons (geometry.js), the rings that run over the surface (rings.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { geo } = nmri;

  const GLOW_PERIOD = 1600; // ms
  // [width, lift]; the glow from its halo to its core
  const BORDER = [0.32, 0.16];
  const GLOW = [
    [5.0, 0.5],
    [2.8, 0.6],
    [1.1, 0.7],
  ];
  const SHELLS = [1.6, 1.25]; // radii of the shells around a selected ball, in radii of the ball
  const GLASS_BORDER = 0.25; // opacity of the borders on a cortex of glass

  class Marks {
    /* borders, glow: vtk.js actors. */
    constructor(painter, borders, glow) {
      this.painter = painter;
      this.borders = borders;
      this.glow = glow;
      this.selected = -1;
      this.showsBorders = true;
      this.loops = { row: -1, found: [] };
      const { vertexOfSplit, borderEdges, n_vertices: count } = painter.geometry;
      const splitOf = new Int32Array(count);
      vertexOfSplit.forEach((vertex, split) => (splitOf[vertex] = split));
      this.edges = borderEdges.map((vertex) => splitOf[vertex]);
      this.sides = Uint8Array.from(borderEdges, (vertex) => nmri.bodies.sideOf(painter.geometry, "vertex", vertex));
      for (const actor of glow) actor.setVisibility(false);
    }

    /* Whether something here moves by itself. */
    get breathing() {
      return this.selected >= 0 && !nmri.motion.reduced();
    }

    select(row) {
      this.selected = row;
      this.placeGlow();
    }

    setBorders(shown) {
      this.showsBorders = shown;
      this.placeBorders();
    }

    /* The cortex became glass, or solid. */
    onPaint(now, target) {
      this.borders.getProperty().setOpacity(target && target.glass ? GLASS_BORDER : 1);
      if (this.selected < 0) return;
      const wave = nmri.motion.reduced() ? 1 : 0.5 + 0.5 * Math.cos((2 * Math.PI * now) / GLOW_PERIOD);
      const quiet = this.painter.form.kind === "nodes" ? 0.6 : 1; // a shell covers more than a ribbon
      this.glow[0].getProperty().setOpacity(quiet * (0.08 + 0.18 * wave));
      this.glow[1].getProperty().setOpacity(quiet * (0.2 + 0.4 * wave));
    }

    /* The brain moved, or other faces of it are drawn. */
    place() {
      this.placeBorders();
      this.placeGlow();
    }

    placeBorders() {
      const { painter, edges, sides } = this;
      const shown = this.showsBorders && painter.foldedOrFlat;
      this.borders.setVisibility(shown);
      if (!shown) return;
      const { hemispheres } = painter;
      const seen = hemispheres === "both" ? edges : edges.filter((_, at) => nmri.bodies.isShown(sides[at], hemispheres));
      this.write(this.borders, geo.edgeRibbons(seen, painter.points, painter.normals, ...BORDER));
    }

    placeGlow() {
      const { painter, selected } = this;
      if (painter.form.kind === "nodes" || !painter.foldedOrFlat) this.placeShells();
      else {
        const { faceComponent, vertexOfSplit } = painter.geometry;
        if (this.loops.row !== selected)
          this.loops = {
            row: selected,
            found: selected < 0 ? [] : geo.borderLoops(selected, painter.allFaces, faceComponent, vertexOfSplit),
          };
        const loops = this.loops.found;
        const side = loops.length ? nmri.bodies.sideOf(painter.geometry, "vertex", vertexOfSplit[loops[0][0]]) : 2;
        const hidden = !nmri.bodies.isShown(side, painter.hemispheres);
        for (const [layer, actor] of this.glow.entries()) {
          actor.setVisibility(loops.length > 0 && !hidden);
          if (loops.length) this.write(actor, geo.loopRibbon(loops, painter.points, painter.normals, ...GLOW[layer]));
        }
      }
    }

    /* Shells around the ball of the selected component, once it has come to rest. */
    placeShells() {
      const { painter, selected } = this;
      const { center, radius } = painter.form;
      const shown = painter.atRest && center && selected >= 0 && radius[selected] > 0;
      for (const [layer, actor] of this.glow.entries()) {
        const there = Boolean(shown) && layer < SHELLS.length;
        actor.setVisibility(there);
        if (there) this.write(actor, geo.ball(center, selected, radius[selected] * SHELLS[layer]));
      }
    }

    write(actor, ribbon) {
      const mesh = actor.getMapper().getInputData();
      mesh.getPoints().setData(ribbon.points, 3);
      mesh.getPolys().setData(ribbon.faces);
      mesh.modified();
    }
  }

  nmri.Marks = Marks;
})();
