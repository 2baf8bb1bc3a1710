import { expect, test } from "vitest";
import { parts, toYaml } from "./yaml";

test.each<[unknown, string]>([
  [{ a: 1, b: "x", c: true, d: null }, "a: 1\nb: x\nc: true\nd: null\n"],
  [{ a: "true", b: "1", c: "", d: "a: b" }, 'a: "true"\nb: "1"\nc: ""\nd: "a: b"\n'],
  [{ list: [{ name: "a", size: 1 }, "s", []] }, "list:\n- name: a\n  size: 1\n- s\n- []\n"],
  [{ deep: { er: { x: [1] } }, empty: {} }, "deep:\n  er:\n    x:\n    - 1\nempty: {}\n"],
  [{ text: "one\ntwo\n" }, "text: |\n  one\n  two\n"],
  [{ b: 1, a: { d: 1, c: 2 } }, "a:\n  c: 2\n  d: 1\nb: 1\n"],
  [{ text: "one\ntwo" }, "text: |-\n  one\n  two\n"],
])("%j", (value, expected) => expect(toYaml(value)).toBe(expected));

test.each<[string, [string, string, string]]>([
  ["kind: Pod", ["", "kind", ": Pod"]],
  ["  - name: a", ["  - ", "name", ": a"]],
  ["metadata:", ["", "metadata", ":"]],
  ['  "1/2": x', ["  ", '"1/2"', ": x"]],
  ["    kubernetes.io/x: y", ["    ", "kubernetes.io/x", ": y"]],
  ["- plain", ["- plain", "", ""]],
  ["  http://a", ["  http://a", "", ""]],
  ["", ["", "", ""]],
])("the parts of %j", (line, expected) => expect(parts(line)).toEqual(expected));
