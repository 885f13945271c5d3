"use strict";
// The timeline: one row a process, coloured by cause. Draws what can be seen of it and nothing else, so that thousands of
// processes and a million slices stay quick. Times are microseconds after the start of the run.
(function () {
  const box = document.getElementById("timeline");
  if (!box) return;
  const data = JSON.parse(document.getElementById("data").textContent);
  const canvas = document.getElementById("timeline-canvas");
  const space = document.getElementById("timeline-space");
  const tip = document.getElementById("tip");
  const legend = document.getElementById("legend");
  const context = canvas.getContext("2d");

  const rows = data.processes;
  const labels = 175; // width of the column of names
  const axis = 24; // height of the row of times
  const tall = rows.length > 400 ? 10 : rows.length > 60 ? 16 : 22;
  const end = Math.max(data.elapsed, 1);
  const closest = 20; // microseconds that the picture shows at least
  const view = { from: 0, to: end };
  const hidden = new Set();

  // Colours come from the style sheet, so that there is one list of them.
  const colours = data.causes.map(function (cause) {
    const probe = document.createElement("span");
    probe.className = "c-" + cause;
    document.body.append(probe);
    const colour = getComputedStyle(probe).getPropertyValue("--c").trim();
    probe.remove();
    return colour || "#888";
  });

  function seconds(micro) {
    const size = Math.abs(micro);
    if (size < 1e3) return micro.toFixed(0) + " us";
    if (size < 1e6) return (micro / 1e3).toPrecision(4).replace(/\.?0+$/, "") + " ms";
    return (micro / 1e6).toPrecision(5).replace(/\.?0+$/, "") + " s";
  }

  function plot() {
    return { left: labels, width: Math.max(50, box.clientWidth - labels - 8) };
  }

  function toX(time) {
    const at = plot();
    return at.left + ((time - view.from) / (view.to - view.from)) * at.width;
  }

  function toTime(x) {
    const at = plot();
    return view.from + ((x - at.left) / at.width) * (view.to - view.from);
  }

  // Index of the first entry, of `step` numbers each, that ends after `time`.
  function firstAfter(list, step, time) {
    let low = 0;
    let high = list.length / step;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle * step + 1] > time) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  let asked = false;
  function redraw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(function () {
      asked = false;
      draw();
    });
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink");
    const dim = style.getPropertyValue("--dim");
    const rule = style.getPropertyValue("--rule");
    const ground = style.getPropertyValue("--ground");
    const ratio = window.devicePixelRatio || 1;
    const width = box.clientWidth;
    const content = axis + rows.length * tall + 4;
    const height = Math.max(axis + tall, Math.min(content, Math.round(window.innerHeight * 0.65) - 2));
    space.style.height = content + "px";
    canvas.style.height = height + "px";
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = ground;
    context.fillRect(0, 0, width, height);
    const at = plot();
    const top = box.scrollTop;
    const first = Math.max(0, Math.floor(top / tall));
    const last = Math.min(rows.length, Math.ceil((top + height - axis) / tall));

    context.font = (tall < 16 ? 9 : 12) + "px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let index = first; index < last; index++) {
      const row = rows[index];
      const y = axis + index * tall - top;
      const list = row.slices;
      for (let n = firstAfter(list, 3, view.from) * 3; n < list.length && list[n] < view.to; n += 3) {
        if (hidden.has(list[n + 2])) continue;
        const from = Math.max(at.left, toX(list[n]));
        const to = Math.min(at.left + at.width, toX(list[n + 1]));
        context.fillStyle = colours[list[n + 2]];
        context.fillRect(from, y + 2, to - from, tall - 4); // less than a pixel is blended by its width
      }
      // Tasks: a line below, with gaps where they are long enough to be told apart.
      const tasks = row.tasks;
      context.fillStyle = ink;
      let covered = -1;
      for (let n = firstAfter(tasks, 4, view.from) * 4; n < tasks.length && tasks[n] < view.to; n += 4) {
        const from = Math.max(at.left, toX(tasks[n]));
        const to = Math.min(at.left + at.width, toX(tasks[n + 1]));
        if (to <= covered) continue;
        context.fillRect(from, y + tall - 4, Math.max(0.5, to - from - 1), 2);
        covered = to;
      }
      context.save();
      context.beginPath();
      const pid = String(row.pid);
      const room = labels - 10 - context.measureText(pid).width;
      context.fillStyle = dim;
      context.fillText(pid, room, y + tall / 2);
      context.rect(0, y, room - 6, tall);
      context.clip();
      context.fillStyle = ink;
      context.fillText(row.name, 8, y + tall / 2);
      context.restore();
    }

    // The times lie over what is scrolled.
    context.fillStyle = ground;
    context.fillRect(0, 0, width, axis);
    context.font = "11px system-ui, sans-serif";
    context.strokeStyle = rule;
    const rough = (view.to - view.from) / Math.max(2, at.width / 110);
    const power = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = [1, 2, 5, 10].find(function (factor) { return factor * power >= rough; }) * power;
    for (let time = Math.ceil(view.from / step) * step; time <= view.to; time += step) {
      const x = Math.round(toX(time)) + 0.5;
      context.beginPath();
      context.moveTo(x, axis - 5);
      context.lineTo(x, height);
      context.globalAlpha = 0.5;
      context.stroke();
      context.globalAlpha = 1;
      context.fillStyle = dim;
      context.fillText(seconds(time), x + 3, axis / 2);
    }
  }

  function show(from, to) {
    const length = Math.min(end, Math.max(closest, to - from));
    const middle = (from + to) / 2;
    view.from = Math.max(0, Math.min(end - length, middle - length / 2));
    view.to = view.from + length;
    box.dataset.from = view.from;
    box.dataset.to = view.to;
    redraw();
  }

  function zoom(factor, time) {
    const length = Math.min(end, Math.max(closest, (view.to - view.from) * factor));
    const share = (time - view.from) / (view.to - view.from);
    const from = time - share * length;
    show(from, from + length);
  }

  function move(micro) {
    const length = view.to - view.from;
    const from = Math.max(0, Math.min(end - length, view.from + micro));
    show(from, from + length);
  }

  function where(event) {
    const area = box.getBoundingClientRect();
    return { x: event.clientX - area.left, y: event.clientY - area.top };
  }

  // What lies under a point, in words; nothing where there is nothing.
  function describe(point) {
    const row = rows[Math.floor((point.y - axis + box.scrollTop) / tall)];
    if (point.y < axis || !row) return "";
    const head = row.name + ", pid " + row.pid + (row.role ? " (" + row.role + ")" : "");
    if (point.x < labels) return head;
    const time = toTime(point.x);
    const n = firstAfter(row.slices, 3, time) * 3;
    if (n >= row.slices.length || row.slices[n] > time) return "";
    let text = head + "\n" + data.causes[row.slices[n + 2]] + ": " + seconds(row.slices[n + 1] - row.slices[n]);
    text += "\nfrom " + seconds(row.slices[n]) + " to " + seconds(row.slices[n + 1]);
    const t = firstAfter(row.tasks, 4, time) * 4;
    if (t < row.tasks.length && row.tasks[t] <= time) {
      const items = row.tasks[t + 3];
      text += "\ntask " + data.names[row.tasks[t + 2]] + (items > 1 ? " (" + items + " items)" : "") + ": ";
      text += seconds(row.tasks[t + 1] - row.tasks[t]);
    }
    return text;
  }

  box.addEventListener("wheel", function (event) {
    if (event.shiftKey || event.deltaY === 0) return; // the list scrolls
    event.preventDefault();
    zoom(Math.pow(1.0015, event.deltaMode === 1 ? event.deltaY * 30 : event.deltaY), toTime(Math.max(labels, where(event).x)));
  }, { passive: false });

  let held = null;
  box.addEventListener("pointerdown", function (event) {
    if (event.button === 0 && event.offsetX < box.clientWidth) held = { x: event.clientX, y: event.clientY };
  });
  window.addEventListener("pointermove", function (event) {
    if (held && event.buttons & 1) {
      move(((held.x - event.clientX) / plot().width) * (view.to - view.from));
      box.scrollTop += held.y - event.clientY;
      held = { x: event.clientX, y: event.clientY };
    }
  });
  window.addEventListener("pointerup", function () { held = null; });
  box.addEventListener("pointermove", function (event) {
    const text = held ? "" : describe(where(event));
    tip.textContent = text;
    tip.hidden = !text;
    tip.style.left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(event.clientY + 16, window.innerHeight - tip.offsetHeight - 8) + "px";
  });
  box.addEventListener("pointerleave", function () { tip.hidden = true; });
  box.addEventListener("dblclick", function () { show(0, end); });
  box.addEventListener("scroll", redraw);
  box.addEventListener("keydown", function (event) {
    const length = view.to - view.from;
    const middle = (view.from + view.to) / 2;
    if (event.key === "+" || event.key === "=") zoom(0.7, middle);
    else if (event.key === "-") zoom(1 / 0.7, middle);
    else if (event.key === "ArrowLeft") move(-length / 8);
    else if (event.key === "ArrowRight") move(length / 8);
    else if (event.key === "0") show(0, end);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(redraw).observe(box);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // The legend has the causes that occur; a click hides one and shows it again.
  const occurring = new Set();
  for (const row of rows) for (let n = 2; n < row.slices.length; n += 3) occurring.add(row.slices[n]);
  for (const index of Array.from(occurring).sort(function (a, b) { return a - b; })) {
    const label = document.createElement("label");
    const tick = document.createElement("input");
    const chip = document.createElement("span");
    tick.type = "checkbox";
    tick.checked = true;
    tick.addEventListener("change", function () {
      if (tick.checked) hidden.delete(index);
      else hidden.add(index);
      redraw();
    });
    chip.className = "chip c-" + data.causes[index];
    chip.textContent = data.causes[index];
    label.append(tick, " ", chip);
    legend.append(label);
  }
  if (data.shortened) legend.append("(the longest tasks only)");
  show(0, end);
})();
