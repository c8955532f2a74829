/* The tubes in the drawn scene: puts their triangles into the actor that VtkLocalView built, and finds the one under a ray.

   Convention. Geometry is made for the tubes that are seen, anew with every change; 2,000 take some 70 ms. Only tubes
   with both ends on the hemispheres that are shown are drawn.

   Left out: the triangles themselves (tubes.js), which edges are wanted (tracts.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { tubes } = nmri;

  const MARKED_RADIUS = 1.5; // a marked tube is drawn so many times as thick

  class TractPainter {
    /* actor: the vtk.js actor of the tubes; raw: the frames as they came with the cortex. */
    constructor(actor, raw, surface) {
      this.actor = actor;
      const { side, frames } = tubes.open(raw);
      this.side = side;
      this.frames = frames;
      this.frame = frames[surface];
      this.hemispheres = "both";
      this.wanted = null;
      this.path = null; // of the tubes that are drawn
      actor.setVisibility(false);
    }

    /* Draw tubes; null for none. {source, target, score} by edge, `chosen` edges of them, `reference` score of the
       thickest, `rules`, `axes` (colors of the three axes) or null for `signs` (of negative and positive), and the
       `marked` edge, -1 for none. */
    set(wanted) {
      this.wanted = wanted;
      this.place();
    }

    /* Follow the cortex: `share` of the way from one frame to another. */
    follow(from, to, share) {
      this.frame = share >= 1 ? to : tubes.blend(from, to, share);
      this.place();
    }

    show(hemispheres) {
      this.hemispheres = hemispheres;
      this.place();
    }

    /* The edge that a ray meets first, or misses by less than `slack` mm; -1 for none. */
    nearest(origin, direction, slack) {
      if (!this.path) return -1;
      const { points, radii, samples, shown } = this.path;
      const tube = tubes.nearest(points, radii, samples, origin, direction, slack);
      return tube < 0 ? -1 : shown[tube];
    }

    place() {
      const { wanted, side } = this;
      const alone = this.hemispheres === "both" ? -1 : Number(this.hemispheres === "right");
      const seen = (edge) => alone < 0 || (side[wanted.source[edge]] === alone && side[wanted.target[edge]] === alone);
      const shown = wanted ? wanted.chosen.filter(seen) : [];
      this.actor.setVisibility(shown.length > 0);
      this.path = null;
      if (!shown.length) return;
      const { rules, score } = wanted;
      const path = tubes.paths(this.frame, side, rules, wanted.source, wanted.target, shown);
      const marked = shown.indexOf(wanted.marked);
      const radii = Float32Array.from(shown, (edge, tube) => {
        const radius = tubes.radius(score[edge], wanted.reference, rules);
        return tube === marked ? MARKED_RADIUS * radius : radius;
      });
      this.write(tubes.mesh(path, radii, rules, this.colors(path.tangents, shown, marked)));
      this.path = { ...path, radii, shown, samples: rules.samples };
    }

    /* A function that writes the color of a tube at a place of its path. */
    colors(tangents, shown, marked) {
      const { rules, axes, signs, score } = this.wanted;
      return (tube, at, color) => {
        const sign = signs[score[shown[tube]] > 0 ? 1 : 0];
        if (axes) tubes.directionColor(tangents, at, axes, rules.brightest, color);
        else for (let channel = 0; channel < 3; channel += 1) color[channel] = sign[channel];
        if (marked < 0 || tube === marked) return;
        for (let channel = 0; channel < 3; channel += 1) color[channel] = Math.floor(color[channel] * rules.dimmed + 0.5);
      };
    }

    write(mesh) {
      const data = this.actor.getMapper().getInputData();
      const put = (array, values) => {
        array.setData(values, 3);
        array.modified();
      };
      put(data.getPoints(), mesh.points);
      put(data.getPointData().getNormals(), mesh.normals);
      put(data.getPointData().getScalars(), mesh.colors);
      data.getPolys().setData(mesh.faces);
      data.modified();
    }
  }

  nmri.TractPainter = TractPainter;
})();
