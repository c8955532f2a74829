/* The brain in a web page or a notebook: turns under the mouse, tells what is under it, steps through the tokens.

   Convention. `content` has four parts, each replaced as a whole by `set`: cortex {shapes}, marks {shapes, textures},
   paint {frames, values, tokens, header, bar, …}, looks. No network is used. The number shown is the raw one.

   Left out: measuring; what was not handed over cannot be shown. */

function nmriViewer(root, told = {}) {
  const make = (tag, name, parent = root, text = "") => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const FADE = 300;
  const INTERVAL = 500;
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");

  root.classList.add("nmri-view");
  root.replaceChildren();
  const canvas = make("canvas", "nmri-canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.dataset.testid = "brain-view";
  const header = make("div", "nmri-header");
  const letters = Object.fromEntries(["top", "bottom", "left", "right"].map((edge) => [edge, make("div", `nmri-letter nmri-${edge}`)]));
  const bar = make("div", "nmri-bar");
  const foot = make("div", "nmri-foot");
  const tip = make("div", "nmri-tip");
  tip.hidden = true;
  const gl = nmriGlScene(canvas);

  const state = { step: 0, before: 0, since: -Infinity, row: -1, playing: 0, values: null, paint: null, looks: null };
  let orbit = nmriOrbit(20);
  let asked = 0;
  let touched = false;
  let home = null;

  function redraw() {
    if (!asked) asked = requestAnimationFrame(render);
  }

  function render(time) {
    asked = 0;
    if (!state.paint || !state.looks) return;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.max(1, Math.round(side * scale)));
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
      if (!touched) goHome();
      showChip();
    }
    const share = still.matches ? 1 : Math.min(1, (time - state.since) / FADE);
    gl.render(orbit, share < 1 ? state.before : state.step, state.step, share, told.onSelect ? -1 : state.row);
    const now = orbit.letters();
    for (const edge of Object.keys(letters)) letters[edge].textContent = now[edge];
    root.dataset.step = state.step;
    root.dataset.drawn = "true";
    if (share < 1) redraw();
  }

  function goHome() {
    const aspect = canvas.width / canvas.height;
    if (!home || !gl.clouds().length) return;
    if (home.pose) orbit.stand(home.pose);
    else {
      // room for what is written around
      const [across, along] = [canvas.clientWidth, canvas.clientHeight];
      const margins = [across / Math.max(across / 2, across - 250), along / Math.max(along / 2, along - 190)];
      orbit.fit(gl.clouds(), home.side, home.up, aspect, margins.map((margin) => 1.03 * margin));
    }
  }

  // -- steps

  function stand(step, tell = true) {
    const last = state.paint.steps - 1;
    step = Math.min(last, Math.max(0, step));
    if (step === state.step) return;
    Object.assign(state, { before: state.step, step, since: performance.now() });
    showStep();
    redraw();
    if (tell && told.onStep) told.onStep(step);
  }

  function play(on) {
    clearInterval(state.playing);
    state.playing = on ? setInterval(() => {
      if (state.step === state.paint.steps - 1) stand(0);
      else stand(state.step + 1);
    }, INTERVAL) : 0;
    const button = foot.querySelector(".nmri-play");
    if (button) {
      button.textContent = on ? "❚❚" : "▶";
      button.setAttribute("aria-label", on ? "Pause" : "Play the tokens");
    }
  }

  function showStep() {
    const chips = foot.querySelectorAll(".nmri-token");
    chips.forEach((chip, number) => chip.setAttribute("aria-pressed", String(number === (state.paint.marked ?? state.step))));
    showChip();
    showBar();
  }

  /* Bring the shown token into the middle of its row. */
  function showChip() {
    const row = foot.querySelector(".nmri-tokens");
    const chip = row && row.querySelector('[aria-pressed="true"]');
    if (chip) row.scrollLeft = chip.offsetLeft - row.offsetLeft - row.clientWidth / 2 + chip.clientWidth / 2;
  }

  // -- what stands around

  function showHeader() {
    header.replaceChildren();
    for (const line of state.paint.header) {
      const row = make("div", "nmri-line", header);
      for (const [label, text] of line) {
        const cell = make("span", "nmri-cell", row);
        if (label) make("b", "", cell, label);
        make("span", label ? "" : "nmri-title", cell, text);
      }
    }
  }

  function showBar() {
    const { bar: given } = state.paint;
    bar.replaceChildren();
    bar.hidden = !given;
    if (!given) return;
    const [below, above] = given.outside[state.step];
    make("div", "nmri-out", bar, above ? `▲ ${above} above` : "");
    const middle = make("div", "nmri-scale", bar);
    const strip = make("div", "nmri-strip", middle);
    strip.style.background = `linear-gradient(to top, ${given.colors.join(", ")})`;
    const ticks = make("div", "nmri-ticks", middle);
    for (const [share, label] of given.ticks) make("span", "nmri-tick", ticks, label).style.bottom = `${100 * share}%`;
    make("div", "nmri-unit", middle, given.unit);
    make("div", "nmri-out", bar, below ? `▼ ${below} below` : "");
  }

  function showFoot() {
    foot.replaceChildren();
    if (state.paint.legend) {
      const row = make("div", "nmri-legend", foot);
      for (const [color, text] of state.paint.legend) {
        if (color) make("i", "", row).style.background = color;
        make("span", "", row, text);
      }
    }
    const row = make("div", "nmri-controls", foot);
    if (state.paint.steps > 1) {
      const button = (text, label, act, name = "") => {
        const made = make("button", `nmri-button ${name}`, row, text);
        made.type = "button";
        made.setAttribute("aria-label", label);
        made.onclick = act;
      };
      button("◀", "Token before", () => stand(state.step - 1));
      button("▶", "Play the tokens", () => play(!state.playing), "nmri-play");
      button("▶|", "Next token", () => stand(state.step + 1));
    }
    const tokens = make("div", "nmri-tokens", row);
    state.paint.tokens.forEach((token, number) => {
      const chip = make(state.paint.steps > 1 ? "button" : "span", "nmri-token", tokens, token);
      chip.dataset.testid = `token-${number}`;
      if (state.paint.steps > 1) {
        chip.type = "button";
        chip.onclick = () => {
          play(false);
          stand(number);
        };
      }
    });
    const views = make("div", "nmri-views", row);
    for (const [label, name, side, up] of state.looks.views) {
      const made = make("button", "nmri-button", views, label);
      made.type = "button";
      made.title = `View from ${name}`;
      made.setAttribute("aria-label", `View from ${name}`);
      made.onclick = () => {
        touched = false;
        home = { side, up };
        goHome();
        redraw();
      };
    }
  }

  // -- mouse, touch, keys

  const pointers = new Map();
  let pinch = 0;
  let moved = 0;

  function hover(event) {
    const scale = canvas.width / canvas.clientWidth;
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const row = gl.pick(orbit, Math.floor(x * scale), Math.floor(y * scale));
    tip.hidden = row < 0 || !state.paint;
    if (row < 0) return -1;
    const value = state.values[state.step * state.paint.components.length + row];
    const number = Number.isNaN(value) ? "not measured" : `${Number(value.toPrecision(5)).toLocaleString("en-US", { maximumFractionDigits: 12 })} ${state.paint.units}`;
    tip.replaceChildren();
    make("b", "", tip, state.paint.components[row]);
    make("div", "", tip, state.paint.measured ? number : "");
    tip.style.left = `${Math.min(x + 14, canvas.clientWidth - tip.offsetWidth - 4)}px`;
    tip.style.top = `${Math.max(4, y - tip.offsetHeight - 10)}px`;
    return row;
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    [moved, pinch] = [0, 0];
    tip.hidden = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") hover(event);
      return;
    }
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    moved += Math.abs(dx) + Math.abs(dy);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    touched = true;
    if (pointers.size === 2) {
      const [a, b] = [...pointers.values()];
      const span = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (pinch) orbit.zoom(pinch / span);
      pinch = span;
      orbit.pan(dx / 2 / canvas.clientHeight, dy / 2 / canvas.clientHeight);
    } else if (event.buttons & 6 || event.shiftKey) {
      orbit.pan(dx / canvas.clientHeight, dy / canvas.clientHeight);
    } else {
      orbit.turn((dx / canvas.clientHeight) * 4, (dy / canvas.clientHeight) * 4);
    }
    redraw();
  });
  const release = (event) => {
    const was = pointers.delete(event.pointerId);
    if (was && event.type === "pointerup" && moved < 4 && event.button === 0) {
      const row = hover(event);
      state.row = row === state.row ? -1 : row;
      root.dataset.row = state.row;
      if (told.onSelect) told.onSelect(state.row);
      redraw();
    }
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    touched = true;
    orbit.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.003));
    redraw();
  }, { passive: false });
  canvas.addEventListener("dblclick", () => {
    touched = false;
    goHome();
    redraw();
  });
  canvas.addEventListener("keydown", (event) => {
    const turns = { ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (event.key in turns) orbit.turn(...turns[event.key]);
    else if (event.key === "ArrowLeft" && event.shiftKey) orbit.turn(-0.1, 0);
    else if (event.key === "ArrowRight" && event.shiftKey) orbit.turn(0.1, 0);
    else if (event.key === "ArrowLeft") stand(state.step - 1);
    else if (event.key === "ArrowRight") stand(state.step + 1);
    else if (event.key === " ") play(!state.playing && state.paint.steps > 1);
    else if (event.key === "+" || event.key === "-") orbit.zoom(event.key === "+" ? 0.9 : 1.1);
    else return;
    event.preventDefault();
    redraw();
  });
  const watcher = new ResizeObserver(redraw);
  watcher.observe(canvas);

  return {
    set(part, content) {
      if (part === "looks") {
        state.looks = content;
        gl.setLooks(content);
        const before = orbit;
        orbit = nmriOrbit(content.angle);
        Object.assign(orbit, { middle: before.middle, side: before.side, up: before.up, distance: before.distance, radius: before.radius, ball: before.ball });
      } else if (part === "view") {
        home = content;
        touched = false;
        goHome();
      } else if (part === "paint") {
        const fresh = state.paint === null || state.paint.scan !== content.scan;
        state.paint = content;
        state.values = nmriArray(content.values);
        gl.setFrames(content.frames);
        canvas.setAttribute("aria-label", content.title);
        if (fresh) play(false);
        Object.assign(state, { step: content.step, before: content.step, since: -Infinity });
        showHeader();
        showFoot();
        showStep();
      } else {
        gl.setShapes(part, content.shapes, content.textures);
        if (part === "cortex") orbit.measure(gl.clouds());
        if (part === "cortex" && !touched) goHome();
      }
      redraw();
    },
    setStep: (step) => state.paint && stand(step, false),
    setRow(row) {
      state.row = row;
      redraw();
    },
    close() {
      clearInterval(state.playing);
      cancelAnimationFrame(asked);
      watcher.disconnect();
      gl.close();
    },
  };
}
