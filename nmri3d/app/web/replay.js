/* The replay of a recorded session: the timeline, the way through it, and the camera and token of each moment.

   Convention. The server sends what was measured; what only the browser has (tab, token, camera, form, selection) is set
   here, and given back when the replay ends. Playing keeps the recorded pace, with pauses of at most two seconds.

   Left out: recording and the list of sessions (sessions.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, trigger } = nmri;
  const { computed, nextTick, onBeforeUnmount, onMounted, reactive, ref, watch } = window.Vue;

  const LONGEST_PAUSE = 2000; // ms
  const SHORTEST_PAUSE = 50; // ms; so that what happened at once is still seen

  const state = reactive({ on: false, playing: false });
  let before = null; // what was shown before the replay
  let ticket = 0; // of the newest moment

  const poseNow = () => nmri.painter && Object.fromEntries(Object.entries(nmri.painter.stand.pose).map(([name, xyz]) => [name, Array.from(xyz)]));

  /* Stand the camera where it stood, on the form that was seen. */
  async function look({ surface, layout, view, pose, touched }, animate) {
    const mine = ticket;
    const form = nmri.shape.isNodes(layout) ? layout : surface;
    if (!store.remote) nmri.view.touched = true; // the pose is the one wanted: nothing fits it to the frame
    if (form !== nmri.shape.wanted()) await nmri.setSurface(form);
    const { painter } = nmri;
    if (mine !== ticket) return;
    store.view = view;
    if (!painter || !pose) return;
    painter.showHemispheres(painter.stand.preset(view).hemispheres);
    painter.stand.turnTo(pose, animate);
    nmri.view.touched = touched;
  }

  /* Show a moment as it was seen. What was measured has come already. */
  function show(moment) {
    ticket += 1;
    store.playing = false;
    store.hover = null;
    store.mode = moment.mode;
    const scan = nmri.scan();
    const last = scan ? scan.steps - 1 : 0;
    store.step = moment.step === null ? last : Math.min(moment.step, last);
    store.metric.position = moment.position;
    if (moment.run) store.tool = moment.run;
    const { view } = moment;
    const table = nmri.geometry();
    if (!view || !table) return;
    nmri.setThreshold(view.threshold);
    nmri.setPalette(view.palette);
    if (view.mode === store.mode) nmri.setGlass(view.glass);
    nmri.select(view.selected ? table.rowOfId.get(view.selected) : -1);
    look({ ...view, pose: view.camera, touched: true }, true);
  }

  function begin() {
    state.on = true;
    if (before) return;
    const { mode, step, tool, threshold, palette, selected, surface, layout, view, glass, edge } = store;
    const looks = { surface, layout, view, pose: poseNow(), touched: nmri.view.touched };
    const { position } = store.metric;
    before = { mode, step, tool, threshold, palette, selected, glass, edge, position, looks, epoch: store.epoch };
  }

  function giveBack() {
    const was = before;
    before = null;
    Object.assign(state, { on: false, playing: false });
    if (!was) return;
    ticket += 1;
    if (store.mode !== was.mode) nmri.setMode(was.mode);
    store.step = was.step;
    store.tool = was.tool;
    store.glass = was.glass;
    nmri.setThreshold(was.threshold);
    nmri.setPalette(was.palette);
    store.metric.position = was.position;
    if (was.epoch !== store.epoch) return; // another brain: its camera and components are not those
    nmri.select(was.selected);
    store.edge = was.edge;
    look(was.looks, false);
  }

  /* End the replay; whether there was one. */
  function end() {
    if (!state.on) return false;
    trigger("replay_end");
    return true;
  }

  /* Date and time as they were where it was recorded. */
  const timeText = (at) => at.slice(0, 19).replace("T", " ");

  nmri.replay = { on: () => state.on, end, timeText };

  nmri.components["nmri-replay"] = {
    props: { replay: Object, moment: Object, error: String, loading: Boolean },
    template: `
      <div class="replay" ref="panel" tabindex="0" role="group" aria-label="Timeline" @keydown="onKey">
        <div class="replay-head">
          <h2>REPLAY <b :title="replay.title">{{ replay.title || "untitled" }}</b></h2>
          <div class="replay-controls" role="group" aria-label="Go through the session">
            <button type="button" data-testid="replay-back" aria-label="The event before" title="The event before (←)" :disabled="at <= 0" @click="go(at - 1)">◀</button>
            <button type="button" data-testid="replay-play" :aria-pressed="state.playing" :aria-label="state.playing ? 'Pause' : 'Play'" :title="state.playing ? 'Pause' : 'Play at the recorded pace; pauses last two seconds at most'" @click="play(!state.playing)">{{ state.playing ? "❚❚" : "▶" }}</button>
            <button type="button" data-testid="replay-next" aria-label="The next event" title="The next event (→)" :disabled="at >= last" @click="go(at + 1)">▶▏</button>
            <button type="button" data-testid="replay-end" title="End the replay; what was shown before comes back (Esc)" @click="end()">■ END</button>
          </div>
          <p class="count">{{ at + 1 }} / {{ last + 1 }}<template v-if="moment"> · {{ timeText(moment.at) }}</template></p>
        </div>
        <ol class="replay-events" ref="list" data-testid="replay-events">
          <li v-for="event in replay.events" :key="event.number">
            <button type="button" :class="{ on: event.number === at }" :aria-current="event.number === at ? 'step' : undefined" :tabindex="event.number === at ? 0 : -1"
              :data-testid="'replay-event-' + event.number" :title="event.words" @click="go(event.number)"><time>{{ event.at.slice(11, 19) }}</time> {{ event.words }}</button>
          </li>
        </ol>
        <div v-if="moment" class="replay-notes">
          <p v-if="!moment.fits && loading" class="hint" role="status">The recorded model is on its way …</p>
          <p v-else-if="!moment.fits" role="status" data-testid="replay-model">
            This was recorded on {{ moment.model.title || "another model" }}. Another model is loaded, so its scans are not shown.
            <button v-if="moment.model.id" type="button" class="small" data-testid="replay-load" @click="nmri.trigger('load_model', moment.model.id)">LOAD IT</button>
          </p>
          <p v-if="moment.note" class="note-text" role="status" data-testid="replay-note">{{ moment.note }}</p>
          <p v-if="otherLayout" class="hint">Recorded on the {{ otherLayout }} layout.</p>
          <p v-if="error || moment.problem" class="error" role="alert" data-testid="replay-error">{{ error || moment.problem }}</p>
        </div>
      </div>`,
    setup(props) {
      const [panel, list] = [ref(null), ref(null)];
      const wanted = ref(-1); // asked for and on its way
      const at = computed(() => (wanted.value >= 0 ? wanted.value : props.moment ? props.moment.number : 0));
      const last = computed(() => props.replay.events.length - 1);
      /* The recorded layout of the cortex, where it is not the one that is shown. */
      const otherLayout = computed(() => {
        const view = props.moment && props.moment.view;
        const table = nmri.geometry();
        return view && table && !nmri.shape.isNodes(view.layout) && view.layout !== table.layout ? view.layout : "";
      });
      let timer = 0;

      function go(number) {
        if (number < 0 || number > last.value) return;
        window.clearTimeout(timer);
        wanted.value = number;
        trigger("replay_event", number);
      }
      function play(playing) {
        state.playing = playing;
        window.clearTimeout(timer);
        if (playing && at.value >= last.value) go(0);
        else if (playing) schedule();
      }
      /* The next event, after as long as it took. */
      function schedule() {
        window.clearTimeout(timer);
        const [now, next] = [at.value, at.value + 1].map((number) => props.replay.events[number]);
        if (!next) state.playing = false;
        if (!state.playing) return;
        const pause = Date.parse(next.at) - Date.parse(now.at);
        timer = window.setTimeout(() => go(next.number), Math.min(LONGEST_PAUSE, Math.max(SHORTEST_PAUSE, pause || 0)));
      }
      function scroll() {
        const box = list.value;
        const line = box && box.children[at.value];
        if (line) box.scrollTop = line.offsetTop - (box.clientHeight - line.offsetHeight) / 2;
      }
      function onKey(event) {
        const act = {
          ArrowLeft: () => go(at.value - 1),
          ArrowRight: () => go(at.value + 1),
          Home: () => go(0),
          End: () => go(last.value),
          Escape: end,
        }[event.key];
        if (!act || event.altKey || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        event.stopPropagation();
        state.playing = false;
        act();
      }
      watch(
        () => props.moment,
        (moment) => {
          if (!moment) return;
          if (wanted.value === moment.number) wanted.value = -1;
          show(moment);
          nextTick(scroll);
          if (state.playing && wanted.value < 0) schedule();
        },
        { immediate: true, flush: "post" },
      );
      watch(
        () => props.replay.id,
        () => {
          wanted.value = -1;
          state.playing = false;
          window.clearTimeout(timer);
        },
      );
      onMounted(() => {
        begin();
        panel.value.focus();
      });
      onBeforeUnmount(() => {
        window.clearTimeout(timer);
        nextTick(giveBack); // after the scans of before are back
      });
      return { panel, list, at, last, otherLayout, state, go, play, onKey, end, timeText, nmri };
    },
  };
})();
