"use strict";
(() => {
  const all = (query, from = document) => [...from.querySelectorAll(query)];
  const byId = (id) => document.getElementById(id);
  const LEVELS = [0.1, 0.5, 1.5, 4];

  /* Tables: a button in each heading sorts, a third press restores the order. */
  const number = (cell) => {
    const found = (cell.firstChild ? cell.firstChild.textContent : "").match(/-?\d+(\.\d+)?(e[-+]?\d+)?/);
    return found ? Number(found[0]) : null;
  };
  const tables = all("table.data").map((table) => {
    const heads = all("thead th", table);
    const columns = {};
    heads.forEach((head, k) => {
      if (head.dataset.filter) columns[head.dataset.filter] = k;
    });
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const count = all(".count", table.closest("details"))[0];
    return { heads, columns, body, rows, count, sorted: -1, turn: 0 };
  });
  const compare = (k, isText) => (a, b) => {
    if (isText) {
      return a.cells[k].textContent.localeCompare(b.cells[k].textContent, "en", { numeric: true });
    }
    return number(a.cells[k]) - number(b.cells[k]);
  };
  const sort = (table, k) => {
    table.turn = table.sorted === k ? (table.turn + 1) % 3 : 1;
    table.sorted = k;
    const isText = table.heads[k].classList.contains("t");
    let rows = table.rows;
    if (table.turn) {
      const none = (row) => !isText && number(row.cells[k]) === null;
      const order = compare(k, isText);
      const known = rows.filter((row) => !none(row));
      known.sort(table.turn === 1 ? order : (a, b) => order(b, a));
      rows = [...known, ...rows.filter(none)];
    }
    table.body.append(...rows);
    table.heads.forEach((head, i) => {
      if (i === k && table.turn) {
        head.setAttribute("aria-sort", table.turn === 1 ? "ascending" : "descending");
      } else {
        head.removeAttribute("aria-sort");
      }
    });
  };
  for (const table of tables) {
    table.heads.forEach((head, k) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, k));
      head.append(button);
    });
  }

  /* The filter: what is chosen holds for all tables and samples. */
  const filter = { rpm: byId("filter-rpm"), place: byId("filter-place"), text: byId("filter-text") };
  const samples = all(".sample");
  const placesOf = { subset: new Set(), shift: new Set() };
  const rpms = new Set();
  for (const table of tables) {
    for (const row of table.rows) {
      for (const [name, k] of Object.entries(table.columns)) {
        const said = row.cells[k].textContent;
        if (said !== "–") (name === "rpm" ? rpms : placesOf[name]).add(said);
      }
    }
  }
  const offer = (select, names, label, prefix) => {
    const group = document.createElement("optgroup");
    group.label = label;
    group.append(...[...names].map((name) => new Option(name, prefix + name)));
    if (names.size) select.append(group);
  };
  offer(filter.rpm, rpms, "RPMs and reference rows", "");
  offer(filter.place, placesOf.subset, "subsets", "subset:");
  offer(filter.place, placesOf.shift, "shifts", "shift:");
  const texts = new WeakMap();
  const textOf = (element) => {
    if (!texts.has(element)) texts.set(element, element.textContent.toLowerCase());
    return texts.get(element);
  };
  const matches = (element, valueOf) => {
    const place = filter.place.value;
    const at = place.indexOf(":");
    const wanted = [["rpm", filter.rpm.value], [place.slice(0, at), place.slice(at + 1)]];
    const words = filter.text.value.trim().toLowerCase();
    return (
      wanted.every(([name, value]) => {
        const own = value && valueOf(name);
        return own === undefined || own === value;
      }) && (!words || textOf(element).includes(words))
    );
  };
  const apply = () => {
    let shown = 0;
    let total = 0;
    for (const { rows, columns, count } of tables) {
      let here = 0;
      for (const row of rows) {
        const valueOf = (name) => (name in columns ? row.cells[columns[name]].textContent : undefined);
        row.hidden = !matches(row, valueOf);
        here += !row.hidden;
      }
      shown += here;
      total += rows.length;
      count.textContent = `${here < rows.length ? `${here} of ` : ""}${rows.length} row${rows.length === 1 ? "" : "s"}`;
    }
    let open = 0;
    for (const sample of samples) {
      sample.hidden = !matches(sample, (name) => sample.dataset[name]);
      open += !sample.hidden;
    }
    for (const none of all(".none")) none.hidden = open > 0;
    const whole = shown === total && open === samples.length;
    byId("filter-said").textContent = whole ? "" : `${shown} of ${total} rows, ${open} of ${samples.length} samples`;
  };
  filter.rpm.addEventListener("change", apply);
  filter.place.addEventListener("change", apply);
  filter.text.addEventListener("input", apply);
  byId("filter-clear").addEventListener("click", () => {
    for (const control of Object.values(filter)) control.value = "";
    apply();
  });
  byId("filter").hidden = false;

  /* Words: shaded for one factor, a figure where the pointer or the keyboard is. */
  let factor = 0;
  const nats = (word) => {
    const said = word.dataset.n.split(",")[factor];
    return said === "" ? null : Number(said) / 100;
  };
  const shade = (word) => {
    const value = nats(word);
    const depth = LEVELS.filter((level) => Math.abs(value ?? 0) >= level).length;
    const kept = word.classList.contains("c") ? "c" : "";
    word.className = `${depth ? (value > 0 ? "p" : "n") + depth : ""} ${kept}`.trim();
  };
  const readoutOf = (words) => all(".readout", words.closest(".sample"))[0];
  const choose = (words, word) => {
    for (const old of all(".on", words.closest(".sample"))) old.classList.remove("on");
    if (!word) return;
    word.classList.add("on");
    const value = nats(word);
    const figure = value === null ? "no figure" : `${value.toFixed(2)} nats`;
    const copied = word.classList.contains("c") ? ", copied: does not count" : "";
    const name = all("#factors label")[factor].textContent.trim();
    readoutOf(words).textContent = `“${word.textContent}”, ${name}: ${figure}${copied}`;
  };
  for (const words of all(".words")) {
    words.addEventListener("pointerover", (event) => {
      const word = event.target.closest("b");
      if (word) choose(words, word);
    });
    const list = all("b", words);
    words.addEventListener("focus", () => choose(words, all(".on", words)[0] || list[0]));
    words.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step || !list.length) return;
      event.preventDefault();
      const at = list.findIndex((word) => word.classList.contains("on"));
      choose(words, list[Math.min(Math.max(at + step, 0), list.length - 1)]);
    });
  }
  for (const radio of all("#factors input")) {
    radio.addEventListener("change", () => {
      factor = Number(radio.value);
      all(".words b").forEach(shade);
      for (const readout of all(".readout")) readout.textContent = "";
    });
  }
  for (const fieldset of all("#factors")) fieldset.hidden = false;

  /* Paper folds nothing. */
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    for (const fold of closed) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of closed) fold.open = false;
  });
})();
