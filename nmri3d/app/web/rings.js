/* Rings that run outwards over the surface from the selected component, as on a sonar: a layer of the painter.

   Convention. They are drawn by the cortex' own shader from two numbers a frame, the middle of the parcel and a phase; they
   lie over the colors for a moment and change no value. With reduced motion there are none. */

(function () {
  "use strict";
  const nmri = window.nmri3d;

  const PERIOD = 1600; // ms between two rings
  const OWNER = "rings"; // whose the pieces of the shader are
  const REACH = 34; // mm that a ring runs beyond the middle of the parcel

  const SHADER = [
    // vtk.js shifts and scales large meshes before it sends them to the shader
    ["Vertex", "//VTK::PositionVC::Dec", "varying vec3 ringPlace;\nuniform vec3 ringShift;\nuniform vec3 ringScale;"],
    ["Vertex", "//VTK::PositionVC::Impl", "ringPlace = vertexMC.xyz / ringScale + ringShift;"],
    ["Fragment", "//VTK::Normal::Dec", "varying vec3 ringPlace;\nuniform vec3 ringCenter;\nuniform float ringPhase;"],
    [
      "Fragment",
      "//VTK::Light::Impl",
      `if (ringPhase >= 0.0) {
         float ringReach = ${REACH.toFixed(1)};
         float ringAway = distance(ringPlace, ringCenter);
         float ringLight = 0.0;
         for (int ring = 0; ring < 2; ring += 1) {
           float ringShare = fract(ringPhase + 0.5 * float(ring));
           float ringMiss = (ringAway - ringShare * ringReach) / 0.9;
           ringLight += exp(-ringMiss * ringMiss) * (1.0 - ringShare) * smoothstep(0.0, 0.15, ringShare);
         }
         ringLight *= 0.7;
         ambientColor = mix(ambientColor, vec3(0.0, 1.0, 0.667), ringLight);
         diffuseColor = mix(diffuseColor, vec3(0.0, 1.0, 0.667), ringLight);
         opacity = max(opacity, ringLight);
       }`,
    ],
  ];

  class Rings {
    constructor(painter) {
      this.painter = painter;
      this.center = null;
      this.phase = -1;
      this.row = -1;
      this.ready = false;
    }

    /* Put the rings into the shader of the cortex. It is compiled anew for that, so not before something is selected. */
    prepare() {
      this.ready = true;
      const mapper = this.painter.actor.getMapper();
      const tell = (_, cells) => this.tellShader(cells.getProgram(), cells.getCABO());
      // A painter before this one may have left its own.
      const others = (list) => (list || []).filter((one) => one.owner !== OWNER);
      const { OpenGL: shaders = {}, ShadersCallbacks: callbacks } = mapper.getViewSpecificProperties();
      const replacements = SHADER.map(([shaderType, originalValue, code]) => ({
        owner: OWNER,
        shaderType,
        originalValue,
        replacementValue: `${code}\n${originalValue}`,
        replaceFirst: true,
        replaceAll: false,
      }));
      mapper.setViewSpecificProperties({
        ...mapper.getViewSpecificProperties(),
        OpenGL: { ...shaders, ShaderReplacements: [...others(shaders.ShaderReplacements), ...replacements] },
        ShadersCallbacks: [...others(callbacks), { owner: OWNER, callback: tell, userData: null }],
      });
    }

    get breathing() {
      return this.painter.selected >= 0 && !nmri.motion.reduced();
    }

    onPaint(now) {
      this.phase = this.breathing && this.painter.form.kind !== "nodes" ? (now / PERIOD) % 1 : -1;
      if (this.phase < 0) return;
      if (!this.ready) this.prepare();
      if (this.row !== this.painter.selected) this.onGeometry();
      if (!this.center) this.phase = -1;
    }

    /* The middle of the selected parcel: of its vertices, and then the one of them that is nearest to it. */
    onGeometry() {
      const { points, geometry, selected } = this.painter;
      this.row = selected;
      this.center = null;
      if (selected < 0) return;
      const mine = [];
      geometry.components.forEach((row, vertex) => row === selected && mine.push(vertex * 3));
      if (!mine.length) return;
      const mean = [0, 1, 2].map((axis) => mine.reduce((sum, at) => sum + points[at + axis], 0) / mine.length);
      const away = (at) => Math.hypot(points[at] - mean[0], points[at + 1] - mean[1], points[at + 2] - mean[2]);
      const nearest = mine.reduce((best, at) => (away(at) < away(best) ? at : best));
      this.center = Array.from(points.subarray(nearest, nearest + 3));
    }

    tellShader(program, buffer) {
      if (!program || !program.isUniformUsed("ringPhase")) return; // none before the first picture
      program.setUniformf("ringPhase", this.phase);
      if (this.phase < 0) return;
      program.setUniform3f("ringCenter", ...this.center);
      const shifted = buffer.getCoordShiftAndScaleEnabled();
      program.setUniform3f("ringShift", ...(shifted ? buffer.getCoordShift() : [0, 0, 0]));
      program.setUniform3f("ringScale", ...(shifted ? buffer.getCoordScale() : [1, 1, 1]));
    }
  }

  nmri.layers.push((painter) => new Rings(painter));
})();
