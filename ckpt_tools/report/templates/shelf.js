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
    const numbers = [shown, rows.length];
    count.textContent = count.dataset.words.replace(/{}/g, () => numbers.shift());
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
  // The runs whose curves are drawn over each other: in the beginning the best.
  const chart = document.querySelector("[data-figure]");
  const boxes = Array.from(body.querySelectorAll("input[data-run]"));
  const draw = () => charts.overlay(chart, boxes.filter((box) => box.checked).map((box) => Number(box.dataset.run)));
  if (chart) {
    const best = (box) => Math.max(...charts.figures[0].runs[Number(box.dataset.run)].y);
    for (const box of [...boxes].sort((a, b) => best(b) - best(a)).slice(0, 5)) box.checked = true;
    for (const box of boxes) box.addEventListener("change", draw);
    draw();
  }

  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
})();
