/* <nmri-feed>: hands what arrives in trame's state to the store, and draws nothing. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { watch } = window.Vue;

  nmri.components["nmri-feed"] = {
    props: { palettes: Object, geometry: Object, t1: Object, t2: Object, fmri: Object, dti: Object, flair: Object, flight: Object, layout: Object, remote: Boolean, mode: String, model: Object },
    template: `<span hidden></span>`,
    setup(props) {
      nmri.store.remote = Boolean(props.remote);
      const now = { immediate: true };
      watch(() => props.model, nmri.takeModel, now);
      watch(() => props.palettes, nmri.takePalettes, now);
      watch(() => props.geometry, nmri.takeGeometry, now);
      watch(() => props.flight, nmri.shape.fly);
      watch(() => props.layout && props.layout.refused, (refused) => refused && nmri.shape.goBack());
      watch(() => props.t1, (payload) => nmri.takeScan("T1", payload), now);
      watch(() => props.t2, (payload) => nmri.takeScan("T2", payload), now);
      watch(() => props.fmri, (payload) => nmri.takeScan("fMRI", payload), now);
      watch(() => props.dti, (payload) => nmri.takeScan("DTI", payload), now);
      watch(() => props.flair, (payload) => nmri.takeScan("FLAIR", payload), now);
      watch(() => props.mode, (mode) => mode && mode !== nmri.store.mode && nmri.setMode(mode), now);
      return {};
    },
  };
})();
