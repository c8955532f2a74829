/* The cerebellum and the hippocampi: which side a face or vertex is on, and the layer that draws the bodies by themselves.

   They are the last faces of the brain's mesh. They stay solid where the cortex is glass, so an actor of their own draws
   them, which came, empty, with the scene; it has the cortex' texture. It takes points and normals from the painter's split
   mesh. Sides: 0 left, 1 right, 2 neither, which is always shown.

   Left out: where they are (nmri3d/atlas), how they are painted (painter.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { geo } = nmri;

  const SIDES = ["left", "right", "both"];

  /* Side of a "face" or "vertex" of the brain. */
  function sideOf(geometry, what, number) {
    const { bodies } = geometry;
    for (let at = bodies.length - 1; at >= 0; at -= 1)
      if (number >= bodies[at][`first_${what}`]) return SIDES.indexOf(bodies[at].side);
    return number < (what === "face" ? geometry.n_left_faces : geometry.n_left_vertices) ? 0 : 1;
  }

  /* Whether what lies on a side is shown with these hemispheres. */
  function isShown(side, hemispheres) {
    return hemispheres === "both" || side === 2 || SIDES[side] === hemispheres;
  }

  class BodyLayer {
    constructor(painter) {
      this.painter = painter;
      const { geometry, mesh: whole, allFaces } = painter;
      this.first = geometry.bodies[0].first_face;
      this.actor = painter.view.ctx.getInstance(geometry.scene.bodies);
      const mesh = this.actor && this.actor.getMapper().getInputData();
      if (!mesh) throw new Error("the scene is not whole yet");
      this.mesh = mesh;
      // The texture may be rewritten from now on, and what WebGL made of it before may not.
      this.actor.removeAllTextures();
      this.actor.addTexture(painter.texture);
      const { openglRenderWindow } = painter.view;
      const node = openglRenderWindow.getViewNodeFor(this.actor);
      const drawn = node ? node.getChildren().filter((child) => child.isA("vtkOpenGLTexture")) : [];
      drawn.forEach((child) => child.releaseGraphicsResources(openglRenderWindow));
      this.actor.setForceOpaque(true);
      this.local = new Int32Array(geometry.vertexOfSplit.length).fill(-1);
      this.vertices = [];
      for (let face = this.first; face < geometry.faceComponent.length; face += 1)
        for (let corner = 1; corner <= 3; corner += 1) {
          const vertex = allFaces[face * 4 + corner];
          if (this.local[vertex] < 0) this.local[vertex] = this.vertices.push(vertex) - 1;
        }
      const coordinates = whole.getPointData().getTCoords().getData();
      const own = new Float32Array(this.vertices.length * 2);
      this.vertices.forEach((vertex, at) => own.set([coordinates[vertex * 2], coordinates[vertex * 2 + 1]], at * 2));
      mesh.getPoints().setData(new Float32Array(this.vertices.length * 3), 3);
      mesh.getPointData().getNormals().setData(new Float32Array(this.vertices.length * 3), 3);
      mesh.getPointData().getTCoords().setData(own, 2);
      this.onGeometry();
      painter.setFaceMask(Uint8Array.from(geometry.faceComponent, (_, face) => (face < this.first ? 1 : 0)), "bodies");
      this.onFaces();
    }

    onGeometry() {
      const { painter, mesh, vertices } = this;
      const [points, normals] = [mesh.getPoints().getData(), mesh.getPointData().getNormals().getData()];
      const { points: from, normals: facing } = painter;
      for (let at = 0; at < vertices.length; at += 1)
        for (let axis = 0; axis < 3; axis += 1) {
          points[at * 3 + axis] = from[vertices[at] * 3 + axis];
          normals[at * 3 + axis] = facing[vertices[at] * 3 + axis];
        }
      mesh.getPoints().modified();
      mesh.getPointData().getNormals().modified();
      mesh.modified();
    }

    onFaces() {
      const { painter, first, local } = this;
      const { geometry, allFaces, faceMasks } = painter;
      const allowed = painter.allowedFaces();
      const others = [...faceMasks].filter(([owner]) => owner !== "bodies").map(([, mask]) => mask);
      const numbers = [];
      for (let face = first; face < geometry.faceComponent.length; face += 1)
        if ((!allowed || allowed[face]) && others.every((mask) => mask[face])) numbers.push(face);
      this.numbers = numbers;
      this.faces = new Uint32Array(numbers.length * 4);
      numbers.forEach((face, at) => {
        this.faces[at * 4] = 3;
        for (let corner = 1; corner <= 3; corner += 1) this.faces[at * 4 + corner] = local[allFaces[face * 4 + corner]];
      });
      this.mesh.getPolys().setData(this.faces);
      this.mesh.modified();
      this.actor.setVisibility(numbers.length > 0);
    }

    /* A body that is seen in a cortex of glass goes before the glass. */
    hit(near, direction) {
      const { face, distance } = geo.hitFace(this.mesh.getPoints().getData(), this.faces, near, direction);
      if (face < 0) return null;
      const { target } = this.painter;
      return { face: this.numbers[face], distance, first: Boolean(target && target.glass) };
    }
  }

  nmri.bodies = { sideOf, isShown };
  nmri.layers.push((painter) => (painter.geometry.bodies.length ? new BodyLayer(painter) : null));
})();
