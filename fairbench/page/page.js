"use strict";
/* Rearranges what the page says: sorting, filtering, the runs behind a number, one method at a time.
   Texts of records enter the page as textContent only. */
(() => {
  const root = document.documentElement;
  const sheets = JSON.parse(document.getElementById("data").textContent).sheets;
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

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

  /* Sorting: numbers by their unrounded values, what does not exist last, published rows with their own. */

  const value = (row, column) => (column < 0 ? row.n.toLowerCase() : row.c[column][0]);

  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "string") return sign * a.localeCompare(b, undefined, { numeric: true });
    return sign * (a - b);
  }

  function sort(table, key, column, sign) {
    const body = table.tBodies[0];
    const groups = table.groups.map((lines, place) => ({ lines, place, value: sign ? key(lines[0].row, column) : 0 }));
    const pinned = (group) => Number(group.lines === table.pinned);
    groups.sort((a, b) => pinned(b) - pinned(a) || (sign ? compare(a.value, b.value, sign) : 0) || a.place - b.place);
    body.append(...groups.flatMap((group) => group.lines));
  }

  function press(table, header, column, better) {
    const first = column < 0 || better === "low" ? 1 : -1;
    const now = { ascending: 1, descending: -1 }[header.ariaSort] || 0;
    const next = now === 0 ? first : now === first ? -first : 0;
    for (const other of $$("thead th[aria-sort]", table)) other.removeAttribute("aria-sort");
    if (next) header.setAttribute("aria-sort", next > 0 ? "ascending" : "descending");
    sort(table, value, column, next);
    roam(table);
  }

  /* One place in the tab order for each table; arrow keys go on from there. */

  const buttons = (table) => $$("tbody td button", table).filter((b) => !b.closest("tr").hidden);

  function roam(table, to) {
    const all = buttons(table);
    const chosen = to || all[0];
    for (const button of $$("tbody td button[tabindex='0']", table)) button.tabIndex = -1;
    if (chosen) chosen.tabIndex = 0;
  }

  function step(event) {
    const button = event.target.closest("td button");
    if (!button) return;
    const cell = button.parentElement;
    const line = cell.parentElement;
    const near = (from, way, next) => {
      for (let found = from[way]; found; found = found[way]) {
        const inner = found.hidden ? null : next(found);
        if (inner) return inner;
      }
      return null;
    };
    const inside = (found) => $("button", found);
    const below = (found) => found.cells[cell.cellIndex] && $("button", found.cells[cell.cellIndex]);
    const to = {
      ArrowRight: () => near(cell, "nextElementSibling", inside),
      ArrowLeft: () => near(cell, "previousElementSibling", (found) => (found.tagName === "TD" ? inside(found) : null)),
      ArrowDown: () => near(line, "nextElementSibling", below),
      ArrowUp: () => near(line, "previousElementSibling", below),
    }[event.key];
    const found = to && to();
    if (to) event.preventDefault();
    if (found) {
      roam(event.currentTarget, found);
      found.focus();
    }
  }

  /* The runs behind a number. */

  const dialog = make("dialog");
  dialog.setAttribute("aria-labelledby", "dialog-title");
  const hint = make("div", "", { id: "hint", hidden: true });
  hint.setAttribute("role", "tooltip");
  document.body.append(dialog, hint);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  function behind(button) {
    const cell = button.parentElement;
    const sheet = sheets[cell.closest("table").dataset.sheet];
    const row = cell.parentElement.row;
    const column = sheet.cols[cell.column];
    const [, text, each] = row.c[cell.column];
    const owner = row.u ? row : column;
    const values = each ? each.split(" ") : [];
    const seeds = Object.fromEntries((owner.u || []).map(([seed], k) => [seed, values[k]]).filter(([, one]) => one && one !== "-"));
    const names = owner === row ? [row.n, column.n] : [column.n, row.n];
    const other = /, rho$/.test(column.n) ? sheet.base.filter((use) => !owner.u.some((own) => own[1] === use[1])) : [];
    return { names, text, seeds, uses: owner.u || [], other };
  }

  function summary(found) {
    const lines = found.uses.map(([seed]) => (seed in found.seeds ? `seed ${seed}: ${found.seeds[seed]}` : `seed ${seed}`));
    const runs = found.uses.length === 1 ? "1 run" : `${found.uses.length} runs`;
    const each = Object.keys(found.seeds).length ? lines.join("\n") : `of ${runs} together`;
    return `${found.names.join(", ")}: ${found.text}\n${each}\nClick for the ${runs}.`;
  }

  function listing(found, uses, heading) {
    const parts = [make("h3", heading)];
    for (const [seed, place, epochs] of uses) {
      const details = document.getElementById(place);
      const item = make("details");
      item.open = true;
      const number = seed in found.seeds ? `: ${found.seeds[seed]}` : "";
      const facts = $("dl", details).cloneNode(true);
      const link = make("a", "its method's page", { href: `#${place}` });
      link.addEventListener("click", () => dialog.close());
      item.append(make("summary", `seed ${seed}${number} (epochs ${epochs})`), facts, link);
      parts.push(item);
    }
    return parts;
  }

  function open(button) {
    const found = behind(button);
    const close = make("button", "Close", { type: "button" });
    close.addEventListener("click", () => dialog.close());
    const top = make("div", undefined, { className: "top" });
    top.append(make("h2", found.names.join(", "), { id: "dialog-title" }), close);
    const count = found.uses.length === 1 ? "1 run" : `${found.uses.length} runs`;
    const inner = make("div");
    inner.append(top, make("p", found.text, { className: "big" }));
    const together = found.uses.length > 1 ? "the mean over" : "from";
    const how = Object.keys(found.seeds).length ? `${together} ${count}` : `from ${count} together`;
    inner.append(make("p", how), ...listing(found, found.uses, "Made from"));
    if (found.other.length) inner.append(...listing({ seeds: {} }, found.other, "Compared with the baseline's"));
    dialog.replaceChildren(inner);
    hint.hidden = true;
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  function point(button) {
    hint.textContent = summary(behind(button));
    hint.hidden = false;
    const at = button.getBoundingClientRect();
    const width = root.clientWidth;
    hint.style.left = `${Math.max(4, Math.min(at.left, width - hint.offsetWidth - 4)) + scrollX}px`;
    const above = at.top > hint.offsetHeight + 10;
    hint.style.top = `${(above ? at.top - hint.offsetHeight - 6 : at.bottom + 6) + scrollY}px`;
  }

  /* Bring the tables to life. */

  function enliven(table) {
    const sheet = sheets[table.dataset.sheet];
    const lines = [...table.tBodies[0].rows];
    table.groups = [];
    lines.forEach((line, k) => {
      line.row = sheet.rows[k];
      if (line.row.source && table.groups.length) table.groups.at(-1).push(line);
      else table.groups.push([line]);
      if (line.row.m) wrap(line.cells[0], "a", { href: `#${line.row.m}` });
      [...line.cells].slice(1).forEach((cell, column) => {
        cell.column = column;
        const [number, text] = line.row.c[column];
        if (text === "not defined") cell.title = text;
        const runs = line.row.u || sheet.cols[column].u;
        if (number !== null && runs && runs.length) {
          wrap(cell, "button", { type: "button", tabIndex: -1 }).setAttribute("aria-haspopup", "dialog");
        }
      });
    });
    if (table.classList.contains("down")) table.pinned = table.groups[0];
    const headers = [...$("thead", table).rows].at(-1).cells;
    [...headers].forEach((header, k) => {
      header.column = k - 1;
      const better = k ? sheet.cols[k - 1].better : "";
      wrap(header, "button", { type: "button" }).addEventListener("click", () => press(table, header, header.column, better));
    });
    table.addEventListener("keydown", step);
    table.addEventListener("click", (event) => {
      const button = event.target.closest("td button");
      if (button) {
        roam(table, button);
        open(button);
      }
    });
    for (const kind of ["mouseover", "focusin"]) {
      table.addEventListener(kind, (event) => {
        const button = event.target.closest("td button");
        if (button && !dialog.open) point(button);
      });
    }
    for (const kind of ["mouseout", "focusout"]) table.addEventListener(kind, () => (hint.hidden = true));
    roam(table);
  }

  $$("table[data-sheet]").forEach(enliven);
  document.addEventListener("keydown", (event) => event.key === "Escape" && (hint.hidden = true));

  /* The order of the classes: as in the data set, or by the mean over the methods of the last map. */

  function mean(numbers) {
    const known = numbers.filter((number) => number !== null);
    return known.length ? known.reduce((sum, number) => sum + number, 0) / known.length : null;
  }

  function arrange(maps, hardest) {
    const tables = $$("table[data-sheet]", maps);
    const last = tables.at(-1);
    const sheet = sheets[last.dataset.sheet];
    const down = last.classList.contains("down");
    const count = down ? sheet.rows.length : sheet.cols.length;
    const means = Array.from({ length: count }, (_, k) =>
      mean(down ? sheet.rows[k].c.map((cell) => cell[0]) : sheet.rows.map((row) => row.c[k][0])));
    const order = means.map((_, k) => k).slice(1);
    if (hardest) order.sort((a, b) => compare(means[a], means[b], 1) || a - b);
    const places = new Map([0, ...order].map((k, place) => [k, place]));
    for (const table of tables) {
      for (const header of $$("thead th[aria-sort]", table)) header.removeAttribute("aria-sort");
      if (down) {
        table.groups.forEach(([line]) => (line.place = places.get(sheets[table.dataset.sheet].rows.indexOf(line.row))));
        table.groups.sort(([a], [b]) => a.place - b.place);
        sort(table, value, -1, 0);
      } else {
        for (const line of table.rows) {
          const [first, ...cells] = line.cells;
          cells.sort((a, b) => places.get(a.column) - places.get(b.column));
          line.append(first, ...cells);
        }
      }
      roam(table);
    }
  }

  for (const maps of $$(".maps")) {
    const choice = $(".order", maps);
    choice.hidden = false;
    choice.addEventListener("change", (event) => arrange(maps, event.target.value === "hardest"));
  }

  /* Filters. */

  const filters = $("#filters");
  const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

  function filter() {
    const chosen = Object.fromEntries(new FormData(filters));
    const words = (chosen.method || "").trim().toLowerCase();
    const fits = (owner) => !words || !owner.q || owner.q.includes(words);
    const seen = new Set();
    let settings = 0;
    for (const section of $$(".setting")) {
      const shown = ["dataset", "model", "protocol", "attack"].every((n) => !chosen[n] || section.dataset[n] === chosen[n]);
      section.hidden = !shown;
      settings += shown;
      for (const table of $$("table[data-sheet]", section)) {
        const sheet = sheets[table.dataset.sheet];
        for (const [first, ...others] of table.groups) {
          const here = fits(first.row);
          for (const line of [first, ...others]) line.hidden = !here;
          if (here && shown && first.row.m) seen.add(first.row.n);
        }
        for (const line of table.rows) {
          for (const cell of line.cells) {
            if (cell.column !== undefined && cell.column >= 0) cell.hidden = !fits(sheet.cols[cell.column]);
          }
        }
        roam(table);
      }
      for (const item of $$(".lines > li", section)) item.hidden = words && !item.textContent.toLowerCase().includes(words);
    }
    const narrowed = Object.values(chosen).some(Boolean);
    $("output", filters).textContent = narrowed ? `${plural(seen.size, "method")} in ${plural(settings, "setting")}` : "";
  }

  filters.hidden = false;
  filters.addEventListener("input", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());

  /* #method-NAME shows that method alone, #run-NAME its method with that run open, all else the results. */

  function route() {
    let target = null;
    try {
      target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    } catch {
      // not a place in this page
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

  /* On paper everything is open. */

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = $$("details:not([open])");
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
})();
