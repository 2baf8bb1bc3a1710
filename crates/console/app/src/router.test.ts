import { expect, test } from "vitest";
import { parse, pathOf, slug, type Place } from "./router";

test.each<[string, Place]>([
  ["/console/", { page: "supervisor" }],
  ["/console/hosts/node%201", { page: "host", name: "node 1" }],
  ["/console/namespaces/demo", { page: "namespace", name: "demo" }],
  ["/console/namespaces/demo/web-1", { page: "pod", namespace: "demo", name: "web-1" }],
])("%s is a place and back", (path, place) => {
  expect(parse(path)).toEqual(place);
  expect(pathOf(place)).toBe(path);
});

test.each(["/console", "/console/hosts", "/console/nonsense/x"])("%s leads to the Supervisor", (path) =>
  expect(parse(path)).toEqual({ page: "supervisor" }));

test("a tab in an address", () => expect(slug("Pod VMs")).toBe("pod-vms"));
