// Objects as YAML, for reading. Only JSON values come in, so a small writer does; strings are quoted when a
// reader could take them for something else.

const PLAIN = /^[A-Za-z_/.][A-Za-z0-9_/.:@+-]*$/;
const AMBIGUOUS = /^(true|false|null|yes|no|on|off|y|n|~|\.inf|\.nan)$/i;

/** Writes a JSON value as YAML, keys in order of the alphabet, as kubectl does. */
export function toYaml(value: unknown): string {
  return `${write(value, 0)}\n`;
}

function write(value: unknown, depth: number): string {
  const pad = "  ".repeat(depth);
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    return value.map((item) => `${pad}- ${inline(item, depth + 1).trimStart()}`).join("\n");
  }
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    if (entries.length === 0) return "{}";
    return entries.map(([key, item]) => `${pad}${scalar(key)}:${below(item, depth)}`).join("\n");
  }
  return scalar(value);
}

/** An element of a list begins on the line of its dash. */
function inline(value: unknown, depth: number): string {
  return isBlock(value) ? write(value, depth) : write(value, 0);
}

function below(value: unknown, depth: number): string {
  if (typeof value === "string" && value.includes("\n")) return ` ${block(value, depth + 1)}`;
  if (!isBlock(value)) return ` ${write(value, 0)}`;
  return `\n${write(value, Array.isArray(value) ? depth : depth + 1)}`;
}

function isBlock(value: unknown): boolean {
  return value !== null && typeof value === "object" && Object.keys(value).length > 0;
}

function block(text: string, depth: number): string {
  const pad = "  ".repeat(depth);
  const chomp = text.endsWith("\n") ? "" : "-";
  const lines = text.replace(/\n$/, "").split("\n");
  return `|${chomp}\n${lines.map((line) => (line ? pad + line : "")).join("\n")}`;
}

function scalar(value: unknown): string {
  if (typeof value !== "string") return String(value);
  return PLAIN.test(value) && !AMBIGUOUS.test(value) && !value.endsWith(":") ? value : JSON.stringify(value);
}

/** A line of YAML as indent, key and the rest; the key is empty where the line has none. */
export function parts(line: string): [string, string, string] {
  const match = /^(\s*(?:- )*)("(?:[^"\\]|\\.)*"|[^\s"':|#-][^\s:]*)(:(?:\s.*)?)$/.exec(line);
  return match ? [match[1] ?? "", match[2] ?? "", match[3] ?? ""] : [line, "", ""];
}
