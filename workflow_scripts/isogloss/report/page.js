"use strict";
// The page's own script: choosing, sorting, copying, and rows for the charts, whose looks are
// Vega-Lite made in charts.py. All text from data goes in as text, never as markup.
(() => {
const study = JSON.parse(document.getElementById("study").textContent);
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const languages = Object.fromEntries(study.languages.map((l) => [l.tag, l]));
const named = (tag) => languages[tag]?.name ?? tag;
const LATENTS = ["prompt", "pivot", "control"];

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Arrays: base64 of little-endian float32, read once.
function numbers(packed) {
  if (!packed.values) {
    const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
    packed.values = new Float32Array(bytes.buffer);
  }
  return packed.values;
}
function at(packed, ...index) {
  const place = index.reduce((sum, i, axis) => sum * packed.shape[axis] + i, 0);
  const value = numbers(packed)[place];
  return Number.isNaN(value) ? null : value;
}
function best(values) {
  let place = -1;
  values.forEach((v, i) => { if (v !== null && (place < 0 || v > values[place])) place = i; });
  return place;
}

// Charts: made once, then given new rows.
const views = new Map();
let drawing = []; // until all charts stand for the first time
const draw = (...given) => { const done = drawn(...given); drawing?.push(done); };
async function drawn(element, name, rows, parameters = {}, listen = () => {}) {
  element.hidden = !rows.length;
  if (!rows.length) return;
  if (!views.has(element)) {
    const ready = vegaEmbed(element, { ...study.charts[name], datasets: { rows } }, {
      renderer: "svg", tooltip: true, ast: true,
      actions: { export: true, source: false, compiled: false, editor: false },
      downloadFileName: `isogloss-${name}`,
    }).then((made) => { listen(made.view); return made.view; });
    views.set(element, ready);
  }
  const view = await views.get(element);
  for (const [key, value] of Object.entries(parameters)) view.signal(key, value);
  const { by, each } = study.charts[name].usermeta?.height ?? {};
  if (by) view.height(each * new Set(rows.map((row) => row[by])).size);
  await view.data("rows", rows).resize().runAsync();
}

// What a chart says, for those who do not see it.
function say(element, text) {
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", text);
}
function extremes(rows, name) {
  const known = rows.filter((row) => row.value !== null).sort((x, y) => x.value - y.value);
  if (!known.length) return "nothing is known";
  const [low, high] = [known[0], known.at(-1)].map((row) => `${row[name]} (${row.value.toFixed(2)})`);
  return `from ${low} to ${high}`;
}

// What is chosen: the address holds it, every control shows it.
const state = { model: Object.keys(study.models)[0], dataset: "", language: "", item: "",
  measure: "item_share_pair", group: "family", column: "accuracy", pairs: "item_share_pair",
  order: "family", layer: null, a: "", b: "" };
const datasets = $("[data-state=dataset]") ? [...$("[data-state=dataset]").options].map((o) => o.value) : [];
state.dataset = datasets[0] ?? "";
const lens = () => study.lens[`${state.model}/${state.dataset}`];
const pairs = (model = state.model) => study.pairs[`${model}/${state.dataset}`];

function fill(select, options, value) {
  select.replaceChildren(...options.map(([key, text]) => make("option", { value: key }, text)));
  select.value = value;
}

function update() {
  for (const control of $$("[data-state]")) {
    if (control.id !== "items") control.value = state[control.dataset.state];
  }
  for (const article of $$("article.figure")) article.hidden = !["", state.dataset].includes(article.dataset.dataset);
  drawModels();
  if ($("#lens")) drawLens();
  if ($("#map")) drawMap();
}

// Main table: sorting, filtering, copying.
const table = $("#main-table");
const rowsOf = () => $$("tbody tr", table);
const headers = table ? $$("thead th", table) : [];
const keyOf = (row, column) => {
  const cell = row.children[column];
  return cell.dataset.values ? JSON.parse(cell.dataset.values)[0] : cell.textContent;
};
headers.forEach((header, column) => header.addEventListener("click", () => {
  const up = header.getAttribute("aria-sort") !== "ascending";
  headers.forEach((h) => h.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const sorted = rowsOf().map((row) => [keyOf(row, column), row]);
  sorted.sort(([x], [y]) => {
    if (x === null || y === null) return (x === null) - (y === null); // unknown: last either way
    const order = typeof x === "number" ? x - y : x.localeCompare(y);
    return up ? order : -order;
  });
  $("tbody", table).append(...sorted.map(([, row]) => row));
}));
const filters = $$("[data-filter]");
filters.forEach((filter) => filter.addEventListener("change", () => {
  for (const row of rowsOf()) {
    row.hidden = filters.some((f) => f.value && row.dataset[f.dataset.filter] !== f.value);
  }
}));
const texts = (row) => [...row.children].map((cell) => cell.textContent.trim());
const quoted = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
const copies = {
  csv: (head, rows) => {
    const columns = headers.map((h) => h.dataset.column ?? h.textContent.trim());
    const wide = (cell, i) => cell.dataset.values ? JSON.parse(cell.dataset.values) : [cell.textContent.trim()];
    const first = columns.flatMap((name, i) =>
      rows[0]?.children[i].dataset.values ? [name, `${name}_low`, `${name}_high`] : [name]);
    return [first, ...rows.map((row) => [...row.children].flatMap(wide))]
      .map((line) => line.map(quoted).join(",")).join("\n");
  },
  markdown: (head, rows) => [head, head.map(() => "---"), ...rows.map(texts)]
    .map((line) => `| ${line.map((t) => t.replace(/[\\|*_`<]/g, "\\$&")).join(" | ")} |`).join("\n"),
  latex: (head, rows) => {
    const escaped = (t) => t.replace(/[\\{}]/g, (c) => c === "\\" ? "\\textbackslash{}" : `\\${c}`)
      .replace(/[&%$#_]/g, "\\$&").replaceAll("~", "\\textasciitilde{}").replaceAll("^", "\\textasciicircum{}")
      .replaceAll("−", "$-$").replaceAll("–", "--").replaceAll("†", "\\dag{}").replaceAll("ρ", "$\\rho$");
    const lines = [head, ...rows.map(texts)].map((line) => `${line.map(escaped).join(" & ")} \\\\`);
    return [`\\begin{tabular}{${"l".repeat(head.length)}}`, "\\toprule", lines[0], "\\midrule",
      ...lines.slice(1), "\\bottomrule", "\\end{tabular}"].join("\n");
  },
};
for (const button of $$("[data-copy]")) {
  button.addEventListener("click", async () => {
    const shown = rowsOf().filter((row) => !row.hidden);
    const text = copies[button.dataset.copy](headers.map((h) => h.textContent.trim()), shown);
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    $("#copied").value = `${shown.length} rows copied`;
  });
}

// Models side by side.
const MOST_NAMED = 10;
function lineRows(model) {
  const rows = [];
  const [kind, latent] = state.measure.split(":");
  const source = kind === "latent" ? study.lens[`${model}/${state.dataset}`] : pairs(model);
  if (!source) return rows;
  const pivot = source.languages.indexOf(study.pivot);
  source.languages.forEach((tag, l) => {
    if (l === pivot) return;
    source.depth.forEach((depth, layer) => {
      const read = (end) => {
        const packed = kind === "latent" ? source.accuracy[end] : source.measures[kind][end];
        if (!packed) return null;
        if (kind !== "latent") return at(packed, layer, l, pivot);
        const value = at(packed, l, LATENTS.indexOf(latent), layer);
        return value === null ? null : 100 * value;
      };
      rows.push({ language: named(tag), tag, group: languages[tag][state.group] || "other", at: depth,
        value: read("value"), low: read("low"), high: read("high"), last: layer === source.depth.length - 1 });
    });
  });
  const ends = rows.filter((r) => r.last && r.value !== null).sort((x, y) => x.value - y.value);
  if (ends.length > MOST_NAMED) ends.slice(3, -3).forEach((r) => { r.last = false; });
  return rows;
}
function drawModels() {
  const charts = $$("#depths .chart");
  const rows = charts.map((chart) => lineRows(chart.dataset.model));
  const known = rows.flat().map((r) => r.value).filter((v) => v !== null);
  const bottom = Math.min(0, ...known), top = known.length ? Math.max(...known) * 1.03 : 1;
  charts.forEach((chart, i) => {
    draw(chart, "depths", rows[i], { bottom, top });
    const ends = rows[i].filter((row) => row.at === rows[i].at(-1).at);
    say(chart, `${study.models[chart.dataset.model]}, at the last layer: ${extremes(ends, "language")}`);
  });
  if (!table) return;
  const column = headers.findIndex((h) => h.dataset.column === state.column);
  $("#dots-title").textContent = `${headers[column].textContent.trim()}, by language`;
  const cells = rowsOf().filter((row) => row.dataset.dataset === state.dataset).map((row) => {
    const [value, low, high] = JSON.parse(row.children[column].dataset.values);
    const unit = /%|points/.test(headers[column].textContent) ? 100 : 1;
    const scaled = (v) => (v === null ? null : unit * v);
    return { language: named(row.dataset.tag), model: study.models[row.dataset.slug],
      value: scaled(value), low: scaled(low), high: scaled(high), near: row.dataset.near === "yes" };
  }).filter((row) => row.value !== null);
  draw($("#dots"), "dots", cells);
  say($("#dots"), `${$("#dots-title").textContent}: ${extremes(cells, "language")}`);
}

// Figures: enlarged.
const enlarged = $("#enlarged");
for (const button of $$(".zoom")) {
  button.addEventListener("click", () => {
    const image = $("img", enlarged), source = $("img", button);
    image.src = source.src;
    image.alt = source.alt;
    enlarged.showModal();
  });
}
$("#close").addEventListener("click", () => enlarged.close());
$("#fit").addEventListener("click", () => {
  const actual = enlarged.classList.toggle("actual");
  $("#fit").textContent = actual ? "fit the window" : "actual size";
});

// Lens explorer.
const TEXTS = 2; // of an item: context, question, then its choices
function wanted(items, data) {
  const words = $("#search").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  const category = $("#category").value, kind = $("#kind").value;
  const l = data.languages.indexOf(state.language), pivot = data.languages.indexOf(study.pivot);
  const right = (language, i) => at(data.prediction, language, i) === items.answers[i];
  const tests = {
    "": () => true, right: (i) => right(l, i), wrong: (i) => !right(l, i),
    "right-wrong": (i) => right(l, i) && !right(pivot, i),
    "wrong-right": (i) => !right(l, i) && right(pivot, i),
    inside: (i) => !right(l, i) && data.layers.some((_, layer) => answer(data, i, 1, layer) === items.answers[i]),
    flips: (i) => Object.values(data.steered[state.language] ?? {}).some(({ prediction }) =>
      prediction.shape[0] > 1 && [...Array(prediction.shape[0]).keys()].some((c) => at(prediction, c, i) !== at(prediction, 0, i))),
  };
  return items.ids.map((id, i) => i).filter((i) =>
    (!category || items.categories[i] === category) && tests[kind](i) && (!words.length || words.every((word) =>
      items.ids[i].toLocaleLowerCase().includes(word) ||
      Object.values(items.texts).some((text) => text[i].some((t) => t.toLocaleLowerCase().includes(word))))));
}
function shares(data, i, latent, layer) {
  const packed = data.shares[state.language];
  return [...Array(packed.shape[3]).keys()].map((c) => at(packed, latent, layer, i, c));
}
const answer = (data, i, latent, layer) => best(shares(data, i, latent, layer));
// Numbered, so that two alike stay apart; isolated, so that right-to-left text keeps its place.
const choiceText = (text, c, gold) => `${gold ? "✓ " : ""}${c + 1}. \u2068${text.replace(/\s+/g, " ")}\u2069`;
const depthText = (depth) => depth.toFixed(2);

function drawLens() {
  const data = lens(), items = study.items[state.dataset];
  $("#lens .empty").hidden = Boolean(data);
  $("#lens .explorer").hidden = !data;
  if (!data) return;
  if (!data.languages.includes(state.language)) {
    state.language = data.languages.find((tag) => tag !== study.pivot) ?? data.languages[0];
  }
  fill($("#lens [data-state=language]"), data.languages.map((tag) => [tag, named(tag)]), state.language);
  const categories = [...new Set(items.categories)].filter(Boolean);
  const category = $("#category").value;
  fill($("#category"), [["", "all"], ...categories.map((c) => [c, c.replaceAll("_", " ")])], categories.includes(category) ? category : "");
  $("#category").parentElement.hidden = !categories.length;
  const list = wanted(items, data);
  const shown = (i) => `${items.ids[i]} · \u2068${items.texts[state.language][i][1]}\u2069`;
  if (!items.ids.includes(state.item)) state.item = items.ids[list[0] ?? 0];
  fill($("#items"), list.map((i) => [items.ids[i], shown(i)]), state.item);
  $("#count").textContent = `${list.length} of ${items.ids.length} items`;
  drawItem(data, items, items.ids.indexOf(state.item));
  drawCurves(data);
}

function drawItem(data, items, i) {
  const control = data.control[state.language];
  const latents = [state.language, study.pivot, control];
  const asked = [...new Set([state.language, study.pivot])];
  const gold = items.answers[i];
  const l = data.languages.indexOf(state.language);
  $("#question").replaceChildren(...asked.map((tag) => {
    const [context, question, ...choices] = items.texts[tag][i];
    const list = make("ol", {}, ...choices.map((text, c) =>
      make("li", { dir: "auto", ...(c === gold ? { class: "gold" } : {}) }, text, c === gold ? " ✓" : "")));
    return make("div", { lang: tag, dir: "auto" }, make("span", { class: "tag", lang: "en", dir: "ltr" }, named(tag)),
      ...(context ? [make("p", { class: "context", dir: "auto" }, context)] : []),
      make("p", { dir: "auto" }, make("strong", {}, question)), list);
  }));
  const given = at(data.prediction, l, i);
  const settled = at(data.settles, l, 0, i);
  const there = data.layers.indexOf(settled);
  // The lens ranks by tokens or sums, answers may be ranked by another score.
  const read = answer(data, i, 0, data.layers.length - 1);
  const what = read === given ? "its answer" : `choice ${read + 1}`;
  const text = items.texts[state.language][i][TEXTS + given];
  $("#answers").replaceChildren(make("p", {}, `${study.models[state.model]} answers `, make("bdi", { lang: state.language }, text),
    `: ${given === gold ? "right" : "wrong"}`, there < 0 ? "." : `; read from the layers, ${what} stays from layer ${settled} on (depth ${depthText(data.depth[there])}).`));
  const range = chosenRange();
  const boxes = $("#choices");
  latents.forEach((tag, latent) => {
    let box = boxes.children[latent];
    if (!box) boxes.append(box = make("div", {}, make("h3"), make("div", { class: "chart", role: "img" })));
    const rows = [];
    data.layers.forEach((layer, k) => {
      const values = shares(data, i, latent, k), first = best(values);
      values.forEach((share, c) => {
        if (share !== null && tag) rows.push({ layer, at: data.depth[k], depth: depthText(data.depth[k]),
          choice: choiceText(items.texts[tag][i][TEXTS + c], c, c === gold), place: c, share, best: c === first });
      });
    });
    box.hidden = !rows.length || (latent > 0 && tag === state.language);
    const last = answer(data, i, latent, data.layers.length - 1);
    box.firstChild.textContent = `Choices in ${named(tag)}${latent ? ", after the same prompt" : ""}`;
    box.lastChild.setAttribute("aria-label", `Share of each choice in ${named(tag)} at every layer; at the last layer it is choice ${last + 1}, ${last === gold ? "right" : "wrong"}.`);
    if (!box.hidden) draw(box.lastChild, "choices", rows, range);
  });
  drawSteered(data, items, i);
}

function drawSteered(data, items, i) {
  const box = $(".steering"), known = data.steered[state.language];
  box.hidden = true;
  if (!known) return;
  const fitted = Object.keys(known).includes($("#fitted").value) ? $("#fitted").value : Object.keys(known)[0];
  fill($("#fitted"), Object.keys(known).map((name) => [name, name]), fitted);
  const part = known[fitted], rows = [];
  part.conditions.forEach((condition, k) => {
    const first = at(part.prediction, k, i);
    for (let c = 0; c < part.shares.shape[2]; c++) {
      const share = at(part.shares, k, i, c);
      if (share !== null) rows.push({ condition, share, best: c === first, place: c,
        choice: `${c + 1}${c === items.answers[i] ? " ✓" : ""}`, text: items.texts[state.language][i][TEXTS + c] });
    }
  });
  box.hidden = !rows.length; // with sets of their own some questions are only fitted on
  if (rows.length) draw($("#steered"), "steered", rows);
}

const chosenRange = () => ({ start: Number($("#from").value), end: Number($("#to").value) });
function drawCurves(data) {
  const l = data.languages.indexOf(state.language);
  const tags = [state.language, study.pivot, data.control[state.language]];
  const rows = [];
  LATENTS.forEach((_, latent) => {
    if (!tags[latent] || (latent && tags[latent] === state.language)) return;
    data.layers.forEach((layer, k) => {
      const [value, low, high] = ["value", "low", "high"].map((end) => at(data.accuracy[end], l, latent, k));
      if (value !== null) rows.push({ at: data.depth[k], layer, latent: named(tags[latent]),
        value: 100 * value, low: 100 * low, high: 100 * high, chance: data.chance === null ? null : 100 * data.chance });
    });
  });
  $("#accuracy-title").textContent = `All items, prompts in ${named(state.language)}: accuracy of the choices`;
  draw($("#accuracy"), "accuracy", rows, {}, (view) => view.addSignalListener("brush", (_, brush) => {
    const [from, to] = brush.at ?? [0, 1];
    $("#from").value = Math.min(from, to).toFixed(2);
    $("#to").value = Math.max(from, to).toFixed(2);
    showRange();
  }));
  showRange();
}
function showRange() {
  const data = lens();
  if (!data) return;
  const { start, end } = chosenRange();
  for (const chart of $$("#choices .chart")) {
    views.get(chart)?.then((view) => view.signal("start", start).signal("end", end).runAsync());
  }
  const l = data.languages.indexOf(state.language);
  const within = data.depth.map((d, k) => [d, k]).filter(([d]) => d >= start && d <= end).map(([, k]) => k);
  const tags = [state.language, study.pivot, data.control[state.language]];
  const means = tags.map((tag, latent) => {
    const values = within.map((k) => at(data.accuracy.value, l, latent, k)).filter((v) => v !== null);
    if (!tag || !values.length || (latent && tag === state.language)) return "";
    return `${named(tag)} ${(100 * values.reduce((a, b) => a + b) / values.length).toFixed(0)}%`;
  }).filter(Boolean);
  say($("#accuracy"), `${$("#accuracy-title").textContent}; means over layers: ${means.join(", ")}`);
  $("#range").value = within.length ? `mean over these ${within.length} layers: ${means.join(", ")}` : "no layer in this range";
}
if ($("#lens")) {
  for (const id of ["search", "category", "kind"]) $(`#${id}`).addEventListener("input", drawLens);
  for (const id of ["from", "to"]) $(`#${id}`).addEventListener("input", showRange);
  $("#fitted").addEventListener("change", drawLens);
  for (const [id, step] of [["previous", -1], ["next", 1]]) {
    $(`#${id}`).addEventListener("click", () => {
      const list = $("#items"), place = list.selectedIndex + step;
      if (place >= 0 && place < list.length) choose("item", list.options[place].value);
    });
  }
  document.addEventListener("keydown", (event) => {
    const button = { j: "next", k: "previous" }[event.key];
    const typing = event.target.matches("input, select:not(#items), textarea");
    if (!button || typing || event.ctrlKey || event.metaKey || event.altKey || enlarged.open) return;
    event.preventDefault(); // in the list, a letter would choose an item that begins with it
    $(`#${button}`).click();
  });
}

// Language map.
function ordered(data) {
  const tags = [...data.languages];
  if (state.order === "study") return tags;
  const key = (tag) => (state.order === "name" ? "" : languages[tag][state.order]) + "\u0000" + named(tag);
  return tags.sort((x, y) => key(x).localeCompare(key(y)));
}
// Retrieval, which alone has a chance level, goes from one language to another.
const isSymmetric = (measure) => measure.chance === undefined;
const pairName = (measure, a, b) => `${named(a)} ${isSymmetric(measure) ? "and" : "looked up in"} ${named(b)}`;
function drawMap() {
  const data = pairs();
  $("#map .empty").hidden = Boolean(data);
  $("#map .map").hidden = !data;
  if (!data) return;
  if (!data.measures[state.pairs]) state.pairs = Object.keys(data.measures)[0];
  const measure = data.measures[state.pairs], count = measure.value.shape[0];
  if (state.layer === null) state.layer = Math.floor(data.layers.length / 2);
  const layer = Math.min(state.layer, count - 1), slider = $("#layer");
  slider.max = count - 1;
  slider.value = layer;
  slider.disabled = count < 2;
  $("#layer-name").value = count < 2 ? "not by layer" : `${data.layers[layer]}, depth ${depthText(data.depth[layer])}`;
  const tags = ordered(data), index = (tag) => data.languages.indexOf(tag);
  if (index(state.a) < 0) state.a = study.pivot;
  if (index(state.b) < 0 || state.a === state.b) state.b = data.languages.find((tag) => tag !== state.a);
  for (const end of ["a", "b"]) fill($(`#map [data-state=${end}]`), tags.map((tag) => [tag, named(tag)]), state[end]);
  const rows = [], both = isSymmetric(measure);
  for (const a of tags) {
    for (const b of tags) {
      rows.push({ a, b, place_a: tags.indexOf(a), place_b: tags.indexOf(b), names: pairName(measure, a, b), value: a === b ? null : at(measure.value, layer, index(a), index(b)),
        chosen: (a === state.a && b === state.b) || (both && a === state.b && b === state.a) });
    }
  }
  const off = [];
  for (let k = 0; k < count; k++) data.languages.forEach((_, x) => data.languages.forEach((__, y) => {
    const value = at(measure.value, k, x, y);
    if (x !== y && value !== null) off.push(value);
  }));
  const span = (least, most) => off.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [least, most]);
  const [bottom, top] = span(0, 0.05);
  say($("#pairs"), `${study.measures[state.pairs]}: ${extremes(rows, "names")}`);
  draw($("#pairs"), "pairs", rows, { bottom, top }, (view) => view.addEventListener("click", (_, mark) => {
    const { a, b } = mark?.datum ?? {};
    if (a && b && a !== b) choose({ a, b });
  }));
  drawPair(data, measure, layer);
}
function drawPair(data, measure, layer) {
  const a = data.languages.indexOf(state.a), b = data.languages.indexOf(state.b);
  const count = measure.value.shape[0];
  const read = (end, k) => (measure[end] ? at(measure[end], k, a, b) : end === "null" ? measure.chance ?? null : null);
  const rows = [...Array(count).keys()].map((k) => ({ layer: data.layers[k], at: data.depth[k],
    value: read("value", k), low: read("low", k), high: read("high", k), null: read("null", k),
    threshold: read("threshold", k) ?? read("null", k), now: k === layer }));
  const here = rows[layer], said = (v) => (v === null ? "unknown" : v.toFixed(3).replace("-", "−"));
  const interval = here.low === null ? "" : ` [${said(here.low)}, ${said(here.high)}]`;
  $("#pair-text").textContent = `${pairName(measure, state.a, state.b)}: ${said(here.value)}${interval}` +
    (here.null === null ? "" : `; ${isSymmetric(measure) ? "shuffled items give" : "chance gives"} ${said(here.null)}`) +
    (count < 2 ? "." : `, at layer ${here.layer} (depth ${depthText(here.at)}).`);
  say($("#pair"), $("#pair-text").textContent);
  $("#pair").hidden = count < 2;
  if (count > 1) draw($("#pair"), "pair", rows);
}
if ($("#map")) {
  $("#layer").addEventListener("input", (event) => { state.layer = Number(event.target.value); drawMap(); });
}

// Choosing, and the address: #model/dataset/lens/item/language, .../map/measure/a/b, .../figures/name.
function choose(key, value) {
  Object.assign(state, typeof key === "string" ? { [key]: value } : key);
  const section = ["a", "b", "pairs"].includes(key) || typeof key === "object" ? "map" : ["item", "language"].includes(key) ? "lens" : null;
  if (section) {
    const rest = section === "map" ? [state.pairs, state.a, state.b] : [state.item, state.language];
    history.replaceState(null, "", "#" + [state.model, state.dataset, section, ...rest].map(encodeURIComponent).join("/"));
  }
  update();
}
for (const control of $$("[data-state]")) {
  control.addEventListener("change", () => { if (control.value) choose(control.dataset.state, control.value); });
}
function follow() {
  const [model, dataset, section, ...rest] = location.hash.slice(1).split("/").map((part) => {
    try { return decodeURIComponent(part); } catch { return part; }
  });
  if (dataset === undefined) return;
  if (Object.hasOwn(study.models, model)) state.model = model;
  if (datasets.includes(dataset)) state.dataset = dataset;
  if (section === "lens") [state.item, state.language] = [rest[0] ?? state.item, rest[1] ?? state.language];
  if (section === "map") [state.pairs, state.a, state.b] = [rest[0] ?? state.pairs, rest[1] ?? state.a, rest[2] ?? state.b];
  update();
  const figure = section === "figures" && $$("article.figure").find((x) => !x.hidden && x.dataset.name === rest[0]);
  (figure || document.getElementById(section))?.scrollIntoView();
}
window.addEventListener("hashchange", follow);

$("#theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

update();
follow();
Promise.allSettled(drawing).then(() => {
  drawing = null;
  document.documentElement.dataset.ready = "yes";
});
})();
