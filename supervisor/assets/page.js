// The status page. It asks /api/status every two seconds and draws what it
// says; `null` is shown as "unknown", with the reason where there is one.
// Text only ever enters the page as text, never as markup. Nothing is asked
// while nobody looks at the tab. A build is drawn by build.js,
// repositories of code by code.js, the form for a token by claim.js.
"use strict";

const PERIOD_MS = 2000;
const MAX_PERIOD_MS = 30000;
const TIMEOUT_MS = 8000;
/** What the sparklines show. */
const WINDOW_S = 600;
/** Sensors and signs of life older than this are called old. */
const STALE_S = 10;
// An engine without requests gives a sign of life every 15 s.
const SILENT_S = 40;
const SHOWN_INCIDENTS = 5;
const SHOWN_CHANGES = 3;
const API_KEYS = { open: "any, or none", keys: "yours", unclaimed: "none yet: claim this machine first",
  closed: "unknown: the server cannot read which are good" };

let snapshot = null;
let receivedAt = null;
let history = [];
let failures = 0;
let timer = null;
let asking = false;
let restart = { key: "", at: 0 };
const drawn = new Map();

// ---- elements ------------------------------------------------------------

/** An element; attributes by name, children as text or elements. */
function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** Puts children into the element with this id, but leaves it alone if it would
 *  look the same, so that a selection or an open list stays as it is. */
function show(id, ...children) {
  const place = document.getElementById(id);
  const fresh = h("div", {}, children);
  if (fresh.innerHTML === drawn.get(id)) return;
  drawn.set(id, fresh.innerHTML);
  place.replaceChildren(...fresh.childNodes);
}

function share(element, part) {
  element.style.width = `${Math.min(100, Math.max(0, part * 100)).toFixed(2)}%`;
  return element;
}

// ---- words ---------------------------------------------------------------

const known = (value) => value !== null && value !== undefined;
const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const count = (value, one, many) => `${number(value)} ${value === 1 ? one : many}`;
/** A number and its unit stay on one line. */
const unit = (amount, name) => `${amount}\u00a0${name}`;
const degrees = (value) => unit(number(value, 1), "°C");
const watts = (value) => unit(number(value, value < 100 ? 1 : 0), "W");
const percent = (part) => unit(number(part * 100), "%");
const unknown = (reason) => h("span", { class: "unknown" }, reason ? `unknown: ${reason}` : "unknown");
/** Texts from the server start in lower case. No full stop is added: many end in a command. */
const sentence = (text) => text && text.charAt(0).toUpperCase() + text.slice(1);
const or = (value, words, reason) => (known(value) ? words(value) : unknown(reason));

function bytes(value) {
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (value >= 1024 && power + 1 < names.length) {
    value /= 1024;
    power += 1;
  }
  return unit(number(value, power < 2 || value >= 100 ? 0 : 1), names[power]);
}

function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${count(Math.floor(s / 86400), "day", "days")} ${Math.floor((s % 86400) / 3600)} h`;
}

const clock = (date) => date.toLocaleTimeString([], { hour12: false });

function when(seconds) {
  const date = new Date(seconds * 1000);
  const day = date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock(date) : `${day}, ${clock(date)}`;
}

const pair = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
const fact = (name, value) => h("div", {}, pair(name, value));

// ---- sparklines ----------------------------------------------------------

/** The last ten minutes of one number. Unknown stretches stay empty. */
function sparkline(field, words) {
  const end = history.length ? history[history.length - 1].at : 0;
  const points = history.filter((point) => point.at > end - WINDOW_S);
  const values = points.map((point) => point[field]).filter(known);
  if (values.length < 2) return h("p", { class: "small soft" }, "nothing measured in the last 10 minutes");
  const low = Math.min(0, ...values);
  const high = Math.max(...values);
  const x = (at) => (100 * (1 - (end - at) / WINDOW_S)).toFixed(2);
  const y = (value) => (29 - (28 * (value - low)) / (high - low || 1)).toFixed(2);
  const drawn = runs(points, field).map((run) => {
    const line = run.map((point) => `${x(point.at)},${y(point[field])}`).join(" ");
    const ends = [x(run[0].at), x(run[run.length - 1].at)];
    return [
      svg("polygon", { class: "area", points: `${ends[0]},29 ${line} ${ends[1]},29` }),
      svg("polyline", { class: "line", points: run.length > 1 ? line : `${line} ${line}` }),
    ];
  });
  const range = `${words(Math.min(...values))} to ${words(high)}`;
  return h("div", {},
    svg("svg", { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img",
      "aria-label": `last ten minutes: ${range}` },
    svg("line", { class: "base", x1: 0, x2: 100, y1: 29.5, y2: 29.5 }), drawn),
    h("p", { class: "range" }, h("span", {}, "10 min"), h("span", {}, `highest ${words(high)}`)));
}

/** Stretches of neighbouring points that have the field. */
function runs(points, field) {
  const all = [[]];
  for (const point of points) {
    if (known(point[field])) all[all.length - 1].push(point);
    else if (all[all.length - 1].length) all.push([]);
  }
  return all.filter((run) => run.length);
}

/** The number now with a note, and its course. Without a number the note stands alone. */
function trend(name, value, note, course) {
  const now = known(value)
    ? h("p", { class: "big" }, value, note ? h("span", { class: "unit" }, note) : null)
    : h("p", { class: "big unknown" }, note);
  return h("div", { class: "trend" }, h("div", {}, h("p", { class: "small soft" }, name), now), course);
}

/** Adds this moment to the courses, as the server's own history has it. */
function remember(s) {
  if (history.length && history[history.length - 1].at >= s.at) return;
  const hottest = (s.machine?.zones ?? []).map((zone) => zone.celsius).filter(known);
  history.push({
    at: s.at,
    hottest_celsius: hottest.length ? Math.max(...hottest) : null,
    power_watts: s.machine?.power_watts ?? null,
    decode_tokens_per_s: s.rates.decode_tokens_per_s,
    prefill_tokens_per_s: s.rates.prefill_tokens_per_s,
    running: s.queue.running,
    waiting: s.queue.waiting,
  });
  while (history[0].at <= s.at - WINDOW_S) history.shift();
}

// ---- the engine ----------------------------------------------------------

const STATES = {
  absent: ["No engine yet", "bad"],
  starting: ["Starting the engine", "warn"],
  loading: ["Loading the model", "warn"],
  ready: ["Ready", "good"],
  restarting: ["Restarting the engine", "warn"],
  failed: ["The engine has failed", "bad"],
  draining: ["Shutting down", "warn"],
};

function drawState(s) {
  const state = s.engine.state;
  const [words, tone] = STATES[state.name] ?? [state.name, "warn"];
  const busy = state.name === "ready" && s.queue.running > 0;
  const name = busy ? `Answering ${count(s.queue.running, "request", "requests")}` : words;
  const headline = document.getElementById("state-name");
  const shown = lost() ? `Unknown; it was: ${name.toLowerCase()}` : name;
  headline.className = lost() ? "" : tone;
  if (headline.textContent !== shown) headline.textContent = shown;
  document.title = lost() ? "Stoker: no connection" : `Stoker: ${name.toLowerCase()}`;
  show("state-detail", stateDetail(s, state), heartbeatDetail(s));
}

function stateDetail(s, state) {
  const say = (...words) => h("p", {}, words);
  switch (state.name) {
    case "absent":
      return say(sentence(state.reason));
    case "starting":
      return say("The worker process has been started; it has not answered yet.");
    case "loading":
      return [h("progress", { max: 1, value: state.fraction, "aria-label": "share of the model that is loaded" }),
        say(`${percent(state.fraction)} loaded. Requests wait until it is ready.`)];
    case "ready":
      return say(s.queue.waiting
        ? `${count(s.queue.waiting, "request waits", "requests wait")} for a turn.`
        : s.queue.running ? "Nobody waits." : "Idle; the next request starts at once.");
    case "restarting":
      return [say(`${untilRestart(state, s.engine.restarts)} (attempt ${number(state.attempt)}) because ${state.reason}`),
        say("Requests wait; nothing needs to be done.")];
    case "failed":
      return [say(sentence(state.reason)), say("What you can do: ", sentence(s.incidents.find(isOfEngine)?.advice
        || "read the log (journalctl -u stoker), remove the cause, then start Stoker again"))];
    case "draining":
      return say(`Nothing new is taken; ${count(s.queue.running, "answer is", "answers are")} being finished.`);
    default:
      return [];
  }
}

const isOfEngine = (incident) => incident.kind.startsWith("engine");

/** Counts down between polls. The first time that was heard for an attempt counts. */
function untilRestart(state, restarts) {
  const key = `${restarts}/${state.attempt}`;
  if (restart.key !== key) restart = { key, at: Date.now() + state.in_ms };
  const left = Math.ceil((restart.at - Date.now()) / 1000);
  return left > 0 ? `Starts again in ${left} s` : "Starts again now";
}

function heartbeatDetail(s) {
  const age = s.engine.heartbeat_age_ms;
  if (s.engine.state.name !== "ready" || !known(age) || age < SILENT_S * 1000) return null;
  return h("p", { class: "warn-text" }, `No sign of life from the engine for ${duration(age / 1000)}.`);
}

function drawEngine(s) {
  const { ready, heartbeat, model, pid, restarts } = s.engine;
  const facts = ready?.model;
  const kind = facts && [facts.architecture, facts.parameters ? `${parameters(facts.parameters)} parameters` : "",
    facts.quantisation].filter(Boolean).join(", ");
  show("engine",
    fact("Model", or(model, String)),
    kind ? fact("Kind", kind) : null,
    fact("Window", or(ready?.context, (tokens) => `${number(tokens)} tokens`)),
    fact("Backend", or(ready?.backend, String)),
    fact("Computes on", or(ready?.device || null, String)),
    ready ? fact("Answers at once", `up to ${number(Math.min(ready.max_sequences, s.limits.max_sequences))}`) : null,
    ready ? fact("Loaded in", `${number(ready.load_ms / 1000, 1)} s`) : null,
    heartbeat?.step_us ? fact("Decode step", `${milliseconds(heartbeat.step_us)}, worst ${milliseconds(Math.max(heartbeat.step_us, heartbeat.worst_step_us))}`) : null,
    s.limits.pace_us ? fact("Slowed down to", `one step each ${milliseconds(s.limits.pace_us)}`) : null,
    fact("Restarts", restarts ? h("span", { class: "warn-text" }, number(restarts)) : "none"),
    known(pid) ? fact("Process", String(pid)) : null);
}

const milliseconds = (us) => unit(number(us / 1000, us < 100000 ? 1 : 0), "ms");
const parameters = (n) => (n >= 1e9 ? `${number(n / 1e9, 1)} billion` : `${number(n / 1e6)} million`);

// ---- what limits ---------------------------------------------------------

const LIMITING = {
  nothing: ["Nothing", "good-text"],
  ungoverned: ["Nothing", "good-text"],
  heat: ["Heat", "warn-text"],
  throttled: ["The board's own throttling", "bad-text"],
  blind: ["No temperature to go by", "bad-text"],
  budget: ["The power budget", "warn-text"],
  profile: ["The profile", ""],
  over_current: ["Over-current", "warn-text"],
  memory: ["Memory", "bad-text"],
};

function drawLimits(s) {
  const governor = s.governor;
  if (!governor) return show("limits", h("p", { class: "soft" }, "No sensor was read yet."));
  const [name, tone] = LIMITING[governor.limiting] ?? [governor.limiting, "warn-text"];
  const since = governor.limiting === "nothing" || governor.limiting === "ungoverned" ? null
    : h("span", { class: "soft" }, ` since ${when(governor.since)}`);
  const list = (changes) => h("ol", { class: "incidents" }, changes.map(changeRow));
  const [recent, older] = [governor.changes.slice(0, SHOWN_CHANGES), governor.changes.slice(SHOWN_CHANGES)];
  const open = document.querySelector("#limits details")?.open ? "" : null;
  show("limits",
    h("p", { class: "limiting" }, h("strong", { class: tone }, name), since),
    h("p", {}, `${sentence(governor.reason)}.`),
    h("dl", { class: "facts" },
      fact("Held back", governor.notch ? `${number(governor.notch)} of ${number(governor.notches)} notches` : "not at all"),
      fact("Decoded at once", `up to ${number(s.limits.max_sequences)}`),
      fact("Prompt tokens between steps", `up to ${number(s.limits.max_batch_tokens)}`),
      fact("Pause", s.limits.pace_us ? `one step each ${milliseconds(s.limits.pace_us)}` : "none"),
      fact("GPU clock", capWords(governor)),
      fact("Profile", governor.profile)),
    recent.length ? [h("h3", { class: "small soft" }, "Last changes"), list(recent)] : null,
    older.length ? h("details", { open }, h("summary", {}, `${older.length} older`), list(older)) : null);
}

function capWords(governor) {
  if (known(governor.gpu_cap_hertz)) return `at most ${megahertz(governor.gpu_cap_hertz)}`;
  if (governor.gpu_clock_may_be_capped) return "not capped";
  return governor.gpu_clock_may_be_capped === false ? "may not be capped by Stoker" : "left alone";
}

const megahertz = (hertz) => unit(number(hertz / 1e6), "MHz");

function changeRow(change) {
  const up = change.to_notch < change.from_notch;
  const parts = [known(change.gpu_cap_hertz) ? `GPU at most ${megahertz(change.gpu_cap_hertz)}` : null,
    change.limits.pace_us ? `one step each ${milliseconds(change.limits.pace_us)}` : null].filter(Boolean);
  const to = change.to_notch ? `notch ${number(change.to_notch)}` : "full power";
  return h("li", { class: "incident" },
    h("p", {}, h("time", { datetime: new Date(change.at * 1000).toISOString() }, when(change.at))),
    h("p", {}, `${up ? "Up" : "Down"} to ${to}${parts.length ? ` (${parts.join(", ")})` : ""}: ${change.reason}.`));
}

// ---- load ----------------------------------------------------------------

function drawSpeed(s) {
  const rate = (value) => `${number(value, value < 100 ? 1 : 0)}`;
  const row = (name, value, field) => trend(name, known(value) ? rate(value) : null,
    known(value) ? "tokens/s" : s.queue.running ? "unknown" : "idle", sparkline(field, rate));
  show("speed",
    row("Decode (answers)", s.rates.decode_tokens_per_s, "decode_tokens_per_s"),
    row("Prefill (prompts)", s.rates.prefill_tokens_per_s, "prefill_tokens_per_s"));
}

function drawQueue(s) {
  const { capacity, waiting, running, clients } = s.queue;
  const full = capacity > 0 && waiting >= capacity;
  const rows = clients.map((client) => h("tr", {}, h("th", { scope: "row" }, client.client),
    h("td", { class: "number" }, number(client.running)), h("td", { class: "number" }, number(client.waiting))));
  show("queue",
    trend("Running", number(running), "", sparkline("running", number)),
    trend("Waiting", number(waiting), `of ${number(capacity)} places`, sparkline("waiting", number)),
    full ? h("p", { class: "warn-text" }, "The queue is full; further requests are refused for now.") : null,
    rows.length
      ? h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Client"),
        h("th", { scope: "col", class: "number" }, "running"), h("th", { scope: "col", class: "number" }, "waiting"))),
      h("tbody", {}, rows))
      : h("p", { class: "soft" }, "No client has a request now."));
}

function drawTotals(s) {
  const t = s.totals;
  const cached = or(t.cached_tokens, (tokens) =>
    t.prompt_tokens ? `${number(tokens)} (${percent(tokens / t.prompt_tokens)})` : number(tokens));
  show("totals", fact("Requests", number(t.requests)), fact("Answered", number(t.answered)),
    fact("Failed", t.failed ? h("span", { class: "bad-text" }, number(t.failed)) : "0"),
    fact("Cancelled", number(t.cancelled)),
    fact("Refused", t.refused ? h("span", { class: "warn-text" }, number(t.refused)) : "0"),
    fact("Prompt tokens", number(t.prompt_tokens)), fact("Of these cached", cached),
    fact("Answer tokens", number(t.completion_tokens)));
}

// ---- the machine ---------------------------------------------------------

const noSample = () => h("p", {}, unknown("the machine has not been read yet"));

function drawTemperature(s) {
  const zones = s.machine?.zones;
  if (!zones) return show("temperature", noSample());
  const readings = zones.map((zone) => zone.celsius).filter(known);
  const hottest = readings.length ? number(Math.max(...readings), 1) : null;
  if (!zones.length) return show("temperature", h("p", {}, unknown("this machine shows no temperature sensor")));
  const [present, absent] = [zones.filter((zone) => known(zone.celsius)), zones.filter((zone) => !known(zone.celsius))];
  const shared = present.length > 1 && new Set(present.map(limitWords)).size === 1;
  show("temperature", staleness(s),
    trend("Hottest", hottest, hottest ? "°C" : "unknown", sparkline("hottest_celsius", degrees)),
    h("ul", { class: "zones" }, present.map((zone) => zoneRow(zone, !shared)), absentRows(absent)),
    shared ? h("p", { class: "small soft" }, `Each zone ${limitWords(present[0])}.`) : null);
}

function zoneRow(zone, withLimits) {
  const limit = zone.limit_celsius ?? zone.critical_celsius;
  const scale = Math.max(110, (zone.critical_celsius ?? limit ?? 0) + 5);
  const [tone, judgement] = judge(zone.celsius, limit);
  const mark = (at, kind) => {
    if (!known(at)) return null;
    const element = h("i", { class: `mark ${kind}` });
    element.style.left = `${((100 * at) / scale).toFixed(2)}%`;
    return element;
  };
  return h("li", { class: "zone" },
    h("p", { class: "words" }, h("span", {}, zone.name), h("span", {}, h("strong", {}, degrees(zone.celsius)), " ",
      h("span", { class: tone ? `${tone}-text` : "soft" }, judgement))),
    h("div", { class: "bar", "aria-hidden": "true" }, share(h("i", { class: `fill ${tone}` }), zone.celsius / scale),
      mark(zone.limit_celsius, ""), mark(zone.critical_celsius, "off")),
    withLimits ? h("p", { class: "small soft" }, limitWords(zone)) : null);
}

function limitWords(zone) {
  const words = [known(zone.limit_celsius) ? `slows down at ${degrees(zone.limit_celsius)}` : null,
    known(zone.critical_celsius) ? `switches off at ${degrees(zone.critical_celsius)}` : null].filter(Boolean);
  return words.join(", ") || "has no known limit";
}

/** Zones without a reading, one line for each reason. */
function absentRows(zones) {
  const reasons = new Set(zones.map((zone) => zone.absent));
  return [...reasons].map((reason) => {
    const names = zones.filter((zone) => zone.absent === reason).map((zone) => zone.name);
    return h("li", { class: "zone" }, `${names.join(", ")} `, unknown(reason));
  });
}

function judge(celsius, limit) {
  if (!known(limit)) return ["", ""];
  const room = limit - celsius;
  if (room <= 0) return ["bad", "over its limit"];
  if (room < 10) return ["warn", `${number(room, 1)}° below its limit`];
  return ["good", `${number(room)}° below its limit`];
}

function staleness(s) {
  const age = s.at - s.machine.at;
  return age > STALE_S ? h("p", { class: "warn-text" }, `The sensors were last read ${duration(age)} ago.`) : null;
}

function drawPower(s) {
  const machine = s.machine;
  if (!machine) return show("power", noSample());
  const rows = [
    ...machine.rails.map((rail) => pair(rail.label, or(rail.watts, watts, rail.absent))),
    ...machine.gpus.map((gpu) => pair(gpu.name, or(gpu.watts, watts))),
    ...machine.fans.map((fan) => pair(`Fan ${fan.name}`, fanWords(fan))),
  ];
  const total = machine.power_watts;
  show("power",
    trend("Whole machine", known(total) ? number(total, 1) : null, known(total) ? "W" : "unknown",
      known(total) ? sparkline("power_watts", watts) : h("p", { class: "small soft" }, machine.power_absent)),
    rows.length ? h("dl", { class: "pairs" }, rows) : null,
    machine.fans.length ? null : h("p", { class: "small soft" }, "No fan reports its speed."));
}

function fanWords(fan) {
  const words = [known(fan.rpm) ? `${number(fan.rpm)} rpm` : null,
    known(fan.drive_share) ? `driven at ${percent(fan.drive_share)}` : null].filter(Boolean);
  return words.length ? words.join(", ") : unknown(fan.absent);
}

function drawProcessor(s) {
  const cpu = s.machine?.cpu;
  if (!cpu) return show("processor", noSample());
  const [one, five, fifteen] = cpu.load ?? [];
  show("processor", h("dl", { class: "pairs" },
    pair("Busy", or(cpu.busy_share, percent, cpu.absent)),
    pair("Cores", or(cpu.cores, number)),
    pair("Engine's threads", or(s.engine.heartbeat?.threads, number)),
    pair("Load (1, 5, 15 min)", cpu.load ? [one, five, fifteen].map((load) => number(load, 2)).join(" · ") : unknown()),
    s.machine.gpus.map((gpu) => pair(`${gpu.name} busy`, or(gpu.busy_share, percent)))));
}

// ---- memory --------------------------------------------------------------

function drawMemory(s) {
  const memory = s.machine?.memory;
  const kv = s.engine.heartbeat?.kv;
  const device = s.engine.heartbeat?.device_memory;
  const separate = device && !memory?.unified;
  const main = memory ? mainMemory(s, memory, separate ? 0 : kv?.bytes ?? 0, !device)
    : s.machine ? h("p", {}, "Main memory ", unknown(s.machine.memory_absent)) : noSample();
  show("memory", main, gpuMemories(s.machine?.gpus ?? [], separate ? device : null, kv?.bytes ?? 0),
    kv && kv.capacity_tokens ? keyValues(kv) : null,
    h("dl", { class: "pairs" },
      pair("Engine worker resident", or(s.engine.resident_bytes, bytes)),
      pair("Supervisor resident", or(s.supervisor_resident_bytes, bytes)),
      memory?.swap_total_bytes ? pair("Swap used", `${bytes(memory.swap_total_bytes - memory.swap_free_bytes)} of ${bytes(memory.swap_total_bytes)}`) : null,
      memory?.zram_bytes ? pair("Compressed swap takes", bytes(memory.zram_bytes)) : null));
}

/** Every GPU the driver shows. `device` is the one that the engine computes on,
 *  as the worker sees it: the GPU of the same size, or else a bar of its own. */
function gpuMemories(gpus, device, kv) {
  const measured = gpus.filter((gpu) => known(gpu.memory_total_bytes) && known(gpu.memory_used_bytes));
  const own = device && measured.find((gpu) => Math.abs(gpu.memory_total_bytes / device.total_bytes - 1) < 0.03);
  return [
    device && !own ? deviceMemory("Engine's device memory", device.total_bytes, device.total_bytes - device.free_bytes, kv) : null,
    measured.map((gpu) => deviceMemory(gpu.name, gpu.memory_total_bytes, gpu.memory_used_bytes, gpu === own ? kv : 0)),
    gpus.filter((gpu) => !measured.includes(gpu)).map((gpu) => h("p", {}, `${gpu.name}: memory `, unknown())),
  ];
}

/** A bar of parts with a legend: `[class, words, amount]`. */
function stack(title, right, total, parts, words) {
  const shown = parts.filter(([, , amount]) => amount > 0);
  return h("div", { class: "stack" },
    h("p", { class: "words" }, h("strong", {}, title), " ", right),
    h("div", { class: "bar", "aria-hidden": "true" },
      shown.filter(([kind]) => kind !== "free").map(([kind, , amount]) => share(h("i", { class: kind }), amount / total))),
    h("ul", { class: "legend" }, shown.map(([kind, name, amount]) =>
      h("li", { class: kind }, `${name} ${words(amount)}`, kind === "kv" ? ` (${percent(amount / total)})` : null))));
}

/** `inWorker`: the KV cache is part of the worker's resident memory. */
function mainMemory(s, memory, kv, inWorker) {
  const worker = Math.max(0, (s.engine.resident_bytes ?? 0) - (inWorker ? kv : 0));
  const own = s.supervisor_resident_bytes ?? 0;
  const other = Math.max(0, memory.used_bytes - kv - worker - own);
  const rest = Math.max(0, memory.total_bytes - kv - worker - own - other);
  const mapped = kv + worker + own > memory.used_bytes;
  return [stack(memory.unified ? "Unified memory" : "Main memory",
    `${bytes(memory.available_bytes)} of ${bytes(memory.total_bytes)} available`, memory.total_bytes, [
      ["kv", "KV cache", kv], ["worker", inWorker && kv ? "rest of the worker" : "worker", worker], ["own", "supervisor", own],
      ["other", "everything else", other], ["free", "free or reclaimable", rest]], bytes),
  mapped ? h("p", { class: "small soft" },
    "Model files that are mapped belong to the worker here; the kernel counts them as available.") : null];
}

function deviceMemory(name, total, used, kv) {
  const part = Math.min(kv, used);
  return stack(name, `${bytes(total - used)} of ${bytes(total)} free`, total, [
    ["kv", "KV cache", part], ["other", part ? "other use" : "used", used - part], ["free", "free", total - used]], bytes);
}

function keyValues(kv) {
  const tokens = (value) => `${number(value)}`;
  const rest = kv.capacity_tokens - kv.active_tokens;
  const parts = known(kv.cached_tokens)
    ? [["kept", "kept as prefixes", kv.cached_tokens], ["free", "free", rest - kv.cached_tokens]]
    : [["free", "free or kept as prefixes", rest]];
  return stack("KV cache", `${bytes(kv.bytes)}, ${number(kv.capacity_tokens)} tokens`, kv.capacity_tokens, [
    ["kv", "in use", kv.active_tokens], ...parts], tokens);
}

// ---- what went wrong -----------------------------------------------------

function drawProblems(s) {
  show("problems", s.problems.map((problem) => h("div", { class: "notice bad" },
    h("strong", {}, `Problem: ${sentence(problem.problem)}`), h("span", {}, `What you can do: ${sentence(problem.advice)}`))));
}

function drawIncidents(s) {
  if (!s.incidents.length) return show("incidents", h("p", { class: "soft" }, "None."));
  const list = (incidents) => h("ol", { class: "incidents" }, incidents.map(incidentRow));
  const [recent, older] = [s.incidents.slice(0, SHOWN_INCIDENTS), s.incidents.slice(SHOWN_INCIDENTS)];
  const open = document.querySelector("#incidents details")?.open ? "" : null;
  show("incidents", list(recent),
    older.length ? h("details", { open }, h("summary", {}, `${older.length} older`), list(older)) : null);
}

function incidentRow(incident) {
  const time = h("time", { datetime: new Date(incident.at * 1000).toISOString() }, when(incident.at));
  return h("li", { class: "incident" },
    h("p", {}, time, h("br"), h("span", { class: "small soft" }, incident.kind.replaceAll("_", " "))),
    h("dl", {}, pair("Problem", sentence(incident.problem)),
      incident.done ? pair("What was done", sentence(incident.done)) : null,
      incident.advice ? pair("What you can do", sentence(incident.advice)) : null));
}

// ---- how to use it -------------------------------------------------------

function drawConnect(s) {
  const model = s.engine.model ?? "default";
  show("connect", h("dl", { class: "facts" },
    fact("OpenAI base URL", h("code", {}, `${location.origin}/v1`)),
    fact("Ollama address", h("code", {}, location.origin)),
    fact("Model", h("code", {}, model)), fact("API key", API_KEYS[s.access])));
  const body = JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "Write a haiku about fans." }] });
  const line = `curl -N ${location.origin}/v1/chat/completions -H 'Content-Type: application/json'${s.access === "open" ? "" : " -H 'Authorization: Bearer KEY'"} -d '${body.replaceAll("'", "'\\''")}'`;
  show("try", h("div", { class: "command" }, h("span", {}, "Try it from a terminal:"),
    h("button", { type: "button", id: "copy" }, "Copy")), h("pre", { id: "curl", tabindex: 0 }, line));
}

/** The clipboard is closed to pages without TLS, so the line is selected as well. */
async function copyCommand(button) {
  const range = document.createRange();
  range.selectNodeContents(document.getElementById("curl"));
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  let done = false;
  try {
    await navigator.clipboard.writeText(range.toString());
    done = true;
  } catch {
    done = document.execCommand("copy");
  }
  button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
  setTimeout(() => { button.textContent = "Copy"; }, 3000);
}

// ---- asking --------------------------------------------------------------

async function get(path) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new Error(`${path}: status ${response.status}`);
  return response.json();
}

async function poll() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  const fresh = await ask().catch(() => null);
  asking = false;
  failures = fresh ? 0 : failures + 1;
  if (fresh) {
    // This page belongs to the version that served it.
    if (snapshot && snapshot.version !== fresh.version) location.reload();
    [snapshot, receivedAt] = [fresh, Date.now()];
    remember(fresh);
  }
  const wait = Math.min(MAX_PERIOD_MS, PERIOD_MS * 2 ** Math.max(0, failures - 1));
  if (!document.hidden) timer = setTimeout(poll, wait);
  if (snapshot) draw();
  drawLink(wait);
}

/** The status; after a gap the courses are read anew, and with them what was missed. */
async function ask() {
  const fresh = await get("/api/status");
  const gap = failures > 0 || !receivedAt || Date.now() - receivedAt > 5 * PERIOD_MS;
  if (gap) history = await get("/api/history");
  return fresh;
}

function draw() {
  const s = snapshot;
  for (const part of [drawProblems, drawClaim, drawBuild, drawState, drawEngine, drawLimits, drawSpeed, drawQueue, drawTotals, drawTemperature,
    drawCode, drawChats, drawPower, drawMemory, drawProcessor, drawIncidents, drawConnect]) part(s);
  const board = s.machine?.board;
  show("board", [board?.model, board?.l4t ? `Jetson Linux ${board.l4t}` : null, location.host].filter(Boolean).join(" · "));
  show("about", `Stoker ${s.version}, running for ${duration(s.uptime_s)}. ${s.update ? `${sentence(s.update.text)}. ` : ""}All times are this browser's. The same facts for programs: `,
    h("a", { href: "/api/status" }, "/api/status"), " and ", h("a", { href: "/metrics" }, "/metrics"), ".");
}

/** One late answer is not a lost connection yet. */
const lost = () => failures > 1 || (failures > 0 && !snapshot);

function drawLink(wait) {
  const link = document.getElementById("link");
  const last = receivedAt ? `last data ${clock(new Date(receivedAt))}` : "no data yet";
  link.classList.toggle("lost", lost());
  // Only a lost connection is worth interrupting a listener.
  link.setAttribute("aria-live", lost() ? "polite" : "off");
  show("link", lost() ? `Connection lost, ${last}; trying again each ${wait / 1000} s` : `live, ${last}`);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
  else clearTimeout(timer);
});
window.addEventListener("online", poll);
document.addEventListener("click", (event) => {
  if (event.target.id === "copy") copyCommand(event.target);
});
// The countdown to a restart moves between polls.
setInterval(() => {
  if (snapshot?.engine.state.name === "restarting" && !document.hidden && !failures) drawState(snapshot);
}, 1000);
poll();
