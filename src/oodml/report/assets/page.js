"use strict";
// The page around the figures: the reader's choices, and what follows from them.
const drawn = new Set();
const config = { displayModeBar: false, responsive: true };
const make = (tag, properties = {}, ...children) => { const node = Object.assign(document.createElement(tag), properties); node.append(...children); return node; };
const allFigures = () => [...document.querySelectorAll("figure[data-figure]")];
const isFolded = (part) => part.closest(".fold:not([open])") !== null;
const content = (figure) => figures[figure.dataset.figure](figure.querySelector(".canvas"));

function draw(figure) {
  const canvas = figure.querySelector(".canvas"), { traces, note, layout: look } = content(figure), key = figure.querySelector("[data-key]");
  drawn.add(figure);
  figure.querySelector("[data-note]").textContent = note;
  if (key) key.replaceChildren(...shown().map(keyEntry));
  const done = Plotly.react(canvas, traces, look, config);
  if (figure.querySelector("details").open) numbers(figure);
  if (!canvas.dataset.wired && figure.dataset.figure.startsWith("map-")) done.then(() => { wireCard(canvas); canvas.dataset.wired = "1"; });
  return done;
}

// The choices that the address contains after "#": selects, filters, toggles, hidden methods, and the theme.
const inputs = () => [...document.querySelectorAll("select[id], #filter, #only-differing")];
const valueOf = (input) => (input.type === "checkbox" ? String(input.checked) : input.value);
const initial = {};
let section = "", restoring = true;

function remember() {
  if (restoring) return;
  const choices = new URLSearchParams();
  inputs().forEach((input) => { if (valueOf(input) !== initial[input.id]) choices.set(input.id, valueOf(input)); });
  for (const name of ["few", "scale"]) if (state[name] !== initial[name]) choices.set(name, state[name]);
  state.hidden.forEach((name) => choices.append("hide", name));
  if (document.documentElement.dataset.theme) choices.set("theme", document.documentElement.dataset.theme);
  const text = [section, choices.toString()].filter(Boolean).join("&");
  try { history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search); } catch (error) { /* The address stays as it is. */ }
}

function restore() {
  inputs().forEach((input) => { initial[input.id] = valueOf(input); });
  Object.assign(initial, { few: state.few, scale: state.scale });
  const parts = location.hash.slice(1).split("&");
  section = parts[0].includes("=") ? "" : parts.shift();
  const choices = new URLSearchParams(parts.join("&"));
  choices.getAll("hide").filter((name) => name in methodOf).forEach((name) => state.hidden.add(name));
  if (["light", "dark"].includes(choices.get("theme"))) document.documentElement.dataset.theme = choices.get("theme");
  for (const name of ["few", "scale"]) if (choices.has(name)) [...document.querySelectorAll(`[data-${name}]`)].find((button) => button.dataset[name] === choices.get(name))?.click();
  for (const [id, value] of choices) {
    const input = inputs().find((one) => one.id === id);
    if (!input || (input.options && ![...input.options].some((option) => option.value === value))) continue;
    if (input.type === "checkbox") input.checked = value === "true"; else input.value = value;
    input.dispatchEvent(new Event(input.id === "filter" ? "input" : "change"));
  }
  chips();
  hideRows();
  show(section);
  restoring = false;
}

function show(id) {
  const part = document.getElementById(id);
  part?.querySelector(".fold")?.setAttribute("open", "");
  part?.scrollIntoView();
}

const redraw = () => Promise.all([...drawn].filter((figure) => !isFolded(figure)).map(draw));
const seen = new IntersectionObserver((entries) => entries.forEach((entry) => { if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); } }), { rootMargin: "400px" });

function drawRest() {
  // Figures that are not in view are drawn while the browser is idle; those of a folded section, when it is opened.
  const next = allFigures().find((figure) => !drawn.has(figure) && !isFolded(figure)), idle = globalThis.requestIdleCallback ?? ((task) => setTimeout(task, 50));
  if (next) draw(next).then(() => idle(drawRest));
}

function numbers(figure) {
  const { head, rows } = content(figure), cell = (value) => (typeof value === "number" && !Number.isInteger(value) ? text(value, 4) : value ?? "–");
  const most = 400, table = make("table", {}, make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col", textContent: name })))),
    make("tbody", {}, ...rows.slice(0, most).map((row) => make("tr", {}, ...row.map((value) => make("td", { textContent: cell(value) }))))));
  figure.querySelector("[data-numbers]").replaceChildren(table, ...(rows.length > most ? [make("p", { textContent: `${most} of ${rows.length} rows; the CSV contains all.` })] : []));
}

function save(figure, format) {
  const filename = `${study.data}-${figure.dataset.figure}`, canvas = figure.querySelector(".canvas");
  if (format !== "csv") return Plotly.downloadImage(canvas, { format, filename, width: canvas.clientWidth, height: canvas.clientHeight, scale: format === "png" ? 2 : 1 });
  const { head, rows } = content(figure), quoted = (value) => (/[",\n]/.test(value ?? "") ? `"${String(value).replaceAll('"', '""')}"` : value ?? "");
  const link = make("a", { href: URL.createObjectURL(new Blob([[head, ...rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n"], { type: "text/csv" })), download: `${filename}.csv` });
  link.click();
}

function mark(method) {
  const shapes = { circle: '<circle cx="5" cy="5" r="4.4"/>', square: '<path d="M1 1h8v8H1z"/>', diamond: '<path d="M5 0l5 5-5 5-5-5z"/>', "triangle-up": '<path d="M5 .6l5 8.8H0z"/>', "triangle-down": '<path d="M5 9.4L0 .6h10z"/>',
    pentagon: '<path d="M5 .2l4.8 3.6L8 9.6H2L.2 3.8z"/>', hexagon: '<path d="M5 0l4.4 2.5v5L5 10 .6 7.5v-5z"/>', star: '<path d="M5 0l1.3 3.5H10L7 5.8 8.1 9.6 5 7.3 1.9 9.6 3 5.8 0 3.5h3.7z"/>', x: '<path d="M2 .6L5 3.6 8 .6 9.4 2 6.4 5l3 3L8 9.4l-3-3-3 3L.6 8l3-3-3-3z"/>', cross: '<path d="M3.6 0h2.8v3.6H10v2.8H6.4V10H3.6V6.4H0V3.6h3.6z"/>' };
  return `<svg viewBox="0 0 10 10" fill="${colorOf(method.name)}" aria-hidden="true">${shapes[method.symbol] ?? shapes.circle}</svg>`;
}

function keyEntry(method) {
  const entry = make("span", {}, method.name + (method.baseline ? " (not trained)" : ""));
  entry.insertAdjacentHTML("afterbegin", mark(method));
  return entry;
}

function chips() {
  document.getElementById("methods").replaceChildren(...study.methods.map((method) => {
    const button = make("button", { type: "button", title: `Show or hide ${method.name}` }, make("span", { textContent: method.name }));
    button.insertAdjacentHTML("afterbegin", mark(method));
    button.setAttribute("aria-pressed", String(!state.hidden.has(method.name)));
    button.onclick = () => { state.hidden.has(method.name) ? state.hidden.delete(method.name) : state.hidden.add(method.name); button.setAttribute("aria-pressed", String(!state.hidden.has(method.name))); hideRows(); redraw(); };
    return button;
  }));
  document.querySelectorAll("th[data-method]").forEach((cell) => { const method = methodOf[cell.dataset.method]; cell.querySelector("svg")?.remove(); if (method) cell.insertAdjacentHTML("afterbegin", mark(method)); });
}

function hideRows() {
  document.querySelectorAll("th[data-method]").forEach((cell) => cell.parentElement.classList.toggle("off", state.hidden.has(cell.dataset.method)));
}

function chooser(id, names, label, choose) {
  const select = document.getElementById(id);
  if (!select) return;
  select.replaceChildren(...names.map((name) => make("option", { value: name, textContent: label(name) })));
  select.onchange = () => { choose(select.value); redraw(); };
}

function toggle(name, choose) {
  const buttons = document.querySelectorAll(`[data-${name}]`);
  buttons.forEach((button) => { button.onclick = () => { choose(button.dataset[name]); buttons.forEach((other) => other.setAttribute("aria-pressed", String(other.dataset[name] === button.dataset[name]))); redraw(); }; });
}

function controls() {
  const metric = document.getElementById("metric"), filter = document.getElementById("filter");
  metric.onchange = () => { state.metric = metric.value; document.querySelectorAll("[data-metric]").forEach((part) => { part.hidden = part.dataset.metric !== state.metric; }); redraw(); };
  chooser("measure", Object.keys(study.structure), labelOf, (name) => { state.measure = name; });
  toggle("few", (value) => { state.few = value; });
  toggle("scale", (value) => { state.scale = value; });
  document.getElementById("theme").onclick = () => { const next = isDark() ? "light" : "dark"; document.documentElement.dataset.theme = next; try { localStorage.setItem("oodml-theme", next); } catch (error) { /* The choice is lost on reload. */ } chips(); redraw(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { chips(); redraw(); });
  if (filter) filter.oninput = () => { const wanted = filter.value.toLowerCase().split(/\s+/); document.querySelectorAll("#run-table tbody tr").forEach((row) => { const line = row.textContent.toLowerCase(); row.hidden = !wanted.every((word) => line.includes(word)); }); };
}

function maps() {
  const box = document.querySelector("[data-map]");
  if (!study.map || !Object.keys(study.map.sides).length) { box.replaceChildren(make("p", { className: "note", textContent: "The map of classes needs splits.json and features.npz in the study's folder." })); return; }
  const names = splitNames.filter((name) => name in study.map.sides), choices = [...new Set([names[0], names.at(-1)])];
  const caption = make("p", { className: "caption", innerHTML: `One marker per class. <b style="color:var(--train)">●</b> training, <b style="color:var(--test)">◆</b> test. Position: the first two principal axes of the class means of the pretrained features (${Math.round(100 * study.map.explained)}% of their variance), the same on every map, so only the sides change. Hover over a marker to see its class.` });
  box.replaceChildren(caption, make("div", { className: "maps" }, ...choices.map((name, index) => {
    const id = `map-${index}`, select = make("select", { id: `${id}-split`, ariaLabel: "Split of this map" }, ...names.map((other) => make("option", { value: other, textContent: `Split ${other}`, selected: other === name })));
    state.sides[id] = name; figures[id] = mapFigure(id);
    const figure = make("figure", { className: "plot" });
    figure.dataset.figure = id;
    figure.innerHTML = `<div class="plot-head"><h3>${index ? "Hardest" : "Easiest"} split</h3></div><div class="canvas" role="img" aria-label="Map of the classes"></div><figcaption><span data-note></span></figcaption><details class="numbers"><summary>Numbers and downloads</summary><p class="tools"><button type="button" data-save="png">PNG</button> <button type="button" data-save="svg">SVG</button> <button type="button" data-save="csv">CSV</button></p><div class="scroll" tabindex="0" role="region" aria-label="Numbers of map ${index + 1}" data-numbers></div></details>`;
    figure.querySelector(".plot-head").append(select);
    select.onchange = () => { state.sides[id] = select.value; figure.querySelector("h3").textContent = { [names[0]]: "Easiest split", [names.at(-1)]: "Hardest split" }[select.value] ?? `Split ${select.value}`; draw(figure); };
    return figure;
  })));
}

function wireCard(canvas) {
  const card = document.getElementById("card");
  canvas.on("plotly_hover", (event) => {
    const row = event.points[0].customdata, sample = study.samples[study.map.samples[row]], group = study.map.superclasses?.[row];
    card.replaceChildren(...(sample ? [make("img", { src: sample, alt: "" })] : []), make("b", { textContent: study.map.classes[row] }), make("div", { textContent: [group, event.points[0].data.name].filter(Boolean).join(" · ") }));
    card.hidden = false;
    const at = event.event, x = Math.min(at.clientX + 14, innerWidth - card.offsetWidth - 8), y = Math.min(at.clientY + 14, innerHeight - card.offsetHeight - 8);
    Object.assign(card.style, { left: `${x}px`, top: `${y}px` });
  });
  canvas.on("plotly_unhover", () => { card.hidden = true; });
}

function thumb(id, name, verdict) {
  const image = study.images[id], box = make("span", { className: `thumb ${verdict ?? ""}`, title: name });
  box.append(image ? make("img", { src: image, alt: name, loading: "lazy" }) : make("span", { className: "name", textContent: name }));
  if (verdict) box.append(make("i", { textContent: verdict === "right" ? "✓" : "✗", ariaHidden: "true" }));
  return box;
}

function examples() {
  const box = document.querySelector("[data-examples]");
  if (!study.examples.length) { box.replaceChildren(make("p", { className: "note", textContent: "No run saved the vectors of its test images, so there are no neighbors to show." })); return; }
  const names = study.methods.map((method) => method.name).filter((name) => study.examples.some((one) => one.neighbors[name]));
  const ranked = (study.ags[study.ranked[0]] ?? []).map((row) => row.method).filter((name) => names.includes(name)), order = [...new Set([...ranked, ...names])];
  const choice = (id, label, options, value) => { const select = make("select", { id: `examples-${id}` }, ...options.map(([key, name]) => make("option", { value: key, textContent: name, selected: key === value }))); return [make("label", { textContent: `${label} ` }, select), select]; };
  const role = { [splitNames.at(-1)]: ", the hardest", [splitNames[0]]: ", the easiest" }, hardest = study.examples.at(-1).split;
  const [splitLabel, split] = choice("split", "Split", study.examples.map((one) => [one.split, `${one.split}${role[one.split] ?? ""}`]), hardest);
  const [firstLabel, first] = choice("a", "A", names.map((name) => [name, name]), order[0]);
  const [secondLabel, second] = choice("b", "B", [...names.map((name) => [name, name]), ["", "none"]], order[1] ?? "");
  const onlyDiffering = make("input", { type: "checkbox", id: "only-differing" }), filterLabel = make("label", {}, onlyDiffering, " Only where they differ"), list = make("div", { className: "panel" });
  const show = () => { const one = study.examples.find((other) => other.split === split.value); list.replaceChildren(...panel(one, [...new Set([first.value, second.value])].filter(Boolean))); list.classList.toggle("only-differing", onlyDiffering.checked); };
  [split, first, second, onlyDiffering].forEach((input) => { input.onchange = show; });
  show();
  box.replaceChildren(make("p", { className: "example-controls" }, splitLabel, firstLabel, secondLabel, filterLabel), list);
}

const isRight = (one, method, query, rank) => one.classes[method][query][rank] === one.query_classes[query];
const letter = (index) => "AB"[index];

function panel(one, chosen) {
  const methods = chosen.filter((name) => one.neighbors[name]), missing = chosen.filter((name) => !one.neighbors[name]);
  const notes = missing.map((name) => make("p", { className: "note", textContent: `${name} saved no vectors on this split.` }));
  if (!methods.length) return notes;
  const firsts = one.queries.map((_, query) => methods.map((method) => isRight(one, method, query, 0)));
  const count = (index) => firsts.filter((right) => right[index]).length, differ = firsts.filter((right) => right[0] !== right.at(-1)).length;
  const counts = methods.map((method, index) => `${letter(index)} (${method}) on ${count(index)}`).join(", ");
  const summary = `Of these ${one.queries.length} queries, the nearest image is correct for ${counts}${methods.length > 1 ? `; they differ on ${differ}` : ""}.`;
  const heads = make("div", { className: "duo heads", ariaHidden: "true" }, make("span"), ...methods.map((method, index) => { const head = make("b", {}, make("span", { textContent: `${letter(index)}  ${method}` })); head.insertAdjacentHTML("afterbegin", mark(methodOf[method])); return head; }));
  const rows = one.queries.map((id, query) => queryRow(one, methods, query, firsts[query]));
  const box = make("div", {}, heads, ...rows);
  box.style.setProperty("--m", methods.length);
  return [...notes, make("p", { className: "quiet", role: "status", textContent: summary }), box];
}

function outcome(right) {
  if (right.every(Boolean)) return right.length > 1 ? "both right" : "right";
  if (!right.some(Boolean)) return right.length > 1 ? "both wrong" : "wrong";
  return `only ${letter(right.indexOf(true))} right`;
}

function queryRow(one, methods, query, right) {
  const name = one.query_classes[query], verdict = outcome(right);
  const row = make("button", { type: "button", className: "row duo", ariaLabel: `Query of class ${name}: nearest image ${verdict}. Show larger.` },
    make("span", { className: "asked" }, thumb(one.queries[query], name), make("span", { className: "outcome", textContent: verdict })),
    ...methods.map((method, index) => {
      const ids = one.neighbors[method][query], strip = make("span", { className: "strip" }, make("b", { textContent: letter(index) }), ...ids.map((id, rank) => thumb(id, one.classes[method][query][rank], isRight(one, method, query, rank) ? "right" : "wrong")));
      strip.style.setProperty("--k", ids.length);
      return strip;
    }));
  row.classList.toggle("differs", verdict.startsWith("only"));
  row.onclick = () => enlarge(one, methods, query);
  return row;
}

function enlarge(one, methods, query) {
  const dialog = document.getElementById("closer"), entry = (id, name, note, verdict) => make("li", {}, thumb(id, name, verdict), make("b", { textContent: name }), make("div", { className: "quiet", textContent: note }));
  dialog.querySelector("div").replaceChildren(make("h3", { textContent: `A query of class ${one.query_classes[query]} on split ${one.split}` }), make("ul", {}, entry(one.queries[query], one.query_classes[query], "query")),
    ...methods.flatMap((method) => [make("h4", { textContent: method }), make("ul", {}, ...one.neighbors[method][query].map((id, rank) => { const verdict = isRight(one, method, query, rank) ? "right" : "wrong"; return entry(id, one.classes[method][query][rank], `neighbor ${rank + 1}, ${verdict}`, verdict); }))]));
  dialog.showModal();
}

document.addEventListener("click", (event) => { const format = event.target.dataset?.save; if (format) save(event.target.closest("figure"), format); });
document.addEventListener("toggle", (event) => {
  const figure = event.target.closest?.("figure");
  if (event.target.open && figure) numbers(figure);
  if (event.target.open && event.target.classList.contains("fold")) event.target.querySelectorAll("figure[data-figure]").forEach(draw);
}, true);
document.addEventListener("click", (event) => { const link = event.target.closest?.("a[href^='#']"); if (link) show(link.getAttribute("href").slice(1)); });
for (const kind of ["change", "input", "click"]) document.addEventListener(kind, () => setTimeout(remember));
addEventListener("hashchange", () => { if (location.hash.includes("=")) location.reload(); section = location.hash.slice(1).split("&")[0]; remember(); });
addEventListener("beforeprint", () => allFigures().forEach((figure) => { if (!drawn.has(figure) && !isFolded(figure)) draw(figure); }));
let waiting;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(redraw, 150); });
maps(); controls(); chips(); examples(); restore();
allFigures().forEach((figure) => seen.observe(figure));
addEventListener("load", () => setTimeout(drawRest, 300));
