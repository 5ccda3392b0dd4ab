"use strict";
// The page around the figures: what the reader can choose, and what follows from it.
const drawn = new Set();
const config = { displayModeBar: false, responsive: true };
const make = (tag, properties = {}, ...children) => { const node = Object.assign(document.createElement(tag), properties); node.append(...children); return node; };
const allFigures = () => document.querySelectorAll("figure[data-figure]");
const content = (figure) => figures[figure.dataset.figure](figure.querySelector(".canvas"));

function draw(figure) {
  const canvas = figure.querySelector(".canvas"), found = content(figure);
  drawn.add(figure);
  figure.querySelector("[data-said]").textContent = found.said;
  const done = Plotly.react(canvas, found.traces, found.layout, config);
  if (figure.querySelector("details").open) numbers(figure);
  if (!canvas.dataset.wired && figure.dataset.figure.startsWith("map-")) done.then(() => { wireCard(canvas); canvas.dataset.wired = "1"; });
  return done;
}

const redraw = () => Promise.all([...drawn].map(draw));
const seen = new IntersectionObserver((entries) => entries.forEach((entry) => { if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); } }), { rootMargin: "400px" });

function numbers(figure) {
  const { head, rows } = content(figure), cell = (value) => (typeof value === "number" && !Number.isInteger(value) ? text(value, 4) : value ?? "–");
  const most = 400, table = make("table", {}, make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col", textContent: name })))),
    make("tbody", {}, ...rows.slice(0, most).map((row) => make("tr", {}, ...row.map((value) => make("td", { textContent: cell(value) }))))));
  figure.querySelector("[data-numbers]").replaceChildren(table, ...(rows.length > most ? [make("p", { textContent: `${most} of ${rows.length} rows; all are in the CSV.` })] : []));
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
    pentagon: '<path d="M5 .2l4.8 3.6L8 9.6H2L.2 3.8z"/>', hexagon: '<path d="M5 0l4.4 2.5v5L5 10 .6 7.5v-5z"/>', star: '<path d="M5 0l1.3 3.5H10L7 5.8 8.1 9.6 5 7.3 1.9 9.6 3 5.8 0 3.5h3.7z"/>', x: '<path d="M2 .6L5 3.6 8 .6 9.4 2 6.4 5l3 3L8 9.4l-3-3-3 3L.6 8l3-3-3-3z"/>' };
  return `<svg viewBox="0 0 10 10" fill="${colourOf(method.name)}" aria-hidden="true">${shapes[method.symbol] ?? shapes.circle}</svg>`;
}

function chips() {
  document.getElementById("methods").replaceChildren(...study.methods.map((method) => {
    const button = make("button", { type: "button", title: `Show or hide ${method.name}` }, make("span", { textContent: method.name }));
    button.insertAdjacentHTML("afterbegin", mark(method));
    button.setAttribute("aria-pressed", String(!state.hidden.has(method.name)));
    button.onclick = () => { state.hidden.has(method.name) ? state.hidden.delete(method.name) : state.hidden.add(method.name); button.setAttribute("aria-pressed", String(!state.hidden.has(method.name))); hideRows(); redraw(); };
    return button;
  }));
  document.querySelectorAll("th[data-method]").forEach((cell) => cell.style.setProperty("--method", colourOf(cell.dataset.method)));
}

function hideRows() {
  document.querySelectorAll("th[data-method]").forEach((cell) => cell.parentElement.classList.toggle("off", state.hidden.has(cell.dataset.method)));
}

function chooser(id, names, choose) {
  const select = document.getElementById(id);
  if (!select) return;
  select.replaceChildren(...names.map((name) => make("option", { value: name, textContent: name.replaceAll("_", " ").replace("fid", "FID").replace(/^split$|^superclass$/, (kind) => ({ split: "each split", superclass: "each superclass" })[kind]) })));
  select.onchange = () => { choose(select.value); redraw(); };
}

function controls() {
  const metric = document.getElementById("metric"), filter = document.getElementById("filter");
  metric.onchange = () => { state.metric = metric.value; document.querySelectorAll("[data-metric]").forEach((part) => { part.hidden = part.dataset.metric !== state.metric; }); redraw(); };
  chooser("measure", Object.keys(study.structure), (name) => { state.measure = name; });
  const measures = () => chooser("forecast-measure", Object.keys(study.forecast[state.left] ?? {}), (name) => { state.forecast = name; });
  chooser("forecast-kind", Object.keys(study.forecast), (kind) => { state.left = kind; state.forecast = Object.keys(study.forecast[kind])[0]; measures(); });
  measures();
  document.querySelectorAll("[data-few]").forEach((button) => { button.onclick = () => { state.few = button.dataset.few; document.querySelectorAll("[data-few]").forEach((other) => other.setAttribute("aria-pressed", String(other === button))); redraw(); }; });
  document.querySelectorAll("[data-scale]").forEach((button) => { button.onclick = () => { state.scale = button.dataset.scale; document.querySelectorAll("[data-scale]").forEach((other) => other.setAttribute("aria-pressed", String(other.dataset.scale === state.scale))); redraw(); }; });
  document.getElementById("theme").onclick = () => { const next = isDark() ? "light" : "dark"; document.documentElement.dataset.theme = next; try { localStorage.setItem("oodml-theme", next); } catch (error) { /* not kept */ } chips(); redraw(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { chips(); redraw(); });
  if (filter) filter.oninput = () => { const wanted = filter.value.toLowerCase().split(/\s+/); document.querySelectorAll("#run-table tbody tr").forEach((row) => { const line = row.textContent.toLowerCase(); row.hidden = !wanted.every((word) => line.includes(word)); }); };
}

function maps() {
  const place = document.querySelector("[data-map]");
  if (!study.map || !Object.keys(study.map.sides).length) { place.replaceChildren(make("p", { className: "note", textContent: "The map of classes needs splits.json and features.npz in the study's folder." })); return; }
  const names = splitNames.filter((name) => name in study.map.sides), choices = [...new Set([names[0], names.at(-1)])];
  const caption = make("p", { className: "caption", innerHTML: `One mark a class. <b style="color:var(--train)">●</b> train, <b style="color:var(--test)">◆</b> test. Position: the first two principal axes of the class means of the frozen features (${Math.round(100 * study.map.explained)}% of their variance), the same on every map, so that only the sides change. Point at a mark to see its class.` });
  place.replaceChildren(caption, make("div", { className: "maps" }, ...choices.map((name, index) => {
    const id = `map-${index}`, select = make("select", { ariaLabel: "Split of this map" }, ...names.map((other) => make("option", { value: other, textContent: `Split ${other}`, selected: other === name })));
    state.sides[id] = name; figures[id] = mapFigure(id);
    const figure = make("figure", { className: "plot" });
    figure.dataset.figure = id;
    figure.innerHTML = `<div class="plot-head"><h3>${index ? "Hardest" : "Easiest"} split</h3></div><div class="canvas" role="img" aria-label="Map of the classes"></div><figcaption><span data-said></span></figcaption><details class="numbers"><summary>Numbers and downloads</summary><p class="tools"><button type="button" data-save="png">PNG</button> <button type="button" data-save="svg">SVG</button> <button type="button" data-save="csv">CSV</button></p><div class="scroll" tabindex="0" role="region" aria-label="Numbers of map ${index + 1}" data-numbers></div></details>`;
    figure.querySelector(".plot-head").append(select);
    select.onchange = () => { state.sides[id] = select.value; figure.querySelector("h3").textContent = { [names[0]]: "Easiest split", [names.at(-1)]: "Hardest split" }[select.value] ?? `Split ${select.value}`; draw(figure); };
    return figure;
  })));
}

function wireCard(canvas) {
  const card = document.getElementById("card");
  canvas.on("plotly_hover", (event) => {
    const place = event.points[0].customdata, sample = study.samples[study.map.samples[place]], group = study.map.superclasses?.[place];
    card.replaceChildren(...(sample ? [make("img", { src: sample, alt: "" })] : []), make("b", { textContent: study.map.classes[place] }), make("div", { textContent: [group, event.points[0].data.name].filter(Boolean).join(" · ") }));
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

function galleries() {
  const place = document.querySelector("[data-galleries]");
  if (!study.galleries.length) { place.replaceChildren(make("p", { className: "note", textContent: "No run kept the vectors of its test images, so no neighbours can be shown." })); return; }
  const names = study.methods.map((method) => method.name).filter((name) => study.galleries.some((found) => found.neighbours[name]));
  const ranked = (study.ags[study.metrics[0]] ?? []).map((row) => row.method).filter((name) => names.includes(name)), order = [...new Set([...ranked, ...names])];
  const choice = (id, label, options, value) => { const select = make("select", { id: `gallery-${id}` }, ...options.map(([key, told]) => make("option", { value: key, textContent: told, selected: key === value }))); return [make("label", { textContent: `${label} ` }, select), select]; };
  const role = { [splitNames.at(-1)]: ", the hardest", [splitNames[0]]: ", the easiest" }, hardest = study.galleries.at(-1).split;
  const [splitLabel, split] = choice("split", "Split", study.galleries.map((found) => [found.split, `${found.split}${role[found.split] ?? ""}`]), hardest);
  const [firstLabel, first] = choice("a", "A", names.map((name) => [name, name]), order[0]);
  const [secondLabel, second] = choice("b", "B", [...names.map((name) => [name, name]), ["", "none"]], order[1] ?? "");
  const box = make("div", { className: "panel" });
  const show = () => { const found = study.galleries.find((one) => one.split === split.value); box.replaceChildren(...panel(found, [...new Set([first.value, second.value])].filter(Boolean))); };
  [split, first, second].forEach((select) => { select.onchange = show; });
  show();
  place.replaceChildren(make("p", { className: "gallery-controls" }, splitLabel, firstLabel, secondLabel), box);
}

const isRight = (found, method, query, rank) => found.classes[method][query][rank] === found.query_classes[query];
const letter = (place) => "AB"[place];

function panel(found, chosen) {
  const methods = chosen.filter((name) => found.neighbours[name]), missing = chosen.filter((name) => !found.neighbours[name]);
  const notes = missing.map((name) => make("p", { className: "note", textContent: `${name} kept no vectors on this split.` }));
  if (!methods.length) return notes;
  const firsts = found.queries.map((_, query) => methods.map((method) => isRight(found, method, query, 0)));
  const count = (place) => firsts.filter((right) => right[place]).length, differ = firsts.filter((right) => right[0] !== right.at(-1)).length;
  const told = methods.map((method, place) => `${letter(place)} (${method}) on ${count(place)}`).join(", ");
  const summary = `Of these ${found.queries.length} queries the nearest image is right for ${told}${methods.length > 1 ? `; they differ on ${differ}` : ""}.`;
  const heads = make("div", { className: "duo heads", ariaHidden: "true" }, make("span"), ...methods.map((method, place) => { const head = make("b", {}, make("span", { textContent: `${letter(place)}  ${method}` })); head.insertAdjacentHTML("afterbegin", mark(methodOf[method])); return head; }));
  const rows = found.queries.map((id, query) => queryRow(found, methods, query, firsts[query]));
  const box = make("div", {}, heads, ...rows);
  box.style.setProperty("--m", methods.length);
  return [...notes, make("p", { className: "quiet", role: "status", textContent: summary }), box];
}

function outcome(right) {
  if (right.every(Boolean)) return right.length > 1 ? "both right" : "right";
  if (!right.some(Boolean)) return right.length > 1 ? "both wrong" : "wrong";
  return `only ${letter(right.indexOf(true))} right`;
}

function queryRow(found, methods, query, right) {
  const name = found.query_classes[query], said = outcome(right);
  const row = make("button", { type: "button", className: "row duo", ariaLabel: `Query of class ${name}: nearest image ${said}. Show larger.` },
    make("span", { className: "asked" }, thumb(found.queries[query], name), make("span", { className: "outcome", textContent: said })),
    ...methods.map((method, place) => {
      const ids = found.neighbours[method][query], strip = make("span", { className: "strip" }, make("b", { textContent: letter(place) }), ...ids.map((id, rank) => thumb(id, found.classes[method][query][rank], isRight(found, method, query, rank) ? "right" : "wrong")));
      strip.style.setProperty("--k", ids.length);
      return strip;
    }));
  row.classList.toggle("differs", said.startsWith("only"));
  row.onclick = () => enlarge(found, methods, query);
  return row;
}

function enlarge(found, methods, query) {
  const dialog = document.getElementById("closer"), entry = (id, name, note, verdict) => make("li", {}, thumb(id, name, verdict), make("b", { textContent: name }), make("div", { className: "quiet", textContent: note }));
  dialog.querySelector("div").replaceChildren(make("h3", { textContent: `A query of class ${found.query_classes[query]} on split ${found.split}` }), make("ul", {}, entry(found.queries[query], found.query_classes[query], "query")),
    ...methods.flatMap((method) => [make("h4", { textContent: method }), make("ul", {}, ...found.neighbours[method][query].map((id, rank) => { const verdict = isRight(found, method, query, rank) ? "right" : "wrong"; return entry(id, found.classes[method][query][rank], `${rank + 1}. neighbour, ${verdict}`, verdict); }))]));
  dialog.showModal();
}

document.addEventListener("click", (event) => { const format = event.target.dataset?.save; if (format) save(event.target.closest("figure"), format); });
document.addEventListener("toggle", (event) => { const figure = event.target.closest?.("figure"); if (figure && event.target.open) numbers(figure); }, true);
addEventListener("beforeprint", () => allFigures().forEach((figure) => { if (!drawn.has(figure)) draw(figure); }));
let waiting;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(redraw, 150); });
maps(); controls(); chips(); galleries();
allFigures().forEach((figure) => seen.observe(figure));
