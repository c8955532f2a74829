/* Recording and the list of sessions: REC with the number of events, notes, where the brain has come to rest; rename,
   delete, export, import, open.

   Convention. While nothing is recorded nothing is sent, and no clock runs. A view is told when it has rested for a second,
   or when the recording ends, and differs from the one told last; the server writes it down. With remote rendering the
   server knows the camera.

   Left out: the replay (replay.js). */

(function () {
  "use strict";
  const nmri = window.nmri3d;
  const { store, trigger } = nmri;
  const { nextTick, onBeforeUnmount, reactive, ref, watch } = window.Vue;

  const REST = 1000; // ms that a view stays the same before it is recorded
  const LOOK = 200; // ms between two looks at it
  const FILE_LIMIT = 64 * 2 ** 20; // bytes; parts/sessions.py has the same

  // -- where the brain has come to rest ----------------------------------------------------------------------------

  let turns = 0; // how often the person may have turned a picture that the server draws

  function cameraNow() {
    if (store.remote) return null;
    const vectors = nmri.painter.camera.get("position", "focalPoint", "viewUp");
    const pose = Object.fromEntries(Object.entries(vectors).map(([name, xyz]) => [name, Array.from(xyz)]));
    return { ...pose, viewAngle: nmri.painter.camera.getViewAngle() };
  }

  /* What is seen and how; null while there is nothing that could rest. */
  function viewNow() {
    const table = nmri.geometry();
    const drawn = store.remote || (nmri.painter && !nmri.painter.moving);
    if (!table || !store.painted || !drawn || nmri.replay.on()) return null;
    return {
      mode: store.mode,
      step: nmri.currentStep(),
      painting: nmri.painted() ? store.painting : "",
      selected: store.selected < 0 ? "" : table.ids[store.selected],
      surface: store.surface,
      layout: store.layout,
      view: store.view,
      threshold: store.threshold,
      palette: store.palette,
      glass: nmri.isGlass(),
      camera: cameraNow(),
    };
  }

  let timer = 0;
  let seen = ""; // what was seen at the last look, and since when
  let since = 0;
  let told = "";

  /* Tell the view if it has rested for `rest` ms and is another one than was told last. */
  function look(rest) {
    const view = viewNow();
    const key = view ? `${turns} ${JSON.stringify(view)}` : "";
    if (key !== seen) {
      seen = key;
      since = performance.now();
    }
    if (!view || key === told || performance.now() - since < rest) return;
    told = key;
    trigger("record_view", view);
  }

  function watchView(on) {
    window.clearInterval(timer);
    seen = told = "";
    if (on) timer = window.setInterval(() => look(REST), LOOK);
  }

  /* REC. A recording ends with what is seen at its end. */
  function record(on) {
    if (!on) look(0);
    trigger("record", on);
  }

  const turned = (event) => {
    if (event.target instanceof Element && event.target.closest(".brain-view")) turns += 1;
  };
  for (const name of ["pointerup", "wheel"]) window.addEventListener(name, turned, { capture: true, passive: true });

  // -- REC and notes ----------------------------------------------------------------------------------------------

  nmri.components["nmri-record"] = {
    props: { recording: Object, error: String },
    template: `
      <button type="button" class="record-button" :class="{ on: recording.on }" data-testid="record-button" :aria-pressed="recording.on"
        :title="recording.on ? 'End the recording' : 'Record what is scanned, edited, looked at and noted, to replay it later'"
        :aria-label="recording.on ? 'Recording, ' + recording.events + ' events; end it' : 'Record this session'"
        @click="record(!recording.on)"><i aria-hidden="true"></i>REC<b v-if="recording.on" data-testid="record-count">{{ recording.events }}</b></button>
      <p v-if="error" class="error floating" role="alert" data-testid="record-error">
        {{ error }} The recording has ended; your work goes on.
        <button type="button" class="small" aria-label="Dismiss" @click="nmri.trigger('dismiss', 'record')">✕</button>
      </p>`,
    setup(props) {
      watch(() => props.recording.id, watchView, { immediate: true });
      onBeforeUnmount(() => watchView(false));
      return { record, nmri };
    },
  };

  nmri.components["nmri-note"] = {
    template: `
      <form class="note-form" @submit.prevent="send">
        <input v-model="text" data-testid="note-input" aria-label="Note for the recording" placeholder="a note, then Enter" maxlength="2000" autocomplete="off">
      </form>`,
    setup() {
      const text = ref("");
      function send() {
        if (text.value.trim()) trigger("record_note", text.value);
        text.value = "";
      }
      return { text, send };
    },
  };

  // -- the list ---------------------------------------------------------------------------------------------------

  function sizeText(bytes) {
    return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
  }

  const state = reactive({ open: false, renaming: "", deleting: "", title: "", problem: "", busy: false });

  /* Close the list; whether it was open. */
  nmri.closeSessions = () => {
    const { open } = state;
    if (open) trigger("dismiss", "sessions");
    Object.assign(state, { open: false, renaming: "", deleting: "", problem: "" });
    return open;
  };

  nmri.components["nmri-sessions"] = {
    props: { sessions: Array, recording: String, error: String },
    template: `
      <button type="button" class="small" ref="button" data-testid="sessions-button" title="Recorded sessions: replay, rename, export, import" aria-haspopup="dialog"
        :aria-expanded="state.open" @click="toggle(!state.open)">SESSIONS</button>
      <div v-if="state.open" ref="panel" class="sessions-panel" role="dialog" aria-label="Recorded sessions" tabindex="-1" data-testid="sessions-panel" @keydown.esc.stop="toggle(false)">
        <h2>Recorded sessions <button type="button" class="small" aria-label="Close" @click="toggle(false)">✕</button></h2>
        <p v-if="error || state.problem" class="error" role="alert" data-testid="sessions-error">{{ error || state.problem }}</p>
        <p v-if="!sessions" class="hint">Reading the list …</p>
        <p v-else-if="!sessions.length" class="hint">Nothing is recorded yet. REC begins a session.</p>
        <ol v-else>
          <li v-for="one in sessions" :key="one.id" :data-testid="'session-' + one.id">
            <form v-if="state.renaming === one.id" class="renaming" @submit.prevent="rename(one)">
              <input v-model="state.title" data-testid="session-title" aria-label="Title" maxlength="200" autofocus @keydown.esc.stop="state.renaming = ''">
              <button type="submit" class="small" :disabled="!state.title.trim()">SAVE</button>
              <button type="button" class="small" @click="state.renaming = ''">CANCEL</button>
            </form>
            <p v-else class="session-title">{{ one.title || "untitled" }} <i v-if="one.id === recording">recording</i></p>
            <p class="session-facts">{{ nmri.replay.timeText(one.created) }} · {{ one.events }} events · {{ sizeText(one.bytes) }}</p>
            <p class="session-facts" :title="one.model">{{ one.model || "no model" }}</p>
            <div v-if="state.deleting === one.id" class="session-actions" role="alertdialog" aria-label="Delete this session?">
              <span>Delete it for good?</span>
              <button type="button" class="small" data-testid="session-delete-yes" @click="remove(one)">DELETE</button>
              <button type="button" class="small" data-testid="session-delete-no" @click="state.deleting = ''">KEEP</button>
            </div>
            <div v-else class="session-actions">
              <button type="button" class="small" data-testid="session-replay" :disabled="!one.events" @click="open(one)">▶ REPLAY</button>
              <button type="button" class="small" data-testid="session-rename" @click="beginRenaming(one)">RENAME</button>
              <button type="button" class="small" data-testid="session-export" :disabled="state.busy" @click="save(one)">EXPORT</button>
              <button type="button" class="small" data-testid="session-delete" :disabled="one.id === recording" @click="state.deleting = one.id">DELETE</button>
            </div>
          </li>
        </ol>
        <label class="session-import">IMPORT A FILE
          <input type="file" accept=".zip,application/zip" data-testid="session-import" :disabled="state.busy" @change="take">
        </label>
      </div>`,
    setup() {
      const [panel, button] = [ref(null), ref(null)];

      function toggle(open) {
        if (!open) {
          nmri.closeSessions();
          button.value.focus();
          return;
        }
        state.open = true;
        trigger("sessions");
        nextTick(() => panel.value && panel.value.focus());
      }
      function beginRenaming(one) {
        Object.assign(state, { renaming: one.id, deleting: "", title: one.title });
      }
      function rename(one) {
        state.renaming = "";
        trigger("session_rename", one.id, state.title);
      }
      function remove(one) {
        state.deleting = "";
        trigger("session_delete", one.id);
        panel.value.focus(); // the button that had it goes
      }
      /* Something that takes its time; where it fails, the connection broke. */
      async function busily(work) {
        Object.assign(state, { busy: true, problem: "" });
        try {
          await work();
        } catch (broken) {
          state.problem = `It did not work (${broken.message || "the connection broke"}); try again.`;
        } finally {
          state.busy = false;
        }
      }
      const save = (one) =>
        busily(async () => {
          const content = await trigger("session_export", one.id);
          if (content) nmri.saveFile(content, `nmri3d-session-${one.id}.zip`, "application/zip"); // else the server says why
        });
      const open = (one) =>
        busily(async () => {
          if (await trigger("replay", one.id)) nmri.closeSessions(); // else the server says why
        });
      const take = (event) =>
        busily(async () => {
          const [file] = event.target.files;
          if (!file) return;
          if (file.size > FILE_LIMIT) {
            state.problem = `The file has more than ${FILE_LIMIT / 2 ** 20} MB; import it with: nmri3d sessions import`;
            return;
          }
          await trigger("session_import", await file.arrayBuffer());
          event.target.value = "";
        });
      return { state, panel, button, toggle, beginRenaming, rename, remove, open, save, take, sizeText, nmri };
    },
  };
})();
