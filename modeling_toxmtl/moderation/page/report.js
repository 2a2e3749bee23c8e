"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const labels = Object.keys(data.thresholds);
  const thresholds = {...data.thresholds};
  const clips = data.clips.map((clip, number) => ({...clip, number,
    scores: Object.fromEntries((clip.labels || []).map(item => [item.label, item.score]))}));
  const hasTruth = clips.some(clip => clip.truth !== null);
  const state = {column: "worst", descending: true, open: null, player: null};
  const by = id => document.getElementById(id);

  // All text goes through here: it is never read as HTML.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }
  function draw(tag, attributes, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const fires = (clip, label) => clip.scores[label] >= thresholds[label];
  const fired = clip => labels.filter(label => fires(clip, label));
  const isTrue = (clip, label) => clip.truth.includes(label);
  const isWrong = clip => clip.truth !== null && labels.some(label => fires(clip, label) !== isTrue(clip, label));
  const worst = clip => Math.max(0, ...labels.map(label => clip.scores[label]));

  // --- thresholds

  function counts(label) {
    const known = clips.filter(clip => clip.truth !== null);
    const count = (is, found) =>
      known.filter(clip => isTrue(clip, label) === is && fires(clip, label) === found).length;
    return {hit: count(true, true), missed: count(true, false), wrong: count(false, true), clear: count(false, false)};
  }
  const share = (part, whole) => whole ? `${(100 * part / whole).toFixed(0)}\u00a0%` : "–";

  function buildThresholds() {
    for (const label of labels) {
      const slider = make("input", {type: "range", min: 0, max: 1, step: 0.001, id: `threshold-${label}`,
        oninput: event => { thresholds[label] = Number(event.target.value); update(); }});
      by("thresholds").append(make("div", {class: "threshold", "data-label": label},
        make("label", {for: `threshold-${label}`}, label), slider, make("output", {for: `threshold-${label}`}),
        make("span", {class: "counts"})));
    }
    by("reset").addEventListener("click", () => { Object.assign(thresholds, data.thresholds); update(); });
  }

  function showThresholds() {
    for (const row of by("thresholds").children) {
      const label = row.dataset.label;
      row.querySelector("input").value = thresholds[label];
      row.querySelector("output").textContent = thresholds[label].toFixed(3);
      const number = clips.filter(clip => fires(clip, label)).length;
      let text = `${number} of ${clips.length} clips`;
      if (hasTruth) {
        const {hit, missed, wrong, clear} = counts(label);
        text = `right ${hit}, wrong ${wrong}, missed ${missed}, clear ${clear}; ` +
          `precision ${share(hit, hit + wrong)}, recall ${share(hit, hit + missed)}`;
      }
      row.querySelector(".counts").textContent = text;
    }
  }

  // --- precision and recall

  function curve(label) {
    const known = clips.filter(clip => clip.truth !== null).sort((a, b) => b.scores[label] - a.scores[label]);
    const total = known.filter(clip => isTrue(clip, label)).length;
    const points = [];
    let hits = 0;
    known.forEach((clip, index) => {
      hits += isTrue(clip, label);
      const next = known[index + 1];
      if (!next || next.scores[label] < clip.scores[label]) points.push([hits / total, hits / (index + 1)]);
    });
    return total ? points : [];
  }

  function buildCurves() {
    for (const label of hasTruth ? labels : []) {
      const points = curve(label);
      if (!points.length) continue;
      const path = points.map(([recall, precision]) => `${100 * recall},${100 - 100 * precision}`).join(" ");
      const picture = draw("svg", {viewBox: "-4 -4 108 108", role: "img", "aria-label": `Precision by recall of ${label}`},
        draw("polyline", {points: path, fill: "none", stroke: "currentColor", "stroke-width": 1.5}),
        draw("circle", {r: 3, fill: "var(--accent)", "data-curve": label}));
      by("curves").append(make("figure", {}, picture, make("figcaption", {}, `${label}: precision ↑, recall →`)));
    }
  }

  function showCurves() {
    for (const point of document.querySelectorAll("[data-curve]")) {
      const {hit, missed, wrong} = counts(point.dataset.curve);
      point.setAttribute("cx", 100 * hit / (hit + missed));
      point.setAttribute("cy", 100 - 100 * (hit + wrong ? hit / (hit + wrong) : 1));
    }
  }

  // --- the table

  const columns = [
    ["clip", "Clip", clip => clip.clip],
    ["worst", "Violations", worst],
    ...labels.map(label => [label, label, clip => clip.scores[label]]),
    ["keywords", "Keywords", clip => (clip.keywords || []).length],
    ...(hasTruth ? [["truth", "Truth", clip => (clip.truth || []).join(", ")]] : []),
  ];

  function buildHead() {
    for (const [key, title] of columns) {
      const isNumber = labels.includes(key) || key === "keywords";
      const button = make("button", {type: "button", onclick: () => {
        state.descending = state.column === key ? !state.descending : key !== "clip";
        state.column = key;
        showRows();
      }}, title);
      by("head").append(make("th", {scope: "col", "data-key": key, class: isNumber && "score"}, button));
    }
    const options = [["all", "all clips"], ["violations", "with violations"], ["none", "without violations"],
      ...(hasTruth ? [["wrong", "decided wrongly"]] : []), ...labels.map(label => [`label:${label}`, label])];
    by("show").append(...options.map(([value, text]) => make("option", {value}, text)));
    by("show").addEventListener("change", showRows);
    by("search").addEventListener("input", showRows);
  }

  function isShown(clip) {
    const show = by("show").value, text = by("search").value.toLowerCase();
    const names = [clip.clip, ...(clip.keywords || []).map(word => word.keyword)];
    if (text && !names.some(name => name.toLowerCase().includes(text))) return false;
    if (show === "violations") return fired(clip).length > 0;
    if (show === "none") return fired(clip).length === 0;
    if (show === "wrong") return isWrong(clip);
    return show === "all" || fires(clip, show.slice("label:".length));
  }

  function compare(a, b) {
    const value = columns.find(([key]) => key === state.column)[2];
    const [x, y] = [value(a), value(b)];
    const order = typeof x === "string" ? x.localeCompare(y, "en") : x - y;
    return (state.descending ? -order : order) || a.number - b.number;
  }

  function row(clip) {
    const isOpen = state.open === clip.number;
    const name = make("button", {type: "button", "aria-expanded": String(isOpen),
      onclick: event => { event.stopPropagation(); toggle(clip); }}, clip.clip);
    const cells = [make("td", {}, name), make("td", {class: "decision"}, fired(clip).join(", ") || "none"),
      ...labels.map(label => make("td", {class: fires(clip, label) ? "score fires" : "score"},
        clip.labels ? clip.scores[label].toFixed(2) : "–")),
      make("td", {class: "score"}, String((clip.keywords || []).length))];
    if (hasTruth) cells.push(make("td", {}, clip.truth === null ? "–" : clip.truth.join(", ") || "none"));
    return make("tr", {class: "clip", "data-clip": clip.number, onclick: () => toggle(clip)}, ...cells);
  }

  function showRows() {
    for (const head of by("head").children) {
      const order = state.descending ? "descending" : "ascending";
      head.setAttribute("aria-sort", head.dataset.key === state.column ? order : "none");
    }
    const shown = clips.filter(isShown).sort(compare);
    const detail = by("rows").querySelector(".detail");
    by("rows").replaceChildren(...shown.map(row));
    const open = state.open === null ? null : by("rows").querySelector(`[data-clip="${state.open}"]`);
    if (open && detail) open.after(detail);
    else if (detail) close();
    const violating = clips.filter(clip => fired(clip).length).length;
    by("summary").textContent = `${shown.length} of ${clips.length} clips shown; ${violating} with violations.`;
  }

  // --- a clip

  function close() {
    if (state.player) state.player.destroy();
    by("rows").querySelector(".detail")?.remove();
    Object.assign(state, {open: null, player: null});
  }

  function toggle(clip) {
    const wasOpen = state.open === clip.number;
    close();
    if (!wasOpen) state.open = clip.number;
    showRows();
    if (!wasOpen) open(clip);
    by("rows").querySelector(`[data-clip="${clip.number}"] button`)?.focus();
  }

  function open(clip) {
    const cell = make("div", {class: "body"});
    const place = make("tr", {class: "detail"}, make("td", {colspan: columns.length}, cell));
    by("rows").querySelector(`[data-clip="${clip.number}"]`).after(place);
    const player = play(clip, cell);
    const words = (clip.keywords || []).map(word => make("button", {type: "button", class: word.benign ? "benign" : "",
      disabled: player ? false : "", onclick: () => playFrom(word.start)},
      `▶ ${word.keyword} ${word.start.toFixed(2)} s (${word.labels.join(", ")}, ${word.score.toFixed(2)})` +
      (word.benign ? ", judged benign" : "")));
    cell.append(make("div", {class: "words"}, ...words));
    for (const label of labels) cell.append(strip(clip, label));
    const seen = (clip.labels || []).filter(item => item.evidence);
    for (const {label, evidence} of seen) {
      const said = [...new Set(evidence.keywords.map(word => `“${word.keyword}”`))].join(", ");
      cell.append(make("p", {}, `${label}: ${said || evidence.reason}`));
    }
  }

  function strip(clip, label) {
    const bars = clip.windows.filter(window => window.scores).map(window => draw("rect", {
      x: 100 * window.start / clip.seconds, width: 100 * (window.end - window.start) / clip.seconds, y: 0, height: 1,
      fill: "var(--accent)", "fill-opacity": window.scores[label]},
      draw("title", {}, `${window.start}–${window.end} s: ${window.scores[label]}`)));
    return make("div", {class: "strip"}, make("span", {}, label),
      draw("svg", {viewBox: "0 0 100 1", preserveAspectRatio: "none", role: "img",
        "aria-label": `${label} over time, at most ${(clip.scores[label] ?? 0).toFixed(2)}`}, ...bars));
  }

  function play(clip, cell) {
    const sound = by(`sound-${clip.number}`);
    if (!sound) {
      cell.append(make("p", {}, "The sound of this clip is not in the page."));
      return null;
    }
    const wave = make("div", {class: "wave"});
    const button = make("button", {type: "button", class: "play", onclick: () => state.player.playPause()}, "Play or pause");
    cell.append(wave, button);
    const bytes = Uint8Array.from(atob(sound.textContent), character => character.charCodeAt(0));
    const regions = WaveSurfer.Regions.create();
    state.player = WaveSurfer.create({container: wave, height: 80, peaks: [clip.peaks], duration: clip.heard,
      url: URL.createObjectURL(new Blob([bytes], {type: "audio/mpeg"})), plugins: [regions]});
    state.player.on("ready", () => {
      for (const word of clip.keywords || []) {
        regions.addRegion({start: word.start, end: word.end, drag: false, resize: false,
          color: "rgba(198, 40, 40, 0.25)", content: make("span", {}, word.keyword)});
      }
    });
    regions.on("region-clicked", (region, event) => { event.stopPropagation(); playFrom(region.start); });
    return state.player;
  }

  function playFrom(seconds) {
    state.player.setTime(seconds);
    state.player.play();
  }

  function update() {
    showThresholds();
    showCurves();
    showRows();
  }

  document.addEventListener("keydown", event => {
    const rows = [...by("rows").querySelectorAll("tr.clip > td > button")];
    const at = rows.indexOf(document.activeElement);
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (step && at >= 0) { event.preventDefault(); rows[at + step]?.focus(); }
    if (event.key === "Escape" && state.open !== null) toggle(clips[state.open]);
  });
  buildThresholds();
  buildCurves();
  buildHead();
  update();
})();
