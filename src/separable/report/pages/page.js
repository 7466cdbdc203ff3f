// Charts, the details of one layer, and tables that sort. All data is in #data; nothing is loaded.
const page = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Specifications name colours as the style sheet does: "--ink".
const coloured = value =>
  typeof value === "string" ? (value.startsWith("--") ? colour(value) : value)
  : Array.isArray(value) ? value.map(coloured)
  : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v)]))
  : value;

const config = () => coloured({
  background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
  axis: { labelColor: "--soft", titleColor: "--soft", gridColor: "--line", domainColor: "--line", tickColor: "--line",
    titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11, labelLimit: 200 },
  legend: { labelColor: "--ink", titleColor: "--soft", titleFontWeight: "normal", labelFontSize: 12 },
});

const views = new Map();

async function draw(id, datasets) {
  const place = document.getElementById(id);
  if (!place) return;
  views.get(id)?.finalize();
  views.delete(id);
  const spec = { ...coloured(page.charts[id]), config: config(), datasets };
  const { view, finalize } = await vegaEmbed(place, spec, { actions: false, renderer: "svg", mode: "vega-lite" });
  view.addEventListener("click", (_, item) => {
    if (item?.datum?.place !== undefined) choose(item.datum.place);
  });
  views.set(id, { finalize });
  place.dataset.drawn = "yes";
}

// -- the details of one layer ---------------------------------------------------------------------------

let chosen = null;

function element(name, text, style) {
  const made = document.createElement(name);
  made.textContent = text;
  if (style) made.className = style;
  return made;
}

function drawDetail() {
  const layer = page.details[chosen];
  return Promise.all(Object.entries(layer.data).map(([id, table]) => {
    const values = table.rows.map(row => Object.fromEntries(table.columns.map((column, n) => [column, row[n]])));
    const box = document.getElementById(id).closest("[data-part]");
    box.hidden = values.length === 0;
    return values.length ? draw(id, { [id]: values }) : null;
  }));
}

function choose(place) {
  if (!page.details[place]) return;
  chosen = place;
  document.getElementById("layer").value = place;
  document.getElementById("facts").replaceChildren(...page.details[place].facts.map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }));
  for (const row of document.querySelectorAll("tr[data-place]")) {
    row.classList.toggle("chosen", Number(row.dataset.place) === place);
  }
  return drawDetail();
}

async function drawAll() {
  for (const id of Object.keys(page.charts)) if (!page.detailed.includes(id)) await draw(id, page.datasets);
  if (chosen !== null) await drawDetail();
  document.documentElement.dataset.ready = dark.matches ? "dark" : "light";
}

// -- tables -----------------------------------------------------------------------------------------------

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0], place = head.cellIndex;
    const number = head.classList.contains("n");
    const first = number ? "descending" : "ascending", other = number ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of head.parentElement.cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const value = row => row.cells[place].dataset.value ?? row.cells[place].textContent;
    const compare = (a, b) => number ? value(a) - value(b) : value(a).localeCompare(value(b), "en", { numeric: true });
    const rows = [...body.rows].sort((a, b) => order === "ascending" ? compare(a, b) : compare(b, a));
    body.append(...rows);
  });
}
for (const row of document.querySelectorAll("tr[data-place]")) {
  row.addEventListener("click", () => {
    choose(Number(row.dataset.place));
    document.getElementById("detail").scrollIntoView({ behavior: "smooth", block: "nearest" });
  });
}

const list = document.getElementById("layer");
if (list) {
  list.addEventListener("change", () => choose(Number(list.value)));
  choose(page.first);
}
dark.addEventListener("change", drawAll);
drawAll();
