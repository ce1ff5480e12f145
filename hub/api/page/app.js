// The page: lists that follow the hub's stream, details on click. Every value goes into the page as text.

const API = "/api/v1";
const KINDS = {
  SUCCESS: "good", running: "good", WARNING: "wait", PAUSED: "wait", QUEUED: "wait", RETRYING: "wait", CREATED: "wait",
  starting: "wait", FAILED: "bad", KILLED: "bad", CANCELLED: "bad", failing: "bad", broken: "bad", RUNNING: "busy", KILLING: "busy",
  owed: "wait", delivered: "good", dead: "bad", dropped: "wait",
};
const PAGE = 50;

const by = (id) => document.getElementById(id);
const view = { name: "executions", items: [], cursor: null, ticket: 0 };
let shown = null;
let refreshing = null;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const state = (text) => element("span", { class: "state", "data-kind": KINDS[text] ?? "" }, text);

// only the time of what is of today: the list has to stay readable beside the details
function spelled(text) {
  const at = new Date(text);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  if (at.toDateString() === new Date().toDateString()) return time;
  return `${at.toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" })}, ${time}`;
}

function moment(text) {
  return text ? element("time", { datetime: text, title: new Date(text).toISOString() }, spelled(text)) : "";
}

function length(from, to) {
  if (!from || !to) return "";
  const milliseconds = new Date(to) - new Date(from);
  if (milliseconds < 1000) return `${milliseconds} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  const minutes = Math.round(milliseconds / 60_000);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// a state, and until when what waits does so
function stands(one) {
  return one.wakeAt && !one.endedAt ? element("span", {}, state(one.state), " until ", moment(one.wakeAt)) : state(one.state);
}

const link = (text, onclick, label) => element("button", { type: "button", class: "link", onclick, "aria-label": label }, text);
const short = (id) => (/^[0-9a-f]{8}-/.test(id) ? `…${id.slice(-12)}` : id);

async function call(path, options) {
  const answer = await fetch(API + path, options);
  // the session has ended: the page without one is the form to sign in
  if (answer.status === 401) location.reload();
  const type = answer.headers.get("Content-Type") ?? "";
  const body = type.startsWith("application/json") ? await answer.json() : await answer.text();
  if (!answer.ok) throw new Error(body.message ?? `the hub answered ${answer.status}`);
  return body;
}

// lists

const VIEWS = {
  executions: {
    title: "Executions",
    empty: "Nothing has run yet. Call a webhook under Triggers, or: hub run NAMESPACE/FLOW",
    filters: ["namespace", "flow", "state"],
    columns: ["Execution", "Flow", "State", "Trigger", "Created", "Took"],
    path: (filter, cursor) => `/executions?${query({ ...filter, limit: PAGE, cursor })}`,
    row: (one) => [
      link(short(one.id), () => show("execution", one.id), `Execution ${one.id}`),
      `${one.namespace}/${one.flow}`, stands(one), one.triggerId ?? "by hand", moment(one.createdAt), length(one.createdAt, one.endedAt),
    ],
    topics: ["execution"],
  },
  events: {
    title: "Events",
    empty: "No event has come yet.",
    filters: ["namespace", "flow", "dead"],
    columns: ["Event", "Type", "Source", "Received", "Outcome"],
    path: (filter, cursor) => `/events?${query({ ...filter, limit: PAGE, cursor })}`,
    row: (one) => [
      link(short(one.id), () => show("event", one.id), `Event ${one.id}`), one.type, one.source, moment(one.receivedAt),
      element("span", {}, ...outcome(one)),
    ],
    wide: 4,
    topics: ["event"],
  },
  flows: {
    title: "Flows",
    empty: "No flow yet. Put a .hub.yaml file into the flows folder, or: hub blueprints use hello",
    filters: ["namespace"],
    columns: ["Flow", "Revision", "Triggers", "Changed", "Description"],
    path: (filter) => `/flows?${query(filter)}`,
    row: (one) => [
      link(`${one.namespace}/${one.id}`, () => show("flow", `${one.namespace}/${one.id}`)), String(one.revision),
      one.triggers.join(", "), moment(one.updatedAt), one.description ?? "",
    ],
    wide: 4,
    topics: ["flow"],
  },
  triggers: {
    title: "Triggers",
    empty: "No flow has a trigger yet.",
    filters: ["namespace", "flow"],
    columns: ["Trigger", "Type", "State", "Where or when"],
    path: (filter) => `/triggers?${query(filter)}`,
    row: (one) => [
      `${one.namespace}/${one.flow}/${one.id}`, one.type, state(one.state),
      one.error ?? one.url ?? (one.nextTimes ?? []).map(spelled).join(" · "),
    ],
    wide: 3,
    topics: ["flow"],
  },
  notices: {
    title: "Notices",
    empty: "Nobody was told anything yet. Name somebody under notifiers: in hub.yaml, and say notify: in a flow.",
    filters: ["namespace", "flow", "notice"],
    columns: ["Notice", "To", "State", "Flow", "Created", "Subject"],
    path: (filter, cursor) => `/notices?${query({ ...filter, limit: PAGE, cursor })}`,
    row: (one) => [
      link(short(one.id), () => show("notice", one.id), `Notice ${one.id}`), one.notifier, noticeStands(one),
      one.namespace ? `${one.namespace}/${one.flow}` : "", moment(one.createdAt), one.subject,
    ],
    wide: 5,
    topics: ["notice"],
  },
};

// where a notice stands, and since how many attempts
const noticeStands = (one) => (one.state === "owed" && one.attempts
  ? element("span", {}, state(one.state), ` after ${one.attempts}, next `, moment(one.dueAt))
  : state(one.state));

function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return new URLSearchParams(given).toString();
}

function outcome(event) {
  if (!event.verdicts.length) return [event.dead ?? "nobody wanted it"];
  return event.verdicts.flatMap((one, place) => [
    place ? "; " : "",
    one.executionId
      ? element("span", {}, "started ", link(`${one.namespace}/${one.flow}`, () => show("execution", one.executionId)))
      : `${one.flow}/${one.trigger} ${one.outcome}: ${one.reason ?? ""}`,
  ]);
}

function filter() {
  const form = new FormData(by("filter"));
  const chosen = {};
  for (const name of VIEWS[view.name].filters) {
    const value = form.get(name);
    // the states of notices are others than those of executions, under the same name in the API
    if (value) chosen[name === "notice" ? "state" : name] = name === "dead" ? "true" : String(value).trim();
  }
  return chosen;
}

async function load({ more = false } = {}) {
  const about = VIEWS[view.name];
  const ticket = ++view.ticket;
  try {
    const found = await call(about.path(filter(), more ? view.cursor : null));
    if (ticket !== view.ticket) return;
    const known = new Set(view.items.map(keyOf));
    view.items = more ? [...view.items, ...found.items] : found.items;
    view.cursor = found.nextCursor ?? null;
    problem(null);
    drawBroken(found.broken ?? []);
    draw(known);
  } catch (error) {
    if (ticket === view.ticket) problem(error.message);
  }
}

const keyOf = (one) => (one.namespace && !one.state ? `${one.namespace}/${one.flow ?? ""}/${one.id}` : one.id);

function drawBroken(files) {
  by("broken").hidden = !files.length;
  by("broken").replaceChildren(...files.map((one) => element("article", {},
    element("h3", {}, one.file.split("/").pop(), element("span", { class: "quiet" }, ` cannot be used · ${one.file}`)),
    element("ul", {}, ...one.problems.map((found) => element("li", {},
      element("code", {}, `${found.line}:${found.column}`), ` ${found.message}`, found.hint ? element("span", { class: "quiet" }, ` (${found.hint})`) : null,
    ))),
  )));
}

function problem(text) {
  by("problem").hidden = !text;
  by("problem").textContent = text ?? "";
}

function draw(known) {
  const about = VIEWS[view.name];
  const head = element("thead", {}, element("tr", {}, ...about.columns.map((name) => element("th", { scope: "col" }, name))));
  const body = element("tbody", {}, ...view.items.map((one) => {
    const cells = about.row(one).map((value, place) => element("td", { class: place === about.wide ? "wide" : null }, value));
    const row = element("tr", { class: known.size && !known.has(keyOf(one)) ? "fresh" : null, "data-id": one.id }, ...cells);
    const opener = row.querySelector("td:first-child button");
    // a click anywhere is one on the row's own button, unless a text was being marked or another button was meant
    if (opener) row.addEventListener("click", (event) => { if (!event.target.closest("button") && !String(getSelection())) opener.click(); });
    return row;
  }));
  const focused = document.activeElement?.closest?.("tr")?.dataset.id;
  by("list").replaceChildren(element("caption", { hidden: "" }, about.title), head, body);
  if (focused) body.querySelector(`tr[data-id="${CSS.escape(focused)}"] button`)?.focus();
  by("list").parentElement.hidden = !view.items.length;
  by("empty").hidden = Boolean(view.items.length);
  by("empty").textContent = Object.keys(filter()).length ? "Nothing matches." : about.empty;
  by("more").hidden = !view.cursor;
  mark();
}

// the row whose details are shown
function mark() {
  for (const row of by("list").tBodies[0]?.rows ?? []) {
    const isShown = shown && (row.dataset.id === shown.id || shown.id.endsWith(`/${row.dataset.id}`));
    row.classList.toggle("shown", Boolean(isShown));
  }
}

function route() {
  const name = location.hash.slice(1);
  view.name = VIEWS[name] ? name : "executions";
  view.items = [];
  const about = VIEWS[view.name];
  by("title").textContent = about.title;
  document.title = `${about.title} · asynchub`;
  for (const one of document.querySelectorAll("nav a")) {
    if (one.hash === `#${view.name}`) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  by("state-filter").hidden = !about.filters.includes("state");
  by("dead-filter").hidden = !about.filters.includes("dead");
  by("notice-filter").hidden = !about.filters.includes("notice");
  by("filter").elements.flow.closest("label").hidden = !about.filters.includes("flow");
  load();
}

// details

const json = (value) => element("pre", { tabindex: "0" }, JSON.stringify(value, null, 2));

function facts(pairs) {
  const rows = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return element("dl", {}, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

const DETAILS = {
  async execution(id) {
    const [one, logs, told] = await Promise.all([
      call(`/executions/${id}`), call(`/executions/${id}/logs?limit=500`), call(`/notices?${query({ execution: id, limit: 20 })}`),
    ]);
    return [`${one.namespace}/${one.flow}`, [
      facts([
        ["Id", one.id], ["State", stands(one)], ["Error", one.error ? element("span", { class: "bad" }, one.error) : null],
        ["Revision", String(one.revision)], ["Labels", Object.entries(one.labels).map((pair) => pair.join("=")).join(", ")],
        ["Created", moment(one.createdAt)], ["Took", length(one.createdAt, one.endedAt)], ["Restarts", one.restarts ? String(one.restarts) : null],
        ["Event", one.eventId ? link(short(one.eventId), () => show("event", one.eventId)) : null],
        ["Part of", one.parentId ? link(short(one.parentId), () => show("execution", one.parentId)) : null],
        ["Repeats", one.replayOf ? link(short(one.replayOf), () => show(one.replayOf === one.eventId ? "event" : "execution", one.replayOf)) : null],
      ]),
      actions(one),
      element("h3", {}, "Task runs"),
      one.taskRuns.length ? table(["Path", "Type", "State", "Tries", "When", "Took"], one.taskRuns.map((run) => [
        run.path, run.type, stands(run), String(run.attempts), bar(run, one), length(run.startedAt, run.endedAt),
      ])) : element("p", { class: "quiet" }, "None yet."),
      one.taskRunsCursor ? element("p", { class: "quiet" }, "The first 1,000; the API has the rest.") : null,
      ...one.taskRuns.filter((run) => run.error && !one.error?.includes(run.error)).map((run) => element("p", {}, element("code", {}, run.path), " ", element("span", { class: "bad" }, run.error))),
      ...(told.items.length ? [element("h3", {}, "Notices"), table(["To", "State", "Why"], told.items.map((notice) => [
        link(notice.notifier, () => show("notice", notice.id), `Notice to ${notice.notifier}`), noticeStands(notice), notice.error ?? "",
      ]), 2)] : []),
      element("h3", {}, "Log"),
      logs.items.length
        ? element("pre", { tabindex: "0" }, logs.items.map((line) => `${line.time.slice(11, 23)} ${line.level.padEnd(5)} ${line.path}  ${line.message}`).join("\n"))
        : element("p", { class: "quiet" }, "Nothing was logged."),
      logs.nextAfter ? element("p", { class: "quiet" }, `The first 500 lines; all of them: hub executions logs ${one.id}`) : null,
      ...part("Outputs", one.outputs), ...part("Inputs", one.inputs), ...folded("Trigger", one.trigger),
      ...folded("Task outputs", Object.fromEntries(one.taskRuns.filter((run) => run.outputs && Object.keys(run.outputs).length).map((run) => [run.path, run.outputs]))),
    ]];
  },
  async event(id) {
    const one = await call(`/events/${encodeURIComponent(id)}`);
    return [one.type, [
      facts([
        ["Id", one.id], ["Source", one.source], ["Subject", one.subject], ["Happened", moment(one.time)], ["Received", moment(one.receivedAt)],
        ["Came again", one.repeats ? `${one.repeats} times` : null],
        ["Repeats", one.replayOf ? link(short(one.replayOf), () => show("event", one.replayOf)) : null],
        ["Dead letter", one.dead ? element("span", { class: "bad" }, one.dead) : null],
      ]),
      eventActions(one),
      element("h3", {}, "What it started, or why nothing"),
      one.verdicts.length ? table(["Trigger", "Outcome", "Why"], one.verdicts.map((verdict) => [
        `${verdict.namespace}/${verdict.flow}/${verdict.trigger}`,
        verdict.executionId ? element("span", {}, link("started", () => show("execution", verdict.executionId)), " ", state(verdict.state)) : verdict.outcome,
        verdict.reason ?? "",
      ]), 2) : element("p", { class: "quiet" }, "No trigger wants such an event."),
      ...part("Data", one.data),
    ]];
  },
  async notice(id) {
    const one = await call(`/notices/${encodeURIComponent(id)}`);
    return [one.subject, [
      facts([
        ["Id", one.id], ["To", one.notifier], ["State", noticeStands(one)], ["Error", one.error ? element("span", { class: "bad" }, one.error) : null],
        ["Created", moment(one.createdAt)], ["Settled", moment(one.settledAt)], ["Failed attempts", one.attempts ? String(one.attempts) : null],
        ["Sent as", one.deliveryId !== one.id ? one.deliveryId : null],
        ["Execution", one.executionId ? link(short(one.executionId), () => show("execution", one.executionId)) : null],
      ]),
      noticeActions(one),
      element("pre", { tabindex: "0" }, one.message ?? ""),
      one.attachments?.length ? facts([["Files", one.attachments.map((file) => file.name).join(", ")]]) : null,
    ]];
  },
  async flow(name) {
    const [source, revisions] = await Promise.all([call(`/flows/${name}`), call(`/flows/${name}/revisions`)]);
    return [name, [
      element("h3", {}, `Source, revision ${revisions.items[0].revision}`), element("pre", { tabindex: "0" }, source),
      element("h3", {}, "Revisions"), table(["Revision", "Created"], revisions.items.map((one) => [String(one.revision), moment(one.createdAt)])),
    ]];
  },
};

function part(title, value) {
  if (value === null || value === undefined || !Object.keys(value).length) return [];
  return [element("h3", {}, title), json(value)];
}

function folded(title, value) {
  const [, body] = part(title, value);
  return body ? [element("details", { "data-name": title }, element("summary", {}, title), body)] : [];
}

// where in the whole of the execution a task ran
function bar(run, execution) {
  if (!run.startedAt) return "";
  const from = new Date(execution.startedAt ?? execution.createdAt), until = new Date(execution.endedAt ?? Date.now());
  const whole = Math.max(until - from, 1), began = new Date(run.startedAt) - from;
  const took = new Date(run.endedAt ?? until) - new Date(run.startedAt);
  const made = element("span", { class: "bar", "data-kind": KINDS[run.state] ?? "" }, element("span"));
  made.firstChild.style.marginLeft = `${Math.min(Math.max(began / whole, 0), 0.98) * 100}%`;
  made.firstChild.style.width = `${Math.min(Math.max(took / whole, 0.02), 1) * 100}%`;
  return made;
}

function table(columns, rows, wide) {
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": columns.join(", ") }, element("table", {},
    element("thead", {}, element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((value, place) => element("td", { class: place === wide ? "wide" : null }, value))))),
  ));
}

function button(name, path, { kind, after, method = "POST" } = {}) {
  const made = element("button", { type: "button", class: kind, onclick: async () => {
    made.disabled = true;
    try {
      const answer = await call(path, method === "POST" ? { method, headers: { "Content-Type": "application/json" }, body: "{}" } : { method });
      if (after) after(answer);
      redraw();
    } catch (error) { problem(error.message); }
    made.disabled = false;
  } }, name);
  return made;
}

function actions(one) {
  const path = `/executions/${one.id}`;
  const buttons = one.endedAt
    ? [
      ["FAILED", "KILLED", "CANCELLED"].includes(one.state) ? button("Restart from the failure", `${path}/restart`, { kind: "main" }) : null,
      button("Replay", `${path}/replay`, { after: (made) => show("execution", made.id) }),
    ]
    : [button("Kill", `${path}/kill`, { kind: "danger" })];
  return element("div", { class: "actions" }, ...buttons);
}

function eventActions(one) {
  const path = `/events/${encodeURIComponent(one.id)}`;
  return element("div", { class: "actions" },
    button("Replay", `${path}/replay`, { after: (made) => show("event", made.eventId) }),
    one.dead ? button("Drop", `${path}/dead`, { method: "DELETE", kind: "danger" }) : null,
  );
}

function noticeActions(one) {
  const path = `/notices/${encodeURIComponent(one.id)}`;
  if (one.state === "delivered") return null;
  return element("div", { class: "actions" },
    button("Send now", `${path}/retry`, { kind: "main" }),
    one.state === "dropped" ? null : button("Drop", path, { method: "DELETE", kind: "danger" }),
  );
}

async function show(kind, id, { quietly = false } = {}) {
  shown = { kind, id };
  try {
    const [title, body] = await DETAILS[kind](id);
    if (shown?.id !== id) return;
    const scrolled = by("detail").scrollTop;
    const open = new Set([...by("detail-body").querySelectorAll("details[open]")].map((one) => one.dataset.name));
    by("detail-title").textContent = title;
    by("detail-body").replaceChildren(...body.filter((one) => one !== null));
    if (quietly) for (const one of by("detail-body").querySelectorAll("details")) one.open = open.has(one.dataset.name);
    by("detail").hidden = false;
    mark();
    if (quietly) by("detail").scrollTop = scrolled;
    else by("close").focus();
  } catch (error) { problem(error.message); }
}

function close() {
  shown = null;
  by("detail").hidden = true;
  mark();
}

// what is live

function redraw() {
  if (refreshing) return;
  // many changes in a moment are one look
  refreshing = setTimeout(() => {
    refreshing = null;
    if (view.items.length <= PAGE) load();
    if (shown) show(shown.kind, shown.id, { quietly: true });
  }, 250);
}

function follow() {
  const stream = new EventSource(`${API}/stream`);
  const say = (name, text) => { by("live").dataset.state = name; by("live").textContent = text; };
  stream.addEventListener("open", () => say("live", "live"));
  stream.addEventListener("error", () => {
    say("lost", "not connected");
    if (stream.readyState !== EventSource.CLOSED) return;
    // refused, so the browser does not come back by itself: the reason may be that the session has ended
    setTimeout(follow, 5000);
    redraw();
  });
  stream.addEventListener("reset", redraw);
  for (const topic of ["execution", "event", "flow", "notice"]) {
    stream.addEventListener(topic, (news) => {
      const { id } = JSON.parse(news.data);
      if (VIEWS[view.name].topics.includes(topic) || shown?.id === id || (view.name === "events" && topic === "execution")
        || (topic === "notice" && shown?.kind === "execution")) redraw();
    });
  }
}

const leave = () => { close(); by("main").focus(); };
by("close").addEventListener("click", leave);
by("more").addEventListener("click", () => load({ more: true }));
by("filter").addEventListener("input", () => load());
by("filter").addEventListener("submit", (event) => event.preventDefault());
addEventListener("keydown", (event) => { if (event.key === "Escape" && shown) leave(); });
addEventListener("hashchange", () => { close(); route(); });
route();
follow();
