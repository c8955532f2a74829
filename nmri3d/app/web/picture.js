/* Pictures to keep: asks the server to draw what is shown, from where the camera stands now, and saves what comes.

   Left out: drawing (nmri3d/app/pictures.py). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;

  /* Whether there is something to take a picture of. */
  nmri.canSavePicture = () => Boolean(store.painted && nmri.scan() && store.picture !== "busy");

  /* What the server cannot know: everything that a person changed in the browser alone. */
  function whatIsShown() {
    const { painter } = nmri;
    const frame = document.querySelector(".brain-frame").getBoundingClientRect();
    const locked = nmri.lockedRange();
    const vectors = painter && painter.camera.get("position", "focalPoint", "viewUp");
    const pose = vectors && Object.fromEntries(Object.entries(vectors).map(([name, xyz]) => [name, Array.from(xyz)]));
    return {
      step: nmri.currentStep(),
      form: nmri.shape.parts(),
      glass: nmri.isGlass(),
      borders: store.borders,
      volume: store.display === "volume",
      neurons: Boolean(nmri.neurons.state.bar),
      neuron_range: nmri.neurons.lockedBar(),
      view: store.view,
      palette: store.palette,
      threshold: store.threshold,
      range: locked && { vmin: locked.vmin, vmax: locked.vmax, scale: locked.scale },
      camera: pose && { ...pose, viewAngle: painter.camera.getViewAngle() }, // null: the server has the camera
      aspect: frame.width / frame.height,
      tracts: nmri.tracts.current() && {
        share: nmri.tracts.state.share,
        colors: nmri.tracts.state.colors,
        reference: (locked && locked.tract_reference) || null,
        marked: nmri.tracts.marked(),
      },
    };
  }

  nmri.savePicture = async function savePicture() {
    if (!nmri.canSavePicture()) return;
    const { mode } = store;
    const step = nmri.scan().tokens.length ? `-${nmri.network.step.replaceAll(" ", "-")}${nmri.currentStep()}` : "";
    store.picture = "busy";
    try {
      const png = await nmri.trigger("picture", mode, whatIsShown());
      store.picture = "";
      if (png) nmri.saveFile(png, `nmri3d-${mode}${step}.png`, "image/png"); // else the server says why
    } catch (error) {
      store.picture = `The picture did not come (${error.message || "the connection broke"}); try again.`;
    }
  };

  /* Bytes from the server as a file that the browser downloads. */
  nmri.saveFile = function saveFile(bytes, name, type) {
    const address = URL.createObjectURL(new Blob([bytes], { type }));
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    link.click();
    window.setTimeout(() => URL.revokeObjectURL(address), 60_000); // the browser may still be reading
  };
})();
