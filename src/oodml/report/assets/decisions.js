// Figures of decisions: what was chosen on validation classes, applied to every split.
figures["open-set"] = (canvas) => {
  const [accepts, rejects] = ["false_accepts", "false_rejects"].map((name) => study.curves[name] ?? {});
  const methods = shown().filter((method) => accepts[method.name] && rejects[method.name]);
  const shifts = methods.flatMap((method) => accepts[method.name].map((point) => point.shift));
  const values = methods.flatMap((method) => [...accepts[method.name], ...rejects[method.name]].map((point) => point.mean));
  const traces = methods.flatMap((method) => [curve(method, accepts[method.name], "false_accepts"),
    curve(method, rejects[method.name], "false_rejects", { name: `${escaped(method.name)}, rejects`, opacity: 0.7, line: { color: colorOf(method.name), width: 1.4, dash: "dot" } })]);
  if (shifts.length) traces.push({ x: [Math.min(...shifts), Math.max(...shifts)], y: [0.05, 0.05], mode: "lines", hoverinfo: "skip", line: { color: css("--quiet"), width: 1 } });
  return { traces, note: "",
    layout: layout(canvas, { hovermode: "x unified", xaxis: axis(shiftTitle(canvas), { hoverformat: ".1f", showgrid: false }), yaxis: levelAxis("Share of queries", "false_accepts", { range: boundedRange([0, 0.05, ...values], "false_accepts") }) }),
    head: ["method", "split", "shift", "false accepts", "false rejects"],
    rows: methods.flatMap((method) => accepts[method.name].map((point, index) => [method.name, point.split, point.shift, point.mean, rejects[method.name][index]?.mean])) };
};

figures.compression = (canvas) => {
  const methods = shown().filter((method) => study.compression[method.name]);
  const traces = methods.flatMap((method) => ["near", "far"].map((side) => {
    const rows = study.compression[method.name], full = study.curves["recall@1"][method.name].at(side === "near" ? 0 : -1);
    const points = [{ size: 1, value: full.mean, code: "float32" }, ...rows.map((row) => ({ size: row.size, value: row[side], code: labelOf(row.code) }))];
    const color = colorOf(method.name), best = points.filter((point) => points.every((other) => other.size !== point.size || other.value <= point.value)).sort((one, other) => one.size - other.size);
    return [
      { x: best.map((point) => point.size), y: best.map((point) => point.value), mode: "lines", type: "scatter", hoverinfo: "skip", line: { color, width: 1.4, dash: side === "near" ? "solid" : "dot" } },
      { x: points.map((point) => point.size), y: points.map((point) => point.value), name: `${escaped(method.name)}, ${side}`, mode: "markers", type: "scatter", marker: { color, size: 8, symbol: method.symbol },
        customdata: points.map((point) => point.code), hovertemplate: "<b>%{y:.1%}</b>  %{customdata}<extra>%{fullData.name}</extra>" },
    ];
  }).flat());
  return { traces, note: "",
    layout: layout(canvas, { xaxis: axis("Size relative to float32", { type: "log", tickvals: [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1], ticktext: ["1/32", "1/16", "1/8", "1/4", "1/2", "1"] }), yaxis: levelAxis("Recall@1", "recall@1") }),
    head: ["method", "code", "size", "near", "far"],
    rows: methods.flatMap((method) => study.compression[method.name].map((row) => [method.name, row.code, row.size, row.near, row.far])) };
};

figures.equal = (canvas) => {
  const methods = shown().filter((method) => study.gains[method.name]?.some((row) => row.equal !== null));
  const trace = (method, key) => ({ x: study.gains[method.name].map((row) => row.shift), y: study.gains[method.name].map((row) => row[key]), type: "scatter",
    mode: key === "equal" ? "lines+markers" : "lines", name: `${escaped(method.name)}${key === "equal" ? ", equal difficulty" : ", as measured"}`, hovertemplate: "<b>%{y:.1%}</b><extra>%{fullData.name}</extra>",
    line: { color: colorOf(method.name), width: key === "equal" ? 2.2 : 1.2, dash: key === "equal" ? "solid" : "dot" }, marker: { color: colorOf(method.name), size: 8, symbol: method.symbol } });
  const rows = methods.flatMap((method) => study.gains[method.name].map((row) => [method.name, row.split, row.shift, row.value, row.equal]));
  return { traces: methods.flatMap((method) => [trace(method, "value"), trace(method, "equal")]), note: "",
    layout: layout(canvas, { xaxis: axis(shiftTitle(canvas), { showgrid: false, hoverformat: ".1f" }), yaxis: levelAxis("Recall@1", "recall@1") }),
    head: ["method", "split", "shift", "value", "equal"], rows };
};
