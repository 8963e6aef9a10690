"use strict";
// Tables are whole without this script: it makes them sortable, and lets rows be filtered and columns be hidden.
(() => {
  const all = (root, what) => [...root.querySelectorAll(what)];
  const make = (tag, about, ...children) => {
    const made = Object.assign(document.createElement(tag), about);
    made.append(...children);
    return made;
  };

  const key = (row, column, number) => {
    const cell = row.cells[column];
    if (!number) return cell.textContent || null;
    return "value" in cell.dataset ? Number(cell.dataset.value) : null;
  };

  // What is missing comes last in both directions.
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  const sorted = (rows, column, number, way) =>
    rows
      .map((row) => ({ row, key: key(row, column, number) }))
      .sort((a, b) => (a.key === null) - (b.key === null) || (a.key === null ? 0 : way * compare(a.key, b.key)))
      .map(({ row }) => row);

  const board = (root) => {
    const table = root.querySelector("table");
    const body = table.tBodies[0];
    const given = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const status = root.querySelector("[role=status]");
    let order = "";

    const say = () => {
      const shown = given.filter((row) => !row.hidden).length;
      status.textContent = `${shown} of ${given.length} rows${order}`;
    };

    const sort = (head, column) => {
      const before = head.getAttribute("aria-sort");
      const after = { ascending: "descending", descending: null }[before ?? ""];
      const way = after === undefined ? "ascending" : after;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      if (way) head.setAttribute("aria-sort", way);
      const number = head.classList.contains("number");
      body.append(...(way ? sorted(given, column, number, way === "ascending" ? 1 : -1) : given));
      order = way ? `, by ${head.textContent}, ${way}` : "";
      say();
    };

    heads.forEach((head, column) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      button.addEventListener("click", () => sort(head, column));
      head.append(button);
    });

    const filter = root.querySelector("input[type=search]");
    const texts = given.map((row) => all(row, "th, .name").map((cell) => cell.textContent).join(" ").toLowerCase());
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/);
      given.forEach((row, number) => (row.hidden = !words.every((word) => texts[number].includes(word))));
      say();
    });

    const choices = root.querySelector("fieldset");
    heads.slice(1).forEach((head, index) => {
      const box = make("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        for (const row of table.rows) row.cells[index + 1].hidden = !box.checked;
      });
      choices.append(make("label", {}, box, ` ${head.textContent}`));
    });

    root.querySelector(".controls").hidden = false;
    say();
  };

  all(document, ".board").forEach(board);

  // On paper nothing can be opened.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all(document, "details:not([open])");
    opened.forEach((details) => (details.open = true));
  });
  addEventListener("afterprint", () => opened.forEach((details) => (details.open = false)));
})();
