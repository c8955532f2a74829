/* <nmri-findings>: hands to the store what is measured beside scans, and draws nothing. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { watch } = window.Vue;

  nmri.components["nmri-findings"] = {
    props: { painting: Object, generated: Object, subject: Object, comparison: Object },
    template: `<span hidden></span>`,
    setup(props) {
      const now = { immediate: true };
      watch(() => props.painting, nmri.takePainting, now);
      watch(() => props.comparison, nmri.rescan);
      watch(() => props.generated, nmri.takeGenerated, now);
      watch(
        () => props.subject,
        (subject) => {
          nmri.store.subject = subject || null;
          nmri.store.metric.position = -1; // a place in another prompt
          nmri.store.edge = null;
        },
        now,
      );
      return {};
    },
  };
})();
