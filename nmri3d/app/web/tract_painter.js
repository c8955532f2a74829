/* The tubes in the drawn scene: puts their triangles into the actor that VtkLocalView built, and finds the one under a ray.

   Convention. Geometry is made for the tubes that are seen, anew with every change. Only tubes with both ends on the
   hemispheres that are shown are drawn. What flows along them is a brightness that the shader works out from a point's
   distance along its tube and one number a frame: no geometry and no color is sent to the graphics card for it.

   Left out: the triangles themselves (tubes.js), which edges are wanted (tracts.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { tubes } = nmri;

  const MARKED_RADIUS = 1.5; // a marked tube is drawn so many times as thick
  const FLOW_SPEED = 42; // mm a second
  const FLOW_PERIOD = 26; // mm between two crests

  /* In the shader: a crest that runs from source to target, bright at its front, with a tail behind it. */
  const FLOW_SHADER = [
    ["Vertex", "//VTK::Normal::Dec", "attribute float flowMC;\nvarying float flowVC;"],
    ["Vertex", "//VTK::Normal::Impl", "flowVC = flowMC;"],
    ["Fragment", "//VTK::Normal::Dec", "varying float flowVC;\nuniform float flowShift;\nuniform float flowStrength;"],
    [
      "Fragment",
      "//VTK::Light::Impl",
      `float crest = fract((flowVC - flowShift) / ${FLOW_PERIOD.toFixed(1)});
       crest *= crest * crest;
       vec3 flowShade = vec3(1.0 + flowStrength * (0.75 * crest - 0.42));
       ambientColor = ambientColor * flowShade + vec3(0.22 * crest * flowStrength);
       diffuseColor *= flowShade;`,
    ],
  ];

  class TractPainter {
    /* actor: the vtk.js actor of the tubes; raw: what came of the tracts with the cortex; frame: where they end now. */
    constructor(actor, raw, frame) {
      this.actor = actor;
      this.side = nmri.typed(Int8Array, raw.side);
      this.frame = frame;
      this.hemispheres = "both";
      this.wantsFlow = true;
      this.shift = 0; // mm that the crests have run
      this.wanted = null;
      this.drawn = null; // the path of the tubes that are drawn
      this.stale = false; // whether they are to be made anew before the next picture
      actor.setVisibility(false);
      this.prepareFlow();
    }

    /* Whether something moves along the tubes. */
    get flowing() {
      return this.wantsFlow && Boolean(this.drawn) && !nmri.motion.reduced();
    }

    setFlow(wanted) {
      this.wantsFlow = wanted;
    }

    /* A picture is about to be drawn. */
    onPaint(now) {
      this.place();
      this.shift = ((now * FLOW_SPEED) / 1000) % (FLOW_PERIOD * 1000);
    }

    prepareFlow() {
      const mapper = this.actor.getMapper();
      const points = mapper.getInputData().getPointData();
      this.along = points.getArrayByName("flow"); // of a painter before this one
      if (!this.along) {
        this.along = points.getNormals().newClone();
        this.along.setName("flow");
        points.addArray(this.along);
      }
      this.along.setData(new Float32Array(points.getNormals().getNumberOfTuples()), 1);
      mapper.setCustomShaderAttributes(["flow"]);
      mapper.setPopulateSelectionSettings(false); // a table of all corners, for a way to pick that is not used here
      const setFlow = (_, cells) => {
        const program = cells.getProgram();
        if (!program) return; // none before the first picture
        if (program.isUniformUsed("flowShift")) program.setUniformf("flowShift", this.shift);
        if (program.isUniformUsed("flowStrength")) program.setUniformf("flowStrength", this.flowing ? 1 : 0);
      };
      mapper.setViewSpecificProperties({
        OpenGL: {
          ShaderReplacements: FLOW_SHADER.map(([shaderType, originalValue, code]) => ({
            shaderType,
            originalValue,
            replacementValue: `${code}\n${originalValue}`,
            replaceFirst: true,
            replaceAll: false,
          })),
        },
        ShadersCallbacks: [{ callback: setFlow, userData: null }],
      });
    }

    /* Draw tubes; null for none. {source, target, score} by edge, `chosen` edges of them, `reference` score of the
       thickest, `rules`, `axes` (colors of the three axes) or null for `signs` (of negative and positive), and the
       `marked` edge, -1 for none. */
    set(wanted) {
      this.wanted = wanted;
      this.stale = true;
    }

    /* The path of the drawn tubes, {points, tangents, radii, shown, samples}; null without any. */
    get path() {
      this.place();
      return this.drawn;
    }

    /* Follow the brain: `share` of the way from one frame to another; without one there are no tubes. */
    follow(from, to, share) {
      this.frame = share >= 1 ? to : share <= 0 ? from : from && to && tubes.blend(from, to, share);
      this.stale = true;
    }

    show(hemispheres) {
      if (hemispheres === this.hemispheres) return;
      this.hemispheres = hemispheres;
      this.stale = true;
    }

    /* The edge that a ray meets first, or misses by less than `slack` mm; -1 for none. */
    nearest(origin, direction, slack) {
      const { path } = this;
      if (!path) return -1;
      const { points, radii, samples, shown } = path;
      const tube = tubes.nearest(points, radii, samples, origin, direction, slack);
      return tube < 0 ? -1 : shown[tube];
    }

    /* Make the tubes, if they are to be others: several changes before a picture cost one. */
    place() {
      if (!this.stale) return;
      this.stale = false;
      const { wanted, side } = this;
      const alone = this.hemispheres === "both" ? -1 : Number(this.hemispheres === "right");
      const seen = (edge) => alone < 0 || (side[wanted.source[edge]] === alone && side[wanted.target[edge]] === alone);
      const shown = wanted && this.frame ? wanted.chosen.filter(seen) : [];
      this.actor.setVisibility(shown.length > 0);
      this.drawn = null;
      if (!shown.length) return;
      const { rules, score } = wanted;
      const path = tubes.paths(this.frame, side, rules, wanted.source, wanted.target, shown);
      const marked = shown.indexOf(wanted.marked);
      const radii = Float32Array.from(shown, (edge, tube) => {
        const radius = tubes.radius(score[edge], wanted.reference, rules);
        return tube === marked ? MARKED_RADIUS * radius : radius;
      });
      this.write(tubes.mesh(path, radii, rules, this.colors(path.tangents, shown, marked)));
      this.drawn = { ...path, radii, shown, samples: rules.samples };
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
      this.along.setData(mesh.along, 1);
      this.along.modified();
      data.getPolys().setData(mesh.faces);
      data.modified();
    }
  }

  nmri.TractPainter = TractPainter;
})();
