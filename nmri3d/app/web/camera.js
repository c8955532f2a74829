/* The camera: stands it at presets, turns it there, and says what it sees.

   Convention. Points are millimetres, RAS. Times are milliseconds. A preset is {side, up, hemispheres}; a form that is no
   folded surface shows both hemispheres, whatever the preset says, and the flat one is seen from above only. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { geo } = nmri;

  const TURN = 350;
  const MARGIN = 1.16; // free space around the brain, for letters and header
  const FLAT_VIEW = "dorsal";

  class Camera {
    constructor(painter) {
      this.painter = painter;
      this.turn = null;
    }

    get camera() {
      return this.painter.renderer.getActiveCamera();
    }

    get pose() {
      return this.camera.get("position", "focalPoint", "viewUp");
    }

    /* Of the picture, or of each where several stand side by side. */
    get size() {
      const { linked, view } = this.painter;
      return linked ? linked.size : view.openglRenderWindow.getSize();
    }

    preset(name) {
      const { form, geometry } = this.painter;
      const preset = geometry.views[form.kind === "flat" ? FLAT_VIEW : name];
      return form.kind === "surface" ? preset : { ...preset, hemispheres: "both" };
    }

    /* Turn to a preset; a medial view hides the other hemisphere. */
    setView(name, animate) {
      const { painter } = this;
      const preset = this.preset(name);
      painter.showHemispheres(preset.hemispheres);
      const [width, height] = this.size;
      const goal = geo.fitCamera(
        preset,
        painter.form.points,
        painter.framedVertices(),
        this.camera.getViewAngle(),
        width / height,
        MARGIN,
      );
      this.turnTo(goal, animate);
    }

    /* Stand where a pose says. */
    turnTo(goal, animate) {
      const { painter } = this;
      if (!animate || nmri.motion.reduced()) {
        this.turn = null;
        this.place(goal);
        painter.requestDraw();
      } else {
        this.turn = { from: this.pose, goal, start: performance.now() };
        painter.wake();
      }
    }

    place(pose) {
      this.camera.set(pose);
      this.painter.view.style.setCenterOfRotation(pose.focalPoint);
    }

    step(now) {
      if (!this.turn) return;
      const { from, goal, start } = this.turn;
      const share = Math.min(1, (now - start) / TURN);
      const weight = nmri.ease(share);
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
      this.place(last ? goal : { position, focalPoint, viewUp: mix(from.viewUp, goal.viewUp) });
      if (last) this.turn = null;
    }

    /* Millimetres that a CSS pixel shows at the middle of the brain. */
    pixelSize() {
      const { position, focalPoint } = this.pose;
      const away = Math.hypot(...geo.sub(position, focalPoint));
      const tall = 2 * away * Math.tan((this.camera.getViewAngle() * Math.PI) / 360);
      return (tall / this.size[1]) * window.devicePixelRatio;
    }

    /* What the picture's header and edges say about the camera. Letters are anatomical: only a folded surface has all. */
    orientation() {
      const pose = this.pose;
      const [width, height] = this.size;
      const away = Math.hypot(...geo.sub(pose.position, pose.focalPoint));
      const tall = 2 * away * Math.tan((this.camera.getViewAngle() * Math.PI) / 360);
      const none = { left: "", right: "", top: "", bottom: "" };
      return {
        letters: this.painter.form.kind === "surface" ? geo.orientationLetters(pose) : none,
        fieldOfView: `${Math.round((tall * width) / height)} × ${Math.round(tall)} mm`,
      };
    }

    /* The preset from which a parcel is seen best, or "" when it is in sight already (or has no parcel). */
    viewOf(component) {
      const { painter } = this;
      const { points, normals, allFaces, geometry } = painter;
      const { faceComponent, views } = geometry;
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
      // Flat, all is in sight; balls are round, and only what stands before them hides them.
      if (!centers.length || painter.form.kind !== "surface") return "";
      const eye = this.camera.getPosition();
      const sample = centers.filter((_, i) => i % Math.ceil(centers.length / 12) === 0);
      const seen = sample.filter(([, center]) => {
        const { face } = painter.hit(eye, geo.sub(center, eye));
        return face >= 0 && faceComponent[face] === component;
      });
      if (seen.length > sample.length / 4) return "";
      const side = nmri.bodies.sideOf(geometry, "face", centers[0][0]);
      const other = ["_right", "_left"][side];
      const scores = Object.entries(views)
        .filter(([name]) => name !== "overview" && !(other && name.endsWith(other)))
        .map(([name, { side }]) => [side.reduce((sum, value, axis) => sum + value * normal[axis], 0), name]);
      return scores.sort((a, b) => b[0] - a[0])[0][1];
    }
  }

  nmri.Camera = Camera;
})();
