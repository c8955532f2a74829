/* The bridge: a copy of the last picture that stays over the canvas while another takes its place under it.

   Convention. It is taken in the same task in which the picture is drawn, since WebGL keeps no picture for later. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  let copy = null;

  function drop() {
    if (copy) copy.remove();
    copy = null;
  }

  /* Lay the present picture of a painter over the canvas. */
  function hold(painter) {
    drop();
    const place = document.querySelector(".brain-view");
    const source = painter.view.openglRenderWindow.getCanvas();
    if (!place || !source || !source.width || !source.height) return;
    painter.renderNow();
    copy = document.createElement("canvas");
    copy.width = source.width;
    copy.height = source.height;
    copy.className = "bridge";
    copy.setAttribute("aria-hidden", "true");
    copy.getContext("2d").drawImage(source, 0, 0);
    place.insertAdjacentElement("afterend", copy);
  }

  /* Let it fade away, in ms; 0: at once. */
  function release(duration) {
    const fading = copy;
    if (!fading) return;
    if (!duration || nmri.motion.reduced()) {
      drop();
      return;
    }
    fading.animate([{ opacity: 1 }, { opacity: 0 }], { duration, fill: "forwards" }).finished.then(
      () => fading === copy && drop(),
      () => {}, // it was taken away before its end
    );
  }

  nmri.bridge = { hold, release };
})();
