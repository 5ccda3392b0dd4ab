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
