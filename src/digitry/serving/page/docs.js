// Shows openapi.json as a web page.

const place = document.getElementById("reference");

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const !== undefined) return String(schema.const);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items) || "values"}`;
  return schema.format === "binary" ? "bytes" : schema.type || "";
}

function table(heads, rows) {
  const line = (kind, cells) => make("tr", "", ...cells.map((cell) => make(kind, "", cell)));
  const head = line("th", heads);
  for (const cell of head.children) cell.scope = "col";
  return make("div", "scroll", make("table", "", make("thead", "", head),
    make("tbody", "", ...rows.map((row) => line("td", row)))));
}

const code = (text) => make("code", "", text);

const answers = (rows) => table(["Status", "Meaning"], rows.map(([status, one]) =>
  [code(status), one.description.replaceAll("`", "")]));

function operation(path, verb, facts) {
  const card = make("article", "card", make("h3", "", make("span", "verb", verb.toUpperCase()), make("span", "", path)),
    make("p", "", facts.summary || ""));
  if (facts.description) card.append(make("p", "help", facts.description.replaceAll("`", "")));
  if (facts.parameters?.length) {
    card.append(table(["Parameter", "Type", "Description"], facts.parameters.map((one) =>
      [code(one.name), typeOf(one.schema), one.description || one.schema?.description || one.in])));
  }
  const bodies = Object.entries(facts.requestBody?.content || {});
  if (bodies.length) {
    card.append(table(["Body", "Content"], bodies.map(([type, { schema }]) => [code(type),
      schema.properties ? Object.entries(schema.properties).map(([name, one]) =>
        `${name}: ${typeOf(one)}`).join(", ") : typeOf(schema)])));
  }
  card.append(answers(Object.entries(facts.responses).filter(([status]) => !everywhere.has(status))));
  return card;
}

const schema = await (await fetch("/openapi.json")).json();
const every = Object.values(schema.paths).flatMap((verbs) => Object.values(verbs));
const everywhere = new Set(Object.keys(every[0].responses)
  .filter((status) => every.every((facts) => status in facts.responses && !status.startsWith("2"))));
const groups = new Map();
for (const [path, verbs] of Object.entries(schema.paths)) {
  for (const [verb, facts] of Object.entries(verbs)) {
    const tag = facts.tags?.[0] || "service";
    groups.set(tag, [...(groups.get(tag) || []), operation(path, verb, facts)]);
  }
}
place.replaceChildren(make("p", "", `${schema.info.description} Version ${schema.info.version}. ` +
  "Errors are problem+json with a stable type."),
make("h2", "", "Errors of every route"), make("div", "card", answers(
  Object.entries(every[0].responses).filter(([status]) => everywhere.has(status)))));
for (const [tag, cards] of groups) {
  place.append(make("h2", "", tag[0].toUpperCase() + tag.slice(1)), ...cards);
}
