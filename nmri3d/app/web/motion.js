/* Motion: whether the page moves by itself. Every module that animates asks here.

   Convention. The system's wish (prefers-reduced-motion) holds until a person chooses otherwise; the choice is kept in the
   browser's storage, and choosing what the system wishes forgets it. Reduced motion leaves every result and no way to it. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { reactive, watchEffect } = window.Vue;

  const KEY = "nmri3d.motion";
  const system = window.matchMedia("(prefers-reduced-motion: reduce)");

  /* What was chosen here before; storage may be forbidden, and then the system decides. */
  function remembered() {
    try {
      const kept = window.localStorage.getItem(KEY);
      return kept === "reduced" || kept === "full" ? kept : "";
    } catch (forbidden) {
      return "";
    }
  }

  const state = reactive({ system: system.matches, choice: remembered() });
  system.addEventListener("change", (event) => (state.system = event.matches));

  function reduced() {
    return state.choice ? state.choice === "reduced" : state.system;
  }

  function setReduced(wanted) {
    state.choice = wanted === state.system ? "" : wanted ? "reduced" : "full";
    try {
      if (state.choice) window.localStorage.setItem(KEY, state.choice);
      else window.localStorage.removeItem(KEY);
    } catch (forbidden) {
      // it then holds until the page is left
    }
  }

  watchEffect(() => document.documentElement.classList.toggle("calm", reduced()));

  nmri.motion = { state, reduced, setReduced };
})();
