"use strict";
(() => {
  const table = document.getElementById("shelf");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const form = document.getElementById("filters");
  const count = document.getElementById("count");

  function filter() {
    const wanted = new FormData(form);
    const text = wanted.get("text").toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = Array.from(wanted).every(([name, value]) => name === "text" || !value || row.dataset[name] === value);
      row.hidden = !(fits && row.cells[0].textContent.toLowerCase().includes(text));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${rows.length} runs`;
  }

  // What is not known stays last in both directions.
  function compare(column, kind, direction) {
    const value = (row) => {
      const cell = row.cells[column];
      if (kind !== "number") return cell.textContent.trim() === "–" ? null : cell.textContent.trim();
      return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    };
    return (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return direction * (kind === "number" ? x - y : x.localeCompare(y));
    };
  }

  function sort(button) {
    const heading = button.closest("th");
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    rows.sort(compare(heading.cellIndex, button.dataset.kind, ascending ? 1 : -1));
    body.append(...rows);
  }

  for (const button of table.tHead.querySelectorAll("button")) button.addEventListener("click", () => sort(button));
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
})();
