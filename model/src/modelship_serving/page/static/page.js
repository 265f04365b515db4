// Asks the model, shows its answer.
import { numbers, paint } from "./pixels.js";
import { Sheet } from "./sheet.js";
import { Fields } from "./fields.js";

const model = JSON.parse(document.getElementById("model").textContent);
const byId = (id) => document.getElementById(id);
// Numbers of one output that are written out, and outputs whose single numbers are written large.
const MOST_LISTED = 200;
const FEW_OUTPUTS = 4;
let key = "";
let sheet = null;
let input = null; // what was asked last: {name: values}
let pending = null; // newer input, to be asked about when the answer to the last has come
let asking = false;
let asked = 0;

function version() { return model.versions[byId("version").selectedIndex] ?? model.versions[0]; }

async function call(path, body, accept) {
  const headers = { "content-type": "application/json", accept };
  if (key) headers.authorization = `Bearer ${key}`;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  if (response.status === 401) {
    byId("credentials").hidden = false;
    byId("key").focus();
  }
  if (!response.ok) {
    const reply = await response.json().catch(() => ({}));
    const wait = response.headers.get("retry-after");
    throw new Error((reply.error ?? `the server answered ${response.status}`) + (wait ? ` (try again in ${wait} s)` : ""));
  }
  return response;
}

function query() {
  const chosen = version();
  return chosen === model.versions[0] ? "" : `?version=${chosen.version}`;
}

async function predict(values) {
  return (await call(`predict${query()}`, values, "application/json")).json();
}

async function ask(values) {
  if (asking) { pending = values; return; }
  asking = true;
  input = values;
  const number = ++asked;
  byId("why").hidden = true;
  try {
    const started = performance.now();
    const reply = await predict(values);
    const elapsed = performance.now() - started;
    if (number === asked) { show(reply); byId("latency").textContent = `${elapsed.toFixed(elapsed < 10 ? 1 : 0)} ms, there and back`; }
    complain("");
  } catch (error) {
    if (number === asked) { forget(); complain(error instanceof TypeError ? "The server cannot be reached." : error.message); }
  } finally {
    asking = false;
  }
  if (pending) { const next = pending; pending = null; await ask(next); }
}

function complain(message) {
  byId("error").textContent = message;
  byId("error").hidden = !message;
  if (!message) byId("credentials").hidden = true;
}

function forget() {
  byId("answer").replaceChildren(element("span", "waiting", "–"));
  // Bars without a length keep the place of those to come.
  if (model.classifier && model.labels && model.labels.length <= 12) bars(model.labels.map(() => 0), -1);
  else byId("classes").replaceChildren();
  byId("latency").textContent = "–";
  byId("explain").disabled = true;
  byId("why").hidden = true;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function named(release) {
  byId("release").textContent = release.slice(0, 19);
  byId("release").title = release;
}

function percent(share) { return `${(100 * share).toFixed(1)} %`; }

function score(value) { return Number(value.toPrecision(4)).toString(); }

/** The outputs of a model that is not a classifier, each under its name. */
function listed(outputs) {
  const entries = Object.entries(outputs);
  const parts = entries.map(([name, value]) => {
    const all = [value].flat(Infinity);
    const single = all.length === 1;
    const short = (item) => (typeof item === "number" && !Number.isInteger(item) ? Number(item.toPrecision(7)) : item);
    let text = JSON.stringify(value, (unused, item) => short(item));
    if (single) text = String(short(all[0]));
    else if (all.length > MOST_LISTED) text = `${JSON.stringify(all.slice(0, MOST_LISTED).map(short)).slice(0, -1)}, …] (${all.length} values)`;
    const part = element("span", "named");
    part.append(element("span", "", name), element("b", single && entries.length <= FEW_OUTPUTS ? "word" : "data", text));
    return part;
  });
  byId("answer").replaceChildren(...parts);
  byId("classes").replaceChildren();
}

function show(reply) {
  named(reply.release);
  byId("explain").disabled = !model.explain;
  if (!model.classifier) { listed(reply.outputs); return; }
  const shares = reply.probabilities ?? reply.scores;
  const label = reply.label ?? String(reply.result);
  const write = reply.probabilities ? percent : score;
  byId("answer").replaceChildren(element("b", label.length > 3 ? "word" : "", label), element("span", "", write(shares[reply.result])));
  bars(shares, reply.result, write);
}

/** Few classes keep their order, so that bars stay in place while one draws; of many, the likeliest are shown. */
function bars(shares, best, write) {
  // Scores that are no probabilities are shown by their place between the least and the greatest.
  const [low, high] = write === score ? [Math.min(...shares), Math.max(...shares)] : [0, 1];
  let order = shares.map((unused, index) => index);
  const all = shares.length;
  if (all > 12) order = order.sort((a, b) => shares[b] - shares[a]).slice(0, 10);
  const list = byId("classes");
  const rows = order.length + (all > order.length ? 1 : 0);
  if (list.childElementCount !== rows || all > 12) {
    list.replaceChildren(...order.map(() => {
      const row = element("li");
      const track = element("span", "track");
      track.append(element("span", "bar"));
      row.append(element("span", "label"), track, element("span", "share"));
      return row;
    }));
    if (all > order.length) list.append(element("li", "rest", `and ${all - order.length} more`));
  }
  order.forEach((index, place) => {
    const row = list.children[place];
    const label = model.labels?.[index] ?? String(index);
    row.className = index === best ? "best" : "";
    row.children[0].textContent = row.children[0].title = label;
    row.children[1].firstChild.style.transform = `scaleX(${Math.min(1, Math.max(0, (shares[index] - low) / (high - low || 1)))})`;
    row.children[2].textContent = write ? write(shares[index]) : "";
  });
}

async function explain() {
  const button = byId("explain");
  const number = asked;
  button.disabled = true;
  try {
    const picture = await (await call(`explain${query()}`, input, "image/png")).blob();
    if (number !== asked) return;
    const image = byId("heat");
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(picture);
    image.alt = `Heat map of the input: what speaks for ${byId("answer").firstChild.textContent} is orange, what speaks against it is blue`;
    byId("why-text").textContent = "Each place was covered in turn: where it is orange the model became less sure of its answer, where it is blue surer.";
    byId("why").hidden = false;
    byId("why").scrollIntoView({ block: "nearest", behavior: "smooth" });
    complain("");
  } catch (error) {
    complain(error instanceof TypeError ? "The server cannot be reached." : error.message);
  } finally {
    button.disabled = false;
  }
}

function changed(list, trouble) {
  byId("seen").hidden = !list;
  if (!list) {
    asked++; // an answer still on its way is to nobody's question now
    pending = input = null;
    forget();
    complain(trouble ?? "");
    return;
  }
  paint(byId("small"), list);
  ask({ [model.inputs[0].name]: numbers(list, model.picture) });
}

if (model.picture) {
  sheet = new Sheet(model.picture, changed);
  let next = 0;
  byId("example").hidden = !model.samples.length;
  byId("example").addEventListener("click", () => {
    sheet.show([model.samples[next++ % model.samples.length][model.inputs[0].name]].flat(Infinity));
  });
} else {
  const fields = new Fields(model, ask, (message) => { asked++; forget(); complain(message); });
  fields.submit();
}
named(model.versions[0].release);
if (model.picture) forget();
byId("explain").hidden = !model.explain;
byId("explain").addEventListener("click", explain);
byId("credentials").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  if (input) ask(input);
});
if (model.versions.length > 1) {
  byId("version-name").hidden = byId("version-choice").hidden = false;
  model.versions.forEach((each, place) => byId("version").append(new Option(place ? each.version : `${each.version} (default)`)));
  byId("version").addEventListener("change", () => { named(version().release); if (input) ask(input); });
}
