"use strict";
/* Sorts and filters what the page shows, opens the runs behind a number, and shows one method at a time.
   Texts of records are only ever set as textContent, never as HTML. */
(() => {
  const root = document.documentElement;
  const tablesData = JSON.parse(document.getElementById("data").textContent).tables;
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
  const dataOf = (table) => tablesData[table.dataset.table];
  const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

  function make(name, text, properties = {}) {
    const element = Object.assign(document.createElement(name), properties);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function wrap(cell, name, properties) {
    const inner = make(name, undefined, properties);
    inner.append(...cell.childNodes);
    cell.append(inner);
    return inner;
  }

  /* Sorting: by unrounded values; missing values last; published rows stay below the row of their method. */

  const value = (row, column) => (column < 0 ? row.n.toLowerCase() : row.c[column][0]);

  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "string") return sign * a.localeCompare(b, undefined, { numeric: true });
    return sign * (a - b);
  }

  /* sign: 1 ascending, -1 descending, 0 the original order */
  function sort(table, column, sign) {
    const groups = table.groups.map((lines, place) => ({ lines, place, value: sign ? value(lines[0].row, column) : 0 }));
    const pinned = (group) => Number(group.lines === table.pinned);
    groups.sort((a, b) => pinned(b) - pinned(a) || (sign ? compare(a.value, b.value, sign) : 0) || a.place - b.place);
    table.tBodies[0].append(...groups.flatMap((group) => group.lines));
  }

  /* A click on a heading sorts best first, the next one worst first, the third as it was. */
  function sortByHeader(table, header, better) {
    const first = header.column < 0 || better === "low" ? 1 : -1;
    const current = { ascending: 1, descending: -1 }[header.ariaSort] || 0;
    const next = current === 0 ? first : current === first ? -first : 0;
    for (const other of $$("thead th[aria-sort]", table)) other.removeAttribute("aria-sort");
    if (next) header.setAttribute("aria-sort", next > 0 ? "ascending" : "descending");
    sort(table, header.column, next);
    setTabStop(table);
  }

  /* The Tab key stops once in each table; arrow keys move between its numbers. */

  function setTabStop(table, button = $$("tbody td button", table).find((each) => !each.closest("tr").hidden)) {
    for (const other of $$("tbody td button[tabindex='0']", table)) other.tabIndex = -1;
    if (button) button.tabIndex = 0;
  }

  function moveFocus(event) {
    const button = event.target.closest("td button");
    if (!button) return;
    const cell = button.parentElement;
    const inCell = (other) => (other.tagName === "TD" ? $("button", other) : null);
    const inLine = (line) => line.cells[cell.cellIndex] && $("button", line.cells[cell.cellIndex]);
    const moves = {
      ArrowRight: [cell, "nextElementSibling", inCell],
      ArrowLeft: [cell, "previousElementSibling", inCell],
      ArrowDown: [cell.parentElement, "nextElementSibling", inLine],
      ArrowUp: [cell.parentElement, "previousElementSibling", inLine],
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [from, direction, buttonIn] = moves[event.key];
    let target = null;
    for (let next = from[direction]; next && !target; next = next[direction]) target = next.hidden ? null : buttonIn(next);
    if (!target) return;
    setTabStop(event.currentTarget, target);
    target.focus();
  }

  /* The runs behind a number. */

  const dialog = make("dialog");
  dialog.setAttribute("aria-labelledby", "dialog-title");
  const hint = make("div", "", { id: "hint", hidden: true });
  hint.setAttribute("role", "tooltip");
  document.body.append(dialog, hint);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  /* uses: [seed, id of the run's details, epochs] of each run; seeds: the number of each seed that has one;
     baseline: the baseline's runs, where the number compares with them. */
  function source(button) {
    const cell = button.parentElement;
    const data = dataOf(cell.closest("table"));
    const row = cell.parentElement.row;
    const column = data.cols[cell.column];
    const [, text, each] = row.c[cell.column];
    const owner = row.u ? row : column;
    const uses = owner.u || [];
    const values = each ? each.split(" ") : [];
    const seeds = Object.fromEntries(uses.map(([seed], k) => [seed, values[k]]).filter(([, one]) => one && one !== "-"));
    const names = owner === row ? [row.n, column.n] : [column.n, row.n];
    const baseline = /, rho$/.test(column.n) ? data.base.filter((use) => !uses.some((own) => own[1] === use[1])) : [];
    return { name: names.join(", "), text, seeds, uses, baseline };
  }

  function summary({ name, text, seeds, uses }) {
    const lines = uses.map(([seed]) => (seed in seeds ? `seed ${seed}: ${seeds[seed]}` : `seed ${seed}`));
    const runs = plural(uses.length, "run");
    const each = Object.keys(seeds).length ? lines.join("\n") : `computed from ${runs} together`;
    return `${name}: ${text}\n${each}\nClick to see the ${runs}.`;
  }

  function runList(heading, uses, seeds = {}) {
    const parts = [make("h3", heading)];
    for (const [seed, id, epochs] of uses) {
      const item = make("details", undefined, { open: true });
      const number = seed in seeds ? `: ${seeds[seed]}` : "";
      const facts = $("dl", document.getElementById(id)).cloneNode(true);
      const link = make("a", "show on the method's page", { href: `#${id}` });
      link.addEventListener("click", () => dialog.close());
      item.append(make("summary", `seed ${seed}${number} (epochs ${epochs})`), facts, link);
      parts.push(item);
    }
    return parts;
  }

  function openRuns(button) {
    const { name, text, seeds, uses, baseline } = source(button);
    const close = make("button", "Close", { type: "button" });
    close.addEventListener("click", () => dialog.close());
    const top = make("div", undefined, { className: "top" });
    top.append(make("h2", name, { id: "dialog-title" }), close);
    const runs = plural(uses.length, "run");
    const mean = Object.keys(seeds).length && uses.length > 1;
    const inner = make("div");
    inner.append(top, make("p", text, { className: "big" }));
    inner.append(make("p", mean ? `mean over ${runs}` : `from ${runs}`), ...runList("Runs", uses, seeds));
    if (baseline.length) inner.append(...runList("Runs of the baseline", baseline));
    dialog.replaceChildren(inner);
    hint.hidden = true;
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  function showHint(button) {
    hint.textContent = summary(source(button));
    hint.hidden = false;
    const at = button.getBoundingClientRect();
    hint.style.left = `${Math.max(4, Math.min(at.left, root.clientWidth - hint.offsetWidth - 4)) + scrollX}px`;
    const above = at.top > hint.offsetHeight + 10;
    hint.style.top = `${(above ? at.top - hint.offsetHeight - 6 : at.bottom + 6) + scrollY}px`;
  }

  /* Each table: link rows and cells to their data, and make headings and numbers buttons.
     table.groups: each row with the published rows below it; table.pinned: the group that is always first. */

  function prepareLines(table, data) {
    table.groups = [];
    [...table.tBodies[0].rows].forEach((line, k) => {
      line.row = data.rows[k];
      if (line.row.source && table.groups.length) table.groups.at(-1).push(line);
      else table.groups.push([line]);
      if (line.row.m) wrap(line.cells[0], "a", { href: `#${line.row.m}` });
      [...line.cells].slice(1).forEach((cell, column) => {
        cell.column = column;
        const [number, text] = line.row.c[column];
        if (text === "not defined") cell.title = text;
        const runs = line.row.u || data.cols[column].u;
        if (number !== null && runs && runs.length) {
          wrap(cell, "button", { type: "button", tabIndex: -1 }).setAttribute("aria-haspopup", "dialog");
        }
      });
    });
    if (table.classList.contains("down")) table.pinned = table.groups[0];
  }

  function prepare(table) {
    const data = dataOf(table);
    prepareLines(table, data);
    [...[...$("thead", table).rows].at(-1).cells].forEach((header, k) => {
      header.column = k - 1;
      const better = k ? data.cols[k - 1].better : "";
      wrap(header, "button", { type: "button" }).addEventListener("click", () => sortByHeader(table, header, better));
    });
    table.addEventListener("keydown", moveFocus);
    table.addEventListener("click", (event) => {
      const button = event.target.closest("td button");
      if (button) {
        setTabStop(table, button);
        openRuns(button);
      }
    });
    for (const kind of ["mouseover", "focusin"]) {
      table.addEventListener(kind, (event) => {
        const button = event.target.closest("td button");
        if (button && !dialog.open) showHint(button);
      });
    }
    for (const kind of ["mouseout", "focusout"]) table.addEventListener(kind, () => (hint.hidden = true));
    setTabStop(table);
  }

  $$("table[data-table]").forEach(prepare);
  document.addEventListener("keydown", (event) => event.key === "Escape" && (hint.hidden = true));

  /* The order of the classes: as in the data set, or by the mean over the methods in the last heat map. */

  function mean(numbers) {
    const known = numbers.filter((number) => number !== null);
    return known.length ? known.reduce((sum, number) => sum + number, 0) / known.length : null;
  }

  function orderClasses(maps, lowestFirst) {
    const tables = $$("table[data-table]", maps);
    const last = tables.at(-1);
    const data = dataOf(last);
    const down = last.classList.contains("down");
    const means = (down ? data.rows : data.cols).map((_, k) =>
      mean(down ? data.rows[k].c.map((cell) => cell[0]) : data.rows.map((row) => row.c[k][0])));
    const order = means.map((_, k) => k).slice(1); // 0 is the average
    if (lowestFirst) order.sort((a, b) => compare(means[a], means[b], 1) || a - b);
    const places = new Map([0, ...order].map((k, place) => [k, place]));
    for (const table of tables) {
      for (const header of $$("thead th[aria-sort]", table)) header.removeAttribute("aria-sort");
      if (down) {
        const place = ([line]) => places.get(dataOf(table).rows.indexOf(line.row));
        table.groups.sort((a, b) => place(a) - place(b));
        sort(table, -1, 0);
      } else {
        for (const line of table.rows) {
          const [first, ...cells] = line.cells;
          cells.sort((a, b) => places.get(a.column) - places.get(b.column));
          line.append(first, ...cells);
        }
      }
      setTabStop(table);
    }
  }

  for (const maps of $$(".maps")) {
    const choice = $(".order", maps);
    choice.hidden = false;
    choice.addEventListener("change", (event) => orderClasses(maps, event.target.value === "lowest"));
  }

  /* Filters. */

  const filters = $("#filters");

  function filter() {
    const chosen = Object.fromEntries(new FormData(filters));
    const words = (chosen.method || "").trim().toLowerCase();
    const matches = (item) => !words || !item.q || item.q.includes(words);
    const methods = new Set();
    let settings = 0;
    for (const section of $$(".setting")) {
      const shown = ["dataset", "model", "protocol", "attack"].every((n) => !chosen[n] || section.dataset[n] === chosen[n]);
      section.hidden = !shown;
      settings += shown;
      for (const table of $$("table[data-table]", section)) {
        for (const [first, ...others] of table.groups) {
          const visible = matches(first.row);
          for (const line of [first, ...others]) line.hidden = !visible;
          if (visible && shown && first.row.m) methods.add(first.row.n);
        }
        for (const line of table.rows) {
          for (const cell of line.cells) {
            if (cell.column !== undefined && cell.column >= 0) cell.hidden = !matches(dataOf(table).cols[cell.column]);
          }
        }
        setTabStop(table);
      }
      for (const item of $$(".lines > li", section)) item.hidden = words && !item.textContent.toLowerCase().includes(words);
    }
    const narrowed = Object.values(chosen).some(Boolean);
    $("output", filters).textContent = narrowed ? `${plural(methods.size, "method")} in ${plural(settings, "setting")}` : "";
  }

  filters.hidden = false;
  filters.addEventListener("input", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());

  /* #method-NAME shows one method, #run-NAME its method with the run open, anything else the results. */

  function route() {
    let target = null;
    try {
      target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    } catch {
      // the address is not an id of this page
    }
    const method = target && target.closest(".method");
    root.dataset.route = method ? "method" : "overview";
    for (const section of $$(".method")) section.classList.toggle("current", section === method);
    if (target && target.tagName === "DETAILS") target.open = true;
    if (method && target === method) scrollTo(0, 0);
    else if (target) target.scrollIntoView();
  }

  addEventListener("hashchange", route);
  root.classList.add("js");
  filter();
  route();

  /* All sections are open while the page is printed. */

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = $$("details:not([open])");
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
})();
