"use strict";
// What each figure draws: a function of the data and the reader's choices that returns traces, layout, and rows.
const study = JSON.parse(document.getElementById("data").textContent);
const state = { metric: study.ranked[0], hidden: new Set(), few: "gain", scale: "near", measure: Object.keys(study.structure)[0], sides: {} };
const MIN_BAND_SEEDS = 3; // With fewer seeds, figures show the seeds as dots: a t interval is too wide to be of use.
const splitNames = study.splits.map((split) => split.split);
const methodOf = Object.fromEntries(study.methods.map((method) => [method.name, method]));
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";
const colorOf = (name) => methodOf[name][isDark() ? "dark" : "light"];
const shown = () => study.methods.filter((method) => !state.hidden.has(method.name));
const labelOf = (name) => study.metrics[name]?.label ?? study.measures[name] ?? name;
const isMissing = (value) => value === null || value === undefined;
const text = (value, digits = 3) => (isMissing(value) ? "–" : value.toFixed(digits).replace("-", "−"));
const isPercent = (metric) => study.metrics[metric]?.percent ?? false;
// Levels of a metric are shown in percent, and differences of levels in points.
const level = (value, metric) => (isMissing(value) ? "–" : isPercent(metric) ? `${text(100 * value, 1)}%` : text(value));
const hoverFormat = (metric) => (isPercent(metric) ? ".1%" : ".3f");
const levelAxis = (title, metric, more = {}) => axis(title, isPercent(metric) ? { tickformat: ".1~%", ...more } : more);
const faint = (hex, alpha) => `rgba(${[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(",")},${alpha})`;
const narrow = (canvas) => canvas.clientWidth < 620;

function axis(title, more = {}) {
  return { title: { text: title, standoff: 10, font: { size: 13 } }, gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false,
    tickfont: { size: 12 }, spikethickness: 1, spikedash: "dot", spikecolor: css("--quiet"), automargin: true, ...more };
}

function layout(canvas, more = {}) {
  return { font: { family: css("--sans"), size: 13, color: css("--ink") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 56, r: 16, t: 12, b: 48 }, showlegend: false, hovermode: "closest",
    hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--line"), font: { family: css("--sans"), size: 12.5, color: css("--ink") } },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", ...more };
}

const escaped = (name) => name.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function curve(method, points, metric, more = {}) {
  const color = colorOf(method.name);
  return { x: points.map((point) => point.shift), y: points.map((point) => point.mean), name: escaped(method.name), mode: "lines+markers", type: "scatter",
    line: { color, width: 2.2, dash: method.dash }, marker: { color, size: 8, symbol: method.symbol, line: { color: css("--paper"), width: 1 } },
    customdata: points.map((point) => [point.low === null ? (method.baseline ? "not trained" : "no interval") : `${level(point.low, metric)} to ${level(point.high, metric)}`, point.split]),
    hovertemplate: `<b>%{y:${hoverFormat(metric)}}</b>  (%{customdata[0]})<extra>%{fullData.name}</extra>`, ...more };
}

function band(method, points, more = {}) {
  const known = points.filter((point) => point.low !== null && point.n >= MIN_BAND_SEEDS);
  return { x: [...known.map((point) => point.shift), ...known.map((point) => point.shift).reverse()],
    y: [...known.map((point) => point.high), ...known.map((point) => point.low).reverse()],
    fill: "toself", fillcolor: faint(colorOf(method.name), shown().length > 6 ? 0.06 : 0.13), line: { width: 0 }, mode: "lines", type: "scatter", hoverinfo: "skip", ...more };
}

function seedDots(method, rows) {
  return { x: rows.map((row) => row.shift), y: rows.map((row) => row.value), mode: "markers", type: "scatter", hoverinfo: "skip",
    marker: { color: faint(colorOf(method.name), 0.55), size: 5 } };
}

function endLabels(canvas, ends, range) {
  // Names are placed at the ends of their lines and moved apart where they would overlap.
  if (narrow(canvas) || ends.length > 12) return [];
  const gap = ((range[1] - range[0]) * 16) / Math.max(canvas.clientHeight - 60, 100);
  const sorted = ends.map((end) => ({ ...end, at: end.y })).sort((one, other) => one.at - other.at);
  for (let turn = 0; turn < 40; turn++) sorted.slice(1).forEach((upper, index) => {
    const overlap = gap - (upper.at - sorted[index].at);
    if (overlap > 0) { upper.at += overlap / 2; sorted[index].at -= overlap / 2; }
  });
  return sorted.map((end) => ({ x: 1, xref: "paper", xanchor: "left", xshift: 8, y: end.at, text: escaped(shortened(end.name, 22)), showarrow: false, font: { color: colorOf(end.name), size: 13 } }));
}

function rangeOf(values) {
  const known = values.filter((value) => !isMissing(value));
  if (!known.length) return [0, 1];
  const [low, high] = [Math.min(...known), Math.max(...known)], room = (high - low || 0.1) * 0.06;
  return [low - room, high + room];
}

function boundedRange(values, metric) {
  const [low, high] = rangeOf(values), [least, most] = study.metrics[metric].bounds;
  return [isMissing(least) ? low : Math.max(low, least - 0.03), isMissing(most) ? high : Math.min(high, most + 0.03)];
}

const shortened = (name, length) => (name.length > length ? `${name.slice(0, length - 1)}…` : name);
const labelRoom = (canvas, names) => (narrow(canvas) ? 14 : 22 + 7.3 * Math.min(22, Math.max(0, ...names.map((name) => name.length))));
const shiftTitle = (canvas) => (narrow(canvas) ? "Shift (FID)" : "Shift between training and test classes (FID)");
const chanceName = (metric) => { const name = study.metrics[metric].chance ?? "chance"; return name[0].toUpperCase() + name.slice(1); };
const chanceLine = (x, y, metric) => ({ x, y, mode: "lines", line: { color: css("--quiet"), width: 1, dash: "dot" }, name: "chance", hovertemplate: `%{${x[0] === x.at(-1) ? "x" : "y"}:${hoverFormat(metric)}}<extra>chance</extra>` });

const figures = {
  generalization(canvas) {
    const metric = state.metric, curves = study.curves[metric] ?? {}, methods = shown().filter((method) => curves[method.name]);
    const all = methods.flatMap((method) => curves[method.name]), few = methods.filter((method) => !method.baseline && curves[method.name].some((point) => point.n > 1 && point.n < MIN_BAND_SEEDS));
    const dots = few.map((method) => study.seeds[metric]?.[method.name] ?? []);
    const values = [...all.flatMap((point) => (point.n < MIN_BAND_SEEDS ? [point.mean] : [point.mean, point.low, point.high])), ...dots.flat().map((row) => row.value)];
    const traces = [...methods.map((method) => band(method, curves[method.name])), ...few.map((method, index) => seedDots(method, dots[index])), ...methods.map((method) => curve(method, curves[method.name], metric))];
    const notes = [];
    if (few.length) notes.push("Dots: seeds, where there are fewer than three.");
    if (methods.some((method) => !method.baseline && curves[method.name].some((point) => point.n === 1))) notes.push("One seed gives no confidence interval.");
    const published = methods.filter((method) => study.published[metric]?.[method.name]);
    published.forEach((method) => {
      const paper = study.published[metric][method.name], y = paper.map((point) => point.value);
      traces.push({ x: paper.map((point) => point.shift), y, mode: "lines", line: { color: colorOf(method.name), width: 1, dash: "dot" }, name: `${escaped(method.name)}, published`, hovertemplate: `%{y:${hoverFormat(metric)}}<extra>%{fullData.name}</extra>` });
      values.push(...y);
    });
    if (published.length) notes.push("Thin dotted lines: the published curves, read from a figure of the paper.");
    const named = metric === "recall@1" ? methods.filter((method) => study.curves.names_known?.[method.name]) : [];
    named.forEach((method) => {
      const points = study.curves.names_known[method.name], y = points.map((point) => point.mean);
      traces.push({ x: points.map((point) => point.shift), y, mode: "lines", line: { color: colorOf(method.name), width: 1.5, dash: "dashdot" }, name: `${escaped(method.name)}, names known`, hovertemplate: `%{y:${hoverFormat(metric)}}<extra>%{fullData.name}</extra>` });
      values.push(...y);
    });
    if (named.length) notes.push("Dash-dotted: the share of images whose nearest class name, as text, is their class's.");
    const chance = study.chance[metric] ?? [], known = chance.map((row) => row.chance);
    if (known.length) {
      const [low, high] = rangeOf(values), fits = state.scale === "chance" || Math.min(...known) > low - 0.2 * (high - low);
      if (fits) { traces.push(chanceLine(chance.map((row) => row.shift), known, metric)); values.push(...known); }
      const [least, most] = [level(Math.min(...known), metric), level(Math.max(...known), metric)];
      notes.push(`${chanceName(metric)}: ${least === most ? least : `${least} to ${most}`} (${fits ? "dotted gray" : "below the figure"}).`);
    } else notes.push("No chance level is known for this metric.");
    const range = boundedRange(values, metric), ends = methods.map((method) => ({ name: method.name, y: curves[method.name].at(-1).mean }));
    return { traces, note: notes.join(" "),
      layout: layout(canvas, { hovermode: "x unified", margin: { l: 56, r: labelRoom(canvas, methods.map((method) => method.name)), t: 12, b: 48 },
        xaxis: axis(shiftTitle(canvas), { showgrid: false, ticks: "outside", tickcolor: css("--line"), hoverformat: ".1f", unifiedhovertitle: { text: "FID %{x:.1f}" } }), yaxis: levelAxis(labelOf(metric), metric, { range }),
        annotations: endLabels(canvas, ends, range) }),
      head: ["method", "split", "shift", "mean", "low", "high", "seeds"],
      rows: methods.flatMap((method) => curves[method.name].map((point) => [method.name, point.split, point.shift, point.mean, point.low, point.high, point.n])) };
  },

  ags(canvas) {
    const metric = state.metric, order = (study.ags[metric] ?? []).filter((row) => !state.hidden.has(row.method) && row.ags !== null).reverse();
    const stacked = narrow(canvas), isFew = (row) => row.trains && row.seeds < MIN_BAND_SEEDS, seedsOf = (row) => study.ags_by_seed[metric]?.[row.method]?.map((seed) => seed.ags).filter((ags) => ags !== null) ?? [];
    canvas.style.height = `${70 + (stacked ? 46 : 34) * Math.max(order.length, 1)}px`;
    const dots = order.filter((row) => isFew(row) && row.seeds > 1).map((row) => ({ x: seedsOf(row), y: seedsOf(row).map(() => row.method), type: "scatter", mode: "markers", hoverinfo: "skip", marker: { size: 5, color: faint(colorOf(row.method), 0.55) } }));
    const traces = [...dots, ...order.map((row) => {
      const whisker = row.ags_low !== null && !isFew(row);
      return { x: [row.ags], y: [row.method], type: "scatter", mode: "markers", name: escaped(row.method),
        marker: { size: 11, color: colorOf(row.method), symbol: methodOf[row.method].symbol, line: { color: css("--paper"), width: 1.2 } },
        error_x: whisker ? { type: "data", symmetric: false, array: [row.ags_high - row.ags], arrayminus: [row.ags - row.ags_low], color: colorOf(row.method), thickness: 2, width: 0 } : undefined,
        hovertemplate: `<b>%{x:${hoverFormat(metric)}}</b>${row.ags_low === null ? "" : `  (${level(row.ags_low, metric)} to ${level(row.ags_high, metric)})`}<extra></extra>` };
    })];
    const chance = study.chance_ags[metric], known = order.length > 0 && chance !== undefined, values = order.flatMap((row) => (isFew(row) ? [row.ags, ...seedsOf(row)] : [row.ags, row.ags_low, row.ags_high]));
    const [low, high] = rangeOf(values), near = known && (state.scale === "chance" || chance > low - 0.2 * (high - low));
    if (near) traces.push(chanceLine([chance, chance], [order[0].method, order.at(-1).method], metric));
    const notes = [];
    if (!order.length) notes.push("AGS needs two splits, and a method on each of them.");
    if (dots.length) notes.push("Small dots: seeds, where there are fewer than three.");
    if (order.some((row) => row.trains && row.seeds < 2)) notes.push("One seed gives no confidence interval.");
    if (known) notes.push(`${chanceName(metric)}: ${level(chance, metric)} (${near ? "dotted gray" : "left of the figure"}).`);
    const names = stacked ? order.map((row) => ({ x: 0, xref: "paper", xanchor: "left", y: row.method, yshift: 17, text: escaped(shortened(row.method, 40)), showarrow: false, font: { size: 12, color: colorOf(row.method) } })) : [];
    const ticks = stacked ? { showticklabels: false } : { tickvals: order.map((row) => row.method), ticktext: order.map((row) => escaped(shortened(row.method, 28))) };
    return { traces, note: notes.join(" "), layout: layout(canvas, { margin: { l: 20, r: 24, t: 12, b: 44 }, annotations: names, xaxis: levelAxis(`AGS of ${labelOf(metric)}`, metric, order.length ? { range: boundedRange(near ? [...values, chance] : values, metric) } : {}), yaxis: axis("", { showgrid: true, type: "category", categoryorder: "array", categoryarray: order.map((row) => row.method), ticklabelstandoff: 8, ...ticks }) }),
      head: ["method", "ags", "low", "high", "seeds"], rows: order.slice().reverse().map((row) => [row.method, row.ags, row.ags_low, row.ags_high, row.seeds]) };
  },

  "few-shot"(canvas) {
    const known = study.few_shot[state.metric]?.length > 0, metric = known ? state.metric : Object.keys(study.few_shot)[0];
    const rows = (study.few_shot[metric] ?? []).filter((row) => !state.hidden.has(row.method));
    const shots = [...new Set(rows.map((row) => row.shots))].sort((one, other) => one - other), stacked = narrow(canvas);
    const isGain = state.few === "gain", keys = isGain ? ["gain"] : ["before", "after"], traces = [], annotations = [];
    const scale = isGain && isPercent(metric) ? 100 : 1, unit = scale === 100 ? " points" : "", scaled = (value) => (isMissing(value) ? null : scale * value);
    const points = (method, count, key) => rows.filter((row) => row.method === method.name && row.shots === count).map((row) => ({ shift: row.shift, split: row.split, mean: scaled(row[key]), low: scaled(row[`${key}_low`]), high: scaled(row[`${key}_high`]), n: row.n }));
    const gainText = (list) => (isGain ? { customdata: list.map((point) => [point.low === null ? "no interval" : `${text(point.low, 1)} to ${text(point.high, 1)}`]), hovertemplate: `<b>%{y:${scale === 100 ? ".1f" : ".3f"}}${unit}</b>  (%{customdata[0]})<extra>%{fullData.name}</extra>` } : {});
    canvas.style.height = stacked ? `${Math.max(shots.length, 1) * 270}px` : "";
    shots.forEach((count, index) => {
      const tag = index ? index + 1 : "", axes = { xaxis: `x${tag}`, yaxis: `y${tag}` };
      annotations.push({ text: `<b>${count} labeled images per class</b>`, showarrow: false, xref: `x${tag} domain`, yref: `y${tag} domain`, x: 0, y: 1.02, xanchor: "left", yanchor: "bottom" });
      shown().forEach((method) => keys.forEach((key) => {
        const list = points(method, count, key);
        if (!list.length) return;
        const before = key === "before", color = colorOf(method.name);
        if (!before) traces.push(band(method, list, axes));
        traces.push(curve(method, list, metric, { ...axes, ...gainText(list), name: keys.length > 1 ? `${escaped(method.name)}, ${key}` : escaped(method.name),
          ...(before ? { line: { color, width: 1.4, dash: "dot" }, marker: { color: css("--paper"), size: 7, symbol: method.symbol, line: { color, width: 1.5 } } } : {}) }));
      }));
    });
    const drawn = rows.flatMap((row) => keys.flatMap((key) => (row.n < MIN_BAND_SEEDS ? [row[key]] : [row[key], row[`${key}_low`], row[`${key}_high`]])));
    const range = rangeOf([...drawn, ...(isGain ? [0] : [])].map(scaled)), n = Math.max(shots.length, 1);
    const grid = stacked ? { rows: n, columns: 1, pattern: "independent", ygap: 0.28 } : { rows: 1, columns: n, pattern: "independent", xgap: 0.1 };
    const axes = {}, title = metric ? (isGain ? `Gain in ${labelOf(metric)}${unit && ","}${unit}` : labelOf(metric)) : "", valueAxis = isGain ? axis : (label, more) => levelAxis(label, metric, more);
    shots.forEach((_, index) => {
      const tag = index ? index + 1 : "";
      axes[`xaxis${tag}`] = axis(stacked && index < shots.length - 1 ? "" : "Shift (FID)", { showgrid: false, ticks: "outside", tickcolor: css("--line"), hoverformat: ".1f" });
      axes[`yaxis${tag}`] = valueAxis(index && !stacked ? "" : title, { range, zeroline: isGain, zerolinecolor: css("--quiet"), zerolinewidth: 1 });
    });
    const note = isGain ? "Above zero, adaptation helped." : "Open markers: before. Filled markers: after.";
    const instead = known ? "" : ` ${labelOf(state.metric)} was not measured here; this is ${labelOf(metric)}.`;
    return { traces, note: note + instead, layout: layout(canvas, { hovermode: "x unified", grid, annotations, margin: { l: 56, r: 16, t: 34, b: 48 }, ...axes }),
      head: ["method", "split", "shift", "shots", "before", "after", "gain", "gain low", "gain high", "interval over", "n"],
      rows: rows.map((row) => [row.method, row.split, row.shift, row.shots, row.before, row.after, row.gain, row.gain_low, row.gain_high, row.over, row.n]) };
  },

  gains(canvas) {
    const methods = shown().filter((method) => study.gains[method.name]), seeds = (method, split) => study.curves["recall@1"]?.[method.name]?.find((point) => point.split === split)?.n ?? 0;
    const points = (method) => study.gains[method.name].map((row) => ({ ...row, n: seeds(method, row.split), mean: row.gain, low: row.gain_low, high: row.gain_high }));
    const all = methods.flatMap(points), range = rangeOf([0, ...all.flatMap((row) => (row.low === null || row.n < MIN_BAND_SEEDS ? [row.mean] : [row.mean, row.low, row.high]))].map((value) => 100 * value));
    const scaled = (method) => points(method).map((row) => ({ ...row, mean: 100 * row.mean, low: row.low === null ? null : 100 * row.low, high: row.high === null ? null : 100 * row.high }));
    const template = { hovertemplate: "<b>%{y:.1f}</b> points<extra>%{fullData.name}</extra>" };
    const traces = [...methods.map((method) => band(method, scaled(method))), ...methods.map((method) => curve(method, scaled(method), "recall@1", template))];
    const head = ["method", "split", "shift", "value", "level", "gain", "gain_low", "gain_high", "equal"];
    return { traces, note: "Above zero, training helps.", layout: layout(canvas, { hovermode: "x unified", margin: { l: 56, r: labelRoom(canvas, methods.map((method) => method.name)), t: 12, b: 48 },
      xaxis: axis(shiftTitle(canvas), { showgrid: false, ticks: "outside", tickcolor: css("--line"), hoverformat: ".1f" }), yaxis: axis("Gain in Recall@1, points", { range, zeroline: true, zerolinecolor: css("--quiet"), zerolinewidth: 1 }),
      annotations: endLabels(canvas, methods.map((method) => ({ name: method.name, y: scaled(method).at(-1).mean })), range) }),
      head, rows: all.map((row) => head.map((key) => row[key])) };
  },

  structure(canvas) {
    const all = study.structure[state.measure] ?? [], metric = study.ranked[0], fading = (split) => 1 - (0.72 * splitNames.indexOf(split)) / Math.max(splitNames.length - 1, 1);
    const methods = shown().filter((method) => all.some((row) => row.method === method.name));
    const traces = methods.map((method) => {
      const rows = all.filter((row) => row.method === method.name);
      return { x: rows.map((row) => row.x), y: rows.map((row) => row.y), type: "scatter", mode: "markers", name: escaped(method.name),
        marker: { size: 9, opacity: 1, symbol: method.symbol, color: rows.map((row) => faint(colorOf(method.name), fading(row.split))), line: { width: 1, color: colorOf(method.name) } },
        customdata: rows.map((row) => [row.split, row.seed]), hovertemplate: `%{fullData.name}, split %{customdata[0]}, seed %{customdata[1]}<br>%{x:.3f} → <b>%{y:${hoverFormat(metric)}}</b><extra></extra>` };
    });
    return { traces, note: "", layout: layout(canvas, { xaxis: axis(labelOf(state.measure)), yaxis: levelAxis(labelOf(metric), metric) }),
      head: ["method", "split", "seed", state.measure, metric], rows: all.filter((row) => !state.hidden.has(row.method)).map((row) => [row.method, row.split, row.seed, row.x, row.y]) };
  },

  progression(canvas) {
    const counts = study.splits.map((split) => (split.train === null ? "" : `${split.train} training and ${split.test} test classes`));
    const same = new Set(counts).size === 1, isStandard = (name) => name === study.standard;
    const traces = [{ x: splitNames, y: study.splits.map((split) => split.shift), type: "scatter", mode: "lines+markers+text", customdata: counts,
      line: { color: css("--line"), width: 1.5 }, marker: { color: css("--ink"), opacity: 1, size: splitNames.map((name) => (isStandard(name) ? 12 : 9)), symbol: splitNames.map((name) => (isStandard(name) ? "circle-open" : "circle")), line: { width: 2, color: css("--ink") } },
      text: study.splits.map((split) => split.shift.toFixed(1)), textposition: "top center", cliponaxis: false, hovertemplate: "split %{x}: FID <b>%{y:.2f}</b><br>%{customdata}<extra></extra>" }];
    const note = (study.standard === null ? "" : "Ring: the standard split. ") + (same && counts[0] ? `Every split has ${counts[0]}.` : counts[0] ? "Splits also differ in size; hover over one to see it." : "");
    return { traces, note, layout: layout(canvas, { margin: { l: 56, r: 24, t: 26, b: 48 }, xaxis: axis("Split", { type: "category", showgrid: false }), yaxis: axis("FID of class means", { rangemode: "tozero" }) }),
      head: ["split", "shift", "training classes", "test classes", "test images"], rows: study.splits.map((split) => [split.split, split.shift, split.train, split.test, split.images]) };
  },
};

function mapFigure(id) {
  return (canvas) => {
    const map = study.map, sides = map.sides[state.sides[id]] ?? "";
    const ends = [map.x, map.y].map((values) => [Math.min(...values), Math.max(...values)]), reach = 0.54 * Math.max(...ends.map(([low, high]) => high - low));
    const traces = [["-", "in neither", "--line", "circle", 5], ["r", "training", "--train", "circle", 7], ["t", "test", "--test", "diamond", 8]].map(([letter, name, color, symbol, size]) => {
      const rows = [...sides].flatMap((side, row) => (side === letter ? [row] : []));
      return { x: rows.map((row) => map.x[row]), y: rows.map((row) => map.y[row]), customdata: rows, name, type: "scatter", mode: "markers",
        marker: { color: css(color), size, symbol, opacity: 0.85, line: { color: css("--paper"), width: 0.7 } }, hoverinfo: "none" };
    });
    const bare = ([low, high]) => ({ showticklabels: false, range: [(low + high) / 2 - reach, (low + high) / 2 + reach], showgrid: false, linecolor: css("--line"), mirror: true, showline: true, zeroline: false });
    return { traces, note: "", layout: layout(canvas, { margin: { l: 6, r: 6, t: 6, b: 6 }, xaxis: bare(ends[0]), yaxis: bare(ends[1]), dragmode: false }),
      head: ["class", "side", "x", "y"], rows: map.classes.map((name, row) => [name, { r: "train", t: "test", "-": "" }[sides[row]], map.x[row], map.y[row]]) };
  };
}
