"use strict";
// What each figure draws: a function of the data and the reader's choices, to traces and rows.
const study = JSON.parse(document.getElementById("data").textContent);
const state = { metric: study.metrics[0], hidden: new Set(), few: "gain", scale: "near", measure: Object.keys(study.structure)[0], left: Object.keys(study.forecast)[0], forecast: Object.keys(Object.values(study.forecast)[0] ?? {})[0], sides: {} };
const splitNames = study.splits.map((split) => split.split);
const methodOf = Object.fromEntries(study.methods.map((method) => [method.name, method]));
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";
const colourOf = (name) => methodOf[name][isDark() ? "dark" : "light"];
const shown = () => study.methods.filter((method) => !state.hidden.has(method.name));
const metricLabel = (metric) => document.querySelector(`#metric option[value="${CSS.escape(metric)}"]`)?.textContent ?? metric;
const text = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));
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

function curve(method, points, more = {}) {
  const hue = colourOf(method.name);
  return { x: points.map((point) => point.shift), y: points.map((point) => point.mean), name: method.name, mode: "lines+markers", type: "scatter",
    line: { color: hue, width: 2.2, dash: method.dash }, marker: { color: hue, size: 8, symbol: method.symbol, line: { color: css("--paper"), width: 1 } },
    customdata: points.map((point) => [point.low === null ? "one seed" : `${text(point.low)} to ${text(point.high)}`, point.split]),
    hovertemplate: "<b>%{y:.3f}</b>  (%{customdata[0]})<extra>%{fullData.name}</extra>", ...more };
}

function band(method, points, more = {}) {
  const sure = points.filter((point) => point.low !== null);
  return { x: [...sure.map((point) => point.shift), ...sure.map((point) => point.shift).reverse()],
    y: [...sure.map((point) => point.high), ...sure.map((point) => point.low).reverse()],
    fill: "toself", fillcolor: faint(colourOf(method.name), 0.13), line: { width: 0 }, mode: "lines", type: "scatter", hoverinfo: "skip", ...more };
}

function endLabels(canvas, ends, range) {
  // Names stand at the ends of their lines, pushed apart where they would overlap.
  if (narrow(canvas) || ends.length > 12) return [];
  const gap = ((range[1] - range[0]) * 16) / Math.max(canvas.clientHeight - 60, 100);
  const sorted = ends.map((end) => ({ ...end, at: end.y })).sort((one, other) => one.at - other.at);
  for (let turn = 0; turn < 40; turn++) sorted.slice(1).forEach((upper, place) => {
    const overlap = gap - (upper.at - sorted[place].at);
    if (overlap > 0) { upper.at += overlap / 2; sorted[place].at -= overlap / 2; }
  });
  return sorted.map((end) => ({ x: 1, xref: "paper", xanchor: "left", xshift: 8, y: end.at, text: end.name, showarrow: false, font: { color: colourOf(end.name), size: 13 } }));
}

function rangeOf(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (!known.length) return [0, 1];
  const [low, high] = [Math.min(...known), Math.max(...known)], room = (high - low || 0.1) * 0.06;
  return [low - room, high + room];
}

function labelRoom(canvas, names) {
  return narrow(canvas) ? 14 : 22 + 7.3 * Math.max(0, ...names.map((name) => name.length));
}

const shiftTitle = (canvas) => (narrow(canvas) ? "Shift (FID)" : "Shift between train and test classes (FID)");
const luck = (metric) => (["nmi", "ami", "f1"].includes(metric) ? "Random clusters" : "A random order of the images");
const figures = {
  generalization(canvas) {
    const curves = study.curves[state.metric] ?? {}, methods = shown().filter((method) => curves[method.name]);
    const all = methods.flatMap((method) => curves[method.name]);
    const values = all.flatMap((point) => [point.mean, point.low, point.high]);
    const traces = [...methods.map((method) => band(method, curves[method.name])), ...methods.map((method) => curve(method, curves[method.name]))];
    const said = [];
    if (all.some((point) => point.low === null)) said.push("Where only one seed was run there is no band.");
    if (state.metric === "recall@1") methods.filter((method) => study.published[method.name]).forEach((method) => {
      const paper = study.published[method.name];
      traces.push({ x: paper.shift, y: paper.value, mode: "lines", line: { color: colourOf(method.name), width: 1, dash: "dot" }, name: `${method.name}, published`, hovertemplate: "%{y:.3f}<extra>%{fullData.name}</extra>" });
      values.push(...paper.value);
      said[1] = "Thin dotted lines: the published curves, read off a figure of the paper.";
    });
    const chance = study.chance[state.metric] ?? [], known = chance.filter((value) => value !== null);
    if (known.length) {
      const [low, high] = rangeOf(values), fits = state.scale === "chance" || Math.min(...known) > low - 0.2 * (high - low);
      if (fits) {
        traces.push({ x: study.splits.map((split) => split.shift), y: chance, mode: "lines", line: { color: css("--quiet"), width: 1, dash: "dot" }, name: "chance", hovertemplate: "%{y:.3f}<extra>chance</extra>" });
        values.push(...known);
      }
      const [least, most] = [text(Math.min(...known)), text(Math.max(...known))];
      said.push(`${luck(state.metric)} would score ${least === most ? least : `${least} to ${most}`} (${fits ? "dotted grey" : "below the figure"}).`);
    } else said.push("No chance level is known for this metric.");
    const bounded = rangeOf(values), range = [Math.max(bounded[0], -0.03), Math.min(bounded[1], 1.03)];
    const ends = methods.map((method) => ({ name: method.name, y: curves[method.name].at(-1).mean }));
    return { traces, said: said.filter(Boolean).join(" "),
      layout: layout(canvas, { hovermode: "x unified", margin: { l: 56, r: labelRoom(canvas, methods.map((method) => method.name)), t: 12, b: 48 },
        xaxis: axis(shiftTitle(canvas), { showgrid: false, ticks: "outside", tickcolor: css("--line"), hoverformat: ".1f", unifiedhovertitle: { text: "FID %{x:.1f}" } }), yaxis: axis(metricLabel(state.metric), { range }),
        annotations: endLabels(canvas, ends, range) }),
      head: ["method", "split", "shift", "mean", "low", "high", "seeds"],
      rows: methods.flatMap((method) => curves[method.name].map((point) => [method.name, point.split, point.shift, point.mean, point.low, point.high, point.n])) };
  },

  ags(canvas) {
    const order = (study.ags[state.metric] ?? []).filter((row) => !state.hidden.has(row.method) && row.ags !== null).reverse();
    canvas.style.height = `${70 + 34 * Math.max(order.length, 1)}px`;
    const traces = order.map((row) => ({ x: [row.ags], y: [row.method], type: "scatter", mode: "markers", name: row.method,
      marker: { size: 11, color: colourOf(row.method), symbol: methodOf[row.method].symbol, line: { color: css("--paper"), width: 1.2 } },
      error_x: row.ags_low === null ? undefined : { type: "data", symmetric: false, array: [row.ags_high - row.ags], arrayminus: [row.ags - row.ags_low], color: colourOf(row.method), thickness: 2, width: 0 },
      hovertemplate: `<b>%{x:.3f}</b>${row.ags_low === null ? "" : `  (${text(row.ags_low)} to ${text(row.ags_high)})`}<extra></extra>` }));
    const chance = study.chance_ags[state.metric], known = order.length > 0 && chance !== undefined;
    const [low, high] = rangeOf(order.flatMap((row) => [row.ags, row.ags_low, row.ags_high])), near = known && (state.scale === "chance" || chance > low - 0.2 * (high - low));
    if (near) traces.push({ x: [chance, chance], y: [order[0].method, order.at(-1).method], mode: "lines", line: { color: css("--quiet"), width: 1, dash: "dot" }, name: "chance", hovertemplate: "chance %{x:.3f}<extra></extra>" });
    const chanced = known ? ` ${luck(state.metric)} would score ${text(chance)} (${near ? "dotted grey" : "left of the figure"}).` : "";
    const said = order.length ? (order.some((row) => row.ags_low === null) ? "A method without whisker has one seed, or no seed on every split." : "") : "AGS needs two splits, and a method on each of them.";
    return { traces, said: said + chanced, layout: layout(canvas, { margin: { l: 20, r: 24, t: 4, b: 44 }, xaxis: axis(`AGS of ${metricLabel(state.metric)}`), yaxis: axis("", { showgrid: true, type: "category", ticklabelstandoff: 8 }) }),
      head: ["method", "ags", "low", "high", "seeds"], rows: order.slice().reverse().map((row) => [row.method, row.ags, row.ags_low, row.ags_high, row.seeds]) };
  },

  "few-shot"(canvas) {
    const known = study.few_shot[state.metric]?.length > 0, metric = known ? state.metric : study.metrics[0];
    const rows = (study.few_shot[metric] ?? []).filter((row) => !state.hidden.has(row.method));
    const shots = [...new Set(rows.map((row) => row.shots))].sort((one, other) => one - other), stacked = narrow(canvas);
    const keys = state.few === "gain" ? ["gain"] : ["before", "after"], traces = [], annotations = [];
    canvas.style.height = stacked ? `${Math.max(shots.length, 1) * 270}px` : "";
    shots.forEach((count, place) => {
      const tag = place ? place + 1 : "", axes = { xaxis: `x${tag}`, yaxis: `y${tag}` };
      annotations.push({ text: `<b>${count} labelled images a class</b>`, showarrow: false, xref: `x${tag} domain`, yref: `y${tag} domain`, x: 0, y: 1.02, xanchor: "left", yanchor: "bottom" });
      shown().forEach((method) => keys.forEach((key) => {
        const points = rows.filter((row) => row.method === method.name && row.shots === count).map((row) => ({ shift: row.shift, split: row.split, mean: row[key], low: row[`${key}_low`], high: row[`${key}_high`] }));
        if (!points.length) return;
        const before = key === "before", hue = colourOf(method.name);
        if (!before) traces.push(band(method, points, axes));
        traces.push(curve(method, points, { ...axes, name: keys.length > 1 ? `${method.name}, ${key}` : method.name,
          ...(before ? { line: { color: hue, width: 1.4, dash: "dot" }, marker: { color: css("--paper"), size: 7, symbol: method.symbol, line: { color: hue, width: 1.5 } } } : {}) }));
      }));
    });
    const range = rangeOf([...rows.flatMap((row) => keys.flatMap((key) => [row[key], row[`${key}_low`], row[`${key}_high`]])), ...(state.few === "gain" ? [0] : [])]);
    const grid = stacked ? { rows: Math.max(shots.length, 1), columns: 1, pattern: "independent", ygap: 0.28 } : { rows: 1, columns: Math.max(shots.length, 1), pattern: "independent", xgap: 0.1 };
    const axes = {};
    shots.forEach((_, place) => {
      const tag = place ? place + 1 : "";
      axes[`xaxis${tag}`] = axis(stacked && place < shots.length - 1 ? "" : "Shift (FID)", { showgrid: false, ticks: "outside", tickcolor: css("--line"), hoverformat: ".1f" });
      axes[`yaxis${tag}`] = axis(place && !stacked ? "" : (state.few === "gain" ? `Gain in ${metricLabel(metric)}` : metricLabel(metric)), { range, zeroline: state.few === "gain", zerolinecolor: css("--quiet"), zerolinewidth: 1 });
    });
    const said = state.few === "gain" ? "Above the zero line, adapting helped." : "Open marks, dotted: before; full marks: after.";
    const instead = known ? "" : ` ${metricLabel(state.metric)} was not measured here; this is ${metricLabel(metric)}.`;
    return { traces, said: said + instead, layout: layout(canvas, { hovermode: "x unified", grid, annotations, margin: { l: 56, r: 16, t: 34, b: 48 }, ...axes }),
      head: ["method", "split", "shift", "shots", "before", "after", "gain", "gain low", "gain high", "interval over", "n"],
      rows: rows.map((row) => [row.method, row.split, row.shift, row.shots, row.before, row.after, row.gain, row.gain_low, row.gain_high, row.over, row.n]) };
  },

  forecast(canvas) {
    const rows = (study.forecast[state.left]?.[state.forecast] ?? []).filter((row) => !state.hidden.has(row.method)), range = rangeOf(rows.flatMap((row) => [row.truth, row.expected, row.low_80, row.high_80]));
    const traces = [{ x: range, y: range, mode: "lines", line: { color: css("--quiet"), width: 1, dash: "dot" }, hoverinfo: "skip" }, ...shown().map((method) => {
      const own = rows.filter((row) => row.method === method.name), hue = colourOf(method.name);
      return { x: own.map((row) => row.truth), y: own.map((row) => row.expected), type: "scatter", mode: "markers", name: method.name,
        marker: { size: 9, color: hue, symbol: method.symbol, line: { color: css("--paper"), width: 1 } },
        error_y: { type: "data", symmetric: false, array: own.map((row) => row.high_80 - row.expected), arrayminus: own.map((row) => row.expected - row.low_80), color: faint(hue, 0.5), thickness: 1.5, width: 0 },
        customdata: own.map((row) => [row.superclass ? `${row.superclass}, split ${row.split}` : `split ${row.split}`, text(row.low_80), text(row.high_80)]), hovertemplate: "%{fullData.name}, %{customdata[0]}<br>forecast <b>%{y:.3f}</b> (%{customdata[1]} to %{customdata[2]})<br>came out <b>%{x:.3f}</b><extra></extra>" };
    })];
    const inside = rows.filter((row) => row.low_80 <= row.truth && row.truth <= row.high_80).length, groups = state.left === "superclass";
    const name = groups ? "Recall@1" : metricLabel(study.metrics[0]), head = ["method", "split", ...(groups ? ["superclass"] : []), "fit", "shift", "truth", "expected", "low_80", "high_80", "low_95", "high_95"];
    const said = rows.length ? `${inside} of ${rows.length} whiskers (${Math.round((100 * inside) / rows.length)}%) reach the line.` : "";
    return { traces, said, layout: layout(canvas, { xaxis: axis(`${name} that came out`), yaxis: axis(`${name} forecast`, { range }) }), head, rows: rows.map((row) => head.map((key) => row[key])) };
  },

  structure(canvas) {
    const all = study.structure[state.measure] ?? [], fading = (split) => 1 - (0.72 * splitNames.indexOf(split)) / Math.max(splitNames.length - 1, 1);
    const methods = shown().filter((method) => all.some((row) => row.method === method.name));
    const traces = methods.map((method) => {
      const rows = all.filter((row) => row.method === method.name);
      return { x: rows.map((row) => row.measure), y: rows.map((row) => row.metric), type: "scatter", mode: "markers", name: method.name,
        marker: { size: 9, opacity: 1, symbol: method.symbol, color: rows.map((row) => faint(colourOf(method.name), fading(row.split))), line: { width: 1, color: colourOf(method.name) } },
        customdata: rows.map((row) => [row.split, row.seed]), hovertemplate: "%{fullData.name}, split %{customdata[0]}, seed %{customdata[1]}<br>%{x:.3f} → <b>%{y:.3f}</b><extra></extra>" };
    });
    return { traces, said: "", layout: layout(canvas, { xaxis: axis(state.measure), yaxis: axis(metricLabel(study.metrics[0])) }),
      head: ["method", "split", "seed", state.measure, study.metrics[0]], rows: all.filter((row) => !state.hidden.has(row.method)).map((row) => [row.method, row.split, row.seed, row.measure, row.metric]) };
  },

  progression(canvas) {
    const counts = study.splits.map((split) => (split.train === null ? "" : `${split.train} + ${split.test} classes`));
    const same = new Set(counts).size === 1;
    const traces = [{ x: splitNames, y: study.splits.map((split) => split.shift), type: "scatter", mode: "lines+markers+text", customdata: counts,
      line: { color: css("--line"), width: 1.5 }, marker: { color: css("--ink"), opacity: 1, size: splitNames.map((name) => (name === "0" ? 12 : 9)), symbol: splitNames.map((name) => (name === "0" ? "circle-open" : "circle")), line: { width: 2, color: css("--ink") } },
      text: study.splits.map((split) => split.shift.toFixed(1)), textposition: "top center", cliponaxis: false, hovertemplate: "split %{x}: FID <b>%{y:.2f}</b><br>%{customdata}<extra></extra>" }];
    const said = (splitNames.includes("0") ? "Ring: the standard split. " : "") + (same && counts[0] ? `Every split has ${counts[0]}.` : counts[0] ? "Splits differ in size, too: point at one to see how." : "");
    return { traces, said, layout: layout(canvas, { margin: { l: 56, r: 24, t: 26, b: 48 }, xaxis: axis("Split", { type: "category", showgrid: false }), yaxis: axis("FID of class means", { rangemode: "tozero" }) }),
      head: ["split", "shift", "train classes", "test classes", "test images"], rows: study.splits.map((split) => [split.split, split.shift, split.train, split.test, split.images]) };
  },
};

function mapFigure(which) {
  return (canvas) => {
    const map = study.map, sides = map.sides[state.sides[which]] ?? "";
    const ends = [map.x, map.y].map((values) => [Math.min(...values), Math.max(...values)]), reach = 0.54 * Math.max(...ends.map(([low, high]) => high - low));
    const traces = [["-", "in neither", "--line", "circle", 5], ["r", "train", "--train", "circle", 7], ["t", "test", "--test", "diamond", 8]].map(([letter, name, hue, symbol, size]) => {
      const places = [...sides].flatMap((side, place) => (side === letter ? [place] : []));
      return { x: places.map((place) => map.x[place]), y: places.map((place) => map.y[place]), customdata: places, name, type: "scatter", mode: "markers",
        marker: { color: css(hue), size, symbol, opacity: 0.85, line: { color: css("--paper"), width: 0.7 } }, hoverinfo: "none" };
    });
    const bare = ([low, high]) => ({ showticklabels: false, range: [(low + high) / 2 - reach, (low + high) / 2 + reach], showgrid: false, linecolor: css("--line"), mirror: true, showline: true, zeroline: false });
    return { traces, said: "", layout: layout(canvas, { margin: { l: 6, r: 6, t: 6, b: 6 }, xaxis: bare(ends[0]), yaxis: bare(ends[1]), dragmode: false }),
      head: ["class", "side", "x", "y"], rows: map.classes.map((name, place) => [name, { r: "train", t: "test", "-": "" }[sides[place]], map.x[place], map.y[place]]) };
  };
}
