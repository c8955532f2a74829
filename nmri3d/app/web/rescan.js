/* After a perturbation: a line of light sweeps over the canvas, as in a new scan, and the components that changed flash.

   Convention. How strongly one flashes is its share in the largest change; nothing that is shown changes by it. */

(function () {
  "use strict";
  const nmri = window.nmri3d;

  const SWEEP = 300; // ms

  function sweep() {
    const canvas = document.querySelector(".canvas");
    if (!canvas) return;
    const line = document.createElement("div");
    line.className = "rescan";
    line.setAttribute("aria-hidden", "true");
    canvas.append(line);
    const way = [{ transform: "translateY(-100%)" }, { transform: "translateY(100%)" }];
    line.animate(way, { duration: SWEEP, easing: "linear" }).finished.finally(() => line.remove());
  }

  /* Another comparison has come, or none. */
  nmri.rescan = function rescan(comparison) {
    if (!comparison || nmri.motion.reduced()) return;
    sweep();
    const { painter } = nmri;
    const table = nmri.geometry();
    if (!painter || !table) return;
    const most = Math.max(...comparison.affected.map(({ change }) => Math.abs(change)), 0);
    if (!(most > 0)) return;
    const shares = new Float32Array(table.ids.length);
    for (const { row, change } of comparison.affected) shares[row] = Math.abs(change) / most;
    painter.flash(shares);
  };
})();
