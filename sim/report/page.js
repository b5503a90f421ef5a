// Draws the plots of a report from the data in the page. Each canvas is marked data-drawn once it
// holds pixels of more than one colour; tests wait for body[data-plots-drawn].
(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("data").textContent);
  var dark = matchMedia("(prefers-color-scheme: dark)").matches;
  var ink = dark ? "#c9ced3" : "#3c444c", grid = dark ? "#33383e" : "#e4e7ea";
  var colours = ["#1f6fb2", "#d9822b", "#2a8f6a", "#a5489c", "#8a6d3b", "#c23b48", "#5c7f92"];
  Chart.defaults.color = ink;
  Chart.defaults.borderColor = grid;
  Chart.defaults.animation = false;
  Chart.defaults.font.family = "system-ui, Arial, sans-serif";
  Chart.defaults.plugins.legend.labels.boxWidth = 14;

  var plots = document.getElementById("plots"), canvases = [];

  function plot(title, note, config) {
    var figure = document.createElement("figure"), caption = document.createElement("figcaption");
    caption.textContent = title;
    if (note) {
      var small = document.createElement("small");
      small.textContent = note;
      caption.appendChild(small);
    }
    var box = document.createElement("div"), canvas = document.createElement("canvas");
    box.className = "canvas";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", title);
    box.appendChild(canvas);
    figure.appendChild(caption);
    figure.appendChild(box);
    plots.appendChild(figure);
    config.options = Object.assign({ responsive: true, maintainAspectRatio: false }, config.options);
    new Chart(canvas, config);
    canvases.push(canvas);
  }

  function axis(title, more) { return Object.assign({ title: { display: true, text: title }, beginAtZero: true }, more); }

  function draw_plan(plan) {
    var each = [], mean = [];
    plan.points.forEach(function (p) {
      p.metrics.forEach(function (m) { each.push({ x: p.value, y: m }); });
      if (p.metrics.length) mean.push({ x: p.value, y: p.metrics.reduce(function (a, b) { return a + b; }, 0) / p.metrics.length });
    });
    var bound = Number(plan.until.replace(/^[^<>=]*[<>=]+/, ""));
    var metric = plan.until.replace(/[<>=].*$/, "").trim();
    var xs = plan.points.map(function (p) { return p.value; });
    var sets = [
      { label: "each seed", type: "scatter", data: each, backgroundColor: colours[1], pointRadius: 4 },
      { label: "mean", data: mean, borderColor: colours[0], borderWidth: 2, pointRadius: 0 },
      { label: "bound", data: [{ x: Math.min.apply(null, xs), y: bound }, { x: Math.max.apply(null, xs), y: bound }],
        borderColor: colours[5], borderDash: [6, 4], borderWidth: 1.5, pointRadius: 0 }];
    var high = each.length ? Math.max.apply(null, each.map(function (e) { return e.y; })) : 0;
    var low = each.length ? Math.min.apply(null, each.map(function (e) { return e.y; })) : 0;
    if (plan.found) sets.push({ label: "the answer: " + plan.value, data: [{ x: plan.value, y: Math.max(low, 1e-3) }, { x: plan.value, y: Math.max(high, bound) }],
      borderColor: colours[2], borderDash: [2, 3], borderWidth: 2, pointRadius: 0 });
    plot(metric + " against " + plan.find, "each point is one run; the answer is the least value at which every seed meets the bound", {
      type: "line", data: { datasets: sets },
      options: { scales: { x: axis(plan.find, { type: "linear", beginAtZero: false }),
        y: axis(metric, low > 0 && high / low > 50 ? { type: "logarithmic", beginAtZero: false } : {}) } }
    });
  }

  function draw_run(run) {
    // Time in the unit that suits the whole run.
    var series = run.series, step = series.step_seconds;
    var whole = step * series.rows.length;
    var unit = whole > 2 * 86400 ? ["days", 86400] : whole > 7200 ? ["hours", 3600] : whole > 120 ? ["minutes", 60] : ["seconds", 1];

    function over_time(title, note, y, names, labels) {
      var sets = [];
      names.forEach(function (name, i) {
        var column = series.columns.indexOf(name);
        if (column < 0) return;
        sets.push({
          label: labels[i], borderColor: colours[i], backgroundColor: colours[i], borderWidth: 1.6, pointRadius: 0,
          data: series.rows.map(function (row, r) { return { x: (r + 1) * step / unit[1], y: row[column] }; })
        });
      });
      if (!sets.length) return;
      plot(title, note, {
        type: "line", data: { datasets: sets },
        options: { parsing: false, interaction: { mode: "index", intersect: false },
          scales: { x: axis("simulated " + unit[0], { type: "linear", max: whole / unit[1] }), y: axis(y) } }
      });
    }

    function bars(title, note, shares, y) {
      if (!shares.length) return;
      plot(title, note, {
        type: "bar",
        data: { labels: shares.map(function (s) { return s.name.slice(0, 18); }),
          datasets: [{ label: y, data: shares.map(function (s) { return s.core_hours; }), backgroundColor: colours[0] }] },
        options: { plugins: { legend: { display: false } }, scales: { y: axis(y) } }
      });
    }

    over_time("Demand against capacity", "processors asked for by live sandboxes, and what the nodes have", "cores",
      ["cores_allocated", "cores_capacity"], ["allocated", "capacity"]);
    over_time("Replicas and requests", "sandboxes on nodes, and requests in service or waiting", "count",
      ["sandboxes", "starting", "in_service", "waiting"], ["sandboxes", "of them starting", "requests in service", "requests waiting"]);
    var points = run.wait_ms.cumulative.map(function (p) { return { x: Math.max(p[0], 0.01), y: p[1] * 100 }; });
    if (points.length) {
      // Where nearly all are served at once the tail is what there is to see.
      var least = [99, 90, 50, 0].find(function (l) { return points[0].y >= l && points[0].y < 100 || l === 0; });
      var begins = least ? "; the axis begins at " + least + " %" : "";
      if (points.length === 1) points.unshift({ x: points[0].x, y: 0 });
      plot("Start latency", "share of requests that began service within this time; below 0.01 ms is drawn at 0.01 ms" + begins, {
        type: "line",
        data: { datasets: [{ label: "share of requests", data: points, stepped: true, borderColor: colours[0], borderWidth: 2, pointRadius: 0 }] },
        options: { parsing: false, plugins: { legend: { display: false } },
          scales: { x: axis("wait, ms (logarithmic)", { type: "logarithmic", beginAtZero: false }), y: axis("% of requests", { min: least, max: 100 }) } }
      });
    }
    over_time("Nodes", "running, and bought but not yet there", "nodes", ["nodes", "nodes_booting"], ["running", "booting"]);
    bars("Use by tenant", "core hours of live sandboxes", run.tenants, "core hours");
    bars("Use by zone", "core hours of live sandboxes", run.zones, "core hours");
    over_time("Image cache", "share of starts whose image was on the node", "share", ["image_hit_ratio"], ["hits"]);
    over_time("Rate", "requests that arrived and that were served, per second", "requests/s",
      ["arrivals_per_second", "finished_per_second"], ["arrived", "served"]);
  }

  // Points in the plane of two metrics where less is better; the front is what no other point beats.
  function draw_sweep(sweep) {
    function told(item) {
      var p = item.raw.point;
      return [p.name, sweep.x_metric + " " + p.x.mean.toPrecision(5) + " ± " + p.x.half.toPrecision(2),
        sweep.y_metric + " " + p.y.mean.toPrecision(5) + " ± " + p.y.half.toPrecision(2), p.command];
    }
    function places(points) { return points.map(function (p) { return { x: p.x.mean, y: p.y.mean, point: p }; }); }
    var each = [];
    sweep.points.forEach(function (p) { p.runs.forEach(function (r) { each.push({ x: r.x, y: r.y, point: p }); }); });
    var front = sweep.points.filter(function (p) { return p.front; }).sort(function (a, b) { return a.x.mean - b.x.mean; });
    var near = sweep.points.filter(function (p) { return p.near; });
    var others = sweep.points.filter(function (p) { return !p.front && !p.near && !p.broken; });
    var broken = sweep.points.filter(function (p) { return p.broken; });
    var ys = each.map(function (e) { return e.y; }), low = Math.min.apply(null, ys), high = Math.max.apply(null, ys);
    var sets = [
      { label: "on the front", data: places(front), borderColor: colours[2], backgroundColor: colours[2], pointRadius: 6, showLine: true, stepped: "before", borderWidth: 1.5 },
      { label: "near: not beaten beyond noise", data: places(near), backgroundColor: "transparent", borderColor: colours[2], pointRadius: 5, borderWidth: 2 },
      { label: "beaten by another", data: places(others), backgroundColor: colours[0], pointRadius: 5 },
      { label: "each seed", data: each, backgroundColor: "rgba(128,128,128,0.45)", pointRadius: 2.5 }];
    if (broken.length) sets.push({ label: "an invariant is broken", data: places(broken), backgroundColor: colours[5], pointStyle: "crossRot", borderColor: colours[5], pointRadius: 7 });
    plot(sweep.y_metric + " against " + sweep.x_metric, "each point is the mean over its seeds; hover for its configuration and command, which the table has too", {
      type: "scatter", data: { datasets: sets },
      options: { plugins: { tooltip: { callbacks: { label: told } } },
        scales: { x: axis(sweep.x_metric, { beginAtZero: false }), y: axis(sweep.y_metric, low > 0 && high / low > 50 ? { type: "logarithmic", beginAtZero: false } : {}) } }
    });
    sweep.sweep.over.forEach(function (over) {
      [[sweep.y_metric, "y"], [sweep.x_metric, "x"]].forEach(function (metric) {
        plot(metric[0] + " by " + over.key, "each point of the sweep at its value", {
          type: "scatter",
          data: { datasets: [{ label: metric[0], backgroundColor: colours[0], pointRadius: 4,
            data: sweep.points.map(function (p) { return { x: over.values.indexOf(p.configuration[over.key]), y: p[metric[1]].mean, point: p }; }) }] },
          options: { plugins: { legend: { display: false }, tooltip: { callbacks: { label: told } } },
            scales: { x: axis(over.key, { min: -0.5, max: over.values.length - 0.5, beginAtZero: false,
              afterBuildTicks: function (scale) { scale.ticks = over.values.map(function (_, i) { return { value: i }; }); },
              ticks: { autoSkip: false, callback: function (v) { return over.values[v].match(/.{1,18}/g).slice(0, 4); } } }), y: axis(metric[0]) } }
        });
      });
    });
  }

  // For each case the changes as a share of A, with their intervals: a bar that spans 0 is noise.
  function draw_compare(compare) {
    var shown = compare.rows.filter(function (r) { return r.verdict !== "equal" && r.runs > 1 && r.a !== 0; });
    var cases = shown.map(function (r) { return r.case; }).filter(function (c, i, all) { return all.indexOf(c) === i; });
    cases.slice(0, 12).forEach(function (name) {
      var rows = shown.filter(function (r) { return r.case === name; });
      plot(name, "change from " + compare.a + " to " + compare.b + ", with its interval", {
        type: "bar",
        data: { labels: rows.map(function (r) { return r.metric; }),
          datasets: [{ label: "% of A", borderSkipped: false, minBarLength: 6,
            backgroundColor: rows.map(function (r) { return r.verdict === "WORSE" ? colours[5] : r.verdict === "better" ? colours[2] : colours[6]; }),
            data: rows.map(function (r) {
              var mean = r.relative * 100, half = Math.max(r.relative_half * 100, 0.2);
              return [mean - half, mean + half];
            }) }] },
        options: { indexAxis: "y", plugins: { legend: { display: false } }, scales: { x: axis("% of A"), y: { ticks: { autoSkip: false } } } }
      });
    });
  }

  if (data.sweep) draw_sweep(data.sweep);
  if (data.compare) draw_compare(data.compare);
  if (data.plan) draw_plan(data.plan);
  if (data.run) draw_run(data.run);

  // A canvas that holds one colour only has not been drawn.
  requestAnimationFrame(function () {
    var drawn = 0;
    canvases.forEach(function (canvas) {
      var pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data, seen = {};
      for (var i = 0; i < pixels.length && Object.keys(seen).length < 4; i += 16) {
        seen[pixels[i] + "," + pixels[i + 1] + "," + pixels[i + 2] + "," + pixels[i + 3]] = true;
      }
      var good = Object.keys(seen).length >= 4;
      canvas.setAttribute("data-drawn", good);
      if (good) drawn += 1;
    });
    document.body.setAttribute("data-plots", canvases.length);
    document.body.setAttribute("data-plots-drawn", drawn);
  });
})();
