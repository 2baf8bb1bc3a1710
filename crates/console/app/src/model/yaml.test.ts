import { expect, test } from "vitest";
import { toYaml } from "./yaml";

test.each<[unknown, string]>([
  [{ a: 1, b: "x", c: true, d: null }, "a: 1\nb: x\nc: true\nd: null\n"],
  [{ a: "true", b: "1", c: "", d: "a: b" }, 'a: "true"\nb: "1"\nc: ""\nd: "a: b"\n'],
  [{ list: [{ name: "a", size: 1 }, "s", []] }, "list:\n- name: a\n  size: 1\n- s\n- []\n"],
  [{ deep: { er: { x: [1] } }, empty: {} }, "deep:\n  er:\n    x:\n    - 1\nempty: {}\n"],
  [{ text: "one\ntwo\n" }, "text: |\n  one\n  two\n"],
  [{ text: "one\ntwo" }, "text: |-\n  one\n  two\n"],
])("%j", (value, expected) => expect(toYaml(value)).toBe(expected));
