/* The network that is shown, in words: what a step of it is called, what its outputs are, what it cannot serve and why.

   Convention. Everything here comes from the server with the model (nmri3d/app/facts.py); `refused` has a sentence for every
   feature that this network cannot serve, the one that the measurement itself would answer. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { reactive } = window.Vue;

  const NONE = {
    step: "token",
    steps: "tokens",
    signal: false, // outputs are physical values; else logits over a vocabulary
    residual: true, // made of blocks that write to one residual stream; else each component has an activation of its own
    examples: [],
    refused: {},
  };
  const network = reactive({ ...NONE });

  /* Another model, or none: what it cannot serve is no longer chosen. */
  function takeModel(model) {
    Object.assign(network, NONE, model ? model.network : {});
    if (refused(nmri.TOOL_NEEDS[nmri.store.tool])) nmri.openTool("layers");
    if (network.refused.edges) nmri.store.circuit.edges = "none";
    else if (nmri.store.circuit.edges === "none") nmri.store.circuit.edges = "eap";
    if (network.refused[nmri.store.circuit.method]) nmri.store.circuit.method = "auto";
  }

  /* Why this network cannot serve a feature; "" where it can. */
  function refused(feature) {
    return network.refused[feature] || "";
  }

  /* What an edit does, said of what this network's components have. */
  function ofComponent(text) {
    return network.residual ? text : text.replace("what it writes", "its activation").replace("What it writes", "Its activation");
  }

  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

  /* A step as a chip's title says it: "token 3". */
  const stepAt = (at) => `${network.step} ${at}`;

  const QUOTES = ' A word is taken with the space before it, unless it stands in "quotes"';

  function targetTitle() {
    if (network.signal) return "The output whose value counts; empty: the one of the largest |value|";
    return `The token whose logit counts; empty: the top token.${QUOTES}`;
  }

  function foilTitle() {
    if (network.signal) return "An output whose value is taken off; empty: none";
    return `The token whose logit is taken off; empty: the runner-up.${QUOTES}`;
  }

  /* What a metric is: the logit of a token minus that of another, or a signal, alone or minus another. */
  nmri.components["nmri-metric"] = {
    props: { target: String, foil: String },
    template: `<template v-if="!nmri.network.signal">logit </template><b>{{ nmri.tokenText(target) }}</b><template v-if="foil"> − <b>{{ nmri.tokenText(foil) }}</b></template>`,
    setup: () => ({ nmri }),
  };

  // -- answers ----------------------------------------------------------------------------------------------------

  const MOST = 5;
  const opened = new WeakMap(); // by outputs: their values

  function valuesOf(outputs) {
    if (!opened.has(outputs)) opened.set(outputs, nmri.typed(Float32Array, outputs.values));
    return opened.get(outputs);
  }

  /* The step of a prediction's outputs that goes with the shown one. */
  function answerStep(outputs) {
    const scan = nmri.scan();
    return scan && scan.steps === outputs.steps ? nmri.currentStep() : outputs.steps - 1;
  }

  /* The likeliest answers at the shown step, or all signals, each with its series over the steps. A language model's are those
     after the last token. */
  function answersAt(prediction) {
    const { outputs } = prediction;
    if (!outputs) return prediction.tokens;
    const all = valuesOf(outputs);
    const count = outputs.names.length;
    const step = answerStep(outputs);
    const row = all.subarray(step * count, (step + 1) * count);
    const answers = outputs.names.map((text, id) => ({ id, text, logit: row[id] }));
    if (network.signal)
      return answers.map((one) => ({ ...one, step, series: Float32Array.from({ length: outputs.steps }, (_, at) => all[at * count + one.id]) }));
    const most = Math.max(...row);
    const sum = row.reduce((total, logit) => total + Math.exp(logit - most), 0);
    return answers
      .sort((a, b) => b.logit - a.logit)
      .slice(0, MOST)
      .map((one) => ({ ...one, probability: Math.exp(one.logit - most) / sum }));
  }

  /* Note of the comparison panel without edits. */
  function answerName() {
    return network.residual ? "next token" : `at this ${network.step}`;
  }

  /* What an fMRI scan brings for that panel. */
  function answerPromise() {
    if (network.residual) return "the next token";
    return `${network.signal ? "the outputs" : "the answer"} at every ${network.step}`;
  }

  /* Note of the comparison panel with edits. */
  function comparedAt() {
    return network.residual ? "before and after" : `at the last ${network.step}`;
  }

  /* An example was chosen: it becomes the prompt, and the menu goes back to its title. */
  function takeExample(menu) {
    nmri.store.prompt = menu.value;
    menu.value = "";
    document.getElementById("prompt-input").focus();
  }

  Object.assign(nmri, { network, takeModel, refused, ofComponent, capital, stepAt, targetTitle, foilTitle, takeExample, answersAt, answerName, answerPromise, comparedAt });
})();
