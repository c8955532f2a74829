/* <nmri-brain>: placed inside VtkLocalView, it takes the live vtk.js view and connects it with the store: paints what
   is shown, follows the pointer (tooltip, click, drag), and says which way the picture's edges point.

   Left out: the picture's drawing (painter.js) and, with remote rendering, everything that touches vtk.js: the server
   then answers picks and turns. */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store } = nmri;
  const { inject, onMounted, onBeforeUnmount, ref, watch, computed } = window.Vue;

  const PULSING = ["fMRI", "FLAIR"];
  const POLL = 30; // ms between two looks whether the scene has come
  const LONG_WAIT = 15_000; // ms after which that is a complaint
  const CLICK_TRAVEL = 4; // CSS pixels that a click may wander before it is a drag
  const KINDS = {
    embed: "embedding",
    head: "attention head",
    mlp: "MLP",
    unembed: "unembedding",
    neuron: "neuron",
    attn_bias: "attention output bias",
  };

  nmri.kindName = (kind) => KINDS[kind] || kind;

  /* Colors of what is shown now; null paints the plain cortex. */
  function currentTarget() {
    const table = nmri.geometry();
    const scan = nmri.scan();
    const n = table ? table.ids.length : 0;
    const palette = nmri.palette();
    if (!scan || !palette || scan.components !== n)
      return { colors: new Uint8Array(n * 4), strengths: new Float32Array(n) };
    const target = nmri.colors.componentColors(nmri.values(), nmri.range(), palette, store.threshold);
    return { ...target, glass: nmri.isGlass() ? target.strengths : null };
  }

  /* The tubes to draw now, as painter.js takes them; null for none. */
  function currentTracts() {
    const tracts = nmri.tracts.current();
    if (!tracts) return null;
    const { rules, source, target, score } = tracts;
    return {
      rules,
      source,
      target,
      score,
      chosen: nmri.tracts.chosen(),
      reference: nmri.tracts.reference(),
      axes: nmri.tracts.state.colors === "direction" ? rules.axis_colors[store.palette] : null,
      signs: rules.sign_colors[store.palette],
      marked: nmri.tracts.marked(),
    };
  }

  /* The pointer rests on a component or a tract, {row, edge}. */
  function hoverOver({ row, edge, neuron = -1, view = -1, id = "" }, place) {
    nmri.linked.state.hover = view < 0 ? null : { id, ...place };
    if (view >= 0) row = -1; // views side by side have a tooltip of their own
    nmri.tracts.state.hover = edge;
    store.hover = row < 0 && edge < 0 ? null : { row, edge, neuron, ...place };
  }

  function clickOn({ row, edge, neuron = -1 }) {
    if (edge >= 0) nmri.tracts.mark(edge);
    else if (neuron >= 0) nmri.neurons.pick(neuron);
    else nmri.select(row);
  }

  /* Pointer handling that both renderings share: hover at most once a frame, and clicks that are no drags. */
  function followPointer(element, { onHover, onClick }) {
    let down = null;
    let pending = null;
    let request = 0;
    const leave = () => {
      pending = null;
      store.hover = null;
      nmri.linked.state.hover = null;
      nmri.tracts.state.hover = -1;
    };
    const move = (event) => {
      if (down && Math.hypot(event.clientX - down.x, event.clientY - down.y) > CLICK_TRAVEL) down.dragged = true;
      if (event.buttons) {
        leave();
        return;
      }
      pending = event;
      request = request || window.requestAnimationFrame(() => {
        request = 0;
        if (pending) onHover(pending);
      });
    };
    const press = (event) => {
      down = event.button === 0 ? { x: event.clientX, y: event.clientY, dragged: false } : null;
      leave();
    };
    const release = (event) => {
      const clicked = down && event.button === 0 && !down.dragged;
      const near = clicked && Math.hypot(event.clientX - down.x, event.clientY - down.y) <= CLICK_TRAVEL;
      down = null;
      if (near) onClick(event);
    };
    const listeners = { pointermove: move, pointerdown: press, pointerup: release, pointerleave: leave };
    for (const [name, listener] of Object.entries(listeners)) element.addEventListener(name, listener);
    return () => {
      window.cancelAnimationFrame(request);
      for (const [name, listener] of Object.entries(listeners)) element.removeEventListener(name, listener);
    };
  }

  function placeIn(element, event) {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top, width: box.width, height: box.height };
  }

  const TEMPLATE = `
    <div class="brain-overlay" ref="overlay">
      <span v-for="side in sides" :key="side" :class="['letter', side]" aria-hidden="true">{{ store.letters[side] }}</span>
      <nmri-tooltip></nmri-tooltip>
      <nmri-tracts></nmri-tracts>
      <nmri-linked></nmri-linked>
    </div>`;

  nmri.components["nmri-brain"] = {
    template: TEMPLATE,
    setup() {
      const view = inject("view");
      const overlay = ref(null);
      let painter = null;
      let poll = 0;
      let unfollow = null;
      let cameraWatch = null;
      let moveWatch = null;
      let resizeWatch = null;

      function readOrientation() {
        if (!painter) return;
        const { letters, fieldOfView } = painter.orientation();
        if (JSON.stringify(letters) !== JSON.stringify(store.letters)) store.letters = letters;
        store.fieldOfView = fieldOfView;
      }

      function repaint(fade) {
        if (!painter) return;
        const pulsing = store.pulse && PULSING.includes(store.mode) && Boolean(nmri.scan());
        painter.paint(currentTarget(), { fade, pulsing });
      }

      function begin() {
        window.clearTimeout(poll);
        if (painter) painter.close();
        painter = null;
        nmri.painter = null;
        const geometry = nmri.geometry();
        if (!geometry) return;
        let tries = 0;
        const start = () => {
          let next = null;
          try {
            next = new nmri.Painter(view, geometry);
          } catch (notYet) {
            poll = window.setTimeout(start, POLL); // the scene's arrays are still under way
            tries += 1;
            if (tries === LONG_WAIT / POLL) console.error("the brain cannot be drawn yet:", notYet);
            return;
          }
          nmri.shape.begin(next).then((beginning) => {
            if (geometry !== nmri.geometry() || !overlay.value) next.close();
            else show(next, beginning);
          });
        };
        start();
      }

      /* Put a painter to work. */
      function show(next, { pose, after }) {
        painter = next;
        nmri.painter = painter;
        painter.onFirstPicture = () => {
          store.painted = true;
          nmri.bridge.release(0);
          after();
        };
        cameraWatch = painter.camera.onModified(readOrientation);
        // To vtk.js the first move after 200 ms is a start, which turns nothing: where pictures take longer, every move is.
        const interactor = view.renderWindow.getInteractor();
        if (moveWatch) moveWatch.unsubscribe();
        moveWatch = interactor.onStartMouseMove((event) => interactor.mouseMoveEvent(event));
        painter.marks.setBorders(store.borders);
        painter.tracts.setFlow(store.flow);
        painter.setView(store.view, false);
        if (pose) painter.stand.place(pose);
        else nmri.view.touched = false;
        repaint(false);
        painter.setTracts(currentTracts());
        readOrientation();
        if (store.selected >= 0) painter.select(store.selected);
      }

      onMounted(() => {
        const element = overlay.value.closest(".brain-frame");
        unfollow = followPointer(element, {
          onHover(event) {
            if (painter) hoverOver(painter.pick(event), placeIn(element, event));
          },
          onClick(event) {
            if (painter) clickOn(painter.pick(event));
          },
        });
        const turned = (event) => {
          if (event.type !== "wheel" && !event.buttons) return;
          nmri.view.touched = true;
          if (painter) painter.stand.turn = null; // the hand takes over from a turn under way
        };
        element.addEventListener("pointermove", turned);
        element.addEventListener("wheel", turned, { passive: true });
        resizeWatch = new ResizeObserver(() => {
          // An untouched preset keeps fitting its frame; a drag may begin before the frame is drawn.
          window.requestAnimationFrame(() => painter && !nmri.view.touched && painter.setView(store.view, false));
          readOrientation();
        });
        resizeWatch.observe(element);
        begin();
      });
      onBeforeUnmount(() => {
        window.clearTimeout(poll);
        if (painter) painter.close();
        if (nmri.painter === painter) nmri.painter = null;
        painter = null;
        if (unfollow) unfollow();
        if (resizeWatch) resizeWatch.disconnect();
        if (cameraWatch) cameraWatch.unsubscribe();
        if (moveWatch) moveWatch.unsubscribe();
      });

      watch(() => store.epoch, begin);
      watch(
        () => [store.mode, store.revision, store.palette, store.step, store.threshold, nmri.isGlass()],
        (now, before) => repaint([0, 1, 2, 5].some((at) => now[at] !== before[at])),
      );
      watch(() => store.pulse, () => repaint(false));
      watch(
        () => {
          const { share, colors } = nmri.tracts.state;
          return [nmri.tracts.current(), nmri.tracts.reference(), nmri.tracts.marked(), share, colors, store.palette, store.selected];
        },
        () => painter && painter.setTracts(currentTracts()),
      );
      watch(() => store.selected, (row) => painter && painter.select(row));
      watch(() => store.borders, (shown) => painter && painter.setBorders(shown));
      watch(
        () => [store.flow, nmri.motion.reduced()],
        () => {
          if (!painter) return;
          painter.tracts.setFlow(store.flow);
          repaint(false);
        },
      );
      /* Another form is shown: an untouched camera fits it, and so does any where the form is of another kind. */
      nmri.fitView = (always, animate) => {
        if (painter && (always || !nmri.view.touched)) {
          nmri.view.touched = false;
          painter.setView(store.view, animate);
        }
        readOrientation();
      };
      nmri.readOrientation = readOrientation;
      watch(
        () => nmri.view.requests,
        () => {
          nmri.view.touched = false;
          if (painter) painter.setView(store.view, true);
        },
      );
      return { overlay, store, sides: ["left", "right", "top", "bottom"] };
    },
  };

  /* <nmri-remote-brain>: beside VtkRemoteView. The server draws, picks and turns. */
  nmri.components["nmri-remote-brain"] = {
    template: TEMPLATE,
    props: { letters: Object },
    setup(props) {
      const overlay = ref(null);
      let unfollow = null;
      let asked = 0;
      onMounted(() => {
        const element = overlay.value.closest(".brain-frame");
        unfollow = followPointer(element, {
          async onHover(event) {
            const ticket = (asked += 1);
            const place = placeIn(element, event);
            const found = await nmri.trigger("remote_pick", place.x / place.width, place.y / place.height);
            if (ticket === asked && found) hoverOver(found, place);
          },
          async onClick(event) {
            const place = placeIn(element, event);
            const found = await nmri.trigger("remote_pick", place.x / place.width, place.y / place.height);
            if (found) clickOn(found);
          },
        });
        store.painted = true;
      });
      onBeforeUnmount(() => unfollow && unfollow());
      watch(() => props.letters, (letters) => letters && (store.letters = letters), { immediate: true });
      watch(() => store.epoch, () => (store.painted = true));
      return { overlay, store, sides: ["left", "right", "top", "bottom"] };
    },
  };

  nmri.components["nmri-tooltip"] = {
    template: `
      <div v-if="edge >= 0" class="tooltip" role="status" :style="place" data-testid="tooltip">
        <nmri-tract-facts :at="edge"></nmri-tract-facts>
      </div>
      <div v-else-if="neuron >= 0" class="tooltip" role="status" :style="place" data-testid="tooltip">
        <nmri-neuron-facts :neuron="neuron"></nmri-neuron-facts>
      </div>
      <div v-else-if="row >= 0 && table" class="tooltip" role="status" :style="place" data-testid="tooltip">
        <b>{{ table.ids[row] }}</b>
        <span>{{ nmri.kindName(table.kind[row]) }}</span>
        <span v-if="scan" class="data">{{ nmri.valueText(row) }} <i>{{ scan.units }}</i></span>
        <span v-if="scan && scan.tokens.length" class="dim">at {{ nmri.tokenText(scan.tokens[nmri.currentStep()]) }}</span>
      </div>`,
    setup() {
      const row = computed(() => (store.hover ? store.hover.row : -1));
      const edge = computed(() => (store.hover ? store.hover.edge : -1));
      const neuron = computed(() => (store.hover && store.hover.neuron !== undefined ? store.hover.neuron : -1));
      const place = computed(() => {
        const at = store.hover;
        if (!at) return {};
        const left = at.x + 250 > at.width ? { right: `${at.width - at.x + 14}px` } : { left: `${at.x + 14}px` };
        const top = at.y + 90 > at.height ? { bottom: `${at.height - at.y + 12}px` } : { top: `${at.y + 12}px` };
        return { ...left, ...top };
      });
      return { row, edge, neuron, place, nmri, table: computed(nmri.geometry), scan: computed(nmri.scan) };
    },
  };
})();
