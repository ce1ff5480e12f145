// The page: lists that follow the hub's stream, details on click. Every value goes into the page as text.

const API = "/api/v1";
const KINDS = {
  SUCCESS: "good", running: "good", WARNING: "wait", PAUSED: "wait", QUEUED: "wait", RETRYING: "wait", CREATED: "wait",
  starting: "wait", FAILED: "bad", KILLED: "bad", CANCELLED: "bad", failing: "bad", broken: "bad", RUNNING: "busy", KILLING: "busy",
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

function moment(text) {
  if (!text) return "";
  const at = new Date(text);
  return element("time", { datetime: text, title: at.toISOString() }, at.toLocaleString());
}

function length(from, to) {
  if (!from || !to) return "";
  const milliseconds = new Date(to) - new Date(from);
  return milliseconds < 1000 ? `${milliseconds} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

const link = (text, onclick, label) => element("button", { type: "button", class: "link", onclick, "aria-label": label }, text);
const short = (id) => (/^[0-9a-f]{8}-/.test(id) ? `…${id.slice(-12)}` : id);

async function call(path, options) {
  const answer = await fetch(API + path, options);
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
      `${one.namespace}/${one.flow}`, state(one.state), one.triggerId ?? "by hand", moment(one.createdAt), length(one.createdAt, one.endedAt),
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
      one.error ?? one.url ?? (one.nextTimes ?? []).map((at) => new Date(at).toLocaleString()).join(", "),
    ],
    wide: 3,
    topics: ["flow"],
  },
};

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
    if (value) chosen[name] = name === "dead" ? "true" : String(value).trim();
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
    problem(brokenFiles(found));
    draw(known);
  } catch (error) {
    if (ticket === view.ticket) problem(error.message);
  }
}

const keyOf = (one) => (one.namespace && !one.state ? `${one.namespace}/${one.flow ?? ""}/${one.id}` : one.id);

function brokenFiles(found) {
  if (!found.broken?.length) return null;
  return found.broken.map((one) => `${one.file}:${one.problems[0].line} ${one.problems[0].message}`).join("\n");
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
    return element("tr", { class: known.size && !known.has(keyOf(one)) ? "fresh" : null, "data-id": one.id }, ...cells);
  }));
  const focused = document.activeElement?.closest?.("tr")?.dataset.id;
  by("list").replaceChildren(element("caption", { hidden: "" }, about.title), head, body);
  if (focused) body.querySelector(`tr[data-id="${CSS.escape(focused)}"] button`)?.focus();
  by("list").parentElement.hidden = !view.items.length;
  by("empty").hidden = Boolean(view.items.length);
  by("empty").textContent = Object.keys(filter()).length ? "Nothing matches." : about.empty;
  by("more").hidden = !view.cursor;
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
    const [one, logs] = await Promise.all([call(`/executions/${id}`), call(`/executions/${id}/logs?limit=500`)]);
    return [`${one.namespace}/${one.flow}`, [
      facts([
        ["Id", one.id], ["State", state(one.state)], ["Error", one.error], ["Revision", String(one.revision)],
        ["Created", moment(one.createdAt)], ["Took", length(one.createdAt, one.endedAt)], ["Waits until", moment(one.wakeAt)],
        ["Event", one.eventId ? link(short(one.eventId), () => show("event", one.eventId)) : null],
        ["Part of", one.parentId ? link(short(one.parentId), () => show("execution", one.parentId)) : null],
        ["Repeats", one.replayOf],
      ]),
      actions(one),
      element("h3", {}, "Task runs"),
      one.taskRuns.length ? table(["Path", "Type", "State", "Attempts", "Took"], one.taskRuns.map((run) => [
        run.path, run.type, state(run.state), String(run.attempts), length(run.startedAt, run.endedAt),
      ])) : "None yet.",
      element("h3", {}, "Log"),
      logs.items.length
        ? element("pre", { tabindex: "0" }, logs.items.map((line) => `${line.time.slice(11, 23)} ${line.level.padEnd(5)} ${line.path}  ${line.message}`).join("\n"))
        : "Nothing was logged.",
      ...part("Outputs", one.outputs), ...part("Inputs", one.inputs), ...part("Trigger", one.trigger),
      ...part("Task outputs", Object.fromEntries(one.taskRuns.filter((run) => run.outputs && Object.keys(run.outputs).length).map((run) => [run.path, run.outputs]))),
    ]];
  },
  async event(id) {
    const one = await call(`/events/${id}`);
    return [one.type, [
      facts([
        ["Id", one.id], ["Source", one.source], ["Subject", one.subject], ["Happened", moment(one.time)], ["Received", moment(one.receivedAt)],
        ["Came again", one.repeats ? `${one.repeats} times` : null], ["Repeats", one.replayOf], ["Dead letter", one.dead],
        ["Outcome", element("span", {}, ...outcome(one))],
      ]),
      ...part("Data", one.data),
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

function table(columns, rows) {
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": columns.join(", ") }, element("table", {},
    element("thead", {}, element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((value) => element("td", {}, value))))),
  ));
}

function actions(one) {
  const act = (name, path) => element("button", { type: "button", onclick: async () => {
    try {
      await call(`/executions/${one.id}/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
      redraw();
    } catch (error) { problem(error.message); }
  } }, name);
  const buttons = one.endedAt
    ? [act("Replay", "replay"), ["FAILED", "KILLED", "CANCELLED"].includes(one.state) ? act("Restart from the failure", "restart") : null]
    : [act("Kill", "kill")];
  return element("div", { class: "actions" }, ...buttons);
}

async function show(kind, id, { quietly = false } = {}) {
  shown = { kind, id };
  try {
    const [title, body] = await DETAILS[kind](id);
    if (shown?.id !== id) return;
    const scrolled = by("detail").scrollTop;
    by("detail-title").textContent = title;
    by("detail-body").replaceChildren(...body);
    by("detail").hidden = false;
    if (quietly) by("detail").scrollTop = scrolled;
    else by("close").focus();
  } catch (error) { problem(error.message); }
}

function close() {
  shown = null;
  by("detail").hidden = true;
  by("main").focus();
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
  stream.addEventListener("error", () => say("lost", "not connected"));
  stream.addEventListener("reset", redraw);
  for (const topic of ["execution", "event", "flow"]) {
    stream.addEventListener(topic, (news) => {
      const { id } = JSON.parse(news.data);
      if (VIEWS[view.name].topics.includes(topic) || shown?.id === id || (view.name === "events" && topic === "execution")) redraw();
    });
  }
}

by("close").addEventListener("click", close);
by("more").addEventListener("click", () => load({ more: true }));
by("filter").addEventListener("input", () => load());
by("filter").addEventListener("submit", (event) => event.preventDefault());
addEventListener("keydown", (event) => { if (event.key === "Escape" && shown) close(); });
addEventListener("hashchange", route);
route();
follow();
